package rulesql

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// goldenSources seeds fuzzing with every text of the golden files.
func goldenSources(t testing.TB, add func(sql, payload string)) {
	t.Helper()
	for _, file := range lineFiles {
		payload, _, lines := goldenLines(t, file)
		for _, l := range lines {
			add("SELECT VALUE ("+l.expr+") FROM 'a' WHERE "+l.expr, payload)
		}
	}
	for _, file := range []string{"statements.txt", "errors.txt"} {
		for _, c := range goldenCases(t, file) {
			for _, word := range []string{"sql", "rule", "text"} {
				if s, ok := c.fields[word]; ok {
					add(s, c.fields["payload"])
				}
			}
		}
	}
}

// FuzzParse compiles what strangers wrote: nothing may panic or fail with anything but a domain error, and what compiles must
// mean the same when it is printed and compiled again.
func FuzzParse(f *testing.F) {
	goldenSources(f, func(sql, _ string) { f.Add(sql) })
	f.Fuzz(func(t *testing.T, source string) {
		for _, v := range []Version{V2015, V2016} {
			again(t, source, func(s string) (interface{ String() string }, error) { return Parse(s, v) })
		}
		again(t, source, func(s string) (interface{ String() string }, error) { return ParseExpression(s) })
		again(t, source, func(s string) (interface{ String() string }, error) { return ParseText(s, V2016) })
	})
}

func again(t *testing.T, source string, parse func(string) (interface{ String() string }, error)) {
	t.Helper()
	x, err := parse(source)
	if err != nil {
		var e *fleet.Error
		if !errors.As(err, &e) || e.Kind != fleet.KindInvalid || !utf8.ValidString(err.Error()) {
			t.Fatalf("%q: %v", source, err)
		}
		return
	}
	printed := x.String()
	y, err := parse(printed)
	if err != nil {
		if len(printed) > MaxStatement || strings.Contains(err.Error(), "levels deep") {
			return // it was near a bound, and brackets cost
		}
		t.Fatalf("%q is printed as %q: %v", source, printed, err)
	}
	if y.String() != printed {
		t.Fatalf("%q is printed as %q and then as %q", source, printed, y.String())
	}
}

// FuzzRun runs statements and messages that strangers wrote: it must end soon, give JSON text where it says so, leave the message
// alone, and give the same once more, also when the statement was printed.
func FuzzRun(f *testing.F) {
	goldenSources(f, func(sql, payload string) { f.Add(sql, []byte(payload), false) })
	f.Fuzz(func(t *testing.T, sql string, payload []byte, first bool) {
		version := V2016
		if first {
			version = V2015
		}
		s, err := Parse(sql, version)
		if err != nil {
			return
		}
		before := bytes.Clone(payload)
		start := time.Now()
		m := testMessage("")
		m.Payload = payload
		r, err := s.Run(m, testEnvironment())
		const long = 5 * time.Second
		if d := time.Since(start); d > long {
			start, again := time.Now(), testMessage("")
			again.Payload = payload
			_, _ = s.Run(again, testEnvironment())
			if d = min(d, time.Since(start)); d > long { // twice: it was not the machine that stood still
				t.Errorf("%q took %v", sql, d)
			}
		}
		if !bytes.Equal(payload, before) {
			t.Fatal("the payload was changed")
		}
		if err != nil {
			if fleet.KindOf(err) != fleet.KindLimit && !strings.Contains(err.Error(), "EOF") { // the random bytes may be used up
				t.Fatalf("%q: %v", sql, err)
			}
			return
		}
		if r.JSON && !json.Valid(r.Payload) {
			t.Fatalf("%q makes %q", sql, r.Payload)
		}
		if printed, err := Parse(s.String(), version); err == nil {
			s = printed
		}
		if twice, err := s.Run(m, testEnvironment()); err == nil && show(twice) != show(r) {
			t.Fatalf("%q gives %s and then %s", sql, show(r), show(twice))
		}
	})
}

// FuzzJSON reads what encoding/json reads and writes what means the same there.
func FuzzJSON(f *testing.F) {
	goldenSources(f, func(_, payload string) { f.Add([]byte(payload)) })
	f.Add([]byte(`{"a":"\ud83d\ude00\ud83d x","b":[1e-7,-0,0.10,1E+400,{}]} `))
	f.Fuzz(func(t *testing.T, doc []byte) {
		v, err := JSON(doc)
		if err != nil {
			if err == errNotJSON && json.Valid(doc) && utf8.Valid(doc) && !bytes.ContainsAny(doc, "eE") { // numbers may be too large
				t.Fatalf("%q is JSON", doc)
			}
			return
		}
		if !json.Valid(doc) {
			t.Fatalf("%q is no JSON", doc)
		}
		w := writer{limit: 10 * MaxResult}
		out := w.value(nil, v)
		var want, got any
		if json.Unmarshal(doc, &want) != nil {
			return // beyond double precision
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%q is written as %q: %v", doc, out, err)
		}
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		if len(doc) < 30 && !bytes.Contains(doc, []byte("-0")) && !bytes.Equal(a, b) { // long numbers are rounded twice; there is no -0
			t.Fatalf("%q is written as %q", doc, out)
		}
	})
}
