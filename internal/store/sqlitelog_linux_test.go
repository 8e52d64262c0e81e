package store

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// logsOf are the logs of a store that its connections have open.
func logsOf(db string) (logs []*logFile) {
	for file, l := range logFiles.Range {
		if libc.GoString(behind[lib.TunixFile](file.(uintptr)).FzPath) == db+"-wal" {
			logs = append(logs, l.(*logFile))
		}
	}
	return logs
}

// settings puts n values of 2 KiB each under names of their own.
func settings(n int, prefix string) func(*Tx) error {
	return func(tx *Tx) error {
		for i := range n {
			if err := tx.PutSetting(fmt.Sprint(prefix, i), strings.Repeat(prefix, 2048/len(prefix))); err != nil {
				return err
			}
		}
		return nil
	}
}

// Many pages of one commit are written with few calls: one for each 128 KiB.
func TestACommitIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "imprint.db")
	db := openWith(t, Config{Path: path})
	count := func() (writes int) {
		for _, l := range logsOf(path) {
			writes += l.writes
		}
		return writes
	}
	if err := db.Tx(t.Context(), settings(1, "warm")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ values, most int }{{10, 1}, {150, 5}} { // about 10 and 100 pages
		before := count()
		if err := db.Tx(t.Context(), settings(c.values, fmt.Sprint("v", c.values))); err != nil {
			t.Fatal(err)
		}
		if n := count() - before; n < 1 || n > c.most {
			t.Errorf("a commit of %d values took %d writes, %d at most were expected", c.values, n, c.most)
		}
	}
	if n := len(logsOf(path)); n == 0 {
		t.Error("no connection has the log open")
	}
}

// Readers never hear of a commit before all of it is in the file, whenever it is synced.
func TestACommitIsWrittenBeforeItsSync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "imprint.db")
	db := openWith(t, Config{Path: path})
	if _, err := db.writes.exec(t.Context(), "PRAGMA synchronous = OFF"); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		prefix := fmt.Sprint("round", round)
		if err := db.Tx(t.Context(), settings(100, prefix)); err != nil {
			t.Fatal(err)
		}
		for _, l := range logsOf(path) {
			if len(l.gathered) > 0 {
				t.Errorf("%d bytes of a commit are not written", len(l.gathered))
			}
		}
		if err := db.View(t.Context(), func(tx *Tx) error {
			v, err := tx.Setting(prefix + "99")
			if v == "" {
				t.Errorf("round %d is not there", round)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A transaction that the page cache cannot hold writes to the log before its commit, and reads from there what it has written.
func TestATransactionReadsItsOwnLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "imprint.db")
	db := openWith(t, Config{Path: path})
	const n = 3000 // of 2 KiB each, while the cache has 2 MiB
	if err := db.Tx(t.Context(), func(tx *Tx) error {
		for _, round := range []string{"a", "b"} { // pages are written again that stand in the log
			for i := range n {
				if err := tx.PutSetting(fmt.Sprint("key", i), strings.Repeat(round, 2048)); err != nil {
					return err
				}
			}
		}
		for i := range n {
			v, err := tx.Setting(fmt.Sprint("key", i))
			if err != nil || v != strings.Repeat("b", 2048) {
				return fmt.Errorf("setting %d: %.10q, %v", i, v, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := db.Snapshot(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := CheckFile(t.Context(), copied); err != nil {
		t.Error(err)
	}
}

const fullDisk = "IMPRINT_TEST_FULL_DISK"

// A commit that cannot be written fails, whoever waits for it hears of it, and the next one that can be is sound. The limit is the
// process's, so it is another one.
func TestACommitThatCannotBeWrittenFails(t *testing.T) {
	if path := os.Getenv(fullDisk); path != "" {
		if err := fillDisk(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "imprint.db")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestACommitThatCannotBeWrittenFails$", "-test.count", "1")
	cmd.Env = append(os.Environ(), fullDisk+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Fatalf("%v: %s", err, out)
	}
	if err := CheckFile(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	db, err := Open(ctx, Config{Path: path})
	if err != nil {
		return err
	}
	if err := db.Tx(ctx, settings(1, "before")); err != nil {
		return err
	}
	info, err := os.Stat(path + "-wal")
	if err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	tight := limit
	tight.Cur = uint64(info.Size()) + 10_000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &tight); err != nil {
		return err
	}
	if err := db.Tx(ctx, settings(400, "lost")); err == nil {
		return fmt.Errorf("a commit was done that had no room")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	if err := db.Tx(ctx, settings(400, "kept")); err != nil {
		return fmt.Errorf("after there was room again: %w", err)
	}
	for name, want := range map[string]bool{"before0": true, "lost0": false, "lost399": false, "kept399": true} {
		var v string
		if err := db.View(ctx, func(tx *Tx) error { v, err = tx.Setting(name); return err }); err != nil || v != "" != want {
			return fmt.Errorf("setting %s: %.10q, %v", name, v, err)
		}
	}
	return db.Close()
}
