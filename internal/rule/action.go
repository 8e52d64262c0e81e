package rule

import (
	"context"
	"errors"
	"fmt"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/rulesql"
	"github.com/imprint-iot/imprint/internal/store"
)

// An action is a prepared action of a rule. It is called concurrently.
type action interface {
	name() string // as AWS's reports have it, for example LambdaAction
	// do does it. resource names what it was done to, whether or not that worked. It ends with ctx.
	do(ctx context.Context, j *job) (resource string, err error)
}

// prepare compiles an action. Errors are of KindInvalid and say how to mend it.
func (s *Service) prepare(scope fleet.Scope, a fleet.RuleAction, v rulesql.Version) (action, error) {
	switch {
	case a.Lambda != nil:
		return s.prepareLambda(scope, a.Lambda)
	case a.HTTP != nil:
		return s.prepareHTTP(a.HTTP, v)
	case a.Republish != nil:
		return s.prepareRepublish(a.Republish, v)
	case a.S3 != nil:
		return s.prepareS3(a.S3, v)
	case a.CloudwatchLogs != nil:
		return s.prepareCloudwatchLogs(a.CloudwatchLogs, v)
	}
	return nil, fleet.Invalid("action", "", "has no content: an action is one of lambda, republish, http, s3 and cloudwatchLogs")
}

// prepareText compiles a field that may hold substitution templates.
func prepareText(field, source string, v rulesql.Version) (*rulesql.Text, error) {
	t, err := rulesql.ParseText(source, v)
	if err != nil {
		return nil, fleet.Invalid("", "", "the %s of an action: %v", field, err)
	}
	return t, nil
}

// permit checks that a role lets the rule do something: each of IAM's actions on the resource.
func (s *Service) permit(ctx context.Context, j *job, role, resource string, actions ...string) error {
	return s.Store.View(ctx, func(tx *store.Tx) error {
		caller, err := s.Permissions.AssumeForService(tx, j.scope, role, iotService, j.arn)
		if err != nil {
			return notPermitted{role, "", "", err}
		}
		for _, action := range actions {
			if err := s.Permissions.AuthorizeTx(tx, caller, action, resource, policy.Context{}); err != nil {
				return notPermitted{role, action, resource, err}
			}
		}
		return nil
	})
}

// notPermitted is the refusal of a role.
type notPermitted struct {
	role, action, resource string // action is "" if the role cannot be assumed
	error
}

func (n notPermitted) Unwrap() error { return n.error }

// cureOf says how to mend a failure, "" where its text says it already.
func cureOf(c *compiled, f failure) string {
	var n notPermitted
	var u unconfirmed
	switch {
	case errors.As(f.err, &u) && u.status == "":
		return "aws iot create-topic-rule-destination --destination-configuration httpUrlConfiguration={confirmationUrl=" + shown(u.url) + "}, and have it confirmed"
	case errors.As(f.err, &u):
		return "have the receiver confirm it, by the token that was sent there; aws iot update-topic-rule-destination --status IN_PROGRESS sends another one"
	case errors.Is(f.err, egress.ErrRefused):
		return "list the receiver's address under egress-allow, if rules may send to it"
	case errors.As(f.err, &n) && n.action == "":
		return "let the role " + n.role + " be assumed by " + iotService + " in its trust policy, or name another role in the rule's action"
	case errors.As(f.err, &n):
		return "allow " + n.action + " on " + n.resource + " in a policy of the role " + n.role
	case errors.Is(f.err, ErrNotPermitted):
		a, _ := fleet.ParseARN(f.resource)
		return fmt.Sprintf("aws lambda add-permission --function-name %s --statement-id %s --action lambda:InvokeFunction --principal %s --source-arn %s",
			functionName(a), c.rule.Name, iotService, c.arn)
	}
	return ""
}
