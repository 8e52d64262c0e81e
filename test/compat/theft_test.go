package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A theft is what the drill needs: a factory whose devices share a claim, without a hook, and whose template lets a device choose as
// much as a template can.
type theft struct {
	*world
	claim  claim  // shared, then stolen
	claims string // prefix of the policies of claims
	other  string // a template that the claim is not for
}

func newTheft(t *testing.T) *theft {
	t.Helper()
	w := newWorld(t, ownServer(t), "theft")
	th := &theft{world: w, other: w.template, claims: w.prefix + "-claims"}
	w.template = w.prefix + "-drill"
	ctx := t.Context()
	for _, group := range []string{"shipped", "stock"} {
		_, err := w.admin.iot.CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: &group})
		check(t, err)
	}
	_, err := w.admin.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String("everything"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})})
	check(t, err)
	topic := object{"Fn::Sub": w.iotARN("topic/lamps/${SerialNumber}/own")}
	_, err = w.admin.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: &w.template, Enabled: aws.Bool(true),
		ProvisioningRoleArn: aws.String(w.roleARN(w.provisioningRole)), TemplateBody: text(object{
			"Parameters": object{"SerialNumber": object{"Type": "String"}, "Owner": object{"Type": "String", "Default": "nobody"},
				"Group": object{"Type": "String", "Default": "shipped"}, "Policy": object{"Type": "String", "Default": w.policy}},
			"Mappings": object{"Imprint": object{"Settings": object{"AllowedPolicyNames": w.policy, "AllowedThingGroups": "shipped"}}},
			"Resources": object{
				"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "SerialNumber"},
					"AttributePayload": object{"owner": object{"Ref": "Owner"}}, "ThingGroups": []object{{"Ref": "Group"}}},
					"OverrideSettings": object{"AttributePayload": "REPLACE", "ThingTypeName": "REPLACE", "ThingGroups": "REPLACE"}},
				"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
					"OverrideSettings": object{"Status": "REPLACE"}},
				"named": object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": object{"Ref": "Policy"}}},
				"own": object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyDocument": object{"Version": "2012-10-17",
					"Statement": object{"Effect": "Allow", "Action": "iot:Publish", "Resource": topic}}}},
			}})})
	check(t, err)
	th.claim = th.bootstrap(t, "factory-")
	return th
}

// bootstrap makes a certificate for devices to share, with the policy that `imprint claim policy` prints.
func (th *theft) bootstrap(t *testing.T, clients string) claim {
	t.Helper()
	ctx := t.Context()
	made, err := th.admin.iot.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	name := th.claims + "-" + clients
	document := th.site.run(t, t.TempDir(), nil, imprint(), "claim", "policy", th.template, "--client-id", clients)
	_, err = th.admin.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
	check(t, err)
	_, err = th.admin.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: made.CertificateArn})
	check(t, err)
	return claim{*made.CertificateId, *made.CertificatePem, *made.KeyPair.PrivateKey}
}

var drill = variant{format: "json", csr: true, mqtt5: true}

// join provisions a device with a shared claim.
func (th *theft) join(t *testing.T, c claim, v variant, clients string, parameters object) (created, rejected, bool) {
	t.Helper()
	d := v.dial(t, th.site, clients+fmt.Sprint(parameters["SerialNumber"]), c.cert, c.key)
	defer d.close()
	cert := v.create(t, d)
	_, no, ok := v.register(t, d, th.template, cert.Token, parameters)
	return cert, no, ok
}

// everything is the registry as the administrator sees it, line by line.
func (th *theft) everything(t *testing.T) map[string]string {
	t.Helper()
	c, err := th.site.adminClient()
	check(t, err)
	get := func(method, path string) string {
		t.Helper()
		var raw json.RawMessage
		if err := c.REST(t.Context(), "iot", method, path, nil, &raw); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(raw)
	}
	out := map[string]string{}
	for _, thing := range must[struct{ Things []struct{ ThingName string } }](t, get(http.MethodGet, "/things?maxResults=250")).Things {
		n := thing.ThingName
		// The version counts changes: who gives back what was taken away raises it.
		described := must[object](t, get(http.MethodGet, "/things/"+n))
		delete(described, "version")
		out["thing "+n] = fmt.Sprint(described, get(http.MethodGet, "/things/"+n+"/principals"), get(http.MethodGet, "/things/"+n+"/thing-groups"))
	}
	for _, p := range must[struct{ Policies []struct{ PolicyName string } }](t, get(http.MethodGet, "/policies?pageSize=250")).Policies {
		out["policy "+p.PolicyName] = get(http.MethodGet, "/policies/"+p.PolicyName)
	}
	for _, cert := range must[struct {
		Certificates []struct{ CertificateID, CertificateArn, Status string }
	}](t, get(http.MethodGet, "/certificates?pageSize=250")).Certificates {
		out["certificate "+cert.CertificateID] = cert.Status + get(http.MethodPost, "/attached-policies/"+url.PathEscape(cert.CertificateArn))
	}
	return out
}

