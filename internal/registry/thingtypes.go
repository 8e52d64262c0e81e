package registry

import (
	"context"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	maxSearchable  = 3  // attributes of a thing type (iot-core spec 3.2)
	maxPropagating = 20 // user properties of a thing type
)

// ThingTypeSpec is what a thing type is asked to be. In an update, nil fields are left alone.
type ThingTypeSpec struct {
	Description *string
	Searchable  []string
	Propagating []fleet.PropagatingAttribute
	Tags        []fleet.Tag // CreateThingType only
}

func (spec ThingTypeSpec) check(name string) error {
	if len(spec.Searchable) > maxSearchable {
		return fleet.Invalid("thing type", name, "has %d searchable attributes; at most %d are allowed", len(spec.Searchable), maxSearchable)
	}
	for _, a := range spec.Searchable {
		if !fleet.ValidAttribute(a, "") {
			return fleet.Invalid("thing type", name, "cannot have a searchable attribute %q: that is no attribute name", a)
		}
	}
	if len(spec.Propagating) > maxPropagating {
		return fleet.Invalid("thing type", name, "propagates %d attributes; at most %d are allowed", len(spec.Propagating), maxPropagating)
	}
	for _, p := range spec.Propagating {
		if p.UserPropertyKey == "" || (p.ThingAttribute == "") == (p.ConnectionAttribute == "") {
			return fleet.Invalid("thing type", name, "cannot propagate this: userPropertyKey and one of thingAttribute and connectionAttribute are needed")
		}
	}
	return checkDescription("thing type", name, spec.Description)
}

var description = fleet.NewPattern(`^[[:graph:] ]*$`)

func checkDescription(resource, name string, text *string) error {
	if text != nil && (len(*text) > 2028 || !description.MatchString(*text)) {
		return fleet.Invalid(resource, name, "cannot have this description: at most 2028 printable ASCII characters are allowed")
	}
	return nil
}

// CreateThingType creates a thing type. The same again returns the type that exists, a different one is KindExists.
func CreateThingType(tx *store.Tx, s fleet.Scope, name string, spec ThingTypeSpec) (fleet.ThingType, error) {
	if err := checkName("thing type", name); err != nil {
		return fleet.ThingType{}, err
	}
	if err := spec.check(name); err != nil {
		return fleet.ThingType{}, err
	}
	t := fleet.ThingType{Name: name, ID: fleet.NewUUID(), Searchable: spec.Searchable, Propagating: spec.Propagating, Created: tx.Now()}
	if spec.Description != nil {
		t.Description = *spec.Description
	}
	switch old, err := tx.ThingType(s, name); {
	case err == nil && old.Description == t.Description && sameSet(old.Searchable, t.Searchable) && slices.Equal(old.Propagating, t.Propagating):
		return old, nil
	case err == nil:
		return fleet.ThingType{}, exists(old.ID, s.IoT("thingtype", name), "Thing type %s already exists in current account with different properties", name)
	case !missing(err):
		return fleet.ThingType{}, err
	}
	if err := PutNewTags(tx, s, "thingtype/"+name, spec.Tags); err != nil {
		return fleet.ThingType{}, err
	}
	return t, putType(tx, s, created, t)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// UpdateThingType changes description and propagating attributes; searchable attributes are fixed at creation.
func UpdateThingType(tx *store.Tx, s fleet.Scope, name string, spec ThingTypeSpec) error {
	if err := spec.check(name); err != nil {
		return err
	}
	t, err := tx.ThingType(s, name)
	if err != nil {
		return err
	}
	if spec.Searchable != nil && !sameSet(spec.Searchable, t.Searchable) {
		return fleet.Invalid("thing type", name, "cannot get other searchable attributes after its creation")
	}
	if spec.Description != nil {
		t.Description = *spec.Description
	}
	if spec.Propagating != nil {
		t.Propagating = spec.Propagating
	}
	return putType(tx, s, updated, t)
}

// DeprecateThingType closes a thing type to new things, or opens it again with undo. Both are idempotent; the time of the
// first deprecation stays.
func DeprecateThingType(tx *store.Tx, s fleet.Scope, name string, undo bool) error {
	t, err := tx.ThingType(s, name)
	if err != nil || undo == t.Deprecated.IsZero() {
		return err
	}
	t.Deprecated = tx.Now()
	if undo {
		t.Deprecated = time.Time{}
	}
	return putType(tx, s, updated, t)
}

// DeleteThingType deletes a thing type that has been deprecated long enough and that no thing has.
func (r *Service) DeleteThingType(ctx context.Context, s fleet.Scope, name string) error {
	return r.Store.Tx(ctx, func(tx *store.Tx) error {
		t, err := tx.ThingType(s, name)
		if err != nil {
			return err
		}
		if t.Deprecated.IsZero() {
			return fleet.Invalid("thing type", name, "cannot be deleted: deprecate it first")
		}
		if tx.Now().Sub(t.Deprecated) < r.typeDeletionWait { // Terraform waits on a part of this text
			return exact(fleet.KindInvalid, "Cannot delete thing type : %s. Please wait for 5 minutes after deprecation and then retry", name)
		}
		used, err := tx.ThingsOfTypeExist(s, name)
		if err != nil {
			return err
		}
		if used {
			return fleet.Invalid("thing type", name, "cannot be deleted: things are still associated with it")
		}
		if err := tx.DeleteThingType(s, name); err != nil {
			return err
		}
		return typeChanged(tx, s, deleted, t)
	})
}
