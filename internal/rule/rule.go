// Package rule runs topic rules: it selects messages by the statements of an account's rules and does their actions (iot-core spec 8).
//
// Begin with Service.Create in manage.go, then follow a message: Select (select.go) finds the rules that it is for, queue.go gives each
// rule its turn, run.go works the statement out and has the actions done, action.go says what an action is; each kind has a file of its
// own. Statements are package rulesql's business.
//
// A rule never holds up a publisher: it runs behind the publish, in bounded queues of its own, and what goes wrong is told to its error
// action, in a trace and in the metrics. A message at QoS 1 is in the broker's journal until all of its rules have finished with it.
package rule

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Config is what a Service needs. Recorder, Log and what begins with On may be nil.
type Config struct {
	Store       *store.DB
	Permissions Permissions
	Functions   Functions
	Publish     func(ctx context.Context, s fleet.Scope, m *mqtt.Message) error // returns when the message is safe
	Objects     bucket.Objects                                                  // for s3 actions
	Logs        *logs.Service                                                   // for cloudwatchLogs actions
	HTTP        *egress.Client                                                  // for http actions; nil: to public addresses
	BaseURL     string                                                          // of this server, where destinations confirm
	Recorder    *trace.Recorder                                                 // keeps the traces of what failed
	Clock       fleet.Clock
	Log         *slog.Logger

	// Credentials makes credentials of a role that trusts this service, which acts for the rule source.
	Credentials func(ctx context.Context, s fleet.Scope, roleARN, source string) (sigv4.Credentials, error)

	// Again is how long a function that failed is left alone before it is called again, each time; nil: a second, then four.
	Again []time.Duration

	OnMessage func(outcome string)                             // a rule has finished with a message, or had no room for it
	OnAction  func(action, outcome string, took time.Duration) // an action was done: its name, OK or Failed
	OnMissing func()                                           // a message of Basic Ingest names no rule
}

// Permissions is what rules need to know of IAM. Denials are *fleet.Error of KindDenied.
type Permissions interface {
	// PassRole checks that caller may hand the role to a service.
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
	// AssumeForService checks that the role trusts service, which acts for the resource source, and returns the service in that role.
	AssumeForService(tx *store.Tx, s fleet.Scope, roleARN, service string, source ...string) (*fleet.Caller, error)
	// AuthorizeTx checks that caller may do action on resource.
	AuthorizeTx(tx *store.Tx, caller *fleet.Caller, action, resource string, extra policy.Context) error
}

// Functions runs functions by their ARN.
type Functions interface {
	// CallFunction has a function handle an event for a rule, and returns when it has. wrote is what to show of what it wrote, beginning with
	// a semicolon; "": nothing that is known. It fails with ErrNotPermitted if the function's
	// policy does not permit the rule, with KindInvalid if there is no such function.
	CallFunction(ctx context.Context, s fleet.Scope, functionARN, ruleARN string, event []byte) (wrote string, err error)
}

// ErrNotPermitted says that the policy of a function does not let a rule have it run.
var ErrNotPermitted = errors.New("its policy does not permit the rule")

// Outcomes of a message for one rule.
const (
	Done     = "done"     // all actions were done
	Filtered = "filtered" // its WHERE is not true
	Failed   = "failed"   // its statement or an action failed
	Dropped  = "dropped"  // the rule had too much to do
	OK       = "ok"       // of an action
)

const iotService = "iot.amazonaws.com"

// A Service keeps rules and runs them. It is safe for concurrent use.
type Service struct {
	Config
	ctx  context.Context // of all that rules do; ends with Close
	stop context.CancelFunc

	catalog catalog
	lanes   lanes
	waiting atomic.Int64  // bytes in all queues
	compute chan struct{} // statements that are being worked out

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // workers
	asking sync.WaitGroup // requests for confirmation
}

var _ mqtt.Rules = (*Service)(nil)

// New returns a Service. Close ends it.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Again == nil {
		cfg.Again = []time.Duration{time.Second, 4 * time.Second}
	}
	if cfg.OnMessage == nil {
		cfg.OnMessage = func(string) {}
	}
	if cfg.OnAction == nil {
		cfg.OnAction = func(string, string, time.Duration) {}
	}
	if cfg.OnMissing == nil {
		cfg.OnMissing = func() {}
	}
	if cfg.HTTP == nil {
		cfg.HTTP, _ = egress.New(egress.Config{}) // nothing in it can be wrong
	}
	calls := *cfg.HTTP
	calls.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // what was confirmed is one place
	cfg.HTTP = &calls
	s := &Service{Config: cfg, compute: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	s.ctx, s.stop = context.WithCancel(context.Background())
	cfg.Store.Listen(s.changed)
	return s
}

// Waiting returns how many bytes of messages wait for rules.
func (s *Service) Waiting() int64 { return s.waiting.Load() }

// Close lets rules finish with what they have until ctx ends. What is left at QoS 1 is theirs again after the next start.
func (s *Service) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	defer context.AfterFunc(ctx, s.stop)()
	s.wg.Wait()
	s.stop()
}

// ARN names a rule.
func ARN(s fleet.Scope, name string) string { return s.IoT("rule", name) }
