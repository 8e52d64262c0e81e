package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/wire"
)

// What is worked out of templates: the policies that go with them, what is wrong with them, and what a registration would come to.

// GetClaimPolicyInput asks for the least that is needed to provision with templates. For is CLAIM, the default, for the IoT policy of a
// bootstrap certificate, or INSTALLER for the IAM policy of whoever hands out temporary claims. Formats are json and cbor, keys SERVICE
// (CreateKeysAndCertificate) and DEVICE (CreateCertificateFromCsr); all of them if absent.
type GetClaimPolicyInput struct {
	TemplateNames  []string `wire:"templateNames,required" shape:"Templates"`
	For            *string  `wire:"for" shape:"PolicyFor"`
	Formats        []string `wire:"formats"`
	Keys           []string `wire:"keys"`
	ClientIdPrefix *string  `wire:"clientIdPrefix"`
}

type GetClaimPolicyOutput struct {
	PolicyDocument string `wire:"policyDocument,required"`
}

// templates names the templates that a request is about.
func templates(s fleet.Scope, names ...string) (arns []string) {
	for _, n := range names {
		arns = append(arns, s.IoT("provisioningtemplate", n))
	}
	return arns
}

func (a *api) getClaimPolicy(ctx context.Context, in *GetClaimPolicyInput) (*GetClaimPolicyOutput, error) {
	if wire.Value(in.For) == "INSTALLER" {
		doc, err := a.Provision.InstallerPolicy(ctx, scopeOf(ctx), in.TemplateNames)
		return &GetClaimPolicyOutput{doc}, err
	}
	use := provision.ClaimUse{Templates: in.TemplateNames, ClientIDs: wire.Value(in.ClientIdPrefix)}
	for _, f := range in.Formats {
		use.Formats = append(use.Formats, wire.Format(f))
	}
	for _, k := range in.Keys {
		o, ok := map[string]reserved.Operation{"SERVICE": reserved.Create, "DEVICE": reserved.CreateFromCSR}[k]
		if !ok {
			return nil, fleet.Invalid("", "", "keys %q are neither SERVICE nor DEVICE", k)
		}
		use.Requests = append(use.Requests, o)
	}
	doc, err := a.Provision.ClaimPolicy(ctx, scopeOf(ctx), use)
	return &GetClaimPolicyOutput{doc}, err
}

// LintTemplateInput names a stored template, or has a body that may become the template of that name.
type LintTemplateInput struct {
	TemplateName *string `wire:"templateName" shape:"TemplateName"`
	TemplateBody *string `wire:"templateBody" shape:"TemplateBody"`
	Type         *string `wire:"type"`
}

type LintTemplateOutput struct {
	Findings []Finding    `wire:"findings,required"`
	Answers  []AnswerSize `wire:"answers,required"`
}

// Finding is one thing that lint found: severity is error, warning or hint.
type Finding struct {
	Rule     string `wire:"rule,required"`
	Severity string `wire:"severity,required"`
	Pointer  string `wire:"pointer,required"` // JSON pointer
	Line     int    `wire:"line,required"`
	Cause    string `wire:"cause,required"`
	Cure     string `wire:"cure,required"`
}

// AnswerSize is how large a packet a device must receive.
type AnswerSize struct {
	Operation string `wire:"operation,required"`
	Keys      string `wire:"keys,required"`
	Format    string `wire:"format,required"`
	Bytes     int    `wire:"bytes,required"`      // MQTT 3.1.1
	BytesMQTT int    `wire:"bytesMqtt5,required"` // MQTT 5
}

// TryTemplateInput plays a registration through. Without topics they are made of what the policies allow. A template of type JITP
// takes the PEM of a device's certificate in place of parameters, and the role that the CA is registered with, which the caller
// must be allowed to pass.
type TryTemplateInput struct {
	TemplateName *string           `wire:"templateName" shape:"TemplateName"`
	TemplateBody *string           `wire:"templateBody" shape:"TemplateBody"`
	Type         *string           `wire:"type"`
	Certificate  *string           `wire:"certificatePem" shape:"CertificatePem"`
	RoleArn      *string           `wire:"roleArn" shape:"RoleArn"`
	Parameters   map[string]string `wire:"parameters"`
	ClientId     *string           `wire:"clientId"`
	Publish      []string          `wire:"publish" shape:"Topics"`
	Subscribe    []string          `wire:"subscribe" shape:"Topics"`
}

