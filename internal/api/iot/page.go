package iot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// defaultPage is the length of a page for which no length is asked (iot-core spec 1.7).
const defaultPage = 25

// A listing is one list that is handed out in pages. Its tokens hold the last key and a mark of the question, so that a token
// continues only the list that it came from, for the account that it was made for.
type listing struct {
	fleet.Page
	mark [8]byte
}

// list begins or continues a list. question is the operation and everything else that decides which entries come in which
// order. limit has been checked against the model.
func list(ctx context.Context, token *string, limit *int, question ...string) (listing, error) {
	s := scope(ctx)
	hash := sha256.Sum256([]byte(strings.Join(append([]string{s.Account, s.Region}, question...), "\x00")))
	l := listing{Page: fleet.Page{Limit: defaultPage}}
	copy(l.mark[:], hash[:])
	if limit != nil {
		l.Limit = *limit
	}
	if token == nil || *token == "" {
		return l, nil
	}
	text, err := base64.StdEncoding.DecodeString(*token)
	if err != nil || !bytes.HasPrefix(text, l.mark[:]) || len(text) == len(l.mark) {
		return l, fleet.Invalid("token", *token, "does not continue this list; begin without one")
	}
	l.After = string(text[len(l.mark):])
	return l, nil
}

// token continues the list after the key next; nil if that is "".
func (l listing) token(next string) *string {
	if next == "" {
		return nil
	}
	return new(base64.StdEncoding.EncodeToString(append(l.mark[:], next...)))
}

// order is the part of a question that says how a list is sorted: newest first unless ascending is asked for.
func order(ascending *bool) (desc bool, question string) {
	if ascending != nil && *ascending {
		return false, "ascending"
	}
	return true, "descending"
}
