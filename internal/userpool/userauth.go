package userpool

import (
	"context"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is choice-based sign-in (USER_AUTH, identity spec 1.5): somebody gives a name, hears of the ways to go on and takes one. The
// ways themselves are those of other flows: passwordAuth, offerSRP, and passkeychallenge.go.

// First factors of a pool, by AllowedFirstAuthFactors.
const (
	passwordFactor = "PASSWORD"
	passkeyFactor  = "WEB_AUTHN"
)

// Steps of choice-based sign-in, by their challenges.
const (
	chooseStep   = "SELECT_CHALLENGE"
	passwordStep = "PASSWORD"
	srpStep      = "PASSWORD_SRP"
	passkeyStep  = "WEB_AUTHN"
	verifierStep = "PASSWORD_VERIFIER"
)

// checkFirstFactors refuses first factors that there are not. The password is always one: passkeys are lost.
func (s *Settings) checkFirstFactors() error {
	for _, f := range s.FirstFactors {
		if f != passwordFactor && f != passkeyFactor {
			return notOffered("The first factor " + f)
		}
	}
	if len(s.FirstFactors) > 0 && !slices.Contains(s.FirstFactors, passwordFactor) {
		return invalid("AllowedFirstAuthFactors must contain PASSWORD.")
	}
	return nil
}

// AllowedFirstFactors lists what a sign-in may begin with.
func (s *Settings) AllowedFirstFactors() []string {
	if len(s.FirstFactors) == 0 {
		return []string{passwordFactor}
	}
	return s.FirstFactors
}

// ways are how somebody may go on.
type ways struct {
	candidate
	names    []string // challenges
	passkeys []string // ids
	party    string   // relying party of the passkeys
	verified bool     // which must verify their owner
}

// ways finds out how a typed name may go on. Nobody learns who exists: a shadow has passkeys or has none, and keeps to that, and the same is
// asked of the store.
func (s *Service) ways(ctx context.Context, e entry, name string) (w ways, err error) {
	if w.candidate, err = s.candidate(ctx, e, name); err != nil {
		return w, err
	}
	w.names = []string{passwordStep, srpStep}
	if !slices.Contains(e.pool.FirstFactors, passkeyFactor) {
		return w, nil
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		if w.party, err = s.relyingParty(tx, e.pool); err != nil {
			return err
		}
		keys, _, err := tx.Passkeys(e.pool.Scope, e.pool.ID, w.sub, fleet.Page{})
		if err != nil {
			return err
		}
		factor, _, err := e.pool.secondFactor(tx, store.PoolUser{Sub: w.sub})
		both := e.pool.Passkeys.both()
		for _, k := range keys {
			if k.Party == w.party && (factor == "" || both && k.Both) {
				w.passkeys = append(w.passkeys, k.ID)
			}
		}
		if w.user == nil && (factor == "" || both) {
			w.passkeys = w.candidate.passkeys
		}
		w.verified = e.pool.Passkeys.verified() || factor != ""
		return err
	})
	confirmed := w.user == nil || w.user.Status == Confirmed
	if err == nil && w.party != "" && len(w.passkeys) > 0 && confirmed {
		w.names = append(w.names, passkeyStep)
	}
	return w, err
}

// newWay begins a step of a choice-based sign-in.
func (s *Service) newWay(e entry, w ways, name, step string, passkey *passkeyRequest) (fleet.Secret, error) {
	c := challengeSession{Client: e.client.ID, Sub: w.sub, Step: step, PasswordSet: s.now().UnixMilli(), Hosted: e.hosted, Identity: w.identity, Typed: name,
		Passkey: passkey, Nonce: fleet.RandomString(22, fleet.AlphaAlnum)}
	return s.sealSession(e, c)
}

// openWay opens the session of a step, which must be about the name of the answer.
func (s *Service) openWay(e entry, in Answer, name, step string) (c challengeSession, expires time.Time, err error) {
	if err := e.client.checkSecretHash(in.Responses["SECRET_HASH"].Reveal(), name); err != nil {
		return c, expires, err
	}
	if c, expires, err = s.openSession(e, in.Session, step); err != nil {
		return c, expires, err
	}
	if folded := e.pool.fold(name); folded != e.pool.fold(c.Identity) && folded != e.pool.fold(c.Typed) {
		return c, expires, sessionInvalid()
	}
	return c, expires, nil
}

