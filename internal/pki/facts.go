package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Facts are what policies and templates may say about a certificate, read once when it connects or is registered.
type Facts struct {
	ID         string // certificate id
	Serial     string // serial number, decimal
	Subject    Attributes
	Issuer     Attributes
	SubjectAlt Attributes // by RFC822Name, DNSName, DirectoryName, UniformResourceIdentifier, IPAddress
	IssuerAlt  Attributes
	NotBefore  time.Time
	NotAfter   time.Time

	context map[string][]string
}

// Attributes are the values of a name, in the order of the certificate, by the attribute's name in policies, for example
// "CommonName" or "DistinguishedNameQualifier".
type Attributes map[string][]string

// First returns the first value of an attribute, "" if there is none.
func (a Attributes) First(name string) string {
	if v := a[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// ParseFacts reads the facts of a certificate in DER.
func ParseFacts(der []byte) (*Facts, error) {
	if len(der) > MaxCertificate {
		return nil, badCertificate("is longer than %d bytes", MaxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, badCertificate("cannot be parsed: %v", err)
	}
	return NewFacts(cert)
}

// NewFacts reads the facts of a parsed certificate.
func NewFacts(cert *x509.Certificate) (*Facts, error) {
	f := &Facts{ID: fleet.CertificateID(cert.Raw), Serial: cert.SerialNumber.String(),
		Subject: attributesOf(cert.Subject), Issuer: attributesOf(cert.Issuer),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
	var err error
	if f.SubjectAlt, err = alternativeNames(cert, 17); err != nil {
		return nil, badCertificate("its subject alternative name: %v", err)
	}
	if f.IssuerAlt, err = alternativeNames(cert, 18); err != nil {
		return nil, badCertificate("its issuer alternative name: %v", err)
	}
	f.context = f.policyContext()
	return f, nil
}

func attributesOf(name pkix.Name) Attributes {
	out := Attributes{}
	for _, v := range name.Names {
		a, ok := attributeOf(v.Type)
		text, isText := v.Value.(string)
		if ok && a.policy != "" && isText && text != "" {
			out[a.policy] = append(out[a.policy], text)
		}
	}
	return out
}

// alternativeNames reads the GeneralNames (RFC 5280 section 4.2.1.6) of the extension 2.5.29 and number.
func alternativeNames(cert *x509.Certificate, number int) (Attributes, error) {
	out := Attributes{}
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, number}) {
			continue
		}
		var names cryptobyte.String
		value := cryptobyte.String(ext.Value)
		if !value.ReadASN1(&names, cbasn1.SEQUENCE) || !value.Empty() {
			return nil, fmt.Errorf("is no list of names")
		}
		for !names.Empty() {
			var v cryptobyte.String
			var tag cbasn1.Tag
			if !names.ReadAnyASN1(&v, &tag) {
				return nil, fmt.Errorf("is no list of names")
			}
			if kind, text := generalName(tag, v); text != "" && utf8.ValidString(text) {
				out[kind] = append(out[kind], text)
			}
		}
	}
	return out, nil
}

// generalName returns the kind, as policies call it, and the text of a GeneralName; "" for kinds without a variable.
func generalName(tag cbasn1.Tag, v []byte) (kind, text string) {
	switch tag {
	case cbasn1.Tag(1).ContextSpecific():
		return "RFC822Name", string(v)
	case cbasn1.Tag(2).ContextSpecific():
		return "DNSName", string(v)
	case cbasn1.Tag(4).ContextSpecific().Constructed():
		return "DirectoryName", directoryName(v)
	case cbasn1.Tag(6).ContextSpecific():
		return "UniformResourceIdentifier", string(v)
	case cbasn1.Tag(7).ContextSpecific():
		if ip, ok := netip.AddrFromSlice(v); ok {
			return "IPAddress", ip.String()
		}
	}
	return "", ""
}

// directoryName writes a name as AWS does, for example "cn=LightBulbCert,ou=SmartHome,o=IoT,c=US": last RDN first, lower-case
// attribute names (use-policy-variables.md). Special characters in values are escaped as in RFC 4514 section 2.4, so that a
// value cannot pose as several attributes.
func directoryName(der []byte) string {
	names, err := readName(der)
	if err != nil {
		return ""
	}
	var out []string
	for _, rdn := range slices.Backward(names) {
		var parts []string
		for _, v := range rdn {
			kind := v.oid.String()
			if a, ok := attributeOf(v.oid); ok {
				kind = strings.ToLower(a.short)
			}
			parts = append(parts, kind+"="+escape(v.text))
		}
		out = append(out, strings.Join(parts, "+"))
	}
	return strings.Join(out, ",")
}

// Limits of certificate policy variables (iot-core spec 5.4).
const (
	maxVariableValues = 5
	maxVariableChars  = 1024
)

// policyContext makes the policy variables of iot-core spec 5.4. A value that may not be substituted has no variable, so
// that a statement that needs it grants nothing.
func (f *Facts) policyContext() map[string][]string {
	ctx := map[string][]string{"iot:certificateid": {f.ID}, "iot:certificate.serialnumber": {f.Serial}}
	available := []string{"iot:Certificate.SerialNumber"}
	for _, group := range []struct {
		prefix string
		values Attributes
	}{
		{"iot:Certificate.Subject.", f.Subject},
		{"iot:Certificate.Issuer.", f.Issuer},
		{"iot:Certificate.Subject.AlternativeName.", f.SubjectAlt},
		{"iot:Certificate.Issuer.AlternativeName.", f.IssuerAlt},
	} {
		for name, values := range group.values {
			addVariable(ctx, strings.ToLower(group.prefix+name), values)
			available = append(available, group.prefix+name)
		}
	}
	slices.Sort(available)
	ctx["iot:certificate.availablekeys"] = available
	return ctx
}

// addVariable adds the bare key (first value), key.1 (second value), …, and key.list. Values that may not be substituted are
// left out of all but the list: it is for conditions, and ForAllValues would take a missing value for agreement.
func addVariable(ctx map[string][]string, key string, values []string) {
	var list []string
	for i, v := range values[:min(len(values), maxVariableValues)] {
		list = append(list, v)
		if strings.ContainsAny(v, "*$+?#") || utf8.RuneCountInString(v) > maxVariableChars {
			continue
		}
		if i > 0 {
			ctx[key+"."+strconv.Itoa(i)] = []string{v}
		} else {
			ctx[key] = []string{v}
		}
	}
	ctx[key+".list"] = list
}

var escaper = strings.NewReplacer(`,`, `\,`, `"`, `\"`, `\`, `\\`, `+`, `\+`, `=`, `\=`, `<`, `\<`, `>`, `\>`, `;`, `\;`)

// escape puts a backslash before each special character.
func escape(s string) string { return escaper.Replace(s) }

// Context returns the certificate's policy variables by their lower-case names: "iot:certificateid",
// "iot:certificate.subject.commonname" (first value), "….commonname.1" (second), "….commonname.list" (all), and so on, with
// AWS's limits applied; whoever substitutes one escapes it. The map is shared: callers must not change it.
func (f *Facts) Context() map[string][]string { return f.context }

// pseudoParameters are the template parameters that a certificate provides (provisioning spec 4.6), by attribute.
var pseudoParameters = map[string]string{
	"Country":                    "Country",
	"Organization":               "Organization",
	"OrganizationalUnit":         "OrganizationalUnit",
	"DistinguishedNameQualifier": "DistinguishedNameQualifier",
	"State":                      "StateName",
	"CommonName":                 "CommonName",
	"SerialNumber":               "SerialNumber",
}

// PseudoParameters are the names of all parameters that certificates can provide, in order.
func PseudoParameters() []string {
	names := []string{PseudoPrefix + "Id"}
	for _, parameter := range pseudoParameters {
		names = append(names, PseudoPrefix+parameter)
	}
	slices.Sort(names)
	return names
}

// PseudoPrefix begins the name of every parameter that a certificate provides.
const PseudoPrefix = "AWS::IoT::Certificate::"

// Parameters returns the certificate's pseudo parameters for templates: AWS::IoT::Certificate::Id always, the others if the
// subject has the attribute (its first value, as it is). The map is the caller's.
func (f *Facts) Parameters() map[string]string {
	out := map[string]string{PseudoPrefix + "Id": f.ID}
	for name, parameter := range pseudoParameters {
		if v := f.Subject.First(name); v != "" {
			out[PseudoPrefix+parameter] = v
		}
	}
	return out
}
