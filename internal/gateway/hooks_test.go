package gateway

import (
	"testing"

	"github.com/imprint-iot/imprint/internal/mqtt"
)

func TestWhoeverCountsHearsOfHandshakesRequestsAndEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.refusal(s.mqtt, s.config(s.stranger(s.now.AddDate(0, 0, -1), s.now.AddDate(1, 0, 0))))
	if cause := heard(t, s.handshakes); cause != causeUnregistered {
		t.Errorf("a stranger's handshake: %q", cause)
	}
	c := s.open(s.claim("lamps"), 5).Connected("new")
	if cause := heard(t, s.handshakes); cause != "" {
		t.Errorf("a claim's handshake: %q", cause)
	}
	exchange(c, "$aws/certificates/create-from-csr/json", body(t, "json", map[string]any{"certificateSigningRequest": csr(t, newKey(t))}))
	if got := heard(t, s.requests); got != "create " {
		t.Errorf("an accepted request: %q", got)
	}
	exchange(c, "$aws/certificates/create-from-csr/json", "no JSON")
	if got := heard(t, s.requests); got != "create InvalidParameters" {
		t.Errorf("a payload that is no JSON: %q", got)
	}
	exchange(c, "$aws/provisioning-templates/lamps/provision/json", body(t, "json", map[string]any{"certificateOwnershipToken": "forged", "parameters": map[string]string{"SerialNumber": "1"}}))
	if got := heard(t, s.requests); got != "register InvalidCertificateOwnershipToken" {
		t.Errorf("a forged token: %q", got)
	}
	c.Disconnect()
	if end := heard(t, s.ends); end != mqtt.ClientInitiated {
		t.Errorf("a client that disconnects: %v", end)
	}
	s.open(s.claim("lamps"), 4).Connected("new").Raw(0xf7, 0)
	if end := heard(t, s.ends); end != mqtt.ClientError {
		t.Errorf("a client that breaks the protocol: %v", end)
	}
}
