package pki

import (
	"crypto/x509/pkix"
	"encoding/hex"
	"strings"
	"testing"
)

func TestANameIsWrittenAsItsCertificateHasIt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"C=US, O=Example":         "301f310b3009060355040613025553" + "3110300e060355040a0c074578616d706c65",
		`O=A\, B`:                 "300f310d300b060355040a0c04412c2042",
		"cn = 7":                  "300c310a300806035504030c0137",
		"serialNumber=1.0":        "300e310c300a06035504051303312e30",
		"OU=Web O=Amazon.com":     "301b31193017060355040b0c10576562204f3d416d617a6f6e2e636f6d",
		"CN=Ünïcode, pseudonym=x": "",
	} {
		der, err := ParseName(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := hex.EncodeToString(der); want != "" && got != want {
			t.Errorf("%q is\n%s; want\n%s", text, got, want)
		}
		if _, err := readName(der); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestABadNameIsRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               "not of the form",
		"Example":                        "not of the form",
		"O=":                             "not of the form",
		"O=Example,":                     "not of the form",
		"emailAddress=a@example.com":     `attribute "emailAddress" is not known`,
		"C=Ö":                            "takes letters, digits",
		"O=\xff":                         "not UTF-8",
		"O=" + strings.Repeat("x", 1200): "longer than 1024 bytes",
	} {
		if der, err := ParseName(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseName(%.40q) = %x, %v; want %q", text, der, err, want)
		}
	}
}

func TestAWSNamesAreDecodedAsInItsCertificates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		DefaultDeviceIssuer: {"2.5.4.11=Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"},
		DefaultClaimIssuer: {"2.5.4.6=US", "2.5.4.8=Washington", "2.5.4.7=Seattle", "2.5.4.10=Amazon.com Inc.",
			"2.5.4.11=Amazon IoT Provisioning", "2.5.4.5=1.0"},
	} {
		seq, err := readName(mustName(text))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rdn := range seq {
			for _, v := range []pkix.AttributeTypeAndValue(rdn) {
				got = append(got, v.Type.String()+"="+v.Value.(string))
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%q is %q", text, got)
		}
	}
}
