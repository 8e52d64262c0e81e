package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/template"
)

// bySerial is lamps with AWS's name for the serial number.
var bySerial = settings(lamps, map[string]string{"SerialParameter": "Serial"})

func TestTemplateAndSessionTightenAClaimTogether(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings template.Settings
		tags     map[string]string
		want     fleet.ClaimLimits
		life     time.Duration // 0: five minutes
		refused  bool
	}{
		"nothing is said": {},
		"the template alone": {template.Settings{ClaimDevices: 3, ClaimSeconds: 60, ClaimAddresses: []string{"192.0.2.0/24"}}, nil,
			fleet.ClaimLimits{Devices: 3, Addresses: []string{"192.0.2.0/24"}}, time.Minute, false},
		"the session alone": {template.Settings{}, map[string]string{"imprint:ClaimDevices": "2", "imprint:ClaimSeconds": "30", "imprint:ClaimAddresses": "192.0.2.7", "imprint:ClaimSerials": "a b", "team": "x"},
			fleet.ClaimLimits{Devices: 2, Addresses: []string{"192.0.2.7/32"}, Serials: []string{"a", "b"}}, 30 * time.Second, false},
		"the session is wider": {template.Settings{ClaimDevices: 1, ClaimSeconds: 40, ClaimAddresses: []string{"192.0.2.0/24"}},
			map[string]string{"imprint:ClaimDevices": "9", "imprint:ClaimSeconds": "300", "imprint:ClaimAddresses": "192.0.0.0/16"},
			fleet.ClaimLimits{Devices: 1, Addresses: []string{"192.0.2.0/24"}}, 40 * time.Second, false},
		"case does not count":     {template.Settings{}, map[string]string{"IMPRINT:claimdevices": "2"}, fleet.ClaimLimits{Devices: 2}, 0, false},
		"no address is in both":   {template.Settings{ClaimAddresses: []string{"192.0.2.0/24"}}, map[string]string{"imprint:ClaimAddresses": "198.51.100.0/24"}, fleet.ClaimLimits{}, 0, true},
		"an unknown tag":          {template.Settings{}, map[string]string{"imprint:ClaimDevice": "1"}, fleet.ClaimLimits{}, 0, true},
		"no number":               {template.Settings{}, map[string]string{"imprint:ClaimDevices": "one"}, fleet.ClaimLimits{}, 0, true},
		"no devices":              {template.Settings{}, map[string]string{"imprint:ClaimDevices": "0"}, fleet.ClaimLimits{}, 0, true},
		"too long":                {template.Settings{}, map[string]string{"imprint:ClaimSeconds": "301"}, fleet.ClaimLimits{}, 0, true},
		"no serials":              {template.Settings{}, map[string]string{"imprint:ClaimSerials": " "}, fleet.ClaimLimits{}, 0, true},
		"no network":              {template.Settings{}, map[string]string{"imprint:ClaimAddresses": "home"}, fleet.ClaimLimits{}, 0, true},
		"tags of other things":    {template.Settings{}, map[string]string{"imprint:Colour": "red", "Claim": "x"}, fleet.ClaimLimits{}, 0, false},
		"an IPv6 network narrows": {template.Settings{ClaimAddresses: []string{"2001:db8::/32"}}, map[string]string{"imprint:ClaimAddresses": "2001:db8:7::/48"}, fleet.ClaimLimits{Addresses: []string{"2001:db8:7::/48"}}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := narrowed(c.settings, c.tags)
			if c.refused {
				if reason(t, err) != ReasonClaimTag || fleet.KindOf(err) != fleet.KindInvalid {
					t.Errorf("%+v, %v", got, err)
				}
				return
			}
			check(t, err)
			if c.life == 0 {
				c.life = fleet.ClaimLifetime
			}
			if got.life != c.life || got.Devices != c.want.Devices || !slices.Equal(got.Addresses, c.want.Addresses) || !slices.Equal(got.Serials, c.want.Serials) {
				t.Errorf("%+v, want %+v", got, c)
			}
		})
	}
}

// tagged makes a claim by an installer with tags.
func (f *fixture) tagged(template string, tags map[string]string) Requester {
	f.t.Helper()
	who := *installer
	who.Tags = tags
	c, err := f.CreateClaim(f.t.Context(), &who, template)
	check(f.t, err)
	return f.requester(c.Claim)
}

