// Package hook asks whether a device may be provisioned: it calls what stands behind the targetArn of a template's
// pre-provisioning hook (provisioning spec 5). Everything but a clear yes in time is a no.
//
// Begin with Service.Invoke. A target is a function that this server runs (local.go; package lambda has it) or one that somebody
// registered (functions.go): a webhook (webhook.go), a function of another endpoint that speaks Lambda's Invoke API (lambda.go), or a
// rule (rule.go) that may ask lookup tables (tables.go). Call is the same for other services: triggers of user pools. What is sent
// and what an answer means is in event.go, what keeps a broken target from holding up everybody in circuit.go.
package hook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what a Service needs. OnCall may be nil.
type Config struct {
	Store  *store.DB
	Sealer *pki.Sealer
	HTTP   *egress.Client
	Local  Functions
	Clock  fleet.Clock
	OnCall func(kind fleet.FunctionKind, outcome string, took time.Duration)
}

// Outcomes of a call.
const (
	Allowed = "allowed"
	Denied  = "denied"
	Failed  = "failed" // no answer, or none that can be read
	Broken  = "broken" // not called: the target has failed too often, see circuit
)

// Times that a function may take.
const (
	DefaultTimeout = 5 * time.Second // as in AWS
	MinTimeout     = 100 * time.Millisecond
	MaxTimeout     = provision.MaxHookTime
)

// A Service calls hooks. It is safe for concurrent use.
type Service struct {
	Config
	circuits circuits
	rules    compiled
}

var _ provision.Hook = (*Service)(nil)

// New returns a Service.
func New(cfg Config) *Service {
	if cfg.OnCall == nil {
		cfg.OnCall = func(fleet.FunctionKind, string, time.Duration) {}
	}
	if cfg.HTTP != nil {
		calls := *cfg.HTTP
		calls.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // what is signed is for one place
		cfg.HTTP = &calls
	}
	return &Service{Config: cfg}
}

// A target is the function that an ARN names, in one of its versions if it has any.
type target struct{ name, qualifier string }

// targetOf reads the ARN of a function of the scope: arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER].
func targetOf(s fleet.Scope, arn string) (t target, err error) {
	a, ok := fleet.ParseARN(arn)
	name, found := strings.CutPrefix(a.Resource, "function:")
	if !ok || !found || a.Service != "lambda" {
		return t, fleet.Invalid("hook", arn, "is not the ARN of a Lambda function")
	}
	if !a.In(s, "lambda") {
		return t, fleet.Invalid("hook", arn, "the function must be of this account and region: %s", s.ARN("lambda", a.Resource))
	}
	t.name, t.qualifier, _ = strings.Cut(name, ":")
	return t, nil
}

// Known implements provision.Hook.
func (s *Service) Known(tx *store.Tx, scope fleet.Scope, arn string) error {
	_, _, err := find(tx, scope, arn)
	return err
}

// find returns the function that arn stands for. Errors are of KindInvalid and say how to mend it.
func find(tx *store.Tx, scope fleet.Scope, arn string) (f fleet.Function, t target, err error) {
	if t, err = targetOf(scope, arn); err != nil {
		return f, t, err
	}
	f, err = tx.Function(scope, t.name)
	switch {
	case err != nil && fleet.KindOf(err) == fleet.KindNotFound:
		return f, t, fleet.Invalid("hook", arn, "there is no function %s: make one with imprint function create %[1]s, or say what stands for it with imprint function put %[1]s", t.name)
	case err == nil && f.Kind == fleet.Local && t.qualifier == lambda.Latest:
	case err == nil && t.qualifier != "" && f.Kind != fleet.Lambda:
		return f, t, fleet.Invalid("hook", arn, "the function %s has no version %s: leave :%[2]s out", t.name, t.qualifier)
	}
	return f, t, err
}

