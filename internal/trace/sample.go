package trace

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Sampling says which traces of attempts that wrote nothing are kept. A fleet connects all day and a broken device is refused all
// day: that it is so should be told, and who, but not each time.
type Sampling struct {
	// Connects is for how long after a successful connection with a certificate, or of one client of a principal without, no further
	// one is told, unless there was a refusal in between; 0: each is told.
	Connects time.Duration
	// Refusals is how many refusals a minute are told of each address (of IPv6: each network of 64 bits) but this machine's own; 0:
	// any number.
	Refusals int
}

// maxRefusals is how many refusals a minute are told in all.
const maxRefusals = 300

// maxRemembered bounds those whose last connection is remembered. Beyond that it is forgotten of all.
const maxRemembered = 100_000

// A sampler applies Sampling. It remembers who connected by a hash: two that share one would merely share their turn.
type sampler struct {
	Sampling
	seed maphash.Seed

	mu       sync.Mutex
	told     map[uint64]time.Time // the last connection that was told
	minute   time.Time
	refusals map[netip.Prefix]int // in this minute
	total    int
}

func newSampler(s Sampling) *sampler {
	return &sampler{Sampling: s, seed: maphash.MakeSeed(), told: map[uint64]time.Time{}, refusals: map[netip.Prefix]int{}}
}

// keep decides about a finished record.
func (s *sampler) keep(r Record, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	who := s.who(r)
	if r.Outcome != OK {
		delete(s.told, who) // that it is mended will be told
		return s.refusal(r.Facts["sourceIp"], now)
	}
	if r.Kind != Connect || s.Connects <= 0 {
		return true
	}
	if last, known := s.told[who]; known && !now.Before(last) && now.Sub(last) < s.Connects {
		return false
	}
	if len(s.told) >= maxRemembered {
		clear(s.told)
	}
	s.told[who] = now
	return true
}

// who is whose connections count together. All users of an identity pool have the principal of its role.
func (s *sampler) who(r Record) uint64 {
	if id := r.Facts["certificateId"]; id != "" {
		return maphash.String(s.seed, id)
	}
	return maphash.String(s.seed, r.Facts["principal"]+"\x00"+r.Facts["clientId"])
}

// refusal reports whether one more may be told of an address. s.mu is held.
func (s *sampler) refusal(address string, now time.Time) bool {
	if m := now.Truncate(time.Minute); m != s.minute {
		s.minute, s.total = m, 0
		clear(s.refusals)
	}
	if s.total >= maxRefusals {
		return false
	}
	from := network(address)
	if s.Refusals > 0 && s.refusals[from] >= s.Refusals && !from.Addr().IsLoopback() {
		return false
	}
	s.total++
	s.refusals[from]++ // at most maxRefusals of them
	return true
}

// network is whom an address stands for: of IPv6 whoever has one has 2⁶⁴ of them.
func network(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() && !ip.IsLoopback() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
