package compat

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dns is a SOCKS5 proxy (RFC 1928) that leads every name to loopback: clients connect to names of endpoints, and send them by SNI, without any
// DNS that has them. It returns the proxy's URL.
func dns(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go lead(c)
		}
	}()
	return "socks5h://" + l.Addr().String()
}

func lead(c net.Conn) {
	defer c.Close()
	head := make([]byte, 262)
	if _, err := io.ReadFull(c, head[:2]); err != nil {
		return
	}
	if _, err := io.ReadFull(c, head[:head[1]]); err != nil { // ways to authenticate; none is among them
		return
	}
	_, _ = c.Write([]byte{5, 0})
	if _, err := io.ReadFull(c, head[:5]); err != nil || head[3] != 3 { // CONNECT to a name
		return
	}
	rest := head[:int(head[4])+2]
	if _, err := io.ReadFull(c, rest); err != nil {
		return
	}
	to, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(binary.BigEndian.Uint16(rest[len(rest)-2:]))})
	if err != nil {
		return
	}
	defer to.Close()
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() {
		_, _ = io.Copy(to, c)
		_ = to.CloseWrite()
	}()
	_, _ = io.Copy(c, to)
}

// A tenant works with the AWS CLI and mosquitto in one account and region.
type tenant struct {
	*site
	*testing.T
	dir   string
	proxy string
	env   []string
	arn   string // arn:aws:iot:REGION:ACCOUNT:
	host  string // of its devices, once somebody has asked
	free  bool   // it has the policy of allowAll
}

func (a *tenant) aws(args ...string) string {
	a.Helper()
	return strings.TrimSpace(a.site.run(a.T, a.dir, a.env, "aws", append([]string{"--endpoint-url", a.get("AWS_ENDPOINT_URL"), "--output", "text", "iot"}, args...)...))
}

func (a *tenant) endpoint() string {
	if a.host == "" {
		a.host = a.aws("describe-endpoint", "--endpoint-type", "iot:Data-ATS", "--query", "endpointAddress")
	}
	return a.host
}

