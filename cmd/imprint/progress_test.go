package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTheBarShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	bar := &progress{out: &out, total: 300, unit: "keys", live: true}
	for i := range 3 {
		bar.show(int64(i*100), int64(i*1000))
		bar.show(int64(i*100), int64(i*1000)) // nothing new
	}
	bar.end()
	bar.end()
	want := fmt.Sprintf("\r[%s]   0 %%  0 keys\r[%s]  33 %%  1000 keys\r[%s]  66 %%  2000 keys\n", strings.Repeat(".", 30), strings.Repeat("#", 10)+strings.Repeat(".", 20), strings.Repeat("#", 20)+strings.Repeat(".", 10))
	if out.String() != want {
		t.Errorf("shown %q", out.String())
	}
	out.Reset()
	quiet := &progress{out: &out, total: 300}
	quiet.show(1, 1)
	quiet.end()
	if out.String() != "" {
		t.Errorf("away from a terminal: %q", out.String())
	}
}

func TestTheBarShowsHowFastItGoes(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	var passed time.Duration
	bar := &progress{out: &out, total: 1000, unit: "users", live: true, since: func() time.Duration { return passed }}
	for _, done := range []int64{0, 100, 200, 1000} {
		bar.show(done, done)
		passed += 10 * time.Second
	}
	bar.end()
	got := strings.Split(out.String(), "\r")[1:]
	for i, want := range []string{"  0 %  0 users", " 10 %  100 users, 10/s, 1m30s left", " 20 %  200 users, 10/s, 1m20s left", "100 %  1000 users, 33/s"} {
		if _, text, _ := strings.Cut(got[i], "] "); strings.TrimRight(text, " \n") != want {
			t.Errorf("%d: %q, want %q", i, text, want)
		}
	}
	if len(got) != 4 || len(got[3]) < len(got[2]) {
		t.Errorf("shown %q", out.String())
	}
}

func TestAwayFromATerminalALineNowAndThenSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	var passed time.Duration
	p := (&progress{out: &out, total: 100, unit: "lines", since: func() time.Duration { return passed }, first: [2]int64{50, 5000}}).plainly()
	for done := int64(50); done <= 100; done += 10 {
		p.show(done, done*100)
		passed += 5 * time.Second
	}
	p.end()
	if want := " 70 %  7000 lines, 200/s, 15s left\n 90 %  9000 lines, 200/s, 5s left\n"; out.String() != want {
		t.Errorf("written %q, want %q", out.String(), want)
	}
}
