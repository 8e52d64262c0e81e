package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server/porttest"
)

type object = map[string]any

// A process is one of the real binaries at work.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	said bytes.Buffer
	line chan struct{} // something was said
	done chan error
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.line <- struct{}{}:
	default:
	}
	return p.said.Write(b)
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// says waits until the process says something.
func (p *process) says(text string) {
	p.t.Helper()
	for late := time.After(time.Minute); !strings.Contains(p.log(), text); {
		select {
		case <-p.line:
		case <-late:
			p.t.Fatalf("nobody says %q: %s", text, p.log())
		}
	}
}

// start runs a binary until it says ready, or ends.
func start(t *testing.T, ready, name string, args ...string) (*process, error) {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(filepath.Join(bin, name), args...), line: make(chan struct{}, 1), done: make(chan error, 1)}
	p.cmd.Stderr = p
	check(t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	for late := time.After(time.Minute); ; {
		select {
		case <-p.line:
			if strings.Contains(p.log(), ready) {
				return p, nil
			}
		case err := <-p.done:
			return p, errors.Join(err, errors.New(p.log()))
		case <-late:
			t.Fatalf("%s is not ready: %s", name, p.log())
		}
	}
}

func (p *process) end(s os.Signal) {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(s))
	if err := <-p.done; err != nil && s != syscall.SIGKILL {
		p.t.Errorf("%v: %s", err, p.log())
	}
}

// An environment is the text of imprint.env: a line NAME=value each.
type environment string

func (e environment) Get(name string) string {
	for line := range strings.Lines(string(e)) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// A site is a helper, a token and a server in one place.
type site struct {
	t                 *testing.T
	dir, data, socket string
	token, prefix     string
	pin               string // file
	helper, server    *process
	settings          []string // of imprint serve
	api               *client.Client
	env               environment
	devices           int
}

func newSite(t *testing.T, token string) *site {
	dir := shortDir(t)
	s := &site{t: t, dir: dir, data: filepath.Join(dir, "data"), socket: filepath.Join(dir, "keys.sock"), token: token, prefix: "site-", pin: filepath.Join(dir, "pin")}
	check(t, os.WriteFile(s.pin, []byte(userPIN+"\n"), 0o600))
	port := func() string { return strconv.Itoa(porttest.Hold(t)) } // while the server is started again nobody else gets it
	s.settings = []string{"--https-port", port(), "--mqtt-port", port(), "--key-helper", s.socket}
	return s
}

// tokenArgs are the arguments of a verb of the helper that opens the token.
func (s *site) tokenArgs(verb string, more ...string) []string {
	return append([]string{verb, "--module", module, "--token", s.token, "--prefix", s.prefix, "--pin-file", s.pin}, more...)
}

func (s *site) startHelper() {
	s.t.Helper()
	var err error
	s.helper, err = start(s.t, "ready", "imprint-pkcs11", s.tokenArgs("serve", "--socket", s.socket)...)
	check(s.t, err)
}

func (s *site) tryServer() (err error) {
	s.t.Helper()
	s.server, err = start(s.t, "use it: eval", "imprint", append([]string{"serve", "--data", s.data}, s.settings...)...)
	return err
}

func (s *site) startServer() {
	s.t.Helper()
	check(s.t, s.tryServer())
	text, err := os.ReadFile(filepath.Join(s.data, "imprint.env"))
	check(s.t, err)
	env := environment(text)
	s.env = env
	s.api, err = client.New(client.Config{Endpoint: env.Get("AWS_ENDPOINT_URL"), Region: env.Get("AWS_REGION"), CAFile: env.Get("AWS_CA_BUNDLE"),
		Creds: client.Credentials{AccessKeyID: env.Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(env.Get("AWS_SECRET_ACCESS_KEY"))}})
	check(s.t, err)
}

// run runs a binary to its end.
func (s *site) run(name string, args ...string) (string, error) {
	s.t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, name), args...)
	out, err := func() ([]byte, error) { cmd.Stderr = &said; return cmd.Output() }()
	if err != nil {
		err = errors.Join(err, errors.New(said.String()))
	}
	return string(out), err
}

