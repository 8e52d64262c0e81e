// Package identitypool holds the rules of identity pools: who a login is, which role it gets, and the temporary credentials of
// that role (identity spec section 2).
//
// Begin with Service and its Credentials (flow.go), then role.go for the choice of the role. Pools and their settings are in
// pool.go, the providers' names in provider.go. Tokens are checked by the user pools that issued them, those of other issuers by
// internal/oidc; sessions are issued by internal/iam.
package identitypool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Pool is an identity pool with its settings.
type Pool struct {
	Scope    fleet.Scope
	ID, Name string
	Tags     map[string]string
	Settings
}

// Settings of a pool, stored as JSON under the names of these fields: a field may be added, never renamed.
type Settings struct {
	Guests    bool // unauthenticated identities
	Classic   bool // GetOpenIdToken is offered
	Providers []Provider
	OIDC      []string           `json:",omitempty"` // ARNs of IAM's OpenID Connect providers of the account
	Public    map[string]string  `json:",omitempty"` // public provider (oidc.Public) → its client ids for us, joined with ;
	Roles     map[string]string  // "authenticated" and "unauthenticated" → role ARN
	Mappings  map[string]Mapping // as the administrator wrote the key: provider name, colon, client id
	TagMaps   map[string]TagMap  // by provider name as written
}

// A Provider is one client of a user pool whose Id tokens the pool takes.
type Provider struct {
	Name        string // as the administrator wrote it
	ClientID    string
	ServerCheck bool // echoed; our own pools' tokens are always checked against their state
}

// A Mapping says how a provider's users get their role.
type Mapping struct {
	Type      string // Token or Rules
	Ambiguous string // AuthenticatedRole or Deny
	Rules     []Rule
}

// A Rule gives a role to those whose claim matches.
type Rule struct{ Claim, Match, Value, RoleARN string }

// A TagMap turns claims into principal tags.
type TagMap struct {
	Defaults bool
	Tags     map[string]string // tag key → claim name
}

// ARN names an identity pool as IAM policies do.
func ARN(s fleet.Scope, id string) string { return s.ARN("cognito-identity", "identitypool/"+id) }

// Limits (identity spec 2.1).
const (
	maxProviders = 50
	maxRules     = 25
	maxTags      = 50

	// of principal tags (identity spec 2.6), in bytes
	maxTagKey, maxClaimName, maxTagMap = 128, 256, 460
)

func notAuthorized(format string, args ...any) *fleet.Error {
	return fleet.Denied(format, args...).WithCode("NotAuthorizedException")
}

func notFound(kind, id string) *fleet.Error {
	return &fleet.Error{Kind: fleet.KindNotFound, Code: "ResourceNotFoundException", Msg: fmt.Sprintf("%s '%s' not found.", kind, id)}
}

func badConfiguration(err error) *fleet.Error {
	return &fleet.Error{Kind: fleet.KindInvalid, Code: "InvalidIdentityPoolConfigurationException",
		Msg: "Invalid identity pool configuration. Check assigned IAM roles for this pool.", Err: err}
}

func invalid(format string, args ...any) *fleet.Error {
	return fleet.Invalid("", "", format, args...).WithCode("InvalidParameterException")
}

func poolOf(row store.IdentityPool) (*Pool, error) {
	p := &Pool{Scope: row.Scope, ID: row.ID, Name: row.Name, Tags: row.Tags}
	if err := json.Unmarshal([]byte(row.Settings), &p.Settings); err != nil {
		return nil, fmt.Errorf("reading identity pool %s: %w", row.ID, err)
	}
	return p, nil
}

func (p *Pool) row() (store.IdentityPool, error) {
	b, err := json.Marshal(p.Settings)
	return store.IdentityPool{Scope: p.Scope, ID: p.ID, Name: p.Name, Settings: string(b), Tags: p.Tags}, err
}

