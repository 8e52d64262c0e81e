// Package userpool holds the rules of user pools: who the installers are, how they prove it, and which tokens they get
// (identity spec section 1). It answers as Amazon Cognito does, down to the texts of its errors.
//
// Begin with Service. InitiateAuth and Respond (signin.go, challenge.go) are the way in for people; srp.go is the arithmetic
// below them, tokens.go what comes out; mfa.go and tokenchallenge.go are the second factor, totp.go its codes; userauth.go is sign-in by
// choice, passkeychallenge.go that with a passkey, passkeys.go how people come by one. pools.go, clients.go, users.go and groups.go
// are for administrators, signup.go and self.go for people who manage their own account.
// authorize.go and oauthtoken.go are OAuth 2.0 behind the pages of package hosted, domains.go says where those are, browser.go who is
// signed in there. imports.go makes many users of a file.
//
// Every decision that an attacker could hurry past (lock-out, single use, revocation) is made inside the transaction that
// records it. Work that costs milliseconds (modular powers, signatures) is done outside of transactions.
package userpool

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Sealer encrypts what must be recoverable: verifiers, client secrets, signing keys, codes. purpose and aad are bound to the
// result. It may be called concurrently.
type Sealer interface {
	Seal(purpose string, plaintext, aad []byte) []byte
	Open(purpose string, sealed, aad []byte) ([]byte, error)
}

// A KeySource makes RSA-2048 keys.
type KeySource interface {
	Take(ctx context.Context) (*rsa.PrivateKey, error)
}

// A RolePasser decides whether a caller may hand a role to a service. A refusal is a *fleet.Error of kind fleet.KindDenied.
type RolePasser interface {
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
}

// Config is what a Service needs. Fields marked optional have sensible zero values.
type Config struct {
	Store    *store.DB
	Sealer   Sealer
	Keys     KeySource
	Roles    RolePasser
	Delivery delivery.Sender

	// Federation asks other identity providers; nil: pools have none.
	Federation *federation.Service

	// Issuer is the public origin, for example https://iot.lan:8443, without a final slash. The issuer of a pool's tokens is
	// Issuer + "/" + pool id.
	Issuer string
	// OwnName, if set, reports whether a host name is the server's own, beside that of Issuer: no pool gets it.
	OwnName func(host string) bool

	Clock fleet.Clock  // optional
	Log   *slog.Logger // optional

	// TimestampSkew is how far the clock of whoever signs in by SRP may be off; 0: five minutes.
	TimestampSkew time.Duration
	// Trusted are networks whose addresses are not counted.
	Trusted []netip.Prefix
	// OnRefuse, if set, hears of each refusal because a budget is used up, by the name of the budget. OnProof hears of each request
	// whose caller has proven who they are: by password, by a refresh token or by a token of ours.
	OnRefuse func(budget string)
	OnProof  func(ctx context.Context)
	// Functions calls the functions of triggers; nil: every trigger fails. OnTrigger, if set, hears of each call: PreSignUp, …, and answered,
	// refused (the function raised an error), unreadable or failed.
	Functions FunctionCaller
	OnTrigger func(trigger, outcome string, took time.Duration)
	// OnMessage, if set, hears of each attempt to send a message: EMAIL or SMS, and sent, failed (it may be tried again) or refused.
	OnMessage func(medium, outcome string)
	// OnSignInRefused, if set, hears of each step of a sign-in that was refused, by the API or at the pages. GetTokensFromRefreshToken is
	// none.
	OnSignInRefused func(ctx context.Context, r RefusedSignIn)
	// FailuresPerMinute bounds failed sign-ins and guessed codes per source address; 0: 20, negative: no bound. A factory whose
	// people sit behind one address stays far below it: successes do not count.
	FailuresPerMinute int
	// SignUpsPerMinute bounds new accounts and codes asked for per source address; 0: 20, negative: no bound. All addresses together
	// have thirty times as much.
	SignUpsPerMinute int
	// Arithmetic bounds the sign-ins whose modular powers are computed at the same time, about 2.5 ms each, so that a flood of
	// them leaves processor time for devices; 0: half of the processors, at least one. Waiting bounds those that queue behind them;
	// 0: 256. They wait in turn by address; more are refused with TooManyRequestsException.
	Arithmetic, Waiting int
}

// A Service is all user pools of an installation. It is safe for concurrent use.
type Service struct {
	cfg        Config
	log        *slog.Logger
	arithmetic *admission.Queue
	guesses    tally // failed sign-ins and codes per source address
	signUps    tally

	background sync.WaitGroup
	inFlight   chan struct{}

	keysMu sync.Mutex
	keys   map[string]heldKeys // by pool id

	started chan struct{} // a user import job was started
	uploads chan struct{} // files of such jobs that arrive

	keysSeen int // changes of pools so far: keys that were read before one are not kept
}

