package iot

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// defaultPage is the length of a page for which no length is asked (iot-core spec 1.7).
const defaultPage = 25

// list begins or continues a list. question is the operation and everything else that decides which entries come in which
// order.
func list(ctx context.Context, token *string, limit *int, question ...string) (wire.Listing, error) {
	s := scope(ctx)
	l, ok := wire.NewListing(token, limit, defaultPage, append([]string{s.Account, s.Region}, question...)...)
	if !ok {
		return l, fleet.Invalid("token", *token, "does not continue this list; begin without one")
	}
	return l, nil
}

// order is the part of a question that says how a list is sorted: newest first unless ascending is asked for.
func order(ascending *bool) (desc bool, question string) {
	if ascending != nil && *ascending {
		return false, "ascending"
	}
	return true, "descending"
}
