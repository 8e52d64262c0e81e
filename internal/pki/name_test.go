package pki

import (
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
			for _, v := range rdn {
				got = append(got, v.oid.String()+"="+v.text)
			}
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%q is %q", text, got)
		}
	}
}

func TestOnlyReadableNamesAreRead(t *testing.T) {
	t.Parallel()
	// A name with one attribute CN of the type and content given in hex.
	cn := func(value string) string {
		v, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		n := byte(len(v))
		return hex.EncodeToString([]byte{0x30, n + 9, 0x31, n + 7, 0x30, n + 5, 6, 3, 0x55, 4, 3}) + value
	}
	for name, tc := range map[string]struct{ der, want string }{
		"UTF8String":           {cn("0c02c3bc"), "ü"},
		"PrintableString":      {cn("1302612a"), "a*"},
		"IA5String":            {cn("160361406" + "2"), "a@b"},
		"NumericString":        {cn("12023120"), "1 "},
		"T61String":            {cn("1402fc5f"), "ü_"},
		"BMPString":            {cn("1e0400fc0061"), "üa"},
		"an empty value":       {cn("0c00"), ""},
		"broken UTF-8":         {cn("0c01ff"), "!unreadable value for the attribute 2.5.4.3"},
		"no printable":         {cn("130140"), "!unreadable"},
		"no ASCII":             {cn("1601fc"), "!unreadable"},
		"no number":            {cn("120161"), "!unreadable"},
		"half a character":     {cn("1e0100"), "!unreadable"},
		"a surrogate":          {cn("1e02d800"), "!unreadable"},
		"a NUL":                {cn("0c03610062"), "!unreadable"},
		"a line feed":          {cn("0c010a"), "!unreadable"},
		"a sequence":           {cn("3000"), "!unreadable"},
		"an integer":           {cn("020100"), "!unreadable"},
		"an empty RDN":         {"30023100", "!is no list"},
		"bytes behind":         {"300000", "!is no list"},
		"bytes behind a value": {"300f310d300b06035504030c01610c0162", "!is no list"},
		"something else":       {"0500", "!is no list"},
		"nothing":              {"", "!is no list"},
		"more than a kilobyte": {strings.Repeat("30", 1025), "!longer than 1024"},
	} {
		der, err := hex.DecodeString(tc.der)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readName(der)
		if want, bad := strings.CutPrefix(tc.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v; want %q", name, got, err, want)
			}
		} else if err != nil || got[0][0].text != tc.want {
			t.Errorf("%s: %v, %v; want %q", name, got, err, tc.want)
		}
	}
}
