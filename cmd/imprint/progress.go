package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows on a terminal how far something is that takes long.
type progress struct {
	out   io.Writer
	total int64  // 0: not known
	unit  string // of what is counted
	live  bool
	shown string

	since func() time.Duration // the beginning; nil: neither rate nor time left are shown
}

const barWidth = 30

// newProgress shows on standard error, if that is a terminal.
func newProgress(total int64, unit string) *progress {
	return &progress{out: os.Stderr, total: total, unit: unit, live: isTerminal(os.Stderr)}
}

// timed shows how fast it goes as well.
func (p *progress) timed() *progress {
	begin := time.Now()
	p.since = func() time.Duration { return time.Since(begin) }
	return p
}

// show draws the bar anew if it looks different: so much of total is done, and n were counted.
func (p *progress) show(done, n int64) {
	if !p.live {
		return
	}
	text := fmt.Sprintf("%d %s", n, p.unit) + p.speed(done, n)
	if p.total > 0 {
		width := int(min(done*barWidth/p.total, barWidth))
		text = fmt.Sprintf("[%s%s] %3d %%  %s", strings.Repeat("#", width), strings.Repeat(".", barWidth-width), min(done*100/p.total, 100), text)
	}
	if text != p.shown {
		// What is shorter than before leaves nothing of it.
		fmt.Fprintf(p.out, "\r%s%s", text, strings.Repeat(" ", max(len(p.shown)-len(text), 0)))
		p.shown = text
	}
}

// speed is the rate and the time left, once both are known a little.
func (p *progress) speed(done, n int64) string {
	if p.since == nil || done == 0 || p.since() < time.Second {
		return ""
	}
	seconds := p.since().Seconds()
	text := fmt.Sprintf(", %.0f/s", float64(n)/seconds)
	if done < p.total {
		text += fmt.Sprintf(", %v left", time.Duration(seconds*float64(p.total-done)/float64(done)*float64(time.Second)).Round(time.Second))
	}
	return text
}

func (p *progress) end() {
	if p.shown != "" {
		fmt.Fprintln(p.out)
		p.shown = ""
	}
}
