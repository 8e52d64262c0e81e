package registry

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// CreateBillingGroup creates a billing group. The same again returns the group that exists, a different one is KindExists.
func CreateBillingGroup(tx *store.Tx, s fleet.Scope, name, text string, tags []fleet.Tag) (fleet.BillingGroup, error) {
	if err := checkName("billing group", name); err != nil {
		return fleet.BillingGroup{}, err
	}
	if err := checkDescription("billing group", name, &text); err != nil {
		return fleet.BillingGroup{}, err
	}
	switch old, err := tx.BillingGroup(s, name); {
	case err == nil && old.Description == text:
		return old, nil
	case err == nil:
		return fleet.BillingGroup{}, exists(old.ID, s.IoT("billinggroup", name), "Billing Group %s already exists in current account with different properties", name)
	case !missing(err):
		return fleet.BillingGroup{}, err
	}
	if err := PutNewTags(tx, s, "billinggroup/"+name, tags); err != nil {
		return fleet.BillingGroup{}, err
	}
	g := fleet.BillingGroup{Name: name, ID: fleet.NewUUID(), Description: text, Version: 1, Created: tx.Now()}
	return g, tx.PutBillingGroup(s, g)
}

// UpdateBillingGroup changes the description, unless it is nil, and returns the group with its new version.
func UpdateBillingGroup(tx *store.Tx, s fleet.Scope, name string, text *string, expected *int64) (fleet.BillingGroup, error) {
	g, err := tx.BillingGroup(s, name)
	if err != nil {
		return g, err
	}
	if err := checkVersion("billing group", name, g.Version, expected); err != nil {
		return g, err
	}
	if err := checkDescription("billing group", name, text); err != nil {
		return g, err
	}
	if text != nil {
		g.Description = *text
	}
	g.Version++
	return g, tx.PutBillingGroup(s, g)
}

// DeleteBillingGroup deletes a billing group; its things leave it first, in chunks. A group that does not exist is no error.
func (r *Service) DeleteBillingGroup(ctx context.Context, s fleet.Scope, name string, expected *int64) error {
	for done := false; !done; {
		err := r.Store.Tx(ctx, func(tx *store.Tx) (err error) {
			done, err = deleteBillingGroupStep(tx, s, name, expected)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func deleteBillingGroupStep(tx *store.Tx, s fleet.Scope, name string, expected *int64) (done bool, err error) {
	g, err := tx.BillingGroup(s, name)
	if missing(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if err := checkVersion("billing group", name, g.Version, expected); err != nil {
		return false, err
	}
	things, next, err := tx.BilledThings(s, name, fleet.Page{Limit: chunk})
	if err != nil {
		return false, err
	}
	for _, thing := range things {
		if err := tx.SetBillingGroup(s, thing, ""); err != nil {
			return false, err
		}
	}
	if next != "" {
		return false, nil
	}
	return true, tx.DeleteBillingGroup(s, name)
}

// AddToBillingGroup puts a thing into a billing group; from another one it moves.
func AddToBillingGroup(tx *store.Tx, s fleet.Scope, thing, group string) error {
	if _, err := tx.BillingGroup(s, group); err != nil {
		return err
	}
	t, err := tx.Thing(s, thing)
	if err != nil || t.BillingGroup == group {
		return err
	}
	return tx.SetBillingGroup(s, thing, group)
}

// RemoveFromBillingGroup takes a thing out of a billing group; a thing that is not in it is no error.
func RemoveFromBillingGroup(tx *store.Tx, s fleet.Scope, thing, group string) error {
	if _, err := tx.BillingGroup(s, group); err != nil {
		return err
	}
	t, err := tx.Thing(s, thing)
	if err != nil || t.BillingGroup != group {
		return err
	}
	return tx.SetBillingGroup(s, thing, "")
}
