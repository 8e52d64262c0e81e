package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// A Standing is a certificate that the service lives on: the server's own ("server", "server-rsa", "aws-names"), the issuers in
// use ("device-issuer", "server-rsa-issuer" …) and the roots above them ("server-root" …).
type Standing struct {
	Name    string
	Expires time.Time

	cert   *x509.Certificate
	signer crypto.Signer // nil for roots, whose keys may be offline
}

// Standings lists the certificates in use at present.
func (a *Authority) Standings() []Standing {
	var out []Standing
	for _, p := range a.plans() {
		c := current(a.all(), p.role)
		if c == nil {
			continue
		}
		s := Standing{Name: string(p.role), Expires: c.cert.NotAfter, cert: c.cert}
		if !c.isRoot() {
			s.Name, s.signer = s.Name+"-issuer", c.signer
		}
		out = append(out, s)
	}
	s := a.server.Load()
	for i, c := range []*tls.Certificate{s.ecdsa, s.rsa, s.aws} {
		if c == nil {
			continue
		}
		signer, _ := c.PrivateKey.(crypto.Signer)
		out = append(out, Standing{Name: []string{"server", "server-rsa", "aws-names"}[i], Expires: c.Leaf.NotAfter, cert: c.Leaf, signer: signer})
	}
	return out
}

// Check says why the certificate is of no use at now: outside of its validity, or its key does not sign.
func (s Standing) Check(now time.Time) error {
	switch {
	case now.After(s.cert.NotAfter):
		return fmt.Errorf("it expired on %s", s.cert.NotAfter.Format(time.DateOnly))
	case now.Before(s.cert.NotBefore):
		return fmt.Errorf("it is valid from %s: the clock is wrong", s.cert.NotBefore.Format(time.DateOnly))
	case s.signer == nil:
		return nil
	}
	digest := sha256.Sum256([]byte("imprint: does this key sign?"))
	signature, err := s.signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("its key does not sign: %w", err)
	}
	valid := false
	switch key := s.cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(key, digest[:], signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	if !valid {
		return errors.New("its key is another one's")
	}
	return nil
}
