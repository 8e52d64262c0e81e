package compat

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// Devices without MQTT: curl and Python's standard library publish with a certificate (iot-core spec 6.1 and 9.1).
func TestCurlAndPythonPublishWithACertificate(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--cert-https-port", "0")
	admin := s.adminSDK(t)
	made, err := admin.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	topics := "arn:aws:iot:" + s.get("AWS_REGION") + ":" + account + ":topic/meters/*"
	_, err = admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("meter"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": []object{{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:RetainPublish"}, "Resource": topics}}})})
	check(t, err)
	_, err = admin.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("meter"), Target: made.CertificateArn})
	check(t, err)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	check(t, os.WriteFile(cert, []byte(*made.CertificatePem), 0o600))
	check(t, os.WriteFile(key, []byte(*made.KeyPair.PrivateKey), 0o600))

	url := "https://" + net.JoinHostPort(s.get("IOT_ENDPOINT"), s.get("IOT_HTTPS_CERT_PORT"))
	curl := func(path, body string) string {
		return s.run(t, dir, nil, "curl", "--silent", "--show-error", "--cacert", s.get("AWS_CA_BUNDLE"), "--cert", cert, "--key", key,
			"--write-out", " %{http_code}", "--data-binary", body, url+path)
	}
	if out := curl("/topics/meters/1?qos=1&retain=true", "42"); !strings.Contains(out, `"message":"OK"`) || !strings.HasSuffix(out, " 200") {
		t.Errorf("curl: %s", out)
	}
	if out := curl("/topics/doors/1?qos=1", "42"); !strings.Contains(out, `"message":"Forbidden"`) || !strings.HasSuffix(out, " 403") {
		t.Errorf("curl, denied: %s", out)
	}
	if out := s.run(t, dir, nil, "/usr/bin/aws", "--endpoint-url", s.get("AWS_ENDPOINT_URL"), "iot-data", "get-retained-message", "--topic", "meters/1"); !strings.Contains(out, `"NDI="`) {
		t.Errorf("retained: %s", out)
	}
	got := must[map[string][]any](t, s.run(t, "python", []string{"CERT=" + cert, "KEY=" + key, "TOPIC=meters/py"}, "/usr/bin/python3", "publish.py"))
	for _, way := range []string{"alpn", "port"} {
		if got[way][0] != 200.0 || got[way][1].(object)["message"] != "OK" {
			t.Errorf("python, %s: %v", way, got[way])
		}
	}
	if got["denied"][0] != 403.0 || got["denied"][1].(object)["message"] != "Forbidden" {
		t.Errorf("python, denied: %v", got["denied"])
	}
}
