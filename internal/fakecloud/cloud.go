// Package fakecloud is the other side of provisioning for the tests of package device and of its command: a service in memory,
// and a broker that puts it behind TLS and MQTT. The broker's codecs are not those of the device, so that it is a witness.
// Begin with New and NewBroker. No program links it.
package fakecloud

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"sync"
	"testing"
	"time"
)

// The one template of the cloud makes a thing with the name that this parameter gives, and hands out Configuration. A thing
// called Stolen is refused.
const (
	Template     = "lamp"
	SerialNumber = "SerialNumber"
	Thing        = "lamp-1"
	Stolen       = "stolen"
)

// Parameters name Thing; Configuration is what comes with it.
var (
	Parameters    = map[string]string{SerialNumber: Thing}
	Configuration = map[string]string{"site": "plant 7", "url": "https://example.org/?a=b"}
)

// A Cloud issues claims and certificates and registers things, by the rules that a device relies on: a CSR repeated by the same
// claim gets its pending certificate again, and a spent token replays its answer.
type Cloud struct {
	Now      func() time.Time
	TakeOver bool // a thing may get another certificate
	Busy     int  // so many CSRs are throttled

	Life  time.Duration // of certificates; 0: twenty years
	Grace time.Duration // for how long expired certificates are accepted

	key          *ecdsa.PrivateKey
	mu           sync.Mutex
	claims       map[string]bool // by certificate id: alive
	certificates map[string]*certificate
	byCSR        map[string]*certificate
	tokens       map[string]*certificate
	things       map[string]string // name → certificate id
	connected    map[string]bool   // certificate ids that connected
	clientID     string
	serial       int64
}

type certificate struct {
	id, pem, token, claim string
	active                bool
	end                   time.Time
	predecessor           *certificate // goes when this one connects
	parameters            map[string]string
}

// Issued is the answer to a request for a certificate.
type Issued struct{ ID, Certificate, PrivateKey, Token string }

// A Rejection is a refusal as it stands on a rejected topic.
type Rejection struct {
	Status               int
	Code, Message, Trace string
}

func (r *Rejection) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Message) }

// New makes a cloud whose clock stands still.
func New(t testing.TB, now time.Time) *Cloud {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Cloud{Now: func() time.Time { return now }, key: key, claims: map[string]bool{}, certificates: map[string]*certificate{},
		byCSR: map[string]*certificate{}, tokens: map[string]*certificate{}, things: map[string]string{}, connected: map[string]bool{}}
}