func (s *site) must(name string, args ...string) string {
	s.t.Helper()
	out, err := s.run(name, args...)
	if err != nil {
		s.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func (s *site) ca(args ...string) string {
	s.t.Helper()
	return s.must("imprint", append(append([]string{"ca"}, args...), "--data", s.data)...)
}

func document(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// prepare makes what a provisioning needs.
func (s *site) prepare() {
	s.t.Helper()
	ctx := s.t.Context()
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}
	check(s.t, s.api.Query(ctx, "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": "provisioning", "AssumeRolePolicyDocument": document(trust)}, nil))
	check(s.t, s.api.Query(ctx, "iam", "2010-05-08", "AttachRolePolicy", map[string]string{"RoleName": "provisioning",
		"PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}, nil))
	check(s.t, s.api.REST(ctx, "iot", http.MethodPost, "/policies/lamp", object{"policyDocument": document(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})}, nil))
	check(s.t, s.api.REST(ctx, "iot", http.MethodPost, "/provisioning-templates", object{"templateName": "lamps", "enabled": true,
		"provisioningRoleArn": "arn:aws:iam::000000000000:role/provisioning", "templateBody": document(object{
			"Parameters": object{"SerialNumber": object{"Type": "String"}, "AWS::IoT::Certificate::Id": object{"Type": "String"}},
			"Resources": object{
				"thing":       object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "SerialNumber"}}},
				"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
				"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "lamp"}}}})}, nil))
}

// claim writes a fresh claim to a file.
func (s *site) claim() (string, error) {
	var claim object
	ask := func() error {
		return s.api.REST(s.t.Context(), "iot", http.MethodPost, "/provisioning-templates/lamps/provisioning-claim", object{}, &claim)
	}
	err := ask()
	for client.Code(err) == "ThrottlingException" { // RSA keys take long on a busy machine; SDKs try again as well
		err = ask()
	}
	if err != nil {
		return "", err
	}
	s.devices++
	path := filepath.Join(s.dir, "claim-"+strconv.Itoa(s.devices))
	return path, os.WriteFile(path, []byte(document(claim)), 0o600)
}

// provision provisions a device with a claim and connects it, and returns its certificate.
func (s *site) provision(claim string) *x509.Certificate {
	s.t.Helper()
	serial := filepath.Base(claim)
	dir := filepath.Join(s.dir, "device-"+serial)
	out := s.must("imprint-device", "provision", "--dir", dir, "--claim", claim, "--template", "lamps", "--param", "SerialNumber="+serial,
		"--endpoint", s.env.Get("IOT_ENDPOINT"), "--port", s.env.Get("IOT_PORT"), "--ca", s.env.Get("AWS_CA_BUNDLE"), "--quiet")
	var status struct {
		State string
		Files struct{ Certificate string }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.State != "provisioned" {
		s.t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(status.Files.Certificate)
	check(s.t, err)
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	check(s.t, err)
	s.must("imprint-device", "run", "--once", "--dir", dir, "--port", s.env.Get("IOT_PORT"), "--publish", "lamps/state=on")
	return cert
}

func (s *site) provisionOne() *x509.Certificate {
	s.t.Helper()
	claim, err := s.claim()
	check(s.t, err)
	return s.provision(claim)
}

func (s *site) keyFiles() string {
	found, err := filepath.Glob(filepath.Join(s.data, "pki/keys/*"))
	check(s.t, err)
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return strings.Join(found, " ")
}

// TestASiteWithItsKeysInAToken goes through the life of an installation whose keys and master key are in a token.
func TestASiteWithItsKeysInAToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, "site")
	s.settings = append(s.settings, "--master-key-command", filepath.Join(bin, "imprint-pkcs11")+" master-key --socket "+s.socket)

	s.startHelper()
	wantError(t, s.tryServer(), "imprint-pkcs11 new-master-key makes the first")
	s.must("imprint-pkcs11", s.tokenArgs("new-master-key")...)
	s.startServer()
	s.prepare()
	s.provisionOne()

	if files := s.keyFiles(); files != "identity-token.key server-leaf.key server-rsa-leaf.key" {
		t.Errorf("keys in files: %s", files)
	}
	if _, err := os.Stat(filepath.Join(s.data, "master.key")); err == nil {
		t.Error("there is a master key in the data folder")
	}
	if list := s.ca("list"); strings.Count(list, "key helper") != 7 {
		t.Errorf("imprint ca list:\n%s", list)
	}
	if names := s.must("imprint-pkcs11", "list", "--socket", s.socket); strings.Count(names, "\n") != 7 || !strings.Contains(names, "device-root-1\n") {
		t.Errorf("imprint-pkcs11 list:\n%s", names)
	}

	s.interruptions()
	s.rotations()
	s.rekey()

	s.server.end(syscall.SIGTERM)
	s.helper.end(syscall.SIGTERM)
	for _, log := range []string{s.server.log(), s.helper.log()} {
		if strings.Contains(log, userPIN) {
			t.Errorf("the PIN is in a log: %s", log)
		}
	}
	wantError(t, s.tryServer(), "does not answer")
	all := s.settings
	s.startHelper()
	s.settings = append([]string{}, all[:4]...)
	s.settings = append(s.settings, all[6:]...) // without --key-helper
	wantError(t, s.tryServer(), "name the key helper as at earlier starts (--key-helper)")
}

// interruptions kills the helper: in the middle of a provisioning, and for longer than the server waits.
func (s *site) interruptions() {
	t := s.t
	claim, err := s.claim()
	check(t, err)
	s.helper.end(syscall.SIGKILL)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.provision(claim)
	}()
	s.startHelper()
	<-done

	s.helper.end(syscall.SIGKILL)
	_, err = s.claim()
	wantError(t, err, "ServiceUnavailable")
	wantError(t, err, "the signing keys cannot be reached at the moment")
	if strings.Contains(err.Error(), s.socket) {
		t.Errorf("a client is told of the machine: %v", err)
	}
	s.server.says("the key helper at " + s.socket + " does not answer: start it")
	if list := s.ca("list"); strings.Count(list, "unreachable") != 7 {
		t.Errorf("imprint ca list without a helper:\n%s", list)
	}
	s.startHelper()
	s.provisionOne()
}

func (s *site) rotations() {
	t := s.t
	before := s.provisionOne()
	s.ca("rotate", "--issuers")
	if after := s.provisionOne(); bytes.Equal(after.AuthorityKeyId, before.AuthorityKeyId) && before.AuthorityKeyId != nil {
		t.Error("the issuer is the old one")
	}
	s.ca("rotate")
	s.ca("rotate", "--finish")
	s.startAgain() // the roots of the environment
	s.provisionOne()
	s.ca("rotate", "--drop-old")
	if names := s.must("imprint-pkcs11", "list", "--socket", s.socket); strings.Count(names, "\n") != 7+4+7 {
		t.Errorf("imprint-pkcs11 list:\n%s", names)
	}
	_, err := s.run("imprint", "ca", "take-offline", "--data", s.data, "--out", filepath.Join(s.dir, "roots.pem"))
	wantError(t, err, "are in the key helper, which gives none out")
}

func (s *site) startAgain() {
	s.t.Helper()
	s.server.end(syscall.SIGTERM)
	s.startServer()
}

// rekey changes the master key as docs/operating.md says.
func (s *site) rekey() {
	t := s.t
	_, err := s.run("imprint", "rekey", "--data", s.data)
	wantError(t, err, "which only you can change")
	s.must("imprint-pkcs11", s.tokenArgs("new-master-key")...)
	s.startAgain()
	if out := s.must("imprint", "rekey", "--data", s.data); strings.HasPrefix(out, "0 secrets") {
		t.Errorf("imprint rekey: %s", out)
	}
	s.server.end(syscall.SIGTERM)
	command := s.settings[len(s.settings)-1]
	if out := s.must("imprint", "rekey", "--now", "--data", s.data, "--master-key-command", command); !strings.Contains(out, "take its line out") {
		t.Errorf("imprint rekey --now: %s", out)
	}
	s.must("imprint-pkcs11", s.tokenArgs("drop-master-keys")...)
	if keys := s.must("imprint-pkcs11", "master-key", "--socket", s.socket); strings.Count(keys, "\n") != 1 {
		t.Errorf("%d master keys are left", strings.Count(keys, "\n"))
	}
	s.startServer()
	s.provisionOne()
}

// TestASiteMovesIntoAToken begins with keys in files.
func TestASiteMovesIntoAToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, "moving")
	all := s.settings
	s.settings = all[:4]
	s.startServer()
	s.prepare()
	s.provisionOne()
	s.server.end(syscall.SIGTERM)

	s.startHelper()
	s.settings = all
	s.startServer()
	s.provisionOne()
	if list := s.ca("list"); strings.Contains(list, "key helper") {
		t.Errorf("keys moved by themselves:\n%s", list)
	}
	s.ca("rotate")
	s.ca("rotate", "--finish")
	s.startAgain()
	s.provisionOne()
	if list := s.ca("list"); strings.Count(list, "key helper") != 7 || strings.Count(list, "here") != 7 {
		t.Errorf("imprint ca list after the rotation:\n%s", list)
	}
	// The roots of before can still leave their files; those in the token stay.
	if out := s.ca("take-offline", "--out", filepath.Join(s.dir, "roots.pem")); strings.Count(out, "root") != 4 { // and the file's name
		t.Errorf("imprint ca take-offline: %s", out)
	}
	if files := s.keyFiles(); strings.Contains(files, "root") {
		t.Errorf("keys in files: %s", files)
	}
}

func TestAWrongPINIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unit")
	check(t, os.WriteFile(s.pin, []byte("wrong\n"), 0o600))
	_, err := s.run("imprint-pkcs11", s.tokenArgs("serve", "--socket", s.socket)...)
	wantError(t, err, "tokens lock after a few wrong ones")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitConfig || strings.Contains(err.Error(), "wrong\n") {
		t.Errorf("exit %v", err)
	}
}

// TestOtherUsersAreNotAnswered is what holds when the mode of the socket does not: the helper asks the kernel who is there.
func TestOtherUsersAreNotAnswered(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user; the test of package keyhelper shows the same to others")
	}
	s := newSite(t, "unit")
	s.startHelper()
	check(t, errors.Join(os.Chmod(s.dir, 0o755), os.Chmod(s.socket, 0o666)))
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "imprint-pkcs11"), "list", "--socket", s.socket)
	cmd.Stderr, cmd.SysProcAttr = &said, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Run(); err == nil || !strings.Contains(said.String(), "does not answer") {
		t.Errorf("user 65534 got an answer: %v, %s", err, &said)
	}
	s.helper.says("refused a connection")
}