// allowAll makes a policy with which a certificate may do anything in the account, and attaches it.
func (a *tenant) allowAll(certificate string) {
	a.Helper()
	if !a.free {
		a.free = true
		a.aws("create-policy", "--policy-name", "all", "--policy-document", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"`+a.arn+`*"}}`)
	}
	a.aws("attach-policy", "--policy-name", "all", "--target", a.arn+"cert/"+certificate)
}

// mosquitto runs mosquitto_pub or mosquitto_sub with the certificate cert.pem and key.pem of dir, by a server name.
func (a *tenant) mosquitto(tool, dir, host string, args ...string) (string, error) {
	a.Helper()
	return a.site.try(a.T, dir, nil, tool, append([]string{"--proxy", a.proxy, "--cafile", a.get("AWS_CA_BUNDLE"), "--cert", "cert.pem", "--key", "key.pem",
		"-h", host, "-p", a.get("IOT_PORT"), "-i", "lamp", "-q", "1"}, args...)...)
}

// says publishes a retained message, heard checks that it is what the account's clients hear.
func (a *tenant) says(dir, host, message string) {
	a.Helper()
	if out, err := a.mosquitto("mosquitto_pub", dir, host, "-r", "-t", "lamps/state", "-m", message); err != nil {
		a.Fatalf("publishing by %s: %v\n%s", host, err, out)
	}
}

func (a *tenant) hears(dir, host, message string) {
	a.Helper()
	if out, err := a.mosquitto("mosquitto_sub", dir, host, "-t", "lamps/state", "-C", "1", "-W", "120"); err != nil || strings.TrimSpace(out) != message {
		a.Errorf("by %s: %q, want %q, %v", host, out, message, err)
	}
}

// tenants are two accounts of one server, and a second region of the first.
func tenants(t *testing.T) (first, second, abroad *tenant) {
	t.Helper()
	s := ownServer(t, "--endpoint-domain", "iot.example", "--regions", "eu-west-1")
	const id = "111122223333"
	var env []string
	for line := range strings.Lines(s.run(t, t.TempDir(), nil, filepath.Join(bin, "imprint"), "account", "create", "tenant", "--id", id)) {
		env = append(env, strings.TrimSpace(line))
	}
	proxy := dns(t)
	in := func(region, account string, env ...string) *tenant {
		return &tenant{site: s, T: t, dir: t.TempDir(), proxy: proxy, env: append(env, "AWS_REGION="+region, "AWS_DEFAULT_REGION="+region), arn: "arn:aws:iot:" + region + ":" + account + ":"}
	}
	return in("us-east-1", account), in("us-east-1", id, env...), in("eu-west-1", account)
}

func TestOneCertificateInSeveralAccountsWithTheCLIAndMosquitto(t *testing.T) {
	t.Parallel()
	first, second, abroad := tenants(t)
	lamp, dir := newSigner(t), t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(lamp.key)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(*pemOf(lamp.Certificate)), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	all := map[*tenant]string{first: "first", second: "second", abroad: "abroad"}
	for a := range all {
		a.allowAll(a.aws("register-certificate-without-ca", "--certificate-pem", *pemOf(lamp.Certificate), "--status", "ACTIVE", "--query", "certificateId"))
	}
	for a, message := range all {
		a.says(dir, a.endpoint(), message)
	}
	for a, message := range all {
		a.hears(dir, a.endpoint(), message)
	}
	second.aws("update-certificate", "--certificate-id", second.aws("list-certificates", "--query", "certificates[0].certificateId"), "--new-status", "INACTIVE")
	if out, err := second.mosquitto("mosquitto_pub", dir, second.endpoint(), "-t", "lamps/state", "-m", "more"); err == nil {
		t.Errorf("the account in which the certificate is inactive lets it in: %s", out)
	}
	first.hears(dir, first.endpoint(), "first")
}

func TestCertificatesGoToAnotherAccountWithTheCLI(t *testing.T) {
	t.Parallel()
	first, second, _ := tenants(t)
	dir := t.TempDir()
	made := func() string {
		t.Helper()
		return first.aws("create-keys-and-certificate", "--certificate-pem-outfile", filepath.Join(dir, "cert.pem"), "--private-key-outfile", filepath.Join(dir, "key.pem"), "--query", "certificateId")
	}
	status := func(a *tenant, id string) string {
		t.Helper()
		return a.aws("describe-certificate", "--certificate-id", id, "--query", "certificateDescription.status")
	}
	offered := func() string {
		t.Helper()
		id := made()
		got := first.aws("transfer-certificate", "--certificate-id", id, "--target-aws-account", "111122223333", "--transfer-message", "a lamp", "--query", "transferredCertificateArn")
		if want := second.arn + "cert/" + id; got != want {
			t.Errorf("transferred is %s, want %s", got, want)
		}
		if got := first.aws("list-outgoing-certificates", "--query", "outgoingCertificates[].[certificateId,transferredTo,transferMessage]"); got != id+"\t111122223333\ta lamp" {
			t.Errorf("outgoing: %q", got)
		}
		return id
	}
	back := offered()
	first.aws("cancel-certificate-transfer", "--certificate-id", back)
	unwanted := offered()
	second.aws("reject-certificate-transfer", "--certificate-id", unwanted, "--reject-reason", "no lamp of ours")
	if got := first.aws("describe-certificate", "--certificate-id", unwanted, "--query", "certificateDescription.[status,transferData.rejectReason]"); got != "INACTIVE\tno lamp of ours" {
		t.Errorf("rejected: %q", got)
	}
	if got := status(first, back); got != "INACTIVE" {
		t.Errorf("cancelled: %s", got)
	}
	id := offered()
	for _, a := range []*tenant{first, second} {
		if got := status(a, id); got != "PENDING_TRANSFER" {
			t.Errorf("offered: %s", got)
		}
	}
	second.aws("accept-certificate-transfer", "--certificate-id", id, "--set-as-active")
	if got := second.aws("describe-certificate", "--certificate-id", id, "--query", "certificateDescription.[status,ownedBy,previousOwnedBy]"); got != "ACTIVE\t111122223333\t"+account {
		t.Errorf("accepted: %q", got)
	}
	if out, err := first.site.try(t, first.dir, first.env, "aws", "--endpoint-url", first.get("AWS_ENDPOINT_URL"), "iot", "describe-certificate", "--certificate-id", id); err == nil || !strings.Contains(out, "ResourceNotFoundException") {
		t.Errorf("the account that gave it away: %v %s", err, out)
	}
	second.allowAll(id)
	second.says(dir, second.endpoint(), "at home")
	second.hears(dir, second.endpoint(), "at home")
}

func TestDomainsWithTheCLIAndMosquitto(t *testing.T) {
	t.Parallel()
	_, second, _ := tenants(t)
	dir := t.TempDir()
	second.allowAll(second.aws("create-keys-and-certificate", "--set-as-active", "--certificate-pem-outfile", filepath.Join(dir, "cert.pem"), "--private-key-outfile", filepath.Join(dir, "key.pem"), "--query", "certificateId"))
	const host = "lamps.tenant.example"
	config := func(query string) string {
		t.Helper()
		return second.aws("describe-domain-configuration", "--domain-configuration-name", "lamps", "--query", query)
	}
	arn := second.aws("create-domain-configuration", "--domain-configuration-name", "lamps", "--domain-name", host, "--query", "domainConfigurationArn")
	if got := config("[domainConfigurationArn,domainName,domainConfigurationStatus,serviceType]"); got != arn+"\t"+host+"\tENABLED\tDATA" {
		t.Errorf("the domain: %q", got)
	}
	if got := second.aws("list-domain-configurations", "--query", "domainConfigurations[].domainConfigurationName"); got != "lamps" {
		t.Errorf("the list: %q", got)
	}
	for { // the server's certificate gets the name in a moment
		if _, err := second.mosquitto("mosquitto_pub", dir, host, "-r", "-t", "lamps/state", "-m", "by name"); err == nil {
			break
		}
		check(t, t.Context().Err())
	}
	second.hears(dir, second.endpoint(), "by name")
	second.aws("update-domain-configuration", "--domain-configuration-name", "lamps", "--domain-configuration-status", "DISABLED")
	for {
		if _, err := second.mosquitto("mosquitto_pub", dir, host, "-t", "lamps/state", "-m", "too late"); err != nil {
			break
		}
		check(t, t.Context().Err())
	}
	second.aws("delete-domain-configuration", "--domain-configuration-name", "lamps")
	second.hears(dir, second.endpoint(), "by name")
}
