package bulk

import (
	"runtime"
	"testing"
	"time"
)

func TestChunksTakeAsLongAsTheyMay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		lines int
		took  time.Duration
		want  int
	}{{8, chunkTime, 8}, {8, chunkTime / 4, 16}, {8, 0, 16}, {64, chunkTime / 2, 64}, {64, 4 * chunkTime, 16}, {1, time.Minute, 1}} {
		var p pace
		if p.took(row.lines, row.took, 0, time.Now()); p.lines != row.want {
			t.Errorf("after %d lines in %v: %d, want %d", row.lines, row.took, p.lines, row.want)
		}
	}
}

func TestATaskGivesWayWhileOthersWrite(t *testing.T) {
	t.Parallel()
	p := pace{lines: 8}
	now := time.Unix(1e9, 0)
	all := uint64(100) // before the task began
	for _, row := range []struct {
		own, others uint64
		pass        time.Duration
		alone       bool
	}{
		{1, 0, 0, false},
		{1, 0, company, true}, // nobody has written since
		{1, 1, 0, false},
		{0, 1, company, false},
		{5, 0, company / 2, false},
		{5, 0, company / 2, true},
		{5, 0, time.Hour, true},
	} {
		now = now.Add(row.pass)
		all += row.own + row.others
		p.own += row.own
		if got := p.alone(all, now); got != row.alone {
			t.Errorf("%+v: alone is %v", row, got)
		}
	}
	if o := p.order(true); o.workers != runtime.GOMAXPROCS(0) || o.lines != mostLines {
		t.Errorf("alone: %+v", o)
	}
	if o := p.order(false); o.workers > max(runtime.GOMAXPROCS(0)/2, 1) || o.lines != 8 {
		t.Errorf("beside others: %+v", o)
	}
}
