package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A StandIn answers for host names of AWS to processes that this one has started and given its root: functions, whose libraries may have
// such names built in. Its keys are never anywhere but in memory, so a power cut, a backup or a thief of the data folder finds nothing
// of it, and like the root of awsnames.go its root is constrained to AWS's domain. It is safe for concurrent use.
type StandIn struct {
	clock fleet.Clock
	root  *ca
	key   *ecdsa.PrivateKey // of all names

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// maxStandIns bounds the names of a StandIn: what it is asked for is its caller's list.
const maxStandIns = 1000

// NewStandIn makes keys and a root.
func NewStandIn(clock fleet.Clock) (*StandIn, error) {
	s := &StandIn{clock: clock, leaves: map[string]*tls.Certificate{}}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	now := clock.Now().UTC().Truncate(time.Second)
	r := request{key: signer.Public(), subject: mustName("O=Imprint, CN=Imprint Root for functions"), notBefore: now.Add(-rootProfile.backdate), notAfter: now.AddDate(20, 0, 0),
		permit: []string{awsDomain}}
	der, err := rootProfile.issue(r, issuer{subject: r.subject, notAfter: r.notAfter, signer: signer})
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	s.root = &ca{cert: cert, signer: signer}
	return s, err
}

// RootPEM returns the root.
func (s *StandIn) RootPEM() string { return CertificatePEM(s.root.cert.Raw) }

// Certificate returns the certificate for a name below amazonaws.com.
func (s *StandIn) Certificate(name string) (*tls.Certificate, error) {
	if !strings.HasSuffix(name, "."+awsDomain) || !isDNSName(name) {
		return nil, fmt.Errorf("%q is no host name of AWS", name)
	}
	now := s.clock.Now().UTC().Truncate(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := s.leaves[name]; kept != nil && serves(kept.Leaf, s.root.cert, now) {
		return kept, nil
	}
	der, err := serverProfile.issue(request{key: s.key.Public(), subject: mustName("CN=" + commonName([]string{name})), dnsNames: []string{name},
		notBefore: now.Add(-serverProfile.backdate), notAfter: now.Add(serverLife)}, s.root.issuer())
	if err != nil {
		return nil, err
	}
	leaf, err := tlsCertificate(der, s.root, s.key)
	if err != nil {
		return nil, err
	}
	if len(s.leaves) >= maxStandIns {
		clear(s.leaves)
	}
	s.leaves[name] = leaf
	return leaf, nil
}
