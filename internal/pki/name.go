package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An attribute of a distinguished name: how openssl and RFC 4514 abbreviate it, what IoT policies call it (iot-core spec
// 5.4), and its object identifier (2.5.4 and the number).
type attribute struct {
	short  string
	policy string // empty: policies cannot name it
	number int
}

var attributes = []attribute{
	{"CN", "CommonName", 3},
	{"SN", "Surname", 4},
	{"serialNumber", "SerialNumber", 5},
	{"C", "Country", 6},
	{"L", "", 7},
	{"ST", "State", 8},
	{"O", "Organization", 10},
	{"OU", "OrganizationalUnit", 11},
	{"title", "Title", 12},
	{"GN", "GivenName", 42},
	{"initials", "Initials", 43},
	{"generationQualifier", "GenerationQualifier", 44},
	{"dnQualifier", "DistinguishedNameQualifier", 46},
	{"pseudonym", "Pseudonym", 65},
}

func (a attribute) oid() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 4, a.number} }

// printable reports whether RFC 5280 appendix A.1 wants the attribute as a PrintableString; the others are UTF8Strings.
func (a attribute) printable() bool {
	return a.short == "C" || a.short == "serialNumber" || a.short == "dnQualifier"
}

func attributeOf(oid asn1.ObjectIdentifier) (attribute, bool) {
	if len(oid) == 4 && oid[0] == 2 && oid[1] == 5 && oid[2] == 4 {
		for _, a := range attributes {
			if a.number == oid[3] {
				return a, true
			}
		}
	}
	return attribute{}, false
}

// maxName bounds the DER of a name, in a request as in a configuration.
const maxName = 1024

// ParseName returns the DER of a distinguished name written as "C=US, O=Example, CN=Plant 7": attributes in the order of
// the certificate, separated by commas; a backslash makes the next character literal. It knows the attributes CN, SN,
// serialNumber, C, L, ST, O, OU, title, GN, initials, generationQualifier, dnQualifier and pseudonym.
func ParseName(text string) ([]byte, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("name %q is not UTF-8", text)
	}
	var b cryptobyte.Builder
	var failed error
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, part := range splitName(text) {
			if err := addAttribute(b, part); err != nil && failed == nil {
				failed = fmt.Errorf("name %q: %w", text, err)
			}
		}
	})
	der, err := b.Bytes()
	if failed != nil {
		return nil, failed
	}
	if err == nil && len(der) > maxName {
		err = fmt.Errorf("name %.40q… is longer than %d bytes", text, maxName)
	}
	return der, err
}

// splitName cuts at commas that no backslash precedes.
func splitName(text string) (parts []string) {
	var cur strings.Builder
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			cur.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == ',':
			parts = append(parts, cur.String())
			cur.Reset()
		default:
			cur.WriteRune(r)
		}
	}
	return append(parts, cur.String())
}

func addAttribute(b *cryptobyte.Builder, part string) error {
	kind, value, ok := strings.Cut(part, "=")
	kind, value = strings.TrimSpace(kind), strings.TrimSpace(value)
	if !ok || value == "" {
		return fmt.Errorf("%q is not of the form ATTRIBUTE=value", part)
	}
	for _, a := range attributes {
		if strings.EqualFold(a.short, kind) {
			tag := cbasn1.UTF8String
			if a.printable() {
				tag = cbasn1.PrintableString
				if strings.ContainsFunc(value, func(r rune) bool { return r > 126 || !isPrintable(byte(r)) }) {
					return fmt.Errorf("%s takes letters, digits and '()+,-./:=? only", a.short)
				}
			}
			b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(a.oid())
					b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(value)) })
				})
			})
			return nil
		}
	}
	return fmt.Errorf("attribute %q is not known", kind)
}

func isPrintable(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(" '()+,-./:=?", c) >= 0
}

// mustName is ParseName for names in this program.
func mustName(text string) []byte {
	der, err := ParseName(text)
	if err != nil {
		panic(err)
	}
	return der
}

// readName parses the DER of a name.
func readName(der []byte) (pkix.RDNSequence, error) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &seq); err != nil {
		return nil, err
	} else if len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the name", len(rest))
	}
	return seq, nil
}
