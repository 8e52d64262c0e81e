package hosted

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"

	"rsc.io/qr"
)

// newTokenKey is the picture and the text of a software token's key (the otpauth addresses that authenticator apps read).
func newTokenKey(issuer, name, key string) *tokenKey {
	address := (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + issuer + ":" + name,
		RawQuery: url.Values{"secret": {key}, "issuer": {issuer}}.Encode()}).String()
	k := &tokenKey{Text: spaced(key), Address: template.URL(address)} // a scheme of our own choice, and encoded
	if code, err := qr.Encode(address, qr.M); err == nil {
		k.Picture = drawing(code)
	}
	return k
}

// drawing is a QR code as a path of SVG, which needs neither script nor picture from elsewhere.
func drawing(c *qr.Code) template.HTML {
	const quiet = 4
	var path strings.Builder
	for y := range c.Size {
		for x := range c.Size {
			if c.Black(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	size := c.Size + 2*quiet
	return template.HTML(fmt.Sprintf(`<svg class="code" role="img" aria-label="QR code of the key below" viewBox="0 0 %d %d" shape-rendering="crispEdges">`+
		`<path fill="#fff" d="M0 0h%dv%dH0z"/><path fill="#000" d="%s"/></svg>`, size, size, size, size, path.String()))
}

// spaced divides a key into groups of four, which are easier to type.
func spaced(key string) string {
	var out strings.Builder
	for i, r := range key {
		if i > 0 && i%4 == 0 {
			out.WriteByte(' ')
		}
		out.WriteRune(r)
	}
	return out.String()
}