// unharmed checks that all that was there before is there as it was, but for the entries whose names begin with one of except.
func (th *theft) unharmed(t *testing.T, when string, before map[string]string, except ...string) {
	t.Helper()
	now := th.everything(t)
	for name, was := range before {
		if now[name] != was && !slices.ContainsFunc(except, func(e string) bool { return strings.HasPrefix(name, e) }) {
			t.Errorf("%s: %s was\n%s\nand is\n%s", when, name, was, now[name])
		}
	}
}

// live connects a device with its own certificate.
func (th *theft) live(t *testing.T, thing string, cert created) *mqtt5Device {
	t.Helper()
	d, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), thing)
	check(t, err)
	d.subscribe(t, "lamps/"+thing+"/state")
	return d
}

// TestTheftDrill: somebody has the claim that all devices of a factory share, and there is no hook.
func TestTheftDrill(t *testing.T) {
	t.Parallel()
	th := newTheft(t)
	ctx := t.Context()
	genuine := map[string]*mqtt5Device{}
	certs := map[string]created{}
	for _, name := range []string{"lamp-1", "lamp-2"} {
		cert, no, ok := th.join(t, th.claim, drill, "factory-", object{"SerialNumber": name, "Owner": "ann"})
		if !ok {
			t.Fatalf("%+v", no)
		}
		certs[name], genuine[name] = cert, th.live(t, name, cert)
	}
	// A thing that is prepared for a device which was not shipped yet, in a group of its own.
	_, err := th.admin.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("prepared-1"), AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"box": "7"}}})
	check(t, err)
	_, err = th.admin.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String("prepared-1"), ThingGroupName: aws.String("stock")})
	check(t, err)
	before := th.everything(t)
	stolen := time.Now().Add(time.Millisecond) // times are kept in milliseconds

	t.Run("what is there can't be changed", func(t *testing.T) { th.attempts(t, certs) })
	th.unharmed(t, "after all attempts", before)

	// Names of devices not yet shipped are the thief's for the asking.
	taken := map[string]*mqtt5Device{}
	var thieves []created
	for i, name := range []string{"new-0", "new-1", "new-2", "new-3", "prepared-1"} {
		v := variant{format: []string{"json", "cbor"}[i%2], csr: i%3 > 0, mqtt5: i%2 == 0}
		cert, no, ok := th.join(t, th.claim, v, "factory-", object{"SerialNumber": name, "Owner": "thief"})
		if !ok {
			t.Fatalf("%s: %+v", name, no)
		}
		thieves, taken[name] = append(thieves, cert), th.live(t, name, cert)
	}
	if _, _, ok := th.join(t, th.claim, drill, "factory-", object{"SerialNumber": "new-0"}); ok {
		t.Error("a genuine device got a name that was taken: then nothing is to be shown")
	}
	th.contains(t, stolen, taken)

	th.unharmed(t, "after containment", before, "certificate "+th.claim.id)
	now := th.everything(t)
	for name := range now {
		if _, was := before[name]; !was && !strings.HasPrefix(name, "certificate ") {
			t.Errorf("after containment there is %s", name)
		}
	}
	for _, c := range thieves {
		if s := now["certificate "+c.CertificateID]; !strings.HasPrefix(s, "REVOKED") {
			t.Errorf("a thief's certificate is %s", s)
		}
		if _, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, c.CertificatePEM, c.PrivateKey), "new-0"); err == nil {
			t.Error("a thief's certificate connects")
		}
	}
	th.explained(t, thieves[0].CertificateID, "came from a claim that was contained")
	if _, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, th.claim.cert, th.claim.key), "factory-x"); err == nil {
		t.Error("the claim connects")
	}

	// Devices of before the theft have noticed nothing, and the others provision with another claim.
	for name, d := range genuine {
		select {
		case code := <-d.lost:
			t.Errorf("%s was disconnected: %#x", name, code)
		default:
			d.publish(t, "lamps/"+name+"/state", []byte("on"))
			d.receive(t, "lamps/"+name+"/state")
		}
	}
	rolled := th.bootstrap(t, "second-")
	for _, name := range []string{"new-0", "new-1", "new-2", "new-3", "prepared-1"} {
		cert, no, ok := th.join(t, rolled, drill, "second-", object{"SerialNumber": name, "Owner": "ann"})
		if !ok {
			t.Fatalf("the genuine %s is refused: %+v", name, no)
		}
		th.live(t, name, cert).publish(t, "lamps/"+name+"/state", []byte("on"))
	}
}

