package function

import (
	_ "embed"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

//go:embed bootstrap/bootstrap.py
var bootstrapPython []byte

// A process is what spawn has started.
type process struct {
	cmd      *exec.Cmd
	output   *os.File
	listener net.Listener // of its Runtime API
	clean    func()       // removes what it needed, after its end
}

// environment is that of Lambda (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html): the function's own variables,
// and those that it cannot change.
func environment(code Code, task, scratch string) []string {
	region := "us-east-1"
	if f := strings.Split(code.ARN, ":"); len(f) > 3 && f[3] != "" {
		region = f[3]
	}
	reserved := map[string]string{
		"_HANDLER":                        code.Handler,
		"LAMBDA_TASK_ROOT":                task,
		"TMPDIR":                          scratch,
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"AWS_EXECUTION_ENV":               "AWS_Lambda_" + code.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME":        code.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(code.Memory),
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + code.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      "$LATEST",
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
	}
	var env []string
	for k, v := range map[string]string{"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": ":UTC"} {
		if _, own := code.Environment[k]; !own {
			env = append(env, k+"="+v)
		}
	}
	for k, v := range code.Environment {
		if _, taken := reserved[k]; !taken {
			env = append(env, k+"="+v)
		}
	}
	for k, v := range reserved {
		env = append(env, k+"="+v)
	}
	return env
}
