// Package iam holds the rules of IAM and STS: users, keys, roles, groups and policies of an account, who a request's key
// belongs to, whether that caller may do something, and temporary credentials (identity spec sections 3 and 4).
//
// Begin with Service. Lookup (session.go) finds the caller behind a key, Authorize (authorize.go) decides, IssueSession
// (session.go) makes temporary credentials after asking a role's trust policy. What is kept of each sort of entity is in
// entity.go; the other files hold the operations on them by subject. Policies are parsed and decided by internal/policy.
package iam

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Sealer keeps secrets at rest and inside session tokens (pki.Sealer).
type Sealer interface {
	Seal(purpose string, plaintext, aad []byte) []byte
	Open(purpose string, sealed, aad []byte) ([]byte, error)
}

// Config says what the rules stand on.
type Config struct {
	Store  *store.DB
	Sealer Sealer
	Tokens TokenVerifier // of AssumeRoleWithWebIdentity; may be set later by SetTokens
	OIDC   *oidc.Verifier
	Clock  fleet.Clock
	Log    *slog.Logger
}

// A Service holds the rules. It is safe for concurrent use.
type Service struct {
	db     *store.DB
	sealer Sealer
	tokens TokenVerifier
	oidc   *oidc.Verifier
	clock  fleet.Clock

	// Whatever is read of users, roles and keys is cached under the generation at which reading began, and every change
	// of IAM and every cut-off begins a new one: a cached value is never older than the last answered change.
	generation atomic.Uint64
	mu         sync.Mutex
	cache      map[string]cached
	documents  map[string]*policy.Document // parsed policies by text
}

type cached struct {
	generation uint64
	value      any
}

// maxCached bounds each cache; a full one starts anew.
const maxCached = 10000

// New makes the rules and follows the store's changes.
func New(c Config) *Service {
	s := &Service{db: c.Store, sealer: c.Sealer, tokens: c.Tokens, oidc: c.OIDC, clock: c.Clock, cache: map[string]cached{}, documents: map[string]*policy.Document{}}
	c.Store.Listen(func(changes []store.Change) {
		for _, ch := range changes {
			if ch.Kind == store.ChangedIAM || ch.Kind == store.ChangedCutoff {
				s.generation.Add(1)
				return
			}
		}
	})
	return s
}

// SetTokens names who verifies web identity tokens. It is called while the server is put together, before the first request.
func (s *Service) SetTokens(t TokenVerifier) { s.tokens = t }

// remember returns the cached value of key or reads it.
func remember[T any](s *Service, key string, read func() (T, error)) (T, error) {
	now := s.generation.Load()
	s.mu.Lock()
	c, ok := s.cache[key]
	s.mu.Unlock()
	if ok && c.generation == now {
		return c.value.(T), nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) >= maxCached {
		clear(s.cache)
	}
	s.cache[key] = cached{now, v}
	return v, nil
}

// parse returns the compiled form of a stored identity or trust policy.
func (s *Service) parse(text string, kind policy.Kind) (*policy.Document, error) {
	key := string(rune('0'+kind)) + text
	s.mu.Lock()
	d := s.documents[key]
	s.mu.Unlock()
	if d != nil {
		return d, nil
	}
	d, err := policy.Parse(text, kind)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.documents) >= maxCached {
		clear(s.documents)
	}
	s.documents[key] = d
	return d, nil
}

// Quotas (identity spec 4).
const (
	maxKeys          = 2
	maxManaged       = 10 // attached to one entity
	maxVersions      = 5
	maxOIDCClients   = 100
	maxThumbprints   = 5
	maxTags          = 50
	defaultSession   = 3600 // seconds
	maxTrustDocument = policy.MaxTrust
)

var pathForm = fleet.NewPattern(`^/([\x21-\x7e]*/)?$`)

func noSuch(format string, args ...any) *fleet.Error {
	e := fleet.Invalid("", "", format, args...).WithCode("NoSuchEntity")
	e.Kind = fleet.KindNotFound
	return e
}

func invalidInput(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", format, args...).WithCode("InvalidInput")
}

func limitExceeded(format string, args ...any) *fleet.Error {
	return fleet.OverLimit("", "", format, args...).WithCode("LimitExceeded")
}

func deleteConflict(format string, args ...any) *fleet.Error {
	return fleet.InUse("", "", format, args...).WithCode("DeleteConflict")
}

// checkDocument parses a policy that somebody wants to store and holds it to its size.
func checkDocument(text string, kind policy.Kind, limit int, what string) error {
	if _, err := policy.Parse(text, kind); err != nil {
		return err
	}
	if policy.Size(text) > limit {
		return limitExceeded("Cannot exceed quota for %s: %d", what, limit)
	}
	return nil
}
