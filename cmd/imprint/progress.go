package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows how far something is that takes long: as a bar on a terminal, elsewhere not at all or by a line now and then.
type progress struct {
	out   io.Writer
	total int64  // 0: not known
	unit  string // of what is counted
	live  bool
	shown string

	since       func() time.Duration // the beginning; nil: neither rate nor time left are shown
	first       [2]int64             // done and n at the beginning
	plain       bool                 // lines where there is no terminal
	lastWritten time.Duration        // when there was such a line
}

const (
	barWidth   = 30
	plainEvery = 10 * time.Second
)

// newProgress shows on standard error, if that is a terminal.
func newProgress(total int64, unit string) *progress {
	return &progress{out: os.Stderr, total: total, unit: unit, live: isTerminal(os.Stderr)}
}

// timed shows how fast it goes as well, from now on, when so much was done and so many were counted already.
func (p *progress) timed(done, n int64) *progress {
	begin := time.Now()
	p.since = func() time.Duration { return time.Since(begin) }
	p.first = [2]int64{done, n}
	return p
}

// plainly writes lines where there is no terminal. It must be timed.
func (p *progress) plainly() *progress {
	p.plain = true
	return p
}

// show draws the bar anew if it looks different: so much of total is done, and n were counted.
func (p *progress) show(done, n int64) {
	switch {
	case p.live:
		p.draw(done, n)
	case p.plain && p.since()-p.lastWritten >= plainEvery:
		p.lastWritten = p.since()
		fmt.Fprintf(p.out, "%s%s\n", p.percent(done), p.counted(done, n))
	}
}

func (p *progress) draw(done, n int64) {
	text := p.percent(done) + p.counted(done, n)
	if p.total > 0 {
		width := int(min(done*barWidth/p.total, barWidth))
		text = "[" + strings.Repeat("#", width) + strings.Repeat(".", barWidth-width) + "] " + text
	}
	if text != p.shown {
		// What is shorter than before leaves nothing of it.
		fmt.Fprintf(p.out, "\r%s%s", text, strings.Repeat(" ", max(len(p.shown)-len(text), 0)))
		p.shown = text
	}
}

func (p *progress) percent(done int64) string {
	if p.total == 0 {
		return ""
	}
	return fmt.Sprintf("%3d %%  ", min(done*100/p.total, 100))
}

func (p *progress) counted(done, n int64) string {
	return fmt.Sprintf("%d %s", n, p.unit) + p.speed(done-p.first[0], n-p.first[1], p.total-done)
}

// speed is the rate and the time left, once both are known a little: so much was done and counted since the beginning, and so much is left.
func (p *progress) speed(done, n, left int64) string {
	if p.since == nil || done <= 0 || p.since() < time.Second {
		return ""
	}
	seconds := p.since().Seconds()
	text := fmt.Sprintf(", %.0f/s", float64(n)/seconds)
	if left > 0 {
		text += fmt.Sprintf(", %v left", time.Duration(seconds*float64(left)/float64(done)*float64(time.Second)).Round(time.Second))
	}
	return text
}

func (p *progress) end() {
	if p.shown != "" {
		fmt.Fprintln(p.out)
		p.shown = ""
	}
}
