package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// maxProviders is AWS's quota of identity providers in a pool.
const maxProviders = 300

// An IdentityProvider is where users of a pool may sign in beside the pool itself.
type IdentityProvider struct {
	PoolID, Name      string
	Identifiers       []string // further names, such as the domain of a company's mail addresses
	Created, Modified time.Time
	federation.Provider
}

// ProviderChange is what an update says; nil leaves a member as it is.
type ProviderChange struct {
	Details, Mapping map[string]string
	Identifiers      []string
}

func providerNotFound(name string) *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "Identity provider "+name+" does not exist.")
}

// providerOf opens what is sealed of a stored provider.
func (s *Service) providerOf(p *Pool, row store.PoolProvider) (*IdentityProvider, error) {
	out := &IdentityProvider{PoolID: p.ID, Name: row.Name, Identifiers: row.Identifiers, Created: row.Created, Modified: row.Modified,
		Provider: federation.Provider{Type: row.Type, Details: maps.Clone(row.Details), Mapping: row.Mapping}}
	if out.Details == nil {
		out.Details = map[string]string{}
	}
	if len(row.Secret) == 0 {
		return out, nil
	}
	plain, err := s.open("provider", row.Secret, p.Scope, p.ID, row.Name)
	if err != nil {
		return nil, err
	}
	var hidden map[string]string
	if err := json.Unmarshal(plain, &hidden); err != nil {
		return nil, err
	}
	maps.Copy(out.Details, hidden)
	return out, nil
}

// providerRow seals what is secret.
func (s *Service) providerRow(p *Pool, i *IdentityProvider) (store.PoolProvider, error) {
	row := store.PoolProvider{Name: i.Name, Type: i.Type, Details: maps.Clone(i.Details), Mapping: i.Mapping, Identifiers: i.Identifiers,
		Created: i.Created, Modified: i.Modified}
	hidden := map[string]string{}
	for _, name := range federation.SecretDetails {
		if v := row.Details[name]; v != "" {
			hidden[name] = v
		}
		delete(row.Details, name)
	}
	if len(hidden) == 0 {
		return row, nil
	}
	plain, err := json.Marshal(hidden)
	if err != nil {
		return row, err
	}
	row.Secret = s.seal("provider", plain, p.Scope, p.ID, i.Name)
	return row, nil
}

func (s *Service) readProvider(tx *store.Tx, p *Pool, name string) (*IdentityProvider, error) {
	row, err := tx.PoolProvider(p.Scope, p.ID, name)
	if err != nil {
		return nil, asNotFound(err, providerNotFound(name))
	}
	return s.providerOf(p, row)
}

// CreateProvider adds an identity provider to a pool. The provider is asked what must be known of it, so that a wrong address is told
// now and not to the first person who signs in.
func (s *Service) CreateProvider(ctx context.Context, scope fleet.Scope, poolID string, i IdentityProvider) (*IdentityProvider, error) {
	if _, err := s.poolFor(ctx, scope, poolID); err != nil {
		return nil, err
	}
	if err := checkProviderName(i.Type, i.Name); err != nil {
		return nil, err
	}
	if err := federation.Check(&i.Provider); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx, &i.Provider); err != nil {
		return nil, err
	}
	if err := s.mayFillGroups(ctx, scope, poolID, &i); err != nil {
		return nil, err
	}
	i.PoolID, i.Created = poolID, s.now()
	i.Modified = i.Created
	err := s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		if err := p.checkProvider(&i); err != nil {
			return err
		}
		names, err := tx.PoolProviderNames(scope, poolID)
		if err != nil {
			return err
		}
		if len(names) >= maxProviders {
			return overLimit("A user pool holds at most 300 identity providers.")
		}
		// Usernames begin with the name of the provider and are folded: two names must differ in more than case.
		if slices.ContainsFunc(names, func(n string) bool { return p.fold(n) == p.fold(i.Name) }) {
			return fail(fleet.KindExists, "DuplicateProviderException", "A provider with the name "+i.Name+" already exists in this pool.")
		}
		row, err := s.providerRow(p, &i)
		if err != nil {
			return err
		}
		return duplicateProvider(tx.CreatePoolProvider(scope, poolID, row))
	})
	return &i, err
}

// duplicateProvider words what the store says of an identifier that is taken.
func duplicateProvider(err error) error {
	if isExists(err) {
		return fail(fleet.KindExists, "DuplicateProviderException", "Another provider of this pool has one of the identifiers.")
	}
	return err
}

// checkProviderName holds names to what AWS has: a social provider is called by its type, others by any name without "_", which
// separates it from the subject in usernames.
func checkProviderName(providerType, name string) error {
	social := []string{federation.TypeGoogle, federation.TypeApple, federation.TypeFacebook, federation.TypeAmazon}
	switch {
	case slices.Contains(social, providerType) && name != providerType:
		return invalid("The ProviderName of a provider of type " + providerType + " must be " + providerType + ".")
	case !slices.Contains(social, providerType) && slices.ContainsFunc(append(social, OwnProvider, "amazon", "aws"), func(n string) bool { return strings.EqualFold(n, name) }):
		return invalid("The ProviderName " + name + " is reserved.")
	case strings.Contains(name, "_"):
		return invalid("The ProviderName must have no underscore.")
	}
	return nil
}

