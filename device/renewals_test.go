package device

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// A field is a device in the field: provisioned with a broker, with a clock that passes only while the device waits.
type field struct {
	*fakecloud.Broker
	t     *testing.T
	cloud *fakecloud.Cloud
	store *Store

	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
	ends   time.Time     // when the device is stopped
	taken  chan struct{} // is closed when a new identity's connection is in use; until then no time passes. nil: none is awaited

	heard []string // what Run told, in order
	stop  context.CancelFunc
}

func newField(t *testing.T, change func(*fakecloud.Cloud)) *field {
	t.Helper()
	t.Parallel()
	f := &field{t: t, now: epoch, ends: epoch.Add(59 * day)}
	f.cloud = fakecloud.New(t, epoch)
	f.cloud.Now, f.cloud.Life = f.clock, 60*day
	if change != nil {
		change(f.cloud)
	}
	f.Broker = fakecloud.NewBroker(t, f.cloud)
	cfg := configFor(t, f.Broker, newClaim(t, f.cloud))
	if _, err := Provision(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.store, err = OpenStore(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *field) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *field) set(t time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = t
}

// wait lets the time pass at once.
func (f *field) wait(ctx context.Context, d time.Duration) (ended bool) {
	f.mu.Lock()
	taken := f.taken
	f.mu.Unlock()
	if taken != nil {
		select {
		case <-taken:
		case <-ctx.Done():
			return true
		}
	}
	if ctx.Err() != nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now, f.waited = f.now.Add(d), append(f.waited, d)
	if f.now.After(f.ends) {
		f.stop()
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

func (f *field) tell(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, s)
	switch {
	case s == "renewed":
		f.taken = make(chan struct{})
	case strings.HasPrefix(s, "connected") && f.taken != nil:
		close(f.taken)
		f.taken = nil
	}
}

func (f *field) identity() *Identity {
	f.t.Helper()
	id, err := f.store.Identity()
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// run has the device run until it has been told want, or its time has ended. prove may be nil.
func (f *field) run(want string, prove func(context.Context, *Conn) error) []string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Minute)
	defer cancel()
	f.stop, f.heard, f.waited = cancel, nil, nil
	names := map[string]string{f.identity().CertificateID: "old"}
	tell := func(what string, err error) {
		if err != nil {
			what += " " + asError(err).Code
		}
		if what == want {
			cancel() // before the time goes on, which it may do by months in a moment
		}
		f.tell(what)
	}
	name := func(id *Identity) string {
		if n := names[id.CertificateID]; n != "" {
			return n
		}
		return "new"
	}
	err := Run(ctx, f.store.Identity, RunConfig{Options: Options{Now: f.clock}, sleep: f.wait,
		Connected: func(ctx context.Context, c *Conn) error {
			tell("connected "+name(c.Identity()), nil)
			<-ctx.Done()
			return nil
		},
		Lost: func(err error, _ time.Duration) { tell("lost", err) },
		Renewal: &Renewal{Store: f.store, Prove: prove,
			Renewed: func(id *Identity) { tell("renewed", nil) },
			Failed:  func(err error, _ time.Duration) { tell("failed", err) }}})
	if err != nil || f.t.Context().Err() != nil {
		f.t.Errorf("Run: %v", err)
	}
	return f.heard
}

func TestARunningDeviceRenewsItself(t *testing.T) {
	f := newField(t, nil)
	old := f.identity()
	proven := 0
	heard := f.run("connected new", func(ctx context.Context, c *Conn) error {
		proven++
		return c.Subscribe(ctx, "own/topic", 1)
	})
	if want := []string{"connected old", "renewed", "connected new"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %q, want %q", heard, want)
	}
	id, at := f.identity(), f.clock().Sub(epoch)
	if proven != 1 || id.Generation != 2 || !slices.Equal(f.cloud.Active(), []string{id.CertificateID}) {
		t.Errorf("proven %d times, generation %d, %d certificates work", proven, id.Generation, len(f.cloud.Active()))
	}
	if s := old.Renewal(epoch); at < s.From.Sub(epoch) || at > s.From.Add(2*s.spread).Sub(epoch) {
		t.Errorf("renewed after %v", at)
	}
	for _, d := range f.waited {
		if d > lookAgain {
			t.Errorf("waited %v without looking at the clock", d)
		}
	}
	if codes := slices.Index(f.Events(), "read Publish $aws/certificates/create-from-csr/json"); codes < 0 {
		t.Errorf("events %q", f.Events())
	}
}

// The new certificate connects, but may not do what the device needs.
func TestADeviceGoesOnWithItsOldCertificateWhenTheNewOneIsRefused(t *testing.T) {
	f := newField(t, nil)
	f.cloud.TakeOver = true
	f.ends = epoch.Add(100 * day)
	failures := 0
	heard := f.run("connected new", func(ctx context.Context, c *Conn) error {
		if failures++; failures <= 2*fewAttempts {
			f.cloud.SetActive(f.identity().CertificateID, true) // its overlap has not passed
			return identityRefused(CodeNotAuthorized, errors.New("the policy says no"))
		}
		return nil
	})
	want := []string{"connected old", "failed NotAuthorized", "connected old", "failed NotAuthorized", "renewed", "connected new"}
	want2 := []string{"connected old", "failed NotAuthorized", "connected old", "failed NotAuthorized", "connected old", "renewed", "connected new"}
	if !slices.Equal(heard, want) && !slices.Equal(heard, want2) {
		t.Fatalf("heard %q, want %q", heard, want)
	}
	if all, _ := f.cloud.IssuedTo(f.identity().CertificateID); all != 0 || f.identity().Generation != 2 {
		t.Errorf("generation %d", f.identity().Generation)
	}
}

// Many policies do not allow renewal. The device says so, ever less often, and goes on.
func TestADeviceThatMayNotRenewGoesOn(t *testing.T) {
	f := newField(t, nil)
	f.SetFault(func(_ int, event string) fakecloud.Fault {
		if strings.HasPrefix(event, "read Publish $aws/") {
			return fakecloud.Deny
		}
		return fakecloud.Obey
	})
	heard := f.run("", nil)
	failed := 0
	for _, h := range heard {
		switch {
		case strings.HasPrefix(h, "failed "):
			failed++
		case strings.HasPrefix(h, "renewed"), strings.HasPrefix(h, "connected new"):
			t.Errorf("heard %q", h)
		}
	}
	// From the window to the end of its time it is nearly three weeks: at six hours at most between attempts.
	if failed < 20 || failed > 300 || f.identity().Generation != 1 {
		t.Errorf("%d attempts, generation %d: %.300q", failed, f.identity().Generation, heard)
	}
}

func TestADeviceThatWasOffTooLongRenewsWithinTheGrace(t *testing.T) {
	f := newField(t, func(c *fakecloud.Cloud) { c.Grace = 10 * day })
	f.set(epoch.Add(65 * day))
	f.ends = epoch.Add(100 * day)
	heard := f.run("connected new", nil)
	if want := []string{"renewed", "connected new"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %q, want %q", heard, want)
	}
}

func TestADeviceThatWasOffForGoodSaysThatItIsRefused(t *testing.T) {
	f := newField(t, func(c *fakecloud.Cloud) { c.Grace = 10 * day })
	f.set(epoch.Add(80 * day))
	f.ends = epoch.Add(100 * day)
	heard := f.run("lost IdentityRefused", nil)
	if want := []string{"failed IdentityRefused", "lost IdentityRefused"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %q, want %q", heard, want)
	}
}

// A device whose power went between registration and proof puts the new certificate to the proof first.
func TestADeviceTakesUpARenewalAtItsStart(t *testing.T) {
	f := newField(t, nil)
	f.set(epoch.Add(50 * day))
	n, err := beginRenewal(Config{Now: f.clock, store: f.store})
	if err == nil {
		err = n.obtain(t.Context())
		n.unlock()
	}
	if err != nil {
		t.Fatal(err)
	}
	heard := f.run("connected new", nil)
	if want := []string{"renewed", "connected new"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %q, want %q", heard, want)
	}
	if id := f.identity(); id.CertificateID != n.j.ID {
		t.Error("another certificate")
	}
}

func TestRenewByHand(t *testing.T) {
	f := newField(t, nil)
	old := f.identity()
	r, err := Renew(t.Context(), RenewConfig{Dir: f.store.dir, Options: Options{Now: f.clock}, Prove: func(ctx context.Context, c *Conn) error {
		return c.Subscribe(ctx, "own", 1)
	}})
	if err != nil || r.CertificateID == old.CertificateID || r.ThingName != fakecloud.Thing || r.Generation != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = Renew(t.Context(), RenewConfig{Dir: f.store.dir, Options: Options{Now: f.clock}, Parameters: map[string]string{}})
	if KindOf(err) != KindRejected || f.identity().CertificateID != r.CertificateID {
		t.Errorf("with other parameters: %v", err)
	}
	if _, err := Renew(t.Context(), RenewConfig{Dir: t.TempDir() + "/none"}); KindOf(err) != KindNotProvisioned {
		t.Errorf("without an identity: %v", err)
	}
}

func TestADeviceThatCannotReadItsStoreDoesNotHurry(t *testing.T) {
	t.Parallel()
	s, id, now := aging(t, false)
	var failed error
	r := &renewals{Renewal: Renewal{Store: s.store(), Failed: func(err error, _ time.Duration) { failed = err }},
		options: Options{Now: func() time.Time { return now }}.complete()}
	now = id.pair.Leaf.NotAfter.Add(-day) // it is high time
	_, _, store, err := s.disk.find("/store")
	if err != nil {
		t.Fatal(err)
	}
	store.mode = fs.ModeDir | 0o755
	if wait := r.plan(id).Sub(now); wait > 0 {
		t.Fatalf("it is not due for %v", wait)
	}
	if n := r.obtain(t.Context(), nil, id); n != nil {
		t.Fatal("a renewal has begun")
	}
	if wait := r.plan(id).Sub(now); wait <= 0 || asError(failed).Code != CodePermissions {
		t.Errorf("the next attempt comes in %v; told was: %v", wait, failed)
	}
}
