// Package registry holds the rules for things, thing types, groups, certificates, policies, attachments and tags: what may be
// created, changed, attached and deleted, and with which refusal.
//
// Most rules are functions of a transaction, so that a control-plane call, a provisioning plan and a bulk line share them:
// begin with things.go. What needs keys, configuration or several transactions is a method of Service. Snapshot and Apply in
// plan.go are the registry's side of provisioning: they read what a template talks about and write what it decided.
//
// Reads without a rule are queries of the store. Names of another scope find nothing, here as there.
package registry

import (
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// Config is what a Service needs.
type Config struct {
	Store     *store.DB
	Authority *pki.Authority // issues certificates
	Keys      *pki.KeyPool   // makes the keys that CreateKeysAndCertificate returns

	// Host is the name that devices connect to, without port. With BaseDomain each scope has names of its own below it:
	// PREFIX-ats.iot.REGION.BASE and so on (iot-core spec 6.2).
	Host           string
	Names          []string // all by which the server is meant as a whole: no account can have them as its own
	CredentialHost string   // of the credential provider, where there is no BaseDomain
	BaseDomain     string

	// TypeDeletionWait must pass between deprecation and deletion of a thing type. nil: five minutes, as in AWS.
	TypeDeletionWait *time.Duration
}

// A Service does what needs more than one transaction's rules: keys, configuration, work in chunks.
type Service struct {
	Config
	typeDeletionWait time.Duration
}

// New returns a Service.
func New(cfg Config) *Service {
	wait := 5 * time.Minute
	if cfg.TypeDeletionWait != nil {
		wait = *cfg.TypeDeletionWait
	}
	return &Service{Config: cfg, typeDeletionWait: wait}
}

// chunk is how many rows one transaction of a cascade touches, so that a provisioning never waits long behind it.
const chunk = 100

// exact makes an error whose whole text is the service's known wording.
func exact(kind fleet.Kind, format string, args ...any) *fleet.Error {
	return &fleet.Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// exists makes the refusal of a name that is taken, with the members that AWS adds to it.
func exists(id, arn, format string, args ...any) *fleet.Error {
	return exact(fleet.KindExists, format, args...).With("resourceId", id).With("resourceArn", arn)
}

// missing reports whether err says that a resource does not exist.
func missing(err error) bool { return err != nil && fleet.KindOf(err) == fleet.KindNotFound }

// checkVersion compares a caller's expected version, if there is one.
func checkVersion(resource, name string, version int64, expected *int64) error {
	if expected != nil && *expected != version {
		return exact(fleet.KindVersion, "The version for %s %s does not match the expected version.", resource, name)
	}
	return nil
}

func checkName(resource, name string) error {
	if !fleet.ValidRegistryName(name) {
		return fleet.Invalid(resource, name, "has no valid name: 1 to 128 letters, digits, '_', '-' or ':' are allowed")
	}
	return nil
}

// checkAttributes checks names, values and number of attributes.
func checkAttributes(resource, name string, attributes map[string]string, limit int) error {
	for k, v := range attributes {
		if !fleet.ValidAttribute(k, v) {
			return fleet.Invalid(resource, name, "cannot have attribute %q: a name has 1 to 128 letters, digits or characters of _.,@/:#-, a value up to 800 of these or =[], without blanks", k)
		}
	}
	if len(attributes) > limit {
		return fleet.Invalid(resource, name, "has %d attributes; at most %d are allowed", len(attributes), limit)
	}
	return nil
}

// mergeAttributes returns what an attribute payload makes of old: the whole new map, or the union with merge; an empty value
// removes its attribute.
func mergeAttributes(old, payload map[string]string, merge bool) map[string]string {
	out := map[string]string{}
	if merge {
		for k, v := range old {
			out[k] = v
		}
	}
	for k, v := range payload {
		if v == "" {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}