// New checks cfg and returns a service. Call Close when it is done.
func New(cfg Config) (*Service, error) {
	for name, absent := range map[string]bool{"Store": cfg.Store == nil, "Sealer": cfg.Sealer == nil, "Keys": cfg.Keys == nil,
		"Roles": cfg.Roles == nil, "Delivery": cfg.Delivery == nil} {
		if absent {
			return nil, errors.New("userpool: Config." + name + " is missing")
		}
	}
	if !strings.HasPrefix(cfg.Issuer, "http") || strings.HasSuffix(cfg.Issuer, "/") {
		return nil, fmt.Errorf("userpool: Config.Issuer %q must be an origin such as https://iot.lan:8443, without a final slash", cfg.Issuer)
	}
	if cfg.TimestampSkew == 0 {
		cfg.TimestampSkew = 5 * time.Minute
	}
	if cfg.FailuresPerMinute == 0 {
		cfg.FailuresPerMinute = 20
	}
	if cfg.SignUpsPerMinute == 0 {
		cfg.SignUpsPerMinute = 20
	}
	if cfg.Arithmetic <= 0 {
		cfg.Arithmetic = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if cfg.Waiting <= 0 {
		cfg.Waiting = 256
	}
	s := &Service{cfg: cfg, log: cfg.Log, inFlight: make(chan struct{}, 64), started: make(chan struct{}, 1), uploads: make(chan struct{}, maxUploads), keys: map[string]heldKeys{},
		arithmetic: newArithmetic(cfg)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.guesses = newTally(BudgetGuesses, cfg.FailuresPerMinute, admission.Rate{}, cfg)
	all := float64(30 * cfg.SignUpsPerMinute)
	s.signUps = newTally(BudgetSignUps, cfg.SignUpsPerMinute, admission.Rate{PerSecond: all / 60, Burst: all}, cfg)
	cfg.Store.Listen(s.changed)
	return s, nil
}

// Close waits for messages that are still being sent.
func (s *Service) Close() { s.background.Wait() }

// changed forgets the keys of pools that were rotated or deleted.
func (s *Service) changed(changes []store.Change) {
	for _, c := range changes {
		if c.Kind == store.ChangedUserPool {
			s.keysMu.Lock()
			delete(s.keys, c.Key)
			s.keysSeen++
			s.keysMu.Unlock()
		}
	}
}

// now is the time in the milliseconds that the store keeps, so that what is read back compares equal.
func (s *Service) now() time.Time { return s.cfg.Clock.Now().Truncate(time.Millisecond) }

// Issuer returns the iss of a pool's tokens.
func (s *Service) Issuer(poolID string) string { return s.cfg.Issuer + "/" + poolID }

func (s *Service) tx(ctx context.Context, body func(*store.Tx) error) error {
	return s.cfg.Store.Tx(ctx, body)
}
func (s *Service) view(ctx context.Context, body func(*store.Tx) error) error {
	return s.cfg.Store.View(ctx, body)
}

// seal and open bind what is sealed to its place, so that no row can be passed off as another.
func (s *Service) seal(purpose string, plaintext []byte, scope fleet.Scope, place ...string) []byte {
	return s.cfg.Sealer.Seal("userpool/"+purpose, plaintext, placeOf(scope, place))
}

func (s *Service) open(purpose string, sealed []byte, scope fleet.Scope, place ...string) ([]byte, error) {
	b, err := s.cfg.Sealer.Open("userpool/"+purpose, sealed, placeOf(scope, place))
	if err != nil {
		return nil, fmt.Errorf("opening the %s of %s: %w", purpose, strings.Join(place, "/"), err)
	}
	return b, nil
}

func placeOf(scope fleet.Scope, place []string) []byte {
	return []byte(scope.String() + "\x00" + strings.Join(place, "\x00"))
}

// Sweep removes what has expired and finishes deletions of pools that were cut short. Call it every few minutes; it works in
// small transactions.
func (s *Service) Sweep(ctx context.Context) error {
	for more := true; more; {
		if err := s.tx(ctx, func(tx *store.Tx) (err error) {
			// A day later than needed: whoever comes with something expired is told so.
			more, err = tx.SweepUserPools(s.now().Add(-24*time.Hour), 100)
			return err
		}); err != nil {
			return err
		}
	}
	if err := s.sweepImports(ctx); err != nil {
		return err
	}
	var closed []store.UserPool
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		closed, err = tx.ClosedUserPools()
		return err
	}); err != nil {
		return err
	}
	for _, p := range closed {
		if err := s.drain(ctx, p.Scope, p.ID); err != nil {
			return err
		}
	}
	return nil
}

// pool, client and their callers below read what nearly every operation begins with.
func readPool(tx *store.Tx, scope fleet.Scope, id string) (*Pool, error) {
	row, err := tx.UserPool(scope, id)
	if err != nil {
		return nil, asNotFound(err, poolNotFound(id))
	}
	return poolOf(row)
}

// findClient returns a client and its pool by the client's id alone, as unsigned requests name it.
func (s *Service) findClient(tx *store.Tx, id string) (*Client, *Pool, error) {
	row, err := tx.FindUserPoolClient(id)
	if err != nil {
		return nil, nil, asNotFound(err, clientNotFound(id))
	}
	c, err := s.clientOf(row)
	if err != nil {
		return nil, nil, err
	}
	p, err := readPool(tx, c.Scope, c.PoolID)
	if err != nil {
		return nil, nil, asNotFound(err, clientNotFound(id))
	}
	return c, p, nil
}
