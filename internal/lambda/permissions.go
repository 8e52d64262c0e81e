package lambda

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// maxPolicy bounds the policy of a function, in bytes, as in AWS.
const maxPolicy = 20 << 10

// The policy of a function, as GetPolicy shows it.
type document struct {
	Version   string
	ID        string `json:"Id"`
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Principal map[string]string
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

func statementOf(s fleet.Scope, function string, p fleet.FunctionPermission) statement {
	st := statement{Sid: p.ID, Effect: "Allow", Principal: map[string]string{"Service": p.Service}, Action: p.Action, Resource: ARN(s, function)}
	when := func(operator, key, value string) {
		if value != "" {
			if st.Condition == nil {
				st.Condition = map[string]map[string]string{}
			}
			st.Condition[operator] = map[string]string{key: value}
		}
	}
	when("StringEquals", "AWS:SourceAccount", p.SourceAccount)
	when("ArnLike", "AWS:SourceArn", p.SourceARN)
	return st
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("lambda: a policy is JSON: " + err.Error()) // texts only
	}
	return string(b)
}

func policyOf(s fleet.Scope, f fleet.LocalFunction) string {
	d := document{Version: "2012-10-17", ID: "default", Statement: []statement{}}
	for _, p := range f.Permissions {
		d.Statement = append(d.Statement, statementOf(s, f.Name, p))
	}
	return toJSON(d)
}

var (
	servicePrincipal = fleet.NewPattern(`^[a-z0-9.-]+\.amazonaws\.com$`)
	invokeAction     = fleet.NewPattern(`^(lambda:[A-Za-z]+|lambda:\*|\*)$`)
)

// AddPermission lets a service use a function and returns the new statement as JSON. Kinds of errors: KindNotFound, KindExists, KindInvalid,
// KindVersion, KindLimit.
func (s *Service) AddPermission(ctx context.Context, name string, p fleet.FunctionPermission, revision string) (statement string, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	switch {
	case !servicePrincipal.MatchString(p.Service):
		return "", fleet.Invalid("", "", "The provided principal was invalid. Please check the principal and try again. Functions can be opened to services, for example iot.amazonaws.com; "+
			"what users and roles may do is said by policies of their own")
	case !invokeAction.MatchString(p.Action):
		return "", fleet.Invalid("", "", "The action %.100s is not valid: it looks like lambda:InvokeFunction", p.Action)
	}
	statement = toJSON(statementOf(scope, name, p))
	_, err = s.update(ctx, scope, name, revision, func(f *fleet.LocalFunction) error {
		if slices.ContainsFunc(f.Permissions, func(old fleet.FunctionPermission) bool { return old.ID == p.ID }) {
			return fleet.Exists("", "", "The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", p.ID)
		}
		f.Permissions = append(f.Permissions, p)
		text := policyOf(scope, *f)
		if len(text) > maxPolicy {
			return (&fleet.Error{Kind: fleet.KindLimit, Msg: "The final policy size is bigger than the limit (20480)."}).WithCode("PolicyLengthExceededException")
		}
		if _, err := policy.Parse(text, policy.Resource); err != nil {
			return fleet.Invalid("", "", "The statement makes no policy: %v", err)
		}
		return nil
	})
	return statement, err
}

// RemovePermission takes a statement away. Kinds of errors: KindNotFound, KindVersion.
func (s *Service) RemovePermission(ctx context.Context, name, id, revision string) error {
	_, err := s.update(ctx, fleet.CallerFrom(ctx).Scope, name, revision, func(f *fleet.LocalFunction) error {
		before := len(f.Permissions)
		f.Permissions = slices.DeleteFunc(f.Permissions, func(p fleet.FunctionPermission) bool { return p.ID == id })
		if len(f.Permissions) == before {
			return &fleet.Error{Kind: fleet.KindNotFound, Msg: "Statement " + id + " is not found in resource policy."}
		}
		return nil
	})
	return err
}

// Policy returns the policy of a function as JSON. It fails with KindNotFound, for a function without one as well.
func (s *Service) Policy(ctx context.Context, name string) (text, revision string, err error) {
	scope := fleet.CallerFrom(ctx).Scope
	err = s.View(ctx, func(tx *store.Tx) error {
		f, err := current(tx, scope, name, "")
		if err == nil && len(f.Permissions) == 0 {
			err = &fleet.Error{Kind: fleet.KindNotFound, Msg: "The resource you requested does not exist."}
		}
		text, revision = policyOf(scope, f), f.Revision
		return err
	})
	return text, revision, err
}

// permits reports whether a function's policy lets a service invoke it on behalf of a source of the scope.
func permits(s fleet.Scope, f fleet.LocalFunction, service, sourceARN string) bool {
	if len(f.Permissions) == 0 {
		return false
	}
	doc, err := policy.Parse(policyOf(s, f), policy.Resource)
	if err != nil {
		return false
	}
	facts := policy.Context{}
	facts.Set("aws:SourceAccount", s.Account)
	facts.Set("aws:SourceArn", sourceARN)
	return policy.Evaluate([]policy.Named{{Name: f.Name, Doc: doc}}, policy.Request{Action: "lambda:InvokeFunction", Resource: ARN(s, f.Name),
		Principal: policy.Principal{Service: service}, Context: facts}).Allowed()
}
