package userpool

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A ResourceServer is an API of somebody else's that checks our access tokens. A client is granted its scopes as IDENTIFIER/SCOPE.
type ResourceServer struct {
	PoolID, Identifier, Name string
	Scopes                   []ResourceScope
}

// ResourceScope is something that an API lets be done. They are stored as JSON under these names.
type ResourceScope struct{ Name, Description string }

const (
	maxResourceServers = 25 // of a pool
	maxResourceScopes  = 100
)

func resourceServerNotFound(identifier string) *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "Resource server "+identifier+" does not exist.")
}

func resourceServerOf(poolID string, row store.ResourceServer) (ResourceServer, error) {
	r := ResourceServer{PoolID: poolID, Identifier: row.Identifier, Name: row.Name}
	if err := json.Unmarshal([]byte(row.Scopes), &r.Scopes); err != nil {
		return r, fmt.Errorf("reading the scopes of resource server %s: %w", row.Identifier, err)
	}
	return r, nil
}

func (r ResourceServer) put(tx *store.Tx, scope fleet.Scope) error {
	if len(r.Scopes) > maxResourceScopes {
		return overLimit("A resource server holds at most 100 scopes.")
	}
	seen := map[string]bool{}
	for _, s := range r.Scopes {
		if seen[s.Name] {
			return invalid("The scope " + s.Name + " is there twice.")
		}
		seen[s.Name] = true
	}
	scopes, err := toJSON(append([]ResourceScope{}, r.Scopes...))
	if err != nil {
		return err
	}
	return tx.PutResourceServer(scope, r.PoolID, store.ResourceServer{Identifier: r.Identifier, Name: r.Name, Scopes: scopes})
}

// CreateResourceServer adds a resource server to its pool.
func (s *Service) CreateResourceServer(ctx context.Context, scope fleet.Scope, r ResourceServer) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, r.PoolID); err != nil {
			return err
		}
		if _, err := tx.ResourceServer(scope, r.PoolID, r.Identifier); !isNotFound(err) {
			return orElse(err, invalid(r.Identifier+" already exists in user pool "+r.PoolID+"."))
		}
		n, err := tx.CountResourceServers(scope, r.PoolID)
		if err != nil {
			return err
		}
		if n >= maxResourceServers {
			return overLimit("A user pool holds at most 25 resource servers.")
		}
		return r.put(tx, scope)
	})
}

// UpdateResourceServer replaces name and scopes. A client that was granted a scope which is gone no longer gets it.
func (s *Service) UpdateResourceServer(ctx context.Context, scope fleet.Scope, r ResourceServer) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readResourceServer(tx, scope, r.PoolID, r.Identifier); err != nil {
			return err
		}
		return r.put(tx, scope)
	})
}

func readResourceServer(tx *store.Tx, scope fleet.Scope, poolID, identifier string) (ResourceServer, error) {
	if _, err := readPool(tx, scope, poolID); err != nil {
		return ResourceServer{}, err
	}
	row, err := tx.ResourceServer(scope, poolID, identifier)
	if err != nil {
		return ResourceServer{}, asNotFound(err, resourceServerNotFound(identifier))
	}
	return resourceServerOf(poolID, row)
}

// ResourceServer returns a resource server of a pool.
func (s *Service) ResourceServer(ctx context.Context, scope fleet.Scope, poolID, identifier string) (r ResourceServer, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		r, err = readResourceServer(tx, scope, poolID, identifier)
		return err
	})
	return r, err
}

// ResourceServers lists the resource servers of a pool, at most limit; next is the token of the next page.
func (s *Service) ResourceServers(ctx context.Context, scope fleet.Scope, poolID, token string, limit int) (list []ResourceServer, next string, err error) {
	after, err := pageKey("resource servers", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, poolID); err != nil {
			return err
		}
		rows, key, err := tx.ResourceServers(scope, poolID, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("resource servers", key)
		list, err = convert(rows, func(row store.ResourceServer) (ResourceServer, error) { return resourceServerOf(poolID, row) })
		return err
	})
	return list, next, err
}

// DeleteResourceServer takes a resource server away.
func (s *Service) DeleteResourceServer(ctx context.Context, scope fleet.Scope, poolID, identifier string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		if _, err := readResourceServer(tx, scope, poolID, identifier); err != nil {
			return err
		}
		return tx.DeleteResourceServer(scope, poolID, identifier)
	})
}

// Scopes of OpenID Connect and of our own API; all others are a resource server's.
const (
	openIDScope  = "openid"
	emailScope   = "email"
	phoneScope   = "phone"
	profileScope = "profile"
)

var ownScopes = []string{openIDScope, emailScope, phoneScope, profileScope, userScope}

// grantScopes returns the scopes that are asked for, divided by spaces, of those that the client may have; who asks for none gets all that
// there still are.
func (e entry) grantScopes(tx *store.Tx, asked string, may []string) (granted []string, err error) {
	wanted := strings.Fields(asked)
	all := len(wanted) == 0
	if all {
		wanted = may
	}
	for _, scope := range wanted {
		exists, err := scopeExists(tx, e.pool, scope)
		switch {
		case err != nil:
			return nil, err
		case exists && slices.Contains(may, scope):
			if !slices.Contains(granted, scope) {
				granted = append(granted, scope)
			}
		case !all:
			return nil, oauthError("invalid_scope", "The client may not have the scope "+scope+".")
		}
	}
	if len(granted) == 0 {
		return nil, oauthError("invalid_scope", "The client may have no scope.")
	}
	return granted, nil
}

// scopeExists reports whether a scope is one of our own or of a resource server of the pool.
func scopeExists(tx *store.Tx, p *Pool, scope string) (bool, error) {
	if slices.Contains(ownScopes, scope) {
		return true, nil
	}
	cut := strings.LastIndexByte(scope, '/')
	if cut < 0 {
		return false, nil
	}
	row, err := tx.ResourceServer(p.Scope, p.ID, scope[:cut])
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r, err := resourceServerOf(p.ID, row)
	return slices.ContainsFunc(r.Scopes, func(s ResourceScope) bool { return s.Name == scope[cut+1:] }), err
}
