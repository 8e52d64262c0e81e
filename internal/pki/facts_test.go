package pki

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// customerCert makes a certificate as a customer's CA would.
func customerCert(t testing.TB, subject, issuer []byte, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key := ecKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: new(big.Int).SetUint64(0x921285cbb7a5e086), RawSubject: subject,
		NotBefore: testNow, NotAfter: testNow.Add(time.Hour)}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &x509.Certificate{RawSubject: issuer}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return parseLeaf(t, der)
}

// The example of AWS's guide (use-policy-variables.md), which shows each attribute and the variable made from it.
func awsExample(t testing.TB) *x509.Certificate {
	return customerCert(t,
		mustName("C=US, O=IoT Devices, OU=LightBulb, ST=NY, CN=LightBulb Device Cert, GN=Bulb, initials=ZZ, dnQualifier=Bulb001, SN=Multi Color, title=RGB, pseudonym=RGB Device, generationQualifier=4, serialNumber=123"),
		mustName("C=US, O=IoT Devices, OU=SmartHome, ST=WA, CN=IoT Devices Primary CA, GN=Primary CA1, initials=XY, dnQualifier=Example corp, SN=SmartHome, title=CA1, pseudonym=Primary_CA, generationQualifier=2, serialNumber=987"),
		func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{
				{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: generalNames("example.com", net.IPv4(1, 2, 3, 4), "ResourceIdentifier001", "device1@example.com", "C=US, O=IoT, OU=SmartHome, CN=LightBulbCert")},
				{Id: asn1.ObjectIdentifier{2, 5, 29, 18}, Value: generalNames("issuer.com", net.IPv4(5, 6, 7, 8), "PrimarySignerCA", "primary@issuer.com", "C=US, O=Issuer, OU=IoT Devices, CN=Primary Issuer CA")},
			}
		})
}

func generalNames(dns string, ip net.IP, uri, mail, dir string) []byte {
	var b cryptobyte.Builder
	add := func(b *cryptobyte.Builder, tag cbasn1.Tag, v []byte) {
		b.AddASN1(tag.ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(v) })
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		add(b, 2, []byte(dns))
		add(b, 7, ip.To4())
		add(b, 6, []byte(uri))
		add(b, 1, []byte(mail))
		add(b, cbasn1.Tag(4).Constructed(), mustName(dir))
		add(b, 8, []byte{42, 3}) // a registered id, for which there is no variable
	})
	return b.BytesOrPanic()
}

func TestPolicyVariablesAreThoseOfAWSsExample(t *testing.T) {
	t.Parallel()
	cert := awsExample(t)
	f, err := ParseFacts(cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"iot:certificateid":            fleet.CertificateID(cert.Raw),
		"iot:certificate.serialnumber": "10525622389124227206",
	}
	for attribute, values := range map[string][2]string{ // subject, issuer
		"Country": {"US", "US"}, "Organization": {"IoT Devices", "IoT Devices"}, "OrganizationalUnit": {"LightBulb", "SmartHome"},
		"State": {"NY", "WA"}, "CommonName": {"LightBulb Device Cert", "IoT Devices Primary CA"}, "GivenName": {"Bulb", "Primary CA1"},
		"Initials": {"ZZ", "XY"}, "DistinguishedNameQualifier": {"Bulb001", "Example corp"}, "Surname": {"Multi Color", "SmartHome"},
		"Title": {"RGB", "CA1"}, "Pseudonym": {"RGB Device", "Primary_CA"}, "GenerationQualifier": {"4", "2"}, "SerialNumber": {"123", "987"},
		"AlternativeName.DNSName": {"example.com", "issuer.com"}, "AlternativeName.IPAddress": {"1.2.3.4", "5.6.7.8"},
		"AlternativeName.UniformResourceIdentifier": {"ResourceIdentifier001", "PrimarySignerCA"},
		"AlternativeName.RFC822Name":                {"device1@example.com", "primary@issuer.com"},
		"AlternativeName.DirectoryName":             {`cn=LightBulbCert,ou=SmartHome,o=IoT,c=US`, `cn=Primary Issuer CA,ou=IoT Devices,o=Issuer,c=US`},
	} {
		for i, of := range []string{"subject", "issuer"} {
			want["iot:certificate."+of+"."+strings.ToLower(attribute)] = values[i]
		}
	}
	available := f.Context()["iot:certificate.availablekeys"]
	if len(available) != len(want)-1 || !slices.Contains(available, "iot:Certificate.Subject.AlternativeName.DNSName") {
		t.Errorf("available keys are %q", available)
	}
	for key, values := range f.Context() {
		base := strings.TrimSuffix(key, ".list")
		if key != "iot:certificate.availablekeys" && (len(values) != 1 || values[0] != want[base]) {
			t.Errorf("%s = %q; want %q", key, values, want[base])
		}
	}
	for key := range want {
		if f.Context()[key] == nil {
			t.Errorf("%s is missing", key)
		}
	}
}

