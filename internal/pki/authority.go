package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Config is how an authority is set up.
type Config struct {
	Dir   string   // folder of authority.json and of the server's certificates, for example DATA/pki
	Keys  KeyStore // where the keys of roots and issuers live
	Clock fleet.Clock

	// Leaves is where the keys of the server's own certificates live; nil: in Keys, which must be a LeafStore then. Every TLS
	// handshake signs with one of them.
	Leaves LeafStore

	// Names are DNS names (a leading "*." is a wildcard) and IP addresses of the server's certificate, the first one being
	// its common name. localhost, 127.0.0.1 and ::1 are always added.
	Names []string
	// AWSNames are host names of AWS that the server answers for too, with a certificate of its own under a root of its own
	// (awsnames.go); none unless given.
	AWSNames []string
	// NoRSA leaves out the RSA root and server certificate; clients that cannot do ECDSA then fail.
	NoRSA bool
	// Device and Claim are the issuers of device and claim certificates. If one no longer is as configured, a new issuer
	// is made beside the old one at the next start.
	Device, Claim IssuerConfig
	// DeviceValidity is how long device certificates live; 0: until 2049-12-31T23:59:59Z (provisioning spec 9.3).
	DeviceValidity time.Duration
}

// IssuerConfig is an issuer's key and name. Empty fields mean whatever it was made with: P-256, and the names that AWS's
// issuers have, unless said otherwise.
type IssuerConfig struct {
	Key  KeyType
	Name string // see ParseName
}

// Names of AWS's issuers (provisioning spec 1.3, 9.3). The first is one OU that holds the whole text.
const (
	DefaultDeviceIssuer = "OU=Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
	DefaultClaimIssuer  = "C=US, ST=Washington, L=Seattle, O=Amazon.com Inc., OU=Amazon IoT Provisioning, serialNumber=1.0"
)

// endOfTime is when AWS's device certificates, and our CAs, end. It is the last date that a UTCTime can hold.
var endOfTime = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)

// An Authority issues certificates. It consists of roots, which devices and clients pin, of issuers below them, and of the
// server's own certificate, which it renews. All methods may be called concurrently.
type Authority struct {
	cfg   Config
	trust atomic.Pointer[trust]

	mu     sync.Mutex // guards names, renewal and rotation
	names  []string
	server atomic.Pointer[serverCerts]
}

// A trust is all CAs at one time. It is replaced, never changed.
type trust struct {
	cas    []*ca // in the order of their making
	device *ca   // the current issuers
	claim  *ca
}

// role is what a CA is for.
type role string

const (
	roleServerRoot    role = "server-root"
	roleServerRootRSA role = "server-root-rsa"
	roleDeviceRoot    role = "device-root"
	roleServer        role = "server"
	roleServerRSA     role = "server-rsa"
	roleDevice        role = "device"
	roleClaim         role = "claim"

	roleAWSNamesRoot role = "aws-names-root"
	roleAWSNames     role = "aws-names"
)

// A ca is a root or an issuer. signer is nil for what does not sign any more, and for roots until they are needed, so that
// their keys can be kept elsewhere.
type ca struct {
	role   role
	stage  stage
	key    string // name in the KeyStore
	cert   *x509.Certificate
	signer crypto.Signer
}

// A stage says where a CA stands in a rotation (rotate.go).
type stage string

const (
	stageInUse   stage = ""        // signs, if it is the last of its role; else it is trusted still
	stageNext    stage = "next"    // trusted, and does not sign yet
	stageDropped stage = "dropped" // clients are not given it any more
)

func (c *ca) issuer() issuer {
	return issuer{subject: c.cert.RawSubject, keyID: c.cert.SubjectKeyId, notAfter: c.cert.NotAfter, signer: c.signer}
}

const authorityFile = "authority.json"

// The state file names every CA with its certificate; the last of a role is the current one. It is written in one step after
// all keys that it names are durable, so that a power cut leaves the state before or the state after.
type stateFile struct {
	Version int       `json:"version"`
	CAs     []stateCA `json:"authorities"`
}

type stateCA struct {
	Role        role   `json:"role"`
	Stage       stage  `json:"stage,omitempty"` // since version 2
	Key         string `json:"key"`
	Certificate string `json:"certificate"`
}

// OpenAuthority opens the authority in c.Dir and makes what is missing, everything at the first start.
func OpenAuthority(ctx context.Context, c Config) (*Authority, error) {
	if c.DeviceValidity < 0 {
		return nil, fmt.Errorf("authority: the validity of device certificates is negative")
	}
	for _, issuer := range []IssuerConfig{c.Device, c.Claim} {
		if k := issuer.Key; k != "" && k != P256 && k != RSA2048 {
			return nil, fmt.Errorf("authority: the key type %q of an issuer is neither %s nor %s", k, P256, RSA2048)
		}
	}
	if c.Leaves == nil {
		leaves, ok := c.Keys.(LeafStore)
		if !ok {
			return nil, fmt.Errorf("authority: keys of a %T cannot be replaced: the server's own need another store", c.Keys)
		}
		c.Leaves = leaves
	}
	if err := makeDir(c.Dir); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	a := &Authority{cfg: c}
	cas, err := a.load()
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if err := a.complete(ctx, cas); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	if err := a.SetNames(ctx, c.Names); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return a, nil
}