// userAuth begins a choice-based sign-in. A preferred challenge that cannot be had is answered as if none had been preferred.
func (s *Service) userAuth(ctx context.Context, e entry, parameters map[string]fleet.Secret) (Outcome, error) {
	v, err := required(parameters, "USERNAME")
	if err != nil {
		return Outcome{}, err
	}
	name, preferred := v[0], parameters["PREFERRED_CHALLENGE"].Reveal()
	switch preferred {
	case "", passwordStep, srpStep, passkeyStep, "EMAIL_OTP", "SMS_OTP":
	default:
		return Outcome{}, invalid("PREFERRED_CHALLENGE must be one of PASSWORD, PASSWORD_SRP and WEB_AUTHN.")
	}
	if err := e.client.checkSecretHash(parameters["SECRET_HASH"].Reveal(), name); err != nil {
		return Outcome{}, err
	}
	w, err := s.ways(ctx, e, name)
	if err != nil {
		return Outcome{}, err
	}
	if !slices.Contains(w.names, preferred) {
		session, err := s.newWay(e, w, name, chooseStep, nil)
		return Outcome{Challenge: chooseStep, Session: session, Available: w.names, Parameters: map[string]string{}}, err
	}
	o, err := s.goWay(ctx, e, w, name, preferred, parameters)
	if o.Challenge == preferred || o.Challenge == verifierStep {
		o.Available = w.names
	}
	return o, err
}

// goWay goes on in a way that may be taken. What it asks for may have come with the choice.
func (s *Service) goWay(ctx context.Context, e entry, w ways, name, way string, given map[string]fleet.Secret) (o Outcome, err error) {
	switch {
	case way == passkeyStep:
		return s.challengePasskey(e, w, name)
	case way == passwordStep && given["PASSWORD"] != "":
		return s.passwordAuth(ctx, e, given)
	case way == srpStep && given["SRP_A"] != "":
		if o, err = s.offerSRP(ctx, e, given); err == nil {
			o.Session, err = s.newWay(e, w, name, verifierStep, nil)
		}
		return o, err
	}
	o = Outcome{Challenge: way, Parameters: map[string]string{}}
	o.Session, err = s.newWay(e, w, name, way, nil)
	return o, err
}

// choose answers SELECT_CHALLENGE. An assertion may come as an answer to it as well, with the session of WEB_AUTHN.
func (s *Service) choose(ctx context.Context, e entry, in Answer) (Outcome, error) {
	v, err := required(in.Responses, "USERNAME", "ANSWER")
	if err != nil {
		return Outcome{}, err
	}
	name, way := v[0], v[1]
	if way == passkeyStep && in.Responses["CREDENTIAL"] != "" {
		return s.answerPasskey(ctx, e, in)
	}
	if _, _, err := s.openWay(e, in, name, chooseStep); err != nil {
		return Outcome{}, err
	}
	w, err := s.ways(ctx, e, name)
	if err != nil {
		return Outcome{}, err
	}
	if !slices.Contains(w.names, way) {
		return Outcome{}, invalid("ANSWER must be one of the available challenges.")
	}
	return s.goWay(ctx, e, w, name, way, in.Responses)
}

// answerWay answers PASSWORD and PASSWORD_SRP. Their sessions prove nothing and may be used again: the password is what counts, and is counted.
func (s *Service) answerWay(ctx context.Context, e entry, in Answer) (Outcome, error) {
	needs := map[string]string{passwordStep: "PASSWORD", srpStep: "SRP_A"}[in.Challenge]
	v, err := required(in.Responses, "USERNAME", needs)
	if err != nil {
		return Outcome{}, err
	}
	if _, _, err := s.openWay(e, in, v[0], in.Challenge); err != nil {
		return Outcome{}, err
	}
	w, err := s.ways(ctx, e, v[0])
	if err != nil {
		return Outcome{}, err
	}
	return s.goWay(ctx, e, w, v[0], in.Challenge, in.Responses)
}