// Invoke implements provision.Hook. It takes as long as the function may, or less if ctx ends before.
func (s *Service) Invoke(ctx context.Context, e provision.HookEvent) (provision.HookAnswer, error) {
	var f fleet.Function
	var t target
	if err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		f, t, err = find(tx, e.Scope, e.TargetARN)
		return err
	}); err != nil {
		return provision.HookAnswer{Cure: prefixed("register the function that the template names: imprint function create or imprint function put ", t.name)}, err
	}
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	c := s.circuits.of(e.Scope, f)
	if e.Trial { // what an operator tries must not keep devices away, nor be kept away
		c = new(circuit)
	}
	if err := c.enter(s.Clock.Now()); err != nil {
		s.OnCall(f.Kind, Broken, 0)
		return provision.HookAnswer{Cure: "mend " + place(f) + "; it is tried again by itself"}, err
	}
	start := time.Now()
	answer, err := s.call(ctx, f, t, e)
	took := time.Since(start)
	c.leave(s.Clock.Now(), err)
	outcome := Denied
	switch {
	case err != nil:
		outcome, answer = Failed, provision.HookAnswer{Cure: cure(f, err)}
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%s %s gave no answer within %v", f.Kind, place(f), f.Timeout)
		} else {
			err = fmt.Errorf("%s %s after %v: %w", f.Kind, place(f), round(took), err)
		}
	case answer.Allow:
		outcome = Allowed
	}
	if err == nil {
		answer.Reason = fmt.Sprintf("%s %s after %v%s", f.Kind, place(f), round(took), prefixed(": ", answer.Reason))
	}
	s.OnCall(f.Kind, outcome, took)
	return answer, err
}

func (s *Service) call(ctx context.Context, f fleet.Function, t target, e provision.HookEvent) (provision.HookAnswer, error) {
	if f.Kind == fleet.Rule {
		return s.askRule(ctx, f, e)
	}
	answer, wrote, err := s.ask(ctx, f, t, request{scope: e.Scope, body: payload(e), service: iotService, source: e.Scope.IoT("provisioningtemplate", e.TemplateName), hide: e.Parameters})
	if err != nil {
		return provision.HookAnswer{}, err
	}
	a, err := decide(answer)
	if err != nil {
		return a, wrong("%w%s", err, wrote)
	}
	a.Reason = strings.TrimPrefix(a.Reason+wrote, "; ")
	return a, nil
}

// A request is what a function is asked, by which service and for what; its policy has to permit both. Texts of others are shown without the
// values of hide.
type request struct {
	scope           fleet.Scope
	body            []byte
	service, source string
	hide            map[string]string
}

// ask calls a function. wrote is what to show of what it wrote beside its answer.
func (s *Service) ask(ctx context.Context, f fleet.Function, t target, q request) (answer []byte, wrote string, err error) {
	switch f.Kind {
	case fleet.Webhook:
		answer, err = s.callWebhook(ctx, f, q)
		return answer, "", err
	case fleet.Lambda:
		answer, err = s.callLambda(ctx, f, t.qualifier, q)
		return answer, "", err
	case fleet.Local:
		return s.callLocal(ctx, f, q)
	}
	return nil, "", fmt.Errorf("functions of kind %q cannot be asked this", f.Kind)
}

// place names where f is, without what may be secret in its URL.
func place(f fleet.Function) string {
	if f.URL == "" {
		return f.Name
	}
	return f.Name + " at " + origin(f.URL)
}

// cure says how to mend an error, if the error itself does not.
func cure(f fleet.Function, err error) string {
	switch {
	case errors.Is(err, lambda.ErrNotPermitted):
		return "aws lambda add-permission --function-name " + f.Name + " --statement-id iot --action lambda:InvokeFunction --principal " + iotService
	case f.Kind == fleet.Local && errors.Is(err, context.DeadlineExceeded):
		return "make " + f.Name + " faster: as a hook it has " + f.Timeout.String() + ", loading its code included; imprint function logs " + f.Name + " shows what it wrote"
	case f.Kind == fleet.Local:
		return "imprint function logs " + f.Name + " shows what it wrote"
	case errors.Is(err, egress.ErrRefused):
		return "list the address of " + origin(f.URL) + " under egress-allow, if hooks may call it"
	case errors.Is(err, context.DeadlineExceeded):
		return "make " + f.Name + " faster, or give it more time: imprint function put " + f.Name + " --timeout, at most " + MaxTimeout.String()
	}
	return ""
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
