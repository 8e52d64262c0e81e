package device

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// The members of the device configuration that say when to renew. A template of Imprint has them as settings and hands them out with
// "RenewalWindow": {"Fn::FindInMap": ["Imprint", "Settings", "RenewalWindow"]}; any template can write them down.
const (
	configWindow = "RenewalWindow" // how long before its end a certificate is renewed: 30d, 36h, or 33% of its validity
	configJitter = "RenewalJitter" // over how much of the window, from its beginning, devices spread: a time, or 50% of the window
)

// Without a word of the template: the last third of the validity, in its first half.
const (
	defaultWindow = 0.33
	defaultJitter = 0.5
)

// backdate is how long before their making certificates begin, for clocks that are behind (provisioning spec 9.3).
const backdate = 2 * time.Minute

// A Schedule says when a certificate is to be renewed.
type Schedule struct {
	From time.Time // from here on devices renew
	At   time.Time // when this one does: they spread, by their certificates
	End  time.Time // of the certificate

	spread time.Duration
}

// Renewal returns when the identity's certificate is to be renewed, as far as it tells by itself. A clock that runs ahead does not make
// a device renew again and again: half of the time to the window must have passed since the identity was made, by the same clock.
func (id *Identity) Renewal(now time.Time) Schedule {
	leaf := id.pair.Leaf
	validity := leaf.NotAfter.Sub(leaf.NotBefore)
	window := spanOf(id.Configuration[configWindow], validity, defaultWindow)
	s := Schedule{From: leaf.NotAfter.Add(-window), End: leaf.NotAfter, spread: spanOf(id.Configuration[configJitter], window, defaultJitter)}
	s.At = s.From.Add(time.Duration(id.share() * float64(s.spread)))
	if soonest := id.Provisioned.Add(max(0, validity-backdate-window) / 2); !id.Provisioned.After(now) && soonest.After(s.At) {
		s.At = soonest
	}
	return s
}

// share is a number from 0 to 1 that is the certificate's own, so that a fleet that was made in a day is not renewed in an hour.
func (id *Identity) share() float64 {
	h := sha256.Sum256(id.pair.Leaf.Raw)
	return float64(binary.BigEndian.Uint64(h[:])) / math.MaxUint64
}

// shake moves the time of a renewal by a little chance, for devices that start together with one clock.
func (s Schedule) shake() time.Time { return s.At.Add(rand.N(s.spread/20 + 1)) }

// spanOf reads a time, such as 30d or 36h, or a percentage of whole. What makes no sense is as good as nothing said.
func spanOf(text string, whole time.Duration, otherwise float64) time.Duration {
	share := otherwise
	if p, ok := strings.CutSuffix(text, "%"); ok {
		if n, err := strconv.Atoi(p); err == nil && n >= 1 && n <= 100 {
			share = float64(n) / 100
		}
	} else if d, ok := days(text); ok && d > 0 {
		return min(d, whole)
	}
	return time.Duration(share * float64(whole))
}

// days reads a time as time.ParseDuration does, and whole days.
func days(text string) (time.Duration, bool) {
	if n, ok := strings.CutSuffix(text, "d"); ok {
		d, err := strconv.Atoi(n)
		return time.Duration(d) * 24 * time.Hour, err == nil && d < 10_000
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}
