package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheLogIsCopiedBesideTheWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "imprint.db")
	db := openWith(t, Config{Path: path})
	size := func(name string) int64 {
		t.Helper()
		f, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return f.Size()
	}
	wrote := 0
	write := func() { // a dozen pages
		t.Helper()
		wrote++
		if err := db.Tx(t.Context(), func(tx *Tx) error {
			return tx.PutSetting(fmt.Sprintf("large-%d", wrote), strings.Repeat(fmt.Sprintf("%08d", wrote), 5<<10))
		}); err != nil {
			t.Fatal(err)
		}
	}
	const untilACommitDoesIt = logPages / 32
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for size(path) < 4<<20 {
		if wrote < untilACommitDoesIt {
			write()
			continue
		}
		select {
		case <-tick.C: // a busy machine may come to it later, and needs no commit for it
		case <-deadline:
			t.Fatalf("after %d commits the log is %d MiB long and nothing of it is copied", wrote, size(path+"-wal")>>20)
		}
	}
	// A writer that never rests leaves no moment in which all is copied: there the log is bounded by commits.
	for wrote < 1500 {
		write()
	}
	if log := size(path + "-wal"); log > 2*logPages*4096 {
		t.Errorf("the log has grown to %d MiB", log>>20)
	}
}
