package iot

import (
	"context"
	"net/url"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *API) topicRuleRows() []wire.Row {
	return []wire.Row{
		wire.Do("CreateTopicRule", a.createTopicRule).On(named("rule", func(in *CreateTopicRuleInput) string { return in.RuleName })).
			Conditions(func(_ fleet.Scope, in *CreateTopicRuleInput) map[string][]string {
				tags, _ := taggingHeader(in.Tags) // what is wrong with it is told later
				return tagConditions(tags)
			}).Refuse(otherActions...),
		wire.Do("GetTopicRule", a.getTopicRule).On(named("rule", func(in *GetTopicRuleInput) string { return in.RuleName })),
		wire.Do("ReplaceTopicRule", a.replaceTopicRule).On(named("rule", func(in *ReplaceTopicRuleInput) string { return in.RuleName })).Refuse(otherActions...),
		wire.Do("DeleteTopicRule", a.deleteTopicRule).On(named("rule", func(in *DeleteTopicRuleInput) string { return in.RuleName })),
		wire.Do("ListTopicRules", a.listTopicRules),
		wire.Do("EnableTopicRule", a.enableTopicRule).On(named("rule", func(in *EnableTopicRuleInput) string { return in.RuleName })),
		wire.Do("DisableTopicRule", a.disableTopicRule).On(named("rule", func(in *DisableTopicRuleInput) string { return in.RuleName })),
		wire.Do("CreateTopicRuleDestination", a.createDestination).Refuse("DestinationConfiguration.VpcConfiguration"),
		wire.Do("GetTopicRuleDestination", a.getDestination).On(target(func(in *GetTopicRuleDestinationInput) string { return in.Arn })),
		wire.Do("ListTopicRuleDestinations", a.listDestinations),
		wire.Do("UpdateTopicRuleDestination", a.updateDestination).On(target(func(in *UpdateTopicRuleDestinationInput) string { return in.Arn })),
		wire.Do("DeleteTopicRuleDestination", a.deleteDestination).On(target(func(in *DeleteTopicRuleDestinationInput) string { return in.Arn })),
		wire.Do("ConfirmTopicRuleDestination", a.confirmDestination).Public(),
	}
}

// taggingHeader reads the tags of CreateTopicRule, which come as k=v&k2=v2 in a header (iot-core spec 1.3).
func taggingHeader(text *string) (tags []Tag, err error) {
	values, err := url.ParseQuery(wire.Value(text))
	if err != nil {
		return nil, fleet.Invalid("x-amz-tagging", *text, "is not of the form key1=value1&key2=value2, with both percent-encoded")
	}
	for key, v := range values {
		if len(v) != 1 {
			return nil, fleet.Invalid("tag", key, "is given twice")
		}
		tags = append(tags, Tag{Key: key, Value: &v[0]})
	}
	return tags, nil
}

func (a *API) createTopicRule(ctx context.Context, in *CreateTopicRuleInput) (*CreateTopicRuleOutput, error) {
	tags, err := taggingHeader(in.Tags)
	if err != nil {
		return nil, err
	}
	r, err := topicRule(in.RuleName, in.TopicRulePayload)
	if err != nil {
		return nil, err
	}
	return nil, a.Rules.Create(ctx, r, tagsFrom(tags))
}

func (a *API) replaceTopicRule(ctx context.Context, in *ReplaceTopicRuleInput) (*ReplaceTopicRuleOutput, error) {
	r, err := topicRule(in.RuleName, in.TopicRulePayload)
	if err != nil {
		return nil, err
	}
	return nil, a.Rules.Replace(ctx, r)
}

// topicRule is the rule that a payload describes.
func topicRule(name string, p *TopicRulePayload) (fleet.TopicRule, error) {
	r := fleet.TopicRule{Name: name, SQL: p.Sql, SQLVersion: wire.Value(p.AwsIotSqlVersion), Description: wire.Value(p.Description), Disabled: wire.Value(p.RuleDisabled)}
	for i := range p.Actions {
		action, err := ruleAction(&p.Actions[i])
		if err != nil {
			return r, err
		}
		r.Actions = append(r.Actions, action)
	}
	if p.ErrorAction != nil {
		action, err := ruleAction(p.ErrorAction)
		if err != nil {
			return r, err
		}
		r.ErrorAction = &action
	}
	return r, nil
}

