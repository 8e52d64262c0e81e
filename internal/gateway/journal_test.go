package gateway

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// journals runs a test on each engine.
func journals(t *testing.T, test func(*testing.T, journal)) {
	t.Helper()
	for name, url := range map[string]func(testing.TB) string{"sqlite": func(testing.TB) string { return "" }, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: url(t)})
			check(t, err)
			t.Cleanup(func() { check(t, db.Close()) })
			test(t, journal{db})
		})
	}
}

func TestTheJournalKeepsAndForgets(t *testing.T) {
	t.Parallel()
	journals(t, testJournal)
}

func testJournal(t *testing.T, j journal) {
	later := time.UnixMilli(1800000000123).UTC()
	other := fleet.Scope{Account: "111111111111", Region: here.Region}
	full := &mqtt.Message{Topic: "t/ü", Payload: []byte{0, 1, 255}, QoS: 1, Expires: later, Props: &mqtt.Properties{ContentType: "text/plain",
		ResponseTopic: "answer", CorrelationData: []byte{0, 9}, User: []mqtt.UserProperty{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}, UTF8: true, HasFormat: true}}
	bare := &mqtt.Message{Topic: "t", Payload: []byte{}, QoS: 1, Retain: true}
	want := mqtt.Saved{
		Sessions:      []mqtt.SavedSession{{Client: "a", Version: 4, Expiry: time.Hour}, {Client: "b", Version: 5, Expiry: 1500 * time.Millisecond, Until: later}},
		Subscriptions: []mqtt.SavedSubscription{{Client: "a", Filter: "$share/g/t", QoS: 1}, {Client: "a", Filter: "t/#", NoLocal: true, AsPublished: true}},
		Messages: []mqtt.SavedMessage{{Owner: "$share/g/t", Number: 1, QoS: 1, Message: full},
			{Owner: "a", Number: 7, QoS: 1, Retain: true, Message: bare}, {Owner: "a", Number: 10, QoS: 1, Message: full}},
		Retained: []mqtt.SavedRetained{{Message: &mqtt.Message{Topic: "r", Payload: []byte("x"), Retain: true}, Modified: later}},
	}
	var puts []mqtt.Change
	for _, s := range []fleet.Scope{here, other} {
		puts = append(puts, mqtt.Change{Kind: mqtt.PutSession, Scope: s, Session: mqtt.SavedSession{Client: "a", Version: 5, Until: later}}) // replaced
		for _, r := range want.Sessions {
			puts = append(puts, mqtt.Change{Kind: mqtt.PutSession, Scope: s, Session: r})
		}
		for _, r := range want.Subscriptions {
			puts = append(puts, mqtt.Change{Kind: mqtt.PutSubscription, Scope: s, Subscription: r})
		}
		for _, r := range want.Messages {
			puts = append(puts, mqtt.Change{Kind: mqtt.PutMessage, Scope: s, Message: r})
		}
		for _, r := range want.Retained {
			puts = append(puts, mqtt.Change{Kind: mqtt.PutRetained, Scope: s, Retained: r})
		}
	}
	check(t, j.Write(t.Context(), puts))
	check(t, j.Write(t.Context(), puts)) // a write that was tried again changes nothing
	got, err := j.Load(t.Context(), here)
	check(t, err)
	if got, want := show(t, got), show(t, &want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	check(t, j.Write(t.Context(), []mqtt.Change{
		{Kind: mqtt.DropMessage, Scope: here, Message: mqtt.SavedMessage{Owner: "a", Number: 7}},
		{Kind: mqtt.DropSubscription, Scope: here, Subscription: mqtt.SavedSubscription{Client: "a", Filter: "t/#"}},
		{Kind: mqtt.DropRetained, Scope: here, Retained: mqtt.SavedRetained{Message: &mqtt.Message{Topic: "r"}}},
		{Kind: mqtt.DropSession, Scope: here, Session: mqtt.SavedSession{Client: "b"}},
		{Kind: mqtt.DropSession, Scope: here, Session: mqtt.SavedSession{Client: "$share/g/t"}},
	}))
	got, err = j.Load(t.Context(), here)
	check(t, err)
	if n := fmt.Sprint(len(got.Sessions), len(got.Subscriptions), len(got.Messages), len(got.Retained)); n != "1 1 1 0" {
		t.Errorf("left: %s: %+v", n, *got)
	}
	check(t, j.Write(t.Context(), []mqtt.Change{{Kind: mqtt.DropSession, Scope: here, Session: mqtt.SavedSession{Client: "a"}}}))
	got, err = j.Load(t.Context(), other)
	check(t, err)
	if n := fmt.Sprint(len(got.Sessions), len(got.Subscriptions), len(got.Messages), len(got.Retained)); n != "2 2 3 1" {
		t.Errorf("another account has %s", n)
	}
}

func show(t *testing.T, saved *mqtt.Saved) string {
	t.Helper()
	b, err := json.Marshal(saved)
	check(t, err)
	return strings.ReplaceAll(string(b), `"Payload":null`, `"Payload":""`)
}

func TestTheJournalReadsMoreThanAPage(t *testing.T) {
	t.Parallel()
	journals(t, testPages)
}

func testPages(t *testing.T, j journal) {
	const n = 2*loadPage + 1
	for from := range slices.Chunk(slices.Collect(func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}), 200) {
		var puts []mqtt.Change
		for _, i := range from {
			id := fmt.Sprint("c", i%7)
			m := &mqtt.Message{Topic: fmt.Sprint(i), Payload: []byte("x")}
			puts = append(puts, mqtt.Change{Kind: mqtt.PutSession, Scope: here, Session: mqtt.SavedSession{Client: fmt.Sprint(i)}},
				mqtt.Change{Kind: mqtt.PutSubscription, Scope: here, Subscription: mqtt.SavedSubscription{Client: id, Filter: fmt.Sprint(i)}},
				mqtt.Change{Kind: mqtt.PutMessage, Scope: here, Message: mqtt.SavedMessage{Owner: id, Number: int64(i + 1), Message: m}},
				mqtt.Change{Kind: mqtt.PutRetained, Scope: here, Retained: mqtt.SavedRetained{Message: m}})
		}
		check(t, j.Write(t.Context(), puts))
	}
	got, err := j.Load(t.Context(), here)
	check(t, err)
	if s := fmt.Sprint(len(got.Sessions), len(got.Subscriptions), len(got.Messages), len(got.Retained)); s != fmt.Sprint(n, n, n, n) {
		t.Errorf("%s rows of each kind, want %d", s, n)
	}
	for i := 1; i < n; i++ {
		a, b := got.Messages[i-1], got.Messages[i]
		if a.Owner == b.Owner && a.Number >= b.Number {
			t.Fatalf("message %d of %s comes before %d", a.Number, a.Owner, b.Number)
		}
	}
}
