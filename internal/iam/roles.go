package iam

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// CreateRole adds a role; Trust says who may become it.
func (s *Service) CreateRole(ctx context.Context, scope fleet.Scope, e Entity) (Entity, error) {
	e.Kind = store.IAMRole
	if e.MaxSession == 0 {
		e.MaxSession = defaultSession
	}
	if err := checkDocument(e.Trust, policy.Trust, maxTrustDocument, "ACLSizePerRole"); err != nil {
		return e, err
	}
	return s.create(ctx, scope, e)
}

// SetTrust replaces a role's trust policy and ends its live sessions: whoever may still become the role signs in again.
func (s *Service) SetTrust(ctx context.Context, scope fleet.Scope, name, document string) error {
	if err := checkDocument(document, policy.Trust, maxTrustDocument, "ACLSizePerRole"); err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, store.IAMRole, name)
		if err != nil {
			return err
		}
		e.Trust = document
		if err := update(tx, scope, e); err != nil {
			return err
		}
		return tx.CutOff(scope.Global(), "role:"+e.Name, tx.Now())
	})
}

// roleOf reads a role by its ARN; scope is the account that the ARN must name.
func roleOf(tx *store.Tx, scope fleet.Scope, arn string) (Entity, error) {
	a, ok := fleet.ParseARN(arn)
	if !ok || a.Service != "iam" || a.Account != scope.Account || a.Kind() != "role" {
		return Entity{}, noSuch("%s is no role of account %s.", arn, scope.Account)
	}
	e, err := get(tx, scope, store.IAMRole, lastSegment(a.Name()))
	if err == nil && e.ARN(scope) != arn {
		return Entity{}, noSuch("The role with ARN %s cannot be found.", arn)
	}
	return e, err
}
