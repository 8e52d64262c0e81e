package hosted

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzRequest is the query of /oauth2/authorize, and what becomes of it in addresses and headers.
func FuzzRequest(f *testing.F) {
	f.Add("client_id=a&response_type=code&redirect_uri=https%3A%2F%2Fapp.example%2Fback&state=a%20b%26c&scope=openid+email&code_challenge=x&code_challenge_method=S256")
	f.Add("redirect_uri=myapp%3A%2F%2Fback")
	f.Add("redirect_uri=http%3A%2F%2F%5B%3A%3A1%5D%3A8080%2F")
	f.Add("redirect_uri=https%3A%2F%2Fa%3Bb%2F")
	f.Add("redirect_uri=%25zz")
	f.Add("state=1&state=2")
	f.Add("a=%ff")
	f.Add("a=%zz;b")
	f.Add(strings.Repeat("a&", maxParameters))
	f.Add(strings.Repeat("a", maxQuery+1))
	f.Fuzz(func(t *testing.T, text string) {
		values, err := parseForm(text, maxQuery)
		if err != nil {
			return
		}
		if len(values) > maxParameters {
			t.Fatalf("%d parameters", len(values))
		}
		for name, v := range values {
			if len(v) != 1 || !utf8.ValidString(name+v[0]) {
				t.Fatalf("parameter %q is %q", name, v)
			}
		}
		again, err := parseForm(carry(values), maxQuery)
		if err != nil || requestOf(again) != requestOf(values) {
			t.Fatalf("%q goes on as %q: %v", text, carry(values), err)
		}
		if target := formTarget(values.Get("redirect_uri")); strings.ContainsAny(target, "; ,'\"\r\n\t") {
			t.Fatalf("the policy would have %q", target)
		}
	})
}

// FuzzClient is how a client proves itself at the token endpoint.
func FuzzClient(f *testing.F) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	f.Add("", "client_id=a&client_secret=b&grant_type=authorization_code")
	f.Add(basic("a:b"), "grant_type=refresh_token")
	f.Add(basic("a%20:b%2B"), "client_id=a+")
	f.Add(basic("a:b"), "client_id=c")
	f.Add(basic("a:b"), "client_secret=b")
	f.Add(basic("%zz:b"), "")
	f.Add("Bearer x", "")
	f.Fuzz(func(t *testing.T, header, body string) {
		form, err := parseForm(body, maxQuery)
		if err != nil {
			return
		}
		id, secret, err := clientOf(header, form)
		switch {
		case err != nil && (id != "" || secret != ""):
			t.Fatal("an error, and a client")
		case err != nil:
		case header == "" && (id != form.Get("client_id") || secret.Reveal() != form.Get("client_secret")):
			t.Fatalf("%q is %q", body, id)
		case header != "":
			if form.Get("client_secret") != "" || form.Get("client_id") != "" && form.Get("client_id") != id {
				t.Fatalf("two clients: %q and %q", header, body)
			}
			if again, s, err := clientOf(basic(url.QueryEscape(id)+":"+url.QueryEscape(secret.Reveal())), url.Values{}); err != nil || again != id || s != secret {
				t.Fatalf("%q is %q, and then %q: %v", header, id, again, err)
			}
		}
	})
}