// ruleAction is the one action that an Action holds.
func ruleAction(a *Action) (out fleet.RuleAction, err error) {
	n := 0
	if l := a.Lambda; l != nil {
		n++
		out.Lambda = &fleet.LambdaAction{Function: l.FunctionArn}
	}
	if r := a.Republish; r != nil {
		n++
		out.Republish = &fleet.RepublishAction{Role: r.RoleArn, Topic: r.Topic, QoS: wire.Value(r.Qos)}
		if h := r.Headers; h != nil {
			out.Republish.Headers = &fleet.MessageHeaders{PayloadFormat: h.PayloadFormatIndicator, ContentType: h.ContentType, ResponseTopic: h.ResponseTopic,
				CorrelationData: h.CorrelationData, Expiry: h.MessageExpiry}
			for _, u := range h.UserProperties {
				out.Republish.Headers.User = append(out.Republish.Headers.User, fleet.Tag{Key: u.Key, Value: u.Value})
			}
		}
	}
	if h := a.Http; h != nil {
		n++
		if wire.Value(h.EnableBatching) {
			return out, wire.RefusedMember("EnableBatching", "HttpAction")
		}
		out.HTTP = &fleet.HTTPAction{URL: h.Url, ConfirmationURL: wire.Value(h.ConfirmationUrl)}
		for _, header := range h.Headers {
			out.HTTP.Headers = append(out.HTTP.Headers, fleet.Tag{Key: header.Key, Value: header.Value})
		}
		if h.Auth != nil && h.Auth.Sigv4 != nil {
			out.HTTP.Sign = &fleet.SignatureV4{Role: h.Auth.Sigv4.RoleArn, Service: h.Auth.Sigv4.ServiceName, Region: h.Auth.Sigv4.SigningRegion}
		}
	}
	if o := a.S3; o != nil {
		n++
		if acl := wire.Value(o.CannedAcl); acl != "" && acl != "private" {
			return out, wire.RefusedMember("CannedAcl", "S3Action")
		}
		out.S3 = &fleet.S3Action{Role: o.RoleArn, Bucket: o.BucketName, Key: o.Key, ACL: wire.Value(o.CannedAcl)}
	}
	if l := a.CloudwatchLogs; l != nil {
		n++
		out.CloudwatchLogs = &fleet.CloudwatchLogsAction{Role: l.RoleArn, Group: l.LogGroupName, Batch: wire.Value(l.BatchMode)}
	}
	if n != 1 {
		return out, fleet.Invalid("action", "", "must hold exactly one of %q", offeredActions)
	}
	return out, nil
}

var offeredActions = []string{"cloudwatchLogs", "http", "lambda", "republish", "s3"}

// otherActions are those that are not offered, in an action of a rule and in its error action: refused rather than kept and never done.
var otherActions = func() (paths []string) {
	for _, name := range []string{"CloudwatchAlarm", "CloudwatchMetric", "DynamoDB", "DynamoDBv2", "Elasticsearch", "Firehose", "IotAnalytics", "IotEvents",
		"IotSiteWise", "Kafka", "Kinesis", "Location", "OpenSearch", "Salesforce", "Sns", "Sqs", "StepFunctions", "Timestream"} {
		paths = append(paths, "TopicRulePayload.Actions."+name, "TopicRulePayload.ErrorAction."+name)
	}
	return paths
}()

