package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// refusal checks that what a parser of foreign input returns is the client's fault.
func refusal(t *testing.T, err error) {
	t.Helper()
	if err != nil && fleet.KindOf(err) != fleet.KindInvalid {
		t.Errorf("%v has kind %v", err, fleet.KindOf(err))
	}
}

// sameInPlace reads data as the inside of a JSON string, and as base64, and compares what our ways come to with those of the library.
func sameInPlace(t *testing.T, data []byte) {
	t.Helper()
	quoted := []byte(`"` + string(data) + `"`)
	var text string
	if utf8.Valid(data) && json.Unmarshal(quoted, &text) == nil {
		inside := quoted[1 : len(quoted)-1]
		if got := textOf(inside); got != text {
			t.Errorf("%q is %q, want %q", data, got, text)
		}
		if got := unescape(inside[:0], inside); string(got) != text {
			t.Errorf("in place %q is %q, want %q", data, got, text)
		}
	}
	want, err := base64.StdEncoding.DecodeString(string(data))
	got, err2 := decodeInPlace(bytes.Clone(data))
	if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(got, want) {
		t.Errorf("base64 %q is %q, %v; want %q, %v", data, got, err2, want, err)
	}
}

// FuzzJSON binds any bytes, and reads again what is written of them.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"Key":"k","title":"T","child":{"parts":[{"Key":"a","Value":null}]},"parts":[]}`))
	f.Add([]byte(`{"title":"\ud800\u2028"}`))
	f.Add([]byte(`[[[[1e400]]]]`))
	f.Add([]byte(` { "a" : [ -1.5E+3 , true,false , null ] , "b":{ } } `))
	f.Add([]byte(`"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00\ud83dx\ude00\ud83d\u0041"`))
	f.Add([]byte("YWJj\r\nZA=="))
	c := newCodec(testShapes)
	p := c.plan(reflect.TypeFor[putThingInput](), "")
	f.Fuzz(func(t *testing.T, data []byte) {
		sameInPlace(t, data)
		n, err := parseJSON(data)
		if refusal(t, err); err != nil {
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil || !reflect.DeepEqual(n, want) {
			t.Fatalf("read %#v, encoding/json %#v, %v", n, want, err)
		}
		var in putThingInput
		b := &binder{}
		b.bind(p, reflect.ValueOf(&in).Elem(), n, "")
		if err := b.failure("X"); err != nil {
			refusal(t, err)
			return
		}
		sameNumbers(t, data, in)
		out := appendJSON(nil, p, reflect.ValueOf(in), nil)
		if !json.Valid(out) || !utf8.Valid(out) {
			t.Fatalf("wrote %q", out)
		}
		n, err = parseJSON(out)
		if err != nil {
			t.Fatalf("cannot read %s: %v", out, err)
		}
		var again putThingInput
		b = &binder{}
		b.bind(p, reflect.ValueOf(&again).Elem(), n, "")
		if err := b.failure("X"); err != nil || !bytes.Equal(appendJSON(nil, p, reflect.ValueOf(again), nil), out) {
			t.Fatalf("%s became %+v, %v", out, again, err)
		}
	})
}

// FuzzQuery binds any form.
func FuzzQuery(f *testing.F) {
	f.Add("RoleName=r&Tags.member.1.Key=a&Tags.member.1.Value=b&Map.entry.1.key=x&Map.entry.1.value=y")
	f.Add("Tags.member.99999999999999999999.Key=a&Tags.member.0=&Tags=&a.b.c.d.e=1&a=2")
	c := newCodec(testShapes)
	p := c.plan(reflect.TypeFor[roleInput](), "")
	out := c.plan(reflect.TypeFor[roleInput](), "")
	f.Fuzz(func(t *testing.T, s string) {
		tree, err := parseForm(s)
		if refusal(t, err); err != nil {
			return
		}
		var in roleInput
		b := &binder{}
		b.bind(p, reflect.ValueOf(&in).Elem(), tree, "")
		refusal(t, b.failure("X"))
		var buf bytes.Buffer
		xmlMembers(&buf, out, reflect.ValueOf(in))
		if !utf8.Valid(buf.Bytes()) {
			t.Errorf("wrote %q", buf.Bytes())
		}
	})
}

// FuzzCBOR reads any payload; what can be read is written and read again to the same value.
// sameNumbers checks that numbers are taken for what they are, or refused.
func sameNumbers(t *testing.T, data []byte, in putThingInput) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // members that nobody knows may be anything
	var sent map[string]any
	if err := d.Decode(&sent); err != nil {
		t.Fatalf("accepted %q: %v", data, err)
	}
	same := func(name string, got float64) {
		n, _ := sent[name].(json.Number)
		if want, err := n.Float64(); err != nil || got != want {
			t.Fatalf("%s %q became %v", name, n, got)
		}
	}
	if in.Page != nil {
		same("pageSize", float64(*in.Page))
	}
	if in.Version != nil {
		same("version", float64(*in.Version))
	}
	if in.Weight != nil {
		same("weight", *in.Weight)
	}
}

// everything has a member of each kind that payloads on reserved topics may have.
type everything struct {
	Token      *fleet.Secret     `wire:"certificateOwnershipToken"`
	Parameters map[string]string `wire:"parameters"`
	Count      *int              `wire:"count"`
	Version    *int64            `wire:"version"`
	Flag       *bool             `wire:"flag"`
	Weight     *float64          `wire:"weight"`
	At         *time.Time        `wire:"at"`
	Raw        []byte            `wire:"raw"`
	List       []string          `wire:"list"`
	Child      *struct {
		Name *string `wire:"name"`
	} `wire:"child"`
}

// FuzzCBOR reads any bytes, writes what it has read and reads that again.
func FuzzCBOR(f *testing.F) {
	f.Add(unhex("a1 6a 706172616d6574657273 a1 616b 6176"))
	f.Add(unhex("bf 6a 706172616d6574657273 bf ff ff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in, again everything
		err := DecodeTopic(CBOR, data, &in)
		if refusal(t, err); err != nil {
			return
		}
		for k, v := range in.Parameters {
			if !utf8.ValidString(k + v) {
				t.Fatalf("%q is no text", k+v)
			}
		}
		out, err := EncodeTopic(CBOR, in)
		if err != nil {
			t.Fatal(err)
		}
		if err := DecodeTopic(CBOR, out, &again); err != nil {
			t.Fatalf("%x became %x, which cannot be read: %v", data, out, err)
		}
		if twice, err := EncodeTopic(CBOR, again); err != nil || !bytes.Equal(twice, out) { // not a number differs from itself
			t.Errorf("%+v became %+v: %v", in, again, err)
		}
	})
}

// FuzzPath routes any target through the frontend: no panic, and no internal error.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/things/a%2Fb", "/things/..", "//", "/topics/%zz", "/topics/%ff", "/?Action=ListRoles", "*", "http://h/things/x?pageSize=1"} {
		f.Add("PUT", s)
	}
	frontend, _ := newFrontend(io.Discard)
	f.Fuzz(func(t *testing.T, method, target string) {
		r := httptest.NewRequest("PUT", "/", strings.NewReader("{}"))
		r.Method, r.RequestURI, r.URL = method, target, &url.URL{}
		w := httptest.NewRecorder()
		frontend.ServeHTTP(w, r)
		path, _ := rawTarget(r)
		if w.Code >= http.StatusInternalServerError && !strings.HasSuffix(path, "/internal") && !strings.HasSuffix(path, "/panic") {
			t.Errorf("%s %q answered %d %s", method, target, w.Code, w.Body)
		}
	})
}
