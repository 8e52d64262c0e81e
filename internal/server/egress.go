package server

import (
	"crypto/x509"
	"fmt"
	"os"
	"slices"

	"github.com/imprint-iot/imprint/internal/egress"
)

// egress makes the client of every call to others.
func (c *Config) egress() (*egress.Client, error) {
	out, err := c.egressConfig()
	if err != nil {
		return nil, err
	}
	return egress.New(out)
}

// egressConfig are the bounds of calls to others. What the operator names in a setting of its own counts as listed: also.
func (c *Config) egressConfig(also ...string) (egress.Config, error) {
	out := egress.Config{Allow: slices.Concat(c.EgressAllow, also), Proxy: c.EgressProxy}
	if c.EgressCA == "" {
		return out, nil
	}
	pem, err := os.ReadFile(c.EgressCA)
	if err != nil {
		return out, fmt.Errorf("reading egress-ca: %w", err)
	}
	if out.Roots, err = x509.SystemCertPool(); err != nil {
		return out, fmt.Errorf("the roots of the system, which egress-ca adds to: %w", err)
	}
	if !out.Roots.AppendCertsFromPEM(pem) {
		return out, fmt.Errorf("egress-ca: %s holds no certificate in PEM", c.EgressCA)
	}
	return out, nil
}