// explained waits until `imprint explain` says something of a subject: traces of refusals are stored a moment later.
func (th *theft) explained(t *testing.T, subject, words string) {
	t.Helper()
	tick, late := time.NewTicker(50*time.Millisecond), time.After(answerTimeout)
	defer tick.Stop()
	for {
		out, err := th.site.try(t, t.TempDir(), nil, imprint(), "explain", subject)
		if err == nil && strings.Contains(out, words) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("explain says\n%s", out)
		}
	}
}

// contains rehearses and then contains, and waits until all of the thief's devices are gone.
func (th *theft) contains(t *testing.T, stolen time.Time, taken map[string]*mqtt5Device) {
	t.Helper()
	type counts struct{ Certificates, Things, Released int }
	verb := func(args ...string) string {
		t.Helper()
		return th.site.run(t, t.TempDir(), nil, imprint(), append([]string{"claim"}, args...)...)
	}
	report := must[struct {
		Status      string
		Descendants []struct {
			Status, ThingName  string
			LastConnectionDate float64
			Things             []struct {
				ThingName   string
				Made        bool
				ThingGroups []string
			}
			Policies []string
		}
		Refusals []struct{ Code string }
	}](t, verb("report", th.claim.id, "--since", stolen.Format(time.RFC3339Nano), "--json"))
	found := map[string]bool{}
	for _, d := range report.Descendants {
		for _, thing := range d.Things {
			found[thing.ThingName] = thing.Made && slices.Equal(thing.ThingGroups, []string{"shipped"}) && len(d.Policies) == 2 && d.Status == "ACTIVE"
		}
	}
	for name := range taken {
		if found[name] != (name != "prepared-1") {
			t.Errorf("the report tells of %s: %v", name, found)
		}
	}
	if _, old := found["lamp-1"]; old || report.Status != "ACTIVE" {
		t.Errorf("the claim is %s; certificates from before: %v", report.Status, old)
	}
	if !slices.ContainsFunc(report.Refusals, func(r struct{ Code string }) bool { return r.Code == "ResourceConflict" }) {
		t.Errorf("the report tells of the refusals %v", report.Refusals)
	}
	since := []string{"contain", th.claim.id, "--json", "--revoke-since", stolen.Format(time.RFC3339Nano)}
	would := must[counts](t, verb(append(since, "--dry-run")...))
	start := time.Now()
	did := must[counts](t, verb(since...))
	for name, d := range taken {
		select {
		case <-d.lost:
		case <-time.After(time.Until(start.Add(answerTimeout))): // five seconds on a machine that does nothing else (docs/containment.md)
			t.Errorf("%s is connected after %v", name, answerTimeout)
		}
	}
	t.Logf("%d devices contained and disconnected in %v, the command included", len(taken), time.Since(start))
	if would != did || did.Released != 1 || did.Things < len(taken)-1 {
		t.Errorf("the rehearsal told %+v, then it was %+v", would, did)
	}
	if again := must[counts](t, verb(since...)); again != did {
		t.Errorf("the second time: %+v, before %+v", again, did)
	}
	if out := verb("report", th.claim.id); !strings.Contains(out, "INACTIVE") || !strings.Contains(out, "contained") {
		t.Errorf("the report says\n%s", out)
	}
}