// load reads the state file, if there is one.
func (a *Authority) load() (cas []*ca, err error) {
	path := filepath.Join(a.cfg.Dir, authorityFile)
	text, err := readBounded(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var state stateFile
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s is damaged, put it back from a backup: %w", path, err)
	}
	if state.Version != 1 && state.Version != 2 {
		return nil, fmt.Errorf("%s has version %d: it was written by a newer release", path, state.Version)
	}
	for _, s := range state.CAs {
		block, _ := pem.Decode([]byte(s.Certificate))
		if block == nil {
			return nil, fmt.Errorf("%s: the certificate of %s is damaged, put the file back from a backup", path, s.Key)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: the certificate of %s: %w", path, s.Key, err)
		}
		cas = append(cas, &ca{role: s.Role, stage: s.Stage, key: s.Key, cert: cert})
	}
	return cas, nil
}

func (a *Authority) save(cas []*ca) error {
	state := stateFile{Version: 1}
	for _, c := range cas {
		if c.stage != stageInUse { // an earlier release would take the next CA for the current one
			state.Version = 2
		}
		state.CAs = append(state.CAs, stateCA{c.role, c.stage, c.key, CertificatePEM(c.cert.Raw)})
	}
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(a.cfg.Dir, authorityFile), append(text, '\n'), 0o600)
}

// A plan says how the CA of a role is made.
type plan struct {
	role    role
	parent  role // empty: a root
	profile *profile
	key     KeyType // default
	name    string  // default; for roots and server issuers a text to which the key's identifier is added
	config  IssuerConfig
	permit  []string // DNS names that the CA is constrained to, and those below them; nil: no constraint
}

func (a *Authority) plans() []plan {
	plans := []plan{
		{role: roleServerRoot, profile: &rootProfile, key: P256, name: "O=Imprint, CN=Imprint Root"},
		{role: roleDeviceRoot, profile: &rootProfile, key: P256, name: "O=Imprint, CN=Imprint Device Root"},
		{role: roleServer, parent: roleServerRoot, profile: &serverIssuerProfile, key: P256, name: "O=Imprint, CN=Imprint Server CA"},
		{role: roleDevice, parent: roleDeviceRoot, profile: &clientIssuerProfile, key: P256, name: DefaultDeviceIssuer, config: a.cfg.Device},
		{role: roleClaim, parent: roleDeviceRoot, profile: &clientIssuerProfile, key: P256, name: DefaultClaimIssuer, config: a.cfg.Claim},
	}
	if !a.cfg.NoRSA {
		plans = append(plans,
			plan{role: roleServerRootRSA, profile: &rootProfile, key: RSA2048, name: "O=Imprint, CN=Imprint Root RSA"},
			plan{role: roleServerRSA, parent: roleServerRootRSA, profile: &serverIssuerProfile, key: RSA2048, name: "O=Imprint, CN=Imprint Server CA RSA"})
	}
	if len(a.cfg.AWSNames) > 0 {
		plans = append(plans, a.awsNamesPlans()...)
	}
	return plans
}

// complete makes the CAs that are missing or no longer as configured, and opens the keys of the current issuers.
func (a *Authority) complete(ctx context.Context, cas []*ca) error {
	known := len(cas)
	for _, p := range a.plans() {
		c := current(cas, p.role)
		same, err := p.matches(c)
		if err != nil {
			return err
		}
		if !same {
			if c, err = a.create(ctx, cas, p, current(cas, p.parent)); err != nil {
				return fmt.Errorf("making the %s CA: %w", p.role, err)
			}
			cas = append(cas, c)
		}
		if p.parent != "" {
			if err := c.open(ctx, a.cfg.Keys); err != nil {
				return err
			}
		}
	}
	if len(cas) > known {
		if err := a.save(cas); err != nil {
			return err
		}
	}
	a.publish(cas)
	return nil
}

// publish puts the CAs to use. The keys of the current issuers are open.
func (a *Authority) publish(cas []*ca) {
	a.trust.Store(&trust{cas: cas, device: current(cas, roleDevice), claim: current(cas, roleClaim)})
}

// all returns all CAs.
func (a *Authority) all() []*ca { return a.trust.Load().cas }

// current returns the CA of a role that signs, nil if there is none.
func current(cas []*ca, r role) *ca { return last(cas, r, stageInUse) }

// last returns the newest CA of a role and stage, nil if there is none.
func last(cas []*ca, r role, s stage) (c *ca) {
	for _, x := range cas {
		if x.role == r && x.stage == s {
			c = x
		}
	}
	return c
}

