package userpool

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/webauthn"
)

// This file is how somebody who is signed in adds, lists and removes passkeys; passkeychallenge.go is how they sign in with one.

// PasskeySettings are of a pool (WebAuthnConfiguration). They are stored as JSON under the names of these fields.
type PasskeySettings struct {
	RelyingParty string // a domain; empty: the host name of the pool's pages
	Verification string // VerificationRequired, or VerificationPreferred or empty
	Factor       string // SINGLE_FACTOR or empty, or MULTI_FACTOR_WITH_USER_VERIFICATION
}

// Whether authenticators must verify their owner, by fingerprint, face or code.
const (
	VerificationRequired  = "required"
	VerificationPreferred = "preferred"
)

// both reports whether a passkey that verifies its owner can count as both factors, for those who want that.
func (s PasskeySettings) both() bool { return s.Factor == "MULTI_FACTOR_WITH_USER_VERIFICATION" }

func (s PasskeySettings) verified() bool { return s.Verification == VerificationRequired }

func (s PasskeySettings) check() error {
	if s.RelyingParty != "" && !webauthn.IsRelyingParty(s.RelyingParty) {
		return invalid("RelyingPartyId must be a domain in lower case such as example.com, without scheme and port, and no address.")
	}
	return nil
}

// relyingParty is for whom the passkeys of a pool are: what was set, or the host of its pages; "" if there is neither.
func (s *Service) relyingParty(tx *store.Tx, p *Pool) (string, error) {
	if p.Passkeys.RelyingParty != "" {
		return p.Passkeys.RelyingParty, nil
	}
	have, err := domains(tx, p.Scope, p.ID)
	if err != nil || len(have) == 0 {
		return "", err
	}
	host := s.Host()
	if d := have[len(have)-1]; d.Custom {
		host = d.Name
	}
	if !webauthn.IsRelyingParty(host) {
		return "", nil
	}
	return host, nil
}

const (
	maxPasskeys = 20 // of a user
	// passkeyLife is how long a new passkey is waited for: as long as browsers are told, and some time to unlock a phone.
	passkeyLife    = 5 * time.Minute
	passkeyTimeout = time.Minute
)

// A Holder is whose passkeys they are: somebody with an access token, or somebody who is signed in in a browser (Authorization.Holder).
type Holder struct {
	AccessToken fleet.Secret
	browser     *Authorization
	cookie      fleet.Secret
}

// Holder is whoever is signed in in the browser with a cookie.
func (a *Authorization) Holder(cookie fleet.Secret) Holder { return Holder{browser: a, cookie: cookie} }

// TakesPasskeys reports whether people may sign in to the client with passkeys at the pages of a site: where the relying party is another
// host, browsers would not show them there.
func (s *Service) TakesPasskeys(ctx context.Context, site *Site, a *Authorization) (takes bool, err error) {
	if !a.TakesPasswords() || !a.client.allows("USER_AUTH") || !slices.Contains(a.pool.FirstFactors, passkeyFactor) {
		return false, nil
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		party, err := s.relyingParty(tx, a.pool)
		takes = webauthn.Covers(party, site.origin())
		return err
	})
	return takes, err
}

