package pki

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
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

// A nameValue is one attribute of a name as read from a certificate or request.
type nameValue struct {
	oid  asn1.ObjectIdentifier
	text string
}

// readName parses the DER of a name: a list of RDNs, each with one attribute or more. It is as strict as crypto/x509 is about
// certificates, which is more than it is about requests: a name that passes here can be read back from the certificate that
// it gets into. Control characters are refused besides, since programs that stop at a NUL see another name.
func readName(der []byte) ([][]nameValue, error) {
	var names [][]nameValue
	var set cryptobyte.String
	s := cryptobyte.String(der)
	if len(der) > maxName {
		return nil, fmt.Errorf("is longer than %d bytes", maxName)
	}
	if !s.ReadASN1(&set, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("is no list of attributes")
	}
	for !set.Empty() {
		var attrs cryptobyte.String
		if !set.ReadASN1(&attrs, cbasn1.SET) || attrs.Empty() {
			return nil, errors.New("is no list of attributes")
		}
		var rdn []nameValue
		for !attrs.Empty() {
			v, err := readAttribute(&attrs)
			if err != nil {
				return nil, err
			}
			rdn = append(rdn, v)
		}
		names = append(names, rdn)
	}
	return names, nil
}

func readAttribute(attrs *cryptobyte.String) (v nameValue, err error) {
	var pair, value cryptobyte.String
	var tag cbasn1.Tag
	if !attrs.ReadASN1(&pair, cbasn1.SEQUENCE) || !pair.ReadASN1ObjectIdentifier(&v.oid) || !pair.ReadAnyASN1(&value, &tag) || !pair.Empty() {
		return v, errors.New("is no list of attributes")
	}
	text, ok := decodeString(tag, value)
	if !ok || strings.ContainsFunc(text, unicode.IsControl) {
		return v, fmt.Errorf("has an unreadable value for the attribute %v", v.oid)
	}
	v.text = text
	return v, nil
}

// decodeString decodes the string types that names use: RFC 5280 wants the first two, old tools write the others.
func decodeString(tag cbasn1.Tag, value []byte) (text string, ok bool) {
	all := func(good func(byte) bool) bool {
		return !slices.ContainsFunc(value, func(c byte) bool { return !good(c) })
	}
	switch tag {
	case cbasn1.UTF8String:
		return string(value), utf8.Valid(value)
	case cbasn1.PrintableString: // * and & are not allowed but common
		return string(value), all(func(c byte) bool { return isPrintable(c) || c == '*' || c == '&' })
	case cbasn1.IA5String:
		return string(value), all(func(c byte) bool { return c < 0x80 })
	case asn1.TagNumericString:
		return string(value), all(func(c byte) bool { return c == ' ' || c >= '0' && c <= '9' })
	case cbasn1.T61String: // in practice Latin-1
		runes := make([]rune, len(value))
		for i, c := range value {
			runes[i] = rune(c)
		}
		return string(runes), true
	case asn1.TagBMPString:
		var units []uint16
		for ; len(value) >= 2; value = value[2:] {
			u := uint16(value[0])<<8 | uint16(value[1])
			if utf16.IsSurrogate(rune(u)) || u >= 0xfffe || u >= 0xfdd0 && u <= 0xfdef {
				return "", false
			}
			units = append(units, u)
		}
		return string(utf16.Decode(units)), len(value) == 0
	}
	return "", false
}
