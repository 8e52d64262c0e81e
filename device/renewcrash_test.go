package device

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fakecloud"
)

// renewal plays the renewal of an identity; cut tells whether the power went.
func (s *story) renew(now time.Time) (r *Result, cut bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(powerCut); !ok {
				panic(p)
			}
			cut = true
		}
	}()
	n, err := beginRenewal(s.config(nil, now))
	if err != nil {
		return nil, false, err
	}
	r, err = n.run(s.t.Context())
	return r, false, err
}

// aging provisions a device whose certificate is a month old now.
func aging(t testing.TB, serverKeys bool) (s *story, old *Identity, now time.Time) {
	t.Helper()
	s = &story{world: world{serverKeys: serverKeys}, t: t, disk: newDisk(), cloud: fakecloud.New(t, epoch)}
	s.cloud.Life = 60 * 24 * time.Hour
	s.claim = newClaim(t, s.cloud)
	r, _, err := s.provision(s.claim, epoch)
	if err != nil {
		t.Fatal(err)
	}
	s.disk.crash(loseNothing)
	now = epoch.Add(30 * 24 * time.Hour)
	s.cloud.Now = func() time.Time { return now }
	return s, r.Identity, now
}

// playRenewal has the power go at c during a renewal, and takes up the device again.
func playRenewal(t testing.TB, serverKeys bool, c cut, l loss, deaf int) (over bool, syncs []syncOp, err error) {
	s, old, now := aging(t, serverKeys)
	s.disk.cutAt, s.disk.deafTo = c, deaf
	r, wasCut, err := s.renew(now)
	if !wasCut && err != nil {
		return false, nil, fmt.Errorf("without a cut: %w", err)
	}
	for _, op := range s.disk.syncs {
		syncs = append(syncs, syncOp{op, s.disk.ops[op]})
	}
	s.disk.crash(l)
	if !wasCut {
		if id, err := s.store().Identity(); err != nil || id.CertificateID != r.CertificateID {
			return true, syncs, fmt.Errorf("success was told, but after the cut it is undone: %w", err)
		}
	}
	return !wasCut, syncs, s.renewedAtLast(old, now)
}

// renewedAtLast checks what the cut left, goes on, and checks the end: one certificate works, and the device has it.
func (s *story) renewedAtLast(old *Identity, now time.Time) error {
	id, err := s.store().Identity()
	if err != nil {
		return fmt.Errorf("after the cut there is no identity: %w", err)
	}
	pending := s.store().journal()
	if !s.cloud.Accepts(id.CertificateID) && (pending == nil || pending.Step != stepRegistered) {
		return errors.New("after the cut no certificate works that the device has")
	}
	for range 2 { // a provisioning without a claim leaves a renewal alone
		if r, _, err := s.provision(nil, now); err != nil || !r.Already || r.CertificateID != id.CertificateID {
			return fmt.Errorf("provision during a renewal: %+v, %w", r, err)
		}
	}
	if id.CertificateID == old.CertificateID {
		r, _, err := s.renew(now.Add(time.Minute))
		if err != nil {
			return fmt.Errorf("going on: %w", err)
		}
		id = r.Identity
	}
	active := s.cloud.Active()
	switch {
	case id.CertificateID == old.CertificateID || id.Generation != old.Generation+1:
		return fmt.Errorf("certificate %s of generation %d", id.CertificateID, id.Generation)
	case !slices.Equal(active, []string{id.CertificateID}):
		return fmt.Errorf("%d certificates work", len(active))
	case id.ThingName != fakecloud.Thing || !maps.Equal(id.Configuration, fakecloud.Configuration) || id.ClaimID != s.claim.ID() || !maps.Equal(id.Request.Parameters, fakecloud.Parameters):
		return fmt.Errorf("thing %q, configuration %v, claim %s, request %+v", id.ThingName, id.Configuration, id.ClaimID, id.Request)
	}
	if all, _ := s.cloud.IssuedTo(old.CertificateID); all != 1 && !s.serverKeys {
		return fmt.Errorf("%d certificates were issued", all)
	}
	for path, content := range s.disk.contents() {
		if strings.HasSuffix(path, tmpSuffix) || strings.HasSuffix(path, fileKey) && !strings.Contains(path, "/"+id.slot+"/") {
			return fmt.Errorf("%s is left: %.20q", path, content)
		}
	}
	return nil
}

