package keymaker

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// What a priority is to the scheduler. A process of SCHED_IDLE gives way to every other at once and gets no time while processors are
// busy (sched(7)). Of a busy processor with two others on it, nice 9 gets 137 of 2048 + 137 parts (sched_prio_to_weight in the
// kernel): 6 %.
const (
	schedIdle = 5
	lowNice   = 9
)

// lower gives the priority to all threads of this process; those to come inherit it.
func lower(p Priority) error {
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
			if err := lowerThread(id, p); err != nil && err != syscall.ESRCH {
				return err
			}
			done[id], more = true, true
		}
	}
	return nil
}

func lowerThread(id int, p Priority) error {
	switch p {
	case Idle:
		var none int32 // sched_param: no real-time priority
		if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(id), schedIdle, uintptr(unsafe.Pointer(&none))); e != 0 {
			return e
		}
		return nil
	case Low:
		now, err := syscall.Getpriority(syscall.PRIO_PROCESS, id)
		if err != nil || 20-now >= lowNice { // the kernel tells 20 - nice; a service of nice 19 must not be raised, nor may it be
			return err
		}
		return syscall.Setpriority(syscall.PRIO_PROCESS, id, lowNice)
	}
	return fmt.Errorf("priority %q", p)
}

// forbidDumps keeps keys out of core dumps, and other processes of the user out of this one's memory (prctl(2)).
func forbidDumps() error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); e != 0 {
		return e
	}
	return nil
}
