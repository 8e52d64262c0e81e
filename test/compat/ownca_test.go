package compat

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestThePageOfOwnCAsWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := functionServer(t)
	script := "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n" + codeBlocks(document(t, "own-ca.md"))
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", script) // beside the page's ./imprint-data
	for _, want := range []string{`"autoRegistrationStatus": "ENABLE"`, "registration.json (templateBody): nothing found", "The device would be registered as thing lamp-1", "registers the certificate\n",
		"the first connection is gone", `"thingName": "lamp-1"`, `"serial": "4711"`, `"PENDING_ACTIVATION"`,
		"Cannot resolve reference value: AWS::IoT::Certificate::SerialNumber", "lamp-3 waits", "lamp-3 is in", "serial number 666 is not on the list",
		"4 certificates revoked, 1 things removed", "lamp-1 is out"} {
		if !strings.Contains(out, want) {
			t.Errorf("the page's commands never printed %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
