package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// A world is a story in which the power goes once.
type world struct {
	name       string
	serverKeys bool
	rotation   bool // the device has an identity already
	claimDies  bool // while the power is off
}

var worlds = []world{
	{name: "first identity"},
	{name: "first identity, the claim dies", claimDies: true},
	{name: "rotation", rotation: true},
	{name: "rotation, the claim dies", rotation: true, claimDies: true},
	{name: "keys made by the service", serverKeys: true},
	{name: "keys made by the service, the claim dies", serverKeys: true, claimDies: true},
}

// A story is one playing of a world.
type story struct {
	world
	t      testing.TB
	disk   *disk
	cloud  *fakecloud.Cloud
	claim  *Claim
	oldKey string
}

func (s *story) store() *Store { return &Store{dir: "/store", fs: s.disk} }

func (s *story) config(claim *Claim, now time.Time) Config {
	cfg := Config{Claim: claim, service: inMemory{s.cloud}, store: s.store(), Now: func() time.Time { return now },
		sleep: func(context.Context, time.Duration) bool { return false }}
	if claim != nil { // whoever resumes without a claim knows nothing of the rest either
		cfg.Endpoint, cfg.Template, cfg.Parameters, cfg.ServerKeys = "iot.example", fakecloud.Template, fakecloud.Parameters, s.serverKeys
	}
	return cfg
}

// provision runs Provision; cut tells whether the power went.
func (s *story) provision(claim *Claim, now time.Time) (r *Result, cut bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(powerCut); !ok {
				panic(p)
			}
			cut = true
		}
	}()
	r, err = Provision(s.t.Context(), s.config(claim, now))
	return r, false, err
}

// play tells the story: the power goes at c, taking l with it, and sync number deaf is never done. over means that c lies behind
// the end. The error is what should not have happened.
func (w world) play(t testing.TB, c cut, l loss, deaf int) (over bool, syncs []syncOp, err error) {
	s := &story{world: w, t: t, disk: newDisk(), cloud: fakecloud.New(t, epoch)}
	if w.rotation {
		if _, _, err := s.provision(newClaim(t, s.cloud), epoch); err != nil {
			return false, nil, fmt.Errorf("making the old identity: %w", err)
		}
		s.disk.crash(loseNothing)
		for path, content := range s.disk.contents() {
			if strings.HasSuffix(path, fileKey) {
				s.oldKey = content
			}
		}
		s.cloud.TakeOver = true
	}
	s.claim = newClaim(t, s.cloud)
	s.disk.cutAt, s.disk.deafTo = c, deaf
	_, wasCut, err := s.provision(s.claim, epoch)
	if !wasCut && err != nil {
		return false, nil, fmt.Errorf("without a cut: %w", err)
	}
	for _, op := range s.disk.syncs {
		syncs = append(syncs, syncOp{op, s.disk.ops[op]})
	}
	s.disk.crash(l)
	return !wasCut, syncs, s.afterwards(!wasCut)
}

// A syncOp is a sync, by the number of its operation.
type syncOp struct {
	op    int
	label string
}

// afterwards checks what the cut left, resumes, and checks the end.
func (s *story) afterwards(finished bool) error {
	id, err := s.store().Identity()
	switch {
	case err != nil && (finished || s.rotation):
		return fmt.Errorf("after the cut there is no identity: %w", err)
	case err == nil && !s.cloud.Accepts(id.CertificateID):
		return errors.New("after the cut the identity in use does not work")
	case finished:
		if err := s.success(id); err != nil {
			return err
		}
	}
	all, active := s.cloud.IssuedTo(s.claim.ID())
	confirmed := s.cloud.Connected(s.claim.ID())
	if s.claimDies {
		return s.resumeWithoutClaim(active > 0, confirmed)
	}
	r, _, err := s.provision(nil, epoch.Add(time.Minute))
	nothing := err != nil && (KindOf(err) == KindClaim || KindOf(err) == KindUsage) || err == nil && r.ClaimID != s.claim.ID()
	if nothing {
		if all > 0 {
			return fmt.Errorf("the service was asked before the claim was stored (%w)", err)
		}
		r, _, err = s.provision(s.claim, epoch.Add(time.Minute))
	}
	if err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	return s.end(r, s.claim)
}

