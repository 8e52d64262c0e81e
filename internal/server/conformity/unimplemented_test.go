package conformity

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

func TestWhatIsNotImplementedSaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// By protocol, as SDKs take it for a fault of the request and do not try again (iot-core spec 1.9, identity spec 0.6).
	codes := map[wire.Protocol]string{wire.RESTJSON: "InvalidRequestException", wire.JSON11: "InvalidParameterException", wire.Query: "InvalidAction"}
	tried := 0
	for name, svc := range s.services {
		for _, op := range svc.Operations {
			if _, implemented := s.inputs[name][op.Name]; implemented {
				continue
			}
			tried++
			who := s.administrator()
			if op.Unsigned {
				who = sigv4.Credentials{}
			}
			got := s.call(who, name, op.Name, object{})
			if want := "Operation " + op.Name + " is not implemented"; got.status != 400 || got.code != codes[svc.Protocol] || !strings.Contains(got.body, want) {
				t.Errorf("%s %s: got %v, want 400 %s %q", name, op.Name, got, codes[svc.Protocol], want)
			}
			if op.Unsigned {
				continue
			}
			if got := s.call(sigv4.Credentials{}, name, op.Name, object{}); !strings.Contains(got.code, "MissingAuthenticationToken") {
				t.Errorf("%s %s, unsigned: got %v, want MissingAuthenticationToken", name, op.Name, got)
			}
		}
	}
	if tried < 250 {
		t.Errorf("only %d operations were tried", tried)
	}
}
