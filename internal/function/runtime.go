package function

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A language is how the code of a runtime is started.
type language int

const (
	provided language = iota // the executable "bootstrap" of the code speaks the Runtime API itself
	python
	node
)

var runtimeName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:(python)(3\.\d{1,2})|(nodejs)(\d{1,2})\.x|(provided)(?:\.al2|\.al2023)?)$`)
})

// systemPath is where interpreters are looked for. Not $PATH: a folder of the user who started the server is nothing that functions may
// read, and shims there start something else.
var systemPath = []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/bin"}

// CheckRuntime tells whether functions of a runtime can run here. Errors are ErrRuntime and say how to mend it.
func (r *Runner) CheckRuntime(name string) error {
	_, _, err := r.interpreter(name)
	return err
}

// interpreter returns how a runtime is started, and its program if it is one of this machine. The version that the name tells is taken if
// it is installed, else the one that the machine has: handlers seldom depend on it, and machines seldom have several.
func (r *Runner) interpreter(name string) (language, string, error) {
	m := runtimeName().FindStringSubmatch(name)
	switch {
	case name == "go1.x":
		return 0, "", fmt.Errorf("%w: go1.x is gone in AWS too: name the executable bootstrap and use provided.al2023", ErrRuntime)
	case m == nil:
		return 0, "", fmt.Errorf("%w: %q is none of python3.*, nodejs*.x and provided.al2023", ErrRuntime, name)
	case m[5] != "":
		return provided, "", nil
	case m[1] != "":
		program, err := r.find("python"+m[2], "python3")
		return python, program, err
	}
	program, err := r.find("node"+m[4], "node", "nodejs")
	return node, program, err
}

func (r *Runner) find(names ...string) (string, error) {
	for _, name := range names {
		for _, dir := range r.Path {
			p, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			if i, err := os.Stat(p); err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0 {
				return p, nil
			}
		}
	}
	names = slices.Compact(names)
	return "", fmt.Errorf("%w: neither %s is in %s: install it", ErrRuntime, strings.Join(names, " nor "), strings.Join(r.Path, ", "))
}
