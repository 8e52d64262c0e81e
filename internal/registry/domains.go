package registry

import (
	"net"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// The server's certificate has the host names of all accounts, and each handshake carries it.
const (
	maxDomains       = 10 // of an account, as on AWS
	maxDomainsInAll  = 100
	managedPrefix    = 21 // characters before "-ats" in a name that we make
	domainServiceIoT = "DATA"
)

var hostName = fleet.NewPattern(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// A DomainSpec is what a domain configuration is asked to be. In an update nil fields are left alone, and Domain is not looked at.
type DomainSpec struct {
	Domain         string // "": one of our endpoint names
	Service        string // "": DATA
	SecurityPolicy *string
	Authentication *string
	Protocol       *string
	Enabled        *bool       // UpdateDomain only
	Tags           []fleet.Tag // CreateDomain only
}

// CreateDomain has devices served at a host name of the account's own. The name must lead here in the DNS, and be nobody else's on this
// server. A configuration's name that is taken is KindExists (iot-core spec 1.8).
func (r *Service) CreateDomain(tx *store.Tx, s fleet.Scope, name string, spec DomainSpec) error {
	if spec.Service != "" && spec.Service != domainServiceIoT {
		return fleet.Invalid("domain configuration", name, "cannot be for the service %s: domains are for DATA, as on AWS", spec.Service)
	}
	d := fleet.DomainConfiguration{Name: name, Domain: serverName(spec.Domain), Enabled: true, SecurityPolicy: fleet.DefaultSecurityPolicy,
		Authentication: fleet.AuthDefault, Protocol: fleet.ProtocolDefault, Changed: tx.Now()}
	if err := spec.apply(&d); err != nil {
		return err
	}
	if _, err := tx.Domain(s, name); !missing(err) {
		if err == nil {
			err = exists(name, s.ARN("iot", fleet.DomainResource(s, name)), "Domain configuration %s already exists", name)
		}
		return err
	}
	if d.Domain == "" {
		if r.BaseDomain == "" {
			return fleet.Invalid("domain configuration", name, "needs a domainName: this server has no domain of its own for endpoints, below which it could make one")
		}
		d.Managed, d.Domain = true, fleet.RandomString(managedPrefix, fleet.AlphaLowerDigit)+"-ats.iot."+s.Region+"."+r.BaseDomain
	} else if err := r.checkDomain(tx, name, d.Domain); err != nil {
		return err
	}
	if err := tx.CreateDomain(s, d); err != nil {
		if fleet.KindOf(err) == fleet.KindExists {
			err = fleet.Invalid("domain", d.Domain, "is in use on this server")
		}
		return err
	}
	if err := checkNumber(tx, s, name); err != nil {
		return err
	}
	return PutNewTags(tx, s, fleet.DomainResource(s, name), spec.Tags)
}

// checkDomain refuses host names that are no customer's.
func (r *Service) checkDomain(tx *store.Tx, name, domain string) error {
	_, err := tx.PoolDomain(domain)
	switch {
	case err == nil:
		return fleet.Invalid("domain", domain, "is in use on this server")
	case !missing(err):
		return err
	case len(domain) > 253 || net.ParseIP(domain) != nil || !hostName.MatchString(domain):
		return fleet.Invalid("domain", domain, "is no host name that a domain configuration can have: give a full DNS name, in ASCII, without wildcards")
	case slices.Contains(r.Names, domain), under(domain, "localhost"), under(domain, r.BaseDomain):
		return fleet.Invalid("domain", domain, "is a name of this server itself")
	case under(domain, "amazonaws.com"):
		return fleet.Invalid("domain", domain, "is a name of AWS")
	}
	return nil
}

func under(domain, parent string) bool {
	return parent != "" && (domain == parent || strings.HasSuffix(domain, "."+parent))
}

// serverName is the normal form of a host name.
func serverName(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }

func checkNumber(tx *store.Tx, s fleet.Scope, name string) error {
	all, err := tx.AllDomains()
	if err != nil {
		return err
	}
	own := 0
	for _, d := range all {
		if d.Scope == s {
			own++
		}
	}
	switch {
	case own > maxDomains:
		return fleet.OverLimit("domain configuration", name, "would be one too many: %d are allowed; delete one that is not used", maxDomains)
	case len(all) > maxDomainsInAll:
		return fleet.OverLimit("domain configuration", name, "would be one too many: this server has %d of all its accounts, and its certificate names each", maxDomainsInAll)
	}
	return nil
}

// apply changes d as spec asks for.
func (spec DomainSpec) apply(d *fleet.DomainConfiguration) error {
	if spec.SecurityPolicy != nil {
		d.SecurityPolicy = *spec.SecurityPolicy
	}
	if spec.Authentication != nil {
		d.Authentication = *spec.Authentication
	}
	if spec.Protocol != nil {
		d.Protocol = *spec.Protocol
	}
	_, known := fleet.SecurityPolicies[d.SecurityPolicy]
	switch {
	case !known:
		return fleet.Invalid("domain configuration", d.Name, "cannot have the security policy %q; use %s", d.SecurityPolicy, fleet.DefaultSecurityPolicy)
	case d.Authentication != fleet.AuthDefault && d.Authentication != fleet.AuthX509:
		return fleet.Invalid("domain configuration", d.Name, "cannot have the authentication type %s here; AWS_X509 and DEFAULT are served", d.Authentication)
	case d.Protocol != fleet.ProtocolDefault && d.Protocol != fleet.ProtocolMQTT && d.Protocol != fleet.ProtocolHTTPS:
		return fleet.Invalid("domain configuration", d.Name, "cannot have the application protocol %s with the authentication type %s", d.Protocol, d.Authentication)
	case (d.Authentication == fleet.AuthDefault) != (d.Protocol == fleet.ProtocolDefault):
		return fleet.Invalid("domain configuration", d.Name, "needs authenticationType and applicationProtocol together, or both DEFAULT")
	}
	return nil
}

// UpdateDomain changes a domain configuration.
func UpdateDomain(tx *store.Tx, s fleet.Scope, name string, spec DomainSpec) error {
	if reservedDomain(name) {
		return fleet.Invalid("domain configuration", name, "is an endpoint of the server, which all accounts share; it cannot be changed")
	}
	d, err := tx.Domain(s, name)
	if err != nil {
		return err
	}
	if spec.Enabled != nil && *spec.Enabled != d.Enabled {
		d.Enabled, d.Changed = *spec.Enabled, tx.Now()
	}
	if err := spec.apply(&d); err != nil {
		return err
	}
	return tx.UpdateDomain(s, d)
}

// reservedDomain reports whether a name is that of an endpoint type, iot:Data-ATS and the like.
func reservedDomain(name string) bool { return strings.HasPrefix(name, "iot:") }

// DeleteDomain deletes a domain configuration that is disabled.
func DeleteDomain(tx *store.Tx, s fleet.Scope, name string) error {
	d, err := tx.Domain(s, name)
	if err != nil {
		return err
	}
	if d.Enabled {
		return fleet.Invalid("domain configuration", name, "cannot be deleted while it is ENABLED: set its status to DISABLED first")
	}
	return tx.DeleteDomain(s, d)
}
