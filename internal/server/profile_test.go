package server

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

// Not parallel with another: a process has one CPU profile at a time.
func TestTheAdministrationSocketGivesProfiles(t *testing.T) {
	s := startServer(t, quick(folder(t)))
	for _, kind := range []string{"cpu", "heap", "allocs", "goroutine"} {
		var b bytes.Buffer
		if err := Profile(t.Context(), s.cfg.Data, kind, 1, &b); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if !bytes.HasPrefix(b.Bytes(), []byte{0x1f, 0x8b}) { // profiles are compressed by gzip
			t.Errorf("%s: %.40q is no profile", kind, b.Bytes())
		}
	}
	for _, c := range []struct {
		kind    string
		seconds int
		want    string
	}{{"everything", 1, "cpu, heap"}, {"cpu", 0, "1 to 600 seconds"}, {"cpu", 601, "1 to 600 seconds"}} {
		if err := Profile(t.Context(), s.cfg.Data, c.kind, c.seconds, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %d s: %v", c.kind, c.seconds, err)
		}
	}
	if err := Profile(t.Context(), folder(t), "heap", 1, new(bytes.Buffer)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a server: %v", err)
	}
}
