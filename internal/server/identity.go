package server

import (
	"fmt"
	"strings"

	"github.com/imprint-iot/imprint/internal/oidc"
)

// openIssuers makes what checks the tokens of other identity providers.
func (s *Server) openIssuers() error {
	hosts := map[string]string{}
	for _, text := range s.cfg.IdentityHosts {
		name, host, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("identity-hosts: %q is not NAME=URL, like %s=https://id.lan:9443", text, oidc.Facebook)
		}
		hosts[name] = strings.TrimSuffix(host, "/")
	}
	if err := oidc.CheckHosts(hosts); err != nil {
		return fmt.Errorf("identity-hosts: %w", err)
	}
	s.issuers = oidc.New(oidc.Config{HTTP: s.egress, Clock: s.clock, Hosts: hosts})
	return nil
}
