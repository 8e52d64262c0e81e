package server

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/imprint-iot/imprint/internal/egress"
)

// egress makes the client of every call to others.
func (c *Config) egress() (*egress.Client, error) {
	out := egress.Config{Allow: c.EgressAllow, Proxy: c.EgressProxy}
	if c.EgressCA == "" {
		return egress.New(out)
	}
	pem, err := os.ReadFile(c.EgressCA)
	if err != nil {
		return nil, fmt.Errorf("reading egress-ca: %w", err)
	}
	if out.Roots, err = x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("the roots of the system, which egress-ca adds to: %w", err)
	}
	if !out.Roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("egress-ca: %s holds no certificate in PEM", c.EgressCA)
	}
	return egress.New(out)
}
