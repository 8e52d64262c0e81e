package compat

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tunnel is an HTTP proxy that leads every tunnel to the HTTPS port of the site, whatever host is asked for; it notes which were.
type tunnel struct {
	net.Listener
	mu    sync.Mutex
	hosts map[string]bool
}

func (s *site) tunnel(t *testing.T) *tunnel {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	out := &tunnel{Listener: l, hosts: map[string]bool{}}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out.mu.Lock()
		out.hosts[r.Host] = true
		out.mu.Unlock()
		to, err := net.Dial("tcp", "127.0.0.1:"+s.get("IOT_ALPN_PORT"))
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		if _, err := from.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
			return
		}
		go func() { _, _ = io.Copy(to, from); to.Close() }()
		_, _ = io.Copy(from, to)
	})}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { web.Close() })
	return out
}

func (p *tunnel) port() string {
	_, port, _ := net.SplitHostPort(p.Addr().String())
	return port
}

// The guide's way (authorizing-direct-aws): all of it by the AWS CLI, then the device asks with its certificate.
func TestDevicesGetAWSCredentialsByTheirCertificate(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	dir := t.TempDir()
	aws := func(env []string, args ...string) string {
		t.Helper()
		return strings.TrimSpace(s.run(t, dir, env, "/usr/bin/aws", append([]string{"--endpoint-url", s.get("AWS_ENDPOINT_URL"), "--output", "json"}, args...)...))
	}
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	aws(nil, "iot", "create-thing", "--thing-name", "meter-1")
	made := must[struct {
		CertificateArn, CertificateID, CertificatePem string
		KeyPair                                       struct{ PrivateKey string }
	}](t, aws(nil, "iot", "create-keys-and-certificate", "--set-as-active"))
	aws(nil, "iot", "attach-thing-principal", "--thing-name", "meter-1", "--principal", made.CertificateArn)
	aws(nil, "iam", "create-role", "--role-name", "telemetry", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`)
	aws(nil, "iam", "put-role-policy", "--role-name", "telemetry", "--policy-name", "own", "--policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:DescribeThing","Resource":"arn:aws:iot:*:*:thing/${credentials-iot:ThingName}"}}`)
	aws(nil, "iot", "create-role-alias", "--role-alias", "meters", "--role-arn", "arn:aws:iam::"+account+":role/telemetry", "--credential-duration-seconds", "3600")
	aws(nil, "iot", "create-policy", "--policy-name", "meters", "--policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"arn:aws:iot:us-east-1:`+account+`:rolealias/meters"}}`)
	aws(nil, "iot", "attach-policy", "--policy-name", "meters", "--target", made.CertificateArn)
	endpoint := must[struct{ EndpointAddress string }](t, aws(nil, "iot", "describe-endpoint", "--endpoint-type", "iot:CredentialProvider")).EndpointAddress
	cert, key := file("cert.pem", made.CertificatePem), file("key.pem", made.KeyPair.PrivateKey)
	session := "arn:aws:sts::" + account + ":assumed-role/telemetry/" + made.CertificateID

	curl := func(alias, thing string) string {
		return s.run(t, dir, nil, "curl", "--silent", "--show-error", "--cacert", s.get("AWS_CA_BUNDLE"), "--cert", cert, "--key", key, "--header", "x-amzn-iot-thingname: "+thing,
			"--connect-to", endpoint+":443:127.0.0.1:"+s.get("IOT_ALPN_PORT"), "--write-out", " %{http_code}", "https://"+endpoint+"/role-aliases/"+alias+"/credentials")
	}
	body, _ := strings.CutSuffix(curl("meters", "meter-1"), " 200")
	got := must[struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
	}](t, body).Credentials
	env := []string{"AWS_ACCESS_KEY_ID=" + got.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + got.SecretAccessKey, "AWS_SESSION_TOKEN=" + got.SessionToken}
	if who := must[struct{ Arn string }](t, aws(env, "sts", "get-caller-identity")); who.Arn != session {
		t.Errorf("the CLI is %s, want %s", who.Arn, session)
	}
	if thing := must[struct{ ThingName string }](t, aws(env, "iot", "describe-thing", "--thing-name", "meter-1")); thing.ThingName != "meter-1" {
		t.Errorf("the device reads %q", thing.ThingName)
	}
	if out := curl("meters", "somebody-else"); !strings.Contains(out, `{"message":"Access Denied"}`) || !strings.HasSuffix(out, " 403") {
		t.Errorf("another thing: %s", out)
	}
	if out := curl("none", "meter-1"); !strings.HasSuffix(out, " 404") {
		t.Errorf("another alias: %s", out)
	}

	proxy := s.tunnel(t)
	out := s.run(t, "node", []string{"CERT=" + cert, "KEY=" + key, "PROXY_PORT=" + proxy.port(), "CREDENTIALS_ENDPOINT=" + endpoint, "THING=meter-1", "ALIAS=meters"},
		"node", "credentials.mjs")
	var said map[string]struct {
		Status     int
		Arn, Error string
	}
	check(t, json.Unmarshal([]byte(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]), &said))
	if own := said["own"]; own.Status != 200 || own.Arn != session {
		t.Errorf("the device SDK is %+v", own)
	}
	for _, refused := range []string{"foreign", "unknown"} {
		if said[refused].Error == "" {
			t.Errorf("%s: %+v", refused, said[refused])
		}
	}
	if !proxy.hosts[endpoint+":443"] {
		t.Errorf("the device SDK went to %v", proxy.hosts)
	}
}
