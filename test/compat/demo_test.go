package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func demoEnv(dir string) []string { return append(os.Environ(), "TMPDIR="+dir) }

func TestTheDemoPlaysTheWholeStoryAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "imprint"), "demo")
	cmd.Env = demoEnv(dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"signs in", "it is now lamp-4711", "the claim's key is nowhere on the device", "refused: its policy holds it to its own", "register succeeded", "Every step above really happened"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo never said %q\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "\x1b[") {
		t.Error("colour where there is no terminal")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTheDemoKeepsTheServerWhenAsked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "imprint"), "demo", "--keep")
	cmd.Env = demoEnv(dir)
	out, err := cmd.CombinedOutput()
	m := regexp.MustCompile(`kill ([0-9]+) && rm -r (\S+)`).FindStringSubmatch(string(out))
	if err != nil || m == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid, err := strconv.Atoi(m[1])
	check(t, err)
	t.Cleanup(func() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		for late := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil && time.Now().Before(late); {
			time.Sleep(20 * time.Millisecond) // not our child: there is nothing to wait on
		}
	})
	said, err := exec.CommandContext(t.Context(), filepath.Join(bin, "imprint"), "explain", "--data", filepath.Join(m[2], "imprint-data"), "--last", "2", "4711").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "register succeeded") {
		t.Errorf("the kept server does not answer: %v\n%s", err, said)
	}
}
