package compat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// A loggedRoom is a rule that writes what rooms say to a log.
type loggedRoom struct {
	*site
	c *client.Client
}

const roomLog = "/rooms"

func newLoggedRoom(t *testing.T) *loggedRoom {
	t.Helper()
	s := ownServer(t)
	c, err := s.adminClient()
	check(t, err)
	iam := func(action string, in map[string]string) error {
		in["RoleName"] = "rooms"
		return c.Query(t.Context(), "iam", "2010-05-08", action, in, nil)
	}
	check(t, errors.Join(
		iam("CreateRole", map[string]string{"AssumeRolePolicyDocument": *text(object{"Version": "2012-10-17",
			"Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})}),
		iam("PutRolePolicy", map[string]string{"PolicyName": "log", "PolicyDocument": *text(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}})}),
		c.REST(t.Context(), "iot", http.MethodPost, "/rules/rooms", object{"sql": "SELECT * FROM 'rooms/#'", "actions": []object{{"cloudwatchLogs": object{
			"roleArn": "arn:aws:iam::" + account + ":role/rooms", "logGroupName": roomLog}}}}, nil)))
	return &loggedRoom{s, c}
}

func (r *loggedRoom) say(t *testing.T, n int) {
	t.Helper()
	check(t, r.c.REST(t.Context(), "iotdata", http.MethodPost, "/topics/rooms%2Fattic?qos=1", object{"n": n}, nil))
}

// show is the log as other programs read it.
func (r *loggedRoom) show(t *testing.T, args ...string) (entries []loggedEntry) {
	t.Helper()
	out := r.run(t, t.TempDir(), nil, imprint(), append([]string{"log", "show", roomLog, "--json"}, args...)...)
	for line := range strings.Lines(out) {
		entries = append(entries, must[loggedEntry](t, line))
	}
	return entries
}

type loggedEntry struct {
	Date  float64
	Event struct{ N int }
}

// at is the entry's time as --from and --until take it.
func (e loggedEntry) at() string {
	return time.UnixMilli(int64(e.Date*1000 + 0.5)).UTC().Format(time.RFC3339Nano)
}

func TestALogIsShownFromOneTimeToAnother(t *testing.T) {
	t.Parallel()
	r := newLoggedRoom(t)
	var all []loggedEntry
	for n := 1; n <= 3; n++ {
		r.say(t, n)
		for all = nil; len(all) < n; { // each has a time of its own
			out, err := r.try(t, t.TempDir(), nil, imprint(), "log", "show", roomLog, "--json")
			if err == nil {
				all = r.show(t)
			} else if !strings.Contains(out, roomLog) || t.Context().Err() != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	numbers := func(entries []loggedEntry) string {
		var n []string
		for _, e := range entries {
			n = append(n, fmt.Sprint(e.Event.N))
		}
		return strings.Join(n, " ")
	}
	for want, args := range map[string][]string{
		"1 2 3": {"--since", "1d"},
		"2 3":   {"--from", all[1].at()},
		"2":     {"--from", all[1].at(), "--until", all[2].at()},
		"1":     {"--until", all[1].at()},
		"":      {"--from", all[0].at(), "--until", all[0].at()},
	} {
		if got := numbers(r.show(t, args...)); got != want {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
	for want, args := range map[string][]string{
		"--from: ": {"--from", "yesterday"}, "--until: ": {"--until", "12:00"}, "leave --until out": {"--follow", "--until", all[0].at()},
	} {
		if out, err := r.try(t, t.TempDir(), nil, imprint(), append([]string{"log", "show", roomLog}, args...)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v, %s", args, err, out)
		}
	}
}

// Who follows a log gets each entry once, in order, until interrupted.
func TestALogIsFollowed(t *testing.T) {
	t.Parallel()
	r := newLoggedRoom(t)
	r.say(t, 1)
	for {
		if _, err := r.try(t, t.TempDir(), nil, imprint(), "log", "show", roomLog); err == nil {
			break
		}
		check(t, t.Context().Err())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, imprint(), "log", "show", roomLog, "--json", "--follow")
	cmd.Env = r.environ()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 1; n <= 4; n++ {
		var e loggedEntry
		if !lines.Scan() {
			t.Fatalf("it ended before entry %d: %v", n, lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Event.N != n {
			t.Fatalf("entry %d is %s (%v)", n, lines.Text(), err)
		}
		if n < 4 {
			r.say(t, n+1)
		}
	}
	check(t, cmd.Process.Signal(os.Interrupt))
	if lines.Scan() {
		t.Errorf("and then %s", lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted, it ends with %v", err)
	}
}
