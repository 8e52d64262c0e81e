package device

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"
)

// A cloud is the other side, in memory: it issues claims and certificates, and registers things, by the rules that the device
// relies on. A CSR repeated by the same claim gets its pending certificate again; a spent token replays its answer.
// It is a service by itself; fakeBroker puts it behind TLS and MQTT.
type cloud struct {
	now func() time.Time
	key *ecdsa.PrivateKey

	mu           sync.Mutex
	claims       map[string]bool // by certificate id: alive
	certificates map[string]*cloudCertificate
	byCSR        map[string]*cloudCertificate
	tokens       map[string]*cloudCertificate
	things       map[string]string // name → certificate id
	takeOver     bool              // a thing may get another certificate
	busy         int               // so many CSRs are throttled
	confirmed    []string          // certificate ids that connected
	lastClientID string
	serial       int64
}

type cloudCertificate struct {
	id, pem, token, claim string
	active                bool
	parameters            map[string]string
	thing                 string
}

// The template of the cloud makes a thing named by this parameter, and this configuration.
const (
	testTemplate = "lamp"
	serialNumber = "SerialNumber"
	testThing    = "lamp-1"
)

var (
	testParameters    = map[string]string{serialNumber: testThing}
	testConfiguration = map[string]string{"site": "plant 7", "url": "https://example.org/?a=b"}
	epoch             = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
)

func newCloud(t testing.TB) *cloud {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &cloud{now: func() time.Time { return epoch }, key: key, claims: map[string]bool{}, certificates: map[string]*cloudCertificate{},
		byCSR: map[string]*cloudCertificate{}, tokens: map[string]*cloudCertificate{}, things: map[string]string{}}
}

// sign issues a certificate for a public key.
func (c *cloud) sign(name string, public crypto.PublicKey, from, until time.Time) []byte {
	c.serial++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(c.serial), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, public, c.key)
	if err != nil {
		panic(err)
	}
	return der
}

// newClaim makes a claim of five minutes, in the form in which the AWS CLI prints it.
func (c *cloud) newClaim(t testing.TB) *Claim {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	keyPEM, err := newKey(P256)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := parseKey(keyPEM)
	end := c.now().Add(5 * time.Minute)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.sign("claim", key.Public(), end.Add(-7*time.Minute), end)})
	text, err := json.Marshal(map[string]any{"certificateId": "x", "certificatePem": string(certPEM),
		"keyPair": map[string]string{"PublicKey": "x", "PrivateKey": string(keyPEM)}, "expiration": end.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := ParseClaim(text)
	if err != nil {
		t.Fatal(err)
	}
	c.claims[claim.ID()] = true
	return claim
}

func (c *cloud) kill(claim *Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[claim.ID()] = false
}

func (c *cloud) createFromCSR(claim, csrPEM string) (issued, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byCSR[claim+csrPEM]; known != nil {
		return issued{id: known.id, certificate: known.pem, token: known.token}, nil
	}
	if c.busy > 0 {
		c.busy--
		return issued{}, rejected(429, "Throttled", "slow down", "t-7")
	}
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil {
		return issued{}, rejected(400, "InvalidCertificateSigningRequest", "no PEM", "t-1")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return issued{}, rejected(400, "InvalidCertificateSigningRequest", "bad CSR", "t-2")
	}
	cert := c.issue(claim, csr.PublicKey)
	c.byCSR[claim+csrPEM] = cert
	return issued{id: cert.id, certificate: cert.pem, token: cert.token}, nil
}

// serverKey is one for all: making RSA keys takes time.
var serverKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func (c *cloud) createKeys(claim string) (issued, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.issue(claim, serverKey().Public())
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(serverKey())})
	return issued{id: cert.id, certificate: cert.pem, privateKey: string(keyPEM), token: cert.token}, nil
}

func (c *cloud) issue(claim string, public crypto.PublicKey) *cloudCertificate {
	der := c.sign("device", public, c.now().Add(-time.Minute), c.now().AddDate(20, 0, 0))
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	cert := &cloudCertificate{id: certificateID(leaf), pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), claim: claim}
	cert.token = "token of " + cert.id
	c.certificates[cert.id], c.tokens[cert.token] = cert, cert
	return cert
}

func (c *cloud) register(claim, template, token string, parameters map[string]string) (registered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.tokens[token]
	if cert == nil || cert.claim != claim || cert.active && !maps.Equal(cert.parameters, parameters) {
		return registered{}, rejected(400, "InvalidCertificateOwnershipToken", "the token is not valid", "t-3")
	}
	name, ok := parameters[serialNumber]
	switch {
	case !ok:
		return registered{}, rejected(400, "InvalidParameters", "Cannot resolve reference value: "+serialNumber, "t-4")
	case name == "stolen":
		return registered{}, rejected(403, "AccessDenied", "Access Denied", "t-5")
	case c.things[name] != "" && c.things[name] != cert.id && !c.takeOver:
		return registered{}, rejected(409, "ResourceConflict", "the thing belongs to another certificate", "t-6")
	}
	cert.active, cert.parameters, cert.thing = true, maps.Clone(parameters), name
	c.things[name] = cert.id
	return registered{thingName: name, configuration: testConfiguration}, nil
}

// issuedTo counts a claim's certificates: all, and those that were registered.
func (c *cloud) issuedTo(claim *Claim) (all, active int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cert := range c.certificates {
		if cert.claim == claim.ID() {
			all++
			if cert.active {
				active++
			}
		}
	}
	return all, active
}

// accepts reports whether a device may connect with a certificate.
func (c *cloud) accepts(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.certificates[id]
	return cert != nil && cert.active
}

func (c *cloud) hasConfirmed(claim *Claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.confirmed {
		if c.certificates[id].claim == claim.ID() {
			return true
		}
	}
	return false
}

// inMemory is the service without a network.
type inMemory struct{ *cloud }

var _ service = inMemory{}

func (m inMemory) open(_ context.Context, claim *Claim, s settings) (session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.claims[claim.ID()] {
		return nil, claimRefused("", errors.New("remote error: tls: expired certificate"))
	}
	return inMemorySession{m.cloud, claim.ID(), s}, nil
}

func (m inMemory) confirm(_ context.Context, id *Identity, _ settings) error {
	if !m.accepts(id.CertificateID) {
		return identityRefused("", errors.New("remote error: tls: bad certificate"))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.confirmed = append(m.confirmed, id.CertificateID)
	return nil
}

type inMemorySession struct {
	c     *cloud
	claim string
	s     settings
}

func (m inMemorySession) createFromCSR(_ context.Context, csr string) (issued, error) {
	return m.c.createFromCSR(m.claim, csr)
}
func (m inMemorySession) createKeys(context.Context) (issued, error) { return m.c.createKeys(m.claim) }
func (m inMemorySession) register(_ context.Context, template, token string, parameters map[string]string) (registered, error) {
	if template != testTemplate {
		return registered{}, fmt.Errorf("template %q", template)
	}
	return m.c.register(m.claim, template, token, parameters)
}
func (m inMemorySession) port() int { return m.s.Ports[0] }
func (m inMemorySession) close()    {}
