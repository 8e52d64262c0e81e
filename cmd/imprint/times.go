package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A moment is a time as people give it: 2026-11-21T09:00:00Z, 2026-11-21, how long ago (36h, 14d), or beginning.
type moment struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "beginning" {
		m.Time = time.Unix(0, 0)
		return nil
	}
	if ago, err := ago(s); err == nil {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is no time: give one like 2026-11-21T09:00:00Z or 2026-11-21, how long ago it was (90m, 36h, 14d), or beginning", s)
}

// ago reads a duration that may be in days.
func ago(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%s is in the future", s)
	}
	return d, err
}

// seconds is a time in a request.
func (m moment) seconds() float64 { return float64(m.UnixMilli()) / 1000 }

// timeOf is a time of an answer, which counts seconds since 1970, to the millisecond.
func timeOf(seconds float64) time.Time {
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
}

// clock words a time of an answer; 0 is none.
func clock(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return timeOf(seconds).Format(time.RFC3339)
}

// clockMillis words a time of an answer where entries that lie close together are to be told apart.
func clockMillis(seconds float64) string { return timeOf(seconds).Format("2006-01-02T15:04:05.000Z") }
