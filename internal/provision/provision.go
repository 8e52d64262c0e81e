// Package provision turns strangers into registered devices: it keeps provisioning templates, hands out temporary claims, makes
// certificates for those who hold a claim, and registers devices as the template says (provisioning spec 1 to 4).
//
// Begin with Service.Register in register.go: it is the whole flow on one page. create.go makes the certificates before it,
// token.go binds both steps together, claim.go and templates.go are the control plane, inline.go is RegisterThing over HTTPS.
// Who may ask is decided in requester.go, what a device may that renews its own certificate in renewal.go, and what a refusal looks
// like on MQTT in refusal.go. Devices whose certificates a customer's CA has signed come in by justintime.go; customerca.go
// registers such CAs. contain.go undoes what a stolen claim did, report.go tells what it did. Guards: limits.go bounds what one
// claim may do, rates.go how fast, takeover.go and approvals.go who gets a thing that another device has; roll.go renews
// bootstrap certificates.
//
// What a template asks for is worked out by package template and written by package registry, in one transaction with
// everything that was checked: whatever changed while a hook was thinking counts.
package provision

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Permissions is what provisioning needs to know of IAM. Denials are *fleet.Error of KindDenied.
type Permissions interface {
	// PassRole checks that caller may hand the role to a service.
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
	// AssumeForService checks that the role trusts service, which acts for the resource source, and returns the service in that role.
	AssumeForService(tx *store.Tx, s fleet.Scope, roleARN, service string, source ...string) (*fleet.Caller, error)
	// AuthorizeTx checks that caller may do action on resource.
	AuthorizeTx(tx *store.Tx, caller *fleet.Caller, action, resource string, extra policy.Context) error
	// StillEntitled checks that the installer behind a claim, made at since, is in office and may still do action on resource.
	StillEntitled(tx *store.Tx, s fleet.Scope, inst fleet.Installer, since time.Time, action, resource string) error
}

// A Hook is asked before a device is registered (provisioning spec 5). ctx carries the deadline; an error means that the device
// is refused. Invoke is called concurrently.
type Hook interface {
	Invoke(ctx context.Context, e HookEvent) (HookAnswer, error)
	// Known checks that the scope has what the target of a hook names. Errors of KindInvalid say how to mend it.
	Known(tx *store.Tx, s fleet.Scope, targetARN string) error
}

// HookEvent is what a hook is told.
type HookEvent struct {
	Scope              fleet.Scope
	TemplateName       string
	TargetARN          string
	PayloadVersion     string
	ClaimCertificateID string // certificate of the session
	CertificateID      string // the new certificate
	CertificatePEM     string
	ClientID           string
	Parameters         map[string]string // exactly what the device sent
	Trial              bool              // nobody wants to be registered: an operator tries the template out
}

// HookAnswer is what a hook decides.
type HookAnswer struct {
	Allow     bool
	Overrides map[string]string // added to the device's parameters, and stronger
	Reason    string            // for the trace
	Cure      string            // for the trace: how to mend a denial or an error
}

// Config is what a Service needs. Hook and Recorder may be nil.
type Config struct {
	Store       *store.DB
	Authority   *pki.Authority
	Keys        *pki.KeyPool
	Sealer      *pki.Sealer
	Permissions Permissions
	Hook        Hook
	Recorder    *trace.Recorder // keeps the traces of refused claims
	Regions     []string        // whose CAs count under a name that all regions share, the first one first
	Clock       fleet.Clock
	Limits      Limits
	OnContained func(certificates int) // nil: nobody counts
	Rates       Rates

	// OnRefuse, if set, hears of each refusal by a limit or rate: one of the reasons in rates.go, or template.ReasonSerial.
	OnRefuse func(budget string)
	// TemplateLint says which bodies are refused beyond those that AWS refuses; "": none.
	TemplateLint LintLevel
}

// Limits bound what one claim may do. Zero fields mean the default in brackets.
type Limits struct {
	PendingPerClaim     int // certificates that a temporary claim may leave unregistered (64)
	PendingPerBootstrap int // … that a registered certificate used as a claim may (10,000)
	PendingPerCA        int // … that were signed by one CA of a customer and wait for their activation (10,000)
	Templates           int // templates per scope (256, as in AWS)
}

func (l Limits) withDefaults() Limits {
	for field, value := range map[*int]int{&l.PendingPerClaim: 64, &l.PendingPerBootstrap: 10_000, &l.PendingPerCA: 10_000, &l.Templates: 256} {
		if *field == 0 {
			*field = value
		}
	}
	return l
}

// iotService is the principal that a provisioning role must trust (provisioning spec 1.5).
const iotService = "iot.amazonaws.com"

// MaxHookTime is how long a hook may take at most. What it may take is the hook's to know: five seconds, unless somebody said
// otherwise (provisioning spec 5).
const MaxHookTime = 10 * time.Second

// A Service holds the rules of provisioning. It is safe for concurrent use.
type Service struct {
	Config
	parsed parsedTemplates
	bound  boundTemplates
	rates  *rates

	patience patience

	containTime time.Duration // more in tests: a busy machine takes its time
}

// New returns a Service.
func New(cfg Config) *Service {
	cfg.Limits = cfg.Limits.withDefaults()
	p := &Service{Config: cfg, rates: newRates(cfg.Rates, cfg.Clock), containTime: containTime}
	if cfg.Store != nil { // of a test that needs none
		cfg.Store.Listen(p.mended)
	}
	return p
}

// sweepChunk is how many rows one transaction of Sweep touches, so that a registration never waits long behind it.
const sweepChunk = 50

// claimsKept is how long an expired claim can be looked up. What was made with it names it for ever.
const claimsKept = 30 * 24 * time.Hour

// Sweep removes what has had its time: certificates that nobody registered within the hour, answers that can't be had again,
// old claims, certificates whose successors have taken over, requests for approval that nobody has decided, and the power of bootstrap
// certificates that were rolled. The server calls it every minute or so.
func (p *Service) Sweep(ctx context.Context, now time.Time) error {
	for _, step := range []func(*store.Tx) (int, error){
		func(tx *store.Tx) (int, error) { return tx.DeleteExpired(now, sweepChunk) },
		func(tx *store.Tx) (int, error) { return tx.ForgetAnswers(now, sweepChunk) },
		func(tx *store.Tx) (int, error) { return tx.DeleteClaims(now.Add(-claimsKept), sweepChunk) },
		func(tx *store.Tx) (int, error) { return retire(tx, p.Clock) },
		func(tx *store.Tx) (int, error) { return tx.DeleteApprovals(now, sweepChunk) },
		func(tx *store.Tx) (int, error) { return endRolled(tx, now) },
	} {
		if err := p.sweep(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// sweep repeats a step, each time in a transaction, while it has as much to do as it may.
func (p *Service) sweep(ctx context.Context, step func(*store.Tx) (int, error)) error {
	for n := sweepChunk; n == sweepChunk; {
		err := p.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			n, err = step(tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
