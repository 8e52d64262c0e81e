// Package iot is the edge of the AWS IoT control plane: it turns the wire's structs into calls of the rules and their answers
// back. It decides nothing.
//
// Begin with API.Service, the table of operations; their methods are in one file per subject. resources.go says which ARNs
// IAM decides on, page.go how lists continue. Structs and constraints are in model.gen.go, which is generated.
package iot

import (
	"context"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// An API answers the operations of the control plane. All fields must be set.
type API struct {
	Store     *store.DB
	Registry  *registry.Service
	Provision Provisioner
	Roles     Roles
	Rules     *rule.Service
	Logs      Logger
	Bulk      BulkRegistrar
}

// Roles says whether a caller may hand a role to a service (iam:PassRole).
type Roles interface {
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
}

// errorCodes translates the kinds of domain errors (iot-core spec 1.5).
var errorCodes = wire.ErrorTable{
	fleet.KindInternal:        "InternalFailureException",
	fleet.KindInvalid:         "InvalidRequestException",
	fleet.KindNotFound:        "ResourceNotFoundException",
	fleet.KindExists:          "ResourceAlreadyExistsException",
	fleet.KindVersion:         "VersionConflictException",
	fleet.KindInUse:           "DeleteConflictException",
	fleet.KindState:           "CertificateStateException",
	fleet.KindLimit:           "LimitExceededException",
	fleet.KindVersionsLimit:   "VersionsLimitExceededException",
	fleet.KindMalformedPolicy: "MalformedPolicyException",
	fleet.KindThrottled:       "ThrottlingException",
	fleet.KindConflict:        "ConflictingResourceUpdateException",
	fleet.KindNotImplemented:  "InvalidRequestException",
	fleet.KindUnavailable:     "ServiceUnavailableException",
}

// Service returns the table of operations.
func (a *API) Service() *wire.Service {
	return wire.NewService(Model, slices.Concat(a.thingRows(), a.groupRows(), a.certificateRows(), a.caRows(), a.policyRows(), a.accountRows(),
		a.provisioningRows(), a.roleAliasRows(), a.transferRows(), a.domainRows(), a.topicRuleRows(), a.bulkRows(), a.loggingRows()), errorCodes)
}

// read and write run f in a transaction, in the caller's scope.
func (a *API) read(ctx context.Context, f func(*store.Tx, fleet.Scope) error) error {
	return a.Store.View(ctx, func(tx *store.Tx) error { return f(tx, scope(ctx)) })
}

func (a *API) write(ctx context.Context, f func(*store.Tx, fleet.Scope) error) error {
	return a.Store.Tx(ctx, func(tx *store.Tx) error { return f(tx, scope(ctx)) })
}

func scope(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

// present never gives nil, so that an empty map is shown.
func present(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func tagsFrom(in []Tag) []fleet.Tag {
	var out []fleet.Tag
	for _, t := range in {
		out = append(out, fleet.Tag{Key: t.Key, Value: wire.Value(t.Value)})
	}
	return out
}

// resolveName finds out which resource is meant where a request takes its name, its ARN or both.
func resolveName(s fleet.Scope, kind, resource string, name, arn *string) (string, error) {
	n := wire.Value(name)
	if arn == nil {
		if n == "" {
			return "", fleet.Invalid(resource, "", "must be given, by its name or its ARN")
		}
		return n, nil
	}
	a, ok := fleet.ParseARN(*arn)
	switch {
	case !ok || a.Service != "iot" || a.Kind() != kind || a.Name() == "":
		return "", fleet.Invalid(resource, *arn, "is not the ARN of a %s", resource)
	case n != "" && n != a.Name():
		return "", fleet.Invalid(resource, n, "does not agree with the ARN %s", *arn)
	case !a.In(s, "iot"):
		return "", fleet.NotFound(resource, *arn)
	}
	return a.Name(), nil
}
