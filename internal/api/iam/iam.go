// Package iam is the edge of users, roles, groups and policies: the awsQuery service IAM (identity spec 4 and appendix D). It
// translates between the wire's structs and the rules in internal/iam and decides nothing itself.
//
// Begin with Service. What an operation is about, which is what the caller's policies are asked on, is in resources.go; the
// handlers are in files by subject; model.gen.go is generated.
package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Config says what the edge stands on.
type Config struct {
	IAM *iam.Service
}

type api struct{ Config }

// Service makes the table.
func Service(cfg Config) *wire.Service {
	a := &api{cfg}
	var rows []wire.Row
	for _, subject := range [][]wire.Row{a.users(), a.keys(), a.roles(), a.groups(), a.inline(), a.attachments(), a.policies(), a.providers(), a.simulations()} {
		rows = append(rows, subject...)
	}
	return wire.NewService(Model, rows, wire.ErrorTable{
		fleet.KindInvalid:         "InvalidInput",
		fleet.KindNotFound:        "NoSuchEntity",
		fleet.KindExists:          "EntityAlreadyExists",
		fleet.KindInUse:           "DeleteConflict",
		fleet.KindState:           "UnmodifiableEntity",
		fleet.KindLimit:           "LimitExceeded",
		fleet.KindVersionsLimit:   "LimitExceeded",
		fleet.KindMalformedPolicy: "MalformedPolicyDocument",
		fleet.KindConflict:        "ConcurrentModification",
	})
}

func scope(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

// act ties an operation without members in its answer to what it does in the caller's account. Out is given, In follows from do.
func act[Out, In any](name string, do func(ctx context.Context, s fleet.Scope, in *In) error) *wire.Op[In, Out] {
	return wire.Do(name, func(ctx context.Context, in *In) (*Out, error) { return nil, do(ctx, scope(ctx), in) })
}
