package webauthn

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

const (
	party  = "iot.lan"
	origin = "https://app.iot.lan:8443"
)

var challenge = []byte("thirty-two bytes of a challenge!")

// asked are options of both ceremonies.
var asked, _ = json.Marshal(map[string]any{"challenge": base64.RawURLEncoding.EncodeToString(challenge), "rp": map[string]any{"id": party}, "rpId": party})

var expected = Expected{RelyingParty: party, Challenge: challenge, Verified: true}

func register(text []byte) (Credential, error) {
	r, err := ParseRegistration(text)
	if err != nil {
		return Credential{}, err
	}
	return r.Check(expected)
}

func assert(text, key []byte) error {
	a, err := ParseAssertion(text)
	if err != nil {
		return err
	}
	if err := a.Check(expected); err != nil {
		return err
	}
	return a.SignedBy(key)
}

func TestAPasskeyIsRegisteredAndProven(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]*webauthntest.Authenticator{"ES256": webauthntest.New(origin), "RS256": webauthntest.NewRSA(key, origin)} {
		a.Flags |= webauthntest.BackupEligible | webauthntest.BackedUp
		c, err := register(a.Create(asked))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(c.ID, a.ID) || c.Count != 1 || !c.BackupEligible || !bytes.Equal(c.Key, a.COSE()) {
			t.Errorf("%s: the credential is %+v", name, c)
		}
		a.UserHandle = []byte("somebody")
		text := a.Get(asked)
		if err := assert(text, c.Key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got, err := ParseAssertion(text)
		if err != nil || got.Count() != 2 || !got.BackupEligible() || !got.Verified() || string(got.UserHandle) != "somebody" {
			t.Errorf("%s: the assertion is %+v, %v", name, got, err)
		}
		if err := assert(text, webauthntest.New(origin).COSE()); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: with another key: %v", name, err)
		}
	}
}

func TestWhatIsWrongIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*webauthntest.Authenticator)
		want error
	}{
		"another site":             {func(a *webauthntest.Authenticator) { a.Origin = "https://evil.example" }, ErrOrigin},
		"a site that ends alike":   {func(a *webauthntest.Authenticator) { a.Origin = "https://eviliot.lan" }, ErrOrigin},
		"without TLS":              {func(a *webauthntest.Authenticator) { a.Origin = "http://iot.lan" }, ErrOrigin},
		"inside another site":      {func(a *webauthntest.Authenticator) { a.CrossOrigin = true }, ErrOrigin},
		"another relying party":    {func(a *webauthntest.Authenticator) { a.Party = "evil.example" }, ErrRelyingParty},
		"another challenge":        {func(a *webauthntest.Authenticator) { a.Challenge = "AAAA" }, ErrChallenge},
		"the other ceremony":       {func(a *webauthntest.Authenticator) { a.Type = "payment.get" }, ErrMalformed},
		"nobody there":             {func(a *webauthntest.Authenticator) { a.Flags = webauthntest.Verified }, ErrUnsupported},
		"nobody verified":          {func(a *webauthntest.Authenticator) { a.Flags = webauthntest.Present }, ErrUnsupported},
		"a backup that may not be": {func(a *webauthntest.Authenticator) { a.Flags |= webauthntest.BackedUp }, ErrMalformed},
		"cut off":                  {func(a *webauthntest.Authenticator) { a.Spoil = func(b []byte) []byte { return b[:36] } }, ErrMalformed},
		"something behind it":      {func(a *webauthntest.Authenticator) { a.Spoil = func(b []byte) []byte { return append(b, 0) } }, ErrMalformed},
		"extensions that are none": {func(a *webauthntest.Authenticator) {
			a.Spoil = func(b []byte) []byte { b[32] |= 0x80; return append(b, 0x01) }
		}, ErrMalformed},
	} {
		a := webauthntest.New(origin)
		c.do(a)
		if _, err := register(a.Create(asked)); !errors.Is(err, c.want) {
			t.Errorf("registration, %s: %v, want %v", name, err, c.want)
		}
		if err := assert(a.Get(asked), a.COSE()); !errors.Is(err, c.want) {
			t.Errorf("assertion, %s: %v, want %v", name, err, c.want)
		}
	}
}

func TestKeysThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil { // which Go refuses to make by default
		a := webauthntest.NewRSA(small, origin)
		if _, err := register(a.Create(asked)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("RSA-1024: %v", err)
		}
	}
	a := webauthntest.New(origin)
	for name, algorithm := range map[string]int{"EdDSA": -8, "RS256 with a point": -257, "RS1": -65535, "none": 1} {
		a.Algorithm = algorithm
		if _, err := register(a.Create(asked)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		if err := assert(a.Get(asked), a.COSE()); err == nil {
			t.Errorf("%s verifies", name)
		}
	}
	point := bytes.Repeat([]byte{7}, 32)
	for name, key := range map[string]any{
		"a point that is none":    map[int]any{1: 2, 3: -7, -1: 1, -2: point, -3: point},
		"a point of another kind": map[int]any{1: 2, 3: -7, -1: 2, -2: point, -3: point},
		"a short point":           map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:], -3: point},
		"an even modulus":         map[int]any{1: 3, 3: -257, -1: append(bytes.Repeat([]byte{255}, 255), 0), -2: []byte{1, 0, 1}},
		"an exponent of 1":        map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{255}, 256), -2: []byte{1}},
		"a huge modulus":          map[int]any{1: 3, 3: -257, -1: bytes.Repeat([]byte{255}, 600), -2: []byte{1, 0, 1}},
		"a modulus of text":       map[int]any{1: 3, 3: -257, -1: "x", -2: []byte{1, 0, 1}},
		"no map":                  7,
	} {
		text, err := cbor.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseKey(text); err == nil {
			t.Errorf("%s is a key", name)
		}
	}
}

