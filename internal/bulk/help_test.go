package bulk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

var (
	here  = fleet.Scope{Account: "000000000000", Region: "us-east-1"}
	admin = &fleet.Caller{Scope: here, Kind: fleet.Root, ARN: here.IAM("root")}
	role  = here.IAM("role/bulk")
)

const trust = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`

// lamps is a template like AWS's example for bulk registration.
const lamps = `{"Parameters": {"ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"}, "CSR": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}, "AttributePayload": {"serial": {"Ref": "SerialNumber"}}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}}}}`

// A plant is a service at work, with a bucket plant, a role and a policy lamp.
type plant struct {
	*Service
	t        testing.TB
	registry *registry.Service
	postgres bool
}

func newPlant(t testing.TB, change func(*store.Config)) *plant {
	t.Helper()
	p := &plant{t: t}
	c := store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t)}
	if change != nil {
		change(&c)
	}
	p.postgres = c.URL != ""
	db, err := store.Open(t.Context(), c)
	check(t, err)
	t.Cleanup(func() { check(t, db.Close()) })
	ca, err := pki.OpenAuthority(t.Context(), pki.Config{Dir: t.TempDir(), Keys: pki.NewMemoryKeys(), NoRSA: true})
	check(t, err)
	may := iam.New(iam.Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1})})
	_, err = may.CreateRole(t.Context(), here, iam.Entity{Name: "bulk", Path: "/", Body: iam.Body{Trust: trust}})
	check(t, err)
	check(t, may.Attach(t.Context(), here, store.IAMRole, "bulk", "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"))
	check(t, may.PutInline(t.Context(), here, store.IAMRole, "bulk", "input", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::plant/*"}}`))
	folder, err := bucket.NewFolder(bucket.FolderConfig{Dir: t.TempDir(), Home: here})
	check(t, err)
	check(t, folder.CreateBucket(t.Context(), here, "plant"))
	p.registry = registry.New(registry.Config{Store: db, Authority: ca})
	check(t, db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := registry.CreatePolicy(tx, here, "lamp", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}`, nil)
		return err
	}))
	p.Service = New(Config{Store: db, Provision: provision.New(provision.Config{Store: db, Authority: ca, Sealer: pki.NewSealer([32]byte{1}), Permissions: may}), Permissions: may,
		Objects: folder, Folder: folder, Link: func(_ fleet.Scope, key string) (string, error) { return key, nil }, Log: slog.New(slog.DiscardHandler)})
	return p
}

// start puts lines into the bucket and begins a task.
func (p *plant) start(body string, lines ...string) (id string) {
	p.t.Helper()
	_, err := p.Folder.Put(p.t.Context(), here, "plant", "lines", strings.NewReader(strings.Join(lines, "\n")), bucket.PutOptions{})
	check(p.t, err)
	id, err = p.Start(p.t.Context(), admin, NewTask{Body: body, Bucket: "plant", Key: "lines", Role: role})
	check(p.t, err)
	return id
}

func (p *plant) task(id string) (t store.RegistrationTask) {
	p.t.Helper()
	check(p.t, p.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		t, err = tx.RegistrationTask(here, id)
		return err
	}))
	return t
}

// finish does what a task has left.
func (p *plant) finish(id string) store.RegistrationTask {
	p.t.Helper()
	p.work(p.t.Context(), store.ScopedTask{Scope: here, ID: id})
	return p.task(id)
}

func (p *plant) certificate(id string) (c fleet.Certificate) {
	p.t.Helper()
	check(p.t, p.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		c, err = tx.Certificate(here, id)
		return err
	}))
	return c
}

// reported reads a report.
func (p *plant) reported(id, kind string) (list []outcomeRead) {
	p.t.Helper()
	_, in, err := p.Folder.Open(p.t.Context(), here, bucket.Reports, id+reports[kind], 0)
	check(p.t, err)
	defer in.Close()
	text, err := io.ReadAll(in)
	check(p.t, err)
	for line := range strings.Lines(string(text)) {
		var o outcomeRead
		check(p.t, json.Unmarshal([]byte(line), &o))
		list = append(list, o)
	}
	return list
}

type outcomeRead struct {
	LineNumber int64
	Response   struct {
		CertificatePem string
		ResourceArns   map[string]string
		Error          struct{ Code, Message string }
	}
}

func line(t testing.TB, params map[string]string) string {
	t.Helper()
	text, err := json.Marshal(params)
	check(t, err)
	return string(text)
}

func newCSR(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp"}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// A testCA is a customer's.
type testCA struct {
	pem  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A signedCertificate is one that a CA has signed.
type signedCertificate struct{ id, pem string }

func newCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Plant CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return &testCA{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), cert, key}
}

func (c *testCA) sign(t testing.TB) signedCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "lamp"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}, c.cert, &key.PublicKey, c.key)
	check(t, err)
	return signedCertificate{fleet.CertificateID(der), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