// check refuses settings that break a limit or leave a choice open.
func (s *Service) check(p *Pool) error {
	if err := s.checkProviders(p); err != nil {
		return err
	}
	if len(p.Providers) > maxProviders {
		return fleet.OverLimit("", "", "an identity pool takes at most %d providers", maxProviders).WithCode("LimitExceededException")
	}
	meant := map[string]string{}
	for key, m := range p.Mappings {
		// Two spellings of one provider would leave it to chance which mapping counts.
		name, client, _ := cutLast(key, ":")
		same := providerName(key)
		poolID, ours := s.userPoolOf(name)
		if ours {
			same = poolID + ":" + client
		}
		if first, double := meant[same]; double {
			return invalid("the role mappings %s and %s are for the same provider", min(first, key), max(first, key))
		}
		meant[same] = key
		if m.Type == "Token" && !ours && !slices.Contains(s.roleIssuers, same) {
			return invalid("The role mapping of %s cannot be of type Token: whoever runs that provider, and in some everybody who edits a profile, "+
				"could name any role. Use type Rules, or let the operator list the issuer under identity-roles", key)
		}
		if len(m.Rules) > maxRules {
			return fleet.OverLimit("", "", "a role mapping takes at most %d rules", maxRules).WithCode("LimitExceededException")
		}
		switch {
		case m.Ambiguous == "":
			return invalid("AmbiguousRoleResolution is required with role mapping type %s", m.Type)
		case m.Type == "Rules" && len(m.Rules) == 0:
			return invalid("RulesConfiguration is required with role mapping type Rules")
		case m.Type == "Token" && len(m.Rules) > 0:
			return invalid("RulesConfiguration is not allowed with role mapping type Token")
		}
	}
	return nil
}

// checkProviders refuses providers that nobody could sign in with.
func (s *Service) checkProviders(p *Pool) error {
	if len(p.OIDC) > maxProviders {
		return fleet.OverLimit("", "", "an identity pool takes at most %d OpenID Connect providers", maxProviders).WithCode("LimitExceededException")
	}
	seen := map[string]bool{}
	for _, arn := range p.OIDC {
		a, ok := fleet.ParseARN(arn)
		if !ok || a.Service != "iam" || a.Account != p.Scope.Account || a.Kind() != "oidc-provider" {
			return invalid("%s is no OpenID Connect provider of account %s; its ARN is like %s", arn, p.Scope.Account, p.Scope.IAM("oidc-provider/id.example/realm"))
		}
		name := providerName(arn)
		if poolID, ours := s.userPoolOf(name); ours && strings.HasPrefix(name, s.issuerHost+"/") {
			return invalid("%s is this server's own user pool %s: name it under CognitoIdentityProviders", arn, poolID)
		}
		if seen[name] {
			return invalid("the OpenID Connect provider %s is named twice", arn)
		}
		seen[name] = true
	}
	for name, apps := range p.Public {
		if !oidc.Public(name) {
			return invalid("SupportedLoginProviders takes %s, %s, %s and %s, not %s", oidc.Google, oidc.Apple, oidc.Facebook, oidc.Amazon, name)
		}
		if slices.Contains(strings.Split(apps, ";"), "") {
			return invalid("the client ids of %s are to be joined with ;, none of them empty", name)
		}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// RoleARNs lists every role that the settings name: whoever sets them must be allowed to pass each.
func (s *Settings) RoleARNs() []string {
	var arns []string
	for _, r := range s.Roles {
		arns = append(arns, r)
	}
	for _, m := range s.Mappings {
		for _, r := range m.Rules {
			arns = append(arns, r.RoleARN)
		}
	}
	slices.Sort(arns)
	return slices.Compact(arns)
}

// Create makes a pool in the scope and returns it with its id.
func (s *Service) Create(ctx context.Context, scope fleet.Scope, name string, tags map[string]string, settings Settings) (*Pool, error) {
	p := &Pool{Scope: scope, ID: scope.Region + ":" + fleet.NewUUID(), Name: name, Tags: tags, Settings: settings}
	if err := s.check(p); err != nil {
		return nil, err
	}
	row, err := p.row()
	if err != nil {
		return nil, err
	}
	row.Created = s.clock.Now()
	return p, s.db.Tx(ctx, func(tx *store.Tx) error { return tx.CreateIdentityPool(row) })
}

// Pool returns a pool of the scope.
func (s *Service) Pool(ctx context.Context, scope fleet.Scope, id string) (p *Pool, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		p, err = poolIn(tx, scope, id)
		return err
	})
	return p, err
}