// change changes an answer.
func change(text []byte, f func(answer, response map[string]any)) []byte {
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		panic(err)
	}
	response, _ := m["response"].(map[string]any)
	f(m, response)
	out, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return out
}

// spoiled are answers that cannot be read, made of one that can.
func spoiled(text []byte) (none [][]byte) {
	client := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for _, f := range []func(m, r map[string]any){
		func(m, _ map[string]any) { m["type"] = "password" },
		func(m, _ map[string]any) { m["id"] = "" },
		func(m, _ map[string]any) { m["id"] = "AA+/" },
		func(m, _ map[string]any) { m["id"] = 7 },
		func(m, _ map[string]any) { m["rawId"] = "AAAA" },
		func(m, _ map[string]any) { m["rawId"] = "!" },
		func(m, _ map[string]any) {
			m["id"], m["rawId"] = base64.RawURLEncoding.EncodeToString(make([]byte, 1024)), nil
		},
		func(m, _ map[string]any) { m["response"] = "x" },
		func(_, r map[string]any) { delete(r, "clientDataJSON") },
		func(_, r map[string]any) { r["clientDataJSON"] = "AAAA" },
		func(_, r map[string]any) { r["clientDataJSON"] = client(`{"type":7}`) },
		func(_, r map[string]any) { r["clientDataJSON"] = client(`{"challenge":""}`) },
		func(_, r map[string]any) { r["clientDataJSON"] = client("{}" + strings.Repeat(" ", maxClientData)) },
		func(_, r map[string]any) { r["transports"], r["userHandle"] = 7, 7 },
		func(_, r map[string]any) { r["attestationObject"], r["authenticatorData"] = "AAAA", "AAAA" },
		func(_, r map[string]any) { r["attestationObject"], r["signature"] = "", "" },
		func(_, r map[string]any) { r["attestationObject"], r["authenticatorData"] = "", "" },
	} {
		none = append(none, change(text, f))
	}
	return append(none, nil, []byte("{}"), []byte("[]"), []byte("null"), []byte(`"x"`), bytes.Repeat([]byte(" "), maxText+1))
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	a := webauthntest.New(origin)
	for _, text := range append(spoiled(a.Create(asked)), spoiled(a.Get(asked))...) {
		if _, err := register(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("registration %.200s: %v", text, err)
		}
		if err := assert(text, a.COSE()); !errors.Is(err, ErrMalformed) {
			t.Errorf("assertion %.200s: %v", text, err)
		}
	}
	text := change(a.Create(asked), func(m, _ map[string]any) { m["id"], m["rawId"] = "AAAA", "AAAA" })
	if _, err := register(text); !errors.Is(err, ErrMalformed) {
		t.Errorf("an id that the authenticator does not say: %v", err)
	}
	r, err := ParseRegistration(change(a.Create(asked), func(m, r map[string]any) {
		m["authenticatorAttachment"], r["transports"] = "implanted", []string{"usb", "telepathy", "internal"}
	}))
	if err != nil || r.Attachment != "" || len(r.Transports) != 2 || !bytes.Equal(r.Challenge(), challenge) {
		t.Errorf("words that nobody knows: %+v, %v", r, err)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{
		"https://iot.lan": true, "https://iot.lan:8443": true, "https://a.iot.lan": true, "https://IOT.lan": true,
		"https://lan": false, "https://xiot.lan": false, "https://iot.lan.evil": false, "http://iot.lan": false, "iot.lan": false, "": false,
		"https://iot.lan/": false, "https://u@iot.lan": false, "https://iot.lan?": false, "https://iot.lan#x": false, "android:apk-key-hash:x": false,
		"null": false, "https://": false, "wss://iot.lan": false,
	} {
		if got := Covers(party, origin); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
	if !Covers("localhost", "http://localhost:3000") || Covers("", "https://x") || Covers("", "https://x.") {
		t.Error("localhost, or nothing")
	}
}

func TestIsRelyingParty(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"localhost": true, "iot.lan": true, "a-b.example.com": true, "": false, "com": false, "10.0.0.1": false, "Iot.lan": false, "iot..lan": false,
		"-a.lan": false, "a-.lan": false, "iot.lan:8443": false, "https://iot.lan": false, "ïot.lan": false, "a.": false,
	} {
		if got := IsRelyingParty(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
