package admission

import (
	"net/netip"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Rate is how much may be in vain: Burst at once, PerSecond for ever. The zero Rate is no bound.
type Rate struct{ PerSecond, Burst float64 }

// A Meter remembers whose work has been in vain of late. What is charged and turns out to be worth it is given back; the rest is
// forgotten at a rate. It may be used concurrently.
//
// It keeps at most maxAddresses accounts. Only accounts that are even are dropped, since those say nothing: a flood of new
// addresses gets no old debt forgiven. While all accounts are in debt, newcomers share one.
type Meter struct {
	per, all Rate
	trusted  []netip.Prefix
	clock    fleet.Clock

	mu       sync.Mutex
	accounts shelf[Address]
	total    account
	rest     account               // of those who came when all accounts were taken
	known    map[Address]time.Time // who was worth it, and when
}

// An account is what an address has left of its burst.
type account struct {
	left float64
	at   time.Time
}

const (
	maxAddresses = 1 << 16
	knownFor     = time.Hour // how long an address stays known
)

// NewMeter returns a meter that bounds each address, and all addresses together that are not known. Trusted networks are not
// counted.
func NewMeter(per, all Rate, trusted []netip.Prefix, clock fleet.Clock) *Meter {
	m := &Meter{per: per, all: all, clock: clock, accounts: newShelf[Address](), known: map[Address]time.Time{}}
	for _, p := range trusted {
		if p.Addr().Is6() && p.Bits() > 64 { // an Address is no smaller
			p = netip.PrefixFrom(p.Addr(), 64).Masked()
		}
		m.trusted = append(m.trusted, p)
	}
	m.total.left, m.rest.left = all.Burst, per.Burst
	return m
}

// Trusts reports whether the address is not counted at all.
func (m *Meter) Trusts(a Address) bool {
	for _, p := range m.trusted {
		if p.Contains(a.ip) {
			return true
		}
	}
	return false
}

// A Standing is what is thought of an address.
type Standing int

const (
	Known Standing = iota // its work was worth it within the last hour, and it has something left
	Unknown
	Bad // it has nothing left, or is unknown and all of these together have not
)

// Standing says what is thought of an address. If that is bad, after is when it may have changed.
func (m *Meter) Standing(a Address) (s Standing, after time.Duration) {
	if m.Trusts(a) {
		return Known, 0
	}
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.accounts.m[a]; ok {
		if wait := c.wait(now, m.per); wait > 0 {
			return Bad, wait
		}
	} else if m.accounts.full() {
		if wait := m.rest.wait(now, m.per); wait > 0 {
			return Bad, wait
		}
	}
	if seen, ok := m.known[a]; ok && now.Sub(seen) < knownFor {
		return Known, 0
	}
	if wait := m.total.wait(now, m.all); wait > 0 {
		return Bad, wait
	}
	return Unknown, 0
}

// Charge takes one from the address, and from all together.
func (m *Meter) Charge(a Address) {
	if m.Trusts(a) {
		return
	}
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.account(a, now).add(-1, now, m.per)
	m.total.add(-1, now, m.all)
}

// Worth gives n charges back: the work of the address was worth it. From now on it is known.
func (m *Meter) Worth(a Address, n int) {
	if m.Trusts(a) {
		return
	}
	now := m.clock.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.accounts.m[a]; ok {
		c.add(float64(n), now, m.per)
	}
	m.total.add(float64(n), now, m.all)
	if _, ok := m.known[a]; !ok && len(m.known) >= maxAddresses {
		for other := range m.known { // any: only those who have proven something get in here
			delete(m.known, other)
			break
		}
	}
	m.known[a] = now
}

// account returns the account of an address, or the one of those for whom there is no room.
func (m *Meter) account(a Address, now time.Time) *account {
	if c := m.accounts.get(a, m.per, now); c != nil {
		return &c.account
	}
	return &m.rest
}

// add brings the account up to date and adds n. A debt is bounded by the burst, so that it ends.
func (c *account) add(n float64, now time.Time, r Rate) {
	if d := now.Sub(c.at).Seconds(); d > 0 {
		c.left = min(c.left+d*r.PerSecond, r.Burst)
		c.at = now
	}
	c.left = min(max(c.left+n, -r.Burst), r.Burst)
}

// wait is how long until there is one left; 0 if there is.
func (c *account) wait(now time.Time, r Rate) time.Duration {
	if r == (Rate{}) {
		return 0
	}
	c.add(0, now, r)
	if c.left >= 1 {
		return 0
	}
	if r.PerSecond <= 0 {
		return time.Hour
	}
	return time.Duration((1 - c.left) / r.PerSecond * float64(time.Second))
}