// ID returns the certificate id of a certificate.
func ID(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

// sign issues a certificate for a public key.
func (c *Cloud) sign(name string, public crypto.PublicKey, from, until time.Time) []byte {
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

// Claim makes a claim of five minutes, in the form in which the AWS CLI prints it.
func (c *Cloud) Claim(t testing.TB) []byte {
	t.Helper()
	return c.ClaimFor(t, 5*time.Minute)
}

// ClaimFor makes a claim that lives for so long.
func (c *Cloud) ClaimFor(t testing.TB, life time.Duration) []byte {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	end := c.Now().Add(life)
	der := c.sign("claim", key.Public(), c.Now().Add(-2*time.Minute), end)
	text, err := json.Marshal(map[string]any{"certificateId": ID(der), "certificatePem": pemText("CERTIFICATE", der),
		"keyPair": map[string]string{"PublicKey": "x", "PrivateKey": pemText("EC PRIVATE KEY", keyDER)}, "expiration": end.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	c.claims[ID(der)] = true
	return text
}

func pemText(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Kill ends a claim.
func (c *Cloud) Kill(claim string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims[claim] = false
}

// Alive reports whether a claim may be used.
func (c *Cloud) Alive(claim string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims[claim]
}

// CreateFromCSR issues a certificate for a CSR, the same one for the same CSR. The error is a *Rejection.
func (c *Cloud) CreateFromCSR(claim, csrPEM string) (Issued, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.byCSR[claim+csrPEM]; known != nil {
		return Issued{ID: known.id, Certificate: known.pem, Token: known.token}, nil
	}
	if c.Busy > 0 {
		c.Busy--
		return Issued{}, &Rejection{429, "Throttled", "slow down", "t-7"}
	}
	block, _ := pem.Decode([]byte(csrPEM))
	if block == nil {
		return Issued{}, &Rejection{400, "InvalidCertificateSigningRequest", "no PEM", "t-1"}
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return Issued{}, &Rejection{400, "InvalidCertificateSigningRequest", "bad CSR", "t-2"}
	}
	cert := c.issue(claim, csr.PublicKey)
	c.byCSR[claim+csrPEM] = cert
	return Issued{ID: cert.id, Certificate: cert.pem, Token: cert.token}, nil
}

// ServerKey is the key that the cloud makes for whoever asks: one for all, since RSA keys take time.
var ServerKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// CreateKeys issues a certificate with a key.
func (c *Cloud) CreateKeys(claim string) (Issued, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.issue(claim, ServerKey().Public())
	key := pemText("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(ServerKey()))
	return Issued{ID: cert.id, Certificate: cert.pem, PrivateKey: key, Token: cert.token}, nil
}

func (c *Cloud) issue(claim string, public crypto.PublicKey) *certificate {
	life := c.Life
	if life == 0 {
		life = 20 * 365 * 24 * time.Hour
	}
	der := c.sign("device", public, c.Now().Add(-time.Minute), c.Now().Add(life))
	cert := &certificate{id: ID(der), pem: pemText("CERTIFICATE", der), claim: claim, end: c.Now().Add(life)}
	cert.token = "token of " + cert.id
	c.certificates[cert.id], c.tokens[cert.token] = cert, cert
	return cert
}

// Register makes the thing. The error is a *Rejection.
func (c *Cloud) Register(claim, token string, parameters map[string]string) (thing string, configuration map[string]string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.tokens[token]
	if cert == nil || cert.claim != claim || cert.active && !maps.Equal(cert.parameters, parameters) {
		return "", nil, &Rejection{400, "InvalidCertificateOwnershipToken", "the token is not valid", "t-3"}
	}
	name, ok := parameters[SerialNumber]
	switch {
	case !ok:
		return "", nil, &Rejection{400, "InvalidParameters", "Cannot resolve reference value: " + SerialNumber, "t-4"}
	case name == Stolen:
		return "", nil, &Rejection{403, "AccessDenied", "Access Denied", "t-5"}
	case c.things[name] != "" && c.things[name] != cert.id && !c.renews(name, claim) && !c.TakeOver:
		return "", nil, &Rejection{409, "ResourceConflict", "the thing belongs to another certificate", "t-6"}
	}
	if old := c.certificates[claim]; old != nil && c.renews(name, claim) {
		if lost := c.certificates[c.things[name]]; lost != old && lost != cert {
			lost.active = false // it never connected
		}
		cert.predecessor = old
	}
	cert.active, cert.parameters = true, maps.Clone(parameters)
	c.things[name] = cert.id
	return name, Configuration, nil
}

// renews reports whether a certificate is that of a thing, or has got the thing another one that did not connect.
func (c *Cloud) renews(thing, certificate string) bool {
	holder := c.certificates[c.things[thing]]
	return holder != nil && (holder.id == certificate || holder.claim == certificate && c.certificates[certificate] != nil)
}

// IssuedTo counts a claim's certificates: all, and those that were registered.
func (c *Cloud) IssuedTo(claim string) (all, active int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cert := range c.certificates {
		if cert.claim == claim {
			all++
			if cert.active {
				active++
			}
		}
	}
	return all, active
}

// Things returns the certificate of each thing.
func (c *Cloud) Things() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.things)
}

// GiveThing makes a thing that belongs to a certificate.
func (c *Cloud) GiveThing(name, certificate string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.things[name] = certificate
}

// SetActive changes whether a certificate may connect.
func (c *Cloud) SetActive(certificate string, active bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificates[certificate].active = active
}

// Forget loses all certificates, as a service does with those that were not registered in time.
func (c *Cloud) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
	clear(c.byCSR)
	clear(c.certificates)
}

// Accepts reports whether a device may connect with a certificate.
func (c *Cloud) Accepts(certificate string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cert := c.certificates[certificate]
	return cert != nil && cert.active && !c.Now().After(cert.end.Add(c.Grace))
}

// Active lists the ids of the certificates that may connect.
func (c *Cloud) Active() (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, cert := range c.certificates {
		if cert.active {
			ids = append(ids, id)
		}
	}
	return ids
}

// Connect notes that somebody connected with a certificate, and as whom.
func (c *Cloud) Connect(certificate, clientID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connected[certificate], c.clientID = true, clientID
	if cert := c.certificates[certificate]; cert != nil && cert.predecessor != nil {
		cert.predecessor.active = false
	}
}

// LastClientID returns the client id of the last connection.
func (c *Cloud) LastClientID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clientID
}

// Connected reports whether any certificate that a claim was traded for has connected.
func (c *Cloud) Connected(claim string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.connected {
		if cert := c.certificates[id]; cert != nil && cert.claim == claim {
			return true
		}
	}
	return false
}
