//go:build !linux

package function

import (
	"fmt"
	"os"
	"runtime"
)

type sandbox struct{ layers layers }

// Available tells that functions cannot run.
func (r *Runner) Available() error {
	return fmt.Errorf("%w: the sandbox is made of what Linux has, this is %s", ErrUnavailable, runtime.GOOS)
}

func (r *Runner) spawn(Code, Credentials) (process, error) { return process{}, r.Available() }

func killTree(p *os.Process) { _ = p.Kill() }

func (w *worker) watch() {}

func said(*os.File) error { return nil }

func become() {}
