package gateway

import (
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/mqtt"
)

// misbehave connects a device and has it disconnected for what it does.
func (s *site) misbehave(d device) {
	s.t.Helper()
	c := s.open(d, 5).Connected("lamp")
	c.Raw(0x30, 0xff, 0xff, 0xff, 0xff)
	if r := <-s.ends; r != mqtt.ClientError {
		s.t.Fatalf("it ended with %v", r)
	}
}

// TestViolationsAreHeldAgainstTheCertificate: whoever is disconnected too often for what it does waits before its next CONNECT, and
// nobody else behind its address does.
func TestViolationsAreHeldAgainstTheCertificate(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Violations = admission.Rate{PerSecond: 0.0001, Burst: 3} })
	bad, good := s.device(allow("iot:*")), s.device(allow("iot:*"))
	took := func(d device) time.Duration {
		begin := time.Now()
		s.open(d, 5).Connected("other").Disconnect()
		if r := <-s.ends; r != mqtt.ClientInitiated {
			t.Fatalf("it ended with %v", r)
		}
		return time.Since(begin)
	}
	for range 3 {
		s.misbehave(bad)
	}
	if wait := s.gw.conduct.violations.Wait(partyOf(s, good), s.gw.Violations); wait != 0 {
		t.Errorf("another device behind the address waits for %v", wait)
	}
	if d := took(bad); d < time.Second {
		t.Errorf("a device that was disconnected three times for what it did is let in after %v", d)
	}
	s.pass(24 * time.Hour)
	if wait := s.gw.conduct.violations.Wait(partyOf(s, bad), s.gw.Violations); wait != 0 {
		t.Errorf("a day later it waits for %v", wait)
	}
}

func partyOf(s *site, d device) party {
	return party{here, d.id, admission.AddressOf("127.0.0.1")}
}

// TestSubscribingIsCountedByCertificateAndAddress: it is one budget, whatever the number of connections.
func TestSubscribingIsCountedByCertificateAndAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Filters = admission.Rate{PerSecond: 0.5, Burst: 4} })
	d, other := s.device(allow("iot:*")), s.device(allow("iot:*"))
	for _, id := range []string{"a", "b"} {
		s.open(d, 5).Connected(id).Subscribe(id+"/1", id+"/2")
	}
	if wait := s.gw.conduct.filters.Wait(partyOf(s, d), s.gw.Filters); wait != 2*time.Second {
		t.Errorf("after four filters by two connections the next one waits for %v", wait)
	}
	if wait := s.gw.conduct.filters.Wait(partyOf(s, other), s.gw.Filters); wait != 0 {
		t.Errorf("another device waits for %v", wait)
	}
}
