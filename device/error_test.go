package device

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
)

// Whatever is wrong with the certificate of a server, it is a matter of trust and not of the network.
func TestAServerWhoseCertificateIsRefusedIsNotTrusted(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		cause     error
		code      string
		temporary bool
	}{
		"of an unknown CA":     {x509.UnknownAuthorityError{}, CodeUntrustedServer, false},
		"no roots":             {x509.SystemRootsError{}, CodeUntrustedServer, false},
		"of another name":      {x509.HostnameError{Certificate: new(x509.Certificate), Host: "a"}, CodeWrongServerName, false},
		"over, or not yet":     {x509.CertificateInvalidError{Cert: new(x509.Certificate), Reason: x509.Expired}, CodeClock, true},
		"for clients":          {x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}, CodeUntrustedServer, true},
		"signed by no CA":      {x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, CodeUntrustedServer, true},
		"an unknown extension": {x509.UnhandledCriticalExtension{}, CodeUntrustedServer, true},
	} {
		err := fmt.Errorf("TLS: %w", &tls.CertificateVerificationError{Err: row.cause})
		if e := connectError(t.Context(), "iot.example:8883", err, claimRefused); e.Kind != KindConnect || e.Code != row.code || e.Temporary() != row.temporary {
			t.Errorf("%s: %s %s, temporary %v", name, e.Code, e.Cure, e.Temporary())
		}
	}
}
