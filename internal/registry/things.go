package registry

import (
	"maps"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Attributes that a thing may have (iot-core spec 11).
const (
	maxAttributesTyped   = 50
	maxAttributesUntyped = 3
)

// ThingSpec is what CreateThing is asked for.
type ThingSpec struct {
	Name         string
	Type         string // "": none
	Attributes   map[string]string
	BillingGroup string // "": none
}

// CreateThing creates a thing. The same again returns the thing that exists; a different one under its name is KindExists
// (iot-core spec 1.8, 3.1).
func CreateThing(tx *store.Tx, s fleet.Scope, spec ThingSpec) (fleet.Thing, error) {
	if err := checkName("thing", spec.Name); err != nil {
		return fleet.Thing{}, err
	}
	for k, v := range spec.Attributes {
		if v == "" {
			return fleet.Thing{}, fleet.Invalid("thing", spec.Name, "cannot have an empty attribute %q; leave it out", k)
		}
	}
	if err := checkAttributes("thing", spec.Name, spec.Attributes, attributeLimit(spec.Type)); err != nil {
		return fleet.Thing{}, err
	}
	var thingType fleet.ThingType
	if spec.Type != "" {
		var err error
		if thingType, err = tx.ThingType(s, spec.Type); err != nil {
			return fleet.Thing{}, err
		}
	}
	if spec.BillingGroup != "" {
		if _, err := tx.BillingGroup(s, spec.BillingGroup); err != nil {
			return fleet.Thing{}, err
		}
	}
	switch old, err := tx.Thing(s, spec.Name); {
	case err == nil && old.Type == spec.Type && old.BillingGroup == spec.BillingGroup && maps.Equal(old.Attributes, spec.Attributes):
		return old, nil
	case err == nil:
		return fleet.Thing{}, exists(old.ID, s.IoT("thing", old.Name), "Thing %s already exists in account with different attributes", old.Name)
	case !missing(err):
		return fleet.Thing{}, err
	}
	if !thingType.Deprecated.IsZero() {
		return fleet.Thing{}, deprecated(spec.Type)
	}
	t := fleet.Thing{Name: spec.Name, ID: fleet.NewUUID(), Type: spec.Type, Attributes: spec.Attributes, BillingGroup: spec.BillingGroup,
		Version: 1, Created: tx.Now()}
	return t, insertThing(tx, s, t)
}

func attributeLimit(thingType string) int {
	if thingType == "" {
		return maxAttributesUntyped
	}
	return maxAttributesTyped
}

func deprecated(thingType string) error {
	return fleet.Invalid("thing type", thingType, "is deprecated: no more things can be associated with it")
}

// ThingChange says what UpdateThing changes; nil fields are left alone.
type ThingChange struct {
	Attributes map[string]string // an empty value removes the attribute
	Merge      bool              // keep attributes that Attributes does not name
	Type       *string
	RemoveType bool
	Expected   *int64 // version that the thing must have
}

// UpdateThing changes a thing and raises its version.
func UpdateThing(tx *store.Tx, s fleet.Scope, name string, c ThingChange) (fleet.Thing, error) {
	if c.RemoveType && c.Type != nil {
		return fleet.Thing{}, fleet.Invalid("thing", name, "cannot get a thing type and lose it in one request")
	}
	old, err := tx.Thing(s, name)
	if err != nil {
		return fleet.Thing{}, err
	}
	if err := checkVersion("thing", name, old.Version, c.Expected); err != nil {
		return fleet.Thing{}, err
	}
	t := old
	if c.RemoveType {
		t.Type = ""
	}
	if c.Type != nil && *c.Type != old.Type {
		tt, err := tx.ThingType(s, *c.Type)
		if err != nil {
			return fleet.Thing{}, err
		}
		if !tt.Deprecated.IsZero() {
			return fleet.Thing{}, deprecated(tt.Name)
		}
		t.Type = tt.Name
	}
	if c.Attributes != nil {
		t.Attributes = mergeAttributes(old.Attributes, c.Attributes, c.Merge)
	}
	if err := checkAttributes("thing", name, t.Attributes, attributeLimit(t.Type)); err != nil {
		return fleet.Thing{}, err
	}
	t.Version++
	return t, replaceThing(tx, s, old, t)
}

// DeleteThing deletes a thing with its group memberships. A thing that does not exist is no error; one with principals is
// refused.
func DeleteThing(tx *store.Tx, s fleet.Scope, name string, expected *int64) error {
	t, err := tx.Thing(s, name)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkVersion("thing", name, t.Version, expected); err != nil {
		return err
	}
	attached, _, err := tx.PrincipalsOf(s, name, "", fleet.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(attached) > 0 {
		return exact(fleet.KindInvalid, "Cannot delete. Thing %s is still attached to one or more principals", name)
	}
	return removeThing(tx, s, t)
}
