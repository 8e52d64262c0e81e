package device

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"
)

// aged is an identity whose certificate is valid for so long from epoch.
func aged(validity time.Duration, serial byte, configuration map[string]string) *Identity {
	leaf := &x509.Certificate{NotBefore: epoch, NotAfter: epoch.Add(validity), Raw: []byte{serial}}
	return &Identity{Provisioned: epoch, Configuration: configuration, pair: tls.Certificate{Leaf: leaf}}
}

const day = 24 * time.Hour

func TestADeviceRenewsInTheWindowOfItsTemplate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		configuration map[string]string
		validity      time.Duration
		from, spread  time.Duration
	}{
		"without a word":                 {nil, 100 * day, 67 * day, 33 * day / 2},
		"a time":                         {map[string]string{"RenewalWindow": "30d"}, 90 * day, 60 * day, 15 * day},
		"hours":                          {map[string]string{"RenewalWindow": "36h", "RenewalJitter": "1h"}, 90 * day, 90*day - 36*time.Hour, time.Hour},
		"shares":                         {map[string]string{"RenewalWindow": "50%", "RenewalJitter": "100%"}, 90 * day, 45 * day, 45 * day},
		"never longer than its validity": {map[string]string{"RenewalWindow": "30d"}, day, 0, day / 2},
		"nonsense is as good as nothing": {map[string]string{"RenewalWindow": "soon", "RenewalJitter": "-5%"}, 100 * day, 67 * day, 33 * day / 2},
		"nothing is no window":           {map[string]string{"RenewalWindow": "0s"}, 100 * day, 67 * day, 33 * day / 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := aged(c.validity, 1, c.configuration).Renewal(epoch)
			if s.From.Sub(epoch) != c.from || s.spread != c.spread || !s.End.Equal(epoch.Add(c.validity)) {
				t.Errorf("from %v, over %v, end %v", s.From.Sub(epoch), s.spread, s.End.Sub(epoch))
			}
			if s.At.Before(s.From) || s.At.After(s.From.Add(s.spread)) {
				t.Errorf("at %v", s.At.Sub(epoch))
			}
		})
	}
}

func TestDevicesOfOneDaySpread(t *testing.T) {
	t.Parallel()
	const fleet = 200
	var tenths [10]int
	for n := range fleet {
		id := aged(90*day, byte(n), map[string]string{"RenewalWindow": "30d", "RenewalJitter": "10d"})
		first, again := id.Renewal(epoch), id.Renewal(epoch.Add(50*day))
		if !first.At.Equal(again.At) {
			t.Fatal("a restart draws another time")
		}
		tenths[min(9, int(first.At.Sub(first.From)/day))]++
		if shaken := first.shake(); shaken.Before(first.At) || shaken.After(first.At.Add(first.spread/20)) {
			t.Errorf("shaken by %v", shaken.Sub(first.At))
		}
	}
	for i, n := range tenths {
		if n < fleet/10/3 || n > fleet/10*3 {
			t.Errorf("%d of %d devices renew on day %d: %v", n, fleet, i, tenths)
		}
	}
}

// Clocks of devices are wrong: behind before the first time server, ahead with a bad battery.
func TestAWrongClockNeitherForgetsNorRepeatsARenewal(t *testing.T) {
	t.Parallel()
	id := aged(90*day, 1, map[string]string{"RenewalWindow": "30d", "RenewalJitter": "1h"})
	for name, c := range map[string]struct {
		clock time.Time
		due   bool
	}{
		"in 1970":                          {time.Unix(0, 0), false},
		"right, before the window":         {epoch.Add(59 * day), false},
		"right, in the window":             {epoch.Add(61 * day), true},
		"right, after the end":             {epoch.Add(100 * day), true},
		"ahead, and so in the window":      {epoch.Add(70 * day), true},
		"ahead by years":                   {epoch.Add(9000 * day), true},
		"behind the certificate by a year": {epoch.Add(-365 * day), false},
	} {
		now := id.clock(func() time.Time { return c.clock })()
		if due := !id.Renewal(now).At.After(now); due != c.due {
			t.Errorf("%s: due %v", name, due)
		}
	}
	// The clock was ahead when the certificate was renewed, and still is.
	for _, ahead := range []time.Duration{61 * day, 85 * day, 9000 * day} {
		fresh := aged(90*day, 2, id.Configuration)
		fresh.Provisioned = epoch.Add(ahead)
		for age, due := range map[time.Duration]bool{time.Minute: false, 29 * day: false, 31 * day: true} {
			if now := epoch.Add(ahead + age); !fresh.Renewal(now).At.After(now) != due {
				t.Errorf("ahead by %v, %v after the renewal: due %v", ahead, age, !due)
			}
		}
		// Somebody has set it right: what it said before counts no more.
		if now := epoch.Add(61 * day); ahead > 61*day && fresh.Renewal(now).At.After(now) {
			t.Errorf("ahead by %v, then set right: the renewal is forgotten", ahead)
		}
	}
}

func TestAClockThatIsBehindRisesWithWhatOthersHaveDated(t *testing.T) {
	t.Parallel()
	said := time.Unix(1000, 0)
	c := &risingClock{base: func() time.Time { return said }}
	step := func(what string, want time.Time) {
		t.Helper()
		if got := c.now(); !got.Equal(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	step("alone", said)
	c.atLeast(epoch)
	step("dated", epoch)
	said = said.Add(time.Hour)
	step("goes on", epoch.Add(time.Hour))
	c.atLeast(epoch.Add(time.Minute))
	step("never back", epoch.Add(time.Hour))
	said = time.Unix(0, 0)
	step("the clock steps back", epoch)
	said = epoch.Add(100 * day)
	step("the clock is set", said)
}

func ExampleIdentity_Renewal() {
	id := aged(90*day, 1, map[string]string{"RenewalWindow": "30d"})
	s := id.Renewal(epoch)
	fmt.Println(s.From.Format(time.DateOnly), s.End.Format(time.DateOnly))
	// Output: 2027-01-20 2027-02-19
}
