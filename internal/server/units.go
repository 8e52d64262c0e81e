package server

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Period is a time as settings have it: what time.ParseDuration takes, and days (30d). It is more than zero, which is the default.
type Period time.Duration

const day = 24 * time.Hour

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Period) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is no time: give one like 90s, 12h or 30d, more than zero", text)
	}
	*p = Period(d)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Period) MarshalText() ([]byte, error) {
	d := time.Duration(p)
	if d%day == 0 {
		return fmt.Appendf(nil, "%dd", d/day), nil
	}
	text := d.String() // 1h0m0s
	if cut, ok := strings.CutSuffix(text, "m0s"); ok {
		text = cut + "m"
	}
	if cut, ok := strings.CutSuffix(text, "h0m"); ok {
		text = cut + "h"
	}
	return []byte(text), nil
}

// A Size is a number of bytes. It is more than zero, which is the default.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(string(text), u.name); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n <= 0 || n > math.MaxInt64/u.bytes {
				break
			}
			*s = Size(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is no size: give one like 500MiB or 2GiB, more than zero", text)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) {
	for _, u := range sizeUnits {
		if int64(s)%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(s)/u.bytes, u.name), nil
		}
	}
	return nil, nil // the last unit is 1
}
