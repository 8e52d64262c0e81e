package function

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	if os.Getenv("TEST_HOG") != "" {
		touch(40 << 20)
		_, _ = os.Stdout.WriteString(".")
		time.Sleep(time.Minute)
	}
	if os.Getenv("TEST_HANDLER") != "" {
		goHandler()
	}
	_ = os.Setenv("SERVER_SECRET", "of the server")
	code := m.Run()
	if raceDetector {
		if built, err := self(); err == nil {
			_ = os.RemoveAll(filepath.Dir(built))
		}
	}
	os.Exit(code)
}

// world is a Runner for a test. It waits longer for a busy machine.
func world(t testing.TB, cfg Config) *Runner {
	t.Helper()
	if cfg.patience.load = time.Minute; cfg.patience.handOver == 0 {
		cfg.patience.handOver = time.Minute
	}
	r := New(cfg)
	t.Cleanup(r.Close)
	if err := r.Available(); err != nil && os.Getenv("CI") == "" {
		t.Skipf("this machine has no sandbox: %v", err)
	} else if err != nil {
		t.Fatalf("the tests of functions need the sandbox: %v", err)
	}
	return r
}

// write makes a folder of code.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// longTimeout is that of handlers which are to answer: those of a busy machine may need more than AWS's three seconds.
const longTimeout = 50 * time.Second

const testARN = "arn:aws:lambda:eu-central-1:000000000000:function:check"

// subject is the function that the tests of behaviour call, once in each language.
func subject(t testing.TB, name string) Code {
	t.Helper()
	c := Code{Name: "check", ARN: testARN + "-" + name, Environment: map[string]string{"OWN": "mine"}, Timeout: longTimeout}
	switch name {
	case "python":
		c.Dir, c.Runtime, c.Handler = write(t, map[string]string{"app.py": file(t, "app.py")}), "python3.12", "app.handler"
	case "node":
		c.Dir, c.Runtime, c.Handler = write(t, map[string]string{"index.js": file(t, "index.js")}), "nodejs22.x", "index.handler"
	case "go": // this very program, as a handler of the Runtime API
		self, err := self()
		if err != nil {
			t.Fatal(err)
		}
		c.Dir, c.Runtime, c.Handler = t.TempDir(), "provided.al2023", "bootstrap"
		if err := copyFile(self, filepath.Join(c.Dir, "bootstrap")); err != nil {
			t.Fatal(err)
		}
		c.Environment["TEST_HANDLER"] = "1"
	}
	return c
}

// raceDetector: this program needs more memory than functions may have, so the handler is built without it.
var raceDetector bool

var self = sync.OnceValues(func() (string, error) {
	if !raceDetector {
		return os.Executable()
	}
	dir, err := os.MkdirTemp("", "imprint-function-test-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "handler"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the handler: %w\n%s", err, out)
	}
	return filepath.Join(dir, "handler"), nil
})

// copyFile links where it can: a process that another test starts while a file is being written keeps it from being executed.
func copyFile(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Close()
}

func file(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func ask(t testing.TB, r *Runner, c Code, event string) Result {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = longTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	res, err := r.Invoke(ctx, c, []byte(event))
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	return res
}

// until waits for something that other processes bring about.
func until(t testing.TB, done func() bool) {
	t.Helper()
	late := time.After(2 * time.Minute)
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-late:
			t.Fatal("waited in vain")
		}
	}
}

// goHandler speaks the Runtime API without a library.
func goHandler() {
	if os.Getenv("TEST_HANDLER") == "init" {
		post("/runtime/init/error", `{"errorType":"Own.Init","errorMessage":"not today"}`)
		os.Exit(1)
	}
	count := 0
	for {
		resp, err := http.Get(apiURL("/runtime/invocation/next"))
		if err != nil {
			os.Exit(1)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		id := resp.Header.Get("Lambda-Runtime-Aws-Request-Id")
		count++
		answer, err := goCase(body, resp.Header, count)
		if err != nil {
			b, _ := json.Marshal(map[string]string{"errorType": "errorString", "errorMessage": err.Error()})
			post("/runtime/invocation/"+id+"/error", string(b))
			continue
		}
		post("/runtime/invocation/"+id+"/response", answer)
	}
}

func apiURL(path string) string {
	return "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01" + path
}

func post(path, body string) (status int, said string) {
	resp, err := http.Post(apiURL(path), "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(bytes.TrimSpace(b))
}

func goCase(body []byte, h http.Header, count int) (string, error) {
	var e struct {
		Case, Room, Path string
		Seconds          float64
		Lines            int
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return "", err
	}
	id := h.Get("Lambda-Runtime-Aws-Request-Id")
	switch e.Case {
	case "allow":
		return `{"allowProvisioning":true}`, nil
	case "deny":
		return `{"allowProvisioning":false}`, nil
	case "override":
		return `{"allowProvisioning":true,"parameterOverrides":{"Room":"` + e.Room + `"}}`, nil
	case "text":
		return `"yes"`, nil
	case "sleep":
		time.Sleep(time.Duration(e.Seconds * float64(time.Second)))
		return "{}", nil
	case "loop":
		for {
			runtime.Gosched()
		}
	case "exit":
		os.Exit(3)
	case "crash":
		panic("boom")
	case "raise":
		return "", errors.New("boom")
	case "huge":
		return `"` + strings.Repeat("x", 7<<20) + `"`, nil
	case "log":
		for i := range e.Lines {
			fmt.Printf("line %06d of a long story\n", i)
		}
		return "{}", nil
	case "count":
		return fmt.Sprint(count), nil
	case "closed":
		_ = syscall.Close(1)
		_ = syscall.Close(2)
		return `{"allowProvisioning":true}`, nil
	case "context":
		return fmt.Sprintf(`{"id":%q,"name":%q,"arn":%q,"memory":%q,"left":%t,"region":%q,"own":%q,"version":%q,"root":%q}`, id, os.Getenv("AWS_LAMBDA_FUNCTION_NAME"),
			h.Get("Lambda-Runtime-Invoked-Function-Arn"), os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), h.Get("Lambda-Runtime-Deadline-Ms") != "",
			os.Getenv("AWS_REGION"), os.Getenv("OWN"), os.Getenv("AWS_LAMBDA_FUNCTION_VERSION"), os.Getenv("LAMBDA_TASK_ROOT")), nil
	case "lazy": // it answers, and asks for nothing more
		post("/runtime/invocation/"+id+"/response", fmt.Sprint(count))
		time.Sleep(time.Minute)
	case "twice":
		post("/runtime/invocation/"+id+"/response", `{"allowProvisioning":false}`)
		status, said := post("/runtime/invocation/"+id+"/response", `{"allowProvisioning":true}`)
		fmt.Println("second:", status, said)
		time.Sleep(time.Minute)
	case "another":
		status, said := post("/runtime/invocation/00000000-0000-4000-8000-000000000000/response", `{"allowProvisioning":true}`)
		fmt.Println("another:", status, said)
		return `{"allowProvisioning":false}`, nil
	case "next":
		resp, err := http.Get(apiURL("/runtime/invocation/next"))
		if err != nil {
			return "", err
		}
		return fmt.Sprint(resp.StatusCode), nil
	}
	return probe(e.Case, e.Path)
}
