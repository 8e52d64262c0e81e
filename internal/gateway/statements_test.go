package gateway

import (
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// A tally is the statements that a store was asked, each in one line.
type tally struct {
	mu    sync.Mutex
	asked []string
}

func (n *tally) hear(query string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, strings.Join(strings.Fields(query), " "))
}

// since returns what was asked since the last call.
func (n *tally) since() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.asked
	n.asked = nil
	return out
}

const manyLamps = `{"Parameters": {"Serial": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["lamp", {"Ref": "Serial"}]]}, "AttributePayload": {"serial": {"Ref": "Serial"}}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}}},
	"DeviceConfiguration": {"reportEverySeconds": "60"}}`

// What a flow costs follows the statements that it takes, which can be counted where time can't.
func TestAFlowTakesFewStatements(t *testing.T) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		countStatements(t, "", map[string]int{"claim": 3, "certificate": 6, "registration": 10, "reconnect": 3})
	})
	t.Run("postgres", func(t *testing.T) { // BEGIN and COMMIT don't count here
		t.Parallel()
		countStatements(t, storetest.Postgres(t), map[string]int{"claim": 8, "certificate": 9, "registration": 19, "reconnect": 6})
	})
}

// countStatements runs a flow and checks that none of its steps takes more statements than it may.
func countStatements(t *testing.T, url string, most map[string]int) {
	n := &tally{}
	s := newSiteOn(t, func(c *store.Config) { c.Rehearse, c.OnStatement, c.URL = false, n.hear, url })
	s.policy("lamp", allow("iot:*"))
	_, err := s.prov.CreateTemplate(t.Context(), s.ann, provision.NewTemplate{Name: "many", Body: manyLamps, RoleARN: here.IAM("role/provisioner"), Enabled: new(true)})
	check(t, err)
	claim := s.claim("many")
	for _, serial := range []string{"1", "2"} { // the first fills memories
		n.since()
		step := func(name string) {
			if asked := n.since(); serial == "2" && len(asked) > most[name] {
				t.Errorf("%s: %d statements, %d are enough:\n%s", name, len(asked), most[name], strings.Join(asked, "\n"))
			}
		}
		c := s.open(claim, 4).Connected("new")
		<-s.traces
		step("claim")
		key := newKey(t)
		created := answer(t, exchange(c, createCSRJSON, body(t, "json", map[string]any{"certificateSigningRequest": csr(t, key)})), createCSRJSON+"/accepted")
		step("certificate")
		const topic = "$aws/provisioning-templates/many/provision/json"
		answer(t, exchange(c, topic, body(t, "json", map[string]any{"certificateOwnershipToken": created["certificateOwnershipToken"],
			"parameters": map[string]string{"Serial": serial}})), topic+"/accepted")
		step("registration")
		c.Disconnect()
		s.open(holder(created["certificatePem"].(string), key), 4).Connected("lamp-" + serial).Subscribe("a/b")
		<-s.traces
		step("reconnect")
	}
}
