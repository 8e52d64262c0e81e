package webauthn

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

// FuzzRegistration: whatever a browser sends for a new passkey, it is refused, or a credential whose key can be read again.
func FuzzRegistration(f *testing.F) {
	a := webauthntest.New(origin)
	for _, change := range []func(){
		func() {}, func() { a.Origin = "https://evil.example" }, func() { a.Origin = origin; a.Algorithm = -8 },
		func() { a.Algorithm = 0; a.Spoil = func(b []byte) []byte { b[32] |= 0x80; return append(b, 0xa0) } },
		func() { a.Spoil = func(b []byte) []byte { return b[:len(b)-3] } },
		func() { a.Spoil = func(b []byte) []byte { return b[:40] } },
		func() { a.Spoil = func(b []byte) []byte { b[53] = 255; return b } },
		func() { a.Spoil = func(b []byte) []byte { b[54] = 255; return b } },
	} {
		change()
		f.Add(a.Create(asked))
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(webauthntest.NewRSA(key, origin).Create(asked))
	for _, text := range spoiled(webauthntest.New(origin).Create(asked)) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRegistration(text)
		if err != nil {
			return
		}
		c, err := r.Check(Expected{RelyingParty: party, Challenge: r.Challenge()})
		if err != nil {
			return
		}
		if len(c.ID) == 0 || len(c.ID) > maxID || !Covers(party, r.client.Origin) || r.data.flags&userPresent == 0 {
			t.Errorf("accepted %+v of %q", c, r.client.Origin)
		}
		if k, err := parseKey(c.Key); err != nil || k.ec == nil && k.rsa == nil {
			t.Errorf("accepted a key that cannot be read: %v", err)
		}
	})
}

// FuzzAssertion: whatever is sent to sign in, only what the key has signed is accepted.
func FuzzAssertion(f *testing.F) {
	a := webauthntest.New(origin)
	key := a.COSE()
	honest := map[string]bool{}
	add := func(text []byte) { honest[string(text)] = true; f.Add(text) }
	add(a.Get(asked))
	a.UserHandle = []byte("somebody")
	add(a.Get(asked))
	a.Spoil = func(b []byte) []byte { b[32] |= 0x80; return append(b, 0xa0) }
	add(a.Get(asked))
	for _, change := range []func(){
		func() { a.Spoil = func(b []byte) []byte { return b[:36] } }, func() { a.Spoil = func(b []byte) []byte { return append(b, 1) } },
		func() { a.Spoil, a.Flags = nil, 0 }, func() { a.Party = "evil.example" },
		func() { a.Spoil = func(b []byte) []byte { b[32] |= 0x40; return b } },
		func() { a.Spoil, a.Party, a.Origin = nil, "", "https://evil.example" },
		func() { a.Origin, a.CrossOrigin = origin, true }, func() { a.CrossOrigin, a.Challenge = false, "AAAA" },
		func() { a.Challenge, a.Type = "", "webauthn.create" }, func() { a.Type, a.Flags = "", webauthntest.Present },
		func() { a.Flags = webauthntest.Present | webauthntest.Verified | webauthntest.BackedUp },
		func() { a.Flags, a.Key = webauthntest.Present|webauthntest.Verified, webauthntest.New(origin).Key },
		func() { a.Spoil = func(b []byte) []byte { b[32] |= 0x80; return append(b, 1) } },
	} {
		change()
		f.Add(a.Get(asked))
	}
	for _, text := range spoiled(webauthntest.New(origin).Get(asked)) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAssertion(text)
		if err != nil {
			return
		}
		if a.Check(expected) != nil || a.SignedBy(key) != nil {
			return
		}
		for known := range honest { // the same words may be written in other JSON
			if k, err := ParseAssertion([]byte(known)); err == nil && string(k.raw) == string(a.raw) && k.client.hash == a.client.hash {
				return
			}
		}
		t.Errorf("accepted what was never signed: %s", text)
	})
}
