package userpool

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Domain is where the sign-in pages of a pool are: below PrefixPath on the server's own origin, or on a host name of their own.
type Domain struct {
	Scope    fleet.Scope
	Name     string // the prefix, or the host name
	PoolID   string
	Custom   bool // a host name
	Modified time.Time
	DomainSettings
}

// DomainSettings are stored as JSON under the names of these fields.
type DomainSettings struct {
	Certificate  string // CertificateArn of a host name, kept and shown: the certificate is the server's own
	ManagedLogin int    // ManagedLoginVersion, kept and shown; 0: it was not said
}

// PrefixPath stands before the prefix of a domain in the path of its pages.
const PrefixPath = "/auth/"

// DomainURL is where the pages of a domain are, for example https://iot.lan:8443/auth/installers, without a final slash. Clients append
// /oauth2/authorize and the other paths to it.
func (s *Service) DomainURL(d Domain) string {
	if !d.Custom {
		return s.cfg.Issuer + PrefixPath + d.Name
	}
	origin, err := url.Parse(s.cfg.Issuer)
	if err != nil || origin.Port() == "" {
		return "https://" + d.Name
	}
	return "https://" + d.Name + ":" + origin.Port()
}

// Host is the server's own name, where host names of domains have to lead.
func (s *Service) Host() string {
	origin, err := url.Parse(s.cfg.Issuer)
	if err != nil {
		return ""
	}
	return origin.Hostname()
}

func domainOf(row store.PoolDomain) (Domain, error) {
	d := Domain{Scope: row.Scope, Name: row.Domain, PoolID: row.Pool, Custom: row.Custom, Modified: row.Modified}
	if err := json.Unmarshal([]byte(row.Settings), &d.DomainSettings); err != nil {
		return d, fmt.Errorf("reading the settings of domain %s: %w", row.Domain, err)
	}
	return d, nil
}

func (d Domain) row() (store.PoolDomain, error) {
	settings, err := toJSON(d.DomainSettings)
	return store.PoolDomain{Scope: d.Scope, Domain: d.Name, Pool: d.PoolID, Custom: d.Custom, Settings: settings, Modified: d.Modified}, err
}

var hostForm = fleet.NewPattern(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// check refuses names that cannot be, or that are ours.
func (s *Service) checkDomain(d Domain) error {
	host := s.Host()
	switch {
	case d.Custom && !hostForm.MatchString(d.Name):
		return invalid("Custom domain is not a valid subdomain: it must be a host name such as auth.example.com.")
	case d.Custom && (d.Name == host || d.Name == "localhost" || strings.HasSuffix(d.Name, ".localhost") || s.cfg.OwnName != nil && s.cfg.OwnName(d.Name)):
		return invalid("The host name " + d.Name + " is this server's own: choose a prefix, or another host name that leads here.")
	case !d.Custom && strings.Contains(d.Name, "."):
		return invalid("A domain prefix has no dots. For a host name give CustomDomainConfig.")
	}
	for _, word := range []string{"aws", "amazon", "cognito"} {
		if !d.Custom && strings.Contains(d.Name, word) {
			return invalid("Domain cannot contain reserved word: " + word)
		}
	}
	return nil
}

// Bounds of host names, as of domain configurations: each handshake carries a certificate that has those of all accounts.
const (
	maxHostNames      = 10 // of an account
	maxHostNamesInAll = 100
)

// checkHostName refuses a host name that devices of some account come to, and one more than there may be.
func checkHostName(tx *store.Tx, d Domain) error {
	devices, err := tx.AllDomains()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(devices, func(c store.ScopedDomain) bool { return c.Domain == d.Name }) {
		return invalid("The host name " + d.Name + " is in use on this server.")
	}
	pages, err := tx.CustomPoolDomains()
	if err != nil {
		return err
	}
	own := 0
	for _, p := range pages {
		if p.Scope == d.Scope {
			own++
		}
	}
	switch {
	case own >= maxHostNames:
		return overLimit(fmt.Sprintf("The user pools of an account have %d host names at most.", maxHostNames))
	case len(pages) >= maxHostNamesInAll:
		return overLimit(fmt.Sprintf("The user pools of all accounts of this server have %d host names at most, which its certificate names.", maxHostNamesInAll))
	}
	return nil
}

// CreateDomain gives a pool a domain; it may have one prefix and one host name. A host name must be nobody else's on this server.
func (s *Service) CreateDomain(ctx context.Context, d Domain) error {
	if err := s.checkDomain(d); err != nil {
		return err
	}
	d.Modified = s.now()
	row, err := d.row()
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, d.Scope, d.PoolID); err != nil {
			return err
		}
		have, err := tx.PoolDomains(d.Scope, d.PoolID)
		if err != nil {
			return err
		}
		for _, other := range have {
			if other.Custom == d.Custom {
				return invalid("User pool already has a domain configured.")
			}
		}
		if d.Custom {
			if err := checkHostName(tx, d); err != nil {
				return err
			}
		}
		if err := tx.CreatePoolDomain(row); isExists(err) {
			return invalid("Domain already associated with another user pool.")
		} else if err != nil {
			return err
		}
		return nil
	})
}

