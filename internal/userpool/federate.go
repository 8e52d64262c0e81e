package userpool

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file sends browsers to other identity providers and takes them back. What is to be remembered meanwhile travels in a cookie, sealed;
// the state that the provider sends back is the name of the cookie's content. So nothing is stored before somebody has signed in,
// only the browser that began a sign-in can end it, and a state counts once.

// An Excursion is a browser's way to a provider.
type Excursion struct {
	To     string       // the provider
	State  string       // what comes back from there; the cookie goes by it
	Cookie fleet.Secret // what the browser has to bring back
	Posts  bool         // the way back is a form that another site posts: only cookies without SameSite come along
	Life   time.Duration
}

// excursion is the content of the cookie.
type excursion struct {
	State    string
	Client   string
	Provider string
	Query    string // the app's request
	Pending  federation.Pending
	Ends     int64
}

// Bounds of what browsers bring.
const (
	maxExcursion = 3900 // browsers keep cookies of 4096 bytes, with name and attributes
	stateLength  = 22
)

// Us is what providers know of a site.
func (site *Site) Us() federation.Us {
	return federation.Us{Callback: site.URL + "/oauth2/idpresponse", ACS: site.URL + "/saml2/idpresponse", EntityID: "urn:amazon:cognito:sp:" + site.Pool.ID}
}

// ExternalProviders lists the providers that an app may send people to.
func (s *Service) ExternalProviders(ctx context.Context, a *Authorization) (names []string, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		known, err := tx.PoolProviderNames(a.pool.Scope, a.pool.ID)
		names = slices.DeleteFunc(known, func(n string) bool { return !a.client.signsInWith(n) })
		return err
	})
	return names, err
}

// ProviderOfIdentifier returns the name of the provider that idp_identifier means, "" if it means none.
func (s *Service) ProviderOfIdentifier(ctx context.Context, site *Site, identifier string) (name string, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		name, err = tx.PoolProviderName(site.Pool.Scope, site.Pool.ID, identifier)
		return err
	})
	return name, err
}

// Depart begins a sign-in at a provider. query is the app's request, which Return gives back.
func (s *Service) Depart(ctx context.Context, site *Site, a *Authorization, provider, query string, ask federation.Ask) (Excursion, error) {
	i, err := s.departure(ctx, a, provider)
	if err != nil {
		return Excursion{}, err
	}
	x := excursion{State: fleet.RandomString(stateLength, fleet.AlphaAlnum), Client: a.client.ID, Provider: i.Name, Query: query, Ends: s.now().Add(stateLife).UnixMilli()}
	out := Excursion{State: x.State, Posts: i.Posts(), Life: stateLife}
	if out.To, x.Pending, err = s.cfg.Federation.Begin(ctx, i.Provider, site.Us(), x.State, ask); err != nil {
		s.log.WarnContext(ctx, "a sign-in at an identity provider could not begin", "pool", a.pool.ID, "provider", i.Name, "error", err)
		return out, federationError(err)
	}
	text, err := json.Marshal(x)
	if err != nil {
		return out, err
	}
	out.Cookie = fleet.Secret(base64.RawURLEncoding.EncodeToString(s.seal("excursion", text, a.pool.Scope, a.pool.ID)))
	if len(out.Cookie) > maxExcursion {
		return out, invalidRequest("The request is too long to be taken to another identity provider: make state, nonce or redirect_uri shorter.")
	}
	return out, nil
}

// departure returns a provider of a request's pool that the client takes.
func (s *Service) departure(ctx context.Context, a *Authorization, name string) (i *IdentityProvider, err error) {
	if s.cfg.Federation == nil || !a.client.signsInWith(name) {
		return nil, invalidRequest("The client has no identity provider of this name.")
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		i, err = s.readProvider(tx, a.pool, name)
		return err
	})
	return i, asNotFound(err, invalidRequest("The client has no identity provider of this name."))
}

// badReturn is what a browser hears that brings nothing of ours.
func badReturn() *fleet.Error {
	return fail(fleet.KindDenied, "NotAuthorizedException", "This sign-in was begun in another browser, took too long, or is over. Go back to the app and sign in from there.")
}

// A Return is a browser that has come back from a provider.
type Return struct {
	Query string // the app's request, as Depart was given it

	pool *Pool
	x    excursion
}

// Return looks at what a browser brought back: the state, and the cookie that goes by it. Nothing of a provider's answer counts without.
func (s *Service) Return(site *Site, state string, cookie fleet.Secret) (*Return, error) {
	if len(state) != stateLength || cookie == "" || len(cookie) > maxExcursion {
		return nil, badReturn()
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cookie.Reveal())
	if err != nil {
		return nil, badReturn()
	}
	r := &Return{pool: site.Pool}
	plain, err := s.open("excursion", sealed, site.Pool.Scope, site.Pool.ID)
	if err != nil || json.Unmarshal(plain, &r.x) != nil || !secretsEqual(r.x.State, state) || s.now().UnixMilli() >= r.x.Ends {
		return nil, badReturn()
	}
	r.Query = r.x.Query
	return r, nil
}

// Arrive ends a sign-in: it asks the provider about the answer, finds or makes the user, and signs the browser in. The outcome has its
// cookie.
func (s *Service) Arrive(ctx context.Context, site *Site, a *Authorization, r *Return, answer url.Values) (out Outcome, err error) {
	e := a.watch()
	defer func() { s.tellRefused(ctx, e, r.x.Provider, err) }()
	if r.x.Client != a.client.ID || r.pool.ID != a.pool.ID {
		return Outcome{}, badReturn()
	}
	if err := s.check(ctx, s.guesses); err != nil {
		return Outcome{}, err
	}
	i, err := s.departure(ctx, a, r.x.Provider)
	if err != nil {
		return Outcome{}, err
	}
	if err := s.spendState(ctx, a.pool, r.x); err != nil {
		return Outcome{}, err
	}
	identity, err := s.cfg.Federation.Finish(ctx, i.Provider, site.Us(), r.x.Pending, answer)
	if err != nil {
		return Outcome{}, s.notVouched(ctx, a, i, err)
	}
	return s.admit(ctx, e, arrival{provider: i, identity: identity})
}

// spendState makes a state count once, before the provider is asked: of two answers at the same time one is late.
func (s *Service) spendState(ctx context.Context, p *Pool, x excursion) error {
	var first bool
	err := s.tx(ctx, func(tx *store.Tx) (err error) {
		first, err = tx.SpendChallenge(p.Scope, p.ID, "state:"+x.State, time.UnixMilli(x.Ends))
		return err
	})
	if err == nil && !first {
		err = badReturn()
	}
	return err
}

// notVouched words why a provider did not vouch for somebody, and logs what is not for that somebody.
func (s *Service) notVouched(ctx context.Context, a *Authorization, i *IdentityProvider, err error) error {
	var e *federation.Error
	if errors.As(err, &e) && e.Fault == federation.Refused {
		s.wrongGuess(ctx, a.entry)
	}
	s.log.WarnContext(ctx, "an identity provider has not signed somebody in", "pool", a.pool.ID, "provider", i.Name, "error", err)
	return federationError(err)
}
