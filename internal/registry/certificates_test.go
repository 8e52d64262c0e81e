package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestStatusesOfCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, s := range []fleet.CertificateStatus{fleet.Active, fleet.Inactive, fleet.Revoked, fleet.PendingActivation, fleet.PendingTransfer} {
		w.certificate(here, string(s), s)
	}
	for _, c := range []struct {
		from, to fleet.CertificateStatus
		want     string
	}{
		{fleet.Active, fleet.Inactive, ""}, {fleet.Active, fleet.Revoked, ""}, {fleet.Active, fleet.Active, ""},
		{fleet.Inactive, fleet.Active, ""}, {fleet.Inactive, fleet.Revoked, ""},
		{fleet.PendingActivation, fleet.Active, ""}, {fleet.PendingActivation, fleet.Inactive, ""}, {fleet.PendingActivation, fleet.Revoked, ""},
		{fleet.Revoked, fleet.Active, "wrong state"}, {fleet.Revoked, fleet.Inactive, "wrong state"}, {fleet.Revoked, fleet.Revoked, ""},
		{fleet.PendingTransfer, fleet.Active, "wrong state"},
		{fleet.Active, fleet.PendingActivation, "invalid"}, {fleet.Active, fleet.PendingTransfer, "invalid"}, {fleet.Active, fleet.RegisterInactive, "invalid"},
		{"NONE", fleet.Active, "not found"},
	} {
		t.Run(string(c.from+" to "+c.to), func(t *testing.T) {
			err := undone(w, func(tx *store.Tx) error {
				if err := SetCertificateStatus(tx, here, string(c.from), c.to); err != nil {
					return err
				}
				got, err := tx.Certificate(here, string(c.from))
				version := int64(2)
				if c.from == c.to {
					version = 1
				}
				if err == nil && (got.Status != c.to || got.Version != version || !got.Origin.Expires.IsZero()) {
					t.Errorf("became %+v", got)
				}
				return err
			})
			refused(t, err, c.want)
		})
	}
}

func TestDeletingCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificate(here, "active", fleet.Active)
	idle := w.certificate(here, "idle", fleet.Inactive)
	w.certificate(here, "moving", fleet.PendingTransfer)
	w.do(func(tx *store.Tx) error {
		if _, err := CreatePolicy(tx, here, "p", document, nil); err != nil {
			return err
		}
		_, err := CreateThing(tx, here, ThingSpec{Name: "a"})
		return err
	})
	remove := func(id string, force bool, before ...func(*store.Tx) error) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			for _, f := range before {
				if err := f(tx); err != nil {
					t.Fatal(err)
				}
			}
			return DeleteCertificate(tx, here, id, force)
		}
	}
	policy := func(tx *store.Tx) error { return AttachPolicy(tx, here, "p", idle) }
	thing := func(tx *store.Tx) error { return AttachPrincipal(tx, here, "a", idle, "") }
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
		text string
	}{
		{"an active one", remove("active", true), "wrong state", "Certificate must be deactivated (not ACTIVE) before deletion. Id: active"},
		{"one being transferred", remove("moving", true), "wrong state", ""},
		{"an idle one", remove("idle", false), "", ""},
		{"one with a policy", remove("idle", false, policy), "in use", "Certificate policies must be detached before deletion (arn: " + idle + ")"},
		{"one with a policy by force", remove("idle", true, policy), "", ""},
		{"one with a thing", remove("idle", false, thing), "in use", "Things must be detached before deletion (arn: " + idle + ")"},
		{"one with a thing by force", remove("idle", true, thing), "in use", "Things must be detached before deletion (arn: " + idle + ")"},
		{"none", remove("none", false), "not found", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := undone(w, c.act)
			refused(t, err, c.want)
			if c.text != "" && (err == nil || err.Error() != c.text) {
				t.Errorf("text %q, want %q", err, c.text)
			}
		})
	}
	t.Run("force takes the policy's attachment along", func(t *testing.T) {
		err := undone(w, func(tx *store.Tx) error {
			if err := remove("idle", true, policy)(tx); err != nil {
				return err
			}
			return DeletePolicy(tx, here, "p")
		})
		refused(t, err, "")
	})
}

func TestIssuedCertificatesAreStoredAsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withKeys()
	made, err := w.CreateKeysAndCertificate(t.Context(), here, true)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.PrivateKeyPEM.Reveal(), "-----BEGIN RSA PRIVATE KEY-----\n") || !strings.HasPrefix(made.PublicKeyPEM, "-----BEGIN PUBLIC KEY-----\n") {
		t.Errorf("keys %s %s", made.PublicKeyPEM, made.PrivateKeyPEM)
	}
	if leaf := parse(t, made.PEM); fleet.CertificateID(leaf.Raw) != made.ID || leaf.Subject.CommonName != "AWS IoT Certificate" {
		t.Errorf("id %s, subject %s", made.ID, leaf.Subject)
	}
	request := csr(t, "pump 7")
	first, err := w.CreateCertificateFromCSR(t.Context(), here, request, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.CreateCertificateFromCSR(t.Context(), here, request, false)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID == second.ID || parse(t, first.PEM).Subject.CommonName != "pump 7" {
		t.Errorf("the same request gave %s, then %s", first.ID, second.ID)
	}
	for id, want := range map[string]fleet.CertificateStatus{made.ID: fleet.Active, first.ID: fleet.Inactive} {
		w.do(func(tx *store.Tx) error {
			c, err := tx.Certificate(here, id)
			if err == nil && (c.Status != want || c.Version != 1 || c.Mode != fleet.ModeDefault || c.NotAfter.Year() != 2049) {
				t.Errorf("stored %+v", c)
			}
			return err
		})
	}
	_, err = w.CreateCertificateFromCSR(t.Context(), here, "nonsense", false)
	refused(t, err, "invalid")
}

func TestRegisteringWithoutCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := selfSigned(t)
	register := func(text string, status fleet.CertificateStatus) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := RegisterWithoutCA(tx, here, text, status); return err }
	}
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"inactive by default", register(good, ""), ""},
		{"revoked at once", register(good, fleet.Revoked), ""},
		{"a status that cannot be asked for", register(good, fleet.PendingActivation), "invalid"},
		{"no certificate", register("-----BEGIN NOTHING-----", ""), "invalid"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	w.do(func(tx *store.Tx) error {
		c, err := RegisterWithoutCA(tx, here, good, fleet.Active)
		if err == nil && (c.Mode != fleet.ModeSNIOnly || c.Status != fleet.Active || c.ID != fleet.CertificateID(parse(t, good).Raw)) {
			t.Errorf("registered %+v", c)
		}
		return err
	})
	err := w.try(register(good, ""))
	refused(t, err, "exists")
	if err.Error() != "The certificate is already provisioned or registered" || err.(*fleet.Error).Details["resourceArn"] == "" {
		t.Errorf("refusal %+v", err)
	}
	w.do(func(tx *store.Tx) error { _, err := RegisterWithoutCA(tx, there, good, ""); return err }) // another account may
	w.do(func(tx *store.Tx) error {
		all, err := tx.CertificatesByID(fleet.CertificateID(parse(t, good).Raw))
		if len(all) != 2 || all[0].Scope != here || all[1].Scope != there {
			t.Errorf("registrations %+v", all)
		}
		return err
	})
}

func parse(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM: %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func csr(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "own"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	return b.String()
}