// matches reports whether a CA is as configured.
func (p plan) matches(c *ca) (bool, error) {
	if c == nil {
		return false, nil
	}
	if !slices.Equal(p.permit, c.cert.PermittedDNSDomains) {
		return false, nil
	}
	if p.config.Key != "" && typeOf(c.cert.PublicKey) != p.config.Key {
		return false, nil
	}
	if p.config.Name == "" {
		return true, nil
	}
	name, err := ParseName(p.config.Name)
	return bytes.Equal(name, c.cert.RawSubject), err
}

// open opens the key of a CA and checks that it is the certificate's.
func (c *ca) open(ctx context.Context, keys KeyStore) error {
	if c.signer != nil {
		return nil
	}
	signer, err := keys.Signer(ctx, c.key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the %s CA's key is missing: put it back, if only for this time when it is kept offline (imprint ca bring-back), or name the key helper as at earlier starts (--key-helper): %w", c.role, err)
	}
	if err != nil {
		return fmt.Errorf("the %s CA's key: %w", c.role, err)
	}
	if !samePublicKey(signer.Public(), c.cert.PublicKey) {
		return fmt.Errorf("the %s CA's key %q does not belong to its certificate: keys and %s come from different backups", c.role, c.key, authorityFile)
	}
	c.signer = signer
	return nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// create makes the CA of a plan, signed by parent unless it is a root. A key that an interrupted attempt left behind is used,
// never replaced: should the state file have been lost, the same roots come back from their keys.
func (a *Authority) create(ctx context.Context, cas []*ca, p plan, parent *ca) (*ca, error) {
	c := &ca{role: p.role}
	generation := 1
	for _, x := range cas {
		if x.role == p.role {
			generation++
		}
	}
	c.key = fmt.Sprintf("%s-%d", p.role, generation)
	want := p.key
	if p.config.Key != "" {
		want = p.config.Key
	}
	var err error
	c.signer, err = a.cfg.Keys.Create(ctx, c.key, want)
	if errors.Is(err, fs.ErrExist) {
		c.signer, err = a.cfg.Keys.Signer(ctx, c.key)
	}
	if err != nil {
		return nil, err
	}
	if got := typeOf(c.signer.Public()); got != want {
		return nil, fmt.Errorf("the key %q left by an earlier attempt is %s, not %s: remove it and start again", c.key, got, want)
	}
	der, err := a.certify(ctx, p, c.signer, parent)
	if err != nil {
		return nil, err
	}
	c.cert, err = x509.ParseCertificate(der)
	return c, err
}

// certify makes the certificate of a CA.
func (a *Authority) certify(ctx context.Context, p plan, signer crypto.Signer, parent *ca) ([]byte, error) {
	subject, err := p.subject(signer.Public())
	if err != nil {
		return nil, err
	}
	now := a.cfg.Clock.Now().Truncate(time.Second)
	r := request{key: signer.Public(), subject: subject, notBefore: now.Add(-p.profile.backdate), notAfter: endOfTime, permit: p.permit}
	if r.notAfter.Before(now.AddDate(20, 0, 0)) {
		r.notAfter = now.AddDate(25, 0, 0)
	}
	by := issuer{subject: subject, notAfter: r.notAfter, signer: signer}
	if p.parent != "" {
		if err := parent.open(ctx, a.cfg.Keys); err != nil {
			return nil, err
		}
		by = parent.issuer()
		r.notAfter = earlier(r.notAfter, by.notAfter)
	}
	return p.profile.issue(r, by)
}

// subject returns the CA's name. Names of our own carry the beginning of the key's identifier: browsers mistrust two roots
// with one name, and a root made again from its key must have its name again.
func (p plan) subject(key crypto.PublicKey) ([]byte, error) {
	switch {
	case p.config.Name != "":
		return ParseName(p.config.Name)
	case p.role == roleDevice || p.role == roleClaim:
		return ParseName(p.name)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return ParseName(fmt.Sprintf("%s %x", p.name, keyIdentifier(spki)[:4]))
}

// RootsPEM returns the roots that clients and devices need in order to verify the server, newest last; during a rotation the
// next ones too. The root of device certificates is not among them: see DESIGN.md.
func (a *Authority) RootsPEM() string { return a.pem(roleServerRoot, roleServerRootRSA) }

// DeviceRootsPEM returns the root and the issuers of device and claim certificates, for whoever else verifies those.
func (a *Authority) DeviceRootsPEM() string { return a.pem(roleDeviceRoot, roleDevice, roleClaim) }

func (a *Authority) pem(roles ...role) string {
	var b strings.Builder
	for _, r := range roles {
		for _, c := range a.all() {
			if c.role == r && c.stage != stageDropped {
				b.WriteString(CertificatePEM(c.cert.Raw))
			}
		}
	}
	return b.String()
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Holds reports whether a public key is that of one of our roots or issuers, present or past. Whoever can have a certificate issued here could
// else pass it off as their own CA.
func (a *Authority) Holds(key crypto.PublicKey) bool {
	return slices.ContainsFunc(a.all(), func(c *ca) bool { return samePublicKey(c.cert.PublicKey, key) })
}
