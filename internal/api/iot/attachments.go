package iot

import (
	"context"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// attachmentRows ties policies to targets. The operations with Principal in their names are older spellings of the others.
func (a *API) attachmentRows() []wire.Row {
	return []wire.Row{
		wire.Do("AttachPolicy", a.attachPolicy).On(target(func(in *AttachPolicyInput) string { return in.Target })),
		wire.Do("DetachPolicy", a.detachPolicy).On(target(func(in *DetachPolicyInput) string { return in.Target })),
		wire.Do("ListAttachedPolicies", a.listAttachedPolicies),
		wire.Do("ListTargetsForPolicy", a.listTargetsForPolicy).On(named("policy", func(in *ListTargetsForPolicyInput) string { return in.PolicyName })),
		wire.Do("AttachPrincipalPolicy", a.attachPrincipalPolicy).On(target(func(in *AttachPrincipalPolicyInput) string { return in.Principal })),
		wire.Do("DetachPrincipalPolicy", a.detachPrincipalPolicy).On(target(func(in *DetachPrincipalPolicyInput) string { return in.Principal })),
		wire.Do("ListPrincipalPolicies", a.listPrincipalPolicies),
		wire.Do("ListPolicyPrincipals", a.listPolicyPrincipals),
		wire.Do("GetEffectivePolicies", a.getEffectivePolicies).
			On(target(func(in *GetEffectivePoliciesInput) string { return wire.Value(in.Principal) })),
		wire.Do("TestAuthorization", a.testAuthorization).
			On(target(func(in *TestAuthorizationInput) string { return wire.Value(in.Principal) })),
	}
}

func (a *API) attachPolicy(ctx context.Context, in *AttachPolicyInput) (*AttachPolicyOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.AttachPolicy(tx, s, in.PolicyName, in.Target) })
}

func (a *API) attachPrincipalPolicy(ctx context.Context, in *AttachPrincipalPolicyInput) (*AttachPrincipalPolicyOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.AttachPolicy(tx, s, in.PolicyName, in.Principal)
	})
}

// detachPolicy has no "not found" in AWS's model, unlike its older spelling: a target that there is not is a wrong request, and a policy that
// there is not is attached to nothing. The words are those by which Terraform's provider knows that there is nothing to detach from.
func (a *API) detachPolicy(ctx context.Context, in *DetachPolicyInput) (*DetachPolicyOutput, error) {
	err := a.write(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.DetachPolicy(tx, s, in.PolicyName, in.Target) })
	if err != nil && fleet.KindOf(err) == fleet.KindNotFound {
		if err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error { return registry.CheckTarget(tx, s, in.Target) }); err != nil && fleet.KindOf(err) == fleet.KindNotFound {
			err = fleet.Invalid("", "", "Invalid Target: %s does not exist", in.Target)
		}
	}
	return nil, err
}

func (a *API) detachPrincipalPolicy(ctx context.Context, in *DetachPrincipalPolicyInput) (*DetachPrincipalPolicyOutput, error) {
	return nil, a.write(ctx, func(tx *store.Tx, s fleet.Scope) error {
		return registry.DetachPolicy(tx, s, in.PolicyName, in.Principal)
	})
}

// attachedPolicies is a page of the policies of a target, and of the groups above it if recursive.
func (a *API) attachedPolicies(ctx context.Context, target string, recursive, desc bool, marker *string, size *int) ([]Policy, *string, error) {
	l, err := list(ctx, marker, size, "ListAttachedPolicies", target, strconv.FormatBool(recursive), strconv.FormatBool(desc))
	if err != nil {
		return nil, nil, err
	}
	l.Desc = desc
	var page []Policy
	var next string
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if err := registry.CheckTarget(tx, s, target); err != nil {
			return err
		}
		var names []string
		if group, ok := fleet.ParseARN(target); ok && recursive && group.Kind() == "thinggroup" {
			names, next, err = tx.PoliciesUnder(s, group.Name(), l.Page)
		} else {
			names, next, err = tx.PoliciesOf(s, target, l.Page)
		}
		page = policyRefs(s, names)
		return err
	})
	return page, l.Token(next), err
}

func (a *API) listAttachedPolicies(ctx context.Context, in *ListAttachedPoliciesInput) (*ListAttachedPoliciesOutput, error) {
	page, next, err := a.attachedPolicies(ctx, in.Target, wire.Value(in.Recursive), false, in.Marker, in.PageSize)
	return &ListAttachedPoliciesOutput{Policies: page, NextMarker: next}, err
}

