package provision

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/wire"
)

func TestAClaimPolicyAllowsWhatWasAskedForAndNothingElse(t *testing.T) {
	t.Parallel()
	s := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	everything := []reserved.Operation{reserved.Create, reserved.CreateFromCSR}
	for name, u := range map[string]ClaimUse{
		"everything":                     {Templates: []string{"lamps"}},
		"one format":                     {Templates: []string{"lamps"}, Formats: []wire.Format{wire.CBOR}},
		"one request":                    {Templates: []string{"lamps"}, Requests: []reserved.Operation{reserved.CreateFromCSR}},
		"one of each":                    {Templates: []string{"lamps"}, Formats: []wire.Format{wire.JSON}, Requests: []reserved.Operation{reserved.Create}},
		"two templates":                  {Templates: []string{"lamps", "pumps"}},
		"clients whose ids begin so":     {Templates: []string{"lamps"}, ClientIDs: "provision-"},
		"a template with the longest id": {Templates: []string{strings.Repeat("x", 36)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := ClaimPolicy(s, u)
			check(t, err)
			doc, err := policy.Parse(text, policy.IoT)
			check(t, err)
			may := func(action, kind, name string) bool {
				return policy.Evaluate([]policy.Named{{Name: "claim", Doc: doc}}, policy.Request{Action: action, Resource: s.IoT(kind, name)}).Allowed()
			}
			if u.Formats == nil {
				u.Formats = reserved.Formats
			}
			if u.Requests == nil {
				u.Requests = everything
			}
			wanted := map[string]bool{}
			for _, topic := range u.topics() {
				wanted[topic] = true
			}
			for _, template := range append([]string{"lamp", "lamps2", "pump", "pumps2"}, u.Templates...) {
				for _, o := range append(everything, reserved.Register) {
					for _, f := range append([]wire.Format{"yaml"}, reserved.Formats...) {
						topic := o.Topic(template, f)
						if may("iot:Publish", "topic", topic) != wanted[topic] {
							t.Errorf("publish to %s", topic)
						}
						for _, answer := range []string{reserved.Accepted, reserved.Rejected} {
							if may("iot:Receive", "topic", topic+answer) != wanted[topic] && f != "yaml" && !shortened(text) ||
								may("iot:Subscribe", "topicfilter", topic+answer) != wanted[topic] && f != "yaml" && !shortened(text) || wanted[topic] && !may("iot:Receive", "topic", topic+answer) {
								t.Errorf("receive from %s", topic+answer)
							}
							if may("iot:Publish", "topic", topic+answer) {
								t.Errorf("may publish the answer %s", topic+answer)
							}
						}
					}
				}
			}
			for _, filter := range []string{"#", "+/#", "$aws/#", "$aws/certificates/#", "$aws/certificates/create/#", "$aws/certificates/create/json/+", "$aws/certificates/create/+/accepted",
				"$aws/certificates/create/+/+", "$aws/provisioning-templates/+/provision/json/accepted", "$aws/provisioning-templates/lamps/provision/#", "lamps/1/state", "$aws/things/x/shadow/get"} {
				if may("iot:Subscribe", "topicfilter", filter) || may("iot:Publish", "topic", filter) || may("iot:Receive", "topic", filter) {
					t.Errorf("may use %s", filter)
				}
			}
			for _, action := range []string{"iot:RetainPublish", "iot:GetThingShadow", "iot:CreateThing"} {
				if may(action, "topic", u.topics()[0]) {
					t.Errorf("may %s", action)
				}
			}
			if !may("iot:Connect", "client", "provision-1") || may("iot:Connect", "client", "lamp") == (u.ClientIDs != "") {
				t.Error("client ids are wrong")
			}
		})
	}
}

// shortened reports whether a policy names answers by patterns.
func shortened(text string) bool { return strings.Contains(text, "????") }

func TestAClaimPolicyThatWouldBeTooLongIsRefused(t *testing.T) {
	t.Parallel()
	s := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("template-number-%d", i))
	}
	for want, u := range map[string]ClaimUse{
		"each template": {Templates: many}, "at least one": {}, "36 letters": {Templates: []string{"a b"}},
		"neither json": {Templates: []string{"a"}, Formats: []wire.Format{"xml"}}, "literally": {Templates: []string{"a"}, ClientIDs: "*"},
	} {
		if _, err := ClaimPolicy(s, u); fleet.KindOf(err) != fleet.KindInvalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestAnInstallersPolicyIsForItsTemplatesAlone(t *testing.T) {
	t.Parallel()
	s := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	text, err := InstallerPolicy(s, []string{"lamps"})
	check(t, err)
	doc, err := policy.Parse(text, policy.Identity)
	check(t, err)
	for _, c := range []struct {
		action, template string
		want             bool
	}{{"iot:CreateProvisioningClaim", "lamps", true}, {"iot:CreateProvisioningClaim", "pumps", false}, {"iot:DescribeProvisioningTemplate", "lamps", false}} {
		r := policy.Request{Action: c.action, Resource: templateARN(s, c.template)}
		if got := policy.Evaluate([]policy.Named{{Name: "p", Doc: doc}}, r).Allowed(); got != c.want {
			t.Errorf("%s on %s: %v", c.action, c.template, got)
		}
	}
}
