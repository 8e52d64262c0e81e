package compat

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// mosquitto is a device made of mosquitto_rr, mosquitto_sub and mosquitto_pub, with its files in a folder.
type mosquitto struct {
	site     *site
	dir      string
	clientID string
	version  string
	cert     string
	key      string
}

func (m mosquitto) args(extra ...string) []string {
	return append([]string{"--cafile", m.site.get("AWS_CA_BUNDLE"), "--cert", m.cert, "--key", m.key, "-h", m.site.get("IOT_ENDPOINT"),
		"-p", m.site.get("IOT_PORT"), "-i", m.clientID, "-q", "1", "-V", m.version}, extra...)
}

// ask sends a request and returns the answer that comes on topic/accepted. The payload goes as an argument, CBOR too (none here
// holds a zero byte): mosquitto_rr 2.0.11 sends nothing of a file.
func (m mosquitto) ask(t *testing.T, topic string, payload []byte) []byte {
	t.Helper()
	return []byte(m.site.run(t, m.dir, nil, "mosquitto_rr", m.args("-W", "120", "-N", "-t", topic, "-e", topic+"/accepted", "-m", string(payload))...))
}

// TestTheCommandLineAndMosquittoAloneProvisionADevice has the administrator's key in place of an installer.
func TestTheCommandLineAndMosquittoAloneProvisionADevice(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "mosq")
	for i, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			dir, serial := t.TempDir(), strconv.Itoa(2000+i)
			out := must[struct {
				CertificatePEM string
				KeyPair        struct{ PrivateKey string }
			}](t, s.run(t, dir, nil, filepath.Join(bin, "imprint"), "aws", "iot", "create-provisioning-claim", "--template-name", w.template, "--output", "json"))
			m := mosquitto{site: s, dir: dir, clientID: "mosquitto-" + serial, version: map[bool]string{true: "mqttv5", false: "mqttv311"}[v.mqtt5]}
			m.cert, m.key = writePair(t, dir, "claim", out.CertificatePEM, out.KeyPair.PrivateKey)

			var cert created
			request, key := object{}, ""
			if v.csr {
				var csr string
				key, csr = newCSR(t)
				request["certificateSigningRequest"] = csr
			}
			v.decode(t, m.ask(t, v.createTopic(), v.encode(t, request)), &cert)
			if v.csr {
				cert.PrivateKey = key
			}
			var reg registered
			v.decode(t, m.ask(t, registerTopic(w.template, v.format), v.encode(t, object{"certificateOwnershipToken": cert.Token, "parameters": object{"SerialNumber": serial}})), &reg)
			if reg.ThingName == nil || *reg.ThingName != w.thing(serial) {
				t.Fatalf("registered %+v", reg)
			}
			w.checkRegistry(t, serial, cert)

			m.clientID = *reg.ThingName
			m.cert, m.key = writePair(t, dir, "device", cert.CertificatePEM, cert.PrivateKey)
			own := "lamps/" + *reg.ThingName + "/state"
			if heard := s.run(t, dir, nil, "mosquitto_rr", m.args("-W", "120", "-N", "-t", own, "-e", own, "-m", "on")...); heard != "on" {
				t.Errorf("heard %q", heard)
			}
			foreign, err := s.try(t, dir, nil, "mosquitto_pub", m.args("-t", "lamps/somebody-else/state", "-m", "on")...)
			if err == nil && !strings.Contains(strings.ToLower(foreign), "not authorized") {
				t.Errorf("publishing on a foreign topic: %q", foreign)
			}
			m.clientID = "somebody-else"
			if said, err := s.try(t, dir, nil, "mosquitto_pub", m.args("-t", own, "-m", "on")...); err == nil {
				t.Errorf("a foreign client id was let in: %q", said)
			}
		})
	}
}

func writePair(t *testing.T, dir, name, cert, key string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	check(t, os.WriteFile(certFile, []byte(cert), 0o600))
	check(t, os.WriteFile(keyFile, []byte(key), 0o600))
	return certFile, keyFile
}
