package gateway

import (
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Host names of accounts' own (iot-core spec 3.11, 6.1): which account a client means, which versions of TLS it may speak, and at a name
// that is for one thing alone also what: ALPN is not needed there.

// domains are the enabled domain configurations by host name. They are read again when one has changed.
type domains struct {
	stale atomic.Bool
	mu    sync.Mutex
	read  bool
	all   map[string]store.ScopedDomain
}

// domainOf finds the domain configuration of a server name.
func (g *Gateway) domainOf(sni string) (d store.ScopedDomain, found bool, err error) {
	if sni == "" {
		return d, false, nil
	}
	g.domains.mu.Lock()
	defer g.domains.mu.Unlock()
	if stale := g.domains.stale.Swap(false); stale || !g.domains.read {
		err := g.Store.View(g.ctx, func(tx *store.Tx) error {
			list, err := tx.AllDomains()
			g.domains.all = map[string]store.ScopedDomain{}
			for _, d := range list {
				if d.Enabled {
					g.domains.all[d.Domain] = d
				}
			}
			return err
		})
		if err != nil {
			g.domains.stale.Store(true)
			return d, false, err
		}
		g.domains.read = true
	}
	d, found = g.domains.all[sni]
	return d, found, nil
}

// A door is where a client came in, and by that what it may speak.
type door int

const (
	doorMQTT   door = iota // MQTT with a certificate
	doorShared             // whatever ALPN says
	doorHTTPS              // HTTPS with a certificate
)

// throughDomain is the TLS configuration for a client that asked for a domain of an account's own, nil if it did not: then c serves. It
// fails where the domain is not for what this door serves.
func (g *Gateway) throughDomain(a *arrival, at door, c *tls.Config, h *tls.ClientHelloInfo) (*tls.Config, error) {
	d, found, err := g.domainOf(serverName(h.ServerName))
	if err != nil || !found {
		return nil, err
	}
	switch {
	case d.Protocol == fleet.ProtocolMQTT && at == doorHTTPS, d.Protocol == fleet.ProtocolHTTPS && at == doorMQTT:
		a.wrongDoor = fmt.Sprintf("the domain %s is for %s alone", d.Domain, d.Protocol)
		return nil, fmt.Errorf("%s", a.wrongDoor)
	case d.Protocol == fleet.ProtocolMQTT && at == doorShared:
		c = g.mqttTLS(a)
		a.mqtt = true
	case d.Protocol == fleet.ProtocolHTTPS && at == doorShared:
		c = g.deviceTLS(a)
	default:
		c = c.Clone()
	}
	c.GetConfigForClient = nil
	switch fleet.SecurityPolicies[d.SecurityPolicy] {
	case fleet.TLS12Only:
		c.MaxVersion = tls.VersionTLS12
	case fleet.TLS13Only:
		c.MinVersion = tls.VersionTLS13
	}
	return c, nil
}
