package userpool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/webauthn"
)

// This file is the sign-in with a passkey: the challenge WEB_AUTHN and its answer. passkeys.go is how somebody comes by one.

// passkeyRequest is what an assertion was asked for.
type passkeyRequest struct {
	Challenge []byte
	Party     string
	Verified  bool
}

func (r *passkeyRequest) expected() webauthn.Expected {
	return webauthn.Expected{RelyingParty: r.Party, Challenge: r.Challenge, Verified: r.Verified}
}

// passkeyRef names a passkey to a browser (PublicKeyCredentialDescriptorJSON).
type passkeyRef struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

func passkeyRefs(ids []string) []passkeyRef {
	refs := []passkeyRef{}
	for _, id := range ids {
		refs = append(refs, passkeyRef{id, "public-key"})
	}
	return refs
}

// requestOptions is a PublicKeyCredentialRequestOptionsJSON (W3C Web Authentication Level 3, section 5.1.10).
type requestOptions struct {
	Challenge    string       `json:"challenge"`
	Timeout      int64        `json:"timeout"` // milliseconds
	RPID         string       `json:"rpId"`
	Allow        []passkeyRef `json:"allowCredentials"`
	Verification string       `json:"userVerification"`
}

// challengePasskey asks for an assertion.
func (s *Service) challengePasskey(e entry, w ways, name string) (o Outcome, err error) {
	r := passkeyRequest{Challenge: make([]byte, 32), Party: w.party, Verified: w.verified}
	rand.Read(r.Challenge)
	options, err := json.Marshal(requestOptions{Challenge: base64.RawURLEncoding.EncodeToString(r.Challenge), Timeout: e.client.sessionLife().Milliseconds(),
		RPID: w.party, Allow: passkeyRefs(w.passkeys), Verification: verificationWord(w.verified)})
	if err != nil {
		return o, err
	}
	o = Outcome{Challenge: passkeyStep, Parameters: map[string]string{"CREDENTIAL_REQUEST_OPTIONS": string(options)}}
	o.Session, err = s.newWay(e, w, name, passkeyStep, &r)
	return o, err
}

func verificationWord(required bool) string {
	if required {
		return VerificationRequired
	}
	return VerificationPreferred
}

// shadowPasskeys are the ids of passkeys of nobody, always the same for a name: every other one has some. They are as long as those of common
// authenticators.
func shadowPasskeys(secret []byte, poolID, username string) (ids []string) {
	seed := func(purpose string) []byte {
		return hmacSum(secret, []byte("passkey "+purpose+"\x00"+poolID+"\x00"+username))
	}
	dice := seed("dice")
	if dice[0]&1 == 0 {
		return nil
	}
	long := append(seed("id"), seed("more id")...)
	return []string{base64.RawURLEncoding.EncodeToString(long[:[]int{16, 20, 20, 32, 32, 48, 64, 16}[dice[1]&7]])}
}

// standIn is a key of nobody. An assertion for which there is no passkey is verified with it, so that the answer takes as long.
var standIn = sync.OnceValues(func() ([]byte, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(map[int]any{1: 2, 3: webauthn.ES256, -1: 1, -2: point[1:33], -3: point[33:]})
})

// passkeyProof is an assertion whose signature was looked at.
type passkeyProof struct {
	id       string
	count    uint32
	verified bool  // the authenticator has verified its owner
	fault    error // what was wrong with it, if that may be told

	// What the transaction has found out.
	both   bool // it counts as the second factor, too
	copied bool // its count went back
}

func (x *passkeyProof) countsAsBoth() bool { return x != nil && x.both }

// verdict is what to tell of a proof that was none.
func (x *passkeyProof) verdict() error {
	switch {
	case x.fault != nil:
		return notAuthorized("Passkey refused: " + x.fault.Error() + ".")
	case x.copied:
		return notAuthorized("Passkey refused: its authenticator has signed more often than it says, so there may be a copy. Remove the passkey and add it again.")
	}
	return wrongPassword()
}

