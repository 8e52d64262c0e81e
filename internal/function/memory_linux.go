package function

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// How often the memory of a worker is looked at: while it runs, and while it waits.
const (
	lookBusy = 50 * time.Millisecond
	lookIdle = time.Second
)

// watch ends the worker when all its processes together have more memory of their own than the function may have. The limit of a process
// (RLIMIT_DATA) stops one that takes much at once, this one stops many that take little each.
func (w *worker) watch() {
	limit := int64(w.code.Memory) << 20
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		woken := false // an event is being handed over
		select {
		case <-w.gone:
			return
		case <-w.wake:
			woken = true
		case <-next.C:
		}
		if used := memoryOf(w.cmd.Process.Pid, 0); used > limit {
			w.hog.Store(true)
			w.kill()
			return
		}
		w.mu.Lock()
		busy := w.current != nil
		w.mu.Unlock()
		if busy || woken {
			next.Reset(lookBusy)
		} else {
			next.Reset(lookIdle)
		}
	}
}

// memoryOf sums up what a process and those below it have of their own in memory, in bytes. What a fork still shares with its parent counts
// twice.
func memoryOf(pid, depth int) (sum int64) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	b, err := os.ReadFile(proc + "statm")
	if err != nil {
		return 0
	}
	if f := bytes.Fields(b); len(f) > 2 { // proc_pid_statm(5): size, resident, shared
		resident, _ := strconv.ParseInt(string(f[1]), 10, 64)
		shared, _ := strconv.ParseInt(string(f[2]), 10, 64)
		sum = (resident - shared) * int64(os.Getpagesize())
	}
	if depth > maxTasks {
		return sum
	}
	tasks, _ := filepath.Glob(proc + "task/*/children")
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for _, child := range bytes.Fields(b) {
			if id, err := strconv.Atoi(string(child)); err == nil {
				sum += memoryOf(id, depth+1)
			}
		}
	}
	return sum
}
