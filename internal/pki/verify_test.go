package pki

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestAVerdictSaysWhoseACertificateIsAndWhy(t *testing.T) {
	t.Parallel()
	a, other := openTest(t, nil), openTest(t, nil)
	key := ecKey(t, elliptic.P256()).Public()
	device := issueDevice(t, a, key)
	foreign := issueDevice(t, other, key)
	claim, err := a.IssueClaim(key, fleet.RandomString(64, fleet.AlphaHex), testNow.Add(fleet.ClaimLifetime))
	if err != nil {
		t.Fatal(err)
	}
	changed := append([]byte(nil), device.DER...)
	changed[len(changed)-1] ^= 1
	for name, tc := range map[string]struct {
		der    []byte
		at     time.Duration
		want   Verdict
		reason string
	}{
		"a device":                     {device.DER, 0, Verdict{Kind: DeviceLeaf, Valid: true}, "signed by our device issuer and is valid until 2049-12-31T23:59:59Z"},
		"a claim":                      {claim.DER, 5 * time.Minute, Verdict{Kind: ClaimLeaf, Valid: true}, "signed by our claim issuer and is valid until 2026-11-21T12:05:00Z"},
		"a claim a second too late":    {claim.DER, 5*time.Minute + time.Second, Verdict{Kind: ClaimLeaf}, "the claim certificate expired at 2026-11-21T12:05:00Z, 1s before the server's time"},
		"a claim with the clock wrong": {claim.DER, -time.Hour, Verdict{Kind: ClaimLeaf}, "58m0s after the server's time: check the server's clock"},
		"a device of elsewhere":        {foreign.DER, 0, Verdict{Kind: UnknownLeaf}, "comes from another installation or is forged"},
		"a changed certificate":        {changed, 0, Verdict{Kind: UnknownLeaf}, "is forged"},
		"the server's certificate":     {a.server.Load().ecdsa.Certificate[0], 0, Verdict{Kind: UnknownLeaf}, "none of our issuers"},
		"no certificate":               {[]byte("junk"), 0, Verdict{Kind: UnknownLeaf}, "cannot be parsed"},
	} {
		got := a.VerifyLeaf(tc.der, testNow.Add(tc.at))
		if got.Kind != tc.want.Kind || got.Valid != tc.want.Valid || !strings.Contains(got.Reason, tc.reason) {
			t.Errorf("%s: %+v; want %q", name, got, tc.reason)
		}
	}
}

func issueDevice(t testing.TB, a *Authority, key crypto.PublicKey) *Leaf {
	t.Helper()
	l, err := a.IssueDevice(DeviceRequest{PublicKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What an issuer signs must serve its purpose and no other, by the standard library's judgement.
func TestIssuersAreHeldToTheirPurpose(t *testing.T) {
	t.Parallel()
	a := openTest(t, nil)
	key := ecKey(t, elliptic.P256()).Public()
	device := parseLeaf(t, issueDevice(t, a, key).DER)
	claimLeaf, err := a.IssueClaim(key, fleet.RandomString(64, fleet.AlphaHex), testNow.Add(fleet.ClaimLifetime))
	if err != nil {
		t.Fatal(err)
	}
	claim := parseLeaf(t, claimLeaf.DER)
	below := func(roots string) *x509.CertPool {
		p := x509.NewCertPool()
		p.AppendCertsFromPEM([]byte(roots))
		return p
	}
	issuers := x509.NewCertPool()
	for _, c := range a.all() {
		issuers.AddCert(c.cert)
	}
	client, server := x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for name, tc := range map[string]struct {
		cert  *x509.Certificate
		roots *x509.CertPool
		usage x509.ExtKeyUsage
		want  bool
	}{
		"a device as a client":              {device, a.DevicePool(), client, true},
		"a device as a server":              {device, a.DevicePool(), server, false},
		"a device as a claim":               {device, a.ClaimPool(), client, false},
		"a claim as a client":               {claim, a.ClaimPool(), client, true},
		"a claim as a device":               {claim, a.DevicePool(), client, false},
		"a device below the device root":    {device, below(a.DeviceRootsPEM()), client, true},
		"a device below the pinned roots":   {device, below(a.RootsPEM()), client, false},
		"the server below the pinned roots": {a.server.Load().ecdsa.Leaf, below(a.RootsPEM()), server, true},
		"the server as a client":            {a.server.Load().ecdsa.Leaf, below(a.RootsPEM()), client, false},
		"the server as a device":            {a.server.Load().ecdsa.Leaf, a.DevicePool(), server, false},
	} {
		_, err := tc.cert.Verify(x509.VerifyOptions{Roots: tc.roots, Intermediates: issuers, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{tc.usage}})
		if (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