func TestAClaimDoesWhatItsLimitsAllow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", bySerial)
	register := func(r Requester, serial string) string {
		t.Helper()
		c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t))
		if err == nil {
			_, err = f.register(r, "lamps", c, serial)
		}
		return reason(t, err)
	}
	one := f.tagged("lamps", map[string]string{"imprint:ClaimDevices": "1"})
	spare, spent := f.certificate(one), newCSR(t)
	c, err := f.CreateCertificateFromCSR(t.Context(), f.again(one), spent)
	check(t, err)
	_, err = f.register(one, "lamps", c, "1")
	check(t, err)
	if got := register(one, "2"); got != ReasonClaimDevices {
		t.Errorf("a second device: %q", got)
	}
	if _, err := f.register(one, "lamps", spare, "2"); reason(t, err) != ReasonClaimDevices {
		t.Errorf("a second device that had its certificate before: %v", err)
	}
	if _, err := f.CreateKeysAndCertificate(t.Context(), f.again(one)); reason(t, err) != ReasonClaimDevices {
		t.Errorf("a key for a second device: %v", err)
	}
	for range 3 { // a device that lost power asks again for all of it
		again, err := f.CreateCertificateFromCSR(t.Context(), f.again(one), spent)
		check(t, err)
		if _, err = f.register(one, "lamps", again, "1"); err != nil || again.ID != c.ID {
			t.Errorf("the same device again: %v", err)
		}
	}

	serials := f.tagged("lamps", map[string]string{"imprint:ClaimSerials": "5 lamp-6"})
	for serial, want := range map[string]string{"5": "", "6": "", "7": template.ReasonSerial, "lamp-5": template.ReasonSerial} {
		if got := register(serials, serial); got != want {
			t.Errorf("serial %s: %q, want %q", serial, got, want)
		}
	}
	near := f.tagged("lamps", map[string]string{"imprint:ClaimAddresses": "192.0.2.0/24"})
	if got := register(near, "8"); got != "" {
		t.Errorf("from the network: %q", got)
	}
	for _, address := range []string{"198.51.100.1", "", "::ffff:198.51.100.1"} {
		if near.SourceIP = address; register(near, "9") != ReasonClaimAddress {
			t.Errorf("from %q", address)
		}
	}
	near.SourceIP = "::ffff:192.0.2.9"
	if got := register(near, "9"); got != "" {
		t.Errorf("an address in its long form: %q", got)
	}
	short := f.tagged("lamps", map[string]string{"imprint:ClaimSeconds": "30"})
	f.pass(31 * time.Second)
	if _, err := f.CreateCertificateFromCSR(t.Context(), f.again(short), newCSR(t)); err == nil {
		t.Error("a claim of 30 seconds lives longer")
	}
	if n := view(f, func(tx *store.Tx) (int, error) { return tx.DevicesOf(here, one.PrincipalID) }); n != 1 {
		t.Errorf("%d devices are counted", n)
	}
	f.pass(claimsKept + time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if n := view(f, func(tx *store.Tx) (int, error) { return tx.DevicesOf(here, one.PrincipalID) }); n != 0 {
		t.Error("the count of a claim is kept for ever")
	}
}

func TestDevicesAreCountedExactlyWhateverHappensAtOnce(t *testing.T) {
	t.Parallel()
	for engine, url := range map[string]func(testing.TB) string{"sqlite": func(testing.TB) string { return "" }, "postgres": storetest.Postgres} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			f := newFixtureOn(t, url(t))
			const limit, devices = 7, 24
			f.template("lamps", settings(lamps, map[string]string{"BootstrapDevices": fmt.Sprint(limit)}))
			r := f.bootstrap()
			certs := make([]*IssuedCertificate, devices)
			for i := range certs {
				certs[i] = f.certificate(r)
			}
			var accepted, refused atomic.Int32
			var wg sync.WaitGroup
			for i, c := range certs {
				for range 2 { // each asks twice, as after a lost answer
					wg.Go(func() {
						switch _, err := f.register(r, "lamps", c, fmt.Sprint(i)); reason(t, err) {
						case "":
							accepted.Add(1)
						case ReasonClaimDevices:
							refused.Add(1)
						default:
							t.Error(err)
						}
					})
				}
			}
			wg.Wait()
			things := view(f, func(tx *store.Tx) (n int, err error) {
				for i := range devices {
					if _, err := tx.Thing(here, fmt.Sprintf("lamp-%d", i)); err == nil {
						n++
					}
				}
				return n, nil
			})
			counted := view(f, func(tx *store.Tx) (int, error) { return tx.DevicesOf(here, r.PrincipalID) })
			if things != limit || counted != limit || accepted.Load() != 2*limit || refused.Load() != 2*(devices-limit) {
				t.Errorf("%d things, %d counted, %d accepted, %d refused; want %d things", things, counted, accepted.Load(), refused.Load(), limit)
			}
		})
	}
}

