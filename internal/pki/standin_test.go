package pki

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestAStandInAnswersForNamesOfAWSAlone(t *testing.T) {
	t.Parallel()
	now := testNow
	s, err := NewStandIn(fleet.Clock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.RootPEM())) {
		t.Fatal("the root cannot be read")
	}
	verify := func(c *tls.Certificate, name string) error {
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
		return err
	}
	first, err := s.Certificate(awsHost)
	if err != nil || verify(first, awsHost) != nil {
		t.Errorf("%v, %v", err, verify(first, awsHost))
	}
	if verify(first, "iot.us-east-1.amazonaws.com") == nil {
		t.Error("a certificate is good for another name")
	}
	if again, err := s.Certificate(awsHost); err != nil || again != first {
		t.Errorf("it was made anew (%v)", err)
	}
	now = now.Add(serverLife - time.Hour)
	if renewed, err := s.Certificate(awsHost); err != nil || renewed == first || verify(renewed, awsHost) != nil {
		t.Errorf("an old certificate was not renewed (%v)", err)
	}
	for _, name := range []string{"example.com", "amazonaws.com", "xamazonaws.com", "a b.amazonaws.com", ""} {
		if _, err := s.Certificate(name); err == nil {
			t.Errorf("a certificate for %q", name)
		}
	}
	// Nor could it be made to: its root vouches for nothing else.
	der, err := serverProfile.issue(request{key: s.key.Public(), subject: mustName("CN=x"), dnsNames: []string{"iot.example.com"}, notBefore: now, notAfter: now.Add(time.Hour)}, s.root.issuer())
	if err != nil {
		t.Fatal(err)
	}
	other, err := tlsCertificate(der, s.root, s.key)
	if err != nil {
		t.Fatal(err)
	}
	if verify(other, "iot.example.com") == nil {
		t.Error("the root vouches for another's name")
	}
}
