package userpool

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A RefusedSignIn is a step of a sign-in that was refused, for the record of whoever looks after people. It holds nothing that somebody
// typed: people type passwords into the wrong field.
type RefusedSignIn struct {
	Scope        fleet.Scope // zero, as the next two: no such client is known
	Pool, Client string
	User         string // username; empty: nobody whom the pool knows
	Step         string // flow or challenge; at a provider, its name
	Pages        bool   // at the pages of hosted sign-in
	Err          error
}

// watch makes the entry of a sign-in note whose it is, as soon as it meets the user: to look for the user once more would cost work that
// an unknown one does not, and so tell who exists.
func (e entry) watch() entry {
	e.whom = new(string)
	return e
}

// meets notes the user of a sign-in; nil: nobody.
func (e entry) meets(u *store.PoolUser) {
	if e.whom != nil && u != nil && u.Username != "" {
		*e.whom = u.Username
	}
}

// tellRefused tells OnSignInRefused of a step of a watched sign-in that has failed.
func (s *Service) tellRefused(ctx context.Context, e entry, step string, err error) {
	if err == nil || s.cfg.OnSignInRefused == nil {
		return
	}
	r := RefusedSignIn{Step: step, Pages: e.hosted, Err: err}
	if e.pool != nil {
		r.Scope, r.Pool, r.Client, r.User = e.pool.Scope, e.pool.ID, e.client.ID, *e.whom
	}
	s.cfg.OnSignInRefused(ctx, r)
}