func (a *API) listPrincipalPolicies(ctx context.Context, in *ListPrincipalPoliciesInput) (*ListPrincipalPoliciesOutput, error) {
	desc := in.AscendingOrder != nil && !*in.AscendingOrder
	page, next, err := a.attachedPolicies(ctx, in.Principal, false, desc, in.Marker, in.PageSize)
	return &ListPrincipalPoliciesOutput{Policies: page, NextMarker: next}, err
}

// policyTargets is a page of what a policy is attached to.
func (a *API) policyTargets(ctx context.Context, name string, desc bool, marker *string, size *int) ([]string, *string, error) {
	l, err := list(ctx, marker, size, "ListTargetsForPolicy", name, strconv.FormatBool(desc))
	if err != nil {
		return nil, nil, err
	}
	l.Desc = desc
	page, next := []string{}, ""
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		if _, err := tx.Policy(s, name); err != nil {
			return err
		}
		targets, n, err := tx.TargetsOf(s, name, l.Page)
		page, next = append(page, targets...), n
		return err
	})
	return page, l.Token(next), err
}

func (a *API) listTargetsForPolicy(ctx context.Context, in *ListTargetsForPolicyInput) (*ListTargetsForPolicyOutput, error) {
	page, next, err := a.policyTargets(ctx, in.PolicyName, false, in.Marker, in.PageSize)
	return &ListTargetsForPolicyOutput{Targets: page, NextMarker: next}, err
}

func (a *API) listPolicyPrincipals(ctx context.Context, in *ListPolicyPrincipalsInput) (*ListPolicyPrincipalsOutput, error) {
	desc := in.AscendingOrder != nil && !*in.AscendingOrder
	page, next, err := a.policyTargets(ctx, in.PolicyName, desc, in.Marker, in.PageSize)
	return &ListPolicyPrincipalsOutput{Principals: page, NextMarker: next}, err
}

func (a *API) getEffectivePolicies(ctx context.Context, in *GetEffectivePoliciesInput) (*GetEffectivePoliciesOutput, error) {
	out := GetEffectivePoliciesOutput{EffectivePolicies: []EffectivePolicy{}}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		policies, err := registry.EffectivePolicies(tx, s, wire.Value(in.Principal), wire.Value(in.CognitoIdentityPoolId), wire.Value(in.ThingName))
		for _, p := range policies {
			out.EffectivePolicies = append(out.EffectivePolicies, EffectivePolicy{PolicyName: &p.Name, PolicyArn: new(s.IoT("policy", p.Name)), PolicyDocument: &p.Document})
		}
		return err
	})
	return &out, err
}

var authDecisions = map[policy.Decision]string{policy.Allowed: "ALLOWED", policy.ExplicitDeny: "EXPLICIT_DENY", policy.ImplicitDeny: "IMPLICIT_DENY"}

func (a *API) testAuthorization(ctx context.Context, in *TestAuthorizationInput) (*TestAuthorizationOutput, error) {
	q := registry.Rehearsal{Principal: wire.Value(in.Principal), Pool: wire.Value(in.CognitoIdentityPoolId), ClientID: wire.Value(in.ClientId), Add: in.PolicyNamesToAdd, Skip: in.PolicyNamesToSkip}
	for _, info := range in.AuthInfos {
		q.Actions = append(q.Actions, registry.RehearsedAction{Type: strings.ToUpper(wire.Value(info.ActionType)), Resources: info.Resources})
	}
	out := TestAuthorizationOutput{AuthResults: []AuthResult{}}
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		outcomes, err := registry.Rehearse(tx, s, q)
		for i, o := range outcomes {
			out.AuthResults = append(out.AuthResults, AuthResult{AuthInfo: &in.AuthInfos[i], AuthDecision: new(authDecisions[o.Decision]),
				Allowed: &Allowed{Policies: policyRefs(s, o.Allowing)},
				Denied: &Denied{ImplicitDeny: &ImplicitDeny{Policies: policyRefs(s, o.Silent)},
					ExplicitDeny: &ExplicitDeny{Policies: policyRefs(s, o.Denying)}},
				MissingContextValues: append([]string{}, o.Missing...)})
		}
		return err
	})
	return &out, err
}