// poolIn reads a pool and hides those of other scopes.
func poolIn(tx *store.Tx, scope fleet.Scope, id string) (*Pool, error) {
	p, err := anyPool(tx, id)
	if err == nil && p.Scope != scope {
		return nil, notFound("IdentityPool", id)
	}
	return p, err
}

// anyPool reads a pool for an unsigned request, which names no scope.
func anyPool(tx *store.Tx, id string) (*Pool, error) {
	row, err := tx.FindIdentityPool(id)
	if isNotFound(err) {
		return nil, notFound("IdentityPool", id)
	}
	if err != nil {
		return nil, err
	}
	return poolOf(row)
}

func isNotFound(err error) bool { return errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) }

// Update lets change alter a pool and stores it.
func (s *Service) Update(ctx context.Context, scope fleet.Scope, id string, change func(*Pool)) (p *Pool, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if p, err = poolIn(tx, scope, id); err != nil {
			return err
		}
		change(p)
		if err := s.check(p); err != nil {
			return err
		}
		row, err := p.row()
		if err != nil {
			return err
		}
		return tx.UpdateIdentityPool(row)
	})
	return p, err
}

// Delete removes a pool and its identities, in small transactions so that nobody waits long behind them. A deletion that is cut
// short leaves the pool with fewer identities; it can be repeated.
func (s *Service) Delete(ctx context.Context, scope fleet.Scope, id string) error {
	for done := false; !done; {
		err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
			if _, err := poolIn(tx, scope, id); err != nil {
				return err
			}
			done, err = tx.DrainIdentityPool(scope, id, 50)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SetTagMap says how a provider's claims become principal tags, in place of what was said under any spelling of its name.
func (s *Service) SetTagMap(ctx context.Context, scope fleet.Scope, id, provider string, m TagMap) error {
	size := 0
	for key, claim := range m.Tags {
		size += len(key) + len(claim)
		if len(key) > maxTagKey || len(claim) > maxClaimName {
			return invalid("a tag key has at most %d bytes and a claim name at most %d", maxTagKey, maxClaimName)
		}
	}
	if size > maxTagMap || len(m.Tags) > maxTags {
		return invalid("tag keys and claim names have at most %d bytes together, in at most %d tags", maxTagMap, maxTags)
	}
	_, err := s.Update(ctx, scope, id, func(p *Pool) {
		kept := map[string]TagMap{provider: m}
		for name, old := range p.TagMaps {
			if !s.sameProvider(name, provider) {
				kept[name] = old
			}
		}
		p.TagMaps = kept
	})
	return err
}

// TagMap returns what SetTagMap said of a provider, under any spelling of its name.
func (s *Service) TagMap(p *Pool, provider string) TagMap {
	for name, m := range p.TagMaps {
		if s.sameProvider(name, provider) {
			return m
		}
	}
	return TagMap{}
}

// Pools lists the scope's pools by id.
func (s *Service) Pools(ctx context.Context, scope fleet.Scope, page fleet.Page) (pools []*Pool, next string, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		rows, n, err := tx.IdentityPools(scope, page)
		next = n
		for _, row := range rows {
			p, err := poolOf(row)
			if err != nil {
				return err
			}
			pools = append(pools, p)
		}
		return err
	})
	return pools, next, err
}

// Identity returns an identity of the scope.
func (s *Service) Identity(ctx context.Context, scope fleet.Scope, id string) (i store.Identity, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		if i, err = tx.FindIdentity(id); isNotFound(err) || err == nil && i.Scope != scope {
			return notFound("Identity", id)
		}
		return err
	})
	return i, err
}

// Identities lists a pool's identities by id.
func (s *Service) Identities(ctx context.Context, scope fleet.Scope, pool string, page fleet.Page) (list []store.Identity, next string, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		if _, err := poolIn(tx, scope, pool); err != nil {
			return err
		}
		list, next, err = tx.Identities(scope, pool, page)
		return err
	})
	return list, next, err
}

// DeleteIdentities removes identities of the scope; ids that it does not have are passed over.
func (s *Service) DeleteIdentities(ctx context.Context, scope fleet.Scope, ids []string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, id := range ids {
			if _, err := tx.DeleteIdentity(scope, id); err != nil {
				return err
			}
		}
		return nil
	})
}
