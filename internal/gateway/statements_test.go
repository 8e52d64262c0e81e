package gateway

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// A tally is the statements that a store was asked, each in one line.
type tally struct {
	mu    sync.Mutex
	asked []string
	more  chan struct{} // has room for one: a statement came
}

func (n *tally) hear(query string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, strings.Join(strings.Fields(query), " "))
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// noted waits until the service has noted, beside the flow, that a certificate has connected. It does so once a second, so that else it
// would be time that decides which step that counts for.
func (n *tally) noted(t *testing.T) {
	t.Helper()
	for late := time.After(mqtttest.Patience()); ; {
		n.mu.Lock()
		noted, open := false, 0
		for _, query := range n.asked {
			switch {
			case strings.HasPrefix(query, "UPDATE successions"): // its last statement
				noted = true
			case query == "BEGIN IMMEDIATE":
				open++
			case query == "COMMIT":
				open--
			}
		}
		n.mu.Unlock()
		if noted && open == 0 {
			return
		}
		select {
		case <-n.more:
		case <-late:
			t.Fatal("nobody notes that the certificate has connected")
		}
	}
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
		countStatements(t, "", map[string]int{"claim": 3, "certificate": 6, "registration": 10, "reconnect": 7})
	})
	t.Run("postgres", func(t *testing.T) { // BEGIN and COMMIT don't count here
		t.Parallel()
		countStatements(t, storetest.Postgres(t), map[string]int{"claim": 8, "certificate": 9, "registration": 19, "reconnect": 9})
	})
}

// countStatements runs a flow and checks that none of its steps takes more statements than it may.
func countStatements(t *testing.T, url string, most map[string]int) {
	n := &tally{more: make(chan struct{}, 1)}
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
		n.noted(t)
		step("reconnect")
	}
}