// resolve asks a provider what must be known of it. Why it could not be asked stands in the log: where names lead in the server's
// own network is nothing that administrators of pools may learn.
func (s *Service) resolve(ctx context.Context, p *federation.Provider) error {
	if s.cfg.Federation == nil {
		return notOffered("Sign-in at other identity providers")
	}
	if err := s.cfg.Federation.Resolve(ctx, p); err != nil {
		s.log.WarnContext(ctx, "an identity provider cannot be used", "type", p.Type, "error", err)
		var e *federation.Error
		if !errors.As(err, &e) {
			return err
		}
		return invalid(e.Msg)
	}
	return nil
}

// checkProvider holds a mapping to the pool's schema.
func (p *Pool) checkProvider(i *IdentityProvider) error {
	for _, name := range sortedKeys(i.Mapping) {
		a, known := p.attribute(name)
		switch {
		case name == "username":
		case name == "sub" || !known:
			return invalid("Invalid attribute mapping: the user pool has no attribute " + name + " to write.")
		case a.DeveloperOnly:
			return invalid("Invalid attribute mapping: " + name + " is for developers only.")
		}
	}
	seen := map[string]bool{}
	for _, id := range i.Identifiers {
		if seen[id] {
			return invalid("The identifier " + id + " is there twice.")
		}
		seen[id] = true
	}
	return nil
}

// mayFillGroups looks at the groups that a provider may put people into: they must exist, and whoever says so must be allowed to hand
// out their roles.
func (s *Service) mayFillGroups(ctx context.Context, scope fleet.Scope, poolID string, i *IdentityProvider) error {
	groups, err := i.Groups()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Values(groups)) {
		g, err := s.Group(ctx, scope, poolID, name)
		if isNotFound(err) {
			return invalid("The group " + name + " of imprint_groups does not exist in this user pool.")
		}
		if err != nil {
			return err
		}
		if err := s.passRole(ctx, scope, g.RoleARN); err != nil {
			return err
		}
	}
	return nil
}

// Provider returns an identity provider with its secrets.
func (s *Service) Provider(ctx context.Context, scope fleet.Scope, poolID, name string) (i *IdentityProvider, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		i, err = s.readProvider(tx, p, name)
		return err
	})
	return i, err
}

// ProviderByIdentifier returns the identity provider that an identifier stands for.
func (s *Service) ProviderByIdentifier(ctx context.Context, scope fleet.Scope, poolID, identifier string) (i *IdentityProvider, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		name, err := tx.PoolProviderName(scope, poolID, identifier)
		if err != nil {
			return err
		}
		if name == "" {
			return providerNotFound(identifier)
		}
		i, err = s.readProvider(tx, p, name)
		return err
	})
	return i, err
}

// Providers lists the identity providers of a pool.
func (s *Service) Providers(ctx context.Context, scope fleet.Scope, poolID, token string, limit int) (list []*IdentityProvider, next string, err error) {
	after, err := pageKey("providers", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		rows, key, err := tx.PoolProviders(scope, poolID, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("providers", key)
		list, err = convert(rows, func(row store.PoolProvider) (*IdentityProvider, error) { return s.providerOf(p, row) })
		return err
	})
	return list, next, err
}

// UpdateProvider changes a provider; details and mapping are replaced as a whole.
func (s *Service) UpdateProvider(ctx context.Context, scope fleet.Scope, poolID, name string, c ProviderChange) (*IdentityProvider, error) {
	i, err := s.Provider(ctx, scope, poolID, name)
	if err != nil {
		return nil, err
	}
	seen := i.Modified
	if c.Details != nil {
		i.Details = c.Details
	}
	if c.Mapping != nil {
		i.Mapping = c.Mapping
	}
	if c.Identifiers != nil {
		i.Identifiers = c.Identifiers
	}
	if err := federation.Check(&i.Provider); err != nil {
		return nil, err
	}
	if err := s.resolve(ctx, &i.Provider); err != nil {
		return nil, err
	}
	if err := s.mayFillGroups(ctx, scope, poolID, i); err != nil {
		return nil, err
	}
	err = s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		now, err := s.readProvider(tx, p, name)
		if err != nil {
			return err
		}
		if !now.Modified.Equal(seen) {
			return fail(fleet.KindConflict, "ConcurrentModificationException", "The identity provider was changed meanwhile. Try again.")
		}
		if err := p.checkProvider(i); err != nil {
			return err
		}
		if i.Modified = s.now(); !i.Modified.After(seen) {
			i.Modified = seen.Add(time.Millisecond)
		}
		row, err := s.providerRow(p, i)
		if err != nil {
			return err
		}
		return duplicateProvider(tx.UpdatePoolProvider(scope, poolID, row))
	})
	return i, err
}

// DeleteProvider removes a provider: nobody signs in by it any more. The users who came by it stay; clients go on naming it, as with AWS.
func (s *Service) DeleteProvider(ctx context.Context, scope fleet.Scope, poolID, name string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		if _, err := tx.PoolProvider(p.Scope, p.ID, name); err != nil {
			return asNotFound(err, providerNotFound(name))
		}
		return tx.DeletePoolProvider(scope, poolID, name)
	})
}

// checkProviders refuses a client that takes a provider which the pool does not have.
func checkProviders(tx *store.Tx, p *Pool, names []string) error {
	if len(names) == 0 {
		return nil
	}
	known, err := tx.PoolProviderNames(p.Scope, p.ID)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != OwnProvider && !slices.Contains(known, name) {
			return invalid("The provider " + name + " does not exist for User Pool " + p.ID + ".")
		}
	}
	return nil
}