func TestThePowerMayGoAtEveryStepOfARenewal(t *testing.T) {
	t.Parallel()
	for name, serverKeys := range map[string]bool{"its own key": false, "keys made by the service": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cuts := 0
			for l := range losses {
				if serverKeys && l != loseAll && l != tearContents { // what differs is the key's way to the disk
					continue
				}
				for op, over := 0, false; !over; op++ {
					for _, after := range []bool{false, true} {
						var err error
						if over, _, err = playRenewal(t, serverKeys, cut{op, after}, l, -1); err != nil {
							t.Errorf("%s, cut %s operation %d: %v", l, map[bool]string{false: "before", true: "after"}[after], op, err)
						}
						cuts++
					}
				}
			}
			if cuts < 150 {
				t.Errorf("only %d cuts: the test has lost its subject", cuts)
			}
		})
	}
}

func TestNoSyncOfARenewalCanBeLeftOut(t *testing.T) {
	t.Parallel()
	_, syncs, err := playRenewal(t, false, noCut, loseNothing, -1)
	if err != nil || len(syncs) < 8 {
		t.Fatalf("%d syncs, %v", len(syncs), err)
	}
	needless := 0
	for n, sync := range syncs {
		noticed := false
		for _, l := range []loss{loseAll, loseContents} {
			for op, over := sync.op, false; !over && !noticed; op++ {
				var err error
				over, _, err = playRenewal(t, false, cut{op, true}, l, n)
				noticed = err != nil
			}
		}
		if !noticed {
			t.Logf("nothing goes wrong without %q", sync.label)
			needless++
		}
	}
	if needless > 5 { // what is forgotten before anybody was asked begins anew
		t.Errorf("%d of %d syncs are not missed", needless, len(syncs))
	}
}

func TestTheDiskMayBeFullAtEveryStepOfARenewal(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		s, old, now := aging(t, false)
		s.disk.failAt = n
		_, _, err := s.renew(now)
		if n >= len(s.disk.ops) {
			break
		}
		label := s.disk.ops[n]
		if err != nil && (KindOf(err) != KindStorage || !errors.Is(err, errDiskFull)) {
			t.Errorf("operation %d (%s) fails: %v", n, label, err)
		}
		s.disk.failAt = -1
		if err := s.renewedAtLast(old, now); err != nil {
			t.Errorf("operation %d (%s) failed, then: %v", n, label, err)
		}
	}
}

// A new claim is worth more than a renewal under way.
func TestANewClaimEndsARenewalUnderWay(t *testing.T) {
	t.Parallel()
	for op := 0; ; op++ {
		s, old, now := aging(t, false)
		s.disk.cutAt = cut{op, true}
		_, wasCut, _ := s.renew(now)
		if !wasCut {
			return
		}
		s.disk.crash(loseAll)
		s.cloud.TakeOver = true
		claim := newClaim(t, s.cloud)
		r, _, err := s.provision(claim, now)
		if err != nil || r.ClaimID != claim.ID() || r.CertificateID == old.CertificateID || r.Already {
			t.Fatalf("cut after operation %d: %+v, %v", op, r, err)
		}
		if j := s.store().journal(); j != nil {
			t.Errorf("cut after operation %d: the journal is left at %s", op, j.Step)
		}
	}
}

// refusing is a service that does not accept new certificates.
type refusing struct {
	inMemory
	not string // but the one of this id
}

func (m refusing) confirm(ctx context.Context, id *Identity, s settings) error {
	if id.CertificateID != m.not {
		return identityRefused(CodeNotAuthorized, errors.New("the policy says no"))
	}
	return m.inMemory.confirm(ctx, id, s)
}