func TestABootstrapCertificateWithoutAWordIsBounded(t *testing.T) {
	t.Parallel()
	hook := fleet.Template{Hook: &fleet.Hook{TargetARN: "x"}}
	for name, c := range map[string]struct {
		t    fleet.Template
		s    template.Settings
		l    fleet.ClaimLimits
		is   bool // a temporary claim
		want int
	}{
		"nothing":                  {want: DefaultBootstrapDevices},
		"a temporary claim":        {is: true, want: 0},
		"a limited claim":          {is: true, l: fleet.ClaimLimits{Devices: 3}, want: 3},
		"a hook":                   {t: hook, want: 0},
		"an allow-list":            {s: template.Settings{AllowedSerials: []string{"a"}}, want: 0},
		"serials of its own":       {l: fleet.ClaimLimits{Serials: []string{"a"}}, want: 0},
		"the template says":        {s: template.Settings{BootstrapDevices: 5}, want: 5},
		"… behind a hook, too":     {t: hook, s: template.Settings{BootstrapDevices: 5}, want: 5},
		"the template: any":        {s: template.Settings{BootstrapDevices: fleet.Unlimited}, want: 0},
		"the operator comes first": {s: template.Settings{BootstrapDevices: 5}, l: fleet.ClaimLimits{Devices: 9}, want: 9},
		"the operator: any":        {l: fleet.ClaimLimits{Devices: fleet.Unlimited}, want: 0},
	} {
		if got := bound(Requester{IsClaim: c.is}, standing{limits: c.l}, c.t, c.s); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestNothingIsCountedWhereNothingIsSet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
	for _, r := range []Requester{f.claim("lamps"), f.bootstrap()} {
		_, err := f.register(r, "lamps", f.certificate(r), r.PrincipalID[:8])
		check(t, err)
		if n := view(f, func(tx *store.Tx) (int, error) { return tx.DevicesOf(here, r.PrincipalID) }); n != 0 {
			t.Errorf("%d", n)
		}
	}
}

func TestARenewalCostsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"BootstrapDevices": "1"}))
	shared := f.bootstrap()
	first := f.certificate(shared)
	_, err := f.register(shared, "lamps", first, "7")
	check(t, err)
	own := Requester{Scope: here, PrincipalID: first.ID, ClientID: "lamp-7"}
	for range 3 {
		if _, err = f.register(own, "lamps", f.certificate(own), "7"); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.register(shared, "lamps", f.certificate(shared), "8")
	if reason(t, err) != ReasonClaimDevices {
		t.Errorf("%v", err)
	}
}

func TestTheLimitsOfABootstrapCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", bySerial)
	f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
	r := f.bootstrap()
	r.SourceIP = "192.0.2.1"
	next := 0
	register := func() string {
		t.Helper()
		next++
		c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t))
		if err == nil {
			_, err = f.register(r, "lamps", c, fmt.Sprint(next))
		}
		return reason(t, err)
	}
	set := func(l fleet.ClaimLimits) {
		t.Helper()
		check(t, f.SetLimits(t.Context(), here, r.PrincipalID, l))
	}
	for range 2 {
		if got := register(); got != "" {
			t.Fatal(got)
		}
	}
	set(fleet.ClaimLimits{Devices: 3}) // two of them are gone: nobody counted, but they are there
	if a, b := register(), register(); a != "" || b != ReasonClaimDevices {
		t.Errorf("%q, %q", a, b)
	}
	if u, err := f.LimitsOf(t.Context(), here, r.PrincipalID); err != nil || u.Devices != 3 || u.Limits.Devices != 3 || u.Budget != r.PrincipalID {
		t.Errorf("%+v, %v", u, err)
	}
	set(fleet.ClaimLimits{Addresses: []string{"192.0.2.1"}, Expires: f.Clock.Now().Add(time.Hour)})
	if got := register(); got != "" {
		t.Error(got)
	}
	r.SourceIP = "192.0.2.2"
	if got := register(); got != ReasonClaimAddress {
		t.Error(got)
	}
	r.SourceIP = "192.0.2.1"
	f.pass(2 * time.Hour)
	if got := register(); got != ReasonClaimExpired {
		t.Error(got)
	}
	set(fleet.ClaimLimits{PerMinute: 2})
	if a, b := register(), register(); a != "" || b != ReasonClaimRate {
		t.Errorf("%q, %q", a, b)
	}
	f.pass(30 * time.Second)
	if _, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t)); err != nil {
		t.Errorf("half a minute later: %v", err)
	}
	set(fleet.ClaimLimits{Serials: []string{"x"}})
	if got := register(); got != template.ReasonSerial {
		t.Error(got)
	}
	set(fleet.ClaimLimits{})
	if got := register(); got != "" {
		t.Error(got)
	}
	for what, l := range map[string]fleet.ClaimLimits{"devices": {Devices: -2}, "rate": {PerMinute: -1}, "address": {Addresses: []string{"home"}}, "serial": {Serials: []string{""}},
		"serials": {Serials: slices.Repeat([]string{"a"}, maxLimitSerials+1)}} {
		if err := f.SetLimits(t.Context(), here, r.PrincipalID, l); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := f.SetLimits(t.Context(), here, fleet.RandomString(64, fleet.AlphaHex), fleet.ClaimLimits{}); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("%v", err)
	}
}

