package keymaker

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file is what makers do on Linux only: they let go of the processor, and take a part of it. /proc shows it.

func TestWhoMakesKeysLetsGoOfTheProcessor(t *testing.T) {
	t.Parallel()
	m, _ := newMaker(t, Config{Priority: Idle, Workers: runtime.NumCPU()})
	const keys = 8
	m.make(t, keys)
	var bound map[string]int
	var breaths int
	look := func() {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.process.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		bound, breaths = map[string]int{}, 0
		for _, path := range tasks {
			if cpu := statusOf(t, path, "Cpus_allowed_list"); !strings.ContainsAny(cpu, ",-") {
				bound[cpu]++
				n, _ := strconv.Atoi(statusOf(t, path, "voluntary_ctxt_switches"))
				breaths += n
			}
		}
	}
	look()
	used := cpuOf(t, fmt.Sprintf("/proc/%d/stat", m.process.cmd.Process.Pid))
	t.Logf("%d sleeps in %v of CPU", breaths, used)
	// They sleep at steps of the work alone. Where a step takes longer than that, it is each few of them.
	if most := 3 * time.Millisecond; time.Duration(breaths)*most < used && breaths < 20*keys {
		t.Errorf("%d sleeps in %v of CPU, less than one in %v", breaths, used, most)
	}
	late := time.Now().Add(time.Minute)
	for len(bound) < runtime.NumCPU() && time.Now().Before(late) { // on a busy machine one thread may have made all, before another began
		m.make(t, 1)
		look()
	}
	if len(bound) != runtime.NumCPU() {
		t.Errorf("the threads of %d processors make keys on these alone: %v", runtime.NumCPU(), bound)
	}
}

// statusOf returns a line of proc_pid_status(5).
func statusOf(t *testing.T, path, name string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		return "" // it has ended
	}
	_, rest, _ := strings.Cut(string(b), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}

func TestLowTakesATwentieth(t *testing.T) {
	t.Parallel()
	m, _ := newMaker(t, Config{Priority: Low, Workers: 1})
	m.make(t, 1) // it has started
	stat := fmt.Sprintf("/proc/%d/stat", m.process.cmd.Process.Pid)
	before, begin := cpuOf(t, stat), time.Now()
	m.make(t, 3)
	if used, took := cpuOf(t, stat)-before, time.Since(begin); used > took/10 {
		t.Errorf("%v of CPU in %v", used, took)
	}
}

// cpuOf is the processor time of a process, fields 14 and 15 of stat in hundredths of a second.
func cpuOf(t *testing.T, stat string) (all time.Duration) {
	t.Helper()
	b, err := os.ReadFile(stat)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[11:13] {
		n, _ := strconv.Atoi(f)
		all += time.Duration(n) * 10 * time.Millisecond
	}
	return all
}
