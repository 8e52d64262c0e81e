package provision

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// ClaimUse says what the holders of a bootstrap certificate have to do (provisioning spec 2).
type ClaimUse struct {
	Templates []string
	Formats   []wire.Format        // nil: all
	Requests  []reserved.Operation // Create, CreateFromCSR or both; nil: both
	ClientIDs string               // what client ids begin with; "": any client id
}

// ClaimPolicy makes the IoT policy that lets a bootstrap certificate provision and do nothing else: the topics are written out, so that
// nobody can subscribe to more than the answers. Where that is too long for a policy, the four letters of the format and the eight of
// accepted and rejected become question marks in what may be received; what may be published is always written out. Errors have
// kind KindInvalid.
func ClaimPolicy(s fleet.Scope, u ClaimUse) (string, error) {
	if u.Formats == nil {
		u.Formats = reserved.Formats
	}
	if u.Requests == nil {
		u.Requests = []reserved.Operation{reserved.Create, reserved.CreateFromCSR}
	}
	if err := u.check(); err != nil {
		return "", err
	}
	for _, answers := range []func([]string) []string{exactAnswers, shortAnswers} {
		doc := u.document(s, answers)
		if n := policy.Size(doc); n <= policy.MaxIoT {
			return doc, nil
		}
	}
	return "", fleet.Invalid("policy", "", "would be longer than the %d characters that a policy may have: ask for one format or one kind of request alone, or make a policy for each template and attach them all (ten at most)",
		policy.MaxIoT)
}

func (u ClaimUse) check() error {
	if len(u.Templates) == 0 {
		return fleet.Invalid("policy", "", "is for at least one template: name it")
	}
	for _, t := range u.Templates {
		if !fleet.ValidTemplateName(t) {
			return fleet.Invalid("provisioning template", t, "a name has 1 to 36 letters, digits and characters of _-")
		}
	}
	for _, f := range u.Formats {
		if !slices.Contains(reserved.Formats, f) {
			return fleet.Invalid("format", string(f), "is neither json nor cbor")
		}
	}
	if strings.ContainsAny(u.ClientIDs, "*?$") || utf8.RuneCountInString(u.ClientIDs) > 128 {
		return fleet.Invalid("client id", u.ClientIDs, "the beginning of client ids is taken literally: it has at most 128 characters, none of them *, ? or $")
	}
	return nil
}

type policyStatement struct {
	Effect   string
	Action   any // a string or a list of them
	Resource []string
}

type policyDocument struct {
	Version   string
	Statement []policyStatement
}

func (d policyDocument) String() string {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic("provision: a policy is JSON: " + err.Error())
	}
	return string(b)
}

func (u ClaimUse) document(s fleet.Scope, answers func([]string) []string) string {
	requests := u.topics()
	from := answers(requests)
	return policyDocument{"2012-10-17", []policyStatement{
		{"Allow", "iot:Connect", []string{s.IoT("client", u.ClientIDs+"*")}},
		{"Allow", "iot:Publish", named(s, "topic", requests)},
		{"Allow", "iot:Receive", named(s, "topic", from)},
		{"Allow", "iot:Subscribe", named(s, "topicfilter", from)},
	}}.String()
}

// topics are those of the requests that u's holders make, by kind of request, then format.
func (u ClaimUse) topics() (topics []string) {
	for _, o := range u.Requests {
		for _, f := range u.Formats {
			topics = append(topics, o.Topic("", f))
		}
	}
	for _, t := range u.Templates {
		for _, f := range u.Formats {
			topics = append(topics, reserved.Register.Topic(t, f))
		}
	}
	return topics
}

func named(s fleet.Scope, kind string, names []string) (out []string) {
	for _, n := range names {
		out = append(out, s.IoT(kind, n))
	}
	return out
}

// exactAnswers are the topics on which the requests are answered.
func exactAnswers(requests []string) (out []string) {
	for _, t := range requests {
		out = append(out, t+reserved.Accepted, t+reserved.Rejected)
	}
	return out
}

// shortAnswers are patterns for the same. Both formats have four letters, and accepted and rejected have eight of which the last three
// agree. MQTT's own wildcards
// are shorter, so a pattern matches none of them.
func shortAnswers(requests []string) (out []string) {
	for _, t := range requests {
		base := t[:strings.LastIndexByte(t, '/')]
		if p := base + "/????/?????ted"; !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// InstallerPolicy makes the IAM policy that lets whoever has it, an app's role, hand out claims for the templates and do nothing else.
func InstallerPolicy(s fleet.Scope, templates []string) (string, error) {
	if err := (ClaimUse{Templates: templates}).check(); err != nil {
		return "", err
	}
	var on []string
	for _, t := range templates {
		on = append(on, templateARN(s, t))
	}
	return policyDocument{"2012-10-17", []policyStatement{{"Allow", "iot:CreateProvisioningClaim", on}}}.String(), nil
}

// ClaimPolicy is ClaimPolicy for templates that are there. Errors are of KindNotFound and KindInvalid.
func (p *Service) ClaimPolicy(ctx context.Context, s fleet.Scope, u ClaimUse) (string, error) {
	if err := p.checkTemplates(ctx, s, u.Templates); err != nil {
		return "", err
	}
	return ClaimPolicy(s, u)
}

// InstallerPolicy is InstallerPolicy for templates that are there. Errors are of KindNotFound and KindInvalid.
func (p *Service) InstallerPolicy(ctx context.Context, s fleet.Scope, templates []string) (string, error) {
	if err := p.checkTemplates(ctx, s, templates); err != nil {
		return "", err
	}
	return InstallerPolicy(s, templates)
}

// checkTemplates checks that there are fleet templates of these names. Errors are of KindNotFound and KindInvalid.
func (p *Service) checkTemplates(ctx context.Context, s fleet.Scope, names []string) error {
	return p.Store.View(ctx, func(tx *store.Tx) error {
		for _, name := range names {
			t, err := tx.Template(s, name)
			if err != nil {
				return err
			}
			if t.Type != fleet.FleetProvisioning {
				return fleet.Invalid("provisioning template", name, "is of type %s; claims are for FLEET_PROVISIONING templates", t.Type)
			}
		}
		return nil
	})
}
