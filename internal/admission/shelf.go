package admission

import "time"

// A shelf holds a bucket for each of many keys, maxAddresses at most. Only full ones are dropped, since those say nothing: a flood of new
// keys gets no old debt forgiven.
type shelf[K comparable] struct {
	m     map[K]*bucket
	swept time.Time
}

// A bucket is an account with the rate at which it fills.
type bucket struct {
	account
	rate Rate
}

func newShelf[K comparable]() shelf[K] { return shelf[K]{m: map[K]*bucket{}} }

// full reports whether there is no room for another key, unless some can be dropped.
func (s *shelf[K]) full() bool { return len(s.m) >= maxAddresses }

// get returns the bucket of a key, which fills at this rate from now on. Without one a full one is made, if there is room; else it is nil.
func (s *shelf[K]) get(key K, r Rate, now time.Time) *bucket {
	if c, ok := s.m[key]; ok {
		c.rate = r
		return c
	}
	if s.full() && now.Sub(s.swept) >= time.Second {
		s.sweep(now)
	}
	if s.full() {
		return nil
	}
	c := &bucket{account{left: r.Burst, at: now}, r}
	s.m[key] = c
	return c
}

func (s *shelf[K]) sweep(now time.Time) {
	s.swept = now
	for key, c := range s.m {
		if c.add(0, now, c.rate); c.left >= c.rate.Burst {
			delete(s.m, key)
		}
	}
}