// TryTemplateOutput has in errorCode and errorMessage what the device would be told, if it would be refused.
type TryTemplateOutput struct {
	StatusCode    *int              `wire:"statusCode"`
	ErrorCode     *string           `wire:"errorCode"`
	ErrorMessage  *string           `wire:"errorMessage"`
	Hook          *string           `wire:"hook"`
	CA            *string           `wire:"ca"` // what becomes of the certificate of a JITP device
	ThingName     *string           `wire:"thingName"`
	Configuration map[string]string `wire:"deviceConfiguration"`
	Decisions     []Decision        `wire:"decisions,required"`
	Needs         []Need            `wire:"needs,required"`
	Role          *string           `wire:"role"`
	Connection    []Decided         `wire:"connection,required"`
	Answers       []AnswerSize      `wire:"answers,required"`
	ReplyBudget   *int              `wire:"replyBudget"`
}

// Decision is one line of the plan.
type Decision struct {
	Verb     string  `wire:"verb,required"`
	Resource string  `wire:"resource,required"`
	Name     string  `wire:"name,required"`
	Part     *string `wire:"part"`
	Reason   string  `wire:"reason,required"`
}

// Need is what the provisioning role must allow.
type Need struct {
	Action   string `wire:"action,required"`
	Resource string `wire:"resource,required"`
}

// Decided is one thing that the device would want to do.
type Decided struct {
	Action   string   `wire:"action,required"`
	Resource string   `wire:"resource,required"`
	Allowed  bool     `wire:"allowed,required"`
	Why      string   `wire:"why,required"`
	Missing  []string `wire:"missingVariables"`
}

// draftOf names the template that a request is about, for IAM: a body alone is no resource.
func draftOf(s fleet.Scope, name *string) []string {
	if name == nil {
		return []string{"*"}
	}
	return templates(s, *name)
}

func (a *api) lintTemplate(ctx context.Context, in *LintTemplateInput) (*LintTemplateOutput, error) {
	r, err := a.Provision.Lint(ctx, scopeOf(ctx), provision.Draft{Name: wire.Value(in.TemplateName), Body: wire.Value(in.TemplateBody), Type: fleet.TemplateType(wire.Value(in.Type))})
	if err != nil {
		return nil, err
	}
	out := &LintTemplateOutput{Findings: []Finding{}, Answers: answers(r.Answers)}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, Finding{f.Rule, string(f.Severity), f.Pointer, f.Line, f.Cause, f.Cure})
	}
	return out, nil
}

func answers(list []template.AnswerSize) []AnswerSize {
	out := []AnswerSize{}
	for _, a := range list {
		out = append(out, AnswerSize{a.Operation, a.Keys, a.Format, a.Bytes[0], a.Bytes[1]})
	}
	return out
}

func (a *api) tryTemplate(ctx context.Context, in *TryTemplateInput) (*TryTemplateOutput, error) {
	return a.try(ctx, in, false)
}

func (a *api) tryTemplateWithHook(ctx context.Context, in *TryTemplateInput) (*TryTemplateOutput, error) {
	return a.try(ctx, in, true)
}

func (a *api) try(ctx context.Context, in *TryTemplateInput, hook bool) (*TryTemplateOutput, error) {
	o, err := a.Provision.Try(ctx, scopeOf(ctx), provision.Trial{
		Draft:      provision.Draft{Name: wire.Value(in.TemplateName), Body: wire.Value(in.TemplateBody), Type: fleet.TemplateType(wire.Value(in.Type))},
		Parameters: in.Parameters, ClientID: wire.Value(in.ClientId), CallHook: hook, Publish: in.Publish, Subscribe: in.Subscribe,
		Certificate: wire.Value(in.Certificate), Role: wire.Value(in.RoleArn), Caller: fleet.CallerFrom(ctx)})
	if err != nil {
		return nil, err
	}
	out := &TryTemplateOutput{Hook: wire.Optional(o.Hook), CA: wire.Optional(o.CA), ThingName: wire.Optional(o.Thing), Configuration: o.Configuration, Decisions: []Decision{}, Needs: []Need{},
		Role: wire.Optional(o.Role), Connection: []Decided{}, Answers: answers(o.Answers)}
	if o.Refusal != nil {
		status, code, message := provision.Refusal(o.Refusal)
		out.StatusCode, out.ErrorCode, out.ErrorMessage = &status, &code, &message
	}
	if o.Budget > 0 {
		out.ReplyBudget = &o.Budget
	}
	for _, d := range o.Decisions {
		out.Decisions = append(out.Decisions, Decision{string(d.Verb), d.Resource, d.Name, wire.Optional(d.Part), d.Reason})
	}
	for _, n := range o.Needs {
		out.Needs = append(out.Needs, Need{n.Action, n.Resource})
	}
	for _, d := range o.Connection {
		out.Connection = append(out.Connection, Decided{d.Action, d.Resource, d.Allowed, d.Why, d.Missing})
	}
	return out, nil
}
