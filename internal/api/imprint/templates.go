package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/wire"
)

// What is worked out of templates: the policies that go with them.

// GetClaimPolicyInput asks for the least that is needed to provision with templates. For is CLAIM, the default, for the IoT policy of a
// bootstrap certificate, or INSTALLER for the IAM policy of whoever hands out temporary claims. Formats are json and cbor, keys SERVICE
// (CreateKeysAndCertificate) and DEVICE (CreateCertificateFromCsr); all of them if absent.
type GetClaimPolicyInput struct {
	TemplateNames  []string `wire:"templateNames,required" shape:"Templates"`
	For            *string  `wire:"for"`
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
	s := scopeOf(ctx)
	if err := a.Provision.CheckTemplates(ctx, s, in.TemplateNames); err != nil {
		return nil, err
	}
	switch who := wire.Value(in.For); who {
	case "INSTALLER":
		doc, err := provision.InstallerPolicy(s, in.TemplateNames)
		return &GetClaimPolicyOutput{doc}, err
	case "", "CLAIM":
	default:
		return nil, fleet.Invalid("", "", "for %q is neither CLAIM nor INSTALLER", who)
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
	doc, err := provision.ClaimPolicy(s, use)
	return &GetClaimPolicyOutput{doc}, err
}
