package compat

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/imprint-iot/imprint/internal/webauthn"
	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

const (
	judgedParty  = "iot.lan"
	judgedOrigin = "https://app.iot.lan:8443"
)

var (
	judgedChallenge = []byte("thirty-two bytes of a challenge!")
	judgedText      = base64.RawURLEncoding.EncodeToString(judgedChallenge)
	judgedOptions   = []byte(`{"challenge":"` + judgedText + `","rpId":"` + judgedParty + `"}`)
	judgedExpected  = webauthn.Expected{RelyingParty: judgedParty, Challenge: judgedChallenge, Verified: true}
)

// A passkeyVerdict is what we say of an answer, and what go-webauthn says.
type passkeyVerdict struct{ ours, theirs error }

func judgeRegistration(text []byte) (v passkeyVerdict) {
	r, err := webauthn.ParseRegistration(text)
	if v.ours = err; err == nil {
		_, v.ours = r.Check(judgedExpected)
	}
	p, err := protocol.ParseCredentialCreationResponseBytes(text)
	if v.theirs = err; err == nil {
		_, v.theirs = p.Verify(judgedText, judgedParty, []string{judgedOrigin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, nil,
			[]protocol.CredentialParameter{{Type: "public-key", Algorithm: webauthncose.AlgES256}, {Type: "public-key", Algorithm: webauthncose.AlgRS256}},
			protocol.AttestationPolicy{}, protocol.SignaturePolicy{})
	}
	return v
}

func judgeAssertion(text, key []byte) (v passkeyVerdict) {
	a, err := webauthn.ParseAssertion(text)
	if v.ours = err; err == nil {
		if v.ours = a.Check(judgedExpected); v.ours == nil {
			v.ours = a.SignedBy(key)
		}
	}
	p, err := protocol.ParseCredentialRequestResponseBytes(text)
	if v.theirs = err; err == nil {
		v.theirs = p.Verify(judgedText, judgedParty, "", []string{judgedOrigin}, nil, nil, protocol.TopOriginExplicitVerificationMode, false, true, true, key, protocol.SignaturePolicy{})
	}
	return v
}

// TestALibraryOfOthersJudgesPasskeysAlike: right and wrong in each way.
func TestALibraryOfOthersJudgesPasskeysAlike(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	for name, change := range map[string]func(*webauthntest.Authenticator){
		"right":                 func(*webauthntest.Authenticator) {},
		"RSA":                   func(a *webauthntest.Authenticator) { a.Key = key },
		"synced":                func(a *webauthntest.Authenticator) { a.Flags |= webauthntest.BackupEligible | webauthntest.BackedUp },
		"another site":          func(a *webauthntest.Authenticator) { a.Origin = "https://evil.example" },
		"without TLS":           func(a *webauthntest.Authenticator) { a.Origin = "http://app.iot.lan:8443" },
		"inside another site":   func(a *webauthntest.Authenticator) { a.CrossOrigin = true },
		"another relying party": func(a *webauthntest.Authenticator) { a.Party = "evil.example" },
		"another challenge":     func(a *webauthntest.Authenticator) { a.Challenge = "AAAAAAAAAAAAAAAAAAAAAA" },
		"the other ceremony":    func(a *webauthntest.Authenticator) { a.Type = "payment.get" },
		"nobody there":          func(a *webauthntest.Authenticator) { a.Flags = webauthntest.Verified },
		"nobody verified":       func(a *webauthntest.Authenticator) { a.Flags = webauthntest.Present },
		"a key of EdDSA":        func(a *webauthntest.Authenticator) { a.Algorithm = -8 },
		"a key that is another": func(a *webauthntest.Authenticator) { a.Algorithm = -257 },
		"cut off":               func(a *webauthntest.Authenticator) { a.Spoil = func(b []byte) []byte { return b[:len(b)-1] } },
		"something behind it":   func(a *webauthntest.Authenticator) { a.Spoil = func(b []byte) []byte { return append(b, 0) } },
	} {
		a := webauthntest.New(judgedOrigin)
		change(a)
		for what, v := range map[string]passkeyVerdict{"registration": judgeRegistration(a.Create(judgedOptions)), "assertion": judgeAssertion(a.Get(judgedOptions), a.COSE())} {
			// They find out that key and algorithm do not belong together when somebody signs in, we when the key is registered.
			later := name == "a key that is another" && what == "registration" && v.ours != nil
			if (v.ours == nil) != (v.theirs == nil) && !later {
				t.Errorf("%s, %s: we say %v, they say %v", what, name, v.ours, v.theirs)
			}
			if right := name == "right" || name == "RSA" || name == "synced"; right != (v.ours == nil) {
				t.Errorf("%s, %s: %v", what, name, v.ours)
			}
		}
	}
}

// TestWeAcceptNoPasskeyThatALibraryOfOthersRefuses: each bit of what authenticators and browsers say is changed in turn.
func TestWeAcceptNoPasskeyThatALibraryOfOthersRefuses(t *testing.T) {
	t.Parallel()
	a := webauthntest.New(judgedOrigin)
	accepted, refused := 0, 0
	judge := func(what string, v passkeyVerdict) {
		t.Helper()
		if v.ours != nil {
			refused++
		} else if accepted++; v.theirs != nil {
			t.Errorf("%s: accepted, but %v", what, v.theirs)
		}
	}
	for bit := range 8 * 152 {
		flip := func(b []byte) []byte {
			if bit/8 < len(b) {
				b[bit/8] ^= 1 << (bit % 8)
			}
			return b
		}
		a.Spoil = flip
		judge(fmt.Sprintf("bit %d of a registration", bit), judgeRegistration(a.Create(judgedOptions)))
		if bit < 8*37 {
			judge(fmt.Sprintf("bit %d of an assertion", bit), judgeAssertion(a.Get(judgedOptions), a.COSE()))
		}
		a.Spoil = nil
		for _, member := range []string{"clientDataJSON", "signature", "authenticatorData"} {
			var answer map[string]any
			check(t, json.Unmarshal(a.Get(judgedOptions), &answer))
			response, _ := answer["response"].(map[string]any)
			raw, err := base64.RawURLEncoding.DecodeString(fmt.Sprint(response[member]))
			check(t, err)
			if bit/8 >= len(raw) {
				continue
			}
			response[member] = base64.RawURLEncoding.EncodeToString(flip(raw))
			text, err := json.Marshal(answer)
			check(t, err)
			v := judgeAssertion(text, a.COSE())
			judge(fmt.Sprintf("bit %d of %s", bit, member), v)
			if v.ours == nil {
				t.Errorf("an assertion is accepted after bit %d of %s was changed", bit, member)
			}
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d were accepted and %d refused: nothing was compared", accepted, refused)
	}
}
