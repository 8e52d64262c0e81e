package compat

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// hooked gives the world's template a function as its hook, by the SDK.
func (w *world) hooked(t *testing.T, function string) {
	t.Helper()
	_, err := w.admin.iot.UpdateProvisioningTemplate(t.Context(), &iot.UpdateProvisioningTemplateInput{TemplateName: &w.template,
		PreProvisioningHook: &types.ProvisioningHook{PayloadVersion: aws.String("2020-04-01"), TargetArn: aws.String(functionARN(w.region, function))}})
	check(t, err)
}

func functionARN(region, name string) string {
	return "arn:aws:lambda:" + region + ":" + account + ":function:" + name
}

// ask provisions a device with a claim of its own.
func (w *world) ask(t *testing.T, as *sdk, serial string) (registered, rejected, bool) {
	t.Helper()
	v := variant{csr: true, format: "json", mqtt5: true}
	c := w.claim(t, as)
	d := v.dial(t, w.site, "device-"+fleet.RandomString(8, fleet.AlphaLowerDigit), c.cert, c.key)
	defer d.close()
	return v.register(t, d, w.template, v.create(t, d).Token, object{"SerialNumber": serial})
}

func (r registered) name() string { return aws.ToString(r.ThingName) }

// serverPair makes a certificate for 127.0.0.1 that is its own root.
func serverPair(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(t, err)
	return writePair(t, dir, "hook", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})))
}

// pythonBlock is the first Python of a section of docs/hooks.md.
func pythonBlock(t *testing.T, section string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "hooks.md"))
	check(t, err)
	_, rest, found := strings.Cut(string(page), "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	_, rest, begun := strings.Cut(rest, "```python\n")
	code, _, closed := strings.Cut(rest, "```")
	if !found || !begun || !closed {
		t.Fatalf("docs/hooks.md has no Python under %q", section)
	}
	return code
}

// receiver runs the page's receiver and returns its URL.
func receiver(t *testing.T, secret, certFile, keyFile string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "python3", "-c", pythonBlock(t, "A webhook"))
	cmd.Env = append(os.Environ(), "HOOK_SECRET="+secret, "PORT=0", "CERTIFICATE="+certFile, "KEY="+keyFile)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	port, err := bufio.NewReader(out).ReadString('\n')
	check(t, err)
	return "https://127.0.0.1:" + strings.TrimSpace(port)
}

func TestAWebhookDecides(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := serverPair(t, dir)
	s := ownServer(t, "--egress-allow", "127.0.0.1", "--egress-ca", certFile)
	w := newWorld(t, s, "webhook")
	ida := w.installerSDK(t)
	const secret = "a secret of thirty-two characters"
	secretFile := filepath.Join(dir, "secret")
	check(t, os.WriteFile(secretFile, []byte(secret+"\n"), 0o600))

	// A template can't name what nobody registered.
	_, err := w.admin.iot.UpdateProvisioningTemplate(t.Context(), &iot.UpdateProvisioningTemplateInput{TemplateName: &w.template,
		PreProvisioningHook: &types.ProvisioningHook{TargetArn: aws.String(functionARN(w.region, "check"))}})
	refused(t, err, "InvalidRequestException", "imprint function put check")

	put := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"function", "put", "check"}, args...)...)
	}
	url := receiver(t, secret, certFile, keyFile)
	if out := put("--webhook", url+"/provision", "--secret-file", secretFile); out != "ARN="+functionARN(w.region, "check")+"\n" {
		t.Fatalf("function put printed %q", out)
	}
	w.hooked(t, "check")
	if got, no, ok := w.ask(t, ida, "L-1"); !ok || got.name() != w.thing("1") {
		t.Fatalf("allowed, with an override: %+v, %+v", got, no)
	}
	_, no, ok := w.ask(t, ida, "X-2")
	if ok || no.StatusCode != 403 || no.ErrorCode != "AccessDenied" {
		t.Fatalf("denied: %v %+v", ok, no)
	}
	if out := s.run(t, dir, nil, imprint(), "explain", no.TraceID); !strings.Contains(out, "did not allow") || !strings.Contains(out, "webhook check at "+url) || strings.Contains(out, "X-2") {
		t.Errorf("explain says\n%s", out)
	}
	if list := s.run(t, dir, nil, imprint(), "function", "list"); !strings.HasPrefix(list, "check  webhook  5s  "+url) || strings.Contains(list, secret) {
		t.Errorf("listed %q", list)
	}

	// Requests that this server did not sign are refused by the receiver: the secret has changed, at this end only.
	if out := put("--webhook", url); out != "ARN="+functionARN(w.region, "check")+"\n" {
		t.Fatalf("a secret is kept: %q", out)
	}
	check(t, os.WriteFile(secretFile, []byte("another secret of some length"), 0o600))
	put("--webhook", url, "--secret-file", secretFile)
	_, no, ok = w.ask(t, ida, "L-3")
	if ok || no.StatusCode != 403 {
		t.Fatalf("a wrong signature: %v %+v", ok, no)
	}
	if out := s.run(t, dir, nil, imprint(), "explain", no.TraceID); !strings.Contains(out, "401") {
		t.Errorf("explain says\n%s", out)
	}
}

