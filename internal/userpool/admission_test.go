package userpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestLockOutDoublesAndForgets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	wrong := func() error { _, err := w.signIn(app, "ada", "wrong"); return err }
	right := func() error { _, err := w.signIn(app, "ada", good); return err }
	for range 5 {
		wantError(t, wrong(), "NotAuthorizedException", "Incorrect username or password.")
	}
	wantError(t, right(), "NotAuthorizedException", "Password attempts exceeded")
	for n := range 10 { // 1 s after the fifth, doubling
		d := time.Second << n
		w.pass(d - time.Millisecond)
		wantError(t, right(), "NotAuthorizedException", "Password attempts exceeded")
		w.pass(time.Millisecond)
		wantError(t, wrong(), "NotAuthorizedException", "Incorrect username or password.")
	}
	w.pass(15*time.Minute - time.Millisecond)
	wantError(t, right(), "NotAuthorizedException", "Password attempts exceeded")
	w.pass(15 * time.Minute)
	ok(t, right())
	for range 4 { // and success has reset the count
		wantError(t, wrong(), "NotAuthorizedException", "Incorrect username or password.")
	}
	ok(t, right())
	for range 4 {
		wantError(t, wrong(), "NotAuthorizedException", "Incorrect username or password.")
	}
	w.pass(15 * time.Minute)
	for range 4 {
		wantError(t, wrong(), "NotAuthorizedException", "Incorrect username or password.")
	}
	ok(t, right())
}

func TestGuessesAtOnceCountLikeGuessesInTurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	counted := 0
	for range 30 {
		wg.Go(func() {
			_, err := w.signIn(app, "ada", "wrong")
			mu.Lock()
			defer mu.Unlock()
			if err != nil && err.Error() == "Incorrect username or password." {
				counted++
			}
		})
	}
	wg.Wait()
	if counted != 5 {
		t.Errorf("%d guesses were answered, want 5", counted)
	}
}

func TestAnAddressThatGuessesIsHeldBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.FailuresPerMinute = 3 })
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	from := func(ip string) context.Context {
		return fleet.WithCaller(t.Context(), &fleet.Caller{SourceIP: ip})
	}
	try := func(ip, name, password string) error {
		_, err := w.InitiateAuth(from(ip), SignIn{ClientID: app.ID, Flow: "USER_PASSWORD_AUTH", Parameters: secrets("USERNAME", name, "PASSWORD", password)})
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		wantError(t, try("10.0.0.1", name, "x"), "NotAuthorizedException", "Incorrect username or password.")
	}
	wantError(t, try("10.0.0.1", "ada", good), "TooManyRequestsException", "Rate exceeded")
	_, err := w.AdminInitiateAuth(from("10.0.0.1"), scope, p.ID, SignIn{ClientID: app.ID, Flow: "ADMIN_NO_SRP_AUTH", Parameters: secrets("USERNAME", "ada", "PASSWORD", good)})
	ok(t, err) // a program that signs many people in has one address
	ok(t, try("10.0.0.2", "ada", good))
	w.pass(time.Minute)
	ok(t, try("10.0.0.1", "ada", good))
}

func TestTheBudgetOfArithmeticRefusesExplicitly(t *testing.T) {
	t.Parallel()
	var refused []string
	w := newWorld(t, func(c *Config) {
		c.Arithmetic, c.Waiting = 1, 1
		c.OnRefuse = func(budget string) { refused = append(refused, budget) }
	})
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { ok(t, w.compute(t.Context(), func() { close(held); <-hold })) })
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan struct{})
	wg.Go(func() {
		defer close(gone)
		if err := w.compute(ctx, func() {}); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up got %v", err)
		}
	})
	for w.arithmetic.Waiting() == 0 {
		runtime.Gosched()
	}
	err := w.compute(t.Context(), func() {})
	wantError(t, err, "TooManyRequestsException", "Rate exceeded")
	var e *fleet.Error
	if !errors.As(err, &e) || e.RetryAfter <= 0 || len(refused) != 1 || refused[0] != BudgetSignIn {
		t.Errorf("retry after %v, counted %q", e.RetryAfter, refused)
	}
	cancel()
	<-gone
	close(hold)
	wg.Wait()
	ok(t, w.compute(t.Context(), func() {}))
}

func TestWhoeverProvesWhoTheyAreIsKnown(t *testing.T) {
	t.Parallel()
	proofs := 0
	w := newWorld(t, func(c *Config) { c.OnProof = func(context.Context) { proofs++ } })
	p := w.pool(Settings{})
	app := w.client(p, ClientSettings{})
	w.user(p, "ada", nil)
	_, err := w.signIn(app, "ada", "wrong")
	wantError(t, err, "NotAuthorizedException", "Incorrect username or password.")
	if proofs != 0 {
		t.Error("a wrong password is a proof")
	}
	out, err := w.signIn(app, "ada", good)
	ok(t, err)
	_, err = w.VerifyIDToken(t.Context(), scope, p.ID, out.Tokens.ID.Reveal())
	ok(t, err)
	_, err = w.VerifyIDToken(t.Context(), scope, p.ID, out.Tokens.Access.Reveal())
	if proofs != 2 || err == nil {
		t.Errorf("%d proofs, %v", proofs, err)
	}
}

func TestSignUpsOfAllAddressesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SignUpsPerMinute = 1 })
	try := func(n int) error {
		return w.countSignUp(fleet.WithCaller(t.Context(), &fleet.Caller{SourceIP: fmt.Sprintf("10.0.0.%d", n)}))
	}
	for n := range 30 {
		ok(t, try(n))
	}
	wantError(t, try(31), "TooManyRequestsException", "Rate exceeded")
	w.pass(2 * time.Second)
	ok(t, try(31))
}
