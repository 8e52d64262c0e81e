package provision

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

func parse(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		t.Fatalf("no PEM: %q", text)
	}
	c, err := x509.ParseCertificate(b.Bytes)
	check(t, err)
	return c
}

func TestAClaimIsACertificateForFiveMinutes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	c, err := f.CreateClaim(t.Context(), installer, "lamps")
	check(t, err)
	if _, err := tls.X509KeyPair([]byte(c.CertificatePEM), []byte(c.PrivateKeyPEM.Reveal())); err != nil {
		t.Error(err)
	}
	cert := parse(t, c.CertificatePEM)
	if !cert.NotAfter.Equal(c.Expires) || c.Expires.Sub(f.Clock.Now()).Round(time.Minute) != 5*time.Minute || cert.Subject.CommonName != c.Subject || c.ID != fleet.CertificateID(cert.Raw) {
		t.Errorf("until %v, claim until %v, subject %s", cert.NotAfter, c.Expires, cert.Subject)
	}
	if !strings.HasPrefix(c.PrivateKeyPEM.Reveal(), "-----BEGIN RSA PRIVATE KEY-----\n") || !strings.HasPrefix(c.PublicKeyPEM, "-----BEGIN PUBLIC KEY-----\n") {
		t.Error("keys have another form than AWS's")
	}
	stored := view(f, func(tx *store.Tx) (fleet.Claim, error) { return tx.Claim(here, c.ID) })
	if stored.Installer != fleet.InstallerOf(installer) || stored.Template != "lamps" || !stored.Revoked.IsZero() {
		t.Errorf("stored %+v", stored)
	}
	if list := view(f, func(tx *store.Tx) ([]fleet.Certificate, error) {
		l, _, err := tx.Certificates(here, store.CertificateFilter{}, fleet.Page{})
		return l, err
	}); len(list) != 0 {
		t.Error("a claim is no registered certificate, and must not be listed")
	}
	found := view(f, func(tx *store.Tx) (store.ScopedClaim, error) { c, _, err := tx.ClaimByID(c.ID); return c, err })
	if found.Scope != here || found.ID != c.ID {
		t.Errorf("by fingerprint: %+v", found)
	}
}

func TestClaimsAreForEnabledFleetTemplates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, n := range map[string]NewTemplate{
		"never-said": {Body: lamps},
		"disabled":   {Body: lamps, Enabled: new(false)},
		"jitp":       {Body: `{"Resources":{}}`, Type: fleet.JITP, Enabled: new(true)},
	} {
		n.Name, n.RoleARN = name, role
		_, err := f.CreateTemplate(t.Context(), installer, n)
		check(t, err)
		if _, err := f.CreateClaim(t.Context(), installer, name); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.CreateClaim(t.Context(), installer, "nope"); fleet.KindOf(err) != fleet.KindNotFound {
		t.Error(err)
	}
}

func TestRefusedClaimsLeaveATrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Recorder = trace.NewRecorder(trace.RecorderConfig{Save: f.Store.SaveTraces})
	_, err := f.CreateClaim(t.Context(), installer, "nope")
	if err == nil {
		t.Fatal("made")
	}
	f.Recorder.Close()
	list := view(f, func(tx *store.Tx) ([]trace.Record, error) { return tx.Traces(here, "", 10) })
	if len(list) != 1 || list[0].Outcome != trace.Refused || list[0].Facts["template"] != "nope" {
		t.Errorf("%+v", list)
	}
}

func TestServerMadeKeysAreHandedOutOnceAndKeptNowhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	c, err := f.CreateKeysAndCertificate(t.Context(), r)
	check(t, err)
	if _, err := tls.X509KeyPair([]byte(c.PEM), []byte(c.PrivateKeyPEM.Reveal())); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(c.PrivateKeyPEM.Reveal(), "-----BEGIN RSA PRIVATE KEY-----\n") || strings.Contains(fmt.Sprintf("%v %+v %#v", c, c, *c), "RSA PRIVATE") {
		t.Error("the key has another form, or shows itself")
	}
	stored := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, c.ID) })
	o := stored.Origin
	if stored.Status != fleet.PendingActivation || o.ClaimID != r.PrincipalID || o.Requester != installer.ARN || o.Template != "lamps" || o.CSRHash != "" {
		t.Errorf("stored %+v", stored)
	}
	again, err := f.CreateKeysAndCertificate(t.Context(), f.again(r))
	if err != nil || again.ID == c.ID {
		t.Errorf("the second request got the same certificate: %v", err)
	}
}

func TestTheSameCSRGetsTheSameCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r, csr := f.bootstrap(), newCSR(t)
	var ids sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(c.ID, c)
		})
	}
	wg.Wait()
	n := 0
	var c *IssuedCertificate
	ids.Range(func(_, v any) bool { n++; c = v.(*IssuedCertificate); return true })
	if n != 1 {
		t.Fatalf("%d certificates", n)
	}
	if other, err := f.CreateCertificateFromCSR(t.Context(), f.bootstrap(), csr); err != nil || other.ID == c.ID {
		t.Errorf("another claim got the certificate: %v", err)
	}

	// A device that loses power after its registration, before it kept the answer, begins again.
	first, err := f.register(r, "lamps", c, "7")
	check(t, err)
	f.pass(30 * time.Minute)
	c2, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
	check(t, err)
	second, err := f.register(r, "lamps", c2, "7")
	if err != nil || c2.ID != c.ID || second.ThingName != first.ThingName {
		t.Errorf("after the cut: %v, %+v", err, second)
	}
	f.pass(time.Hour)
	if c3, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr); err != nil || c3.ID == c.ID {
		t.Errorf("after the hour: %v", err)
	}
}