// A hook has let devices in without a count, with a certificate and with the one that it was rolled into.
func TestLimitsCountWhatAllCertificatesOfABudgetHaveRegistered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	f.hook("lamps", func(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{Allow: true}, nil })
	old := f.bootstrap()
	f.made(old, "lamps", "1")
	f.made(old, "lamps", "2")
	rolled, err := f.Roll(t.Context(), installer, old.PrincipalID, time.Hour, newCSR(t))
	check(t, err)
	fresh := Requester{Scope: here, PrincipalID: rolled.ID, ClientID: "client"}
	f.made(fresh, "lamps", "3")
	check(t, f.SetLimits(t.Context(), here, rolled.ID, fleet.ClaimLimits{Devices: 3}))
	if u, err := f.LimitsOf(t.Context(), here, old.PrincipalID); err != nil || u.Devices != 3 || u.Limits.Devices != 3 {
		t.Errorf("%+v, %v", u, err)
	}
	for _, r := range []Requester{old, fresh} {
		if _, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t)); reason(t, err) != ReasonClaimDevices {
			t.Errorf("a fourth device: %v", err)
		}
	}
}

func TestARolledCertificateOverlapsAndEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", settings(lamps, map[string]string{"BootstrapDevices": "3"}))
	boss := &fleet.Caller{Scope: here, ARN: here.IAM("user/boss")}
	old := f.bootstrap()
	f.write(func(tx *store.Tx) error {
		_, err := registry.CreatePolicy(tx, here, "claims", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`, nil)
		check(t, err)
		return registry.AttachPolicy(tx, here, "claims", here.IoT("cert", old.PrincipalID))
	})
	_, err := f.register(old, "lamps", f.certificate(old), "1")
	check(t, err)
	rolled, err := f.Roll(t.Context(), boss, old.PrincipalID, time.Hour, newCSR(t))
	check(t, err)
	if rolled.Status != fleet.Active || rolled.PrivateKeyPEM != "" || rolled.Ends.Sub(f.Clock.Now()).Round(time.Second) != time.Hour {
		t.Errorf("%+v", rolled)
	}
	policies := view(f, func(tx *store.Tx) ([]string, error) {
		list, _, err := tx.PoliciesOf(here, here.IoT("cert", rolled.ID), fleet.Page{})
		return list, err
	})
	if !slices.Equal(policies, []string{"claims"}) {
		t.Errorf("policies %v", policies)
	}
	fresh := Requester{Scope: here, PrincipalID: rolled.ID, ClientID: "client"}
	for serial, r := range map[string]Requester{"2": old, "3": fresh} {
		_, err := f.register(r, "lamps", f.certificate(r), serial)
		check(t, err)
	}
	for _, r := range []Requester{old, fresh} {
		if _, err := f.register(r, "lamps", f.certificate(r), "4"); reason(t, err) != ReasonClaimDevices {
			t.Errorf("the budget is not shared: %v", err)
		}
	}
	check(t, f.SetLimits(t.Context(), here, old.PrincipalID, fleet.ClaimLimits{Devices: 4})) // holds for both
	if u, err := f.LimitsOf(t.Context(), here, rolled.ID); err != nil || u.Limits.Devices != 4 || u.Devices != 3 || u.Budget != old.PrincipalID {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := f.Roll(t.Context(), boss, old.PrincipalID, time.Hour, newCSR(t)); fleet.KindOf(err) != fleet.KindState {
		t.Errorf("rolled twice: %v", err)
	}
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if f.status(old.PrincipalID) != fleet.Active {
		t.Error("the old certificate has ended before its time")
	}
	f.pass(time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if f.status(old.PrincipalID) != fleet.Inactive || f.status(rolled.ID) != fleet.Active {
		t.Errorf("%s, %s", f.status(old.PrincipalID), f.status(rolled.ID))
	}
	if _, err := f.Roll(t.Context(), boss, old.PrincipalID, time.Hour, newCSR(t)); fleet.KindOf(err) != fleet.KindState {
		t.Errorf("an inactive one was rolled: %v", err)
	}
	_, err = f.register(fresh, "lamps", f.certificate(fresh), "4")
	check(t, err)
	third, err := f.Roll(t.Context(), boss, rolled.ID, 0, "")
	check(t, err)
	if third.PrivateKeyPEM == "" {
		t.Error("no key")
	}
	for _, bad := range []time.Duration{-1, MaxOverlap + 1} {
		if _, err := f.Roll(t.Context(), boss, third.ID, bad, newCSR(t)); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("overlap %v: %v", bad, err)
		}
	}
	// A successor whose key was lost is deleted, and the old one can be rolled again. What was deleted leaves no count behind.
	f.write(func(tx *store.Tx) error {
		check(t, registry.SetCertificateStatus(tx, here, third.ID, fleet.Inactive))
		return registry.DeleteCertificate(tx, here, third.ID, true)
	})
	again, err := f.Roll(t.Context(), boss, rolled.ID, time.Hour, newCSR(t))
	check(t, err)
	f.write(func(tx *store.Tx) error {
		for _, id := range []string{old.PrincipalID, rolled.ID, again.ID} {
			check(t, registry.SetCertificateStatus(tx, here, id, fleet.Inactive))
			check(t, registry.DeleteCertificate(tx, here, id, true))
		}
		return nil
	})
	f.pass(2 * time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	for _, id := range []string{old.PrincipalID, rolled.ID, again.ID} {
		if _, found, _ := bootstrapIn(f, id); found {
			t.Error("something is said of a certificate that is gone")
		}
	}
}

func bootstrapIn(f *fixture, id string) (b fleet.Bootstrap, found bool, err error) {
	err = f.Store.View(f.t.Context(), func(tx *store.Tx) error {
		b, found, err = tx.Bootstrap(here, id)
		return err
	})
	return b, found, err
}

func TestRequestsBeyondARateAreToldWhenToComeBack(t *testing.T) {
	t.Parallel()
	one := admission.Rate{PerSecond: 1, Burst: 1}
	for want, rates := range map[string]Rates{ReasonClaimRate: {Claim: one}, ReasonAddressRate: {Address: one}, ReasonAccountRate: {Account: one},
		ReasonAWSRate: {AWS: map[string]admission.Rate{opCSR: one}}} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			counted := map[string]int{}
			f.OnRefuse = func(budget string) { counted[budget]++ }
			f.template("lamps", lamps)
			r := f.claim("lamps")
			other := r
			other.PrincipalID, other.SourceIP = f.claim("lamps").PrincipalID, "192.0.2.99"
			f.Service.rates = newRates(rates, f.Clock)
			csr := newCSR(t)
			_, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
			check(t, err)
			_, err = f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
			refused(t, err, CodeThrottled)
			status, _, _ := Refusal(err)
			if reason(t, err) != want || status != 429 || !maps.Equal(counted, map[string]int{want: 1}) {
				t.Errorf("%v (%s), %d, counted %v", err, reason(t, err), status, counted)
			}
			_, err = f.CreateCertificateFromCSR(t.Context(), f.again(other), newCSR(t))
			if shared := want == ReasonAccountRate || want == ReasonAWSRate; (reason(t, err) == want) != shared {
				t.Errorf("somebody else: %v", err)
			}
			f.pass(time.Second)
			_, err = f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
			check(t, err)
		})
	}
}

func TestThisMachineAndTrustedAddressesHaveNoRate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	trusted, err := admission.ParseTrusted([]string{"192.0.2.0/24"})
	check(t, err)
	f.Service.rates = newRates(Rates{Address: admission.Rate{PerSecond: 1, Burst: 1}, Trusted: trusted}, f.Clock)
	r := f.claim("lamps")
	for _, address := range []string{"127.0.0.1", "::1", "192.0.2.1", ""} {
		r.SourceIP = address
		for range 3 {
			f.certificate(r)
		}
	}
}
