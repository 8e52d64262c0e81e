package function

import (
	"cmp"
	_ "embed"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed bootstrap/bootstrap.py
var bootstrapPython []byte

//go:embed bootstrap/bootstrap.mjs
var bootstrapNode []byte

// A process is what spawn has started.
type process struct {
	cmd      *exec.Cmd
	output   *os.File
	status   *os.File     // what the sandbox says if it could not be built
	listener net.Listener // of its Runtime API
	doors    doors        // to the server's API; nil: the function has no network of its own, or there is no API
	prefix   string       // of its paths
	clean    func()       // removes what it needed, after its end
}

// Bounds of a worker.
const (
	scratchSize = 64 << 20 // bytes of its scratch folder, which is memory
	maxTasks    = 100      // processes and threads
)

// slack is what a process of a language has of its own, in bytes, before it holds anything: stacks of threads, code that is made at run time.
var slack = map[language]int64{python: 64 << 20, node: 1 << 30, provided: 256 << 20}

// arguments is what is executed.
func arguments(code Code, lang language, program string, s *spec) []string {
	var args []string
	switch lang {
	case python:
		args = []string{program, "-B", s.runtimeFile("bootstrap.py")}
	case node:
		args = []string{program, "--max-old-space-size=" + strconv.Itoa(code.Memory*3/4)}
		if s.NoJIT {
			args = append(args, "--jitless", "--no-expose-wasm")
		}
		args = append(args, s.runtimeFile("bootstrap.mjs"))
	default:
		return []string{filepath.Join(s.task(), "bootstrap")}
	}
	if code.Reuse {
		args = append(args, "reuse")
	}
	return args
}

// environment is that of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html): ours, the function's own
// variables, which may change those, and the ones that it cannot change. secrets are of the last kind.
func environment(code Code, lang language, s *spec, ours, secrets map[string]string) []string {
	region := "us-east-1"
	if f := strings.Split(code.ARN, ":"); len(f) > 3 && f[3] != "" {
		region = f[3]
	}
	env := map[string]string{
		"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": ":UTC",
		"LD_LIBRARY_PATH": s.task() + ":" + s.task() + "/lib",
	}
	maps.Copy(env, ours)
	maps.Copy(env, code.Environment)
	maps.Copy(env, secrets)
	maps.Copy(env, map[string]string{
		"_HANDLER":                        code.Handler,
		"LAMBDA_TASK_ROOT":                s.task(),
		"LAMBDA_RUNTIME_DIR":              runtimeRoot,
		"TMPDIR":                          s.scratch(),
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"AWS_EXECUTION_ENV":               "AWS_Lambda_" + code.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME":        code.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(code.Memory),
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + code.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
	})
	if lang == provided {
		env["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:" + strconv.Itoa(cmp.Or(s.Port, s.runtimePort())) + s.Token
	}
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}