// Domain returns a domain of the scope; nil if there is none, which AWS does not call an error.
func (s *Service) Domain(ctx context.Context, scope fleet.Scope, name string) (d *Domain, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		d, err = findDomain(tx, scope, name)
		return err
	})
	return d, err
}

// findDomain returns a domain of a scope, nil if there is none.
func findDomain(tx *store.Tx, scope fleet.Scope, name string) (*Domain, error) {
	row, err := tx.PoolDomain(name)
	if isNotFound(err) || err == nil && row.Scope != scope {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := domainOf(row)
	return &d, err
}

// readDomain returns a domain of a pool.
func readDomain(tx *store.Tx, scope fleet.Scope, name, poolID string) (Domain, error) {
	if _, err := readPool(tx, scope, poolID); err != nil {
		return Domain{}, err
	}
	d, err := findDomain(tx, scope, name)
	if err != nil || d == nil || d.PoolID != poolID {
		return Domain{}, orElse(err, invalid("No such domain or user pool exists."))
	}
	return *d, nil
}

// UpdateDomain replaces the settings of a domain.
func (s *Service) UpdateDomain(ctx context.Context, scope fleet.Scope, poolID, name string, settings DomainSettings) (d Domain, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		if d, err = readDomain(tx, scope, name, poolID); err != nil {
			return err
		}
		if settings.Certificate != "" && !d.Custom {
			return invalid("A domain prefix has no certificate of its own: leave CustomDomainConfig out.")
		}
		d.Certificate = or(settings.Certificate, d.Certificate)
		if settings.ManagedLogin != 0 {
			d.ManagedLogin = settings.ManagedLogin
		}
		d.Modified = s.now()
		row, err := d.row()
		if err != nil {
			return err
		}
		return tx.UpdatePoolDomain(row)
	})
	return d, err
}

// DeleteDomain takes a domain away: its pages are gone at once.
func (s *Service) DeleteDomain(ctx context.Context, scope fleet.Scope, poolID, name string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		d, err := readDomain(tx, scope, name, poolID)
		if err != nil {
			return err
		}
		row, err := d.row()
		if err != nil {
			return err
		}
		return tx.DeletePoolDomain(row)
	})
}

// domains lists the domains of a pool, the prefix first.
func domains(tx *store.Tx, scope fleet.Scope, poolID string) ([]Domain, error) {
	rows, err := tx.PoolDomains(scope, poolID)
	if err != nil {
		return nil, err
	}
	return convert(rows, domainOf)
}

// PageURL is where the pages of a pool are, on its host name if it has one; "" without a domain.
func (s *Service) PageURL(ctx context.Context, scope fleet.Scope, poolID string) (at string, err error) {
	var have []Domain
	err = s.view(ctx, func(tx *store.Tx) error {
		have, err = domains(tx, scope, poolID)
		return err
	})
	if err != nil || len(have) == 0 {
		return "", err
	}
	return s.DomainURL(have[len(have)-1]), nil
}

// A Site is a pool at its domain: what a browser or a client of OAuth talks to.
type Site struct {
	Domain Domain
	Pool   *Pool
	URL    string // DomainURL
}

// Site returns the site of a prefix, or of a host name. It fails with KindNotFound.
func (s *Service) Site(ctx context.Context, domain string, custom bool) (*Site, error) {
	site := &Site{}
	err := s.view(ctx, func(tx *store.Tx) error {
		row, err := tx.PoolDomain(domain)
		if err != nil {
			return err
		}
		if row.Custom != custom {
			return fleet.NotFound("domain", domain)
		}
		if site.Domain, err = domainOf(row); err != nil {
			return err
		}
		site.Pool, err = readPool(tx, row.Scope, row.Pool)
		return err
	})
	site.URL = s.DomainURL(site.Domain)
	return site, err
}
