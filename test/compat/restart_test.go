package compat

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// A device that was away when its server was killed finds everything that was acknowledged: its session, the messages that came
// meanwhile, and what is retained.
func TestMosquittoFindsItsMessagesAfterTheServerWasKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	defer func() { _ = s.stop() }()
	admin := s.adminSDK(t)
	made, err := admin.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	_, err = admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("all"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": []object{{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}})})
	check(t, err)
	_, err = admin.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("all"), Target: made.CertificateArn})
	check(t, err)
	certFile, keyFile := writePair(t, dir, "device", *made.CertificatePem, *made.KeyPair.PrivateKey)
	device := func(id, version string) mosquitto {
		return mosquitto{site: s, dir: dir, clientID: id, version: version, cert: certFile, key: keyFile}
	}
	versions := []string{"mqttv311", "mqttv5"}
	session := []string{"-c", "-x", "600"} // -x is for MQTT 5
	subscribe := func(version string, more ...string) string {
		args := session
		if version == "mqttv311" {
			args = session[:1]
		}
		return s.run(t, dir, nil, "mosquitto_sub", device("sub-"+version, version).args(append(append([]string{"-W", "120"}, args...), more...)...)...)
	}
	for _, v := range versions {
		subscribe(v, "-t", "news/#", "-E")
	}
	pub := device("pub", "mqttv5")
	for _, text := range []string{"one", "two"} {
		s.run(t, dir, nil, "mosquitto_pub", pub.args("-t", "news/x", "-m", text)...)
	}
	s.run(t, dir, nil, "mosquitto_pub", pub.args("-t", "state", "-m", "kept", "-r")...)
	check(t, s.cmd.Process.Kill())
	<-s.exited
	s, err = start(filepath.Dir(s.data))
	check(t, err)
	for _, v := range versions {
		if got := subscribe(v, "-t", "news/#", "-C", "2"); strings.Join(strings.Fields(got), " ") != "one two" {
			t.Errorf("%s got %q", v, got)
		}
		// Another session: the client may have left before it acknowledged the second message, which then comes again.
		if got := s.run(t, dir, nil, "mosquitto_sub", device("state-"+v, v).args("-W", "120", "-t", "state", "-C", "1")...); strings.TrimSpace(got) != "kept" {
			t.Errorf("%s: retained is %q", v, got)
		}
	}
}
