package function

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Each row is something that a function tries. With the whole sandbox it must fail; with none it must work, or the row would show
// nothing; and it must fail with each of the layers in heldBy alone, or those together that stand in one value.
func TestEscapesAreRefused(t *testing.T) {
	t.Parallel()
	root := os.Geteuid() == 0
	data := t.TempDir() // of the server
	secret := filepath.Join(data, "master.key")
	if err := os.WriteFile(secret, []byte("the master key"), 0o600); err != nil {
		t.Fatal(err)
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Close()
	admin, err := net.Listen("unix", filepath.Join(data, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := os.Chmod(filepath.Join(data, "admin.sock"), 0o600); err != nil {
		t.Fatal(err)
	}
	hidden, err := net.Listen("unix", "@imprint-test-"+strconv.Itoa(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer hidden.Close()
	self := strconv.Itoa(os.Getpid())
	other := exec.Command("/bin/sleep", "300") // another function, or the server where a blow must not hit it
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Process.Kill(); _ = other.Wait() })
	victim := strconv.Itoa(other.Process.Pid)

	byRoot := []layers{namespaces, landlock}
	if root {
		byRoot = append(byRoot, ownUser)
	}
	tasks := []layers{limits | namespaces}
	if root {
		tasks = []layers{limits | ownUser} // root is not limited
	}
	rows := []struct {
		name, path string
		heldBy     []layers
	}{
		{"read", secret, byRoot},
		{"read", subjectFile(t), byRoot}, // of another function
		{"write", filepath.Join(data, "new"), byRoot},
		{"write", "/var/tmp/imprint-escape-test", []layers{namespaces, landlock}},
		{"read", "/proc/" + self + "/environ", byRoot},
		{"open", "/proc/" + self + "/mem", byRoot},
		{"process_vm_readv", victim, append(byRoot, seccomp)},
		{"ptrace", victim, append(byRoot, seccomp)},
		{"signal", self, byRoot},
		{"signal", victim, byRoot},
		{"tcp", metrics.Addr().String(), []layers{namespaces, landlock}},
		{"unix", filepath.Join(data, "admin.sock"), without(byRoot, landlock)},
		{"unix", hidden.Addr().String(), []layers{namespaces, landlock}},
		{"udp", "127.0.0.1:53", []layers{seccomp}},
		{"netlink", "", []layers{seccomp}},
		{"processes", "", tasks},
		{"one file", "", []layers{namespaces, limits}},
		{"two files", "", []layers{namespaces}},
		{"many files", "", []layers{namespaces}},
		{"descriptors", "", []layers{limits}},
		{"unshare", "", []layers{seccomp}},
		{"keyring", "", []layers{seccomp}},
		{"memfd", "", []layers{seccomp}},
		{"shared memory", "", []layers{seccomp}},
		{"shared zero", "", []layers{landlock}},
		{"socketpair", "", []layers{seccomp}},
		{"io_uring", "", []layers{seccomp}},
	}
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err == nil { // this kernel has it
		_ = unix.Close(fd)
		rows = append(rows, struct {
			name, path string
			heldBy     []layers
		}{"mptcp", "", []layers{seccomp}})
	}
	if _, err := probe("open_tree_attr", ""); err == nil { // from Linux 6.15 on
		rows = append(rows, struct {
			name, path string
			heldBy     []layers
		}{"open_tree_attr", "", []layers{seccomp}})
	}
	if root {
		rows = append(rows, []struct {
			name, path string
			heldBy     []layers
		}{{"mount", "", []layers{namespaces, ownUser, landlock, seccomp, limits}}}...)
		if f, err := os.Open("/dev/mem"); err == nil {
			f.Close()
			rows = append(rows, []struct {
				name, path string
				heldBy     []layers
			}{{"open", "/dev/mem", byRoot}}...)
		}
	}
	const none = layers(0)
	subjects, api := map[layers]func(event string) Result{}, newAPI(t)
	with := func(use layers) func(event string) Result {
		if subjects[use] == nil {
			r := world(t, Config{API: api, without: allLayers &^ use}) // the way to the API leads nowhere else
			c := subject(t, "go")
			c.Memory = 1024
			subjects[use] = func(event string) Result { return ask(t, r, c, event) }
		}
		return subjects[use]
	}
	for _, row := range rows {
		event, _ := json.Marshal(map[string]string{"case": row.name, "path": row.path})
		if res := with(allLayers)(string(event)); res.FunctionError == "" {
			t.Errorf("%s %s: %s", row.name, row.path, res.Payload)
		} else if strings.Contains(string(res.Payload), "no case") || strings.Contains(string(res.Payload), "Timedout") {
			t.Errorf("%s %s: was not tried: %s", row.name, row.path, res.Payload)
		}
		if res := with(none)(string(event)); res.FunctionError != "" {
			if row.name == "ptrace" && confined() { // the server itself may not, under the filter of its unit
				continue
			}
			t.Errorf("%s %s without a sandbox shows nothing: %s\n%s", row.name, row.path, res.Payload, res.Log)
		}
		for _, use := range row.heldBy {
			if res := with(use)(string(event)); res.FunctionError == "" {
				t.Errorf("%s %s with %v alone: %s", row.name, row.path, use, res.Payload)
			}
		}
		_ = os.Remove("/var/tmp/imprint-escape-test")
		_ = os.Remove(filepath.Join(data, "new"))
	}
}

// confined tells whether this process has a filter of system calls.
func confined() bool {
	mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return err == nil && mode == unix.SECCOMP_MODE_FILTER
}

func without(list []layers, l layers) (out []layers) {
	for _, have := range list {
		if have != l {
			out = append(out, have)
		}
	}
	return out
}

// subjectFile is a file of another function: everybody may read it, if he can name it.
func subjectFile(t *testing.T) string {
	dir := t.TempDir()
	name := filepath.Join(dir, "app.py")
	if err := os.WriteFile(name, []byte("SECRET = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// What the function's memory may be, all its processes together may have.
func TestTooMuchMemoryEndsTheFunction(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	for _, hog := range []string{"memory", "memories"} {
		c := subject(t, "go")
		res := ask(t, r, c, `{"case":"`+hog+`"}`)
		if res.FunctionError == "" || hog == "memories" && !strings.Contains(string(res.Payload), "Runtime.OutOfMemory") {
			t.Errorf("%s: %q %s\n%s", hog, res.FunctionError, res.Payload, res.Log)
		}
		c.Memory = 2048
		if res := ask(t, r, c, `{"case":"`+hog+`"}`); res.FunctionError != "" {
			t.Errorf("%s with enough: %s\n%s", hog, res.Payload, res.Log)
		}
	}
	for lang, source := range map[string]string{
		"python": "def handler(e, c):\n    b = bytearray(700 << 20)\n    return len(b)",
		"node":   "exports.handler = async () => { const all = []; for (let i = 0; i < 700; i++) all.push(Buffer.alloc(1 << 20, 1)); return all.length; }",
	} {
		c := subject(t, lang)
		c.Dir = write(t, map[string]string{filepath.Base(map[string]string{"python": "app.py", "node": "index.js"}[lang]): source})
		if res := ask(t, r, c, `{}`); res.FunctionError == "" {
			t.Errorf("%s: %s", lang, res.Payload)
		}
		c.Memory = 2048
		if res := ask(t, r, c, `{}`); res.FunctionError != "" {
			t.Errorf("%s with enough: %s\n%s", lang, res.Payload, res.Log)
		}
	}
}

// running tells whether a process with this argument runs on the machine, and which.
func running(argument string) (pid int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(b), "sleep\x00"+argument+"\x00") {
			pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

const daemonPython = `
import os, subprocess
def handler(event, context):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", event["path"]])
        os._exit(0)
    os.wait()
    return "left"
`

func TestWhatAFunctionLeavesBehindEnds(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	bare := world(t, Config{without: allLayers})
	mark := fmt.Sprintf("%d.%d", 1000+os.Getpid(), time.Now().UnixNano()%1e9)
	for i, lang := range []string{"python", "go"} {
		c := subject(t, lang)
		if lang == "python" {
			c.Dir = write(t, map[string]string{"app.py": daemonPython})
		}
		name := mark + strconv.Itoa(i)
		event := `{"case":"daemon","path":"` + name + `"}`
		if res := ask(t, bare, c, event); string(res.Payload) != `"left"` {
			t.Errorf("%s: %s\n%s", lang, res.Payload, res.Log)
		}
		// Without a sandbox it lives on, or the test would show nothing.
		pid := 0
		until(t, func() bool { pid = running(name); return pid != 0 })
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for range 2 {
			name += "1"
			if res := ask(t, r, c, strings.ReplaceAll(event, mark+strconv.Itoa(i), name)); string(res.Payload) != `"left"` {
				t.Errorf("%s: %s\n%s", lang, res.Payload, res.Log)
			}
			until(t, func() bool { return running(name) == 0 })
		}
	}
}

// Files in the scratch folder are gone as well, though Python's process stays.
func TestNoFileReachesTheNextEvent(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := Code{Name: "f", Runtime: "python3.11", Handler: "app.handler", Dir: write(t, map[string]string{"app.py": `
import os, tempfile
kept = tempfile.mkdtemp()
def handler(event, context):
    had = sorted(os.listdir("/tmp"))
    os.makedirs("/tmp/a/b")
    open("/tmp/a/b/c", "w").close()
    os.symlink("/tmp/a", "/tmp/l")
    os.chmod("/tmp/a/b", 0)
    return [name for name in had if "/tmp/" + name != kept]
`})}
	for range 3 {
		if res := ask(t, r, c, `{}`); string(res.Payload) != "[]" {
			t.Errorf("%s\n%s", res.Payload, res.Log)
		}
	}
}

func TestAnAnswerIsGivenOnceAndToItsOwnEvent(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := subject(t, "go")
	for kind, want := range map[string]string{
		"twice":   `second: 403 {"errorMessage":"the invocation has its answer already","errorType":"InvalidStateTransition"}`,
		"another": `another: 400 {"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}`,
	} {
		c.Reuse = kind == "twice" // else the first answer ends the process
		res := ask(t, r, c, `{"case":"`+kind+`"}`)
		if string(res.Payload) != `{"allowProvisioning":false}` {
			t.Errorf("%s: %s", kind, res.Payload)
		}
		if kind == "another" && !strings.Contains(string(res.Log), want) {
			t.Errorf("%s\nwant %s", res.Log, want)
		}
	}
	c.Reuse = false
	if res := ask(t, r, c, `{"case":"next"}`); string(res.Payload) != "403" {
		t.Errorf("asking for the next event before this one is answered: %s", res.Payload)
	}
}

func TestAFunctionIsNobodyAndSeesNothing(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := subject(t, "go")
	said := func(kind string) (s string) {
		_ = json.Unmarshal(ask(t, r, c, `{"case":"`+kind+`"}`).Payload, &s)
		return s
	}
	var id int
	status := said("who")
	rest, groups, _ := strings.Cut(status, " groups ")
	if n, _ := fmt.Sscanf(rest, "pid 1 caps [{0 0 0} {0 0 0}] no_new_privs 1 seccomp 2 uid %d", &id); n != 1 {
		t.Error(status)
	}
	if root := os.Geteuid() == 0; root && (id < firstUID || groups != "[]") || !root && id != sandboxUID {
		t.Error(status)
	}
	if env := said("environment"); strings.Contains(env, "SERVER_SECRET") || strings.Contains(env, "HOME=") {
		t.Errorf("the environment of the server: %s", env)
	}
	for _, name := range strings.Fields(said("tree")) {
		ok := false
		for _, want := range []string{
			"/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/sbin", "/tmp", "/usr", "/var", "/var/task", "/var/tmp", "/var/runtime", "/sys",
			"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime",
			"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/lib32", "/lib64",
		} {
			ok = ok || name == want
		}
		if !ok {
			t.Errorf("a function sees %s", name)
		}
	}
}

// Folders may be shown that have the server's data below them.
func TestWhatIsToBeHiddenIsHidden(t *testing.T) {
	t.Parallel()
	r := world(t, Config{Hide: []string{"/usr/share", "/nothing/of/this/name"}})
	c := Code{Name: "f", Runtime: "python3.11", Handler: "app.handler", Dir: write(t, map[string]string{"app.py": `
import os
def handler(event, context):
    try:
        return os.listdir("/usr/share")
    except OSError as e:
        return str(e)
`})}
	if res := ask(t, r, c, `{}`); !strings.Contains(string(res.Payload), "ermission denied") && string(res.Payload) != "[]" {
		t.Errorf("%s", res.Payload)
	}
}

// What the operator grants, works: names, and whatever this machine reaches.
func TestFunctionsMayBeGivenTheNetwork(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	granted, not := world(t, Config{Network: true}), world(t, Config{})
	for lang, source := range map[string][2]string{
		"python": {"app.py", "import socket\ndef handler(e, c):\n    socket.create_connection(('localhost', " + port + "), 20).close()\n    return 'connected'"},
		"node": {"index.js", "exports.handler = () => new Promise((yes, no) => { const s = require('net').connect(" + port + ", 'localhost'); " +
			"s.on('connect', () => { s.end(); yes('connected'); }); s.on('error', no); });"},
		"go": {},
	} {
		c := subject(t, lang)
		if lang != "go" {
			c.Dir = write(t, map[string]string{source[0]: source[1]})
		}
		event := `{"case":"tcp","path":"localhost:` + port + `"}`
		if res := ask(t, granted, c, event); string(res.Payload) != `"connected"` {
			t.Errorf("%s: %s\n%s", lang, res.Payload, res.Log)
		}
		if res := ask(t, not, c, event); res.FunctionError == "" {
			t.Errorf("%s without the grant: %s", lang, res.Payload)
		}
	}
}

// Closing ends what runs.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	c := subject(t, "python")
	c.Timeout = MaxTimeout
	done := make(chan Result)
	go func() {
		res, _ := r.Invoke(context.Background(), c, []byte(`{"case":"sleep","seconds":800}`))
		done <- res
	}()
	until(t, func() bool { return r.count() > 0 })
	r.Close()
	if res := <-done; !strings.Contains(string(res.Payload), "Runtime.ExitError") {
		t.Errorf("%s", res.Payload)
	}
	if _, err := r.Invoke(context.Background(), c, []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("after Close: %v", err)
	}
}
