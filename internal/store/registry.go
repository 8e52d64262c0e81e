package store

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Kinds of Change that writes to the registry announce, and their keys. Whoever caches what a device may do drops it on the
// first five; whoever keeps connections looks at ChangedCertificate.
const (
	ChangedThing        = "thing"        // thing name: created, updated, deleted, or in other groups
	ChangedThingType    = "thingtype"    // thing type name
	ChangedGroup        = "group"        // thing group name: created, updated or deleted
	ChangedCertificate  = "certificate"  // certificate id: created, another status, deleted
	ChangedPolicy       = "policy"       // policy name: another default document, deleted
	ChangedAttachment   = "attachment"   // principal or thing-group ARN, or Cognito identity id: other policies or other things
	ChangedBillingGroup = "billinggroup" // billing group name
	ChangedTags         = "tags"         // ARN
	ChangedEvents       = "events"       // "": which registry events are published
)

// principalKey is how a principal or policy target is stored: the resource part of its ARN ("cert/…", "thinggroup/…") or the
// Cognito identity id itself. An ARN of another scope stays whole, so that it finds nothing.
func principalKey(s fleet.Scope, principal string) string {
	if a, ok := fleet.ParseARN(principal); ok && a.In(s, "iot") {
		return a.Resource
	}
	return principal
}

// principalName is the inverse of principalKey.
func principalName(s fleet.Scope, key string) string {
	if strings.Contains(key, "/") {
		return s.ARN("iot", key)
	}
	return key
}

// noLimit is larger than any list and fits both dialects' LIMIT.
const noLimit = 1 << 62

// pageLimit is the LIMIT for page p: one row more than asked for tells whether there is a next page.
func pageLimit(p fleet.Page) int64 {
	if p.Limit <= 0 {
		return noLimit
	}
	return int64(p.Limit) + 1
}

// cutPage removes the extra row of pageLimit. next is the key of the last row kept, "" if there are no more.
func cutPage[T any](p fleet.Page, items []T, key func(T) string) (page []T, next string) {
	if p.Limit <= 0 || len(items) <= p.Limit {
		return items, ""
	}
	items = items[:p.Limit]
	return items, key(items[p.Limit-1])
}

func self(s string) string { return s }

// prefixRange returns the bounds lo <= s < hi of the strings that begin with prefix, for names and values that are ASCII:
// the last code point is above all that may follow.
func prefixRange(prefix string) (lo, hi string) { return prefix, prefix + "\U0010ffff" }

// prefixPage continues a list by name of what begins with prefix, as a condition on the column. There is one lower bound only: of two,
// SQLite may go by the one that has the whole list before the page in it.
func prefixPage(p fleet.Page, prefix, column string) (where string, args []any) {
	lo, hi := prefixRange(prefix)
	if p.After < lo || p.After == "" {
		return column + " >= ? AND " + column + " < ?", []any{lo, hi}
	}
	return column + " > ? AND " + column + " < ?", []any{p.After, hi}
}