func TestSeveralValuesKeepTheirOrderAndFiveCount(t *testing.T) {
	t.Parallel()
	f, err := NewFacts(customerCert(t, mustName("OU=a, CN=x, OU=b, OU=c, OU=d, OU=e, OU=f"), defaultSubject, nil))
	if err != nil {
		t.Fatal(err)
	}
	const key = "iot:certificate.subject.organizationalunit"
	for suffix, want := range map[string][]string{"": {"a"}, ".1": {"b"}, ".4": {"e"}, ".5": nil, ".0": nil, ".list": {"a", "b", "c", "d", "e"}} {
		if got := f.Context()[key+suffix]; !slices.Equal(got, want) {
			t.Errorf("%s = %q; want %q", key+suffix, got, want)
		}
	}
	if got := f.Subject["OrganizationalUnit"]; len(got) != 6 {
		t.Errorf("the facts hold %q", got)
	}
}

func TestValuesThatCouldActAsWildcardsAreNotSubstituted(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 1025)
	for value, want := range map[string]string{
		"plain": "plain", "a*": "", "a?": "", "a$": "", "a+b": "", "#": "", "${iot:ClientId}": "",
		`q",=<>;\`: `q",=<>;\`, "a/b c": "a/b c", long: "", long[2:]: long[2:],
		"Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US": "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US",
	} {
		name := pkix.Name{CommonName: value, ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: []int{2, 5, 4, 10}, Value: "first"}, {Type: []int{2, 5, 4, 10}, Value: value}}}
		der, err := asn1.Marshal(name.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		f, err := NewFacts(customerCert(t, der, defaultSubject, nil))
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{"iot:certificate.subject.commonname": want, "iot:certificate.subject.organization.1": want, "iot:certificate.subject.organization": "first"} {
			if got := strings.Join(f.Context()[key], "|"); got != want {
				t.Errorf("%.40q: %s = %.60q; want %.60q", value, key, got, want)
			}
		}
		// Conditions see the value: an empty list would satisfy ForAllValues.
		if got := f.Context()["iot:certificate.subject.commonname.list"]; len(got) != 1 {
			t.Errorf("%.40q: the list is %q", value, got)
		}
		if got := f.Parameters()["AWS::IoT::Certificate::CommonName"]; got != value {
			t.Errorf("the template's parameter is %q", got)
		}
	}
}

func TestADirectoryNameCannotPoseAsAnother(t *testing.T) {
	t.Parallel()
	honest, sly := directoryName(mustName("OU=Admin, CN=x")), directoryName(mustName(`CN=x\,ou=Admin`))
	if honest != "cn=x,ou=Admin" || sly != `cn=x\,ou\=Admin` {
		t.Errorf("%q, %q", honest, sly)
	}
}

func TestTemplateParametersOfACertificate(t *testing.T) {
	t.Parallel()
	cert := awsExample(t)
	f, err := NewFacts(cert)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"Id": f.ID, "Country": "US", "Organization": "IoT Devices", "OrganizationalUnit": "LightBulb",
		"DistinguishedNameQualifier": "Bulb001", "StateName": "NY", "CommonName": "LightBulb Device Cert", "SerialNumber": "123"}
	for name, v := range want {
		delete(want, name)
		want[PseudoPrefix+name] = v
	}
	if got := f.Parameters(); !maps.Equal(got, want) {
		t.Errorf("parameters are %v; want %v", got, want)
	}
	bare, err := NewFacts(customerCert(t, mustName("CN=x, CN=y"), defaultSubject, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := bare.Parameters(); len(got) != 2 || got[PseudoPrefix+"CommonName"] != "x" {
		t.Errorf("parameters are %v", got)
	}
}

func TestWhatIsNoCertificateHasNoFacts(t *testing.T) {
	t.Parallel()
	bad := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 18}, Value: []byte{0x30, 5, 1}}}
	}
	for want, der := range map[string][]byte{
		"cannot be parsed": []byte("junk"),
		"longer than":      make([]byte, MaxCertificate+1),
		"is no list":       customerCert(t, defaultSubject, defaultSubject, bad).Raw,
	} {
		_, err := ParseFacts(der)
		wantInvalid(t, err, "CertificateValidationException", want)
	}
}

func FuzzParseFacts(f *testing.F) {
	f.Add(awsExample(f).Raw)
	f.Add(customerCert(f, mustName("CN=a, CN=b*, O=c"), defaultSubject, func(c *x509.Certificate) {
		c.URIs = []*url.URL{{Scheme: "urn", Opaque: "x"}}
		c.IPAddresses = []net.IP{net.IPv6loopback}
	}).Raw)
	f.Add(customerCert(f, mustName("CN=a#b, O=$c, OU=d?, C=DE"), defaultSubject, nil).Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		facts, err := ParseFacts(der)
		if err != nil {
			if fleet.KindOf(err) != fleet.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		for key, values := range facts.Context() {
			if key != strings.ToLower(key) {
				t.Fatalf("key %q", key)
			}
			for _, v := range values {
				if !strings.HasSuffix(key, ".list") && strings.ContainsAny(strings.ReplaceAll(v, `\+`, ""), "*$?#") {
					t.Fatalf("%s = %q", key, v)
				}
			}
			if len(values) > maxVariableValues && key != "iot:certificate.availablekeys" {
				t.Fatalf("%s has %d values", key, len(values))
			}
		}
		_ = fmt.Sprint(facts.Parameters())
	})
}
