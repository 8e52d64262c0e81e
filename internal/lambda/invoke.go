package lambda

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/store"
)

// ErrNotPermitted says that the policy of a function does not let a service invoke it.
var ErrNotPermitted = errors.New("its policy does not permit it")

// Invoke runs a function as it is now. An error is about what could not be done here: KindNotFound, or those of function.Runner. What the
// function itself did wrong is in the result. It ends with ctx at the latest.
func (s *Service) Invoke(ctx context.Context, scope fleet.Scope, name string, event []byte) (function.Result, error) {
	return s.invoke(ctx, scope, name, event, nil)
}

// InvokeFor is Invoke by a service, for example iot.amazonaws.com, that acts for a source of the scope. It fails with ErrNotPermitted, too.
func (s *Service) InvokeFor(ctx context.Context, scope fleet.Scope, name string, event []byte, service, sourceARN string) (function.Result, error) {
	return s.invoke(ctx, scope, name, event, func(f fleet.LocalFunction) error {
		if !permits(scope, f, service, sourceARN) {
			return fmt.Errorf("%s may not invoke it: %w", service, ErrNotPermitted)
		}
		return nil
	})
}

func (s *Service) invoke(ctx context.Context, scope fleet.Scope, name string, event []byte, check func(fleet.LocalFunction) error) (res function.Result, err error) {
	var f fleet.LocalFunction
	if err := s.View(ctx, func(tx *store.Tx) (err error) {
		f, err = current(tx, scope, name, "")
		return err
	}); err != nil {
		return res, err
	}
	if check != nil {
		if err := check(f); err != nil {
			return res, err
		}
	}
	variables, err := s.Environment(scope, f)
	if err != nil {
		return res, err
	}
	dir, err := s.folders.get(ctx, f.Code, s.Clock.Now(), func(ctx context.Context, w io.Writer) error { return s.load(ctx, scope, f.Code, w) })
	if err != nil {
		return res, fmt.Errorf("its code: %w", err)
	}
	start := s.Clock.Now()
	res, err = s.Runner.Invoke(ctx, function.Code{Name: f.Name, ARN: ARN(scope, f.Name), Dir: dir, Digest: f.Code.Digest, Runtime: f.Runtime,
		Handler: f.Handler, Role: f.Role, Environment: variables, Memory: f.Memory, Timeout: f.Timeout}, event)
	if err == nil || len(res.Log) > 0 {
		s.outputs.add(outputKey{scope, name}, outputOf(start, res))
	}
	return res, err
}

// An Output is what an invocation has written.
type Output struct {
	RequestID     string
	Start         time.Time
	FunctionError string // "": it answered
	Log           []byte // the end of it
}

const (
	outputsEach = 20       // of a function
	outputSize  = 16 << 10 // bytes of each
	outputsAll  = 8 << 20  // bytes of all
)

func outputOf(start time.Time, r function.Result) Output {
	log := r.Log[max(0, len(r.Log)-outputSize):]
	return Output{r.RequestID, start, r.FunctionError, slices.Clone(log)}
}

// outputs are those of the last invocations, in memory: they may hold what devices sent, and end with the process.
type outputs struct {
	mu   sync.Mutex
	list []keptOutput // oldest first
	size int
}

type outputKey struct {
	scope fleet.Scope
	name  string
}

type keptOutput struct {
	key outputKey
	Output
}

func (o *outputs) add(key outputKey, out Output) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.size = append(o.list, keptOutput{key, out}), o.size+len(out.Log)
	of := func(k keptOutput) bool { return k.key == key }
	n := 0
	for _, k := range o.list {
		if of(k) {
			n++
		}
	}
	if n > outputsEach {
		o.drop(slices.IndexFunc(o.list, of))
	}
	for o.size > outputsAll {
		o.drop(0)
	}
}

func (o *outputs) drop(i int) {
	o.size -= len(o.list[i].Log)
	o.list = slices.Delete(o.list, i, i+1)
}

func (o *outputs) forget(key outputKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = slices.DeleteFunc(o.list, func(k keptOutput) bool {
		if k.key == key {
			o.size -= len(k.Log)
		}
		return k.key == key
	})
}

// Outputs returns what the last invocations of a function have written since the server has started, newest first. It fails with KindNotFound.
func (s *Service) Outputs(ctx context.Context, name string) (list []Output, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	if _, err := s.Function(ctx, name); err != nil {
		return nil, err
	}
	s.outputs.mu.Lock()
	defer s.outputs.mu.Unlock()
	for _, k := range slices.Backward(s.outputs.list) {
		if k.key == (outputKey{scope, name}) {
			list = append(list, k.Output)
		}
	}
	return list, nil
}