// holds decides a proof in the transaction of the sign-in: the passkey is still there, and its count went forward. A count that did not is the
// sign of a copy (section 6.1.1); authenticators that do not count say 0 always.
func (x *passkeyProof) holds(tx *store.Tx, p *Pool, u store.PoolUser) (bool, error) {
	x.both, x.copied = false, false
	k, err := tx.Passkey(p.Scope, p.ID, x.id)
	if err != nil {
		return false, asFound(err)
	}
	if k.Sub != u.Sub || u.Status != Confirmed {
		return false, nil
	}
	if x.copied = (x.count != 0 || k.Count != 0) && x.count <= k.Count; x.copied {
		return false, nil
	}
	x.both = p.Passkeys.both() && k.Both && x.verified
	return true, tx.CountPasskey(p.Scope, p.ID, k.ID, x.count)
}

// answerPasskey answers WEB_AUTHN. The challenge is spent by any answer.
func (s *Service) answerPasskey(ctx context.Context, e entry, in Answer) (Outcome, error) {
	v, err := required(in.Responses, "USERNAME", "CREDENTIAL")
	if err != nil {
		return Outcome{}, err
	}
	c, expires, err := s.openWay(e, in, v[0], passkeyStep)
	if err != nil {
		return Outcome{}, err
	}
	if c.Passkey == nil {
		return Outcome{}, sessionInvalid()
	}
	assertion, err := webauthn.ParseAssertion([]byte(v[1]))
	if err != nil {
		return Outcome{}, invalid("CREDENTIAL: " + err.Error() + ".")
	}
	a := attempt{name: c.Typed, nonce: c.Nonce, expires: expires, passkey: &passkeyProof{id: base64.RawURLEncoding.EncodeToString(assertion.ID),
		count: assertion.Count(), verified: assertion.Verified(), fault: assertion.Check(c.Passkey.expected())}}
	var key store.Passkey
	if err := s.view(ctx, func(tx *store.Tx) error {
		u, err := tx.PoolUserBySub(e.pool.Scope, e.pool.ID, c.Sub)
		if err == nil {
			a.user = &u
		} else if !isNotFound(err) {
			return err
		}
		key, err = tx.Passkey(e.pool.Scope, e.pool.ID, a.passkey.id)
		return asFound(err)
	}); err != nil {
		return Outcome{}, err
	}
	e.meets(a.user)
	signed, err := s.signedBy(ctx, assertion, key)
	if err != nil {
		return Outcome{}, err
	}
	a.proven = signed && a.user != nil && a.passkey.fault == nil && key.Sub == c.Sub && key.Party == c.Passkey.Party && key.Backup == assertion.BackupEligible() &&
		(len(assertion.UserHandle) == 0 || string(assertion.UserHandle) == c.Sub)
	return s.settle(ctx, e, a)
}

// asFound takes an absent row for no error.
func asFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// signedBy verifies an assertion, in turn with the other arithmetic.
func (s *Service) signedBy(ctx context.Context, a *webauthn.Assertion, key store.Passkey) (signed bool, err error) {
	public := key.Public
	if len(public) == 0 {
		if public, err = standIn(); err != nil {
			return false, err
		}
	}
	if err := s.compute(ctx, func() { err = a.SignedBy(public) }); err != nil {
		return false, err
	}
	if err != nil && !errors.Is(err, webauthn.ErrSignature) {
		return false, err // a stored key is sound
	}
	return err == nil && len(key.Public) > 0, nil
}

// keepPasskeyChoice says whether a user's passkeys count as both factors (WebAuthnMfaSettings). Who wants that needs another second factor,
// or the loss of the passkey would lock them out.
func keepPasskeyChoice(tx *store.Tx, p *Pool, u *store.PoolUser, enabled bool) error {
	keys, _, err := tx.Passkeys(p.Scope, p.ID, u.Sub, fleet.Page{})
	if err != nil {
		return err
	}
	if !enabled {
		return tx.SetPasskeysBoth(p.Scope, p.ID, u.Sub, false)
	}
	token, err := tx.SoftwareToken(p.Scope, p.ID, u.Sub, store.TokenVerified)
	switch {
	case asFound(err) != nil:
		return err
	case !p.Passkeys.both():
		return invalid("WebAuthn MFA has not been enabled by the userPool: its FactorConfiguration is not MULTI_FACTOR_WITH_USER_VERIFICATION.")
	case len(keys) == 0:
		return invalid("User has no passkey")
	case err != nil || !token.Enabled && p.MFAMode() != MFAOn:
		return invalid("User needs another second factor beside passkeys: set up a software token first.")
	}
	return tx.SetPasskeysBoth(p.Scope, p.ID, u.Sub, true)
}
