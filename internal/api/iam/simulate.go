package iam

import (
	"context"
	"fmt"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/wire"
)

// simulations ask what somebody could do. Resource policies have no part in it: there are none but those of roles.
func (a *api) simulations() []wire.Row {
	others := []string{"ResourcePolicy", "ResourceOwner", "ResourceHandlingOption"}
	return []wire.Row{
		wire.Do("SimulatePrincipalPolicy", a.simulatePrincipal).
			On(func(_ fleet.Scope, in *SimulatePrincipalPolicyInput) []string { return []string{in.PolicySourceArn} }).
			Refuse(append(others, "PolicyExclusionList")...),
		wire.Do("SimulateCustomPolicy", a.simulateCustom).Refuse(others...),
	}
}

func (a *api) simulatePrincipal(ctx context.Context, in *SimulatePrincipalPolicyInput) (*SimulatePrincipalPolicyOutput, error) {
	return a.simulate(ctx, in.ContextEntries, in.Marker, in.MaxItems, iam.Simulation{Principal: in.PolicySourceArn, Actions: in.ActionNames, Resources: in.ResourceArns,
		Policies: in.PolicyInputList, Boundary: in.PermissionsBoundaryPolicyInputList})
}

func (a *api) simulateCustom(ctx context.Context, in *SimulateCustomPolicyInput) (*SimulateCustomPolicyOutput, error) {
	return a.simulate(ctx, in.ContextEntries, in.Marker, in.MaxItems, iam.Simulation{Actions: in.ActionNames, Resources: in.ResourceArns,
		Policies: in.PolicyInputList, Boundary: in.PermissionsBoundaryPolicyInputList})
}

func (a *api) simulate(ctx context.Context, entries []ContextEntry, marker *string, items *int, q iam.Simulation) (*SimulatePolicyResponse, error) {
	question := append([]string{"Simulate", q.Principal}, q.Actions...)
	question = append(append(question, ""), q.Resources...)
	question = append(append(append(question, ""), q.Policies...), q.Boundary...)
	l, err := list(ctx, marker, items, strings.Join(question, "\n"))
	if err != nil {
		return nil, err
	}
	q.Context = policy.Context{}
	for _, e := range entries {
		if e.ContextKeyName == nil {
			return nil, fleet.Invalid("", "", "a member of ContextEntries has no ContextKeyName")
		}
		q.Context.Set(*e.ContextKeyName, e.ContextKeyValues...)
	}
	found, err := a.IAM.Simulate(ctx, scope(ctx), q)
	if err != nil {
		return nil, err
	}
	type numbered struct {
		iam.Simulated
		place string
	}
	var all []numbered
	for i, f := range found {
		all = append(all, numbered{f, fmt.Sprintf("%06d", i)})
	}
	out := &SimulatePolicyResponse{EvaluationResults: []EvaluationResult{}}
	all, out.IsTruncated, out.Marker = cut(l, all, func(n numbered) string { return n.place })
	for _, n := range all {
		out.EvaluationResults = append(out.EvaluationResults, simulatedOut(n.Simulated))
	}
	return out, nil
}

var decisions = map[policy.Decision]string{policy.Allowed: "allowed", policy.ExplicitDeny: "explicitDeny", policy.ImplicitDeny: "implicitDeny"}

func simulatedOut(s iam.Simulated) EvaluationResult {
	out := EvaluationResult{EvalActionName: s.Action, EvalResourceName: new(s.Resource), EvalDecision: decisions[s.Decision],
		MatchedStatements: []Statement{}, MissingContextValues: orEmpty(s.Missing)}
	if s.Bounded {
		out.PermissionsBoundaryDecisionDetail = &PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: new(s.Within)}
	}
	for _, m := range s.Matched {
		out.MatchedStatements = append(out.MatchedStatements, Statement{SourcePolicyId: new(m.Policy), SourcePolicyType: new(m.Kind),
			StartPosition: &Position{Line: new(m.Start.Line), Column: new(m.Start.Column)}, EndPosition: &Position{Line: new(m.End.Line), Column: new(m.End.Column)}})
	}
	return out
}
