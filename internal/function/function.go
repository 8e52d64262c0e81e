// Package function runs functions: handlers written for AWS Lambda in Python, in Node, or as an executable that speaks the Lambda
// Runtime API (a Go handler built with aws-lambda-go). They run unmodified, each in a process of its own in a sandbox, on this machine.
//
// Begin with Runner.Invoke. A Code is what to run; it is a folder that somebody else has extracted and keeps. A worker
// (worker.go) is a process that has loaded it; workers that wait for work are kept in the pool (pool.go). They ask for work and
// answer through the Runtime API (api.go, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), Python and Node by a
// small bootstrap of ours (bootstrap/). What a runtime is called and where its interpreter is found says runtime.go. How they
// call the server's API, way.go. DESIGN.md describes the sandbox.
//
// A decision must depend on nothing but the event, so the memory of one invocation does not reach the next one unless Code.Reuse says so.
package function

import (
	"errors"
	"log/slog"
	"time"
)

// Limits. Sizes are in bytes.
const (
	MaxPayload  = 6 << 20  // of an event, and of an answer; as in AWS
	MaxLog      = 64 << 10 // of what an invocation has written, the last of it is kept
	LogTail     = 4 << 10  // of what --log-type Tail shows; as in AWS
	MinMemory   = 128      // MiB
	MaxMemory   = 10240
	MaxTimeout  = 15 * time.Minute
	initTimeout = 10 * time.Second // to load the code; as in AWS
)

// Code is what to run. Any difference in it is another function: nothing that is loaded is shared.
type Code struct {
	Name string
	ARN  string // of the function, as the handler's context tells it; scope and name
	// Dir holds the extracted code. It is not written to, and must stay as it is while workers may use it: see Runner.Forget. When
	// the server runs as root, functions have user ids of their own, so everything in it must be readable to all.
	Dir         string
	Digest      string // of the code: the same folder with another content needs another digest
	Runtime     string // as Lambda names it: python3.12, nodejs22.x, provided.al2023
	Handler     string // as Lambda has it: module.function; of no meaning for provided
	Role        string // ARN of the role whose credentials it gets
	Environment map[string]string
	Memory      int           // MiB; 0: MinMemory
	Timeout     time.Duration // of the handler, without loading the code; 0: 3 s, as in AWS
	// Reuse lets one process answer one event after another, as AWS does. A handler that keeps its answer in a global then lets
	// every device in after the first. Without it a process that has loaded the code answers one event.
	Reuse bool
}

// Result is what became of an invocation that took place.
type Result struct {
	Payload       []byte        // JSON: the answer, or with FunctionError {"errorMessage", "errorType", …}
	FunctionError string        // "" or "Unhandled" ("Handled" from runtimes that say so): value of X-Amz-Function-Error
	RequestID     string        // UUID, as the handler's context had it
	Log           []byte        // what was written to stdout and stderr between AWS's START and REPORT lines, at most MaxLog
	Cold          bool          // no worker waited: Duration is without Init
	Init          time.Duration // that the caller waited for the code to be loaded
	Duration      time.Duration // of the handler
}

// Tail is the last LogTail bytes of the log.
func (r Result) Tail() []byte { return r.Log[max(0, len(r.Log)-LogTail):] }

// Outcomes of an invocation, for metrics.
const (
	Answered = "answered"
	Errored  = "error"   // the handler raised, or its process ended
	TimedOut = "timeout" // of the function
	Canceled = "canceled"
	Refused  = "refused" // not run: see the errors
)

// Errors of Invoke. They are about what could not be done here, not about what a function did.
var (
	ErrBusy        = errors.New("too many functions are running")
	ErrUnavailable = errors.New("functions are off") // the message says what is missing
	ErrRuntime     = errors.New("runtime")           // unknown, or its interpreter is not installed
	ErrCode        = errors.New("code")              // larger than MaxPayload, settings out of range
)

// Config is what a Runner needs. Every field has a useful zero value.
type Config struct {
	Concurrent int  // functions that run at once; 0: twice the processors, at least 4
	Queue      int  // invocations that may wait for their turn; 0: 16 for each that may run
	Workers    int  // processes, those that wait for work included; 0: twice Concurrent
	Unsafe     bool // run functions even without the layers of the sandbox that this machine lacks
	// API is what functions may call with credentials of their role; nil: nothing, and they get none.
	API API
	// Network lets functions use the network of this machine: everything that the server can reach, its loopback included. Without it
	// they reach their Runtime API, API, and nothing else.
	Network bool
	// Hide lists folders that no function may see, the data folder among them.
	Hide []string
	// IdleTime is how long a worker waits for work before it is ended; 0: five minutes.
	IdleTime time.Duration
	// Folders where interpreters are looked for; nil: those of the system.
	Path []string
	Log  *slog.Logger
	// OnInvoke is told of every invocation. cold and took are of no meaning if it was refused.
	OnInvoke func(outcome string, cold bool, took time.Duration)
	// OnWorkers is told how many processes there are, when that changes.
	OnWorkers func(n int)

	without  layers   // that tests take off
	patience patience // that tests have more of
}

// patience is how long a worker is waited for. Zero values are those of New.
type patience struct {
	load     time.Duration // to load the code
	handOver time.Duration // to ask for the next event, when it has answered one
}
