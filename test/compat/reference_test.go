package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// The real reference client cannot be part of this repository: docs/interoperability.md says how it was run.
func TestTheFlowOfAWSsReferenceClientOnItsRuntime(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "ref")
	f := &field{site: s, world: w, dir: t.TempDir()}
	// As in its README: devices may do everything, the thing is called by its serial number, and there is no configuration for it.
	open, openTopic := w.prefix+"-open", w.prefix+"/openworld"
	_, err := w.admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &open, PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Subscribe", "iot:Connect", "iot:Receive"}, "Resource": []string{"*"}}})})
	check(t, err)
	body := w.templateBody()
	delete(body, "DeviceConfiguration")
	body["Resources"].(object)["policy"].(object)["Properties"] = object{"PolicyName": open}
	template := f.template(t, "reference", body)
	id := f.registered(t)
	f.policy(t, w.iotARN("cert/"+id.id), must[object](t, s.run(t, f.dir, nil, imprint(), "claim", "policy", "--format", "json", template)))
	file := func(name, text string) string {
		path := filepath.Join(f.dir, name)
		check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	cert, key := file("claim.pem", id.cert), file("claim.key", id.key)

	for _, port := range []struct{ name, alpn string }{{"IOT_PORT", ""}, {"IOT_ALPN_PORT", "x-amzn-mqtt-ca"}} {
		for _, keys := range []string{"service", "own"} {
			serial := w.prefix + "-" + strings.ToLower(strings.ReplaceAll(port.name, "_", "-")) + "-" + keys
			var csrFile, keyFile string
			if keys == "own" {
				deviceKey, csr := newCSR(t)
				csrFile, keyFile = file(serial+".csr", csr), file(serial+".key", deviceKey)
			}
			t.Run(serial, func(t *testing.T) {
				t.Parallel()
				got := must[struct {
					Thing, Heard, Refused string
					Configuration         map[string]string
					Kept                  bool
					Interruptions         []string
				}](t, s.run(t, "python", []string{"TEMPLATE=" + template, "SERIAL=" + serial, "CLAIM_CERT=" + cert, "CLAIM_KEY=" + key, "CSR_FILE=" + csrFile,
					"KEY_FILE=" + keyFile, "MQTT_PORT=" + s.get(port.name), "ALPN=" + port.alpn, "OPEN_TOPIC=" + openTopic + "/" + serial}, "/usr/bin/python3", "reference.py"))
				if got.Thing != w.thing(serial) || got.Configuration == nil || len(got.Configuration) != 0 || got.Heard == "" || !got.Kept ||
					got.Refused != "InvalidCertificateOwnershipToken" || len(got.Interruptions) != 0 {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}
