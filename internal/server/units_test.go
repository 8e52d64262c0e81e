package server

import (
	"testing"
	"time"
)

func TestPeriodsAndSizesReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"30d": 30 * day, "1h": time.Hour, "36h": 36 * time.Hour, "90s": 90 * time.Second, "1m30s": 90 * time.Second,
		"1h5s": time.Hour + 5*time.Second, "10m": 10 * time.Minute, "250ms": 250 * time.Millisecond} {
		var p, again Period
		noError(t, p.UnmarshalText([]byte(text)))
		shown, _ := p.MarshalText()
		if err := again.UnmarshalText(shown); err != nil || time.Duration(p) != want || again != p {
			t.Errorf("%s is %v, shown as %s, which is %v, %v", text, time.Duration(p), shown, time.Duration(again), err)
		}
	}
	for text, want := range map[string]int64{"1GiB": 1 << 30, "500MiB": 500 << 20, "1024KiB": 1 << 20, "1000": 1000} {
		var s, again Size
		noError(t, s.UnmarshalText([]byte(text)))
		shown, _ := s.MarshalText()
		if err := again.UnmarshalText(shown); err != nil || int64(s) != want || again != s {
			t.Errorf("%s is %d, shown as %s, which is %d, %v", text, s, shown, again, err)
		}
	}
	for _, text := range []string{"", "0", "0d", "-1h", "1", "d", "70000d", "1.5d", "1 h"} {
		if err := new(Period).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a period", text)
		}
	}
	for _, text := range []string{"", "0", "0GiB", "-1", "1GB", "1.5GiB", "GiB", "9999999999TiB"} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a size", text)
		}
	}
}
