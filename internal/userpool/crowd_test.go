package userpool

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// crowd adds n users by the rules of a pool, all with the same salt and password: deriving a verifier for each would take most of the time.
func (w *world) crowd(p *Pool, n int) {
	w.t.Helper()
	const chunk = 200 // users in a transaction
	salt := newSalt()
	verifier := srpVerifier(p.key(), "crowd", good, salt).Bytes()
	for from := 0; from < n; from += chunk {
		ok(w.t, w.db.Tx(context.Background(), func(tx *store.Tx) error {
			for i := from; i < min(from+chunk, n); i++ {
				u, err := p.newIdentity(fmt.Sprintf("crowd-%07d", i), map[string]string{"email": fmt.Sprintf("%07d@example.com", i), "email_verified": "true"}, w.clock())
				if err != nil {
					return err
				}
				u.Status = Confirmed
				setPassword(&u, password{salt: salt, verifier: w.seal("verifier", verifier, p.Scope, p.ID, u.Sub)}, w.clock())
				if err := p.insert(tx, u, "taken"); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// work is what something takes: statements, and microseconds of this process's CPU time.
type work struct {
	statements int64
	micros     float64
}

func (w *world) workOf(times int, f func()) work {
	cpu := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	f() // the first one compiles statements
	asked, begin := w.statements.Load(), cpu()
	for range times {
		f()
	}
	return work{(w.statements.Load() - asked) / int64(times), float64((cpu() - begin).Microseconds()) / float64(times)}
}

// TestSignInsAmongManyUsersAreNoMoreWork: neither is looking for somebody, by name, by e-mail address as an alias, or by a filter.
func TestSignInsAmongManyUsersAreNoMoreWork(t *testing.T) {
	t.Parallel()
	amongUsers(t, 2000, 3, nil)
}

// TestSoakSignInsAmongAMillionUsers says the same of a million, and compares CPU time.
func TestSoakSignInsAmongAMillionUsers(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	amongUsers(t, 1_000_000, 200, map[string]float64{"sign-in by SRP": 1.2, "sign-in by alias": 1.2, "sign-in of nobody": 1.2,
		"looking for a user": 2, "filter by e-mail": 2, "filter by beginning": 2})
}

// amongUsers compares the work of things in a pool of a few users with that in a pool of many in the same store. limits are of the
// ratio of CPU time, by name.
func amongUsers(t *testing.T, users, times int, limits map[string]float64) {
	ctx := context.Background()
	// Bodies that run once bring a million users in twice as fast.
	w := newWorldOn(t, store.Config{MostRows: 1000}, func(c *Config) { c.FailuresPerMinute = -1 })
	settings := Settings{AliasAttributes: []string{"email"}}
	list := func(p *Pool, filter string, want int) {
		found, _, err := w.Users(ctx, scope, p.ID, filter, nil, "", 10)
		ok(t, err)
		if len(found) != want {
			t.Fatalf("%s finds %d users, want %d", filter, len(found), want)
		}
	}
	things := []struct {
		name string
		do   func(p *Pool, app *Client)
	}{
		{"sign-in by SRP", func(_ *Pool, app *Client) { must(w.srp(app, known, good))(t) }},
		{"sign-in by alias", func(_ *Pool, app *Client) { must(w.signIn(app, "a@example.com", good))(t) }},
		{"sign-in of nobody", func(_ *Pool, app *Client) {
			_, err := w.signIn(app, unknown, good)
			wantError(t, err, "NotAuthorizedException", "")
			w.pass(longestLock)
		}},
		{"looking for a user", func(p *Pool, _ *Client) { must(w.User(ctx, scope, p.ID, known))(t) }},
		{"filter by e-mail", func(p *Pool, _ *Client) { list(p, `email = "a@example.com"`, 1) }},
		{"filter by beginning", func(p *Pool, _ *Client) { list(p, `email ^= "000001"`, 10) }},
	}
	var pools [2]*Pool
	var apps [2]*Client
	for i, n := range []int{20, users} {
		pools[i] = w.pool(settings)
		apps[i] = w.client(pools[i], ClientSettings{})
		w.user(pools[i], known, map[string]string{"email": "a@example.com", "email_verified": "true"})
		begin := time.Now()
		w.crowd(pools[i], n)
		if limits != nil {
			t.Logf("%d users in %.0f s", n, time.Since(begin).Seconds())
		}
	}
	for _, thing := range things {
		var measured [2][]work
		for range 5 { // in turns: whatever else the machine does meets both
			for i := range pools {
				measured[i] = append(measured[i], w.workOf(max(times/5, 1), func() { thing.do(pools[i], apps[i]) }))
			}
		}
		few, many := middle(measured[0]), middle(measured[1])
		ratio := many.micros / few.micros
		if limits != nil {
			t.Logf("%s: %d statements and %.0f µs among 20 users, %d and %.0f among %d; ratio %.2f", thing.name, few.statements, few.micros,
				many.statements, many.micros, users, ratio)
		}
		if few.statements != many.statements {
			t.Errorf("%s: %d statements among 20 users, %d among %d", thing.name, few.statements, many.statements, users)
		}
		if limit := limits[thing.name]; limit > 0 && ratio > limit {
			t.Errorf("%s: CPU time is %.2f of that among few users, want at most %.1f", thing.name, ratio, limit)
		}
	}
}

// middle is the median of the CPU times, with the statements of the first.
func middle(all []work) work {
	var micros []float64
	for _, one := range all {
		micros = append(micros, one.micros)
	}
	return work{all[0].statements, median(micros)}
}