func TestACertificateThatIsRefusedIsGivenUpForAnother(t *testing.T) {
	t.Parallel()
	s, old, now := aging(t, false)
	cfg := s.config(nil, now)
	cfg.service = refusing{inMemory{s.cloud}, old.CertificateID}
	tried := map[string]int{}
	for range 2 * maxRefused {
		n, err := beginRenewal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.run(t.Context())
		if KindOf(err) != KindRefused {
			t.Fatal(err)
		}
		tried[n.j.ID]++
		if id, err := s.store().Identity(); err != nil || id.CertificateID != old.CertificateID {
			t.Fatalf("the old identity is gone: %v", err)
		}
	}
	if len(tried) != 2 {
		t.Errorf("tried %v", tried)
	}
	s.cloud.SetActive(old.CertificateID, false) // now the refused one is all there is: it stays
	for range 2 * maxRefused {
		n, err := beginRenewal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = n.run(t.Context())
		tried[n.j.ID]++
	}
	if len(tried) != 2 {
		t.Errorf("tried %v", tried)
	}
	r, _, err := s.renew(now)
	if err != nil || tried[r.CertificateID] == 0 {
		t.Errorf("when it is accepted: %v, %v", r, err)
	}
}

// The answer to the registration was lost, and the old certificate has expired since: the new one is found to work.
func TestARenewalWhoseAnswerWasLostIsFound(t *testing.T) {
	t.Parallel()
	found := false
	for op := 0; !found; op++ {
		s, old, now := aging(t, false)
		s.disk.cutAt = cut{op, false}
		_, wasCut, err := s.renew(now)
		if !wasCut {
			t.Fatal("no cut left the journal at issued with a registered certificate", err)
		}
		s.disk.crash(loseAll)
		j := s.store().journal()
		if j == nil || j.Step != stepIssued || !s.cloud.Accepts(j.ID) {
			continue
		}
		found = true
		s.cloud.SetActive(old.CertificateID, false)
		r, _, err := s.renew(now)
		if err != nil || r.CertificateID != j.ID || r.ThingName != fakecloud.Thing || !maps.Equal(r.Configuration, fakecloud.Configuration) {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// A crowded disk has another process at work just before this one gets the lock.
type crowded struct {
	*disk
	other func()
}

func (c crowded) Lock(name string) (func(), error) {
	c.other()
	return c.disk.Lock(name)
}

func TestARenewalSeesWhatAnotherProcessHasJustChanged(t *testing.T) {
	t.Parallel()
	s, old, now := aging(t, false)
	cfg := s.config(nil, now)
	cfg.store.fs = crowded{s.disk, func() {
		if r, _, err := s.renew(now); err != nil || r.CertificateID == old.CertificateID {
			t.Errorf("the other renewal: %v, %v", r, err)
		}
	}}
	n, err := beginRenewal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.store().Identity()
	if err != nil || !s.cloud.Accepts(id.CertificateID) {
		t.Fatalf("the identity in use is gone: %v", err)
	}
	if r, err := n.run(t.Context()); err != nil || r.Generation != old.Generation+2 {
		t.Errorf("%v, %v", r, err)
	}
}

// Whoever applies a configuration may take longer than the identity lasts that it came with.
func TestAConfigurationThatWasAppliedLateIsNotTheNextOnes(t *testing.T) {
	t.Parallel()
	s, old, now := aging(t, false)
	for range 2 {
		if _, _, err := s.renew(now); err != nil {
			t.Fatal(err)
		}
	}
	id, err := s.store().Identity()
	if err != nil || id.slot != old.slot {
		t.Fatalf("the slot of the first identity is not in use again: %v", err)
	}
	if err := s.store().MarkConfigurationApplied(old); err != nil {
		t.Error(err)
	}
	if s.store().ConfigurationApplied(id) {
		t.Error("the configuration of a former identity counts for the one in use")
	}
	if err := s.store().MarkConfigurationApplied(id); err != nil || !s.store().ConfigurationApplied(id) {
		t.Errorf("its own does not: %v", err)
	}
}
