package pki

import (
	"regexp"
	"strings"
	"testing"
)

// words are what the two kinds of names below may and may not be.
func words() []string {
	long := strings.Repeat("a", 63)
	out := []string{"", ".", "*", "*.", "*.*.a", "a.*", "**.a", "a..b", ".a", "a.", "-", "a-", "-a", "a-b", "a--b", "_", "_a", "a_", "x.-a", "x.a-", "A", "aB", "ä", "a b", "a\n", "\na", "0", "09az",
		long, long + "a", long + "-a", strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("-", 64), long + "." + long, "a." + long + "b", "iot.lan", "*.iot.lan", "127.0.0.1", "a\x00"}
	for _, a := range "a-_.*Z0 " {
		for _, b := range "a-_.*Z0 " {
			for _, c := range "a-_.*Z0 " {
				out = append(out, string([]rune{a, b, c}))
			}
		}
	}
	return out
}

func TestNamesOfHostsAndKeysAreAsTheirExpressionsSay(t *testing.T) {
	t.Parallel()
	host := regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	key := regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	for _, name := range words() {
		if got, want := isDNSName(name), host.MatchString(name); got != want {
			t.Errorf("host name %q: %v", name, got)
		}
		if got, want := ValidKeyName(name), key.MatchString(name); got != want {
			t.Errorf("key name %q: %v", name, got)
		}
	}
}
