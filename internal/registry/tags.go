package registry

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const maxTags = 50 // of one resource (iot-core spec 3.8)

var tagText = fleet.NewPattern(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

func checkTags(resource string, tags []fleet.Tag) error {
	for _, t := range tags {
		switch n := len([]rune(t.Key)); {
		case n < 1 || n > 128 || len([]rune(t.Value)) > 256 || !tagText.MatchString(t.Key) || !tagText.MatchString(t.Value):
			return fleet.Invalid("tag", t.Key, "is not valid: a key has 1 to 128, a value up to 256 letters, digits, blanks or characters of _.:/=+-@")
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return fleet.Invalid("tag", t.Key, "is reserved, as are all keys that begin with aws:")
		}
	}
	if len(tags) > maxTags {
		return fleet.Invalid("resource", resource, "cannot have more than %d tags", maxTags)
	}
	return nil
}

// PutNewTags stores the tags that a resource is created with; resource is the resource part of its ARN.
func PutNewTags(tx *store.Tx, s fleet.Scope, resource string, tags []fleet.Tag) error {
	if err := checkTags(resource, tags); err != nil {
		return err
	}
	return tx.PutTags(s, resource, tags)
}

// taggable returns the stored name of a taggable resource that exists.
func taggable(tx *store.Tx, s fleet.Scope, arn string) (resource string, err error) {
	a, ok := fleet.ParseARN(arn)
	if !ok || a.Service != "iot" {
		return "", fleet.Invalid("resource", arn, "is not the ARN of a resource of this service")
	}
	if !a.In(s, "iot") {
		return "", fleet.NotFound("resource", arn)
	}
	switch a.Kind() {
	case "thinggroup":
		_, err = tx.Group(s, a.Name())
	case "thingtype":
		_, err = tx.ThingType(s, a.Name())
	case "billinggroup":
		_, err = tx.BillingGroup(s, a.Name())
	case "policy":
		_, err = tx.Policy(s, a.Name())
	case "rule":
		_, err = tx.TopicRule(s, a.Name())
	case "provisioningtemplate":
		_, err = tx.Template(s, a.Name())
	case "rolealias":
		_, err = tx.RoleAlias(s, a.Name())
	case "cacert":
		_, err = tx.CA(s, a.Name())
	case "domainconfiguration":
		name, _, _ := strings.Cut(a.Name(), "/")
		if _, err = tx.Domain(s, name); err == nil && a.Resource != fleet.DomainResource(s, name) {
			err = fleet.NotFound("domain configuration", arn)
		}
	case "thing", "cert":
		err = fleet.Invalid("resource", arn, "cannot be tagged; things and certificates have no tags")
	default:
		err = fleet.NotFound("resource", arn)
	}
	return a.Resource, err
}

// Tag sets tags of a resource; the others stay.
func Tag(tx *store.Tx, s fleet.Scope, arn string, tags []fleet.Tag) error {
	resource, err := taggable(tx, s, arn)
	if err != nil {
		return err
	}
	if err := checkTags(arn, tags); err != nil {
		return err
	}
	if err := tx.PutTags(s, resource, tags); err != nil {
		return err
	}
	all, err := tx.Tags(s, resource)
	if err == nil && len(all) > maxTags {
		return fleet.Invalid("resource", arn, "cannot have more than %d tags", maxTags)
	}
	return err
}

// Untag removes tags of a resource by key; unknown keys are no error.
func Untag(tx *store.Tx, s fleet.Scope, arn string, keys []string) error {
	resource, err := taggable(tx, s, arn)
	if err != nil {
		return err
	}
	return tx.RemoveTags(s, resource, keys)
}

// Tags returns the tags of a resource, by key.
func Tags(tx *store.Tx, s fleet.Scope, arn string) ([]fleet.Tag, error) {
	resource, err := taggable(tx, s, arn)
	if err != nil {
		return nil, err
	}
	return tx.Tags(s, resource)
}