// actionOut is the reverse of ruleAction.
func actionOut(a fleet.RuleAction) (out Action) {
	if l := a.Lambda; l != nil {
		out.Lambda = &LambdaAction{FunctionArn: l.Function}
	}
	if r := a.Republish; r != nil {
		out.Republish = &RepublishAction{RoleArn: r.Role, Topic: r.Topic, Qos: &r.QoS}
		if h := r.Headers; h != nil {
			out.Republish.Headers = &MqttHeaders{PayloadFormatIndicator: h.PayloadFormat, ContentType: h.ContentType, ResponseTopic: h.ResponseTopic,
				CorrelationData: h.CorrelationData, MessageExpiry: h.Expiry}
			for _, u := range h.User {
				out.Republish.Headers.UserProperties = append(out.Republish.Headers.UserProperties, UserProperty{Key: u.Key, Value: u.Value})
			}
		}
	}
	if h := a.HTTP; h != nil {
		out.Http = &HttpAction{Url: h.URL, ConfirmationUrl: wire.Optional(h.ConfirmationURL)}
		for _, header := range h.Headers {
			out.Http.Headers = append(out.Http.Headers, HttpActionHeader{Key: header.Key, Value: header.Value})
		}
		if h.Sign != nil {
			out.Http.Auth = &HttpAuthorization{Sigv4: &SigV4Authorization{RoleArn: h.Sign.Role, ServiceName: h.Sign.Service, SigningRegion: h.Sign.Region}}
		}
	}
	if o := a.S3; o != nil {
		out.S3 = &S3Action{RoleArn: o.Role, BucketName: o.Bucket, Key: o.Key, CannedAcl: wire.Optional(o.ACL)}
	}
	if l := a.CloudwatchLogs; l != nil {
		out.CloudwatchLogs = &CloudwatchLogsAction{RoleArn: l.Role, LogGroupName: l.Group, BatchMode: &l.Batch}
	}
	return out
}

func (a *API) getTopicRule(ctx context.Context, in *GetTopicRuleInput) (*GetTopicRuleOutput, error) {
	r, err := a.Rules.Get(ctx, in.RuleName)
	if err != nil {
		return nil, err
	}
	out := &TopicRule{RuleName: &r.Name, Sql: &r.SQL, AwsIotSqlVersion: &r.SQLVersion, Description: wire.Optional(r.Description), CreatedAt: &r.Created,
		RuleDisabled: &r.Disabled, Actions: []Action{}}
	for _, action := range r.Actions {
		out.Actions = append(out.Actions, actionOut(action))
	}
	if r.ErrorAction != nil {
		out.ErrorAction = new(actionOut(*r.ErrorAction))
	}
	return &GetTopicRuleOutput{RuleArn: new(rule.ARN(scope(ctx), r.Name)), Rule: out}, nil
}

func (a *API) deleteTopicRule(ctx context.Context, in *DeleteTopicRuleInput) (*DeleteTopicRuleOutput, error) {
	return nil, a.Rules.Delete(ctx, in.RuleName)
}

func (a *API) enableTopicRule(ctx context.Context, in *EnableTopicRuleInput) (*EnableTopicRuleOutput, error) {
	return nil, a.Rules.Enable(ctx, in.RuleName, true)
}

func (a *API) disableTopicRule(ctx context.Context, in *DisableTopicRuleInput) (*DisableTopicRuleOutput, error) {
	return nil, a.Rules.Enable(ctx, in.RuleName, false)
}

func (a *API) listTopicRules(ctx context.Context, in *ListTopicRulesInput) (*ListTopicRulesOutput, error) {
	question := []string{"ListTopicRules", wire.Value(in.Topic)}
	if in.RuleDisabled != nil {
		question = append(question, map[bool]string{true: "disabled", false: "enabled"}[*in.RuleDisabled])
	}
	l, err := list(ctx, in.NextToken, in.MaxResults, question...)
	if err != nil {
		return nil, err
	}
	page, next, err := a.Rules.List(ctx, wire.Value(in.Topic), in.RuleDisabled, l.Page)
	out := &ListTopicRulesOutput{Rules: []TopicRuleListItem{}, NextToken: l.Token(next)}
	for _, r := range page {
		out.Rules = append(out.Rules, TopicRuleListItem{RuleArn: new(rule.ARN(scope(ctx), r.Name)), RuleName: &r.Name, TopicPattern: wire.Optional(r.Filter),
			CreatedAt: &r.Created, RuleDisabled: &r.Disabled})
	}
	return out, err
}
