//go:build !linux

package keymaker

import (
	"fmt"
	"syscall"
)

// lower gives the priority to this process, as far as there is one.
func lower(p Priority) error {
	nice, ok := map[Priority]int{Idle: 20, Low: 9}[p]
	if !ok {
		return fmt.Errorf("priority %q", p)
	}
	return syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice)
}

// forbidDumps keeps keys out of core dumps.
func forbidDumps() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }
