package rule

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// A receiver is a server that rules post to.
type receiver struct {
	*httptest.Server
	tokens chan string
	got    chan string

	mu      sync.Mutex
	answers []int // of the next requests; then 200
}

func newReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{tokens: make(chan string, 10), got: make(chan string, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		if q.Header.Get("X-Amz-Rules-Engine-Message-Type") == "DestinationConfirmation" {
			var m map[string]string
			if json.Unmarshal(body, &m) != nil || m["arn"] != q.Header.Get("X-Amz-Rules-Engine-Destination-Arn") || m["messageType"] != "DestinationConfirmation" ||
				m["confirmationToken"] != q.URL.Query().Get("confirmationToken") || m["enableUrl"] != "https://iot.lan/confirmdestination/"+m["confirmationToken"] {
				w.WriteHeader(http.StatusBadRequest)
			}
			r.tokens <- m["confirmationToken"]
			return
		}
		r.got <- fmt.Sprintf("%s %s %s %s %s", q.URL.Path, q.Header.Get("Content-Type"), q.Header.Get("X-Device"), strings.Split(q.Header.Get("Authorization"), ",")[0], body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.answers) > 0 {
			w.WriteHeader(r.answers[0])
			r.answers = r.answers[1:]
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(status ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = status
}

func outward(c *Config) {
	var err error
	if c.HTTP, err = egress.New(egress.Config{Allow: []string{"127.0.0.1"}}); err != nil {
		panic(err)
	}
	c.BaseURL = "https://iot.lan"
	c.Credentials = func(_ context.Context, _ fleet.Scope, role, source string) (sigv4.Credentials, error) {
		if !strings.HasSuffix(source, ":rule/signed") {
			return sigv4.Credentials{}, fleet.Denied("no")
		}
		return sigv4.Credentials{AccessKeyID: "ASIAX", Secret: "secret", Token: "token"}, nil
	}
}

// confirmed is a destination that the receiver has confirmed.
func (w *world) confirmed(r *receiver, url string) fleet.RuleDestination {
	w.t.Helper()
	d, err := w.CreateDestination(as(w.t.Context(), here), url)
	w.ok(err)
	w.ok(w.ConfirmDestination(w.t.Context(), <-r.tokens))
	return d
}

func postTo(url, confirm string, headers ...fleet.Tag) fleet.RuleAction {
	return fleet.RuleAction{HTTP: &fleet.HTTPAction{URL: url, ConfirmationURL: confirm, Headers: headers}}
}

// received is the next request.
func (w *world) received(r *receiver) string {
	w.t.Helper()
	select {
	case got := <-r.got:
		return got
	case <-time.After(mqtttest.Patience()):
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t.Fatalf("no request came; messages %v, actions %v, traces %+v", w.outcomes, w.actions, w.traces)
	}
	return ""
}

func TestARulePostsToConfirmedDestinations(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t, outward), newReceiver(t)
	w.confirmed(r, r.URL+"/in")
	w.rule(here, "r", `SELECT t FROM 'a'`, postTo(r.URL+"/in/${device}", r.URL+"/in", fleet.Tag{Key: "X-Device", Value: "${device}"}))
	w.publish(here, "a", `{"t":1,"device":"lamp"}`)
	if got := w.received(r); got != `/in/lamp application/json lamp  {"t":1}` {
		t.Errorf("the receiver got %q", got)
	}
	w.until("the message", func() bool { return w.outcomes[Done] == 1 })
	// Values must not lead elsewhere.
	w.publish(here, "a", `{"device":"../../out"}`)
	w.until("the refusal", func() bool { return w.outcomes[Failed] == 1 })
	if got := w.trace("r"); !strings.Contains(got.Cause, "does not lie below the confirmationUrl") {
		t.Errorf("%s", got.Text())
	}
	w.rule(here, "raw", `SELECT * FROM 'raw'`, postTo(r.URL+"/in", ""))
	w.publish(here, "raw", "plain")
	if got := w.received(r); got != `/in application/octet-stream   plain` {
		t.Errorf("the receiver got %q", got)
	}
	signed := postTo(r.URL+"/in", "")
	signed.HTTP.Sign = &fleet.SignatureV4{Role: here.IAM("role/publisher"), Service: "execute-api", Region: "us-east-1"}
	w.rule(here, "signed", `SELECT * FROM 'signed'`, signed)
	w.publish(here, "signed", `{}`)
	if got := w.received(r); !strings.HasPrefix(got, "/in application/json  AWS4-HMAC-SHA256 Credential=ASIAX/") {
		t.Errorf("the receiver got %q", got)
	}
}

func TestAPostIsTriedThreeTimesWhereThatHelps(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t, outward), newReceiver(t)
	w.confirmed(r, r.URL)
	w.rule(here, "r", `SELECT * FROM 'a'`, postTo(r.URL, ""))
	for _, c := range []struct {
		answers []int
		tries   int
		outcome string
	}{{[]int{503, 429}, 3, Done}, {[]int{500, 500, 500}, 3, Failed}, {[]int{404}, 1, Failed}, {[]int{302}, 1, Failed}} {
		r.answer(c.answers...)
		w.mu.Lock()
		before := w.outcomes[c.outcome]
		w.mu.Unlock()
		w.publish(here, "a", `{}`)
		w.until(fmt.Sprint("the outcome of ", c.answers), func() bool { return w.outcomes[c.outcome] > before })
		if n := len(r.got); n != c.tries {
			t.Errorf("%v: %d requests, want %d", c.answers, n, c.tries)
		}
		for range len(r.got) {
			<-r.got
		}
	}
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t, outward), newReceiver(t)
	ctx := as(t.Context(), here)
	d, err := w.CreateDestination(ctx, r.URL)
	w.ok(err)
	arn := DestinationARN(here, d.ID)
	status := func(want string) {
		t.Helper()
		got, err := w.Destination(ctx, arn)
		w.ok(err)
		if got.Status != want {
			t.Errorf("%s (%s), want %s", got.Status, got.Reason, want)
		}
	}
	_, err = w.CreateDestination(ctx, r.URL)
	refused(t, err, fleet.KindExists, "", arn)
	first := <-r.tokens
	status("IN_PROGRESS")
	w.rule(here, "r", `SELECT * FROM 'a'`, postTo(r.URL, ""))
	w.publish(here, "a", `{}`)
	if got := w.trace("r"); !strings.Contains(got.Cause, "is IN_PROGRESS") || !strings.Contains(got.Cure, "have the receiver confirm it") {
		t.Errorf("%s", got.Text())
	}
	refused(t, w.UpdateDestination(ctx, arn, "ENABLED"), fleet.KindInvalid, "", "is IN_PROGRESS and cannot be set to ENABLED")
	w.ok(w.UpdateDestination(ctx, arn, "IN_PROGRESS"))
	second := <-r.tokens
	refused(t, w.ConfirmDestination(t.Context(), first), fleet.KindDenied, "UnauthorizedException", "not valid")
	w.ok(w.ConfirmDestination(t.Context(), second))
	w.ok(w.ConfirmDestination(t.Context(), second))
	w.ok(w.UpdateDestination(ctx, arn, "ENABLED"))
	status("ENABLED")
	w.publish(here, "a", `{}`)
	w.received(r)
	w.ok(w.UpdateDestination(ctx, arn, "DISABLED"))
	status("DISABLED")
	w.ok(w.ConfirmDestination(t.Context(), second)) // enables nothing that was disabled
	status("DISABLED")
	w.ok(w.UpdateDestination(ctx, arn, "ENABLED"))
	elsewhere := as(t.Context(), there)
	for what, err := range map[string]error{"update": w.UpdateDestination(elsewhere, arn, "DISABLED"), "delete": w.DeleteDestination(elsewhere, arn),
		"none": w.DeleteDestination(ctx, DestinationARN(here, "none"))} {
		t.Run(what, func(t *testing.T) { refused(t, err, fleet.KindDenied, "UnauthorizedException", "was denied") })
	}
	w.ok(w.DeleteDestination(ctx, arn))
	list, _, err := w.Destinations(ctx, fleet.Page{})
	w.ok(err)
	if len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	w.publish(here, "a", `{}`)
	w.until("the last message", func() bool { return w.outcomes[Failed] == 2 })

	// A receiver that hangs up, and an address that may not be called.
	gone := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(gone.Close)
	for _, to := range []string{gone.URL, "http://10.255.255.1/"} {
		d, err := w.CreateDestination(ctx, to)
		w.ok(err)
		w.asking.Wait()
		got, err := w.Destination(ctx, DestinationARN(here, d.ID))
		w.ok(err)
		if got.Status != "ERROR" || !strings.Contains(got.Reason, "confirmation request failed") || strings.Contains(got.Reason, "confirmationToken") {
			t.Errorf("%s: %+v", to, got)
		}
	}
}