// success checks what must be true as soon as success was told, whatever happens next.
func (s *story) success(id *Identity) error {
	link, _ := s.disk.Readlink("/store/current")
	switch {
	case id.ClaimID != s.claim.ID():
		return errors.New("success was told, but after the cut it is undone")
	case link != id.slot:
		return fmt.Errorf("success was told, but after the cut the link points to %q", link)
	case s.disk.residue(jsonKey(s.claim)) || s.oldKey != "" && s.disk.residue(s.oldKey):
		return errors.New("success was told, but a key that was to be erased is on the disk")
	}
	return nil
}

// jsonKey is how the key of a claim stands in the store.
func jsonKey(c *Claim) string { return strings.ReplaceAll(string(c.keyPEM), "\n", `\n`) }

// resumeWithoutClaim: the claim has expired. What was registered must be found again; else a new claim must do.
func (s *story) resumeWithoutClaim(wasRegistered, wasConfirmed bool) error {
	s.cloud.Kill(s.claim.ID())
	now := epoch.Add(10 * time.Minute)
	r, _, err := s.provision(nil, now)
	if wasRegistered {
		switch {
		case err != nil:
			return fmt.Errorf("resuming without a claim what had been registered: %w", err)
		case r.ClaimID != s.claim.ID():
			return errors.New("what had been registered was forgotten")
		case r.AnswerLost && wasConfirmed:
			return errors.New("connected before the answer was stored")
		case r.AnswerLost:
			return s.clean(r, s.claim)
		}
		return s.end(r, s.claim)
	}
	if err == nil && (!s.rotation || r.ClaimID == s.claim.ID()) || err != nil && KindOf(err) != KindClaim && KindOf(err) != KindUsage {
		return fmt.Errorf("resuming with an expired claim: %v", err)
	}
	fresh := newClaim(s.t, s.cloud)
	if r, _, err = s.provision(fresh, now); err != nil {
		return fmt.Errorf("with a new claim: %w", err)
	}
	return s.end(r, fresh)
}

// end checks that there is exactly one identity and one thing, the right ones.
func (s *story) end(r *Result, claim *Claim) error {
	all, active := s.cloud.IssuedTo(claim.ID())
	switch {
	case active != 1 || all != 1 && !s.serverKeys:
		return fmt.Errorf("the service issued %d certificates, %d of them registered", all, active)
	case len(s.cloud.Things()) != 1 || s.cloud.Things()[fakecloud.Thing] != r.CertificateID:
		return fmt.Errorf("the service has %d things, and the device another certificate than its thing", len(s.cloud.Things()))
	case r.ThingName != fakecloud.Thing || fmt.Sprint(r.Configuration) != fmt.Sprint(fakecloud.Configuration):
		return fmt.Errorf("thing %q, configuration %v", r.ThingName, r.Configuration)
	}
	again, _, err := s.provision(claim, epoch.Add(2*time.Minute))
	if err != nil || !again.Already || again.CertificateID != r.CertificateID {
		return fmt.Errorf("calling again: %+v, %v", again, err)
	}
	return s.clean(r, claim)
}

// clean checks that nothing is left lying about, now and after another cut.
func (s *story) clean(r *Result, claim *Claim) error {
	for range 2 {
		id, err := s.store().Identity()
		if err != nil || id.CertificateID != r.CertificateID || !s.cloud.Accepts(id.CertificateID) {
			return fmt.Errorf("at the end: identity %v, %v", id, err)
		}
		for path, content := range s.disk.contents() {
			secret := strings.Contains(content, jsonKey(claim)) || strings.Contains(content, jsonKey(s.claim)) ||
				s.oldKey != "" && strings.Contains(content, s.oldKey)
			if secret || strings.HasSuffix(path, tmpSuffix) {
				return fmt.Errorf("%s is left, secret: %v", path, secret)
			}
		}
		if link, _ := s.disk.Readlink("/store/current"); link != id.slot {
			return fmt.Errorf("the link points to %q, not to %q", link, id.slot)
		}
		s.disk.crash(loseAll)
	}
	return nil
}

func TestThePowerMayGoAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			cuts := 0
			for l := range losses {
				for op := 0; ; op++ {
					over := false
					for _, after := range []bool{false, true} {
						var err error
						if over, _, err = w.play(t, cut{op, after}, l, -1); err != nil {
							t.Errorf("%s, cut %s operation %d: %v", l, map[bool]string{false: "before", true: "after"}[after], op, err)
						}
						cuts++
					}
					if over {
						break
					}
				}
			}
			if cuts < 300 {
				t.Errorf("only %d cuts: the test has lost its subject", cuts)
			}
		})
	}
}

