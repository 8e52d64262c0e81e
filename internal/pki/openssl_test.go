package pki

import (
	"crypto/elliptic"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A second opinion on chains and shapes, where the openssl command is installed: another implementation reads what we write.
func TestOpenSSLAcceptsOurChains(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed; crypto/x509 judges the same chains in the other tests")
		return
	}
	a := openTest(t, func(c *Config) { c.NoRSA = false })
	dir := t.TempDir()
	file := func(name string, texts ...string) string {
		return write(t, filepath.Join(dir, name), strings.Join(texts, ""), 0o600)
	}
	key := ecKey(t, elliptic.P256()).Public()
	claim, err := a.IssueClaim(rsaKey().Public(), fleet.RandomString(64, fleet.AlphaHex), testNow.Add(fleet.ClaimLifetime))
	if err != nil {
		t.Fatal(err)
	}
	roots, deviceRoots := file("roots.pem", a.RootsPEM()), file("device-roots.pem", a.pem(roleDeviceRoot))
	issuers := file("issuers.pem", a.pem(roleServer, roleServerRSA, roleDevice, roleClaim))
	server := a.server.Load()
	leaf := map[string]string{
		"device":     file("device.pem", issueDevice(t, a, key).PEM),
		"device-rsa": file("device-rsa.pem", issueDevice(t, a, rsaKey().Public()).PEM),
		"claim":      file("claim.pem", claim.PEM),
		"server":     file("server.pem", CertificatePEM(server.ecdsa.Certificate[0])),
		"server-rsa": file("server-rsa.pem", CertificatePEM(server.rsa.Certificate[0])),
	}
	for name, tc := range map[string]struct {
		args []string
		leaf string
		want bool
	}{
		"a device":               {[]string{"-CAfile", deviceRoots, "-purpose", "sslclient", "-x509_strict"}, "device", true},
		"a device with RSA":      {[]string{"-CAfile", deviceRoots, "-purpose", "sslclient", "-x509_strict"}, "device-rsa", true},
		"a claim":                {[]string{"-CAfile", deviceRoots, "-purpose", "sslclient"}, "claim", true},
		"a device as a server":   {[]string{"-CAfile", deviceRoots, "-purpose", "sslserver"}, "device", false},
		"a device, roots pinned": {[]string{"-CAfile", roots}, "device", false},
		"the server":             {[]string{"-CAfile", roots, "-purpose", "sslserver", "-x509_strict", "-verify_hostname", "iot.example.com"}, "server", true},
		"the server by address":  {[]string{"-CAfile", roots, "-purpose", "sslserver", "-x509_strict", "-verify_ip", "127.0.0.1"}, "server", true},
		"the server with RSA":    {[]string{"-CAfile", roots, "-purpose", "sslserver", "-x509_strict", "-verify_hostname", "localhost"}, "server-rsa", true},
		"the server as a client": {[]string{"-CAfile", roots, "-purpose", "sslclient"}, "server", false},
	} {
		args := append([]string{"verify", "-attime", strconv.FormatInt(testNow.Unix(), 10), "-no-CApath", "-no-CAstore", "-untrusted", issuers}, tc.args...)
		out, err := exec.CommandContext(t.Context(), openssl, append(args, leaf[tc.leaf])...).CombinedOutput()
		if (err == nil) != tc.want {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	out, err := exec.CommandContext(t.Context(), openssl, "x509", "-noout", "-text", "-nameopt", "sep_comma_plus_space,sname", "-in", leaf["device-rsa"]).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Version: 3 (0x2)", "Issuer: OU=Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US\n", "Subject: CN=AWS IoT Certificate\n",
		"Not After : Dec 31 23:59:59 2049 GMT", "Public-Key: (2048 bit)", "X509v3 Basic Constraints: critical", "CA:FALSE", "X509v3 Key Usage: critical", "Digital Signature\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("openssl does not show %q:\n%s", want, out)
		}
	}
}

// The requests that people make with openssl are taken.
func TestRequestsMadeWithOpenSSLAreTaken(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed; requests made with crypto/x509 are taken in the other tests")
		return
	}
	for name, args := range map[string][]string{
		"P-256":                {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=lamp"},
		"P-521 with SHA-512":   {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512", "-subj", "/O=Example/CN=lamp"},
		"RSA in the old form":  {"-newkey", "rsa:2048", "-newhdr", "-subj", "/CN=lamp"},
		"an empty subject":     {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/"},
		"requested extensions": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=lamp", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "subjectAltName=DNS:iot.example.com"},
		"with its text before": {"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=lamp", "-text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "csr.pem")
			args := append([]string{"req", "-new", "-nodes", "-keyout", os.DevNull, "-out", out}, args...)
			if text, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			csr, err := ParseCSR(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if (csr.Subject == nil) != (name == "an empty subject") {
				t.Errorf("subject is %x", csr.Subject)
			}
			cert := parseLeaf(t, issueFor(t, openTest(t, nil), csr).DER)
			if cert.IsCA || len(cert.DNSNames) > 0 || len(cert.Extensions) != 4 {
				t.Errorf("the certificate took extensions from the request: %v", cert.Extensions)
			}
		})
	}
}

func issueFor(t testing.TB, a *Authority, csr *CSR) *Leaf {
	t.Helper()
	l, err := a.IssueDevice(DeviceRequest{PublicKey: csr.PublicKey, Subject: csr.Subject})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
