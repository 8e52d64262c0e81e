package compat

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func TestThePageOfBulkRegistrationWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n"+codeBlocks(document(t, "bulk.md")))
	wantOutput(t, out, `(?m)^Completed: 3 lines registered, 1 not, in `, `(?m)^line 4: InvalidRequestException: .*CSR`, `Completed  100 %  3 +1 `,
		`(?m)^line 2: thing lamp-2, certificate [0-9a-f]{64}$`, `certificates: 3 certificates`, `-errors.json: 1 lines`, `-results.json: 3 lines`, `(?m)^3\t1$`,
		`"lineNumber":4,"offset":4,"response":\{"Error":\{"Code":"InvalidRequestException"`, `(?m)^1$`)
}

// A bulkSite registers things by the verbs.
type bulkSite struct {
	*testing.T
	*site
	dir string
}

func newBulkSite(t *testing.T, lines int) *bulkSite {
	t.Helper()
	b := &bulkSite{t, ownServer(t), t.TempDir()}
	bulkWorld(t, b.adminSDK(t), "unused", "unused")
	b.write("template.json", bulkTemplate)
	input, _ := bulkInput(t, lines)
	b.write("lamps.json", string(input))
	return b
}

func (b *bulkSite) write(name, text string) {
	b.Helper()
	check(b.T, os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600))
}

// verb runs imprint bulk, wants an exit code, and returns what was printed.
func (b *bulkSite) verb(code int, args ...string) string {
	b.Helper()
	out, err := b.try(b.T, b.dir, nil, imprint(), append([]string{"bulk"}, args...)...)
	if got := exitCode(err); got != code {
		b.Fatalf("imprint bulk %v ended with %d (%v), want %d:\n%s", args, got, err, code, out)
	}
	return out
}

func exitCode(err error) int {
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

func (b *bulkSite) wants(out string, texts ...string) {
	b.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			b.Errorf("%q is not in what was printed:\n%s", text, out)
		}
	}
}

func TestTheVerbsOfBulkRegistrationSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := newBulkSite(t, 30)
	b.write("empty.json", " \n\n")
	b.write("no-template.json", "{}")
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"watch"}, "no task runs: name one of those that `imprint bulk list` shows"},
		{[]string{"watch", "none"}, "ResourceNotFoundException"},
		{[]string{"start", "template.json", "none.json"}, "none.json: no such file"},
		{[]string{"start", "template.json", "empty.json"}, "empty.json has no lines"},
		{[]string{"start", "template.json", "s3://plant"}, "s3://plant names no object: s3://BUCKET/KEY does"},
		{[]string{"start", "template.json", "s3://plant/none"}, "Reading the input plant/none: bucket plant: The specified bucket does not exist"},
		{[]string{"start", "no-template.json", "lamps.json"}, "has ended as Failed: The template is not valid: "},
		{[]string{"start", "template.json", "lamps.json", "--role", "arn:aws:iam::" + account + ":role/none"}, "InvalidRequestException"},
	} {
		b.wants(b.verb(1, row.args...), row.want)
	}
	if out := b.verb(0, "start", "template.json", "lamps.json"); !strings.Contains(out, "Completed: 30 lines registered, 0 not, in ") {
		t.Errorf("all is well: %s", out)
	}
	if left := b.run(t, b.dir, nil, imprint(), "aws", "s3", "ls", "--recursive", "s3://imprint-bulk-"+account+"-us-east-1"); strings.TrimSpace(left) != "" {
		t.Errorf("left in the bucket: %s", left)
	}
	b.wants(b.verb(0, "list", "--status", "Completed"), "Completed  100 %  30")
}

// Ctrl-C leaves the task to the server, and another command finds it and stops it.
func TestABulkTaskIsLeftAloneFoundAndStopped(t *testing.T) {
	t.Parallel()
	b := newBulkSite(t, 1000)
	// The same lines many times over: a task that is still running when it is stopped, on any machine.
	text, err := os.ReadFile(filepath.Join(b.dir, "lamps.json"))
	check(t, err)
	b.write("many.json", strings.Repeat(string(text), 100))
	start := exec.Command(imprint(), "bulk", "start", "template.json", "many.json")
	start.Dir, start.Env = b.dir, b.environ()
	said, err := start.StderrPipe()
	check(t, err)
	check(t, start.Start())
	lines := bufio.NewReader(said)
	first, err := lines.ReadString('\n') // the task's id
	check(t, err)
	check(t, start.Process.Signal(syscall.SIGINT))
	rest, err := io.ReadAll(lines) // how far it is may come in between
	check(t, err)
	if code := exitCode(start.Wait()); code != 1 {
		t.Errorf("after Ctrl-C the command ended with %d", code)
	}
	b.wants(first+string(rest), "task ", ": the lines of many.json", "the task goes on without this command: imprint bulk watch ")
	id := strings.TrimSuffix(strings.Fields(first)[1], ":")
	b.wants(b.verb(1, "start", "template.json", "lamps.json"), "Another thing registration task of this account is running")
	b.wants(b.verb(0, "list"), id, "InProgress")
	b.wants(b.verb(0, "stop"), "Cancelled: ")
	b.wants(b.verb(1, "stop", id), "has ended already, as Cancelled")
	b.wants(b.verb(1, "watch", id), "the task "+id+" has ended as Cancelled: somebody stopped it")
	id = strings.TrimSpace(b.verb(0, "start", "template.json", "lamps.json", "--no-watch"))
	if o := bulkState(t, b.adminSDK(t), id, ended); o.Status != iottypes.StatusCompleted || o.SuccessCount != 999 { // the 500th is bad
		t.Errorf("%s, %d lines", o.Status, o.SuccessCount)
	}
}
