package iam

import (
	"cmp"
	"context"
	"crypto/sha256"
	"slices"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// defaultItems is the length of a page for which none is asked (identity spec 4).
const defaultItems = 100

// A listing is one list that is handed out in pages, with markers for tokens.
type listing struct{ wire.Listing }

// list begins or continues a list. question is the operation and whatever else decides which entries come.
func list(ctx context.Context, marker *string, items *int, question ...string) (listing, error) {
	l, ok := wire.NewListing(marker, items, defaultItems, append([]string{scope(ctx).Account}, question...)...)
	if !ok {
		return listing{l}, fleet.Invalid("", "", "Invalid Marker: it does not continue this list; begin without one").WithCode("ValidationError")
	}
	return listing{l}, nil
}

// rest returns IsTruncated and Marker for a list that goes on after the key next, or ends if that is "".
func (l listing) rest(next string) (truncated *bool, marker *string) {
	return new(next != ""), l.Token(next)
}

// cut takes the page out of a whole list that it may sort, and returns IsTruncated and Marker with it.
func cut[T any](l listing, all []T, name func(T) string) (page []T, truncated *bool, marker *string) {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(key(name(a)), key(name(b))) })
	i, _ := slices.BinarySearchFunc(all, l.After, func(e T, after string) int {
		if key(name(e)) <= after {
			return -1
		}
		return 1
	})
	page, next := all[i:], ""
	if len(page) > l.Limit {
		page = page[:l.Limit]
		next = key(name(page[l.Limit-1]))
	}
	truncated, marker = l.rest(next)
	return page, truncated, marker
}

// maxKey bounds the keys inside markers: a marker has at most 320 characters.
const maxKey = 200

// key shortens a name to what fits a marker and keeps it unique.
func key(name string) string {
	if len(name) <= maxKey {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxKey-16] + string(sum[:16])
}