func TestWhatChangesWhileAWebhookThinksCounts(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--egress-allow", "127.0.0.1")
	w := newWorld(t, s, "think")
	ida := w.installerSDK(t)
	asked, allow := make(chan string, 1), make(chan bool)
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- string(body)
		fmt.Fprintf(rw, `{"allowProvisioning":%v}`, <-allow)
	}))
	t.Cleanup(hook.Close)
	out := s.run(t, t.TempDir(), nil, imprint(), "function", "put", "slow", "--webhook", hook.URL, "--timeout", "10s")
	if !strings.Contains(out, "SECRET=") {
		t.Fatalf("a secret is made: %q", out)
	}
	w.hooked(t, "slow")
	v := variant{csr: true, format: "cbor"}
	c := w.claim(t, ida)
	d := v.dial(t, s, "thinker", c.cert, c.key)
	defer d.close()
	cert := v.create(t, d)
	topic := registerTopic(w.template, v.format)
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, v.encode(t, object{"certificateOwnershipToken": cert.Token, "parameters": object{"SerialNumber": "1"}}))
	event := must[object](t, <-asked)
	if event["clientId"] != "thinker" || event["certificateId"] != cert.CertificateID || event["claimCertificateId"] != c.id || event["certificatePem"] != cert.CertificatePEM ||
		event["templateArn"] != w.iotARN("provisioningtemplate/"+w.template) || fmt.Sprint(event["parameters"]) != "map[SerialNumber:1]" {
		t.Errorf("the event is %v", event)
	}
	// Nothing is locked meanwhile, and the connection is not held up.
	d.subscribe(t, v.createTopic()+"/rejected")
	_, err := w.admin.iot.UpdateProvisioningTemplate(t.Context(), &iot.UpdateProvisioningTemplateInput{TemplateName: &w.template, RemovePreProvisioningHook: aws.Bool(true)})
	check(t, err)
	allow <- true
	var no rejected
	from, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
	v.decode(t, answer, &no)
	if from != topic+"/rejected" || no.StatusCode != 409 || no.ErrorCode != "ResourceConflict" || !strings.Contains(no.ErrorMessage, "got another hook meanwhile") {
		t.Errorf("the template lost its hook meanwhile: %s %+v", from, no)
	}
	_, err = w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String(w.thing("1"))})
	refused(t, err, "ResourceNotFoundException")
}

// listed is how many serial numbers the allow-list of the test has.
const listed = 100_000

func TestARuleAsksAListOfSerialNumbers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "rule")
	s, dir := w.site, t.TempDir()
	var csv strings.Builder
	csv.WriteString("\ufeffmodel,serial number\r\n")
	for i := range listed {
		fmt.Fprintf(&csv, "\"lamp, white\",L-%06d\r\n", i)
	}
	file := filepath.Join(dir, "shipped.csv")
	check(t, os.WriteFile(file, []byte(csv.String()), 0o600))
	table, function := w.prefix+"-serials", w.prefix+"-shipped"
	verb := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), args...)
	}
	start := time.Now()
	if out := verb("table", "put", table, "--csv", file, "--column", "serial number"); out != fmt.Sprintf("%d keys, %[1]d of them new in %s\n", listed, table) {
		t.Fatalf("table put printed %q", out)
	}
	t.Logf("%d keys in %v", listed, time.Since(start))
	if out := verb("table", "put", table, "L-000007", "extra"); out != "2 keys, 1 of them new in "+table+"\n" {
		t.Errorf("table put printed %q", out)
	}
	if out := verb("table", "list"); !strings.Contains(out, fmt.Sprintf("%s  %d keys\n", table, listed+1)) {
		t.Errorf("table list printed %q", out)
	}
	verb("function", "put", function, "--rule", "in_table('"+table+"', SerialNumber)")
	w.hooked(t, function)
	ida := w.installerSDK(t)
	if got, no, ok := w.ask(t, ida, "L-099999"); !ok || got.name() != w.thing("L-099999") {
		t.Fatalf("a listed serial: %+v, %+v", got, no)
	}
	_, no, ok := w.ask(t, ida, "L-100000")
	if ok || no.StatusCode != 403 || no.ErrorCode != "AccessDenied" {
		t.Fatalf("an unlisted serial: %v %+v", ok, no)
	}
	if out := verb("explain", "L-100000"); !strings.Contains(out, "imprint table put "+table+" VALUE, with the value of SerialNumber") || strings.Contains(out, "lacks the value of L-") {
		t.Errorf("explain says\n%s", out)
	}
	verb("table", "delete", table, "L-099998")
	if _, _, ok := w.ask(t, ida, "L-099998"); ok {
		t.Error("a serial that was taken out is let in")
	}
	verb("table", "delete", table)
	if _, _, ok := w.ask(t, ida, "L-000001"); ok {
		t.Error("without its table a rule lets a device in")
	}
	if out, err := s.try(t, dir, nil, imprint(), "table", "put", table, "--csv", file, "--column", "serial"); err == nil || !strings.Contains(out, "no column serial: it has model, serial number") {
		t.Errorf("a wrong column: %v, %s", err, out)
	}
}
