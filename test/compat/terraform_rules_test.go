package compat

import (
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The calls of the provider for rules and what events there are, as in TestTerraformsResourcesOfTheRegistryHaveNoDrift.
func TestTerraformsRulesAndEventsHaveNoDrift(t *testing.T) {
	t.Parallel()
	admin := ownServer(t).adminSDK(t)
	p := provider{t, admin, admin.iot}
	p.topicRule()
	p.topicRuleWithoutTags()
	p.eventConfigurations()
}

// findRule looks a rule up by its list, and then by its name, since GetTopicRule refuses what there is not.
func (p provider) findRule(name string) *iot.GetTopicRuleOutput {
	p.Helper()
	pages := iot.NewListTopicRulesPaginator(p.c, &iot.ListTopicRulesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(p.Context())
		check(p.T, err)
		for _, r := range page.Rules {
			if *r.RuleName == name {
				out, err := p.c.GetTopicRule(p.Context(), &iot.GetTopicRuleInput{RuleName: &name})
				check(p.T, err)
				return out
			}
		}
	}
	return nil
}

// topicRule is aws_iot_topic_rule: blocks of actions are sets of the resource, which the provider fills from the list that it reads.
func (p provider) topicRule() {
	ctx, c := p.Context(), p.c
	_, err := p.admin.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("rules"), AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
	check(p.T, err)
	role := "arn:aws:iam::" + account + ":role/rules"
	payload := &iottypes.TopicRulePayload{Sql: aws.String("SELECT * FROM 'lamps/+/state'"), AwsIotSqlVersion: aws.String("2016-03-23"), Description: aws.String("lamps"), RuleDisabled: aws.Bool(false),
		Actions: []iottypes.Action{
			{Lambda: &iottypes.LambdaAction{FunctionArn: aws.String("arn:aws:lambda:us-east-1:" + account + ":function:lamps")}},
			{Republish: &iottypes.RepublishAction{RoleArn: &role, Topic: aws.String("copies/${topic(2)}"), Qos: aws.Int32(0)}},
			{S3: &iottypes.S3Action{RoleArn: &role, BucketName: aws.String("states"), Key: aws.String("${topic()}"), CannedAcl: iottypes.CannedAccessControlListPrivate}},
			{Http: &iottypes.HttpAction{Url: aws.String("https://hooks.example.com/lamps"), ConfirmationUrl: aws.String("https://hooks.example.com"),
				Headers: []iottypes.HttpActionHeader{{Key: aws.String("x-lamp"), Value: aws.String("${topic(2)}")}}}},
		},
		ErrorAction: &iottypes.Action{Republish: &iottypes.RepublishAction{RoleArn: &role, Topic: aws.String("failed"), Qos: aws.Int32(1)}}}
	rule := aws.String("lamps")
	_, err = c.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: rule, Tags: aws.String("team=red"), TopicRulePayload: payload})
	check(p.T, err)
	read := func() {
		p.Helper()
		out := p.findRule(*rule)
		p.tagged(out.RuleArn)
		r := out.Rule
		p.same("rule", []any{*r.RuleName, *r.Sql, *r.AwsIotSqlVersion, aws.ToString(r.Description), *r.RuleDisabled}, []any{*rule, *payload.Sql, *payload.AwsIotSqlVersion, *payload.Description, *payload.RuleDisabled})
		p.same("actions", *text(r.Actions), *text(payload.Actions))
		p.same("error action", *text(r.ErrorAction), *text(payload.ErrorAction))
	}
	read()

	payload.Sql, payload.RuleDisabled, payload.Description = aws.String("SELECT state AS s FROM 'lamps/#' WHERE state <> ''"), aws.Bool(true), aws.String("")
	payload.Actions, payload.ErrorAction = payload.Actions[:1], nil
	_, err = c.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: rule, TopicRulePayload: payload})
	check(p.T, err)
	read()
	p.retagged(p.findRule(*rule).RuleArn)

	_, err = c.DeleteTopicRule(ctx, &iot.DeleteTopicRuleInput{RuleName: rule})
	check(p.T, err)
	if p.findRule(*rule) != nil {
		p.Error("a rule that was deleted is in the list")
	}
}

// topicRuleWithoutTags: the provider then sends its header with nothing in it.
func (p provider) topicRuleWithoutTags() {
	rule := aws.String("untagged")
	_, err := p.c.CreateTopicRule(p.Context(), &iot.CreateTopicRuleInput{RuleName: rule, Tags: aws.String(""), TopicRulePayload: &iottypes.TopicRulePayload{Sql: aws.String("SELECT * FROM 'x'"),
		AwsIotSqlVersion: aws.String("2016-03-23"), RuleDisabled: aws.Bool(true), Actions: []iottypes.Action{}}})
	check(p.T, err)
	out, err := p.c.ListTagsForResource(p.Context(), &iot.ListTagsForResourceInput{ResourceArn: p.findRule(*rule).RuleArn})
	check(p.T, err)
	p.same("number of tags", len(out.Tags), 0)
	_, err = p.c.DeleteTopicRule(p.Context(), &iot.DeleteTopicRuleInput{RuleName: rule})
	check(p.T, err)
}

// eventConfigurations is aws_iot_event_configurations, which names every type, and whose deletion changes nothing.
func (p provider) eventConfigurations() {
	ctx, c := p.Context(), p.c
	want := map[string]iottypes.Configuration{}
	for _, name := range iottypes.EventType("").Values() {
		want[string(name)] = iottypes.Configuration{Enabled: name == iottypes.EventTypeThing || name == iottypes.EventTypeCaCertificate}
	}
	for range 2 {
		_, err := c.UpdateEventConfigurations(ctx, &iot.UpdateEventConfigurationsInput{EventConfigurations: want})
		check(p.T, err)
		out, err := c.DescribeEventConfigurations(ctx, &iot.DescribeEventConfigurationsInput{})
		check(p.T, err)
		p.same("types", slices.Sorted(maps.Keys(out.EventConfigurations)), slices.Sorted(maps.Keys(want)))
		p.same("event configurations", out.EventConfigurations, want)
		want["THING"], want["JOB"] = iottypes.Configuration{}, iottypes.Configuration{Enabled: true}
	}
}
