package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/wire"
)

func destinationOut(s fleet.Scope, d fleet.RuleDestination) *TopicRuleDestination {
	return &TopicRuleDestination{Arn: new(rule.DestinationARN(s, d.ID)), Status: &d.Status, StatusReason: wire.Optional(d.Reason), CreatedAt: &d.Created, LastUpdatedAt: &d.Modified,
		HttpUrlProperties: &HttpUrlDestinationProperties{ConfirmationUrl: &d.URL}}
}

func (a *API) createDestination(ctx context.Context, in *CreateTopicRuleDestinationInput) (*CreateTopicRuleDestinationOutput, error) {
	c := in.DestinationConfiguration.HttpUrlConfiguration
	if c == nil {
		return nil, fleet.Invalid("destinationConfiguration", "", "must hold httpUrlConfiguration")
	}
	d, err := a.Rules.CreateDestination(ctx, c.ConfirmationUrl)
	if err != nil {
		return nil, err
	}
	return &CreateTopicRuleDestinationOutput{TopicRuleDestination: destinationOut(scope(ctx), d)}, nil
}

func (a *API) getDestination(ctx context.Context, in *GetTopicRuleDestinationInput) (*GetTopicRuleDestinationOutput, error) {
	d, err := a.Rules.Destination(ctx, in.Arn)
	if err != nil {
		return nil, err
	}
	return &GetTopicRuleDestinationOutput{TopicRuleDestination: destinationOut(scope(ctx), d)}, nil
}

func (a *API) listDestinations(ctx context.Context, in *ListTopicRuleDestinationsInput) (*ListTopicRuleDestinationsOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListTopicRuleDestinations")
	if err != nil {
		return nil, err
	}
	page, next, err := a.Rules.Destinations(ctx, l.Page)
	out := &ListTopicRuleDestinationsOutput{DestinationSummaries: []TopicRuleDestinationSummary{}, NextToken: l.Token(next)}
	for _, d := range page {
		out.DestinationSummaries = append(out.DestinationSummaries, TopicRuleDestinationSummary{Arn: new(rule.DestinationARN(scope(ctx), d.ID)), Status: &d.Status,
			StatusReason: wire.Optional(d.Reason), CreatedAt: &d.Created, LastUpdatedAt: &d.Modified, HttpUrlSummary: &HttpUrlDestinationSummary{ConfirmationUrl: &d.URL}})
	}
	return out, err
}

func (a *API) updateDestination(ctx context.Context, in *UpdateTopicRuleDestinationInput) (*UpdateTopicRuleDestinationOutput, error) {
	return nil, a.Rules.UpdateDestination(ctx, in.Arn, in.Status)
}

func (a *API) deleteDestination(ctx context.Context, in *DeleteTopicRuleDestinationInput) (*DeleteTopicRuleDestinationOutput, error) {
	return nil, a.Rules.DeleteDestination(ctx, in.Arn)
}

// confirmDestination is what a receiver does, or whoever opens the enableUrl in a browser: the token is all that they know.
func (a *API) confirmDestination(ctx context.Context, in *ConfirmTopicRuleDestinationInput) (*ConfirmTopicRuleDestinationOutput, error) {
	return nil, a.Rules.ConfirmDestination(ctx, in.ConfirmationToken)
}
