package keymaker

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// schedIdle is a policy of the scheduler: SCHED_IDLE gives way to every other at once and gets no time while processors are busy
// (sched(7)).
const schedIdle = 5

// lower gives the priority to all threads of this process; those to come inherit it. Those of Low are held back by their breath alone.
func lower(p Priority) error {
	switch p {
	case Idle:
	case Low:
		return nil
	default:
		return fmt.Errorf("priority %q", p)
	}
	done := map[int]bool{}
	for more := true; more; {
		more = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil || done[id] {
				continue
			}
			var none int32 // sched_param: no real-time priority
			_, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(id), schedIdle, uintptr(unsafe.Pointer(&none)))
			if e != 0 && e != syscall.ESRCH {
				return e
			}
			done[id], more = true, true
		}
	}
	return nil
}

// forbidDumps keeps keys out of core dumps, and other processes of the user out of this one's memory (prctl(2)).
func forbidDumps() error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); e != 0 {
		return e
	}
	return nil
}
