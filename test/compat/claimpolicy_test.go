package compat

import (
	"strings"
	"testing"
)

func TestEveryVariantProvisionsWithThePrintedClaimPolicy(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "least")
	f := &field{site: s, world: w, dir: t.TempDir()}
	for i, v := range variants() {
		keys := map[bool]string{true: "device", false: "service"}[v.csr]
		for j, flags := range [][]string{{"--format", v.format, "--keys", keys, "--client-id", "fresh-"}, {}} { // the least, and that for everything
			id := f.registered(t)
			f.policy(t, w.iotARN("cert/"+id.id), must[object](t, s.run(t, f.dir, nil, imprint(), append([]string{"claim", "policy", w.template}, flags...)...)))
			serial := string(rune('a'+i)) + string(rune('0'+j))
			d := v.dial(t, s, "fresh-"+w.prefix+serial, id.cert, id.key)
			if out, no, ok := v.register(t, d, w.template, v.create(t, d).Token, object{"SerialNumber": serial}); !ok || out.name() != w.thing(serial) {
				t.Errorf("%v %v: %+v %+v", v, flags, out, no)
			}
			d.close()
			if v.mqtt5 { // and nothing else
				d, err := f.dial(t, id, "fresh-"+w.prefix+serial)
				check(t, err)
				for _, topic := range []string{"lamps/x/state", registerTopic("another", v.format), "$aws/things/x/shadow/update"} {
					if d.tryPublish(t, topic, []byte("{}")) == nil || d.trySubscribe(t, topic) == nil {
						t.Errorf("%v %v: may use %s", v, flags, topic)
					}
				}
				d.close()
			}
		}
	}
	out := s.run(t, f.dir, nil, imprint(), "claim", "policy", "--for", "installer", w.template)
	if !strings.Contains(out, `"iot:CreateProvisioningClaim"`) || !strings.Contains(out, w.iotARN("provisioningtemplate/"+w.template)) {
		t.Errorf("for an installer: %s", out)
	}
}
