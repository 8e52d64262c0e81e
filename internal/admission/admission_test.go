package admission

import (
	"net/netip"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func at(host string) Address { return AddressOf(host) }

func number(n int) Address {
	return AddressOf(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String())
}

func TestAnAddressIsOneHostOrOneNetwork(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:0:0:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"", "not an address", true},
	} {
		if got := at(c.a) == at(c.b); got != c.same {
			t.Errorf("%q and %q: same is %v", c.a, c.b, got)
		}
	}
}

func TestTrustedNetworksAreRead(t *testing.T) {
	t.Parallel()
	list, err := ParseTrusted([]string{"192.0.2.7", "10.1.2.3/8", "2001:db8::/32", "::1"})
	if err != nil || len(list) != 4 || list[1].String() != "10.0.0.0/8" {
		t.Errorf("got %v, %v", list, err)
	}
	for _, bad := range []string{"", "factory", "10.0.0.0/33", "::ffff:10.0.0.0/104"} {
		if _, err := ParseTrusted([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// A clock that moves by hand.
type clock struct{ now time.Time }

func newClock() *clock                  { return &clock{time.Unix(1e9, 0)} }
func (c *clock) fleet() fleet.Clock     { return func() time.Time { return c.now } }
func (c *clock) pass(d time.Duration)   { c.now = c.now.Add(d) }
func good(m *Meter, a Address) bool     { s, _ := m.Standing(a); return s != Bad }
func charge(m *Meter, a Address, n int) { forN(n, func() { m.Charge(a) }) }
func forN(n int, f func()) {
	for range n {
		f()
	}
}

func TestWorkInVainIsCountedByAddress(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := NewMeter(Rate{2, 10}, Rate{}, nil, c.fleet())
	a, b := at("192.0.2.1"), at("192.0.2.2")
	charge(m, a, 9)
	if !good(m, a) {
		t.Error("nine of ten, and out")
	}
	charge(m, a, 1)
	if good(m, a) || !good(m, b) {
		t.Error("ten were free, and for a alone")
	}
	if _, after := m.Standing(a); after != 500*time.Millisecond {
		t.Errorf("told to wait %v", after)
	}
	c.pass(500 * time.Millisecond)
	if !good(m, a) {
		t.Error("two a second are forgotten")
	}
	charge(m, a, 1000)
	c.pass(5*time.Second + 500*time.Millisecond) // a debt is no larger than the burst
	if !good(m, a) {
		t.Error("the debt has no end")
	}
	charge(m, a, 1000)
	m.Worth(a, 11)
	if !good(m, a) {
		t.Error("what was worth it is given back")
	}
}

func TestAllUnknownAddressesTogetherAreBounded(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{2, 10}, Rate{100, 50}, nil, newClock().fleet())
	friend := at("192.0.2.1")
	m.Charge(friend)
	m.Worth(friend, 1)
	for n := range 50 {
		m.Charge(number(n))
	}
	if good(m, at("192.0.2.9")) {
		t.Error("a newcomer is in good standing while strangers use up everything")
	}
	if !good(m, friend) {
		t.Error("whoever was worth it suffers from strangers")
	}
}

func TestTrustedAddressesAreNotCounted(t *testing.T) {
	t.Parallel()
	m := NewMeter(Rate{1, 1}, Rate{1, 1}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::7/128")}, nil)
	charge(m, at("10.9.8.7"), 100)
	charge(m, at("2001:db8::7"), 100)
	if !good(m, at("10.9.8.7")) || !good(m, at("192.0.2.1")) {
		t.Error("a trusted address was counted")
	}
}

func TestAFloodOfAddressesForgivesNobody(t *testing.T) {
	t.Parallel()
	c := newClock()
	m := NewMeter(Rate{1, 10}, Rate{}, nil, c.fleet())
	culprit := at("192.0.2.1")
	charge(m, culprit, 20)
	for n := range maxAddresses + 1000 {
		m.Charge(number(n))
	}
	if len(m.accounts.m) > maxAddresses {
		t.Errorf("%d accounts are kept", len(m.accounts.m))
	}
	if good(m, culprit) {
		t.Error("the debt was forgotten")
	}
	if good(m, number(maxAddresses+5000)) {
		t.Error("newcomers share an account, and it is used up")
	}
	c.pass(time.Minute) // everybody is even
	m.Charge(at("192.0.2.3"))
	if len(m.accounts.m) != 1 {
		t.Errorf("%d accounts are kept of those who owe nothing", len(m.accounts.m))
	}
	for n := range maxAddresses + 1000 {
		m.Worth(number(n), 1)
	}
	if len(m.known) > maxAddresses {
		t.Errorf("%d addresses are known", len(m.known))
	}
}
