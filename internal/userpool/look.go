package userpool

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Look is what the pages of a client look like (SetUICustomization): declarations of CSS for the parts of a page, and a logo.
type Look struct {
	PoolID, Client    string // a client's id, or AllClients
	CSS               string // as given
	Image             []byte // PNG or JPEG
	Created, Modified time.Time
}

// AllClients stands for the clients of a pool that have no look of their own.
const AllClients = store.AllClients

const (
	maxLookCSS   = 32 << 10
	maxLookImage = 100 << 10
)

// Media types of logos.
var (
	pngHead  = []byte("\x89PNG\r\n\x1a\n")
	jpegHead = []byte("\xff\xd8\xff")
)

// ImageType is the media type of the logo, "" if there is none.
func (l *Look) ImageType() string {
	switch {
	case bytes.HasPrefix(l.Image, pngHead):
		return "image/png"
	case bytes.HasPrefix(l.Image, jpegHead):
		return "image/jpeg"
	}
	return ""
}

// SetLook stores the look of a client, or of all. Without an image the earlier one stays, as with AWS; so does without css the earlier css.
func (s *Service) SetLook(ctx context.Context, scope fleet.Scope, poolID, client string, css *string, image []byte) (l Look, err error) {
	if css != nil {
		if _, err := ParseLook(*css); err != nil {
			return l, err
		}
	}
	fresh := Look{Image: image}
	if len(image) > 0 && fresh.ImageType() == "" {
		return l, invalid("ImageFile must be a PNG or JPEG picture.")
	}
	if len(image) > maxLookImage {
		return l, invalid("ImageFile is larger than 100 KB.")
	}
	err = s.tx(ctx, func(tx *store.Tx) error {
		if l, err = readLook(tx, scope, poolID, client); err != nil {
			return err
		}
		now := s.now()
		if l.Created.IsZero() {
			have, err := tx.PoolDomains(scope, poolID)
			if err != nil {
				return err
			}
			if len(have) == 0 {
				return invalid("There has to be an existing domain associated with this user pool")
			}
			l.Created = now
		}
		if css != nil {
			l.CSS = *css
		}
		if len(image) > 0 {
			l.Image = image
		}
		l.Modified = now
		return tx.PutPoolLook(scope, poolID, store.PoolLook{Client: l.Client, CSS: l.CSS, Image: l.Image, Created: l.Created, Modified: l.Modified})
	})
	return l, err
}

// readLook returns the look that was set for a client, or for all; an empty one if none was.
func readLook(tx *store.Tx, scope fleet.Scope, poolID, client string) (Look, error) {
	l := Look{PoolID: poolID, Client: or(client, AllClients)}
	if _, err := readPool(tx, scope, poolID); err != nil {
		return l, err
	}
	if l.Client != AllClients {
		if _, err := tx.UserPoolClient(scope, poolID, l.Client); err != nil {
			return l, asNotFound(err, clientNotFound(l.Client))
		}
	}
	row, err := tx.PoolLook(scope, poolID, l.Client)
	if isNotFound(err) {
		return l, nil
	}
	l.CSS, l.Image, l.Created, l.Modified = row.CSS, row.Image, row.Created, row.Modified
	return l, err
}

// Look returns what was set for a client, or for all clients of a pool where the client has nothing of its own.
func (s *Service) Look(ctx context.Context, scope fleet.Scope, poolID, client string) (l Look, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		if l, err = readLook(tx, scope, poolID, client); err == nil && l.Created.IsZero() && l.Client != AllClients {
			l, err = readLook(tx, scope, poolID, AllClients)
		}
		return err
	})
	return l, err
}

// lookParts are the parts of a page that a look may change, by the names that AWS gives them.
var lookParts = fleet.NewPattern(`^(background|banner|errorMessage|idpButton|idpDescription|inputField|label|legalText|logo|passwordCheck-notValid|passwordCheck-valid|` +
	`redirect|socialButton|submitButton|textDescription)-customizable(:(hover|focus|active))?$`)

var (
	lookProperty = fleet.NewPattern(`^[a-z-]{1,64}$`)
	lookValue    = fleet.NewPattern(`^[A-Za-z0-9#%.,()'" !+-]{1,256}$`)
)

// ParseLook reads the CSS of a look and returns it in a normal form. It knows rules of classes alone, each with declarations that hold
// no address, so that a look cannot reach beyond the page.
func ParseLook(css string) (string, error) {
	if len(css) > maxLookCSS {
		return "", invalid("CSS is longer than 32 KB.")
	}
	var out strings.Builder
	rest := withoutComments(css)
	for {
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return out.String(), nil
		}
		selector, after, ok := strings.Cut(rest, "{")
		body, next, closed := strings.Cut(after, "}")
		if !ok || !closed {
			return "", invalid("Invalid CSS: a rule such as .banner-customizable { color: black; } is expected at " + excerpt(rest))
		}
		name := strings.TrimPrefix(strings.TrimSpace(selector), ".")
		if name == strings.TrimSpace(selector) || !lookParts.MatchString(name) {
			return "", invalid("Invalid CSS: the selector " + excerpt(selector) + " is none of the customizable classes.")
		}
		out.WriteString("." + name + "{")
		for line := range strings.SplitSeq(body, ";") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			property, value, ok := strings.Cut(line, ":")
			property, value = strings.ToLower(strings.TrimSpace(property)), strings.TrimSpace(value)
			lower := strings.ToLower(value)
			if !ok || !lookProperty.MatchString(property) || !lookValue.MatchString(value) || strings.Contains(lower, "url(") ||
				strings.Contains(lower, "expression(") || strings.Contains(lower, "image(") || strings.Contains(lower, "image-set(") {
				return "", invalid("Invalid CSS: the declaration " + excerpt(line) + " is not allowed.")
			}
			out.WriteString(property + ":" + value + ";")
		}
		out.WriteString("}\n")
		rest = next
	}
}

func withoutComments(css string) string {
	var out strings.Builder
	for {
		before, after, ok := strings.Cut(css, "/*")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		out.WriteByte(' ')
		_, css, _ = strings.Cut(after, "*/")
	}
}

func excerpt(s string) string {
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return `"` + strings.ToValidUTF8(strings.TrimSpace(s), "?") + `"`
}