// origin is that of the site's pages.
func (site *Site) origin() string {
	u, err := url.Parse(site.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// AskPasskey begins a sign-in with a passkey at the pages. Without one the outcome is another challenge.
func (s *Service) AskPasskey(ctx context.Context, a *Authorization, name string) (Outcome, error) {
	return s.initiate(ctx, a.entry, SignIn{ClientID: a.client.ID, Flow: "USER_AUTH", Parameters: map[string]fleet.Secret{
		"USERNAME": fleet.Secret(name), "PREFERRED_CHALLENGE": passkeyStep, "SECRET_HASH": a.hash(name)}})
}

// holding is a Holder whose signature was checked.
type holding struct {
	client string
	scope  fleet.Scope
	poolID string
	claims jwt.Claims // of an access token
	Holder
}

func (s *Service) holding(ctx context.Context, h Holder) (x holding, err error) {
	if h.browser != nil {
		return holding{client: h.browser.client.ID, scope: h.browser.pool.Scope, poolID: h.browser.pool.ID, Holder: h}, nil
	}
	who, err := s.authenticate(ctx, h.AccessToken)
	if err != nil {
		return x, err
	}
	return holding{client: who.client.ID, scope: who.pool.Scope, poolID: who.pool.ID, claims: who.claims, Holder: h}, nil
}

// still looks, in a transaction, who holds passkeys, and at which pool.
func (x *holding) still(s *Service, tx *store.Tx) (p *Pool, u store.PoolUser, err error) {
	if x.browser == nil {
		again := self{claims: x.claims}
		err = s.load(tx, x.scope, x.poolID, &again)
		return again.pool, again.user, err
	}
	if p, err = readPool(tx, x.scope, x.poolID); err != nil {
		return nil, u, err
	}
	_, u, in, err := s.browser(tx, p, x.cookie)
	if err == nil && !in {
		err = notAuthorized("Nobody is signed in in this browser.")
	}
	return p, u, err
}

// mayAdd is still for whoever wants to add a passkey, and returns the relying party.
func (x *holding) mayAdd(s *Service, tx *store.Tx) (p *Pool, u store.PoolUser, party string, err error) {
	if p, u, err = x.still(s, tx); err != nil {
		return p, u, "", err
	}
	switch {
	case u.Status == External:
		return p, u, "", notAuthorized("Users from other identity providers have no passkeys here.")
	case !slices.Contains(p.FirstFactors, passkeyFactor):
		return p, u, "", passkeysOff()
	}
	party, err = s.relyingParty(tx, p)
	if err == nil && party == "" {
		err = passkeysMissing()
	}
	return p, u, party, err
}

// passkeyChallenge is what a challenge of a registration has in it, sealed: it comes back in what the browser signs, so nothing is stored.
type passkeyChallenge struct {
	Client, Sub, Nonce string
	Issued             int64
}

// creationOptions is a PublicKeyCredentialCreationOptionsJSON (W3C Web Authentication Level 3, section 5.1.9), in the form that AWS gives it.
type creationOptions struct {
	Selection struct {
		RequireResident bool   `json:"requireResidentKey"`
		Resident        string `json:"residentKey"`
		Verification    string `json:"userVerification"`
	} `json:"authenticatorSelection"`
	Challenge  string             `json:"challenge"`
	Exclude    []passkeyRef       `json:"excludeCredentials"`
	Algorithms []passkeyAlgorithm `json:"pubKeyCredParams"`
	Party      struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"rp"`
	Timeout int64 `json:"timeout"` // milliseconds
	User    struct {
		DisplayName string `json:"displayName"`
		ID          string `json:"id"`
		Name        string `json:"name"`
	} `json:"user"`
}

type passkeyAlgorithm struct {
	Algorithm int    `json:"alg"`
	Type      string `json:"type"`
}

// NewPasskey says, in JSON, what a browser is to make a passkey of (StartWebAuthnRegistration).
func (s *Service) NewPasskey(ctx context.Context, h Holder) (options []byte, err error) {
	x, err := s.holding(ctx, h)
	if err != nil {
		return nil, err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		p, u, party, err := x.mayAdd(s, tx)
		if err != nil {
			return err
		}
		keys, _, err := tx.Passkeys(p.Scope, p.ID, u.Sub, fleet.Page{})
		if err != nil {
			return err
		}
		if len(keys) >= maxPasskeys {
			return tooManyPasskeys()
		}
		challenge, err := json.Marshal(passkeyChallenge{Client: x.client, Sub: u.Sub, Nonce: fleet.RandomString(22, fleet.AlphaAlnum), Issued: s.now().UnixMilli()})
		if err != nil {
			return err
		}
		o := creationOptions{Challenge: base64.RawURLEncoding.EncodeToString(s.seal("passkey-challenge", challenge, p.Scope, p.ID)),
			Algorithms: []passkeyAlgorithm{{webauthn.ES256, "public-key"}, {webauthn.RS256, "public-key"}}, Timeout: passkeyTimeout.Milliseconds()}
		o.Selection.RequireResident, o.Selection.Resident, o.Selection.Verification = true, "required", verificationWord(p.Passkeys.verified())
		o.Party.ID, o.Party.Name = party, party
		o.User.ID, o.User.Name, o.User.DisplayName = base64.RawURLEncoding.EncodeToString([]byte(u.Sub)), displayName(u), displayName(u)
		var ids []string
		for _, k := range keys {
			ids = append(ids, k.ID)
		}
		o.Exclude = passkeyRefs(ids)
		options, err = json.Marshal(o)
		return err
	})
	return options, err
}

// displayName is what a person knows their account by: where the username is a number of ours, their address.
func displayName(u store.PoolUser) string {
	if u.Username == u.Sub {
		return or(u.Attributes["email"], or(u.Attributes["phone_number"], u.Username))
	}
	return u.Username
}

// AddPasskey stores the passkey that a browser has made (CompleteWebAuthnRegistration).
func (s *Service) AddPasskey(ctx context.Context, h Holder, credential []byte) error {
	x, err := s.holding(ctx, h)
	if err != nil {
		return err
	}
	r, err := webauthn.ParseRegistration(credential)
	if err != nil {
		return invalid("Credential: " + err.Error() + ".")
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		p, u, party, err := x.mayAdd(s, tx)
		if err != nil {
			return err
		}
		c, err := s.openPasskeyChallenge(p, r.Challenge())
		if err != nil || c.Sub != u.Sub || !s.now().Before(c.expires()) {
			return passkeyChallengeNotFound()
		}
		if c.Client != x.client {
			return fail(fleet.KindDenied, "WebAuthnClientMismatchException", "The passkey was asked for by another app client.")
		}
		made, err := r.Check(webauthn.Expected{RelyingParty: party, Challenge: r.Challenge(), Verified: p.Passkeys.verified()})
		if err != nil {
			return refusedPasskey(err)
		}
		return s.storePasskey(tx, p, u, c, store.Passkey{ID: base64.RawURLEncoding.EncodeToString(made.ID), Sub: u.Sub, Party: party, Public: made.Key,
			Count: made.Count, Backup: made.BackupEligible, Name: passkeyName(made.Model, r.Attachment), Attachment: r.Attachment, Transports: r.Transports, Created: s.now()})
	})
}

func (c *passkeyChallenge) expires() time.Time { return time.UnixMilli(c.Issued).Add(passkeyLife) }

func (s *Service) openPasskeyChallenge(p *Pool, sealed []byte) (c passkeyChallenge, err error) {
	if len(sealed) > maxSealed {
		return c, errors.New("too long")
	}
	text, err := s.open("passkey-challenge", sealed, p.Scope, p.ID)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}

// storePasskey spends the challenge of a passkey that is as it should be, and keeps it.
func (s *Service) storePasskey(tx *store.Tx, p *Pool, u store.PoolUser, c passkeyChallenge, k store.Passkey) error {
	first, err := tx.SpendChallenge(p.Scope, p.ID, c.Nonce, c.expires())
	if err != nil || !first {
		return orElse(err, passkeyChallengeNotFound())
	}
	have, _, err := tx.Passkeys(p.Scope, p.ID, u.Sub, fleet.Page{})
	switch {
	case err != nil:
		return err
	case len(have) >= maxPasskeys:
		return tooManyPasskeys()
	}
	k.Both = slices.ContainsFunc(have, func(k store.Passkey) bool { return k.Both })
	if err := tx.AddPasskey(p.Scope, p.ID, k); isExists(err) {
		return invalid("This passkey is registered already.")
	} else if err != nil {
		return err
	}
	return nil
}

// refusedPasskey names what is wrong with a new passkey as the protocol does.
func refusedPasskey(err error) error {
	for fault, code := range map[error]string{
		webauthn.ErrChallenge: "WebAuthnChallengeNotFoundException", webauthn.ErrOrigin: "WebAuthnOriginNotAllowedException",
		webauthn.ErrRelyingParty: "WebAuthnRelyingPartyMismatchException", webauthn.ErrUnsupported: "WebAuthnCredentialNotSupportedException",
	} {
		if errors.Is(err, fault) {
			return fail(fleet.KindInvalid, code, "Passkey refused: "+err.Error()+".")
		}
	}
	return invalid("Credential: " + err.Error() + ".")
}

func passkeysOff() *fleet.Error {
	return fail(fleet.KindState, "WebAuthnNotEnabledException", "WebAuthn is not enabled for the user pool: AllowedFirstAuthFactors of its SignInPolicy lacks WEB_AUTHN.")
}
func passkeysMissing() *fleet.Error {
	return fail(fleet.KindState, "WebAuthnConfigurationMissingException",
		"The user pool has neither a RelyingPartyId nor a domain with a host name: set WebAuthnConfiguration with SetUserPoolMfaConfig.")
}
func passkeyChallengeNotFound() *fleet.Error {
	return fail(fleet.KindInvalid, "WebAuthnChallengeNotFoundException", "The challenge of this passkey was not given out, has expired or was answered already. Begin again.")
}
func tooManyPasskeys() *fleet.Error {
	return overLimit("A user has at most 20 passkeys.")
}

// A Passkey is one of a user.
type Passkey struct {
	ID, Party, Name string
	Attachment      string
	Transports      []string
	Created         time.Time
}

// Passkeys lists the passkeys of their holder (ListWebAuthnCredentials).
func (s *Service) Passkeys(ctx context.Context, h Holder, token string, limit int) (keys []Passkey, next string, err error) {
	after, err := pageKey("passkeys", token)
	if err != nil {
		return nil, "", err
	}
	x, err := s.holding(ctx, h)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		p, u, err := x.still(s, tx)
		if err != nil {
			return err
		}
		rows, key, err := tx.Passkeys(p.Scope, p.ID, u.Sub, fleet.Page{After: after, Limit: limit})
		keys, next = nil, pageToken("passkeys", key)
		for _, k := range rows {
			keys = append(keys, Passkey{ID: k.ID, Party: k.Party, Name: k.Name, Attachment: k.Attachment, Transports: k.Transports, Created: k.Created})
		}
		return err
	})
	return keys, next, err
}

// DeletePasskey removes a passkey of its holder (DeleteWebAuthnCredential). Sessions that began with it go on.
func (s *Service) DeletePasskey(ctx context.Context, h Holder, id string) error {
	x, err := s.holding(ctx, h)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		p, u, err := x.still(s, tx)
		if err != nil {
			return err
		}
		found, err := tx.DeletePasskey(p.Scope, p.ID, u.Sub, id)
		if err == nil && !found {
			err = fail(fleet.KindNotFound, "ResourceNotFoundException", "The user has no such passkey.")
		}
		return err
	})
}

// passkeyName is what to call a new passkey: by the model of its authenticator where everybody knows that, which proves nothing.
func passkeyName(model [16]byte, attachment string) string {
	if name := passkeyModels[hex.EncodeToString(model[:])]; name != "" {
		return name
	}
	switch attachment {
	case "cross-platform":
		return "Roaming passkey"
	case "platform":
		return "Platform passkey"
	}
	return "Passkey"
}

// passkeyModels are the AAGUIDs of common authenticators, from the list that passkey developers keep together.
var passkeyModels = map[string]string{
	"fbfc3007154e4ecc8c0b6e020557d7bd": "iCloud Keychain",
	"ea9b8d664d011d213ce4b6b48cb575d4": "Google Password Manager",
	"adce000235bcc60a648b0b25f1f05503": "Chrome on Mac",
	"08987058cadc4b81b6e130de50dcbe96": "Windows Hello",
	"9ddd1817af5a4672a2b93e3dd95000a9": "Windows Hello",
	"6028b017b1d44c02b4b3afcdafc96bb2": "Windows Hello",
	"bada5566a7aa401fbd9645619a55120d": "1Password",
	"d548826e79b4db40a3d811116f7e8349": "Bitwarden",
}
