package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Listing is one list that is handed out in pages. Its tokens hold the last key given and a mark of the question, so that a
// token continues only the list that it came from. They are opaque and no secret.
type Listing struct {
	fleet.Page
	mark [8]byte
}

// NewListing begins a list, or continues it where token says. limit has been checked against the model; usual is the length of
// a page where it is nil. question is everything that decides which entries come in which order, for whom: scope, operation,
// filters. ok is false if token does not continue this list.
func NewListing(token *string, limit *int, usual int, question ...string) (l Listing, ok bool) {
	hash := sha256.Sum256([]byte(strings.Join(question, "\x00")))
	l = Listing{fleet.Page{Limit: usual}, [8]byte(hash[:8])}
	if limit != nil {
		l.Limit = *limit
	}
	if Value(token) == "" {
		return l, true
	}
	text, err := base64.StdEncoding.DecodeString(*token)
	if err != nil || !bytes.HasPrefix(text, l.mark[:]) || len(text) == len(l.mark) {
		return l, false
	}
	l.After = string(text[len(l.mark):])
	return l, true
}

// Token continues the list after the key next; nil if that is "".
func (l Listing) Token(next string) *string {
	if next == "" {
		return nil
	}
	return new(base64.StdEncoding.EncodeToString(append(l.mark[:], next...)))
}
