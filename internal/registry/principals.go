package registry

import (
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// cognitoIdentity is the form of a Cognito identity id, region:uuid.
var cognitoIdentity = fleet.NewPattern(`^[a-z]{2}(-[a-z]+)+-[0-9]:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// CheckPrincipal checks that principal is a certificate of the scope or looks like a Cognito identity id. A certificate that
// does not exist, or one of another scope, is KindNotFound; anything else is KindInvalid.
func CheckPrincipal(tx *store.Tx, s fleet.Scope, principal string) error {
	a, ok := fleet.ParseARN(principal)
	switch {
	case cognitoIdentity.MatchString(principal):
		return nil // identities are not ours to know (iot-core spec 3.13)
	case !ok || a.Service != "iot" || a.Kind() != "cert":
		return fleet.Invalid("principal", principal, "must be the ARN of a certificate or a Cognito identity id")
	case !a.In(s, "iot"):
		return fleet.NotFound("certificate", principal)
	}
	_, err := tx.Certificate(s, a.Name())
	return err
}

// CheckPrincipalOf is CheckPrincipal where an identity pool of the scope is named, too, "" for none: the principal is one of its identities.
func CheckPrincipalOf(tx *store.Tx, s fleet.Scope, pool, principal string) error {
	if pool == "" {
		return CheckPrincipal(tx, s, principal)
	}
	if !cognitoIdentity.MatchString(principal) {
		return fleet.Invalid("principal", principal, "must be the id of an identity where an identity pool is given")
	}
	i, err := tx.FindIdentity(principal)
	if err == nil && (i.Scope != s || i.Pool != pool) {
		err = fleet.NotFound("identity", principal)
	}
	return err
}

// CheckTarget is CheckPrincipal for what a policy may be attached to: principals and thing groups.
func CheckTarget(tx *store.Tx, s fleet.Scope, target string) error {
	a, ok := fleet.ParseARN(target)
	if !ok || a.Service != "iot" || a.Kind() != "thinggroup" {
		return CheckPrincipal(tx, s, target)
	}
	if !a.In(s, "iot") {
		return fleet.NotFound("thing group", target)
	}
	_, err := tx.Group(s, a.Name())
	return err
}

// AttachPrincipal ties a principal to a thing. Again is no error; a type other than before changes it, and "" leaves it, or
// means non-exclusive for a new tie. A certificate that is tied exclusively has no other thing (iot-core spec 3.1).
func AttachPrincipal(tx *store.Tx, s fleet.Scope, thing, principal string, kind fleet.PrincipalType) error {
	if _, err := tx.Thing(s, thing); err != nil {
		return err
	}
	if err := CheckPrincipal(tx, s, principal); err != nil {
		return err
	}
	if err := checkStays(tx, s, principal); err != nil {
		return err
	}
	if kind == fleet.Exclusive && cognitoIdentity.MatchString(principal) {
		return fleet.Invalid("principal", principal, "cannot be attached exclusively: only certificates can")
	}
	old, tied, err := tx.Tie(s, thing, principal)
	if err != nil || tied && (kind == "" || kind == old) {
		return err
	}
	other, shared, err := tx.OtherTie(s, thing, principal)
	switch {
	case err != nil:
		return err
	case shared && other.Type == fleet.Exclusive:
		return fleet.Invalid("principal", principal, "is attached exclusively to thing %s", other.Thing)
	case shared && kind == fleet.Exclusive:
		return fleet.Invalid("principal", principal, "cannot be attached exclusively: it is attached to thing %s, too", other.Thing)
	}
	if kind == "" {
		kind = fleet.NonExclusive
	}
	return tx.AttachThing(s, fleet.Attachment{Thing: thing, Principal: principal, Type: kind})
}

// DetachPrincipal unties a principal from a thing; if they are not tied that is no error.
func DetachPrincipal(tx *store.Tx, s fleet.Scope, thing, principal string) error {
	if _, err := tx.Thing(s, thing); err != nil {
		return err
	}
	if err := CheckPrincipal(tx, s, principal); err != nil {
		return err
	}
	_, err := tx.DetachThing(s, thing, principal)
	return err
}
