package userpool

import (
	"context"
	"errors"
	"html"
	"net/url"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is sign-up confirmed by a link in the mail in place of a code (DefaultEmailOption CONFIRM_WITH_LINK). The link leads to the pool's
// pages and carries the code, as with AWS. Addresses that change and recovery go on with codes: the operations that end them take one.

// linked reports whether a message has a link in place of its code.
func (p *Pool) linked(o order) bool {
	return p.Verification.ByLink && o.Reason == signUpReason && o.Attribute == "email"
}

// errNoDomain is why a link cannot be sent.
var errNoDomain = errors.New("the pool confirms with a link and has no domain for it to lead to: CreateUserPoolDomain makes one")

// linkOf is the address that confirms the sign-up of u.
func (s *Service) linkOf(ctx context.Context, p *Pool, u *store.PoolUser, o order) (string, error) {
	base, err := s.PageURL(ctx, p.Scope, p.ID)
	if err == nil && base == "" {
		err = errNoDomain
	}
	return base + "/confirmUser?" + url.Values{"client_id": {o.Client}, "user_name": {u.Username}, "confirmation_code": {o.Code}}.Encode(), err
}

// placeholder finds the first {##TEXT##} of a message: what stands before it, its text, what stands behind it.
func placeholder(body string) (before, text, after string, found bool) {
	before, rest, found := strings.Cut(body, "{##")
	text, after, closed := strings.Cut(rest, "##}")
	return before, text, after, found && closed
}

// withLinks puts a link into each {##TEXT##} of a message and returns it as HTML, which AWS takes every mail for.
func withLinks(body string, isHTML bool, link string) string {
	if !isHTML {
		body = html.EscapeString(body)
	}
	var out strings.Builder
	for {
		before, text, after, found := placeholder(body)
		if !found {
			return out.String() + body
		}
		if text == "" { // where somebody wrote the placeholder of a code
			text = html.EscapeString(link)
		}
		out.WriteString(before + `<a href="` + html.EscapeString(link) + `">` + text + `</a>`)
		body = after
	}
}

// ConfirmByLink is ConfirmSignUp for somebody who followed the link of a message to a site.
func (s *Service) ConfirmByLink(ctx context.Context, site *Site, clientID, username string, code fleet.Secret) error {
	e := entry{pool: site.Pool, hosted: true}
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		e.client, err = s.siteClient(tx, site, clientID)
		return err
	}); err != nil {
		return err
	}
	return s.confirmSignUp(ctx, e, username, code, false)
}
