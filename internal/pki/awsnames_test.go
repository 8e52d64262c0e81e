package pki

import (
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const awsHost = "cognito-identity.us-east-1.amazonaws.com"

func withAWSNames(c *Config) { c.AWSNames = []string{awsHost, "iot.us-east-1.amazonaws.com"} }

func forHost(name string) func(*tls.Config) { return func(c *tls.Config) { c.ServerName = name } }

func TestHostNamesOfAWSHaveARootOfTheirOwn(t *testing.T) {
	t.Parallel()
	a := openTest(t, withAWSNames)
	if n := count(a.AWSNamesRootsPEM()); n != 1 || strings.Contains(a.RootsPEM(), a.AWSNamesRootsPEM()) {
		t.Errorf("%d roots for names of AWS, and what devices pin is\n%s", n, a.RootsPEM())
	}
	if err := handshake(t, a, a.AWSNamesRootsPEM(), forHost(awsHost)); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct{ roots, host string }{
		"who trusts the usual roots does not take the server for AWS": {a.RootsPEM(), awsHost},
		"a name of AWS's that is not served":                          {a.AWSNamesRootsPEM(), "s3.us-east-1.amazonaws.com"},
		"the root for AWS's names does not vouch for the server":      {a.AWSNamesRootsPEM(), "iot.example.com"},
	} {
		if err := handshake(t, a, c.roots, forHost(c.host)); err == nil {
			t.Error(what)
		}
	}
	for _, s := range a.Standings() {
		if err := s.Check(testNow); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
	without := openTest(t, nil)
	if without.AWSNamesRootsPEM() != "" || without.server.Load().aws != nil {
		t.Error("there is a root for names of AWS that nobody asked for")
	}
}

// Should the key of the issuer be stolen, it makes certificates for the names that are served and for no others; should the root's
// be, for AWS's names. Go and OpenSSL are the judges.
func TestNothingButNamesOfAWSCanBeIssuedForThem(t *testing.T) {
	t.Parallel()
	a := openTest(t, withAWSNames)
	root, issuer := current(a.all(), roleAWSNamesRoot), current(a.all(), roleAWSNames)
	if err := root.open(t.Context(), a.cfg.Keys); err != nil {
		t.Fatal(err)
	}
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed; crypto/x509 judges alone")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "root.pem"), a.AWSNamesRootsPEM(), 0o600)
	write(t, filepath.Join(dir, "issuer.pem"), a.pem(roleAWSNames), 0o600)
	for i, c := range []struct {
		by   *ca
		name string
		want bool
	}{
		{issuer, awsHost, true}, {issuer, "sub." + awsHost, true}, {issuer, "s3.us-east-1.amazonaws.com", false}, {issuer, "bank.example.com", false},
		{issuer, "evil-" + awsHost, false}, {issuer, "127.0.0.1", false}, {issuer, "::1", false},
		{root, "s3.us-east-1.amazonaws.com", true}, {root, "bank.example.com", false}, {root, "127.0.0.1", false}, {root, "notamazonaws.com", false},
	} {
		key := ecKey(t, elliptic.P256())
		r := request{key: key.Public(), notBefore: testNow.Add(-time.Hour), notAfter: testNow.Add(time.Hour), dnsNames: []string{c.name}}
		if ip := net.ParseIP(c.name); ip != nil {
			r.dnsNames, r.ips = nil, []net.IP{ip}
		}
		r.subject, _ = ParseName("CN=x")
		der, err := serverProfile.issue(r, c.by.issuer())
		if err != nil {
			t.Fatal(err)
		}
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.cert)
		between.AddCert(issuer.cert)
		_, err = parseLeaf(t, der).Verify(x509.VerifyOptions{DNSName: c.name, Roots: roots, Intermediates: between, CurrentTime: testNow})
		if (err == nil) != c.want {
			t.Errorf("%s by %s, says Go: %v", c.name, c.by.role, err)
		}
		if openssl == "" {
			continue
		}
		leaf := write(t, filepath.Join(dir, strconv.Itoa(i)+".pem"), CertificatePEM(der), 0o600)
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-attime", strconv.FormatInt(testNow.Unix(), 10), "-no-CApath", "-no-CAstore",
			"-x509_strict", "-purpose", "sslserver", "-CAfile", filepath.Join(dir, "root.pem"), "-untrusted", filepath.Join(dir, "issuer.pem"), leaf).CombinedOutput()
		if (err == nil) != c.want {
			t.Errorf("%s by %s, says OpenSSL: %v\n%s", c.name, c.by.role, err, out)
		}
	}
}

func TestOtherNamesOfAWSComeUnderTheSameRoot(t *testing.T) {
	t.Parallel()
	c := Config{Dir: t.TempDir(), Keys: NewMemoryKeys(), NoRSA: true, Clock: testClock, AWSNames: []string{awsHost}}
	open := func(names ...string) *Authority {
		t.Helper()
		c.AWSNames = names
		a, err := OpenAuthority(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open(awsHost)
	root, cert := a.AWSNamesRootsPEM(), a.server.Load().aws.Leaf
	if again := open(awsHost); again.AWSNamesRootsPEM() != root || !again.server.Load().aws.Leaf.Equal(cert) {
		t.Error("a restart made something new")
	}
	more := open(awsHost, "iot.us-east-1.amazonaws.com")
	if err := handshake(t, more, root, forHost("iot.us-east-1.amazonaws.com")); err != nil || more.AWSNamesRootsPEM() != root {
		t.Errorf("one name more: %v", err)
	}
	if off := open(); off.server.Load().aws != nil {
		t.Error("still served after it was switched off")
	}
	if on := open(awsHost); on.AWSNamesRootsPEM() != root {
		t.Error("switched on again, it has another root")
	}
}

func TestTheRootForNamesOfAWSIsRotatedWithTheOthers(t *testing.T) {
	t.Parallel()
	a := openTest(t, withAWSNames)
	old := a.AWSNamesRootsPEM()
	if _, err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	both := a.AWSNamesRootsPEM()
	if count(both) != 2 || handshake(t, a, old, forHost(awsHost)) != nil {
		t.Errorf("during the rotation: %s", both)
	}
	if err := a.FinishRotation(t.Context()); err != nil {
		t.Fatal(err)
	}
	if handshake(t, a, old, forHost(awsHost)) == nil || handshake(t, a, both, forHost(awsHost)) != nil {
		t.Error("the new root is not in use")
	}
	if n, err := a.DropOldRoots(); err != nil || n != 2 || count(a.AWSNamesRootsPEM()) != 1 {
		t.Errorf("dropped %d, %v", n, err)
	}
}