func TestTheFoldersAboveAStoreSurvive(t *testing.T) {
	t.Parallel()
	d := newDisk()
	s := &Store{dir: "/var/lib/imprint/device", fs: d}
	if err := errors.Join(s.ensure(), s.write(".", newFile{fileSlot, []byte("a")})); err != nil {
		t.Fatal(err)
	}
	d.crash(loseAll)
	if slot, err := s.current(); slot != "a" {
		t.Errorf("after a power cut there is slot %q, %v", slot, err)
	}
}

func TestTheDiskMayBeFullAtEveryStep(t *testing.T) {
	t.Parallel()
	for n, failed := 0, true; failed; n++ {
		s := &story{t: t, disk: newDisk(), cloud: fakecloud.New(t, epoch)}
		s.claim = newClaim(t, s.cloud)
		s.disk.failAt = n
		_, _, err := s.provision(s.claim, epoch)
		if failed = n < len(s.disk.ops); !failed {
			break
		}
		if err != nil && (KindOf(err) != KindStorage || !errors.Is(err, errDiskFull)) {
			t.Errorf("operation %d (%s) fails: %v", n, s.disk.ops[n], err)
		}
		label := s.disk.ops[n]
		s.disk.failAt = -1
		r, _, err := s.provision(s.claim, epoch)
		if err != nil {
			t.Errorf("operation %d (%s) failed, then: %v", n, label, err)
		} else if err := s.end(r, s.claim); err != nil {
			t.Errorf("operation %d (%s) failed, then: %v", n, label, err)
		}
	}
}

func TestThePowerMayGoWhileAStoreIsReset(t *testing.T) {
	t.Parallel()
	for l := range losses {
		for op, over := 0, false; !over; op++ {
			s := &story{t: t, disk: newDisk(), cloud: fakecloud.New(t, epoch)}
			s.claim = newClaim(t, s.cloud)
			if _, _, err := s.provision(s.claim, epoch); err != nil {
				t.Fatal(err)
			}
			s.disk.crash(loseNothing)
			s.disk.cutAt = cut{op, true}
			over = s.reset()
			s.disk.crash(l)
			id, err := s.store().Identity()
			if over && KindOf(err) != KindNotProvisioned {
				t.Fatalf("%s: after the reset: %v, %v", l, id, err)
			}
			if err != nil && KindOf(err) != KindNotProvisioned || err == nil && !s.cloud.Accepts(id.CertificateID) {
				t.Errorf("%s, cut after operation %d: %v, %v", l, op, id, err)
			}
			if s.reset(); len(s.disk.contents()) > 0 {
				t.Errorf("%s: after a second reset there is %v", l, s.disk.contents())
			}
		}
	}
}

func (s *story) reset() (over bool) {
	defer func() {
		if recover() != nil {
			over = false
		}
	}()
	if err := s.store().Reset(); err != nil {
		s.t.Error(err)
	}
	return true
}

// The first test is worth something only if it notices what a careless store would do. So each sync in turn is left out, and
// the test must turn red in one world at least.
func TestNoSyncCanBeLeftOut(t *testing.T) {
	t.Parallel()
	needed := map[string][]func() bool{} // by what is synced, and for the how manieth time: the ways to notice
	for _, w := range worlds {
		_, syncs, err := w.play(t, noCut, loseNothing, -1)
		if err != nil || len(syncs) < 10 {
			t.Fatalf("%d syncs, %v", len(syncs), err)
		}
		count := map[string]int{}
		for n, sync := range syncs {
			label := strings.NewReplacer("/store/a", "/store/SLOT", "/store/b", "/store/SLOT").Replace(sync.label)
			count[label]++
			label = fmt.Sprintf("%s, no. %d", label, count[label])
			needed[label] = append(needed[label], func() bool { return w.noticed(t, n, sync.op) })
		}
	}
	for label, ways := range needed {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			if !slices.ContainsFunc(ways, func(noticed func() bool) bool { return noticed() }) {
				t.Errorf("nothing goes wrong without %q", label)
			}
		})
	}
}

// noticed reports whether the world turns red without sync number n, which is operation op: only cuts after it can tell.
func (w world) noticed(t *testing.T, n, op int) bool {
	for _, l := range []loss{loseAll, loseContents} {
		for op, over := op, false; !over; op++ {
			var err error
			if over, _, err = w.play(t, cut{op, true}, l, n); err != nil {
				return true
			}
		}
	}
	return false
}