// attempts are what the thief tries against what is there. Some are accepted, and give the thief a thing of its own.
func (th *theft) attempts(t *testing.T, certs map[string]created) {
	first := certs["lamp-1"]
	for _, parameters := range []object{
		{"SerialNumber": "lamp-1"},
		{"SerialNumber": "lamp-1", "Owner": "thief"},
		{"SerialNumber": "lamp-1", "AWS::IoT::Certificate::Id": first.CertificateID},
		{"SerialNumber": "x1", "AWS::IoT::Certificate::Id": first.CertificateID},
		{"SerialNumber": "x2", "ThingName": "lamp-1", "AWS::IoT::Thing::ThingName": "lamp-1"},
		{"SerialNumber": "LAMP-1"}, {"SerialNumber": "lamp-1 "}, {"SerialNumber": "./lamp-1"}, {"SerialNumber": "lamp-1\x00"},
		{"SerialNumber": "*"}, {"SerialNumber": "lamp-?"}, {"SerialNumber": "${iot:ClientId}"}, {"SerialNumber": "${iot:Connection.Thing.ThingName}"},
		{"SerialNumber": "+"}, {"SerialNumber": "#"}, {"SerialNumber": "lamp-1/#"}, {"SerialNumber": ""},
		{"SerialNumber": `x","Action":"iot:*","Resource":"*`}, {"SerialNumber": "x:y"}, {"SerialNumber": strings.Repeat("x", 200)},
		{"SerialNumber": "x3", "Policy": "everything"}, {"SerialNumber": "x4", "Policy": "*"}, {"SerialNumber": "x5", "Policy": th.claims + "-factory-"},
		{"SerialNumber": "x6", "Group": "stock"}, {"SerialNumber": "x7", "Group": "shipped stock"}, {"SerialNumber": "x8", "Group": ""},
		{"SerialNumber": "x9", "Owner": `"},"x":"`}, {"SerialNumber": "x10", "Owner": "thief"}, {},
	} {
		for _, format := range []string{"json", "cbor"} {
			v := variant{format: format, csr: true, mqtt5: true}
			d := v.dial(t, th.site, "factory-thief", th.claim.cert, th.claim.key)
			p := maps.Clone(parameters)
			if s, named := p["SerialNumber"].(string); named && strings.HasPrefix(s, "x") && len(s) < 4 {
				p["SerialNumber"] = s + format
			}
			_, no, ok := v.register(t, d, th.template, v.create(t, d).Token, p)
			d.close()
			bad := fmt.Sprint(p["Policy"]) == "everything" || fmt.Sprint(p["Group"]) == "stock" || p["SerialNumber"] == "lamp-1" && p["AWS::IoT::Certificate::Id"] == nil
			if ok && bad {
				t.Errorf("%v was accepted", p)
			}
			if !ok && (no.ErrorCode == "" || no.TraceID == "" || no.StatusCode == 500) {
				t.Errorf("%v was refused as %+v", p, no)
			}
		}
	}
	th.topics(t)
	th.tokens(t, first)
	// A device of the thief's own is held to its own topics.
	cert, no, ok := th.join(t, th.claim, drill, "factory-", object{"SerialNumber": "own-1"})
	if !ok {
		t.Fatalf("%+v", no)
	}
	for _, topic := range []string{"lamps/lamp-1/state", "lamps/lamp-1/own", "lamps/+/state", "$aws/things/lamp-1/shadow/update", registerTopic(th.template, "json")} {
		d := th.live(t, "own-1", cert)
		if err := d.tryPublish(t, topic, []byte("{}")); err == nil {
			t.Errorf("a thief's device may publish to %s", topic)
		}
	}
	if _, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), "lamp-1"); err == nil {
		t.Error("a thief's device connects as lamp-1")
	}
}

// topics tries what the claim is not for.
func (th *theft) topics(t *testing.T) {
	dial := func(id string) (*mqtt5Device, error) {
		return dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, th.claim.cert, th.claim.key), id)
	}
	for _, topic := range []string{"lamps/lamp-1/state", "$aws/things/lamp-1/shadow/update", "$aws/things/lamp-1/jobs/get", "$aws/rules/any/x",
		registerTopic(th.other, "json"), "$aws/provisioning-templates/+/provision/json", "$aws/events/presence/connected/lamp-1"} {
		d, err := dial("factory-topics")
		check(t, err)
		if err := d.tryPublish(t, topic, []byte(`{"parameters":{}}`)); err == nil {
			t.Errorf("the claim may publish to %s", topic)
		}
	}
	for _, filter := range []string{"#", "lamps/#", "lamps/lamp-1/state", "$aws/events/#", "$aws/things/lamp-1/#", "$share/g/lamps/#",
		registerTopic(th.other, "json") + "/accepted"} {
		d, err := dial("factory-topics")
		check(t, err)
		if err := d.trySubscribe(t, filter); err == nil {
			t.Errorf("the claim may subscribe to %s", filter)
		}
	}
	if _, err := dial("lamp-1"); err == nil {
		t.Error("the claim may connect with the client id of a device in the field")
	}
}

// tokens tries what belongs to another request.
func (th *theft) tokens(t *testing.T, first created) {
	d := drill.dial(t, th.site, "factory-tokens", th.claim.cert, th.claim.key)
	defer d.close()
	for what, try := range map[string]struct {
		token      string
		parameters object
	}{
		"another serial":   {first.Token, object{"SerialNumber": "x11"}},
		"other parameters": {first.Token, object{"SerialNumber": "lamp-1", "Owner": "thief"}},
		"a changed token":  {first.Token[:len(first.Token)-8] + "AAAAAAA=", object{"SerialNumber": "x12"}},
		"no token":         {"", object{"SerialNumber": "x13"}},
	} {
		if _, no, ok := drill.register(t, d, th.template, try.token, try.parameters); ok || no.ErrorCode != "InvalidCertificateOwnershipToken" {
			t.Errorf("%s: %v %+v", what, ok, no)
		}
	}
}