func TestBadRequestsForCertificates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	for _, csr := range []string{"", "x", strings.Repeat("x", 5000)} {
		_, err := f.CreateCertificateFromCSR(t.Context(), r, csr)
		refused(t, err, CodeInvalidCSR)
	}
	f.pass(5*time.Minute + time.Second)
	_, err := f.CreateCertificateFromCSR(t.Context(), r, newCSR(t))
	if m := refused(t, err, CodeAccessDenied); !strings.Contains(m, "expired") {
		t.Error(m)
	}
	unknown := r
	unknown.PrincipalID = strings.Repeat("0", 64)
	_, err = f.CreateCertificateFromCSR(t.Context(), unknown, newCSR(t))
	refused(t, err, CodeAccessDenied)
	for _, id := range []string{"", "us-east-1:11111111-2222-3333-4444-555555555555", here.IoT("cert", r.PrincipalID)} {
		_, err = f.CreateCertificateFromCSR(t.Context(), Requester{Scope: here, PrincipalID: id}, newCSR(t))
		refused(t, err, CodeAccessDenied)
	}
}

func TestAClaimLeavesOnlySoManyCertificatesPending(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Limits.PendingPerClaim = 2
	f.template("lamps", lamps)
	r := f.claim("lamps")
	f.certificate(r)
	csr := newCSR(t)
	c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
	check(t, err)
	_, err = f.CreateCertificateFromCSR(t.Context(), f.again(r), newCSR(t))
	if status, _, _ := Refusal(err); status != 429 {
		t.Errorf("got %v", err)
	}
	if _, err := f.CreateKeysAndCertificate(t.Context(), f.again(r)); fleet.KindOf(err) != fleet.KindThrottled {
		t.Errorf("with a key of ours: %v", err)
	}
	// A device that lost power asks for the certificate that it has got.
	again, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
	if err != nil || again.ID != c.ID {
		t.Fatalf("the same request again: %v", err)
	}
	_, err = f.register(r, "lamps", again, "7")
	check(t, err)
	f.certificate(r)
}

func TestSweepTakesWhatNobodyRegistered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.bootstrap()
	lost, used := f.certificate(r), f.certificate(r)
	_, err := f.register(r, "lamps", used, "7")
	check(t, err)
	claim := f.claim("lamps")
	f.pass(59 * time.Minute)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	f.status(lost.ID)
	f.pass(2 * time.Minute)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	err = f.Store.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Certificate(here, lost.ID); return err })
	if err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("the lost certificate: %v", err)
	}
	if f.status(used.ID) != fleet.Active {
		t.Error("the used certificate suffered")
	}
	if reg, found := registration2(f, used.ID); !found || reg.Configuration != nil || reg.Thing != "lamp-7" || !reg.ReplayUntil.IsZero() {
		t.Errorf("registration %+v", reg)
	}
	view(f, func(tx *store.Tx) (fleet.Claim, error) { return tx.Claim(here, claim.PrincipalID) })
	f.pass(31 * 24 * time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	err = f.Store.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Claim(here, claim.PrincipalID); return err })
	if err == nil {
		t.Error("claims are kept for ever")
	}
}

func TestCheckClaimSeesWhatHappenedSince(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", lamps)
	r := f.claim("lamps")
	check(t, f.CheckClaim(t.Context(), here, r.PrincipalID))
	f.iam.refuse("fired")
	if err := f.CheckClaim(t.Context(), here, r.PrincipalID); err == nil || fleet.KindOf(err) != fleet.KindDenied {
		t.Errorf("a fired installer: %v", err)
	}
	f.iam.refuse()
	if err := f.CheckClaim(t.Context(), fleet.Scope{Account: "111111111111", Region: here.Region}, r.PrincipalID); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("in another account: %v", err)
	}
	check(t, f.DeleteTemplate(t.Context(), here, "lamps"))
	f.pass(time.Second)
	f.template("lamps", lamps)
	if err := f.CheckClaim(t.Context(), here, r.PrincipalID); err == nil || fleet.KindOf(err) != fleet.KindDenied {
		t.Errorf("a template of the same name revived the claim: %v", err)
	}
}

func FuzzOpenToken(f *testing.F) {
	p := New(Config{Sealer: pki.NewSealer([32]byte{1})})
	r := Requester{Scope: here, PrincipalID: strings.Repeat("cd", 32)}
	f.Add(p.mintToken(r, strings.Repeat("ab", 32), "lamps", time.Unix(1, 0)).Reveal())
	f.Add("AAAA")
	other := Requester{Scope: here, PrincipalID: strings.Repeat("ef", 32)}
	f.Add(p.mintToken(other, strings.Repeat("ab", 32), "lamps", time.Now().Add(time.Hour)).Reveal())
	f.Add(base64.StdEncoding.EncodeToString(p.Sealer.Seal(tokenPurpose, []byte("short"), []byte(here.String()))))
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := p.openToken(r, token); err == nil {
			t.Error("a made-up token opened")
		} else {
			refused(t, onMQTT(err), CodeInvalidToken)
		}
	})
}

// The token's layout is ours to read back, for every template name and time.
func TestTokensReadBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := strings.Repeat("ab", 32)
	for _, name := range []string{"", "x", strings.Repeat("y", 36)} {
		r := Requester{Scope: here, PrincipalID: strings.Repeat("cd", 32), IsClaim: name != ""}
		expires := f.Clock.Now().Add(time.Minute).Truncate(time.Second)
		o, err := f.openToken(r, f.mintToken(r, id, name, expires).Reveal())
		if err != nil || o.certificate != id || o.template != name || !o.expires.Equal(expires) || hex.EncodeToString(o.principal[:]) == r.PrincipalID {
			t.Errorf("%q: %+v, %v", name, o, err)
		}
	}
}
