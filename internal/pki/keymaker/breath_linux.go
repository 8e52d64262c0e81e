package keymaker

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A breath is how a thread lets go of its processor while it makes keys: when it has used it for a while, it sleeps.
//
// Giving way is not enough. A processor that runs a thread of SCHED_IDLE is not idle to the kernel, and does not look whether others wait for
// another processor; with such a thread on each, those who wait for one that is taken stayed there while keys were made beside them.
// When it becomes idle, if only for an instant, it takes over whoever waits.
type breath struct {
	each   time.Duration // of the processor's time if nobody else wants it
	beside time.Duration // the same if others do
	sleep  time.Duration // at least
	share  int           // one part in so many of the processor's time is used at most; 0: all that it gets
}

var breaths = map[Priority]breath{
	Idle: {each: 2 * time.Millisecond, beside: time.Millisecond / 2, sleep: 20 * time.Microsecond},
	Low:  {each: time.Millisecond, beside: time.Millisecond, share: 20},
}

// A breather lets a thread breathe, at each of the hundreds of times that the making of a key asks for randomness.
type breather struct {
	breath
	until time.Duration // the thread's time at the next breath
	used  time.Duration // and at the last one
	woken time.Time     // after that
}

// newBreather takes the thread of the caller, the n-th of so many, for good.
func newBreather(p Priority, n, of int) *breather {
	runtime.LockOSThread()
	if p == Idle {
		bindThread(n, of)
	}
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // in vain sleeps take 50 µs longer
	b := &breather{breath: breaths[p]}
	b.wake(b.each)
	return b
}

// bindThread leaves the thread one processor if there is a thread for each: else where one sleeps the next one goes on, and the processor
// never becomes idle. In vain the others get less.
func bindThread(n, of int) {
	var all, mine unix.CPUSet
	if unix.SchedGetaffinity(0, &all) != nil || all.Count() > of {
		return
	}
	n %= all.Count()
	for cpu := 0; ; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if n == 0 {
			mine.Set(cpu)
			_ = unix.SchedSetaffinity(0, &mine)
			return
		}
		n--
	}
}

func (b *breather) breathe() {
	now := threadTime()
	if now < b.until {
		return
	}
	used, next := now-b.used, b.each
	if time.Since(b.woken) > used+used/8 {
		next = b.beside
	}
	sleep := unix.NsecToTimespec(int64(max(b.sleep, used*time.Duration(b.share-1))))
	_ = unix.Nanosleep(&sleep, nil) // a signal shortens one of many
	b.wake(next)
}

func (b *breather) wake(next time.Duration) {
	b.used, b.woken = threadTime(), time.Now()
	b.until = b.used + next
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // it always works (clock_gettime(2))
	return time.Duration(t.Nano())
}