func TestWhatCannotBeAnHTTPAction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, outward)
	for text, a := range map[string]fleet.RuleAction{
		"needs a confirmationUrl":       postTo("https://a.lan/${x}", ""),
		"must begin with":               postTo("https://a.lan/x", "https://b.lan/"),
		"is no URL":                     postTo("a.lan", ""),
		"no user name":                  postTo("https://u:p@a.lan", ""),
		"is no header that a rule may":  postTo("https://a.lan", "", fleet.Tag{Key: "Host", Value: "b"}),
		"is no header that a rule may ": postTo("https://a.lan", "", fleet.Tag{Key: "a b", Value: "b"}),
		"the header X of an action":     postTo("https://a.lan", "", fleet.Tag{Key: "X", Value: "${"}),
	} {
		err := w.Create(as(t.Context(), here), fleet.TopicRule{Name: "r", SQL: `SELECT * FROM 'a'`, Actions: []fleet.RuleAction{a}}, nil)
		if err == nil || !strings.Contains(err.Error(), strings.TrimSpace(text)) || fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%v, want %q", err, text)
		}
	}
	for _, c := range []struct {
		url, base string
		want      bool
	}{
		{"https://a.lan/x/y", "https://a.lan/x", true}, {"https://a.lan.evil.org/", "https://a.lan", false}, {"https://a.lan@evil.org/", "https://a.lan", false},
		{"https://a.lan/x/../y", "https://a.lan/x", false}, {"https://a.lan/x?q=1", "https://a.lan/x", true}, {"https://a.lan:81/", "https://a.lan", false},
		{"https://a.lan/x/%2e%2e/y", "https://a.lan/x", false},
	} {
		if got := within(c.url, c.base); got != c.want {
			t.Errorf("%s within %s: %v", c.url, c.base, got)
		}
	}
}

func TestAConfirmationGoesToThePathAsItIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, outward)
	asked := make(chan string, 10)
	r := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { asked <- q.URL.EscapedPath() }))
	t.Cleanup(r.Close)
	for path, want := range map[string]string{"": "/", "/a%2Fb": "/a%2Fb/", "/a%2Fb/": "/a%2Fb/", "/a%20b": "/a%20b/"} {
		_, err := w.CreateDestination(as(t.Context(), here), r.URL+path)
		w.ok(err)
		if got := <-asked; got != want {
			t.Errorf("%s: %s was asked, want %s", path, got, want)
		}
	}
}
