package userpool

import (
	"context"
	"encoding/json"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// NewClient describes a client to make.
type NewClient struct {
	Name           string
	GenerateSecret bool
	Secret         fleet.Secret // the caller's own; empty: none or a generated one
	ClientSettings
}

// CreateClient adds an app client to a pool.
func (s *Service) CreateClient(ctx context.Context, scope fleet.Scope, poolID string, n NewClient) (c *Client, err error) {
	if n.GenerateSecret && n.Secret != "" {
		return nil, invalid("Give either GenerateSecret or ClientSecret, not both.")
	}
	now, id := s.now(), fleet.RandomString(26, fleet.AlphaLowerDigit)
	secret := n.Secret
	if n.GenerateSecret {
		secret = fleet.Secret(fleet.RandomString(52, fleet.AlphaLowerDigit))
	}
	err = s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		c = &Client{Scope: scope, PoolID: poolID, ID: id, Name: n.Name, ClientSettings: n.ClientSettings, Secret: secret, Created: now, Modified: now}
		if err := checkClient(tx, p, c); err != nil {
			return err
		}
		count, err := tx.CountUserPoolClients(scope, poolID)
		if err != nil {
			return err
		}
		if count >= maxClients {
			return overLimit("A user pool holds at most 1000 app clients.")
		}
		row, err := s.clientRow(c)
		if err != nil {
			return err
		}
		return tx.CreateUserPoolClient(row)
	})
	return c, err
}

func (s *Service) clientRow(c *Client) (store.UserPoolClient, error) {
	settings, err := json.Marshal(c.ClientSettings)
	row := store.UserPoolClient{Scope: c.Scope, Pool: c.PoolID, ID: c.ID, Name: c.Name, Settings: string(settings),
		Created: c.Created, Modified: c.Modified}
	if c.Secret != "" {
		row.Secret = s.seal("client-secret", []byte(c.Secret.Reveal()), c.Scope, c.PoolID, c.ID)
	}
	return row, err
}

// readClient returns a client of a pool, which must exist in the scope.
func (s *Service) readClient(tx *store.Tx, scope fleet.Scope, poolID, id string) (*Client, *Pool, error) {
	p, err := readPool(tx, scope, poolID)
	if err != nil {
		return nil, nil, err
	}
	row, err := tx.UserPoolClient(scope, poolID, id)
	if err != nil {
		return nil, nil, asNotFound(err, clientNotFound(id))
	}
	c, err := s.clientOf(row)
	return c, p, err
}

// Client returns a client of a pool.
func (s *Service) Client(ctx context.Context, scope fleet.Scope, poolID, id string) (c *Client, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		c, _, err = s.readClient(tx, scope, poolID, id)
		return err
	})
	return c, err
}

// Clients lists the clients of a pool.
func (s *Service) Clients(ctx context.Context, scope fleet.Scope, poolID, token string, limit int) (clients []*Client, next string, err error) {
	after, err := pageKey("clients", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		if _, err := readPool(tx, scope, poolID); err != nil {
			return err
		}
		rows, key, err := tx.UserPoolClients(scope, poolID, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("clients", key)
		clients, err = convert(rows, s.clientOf)
		return err
	})
	return clients, next, err
}

// UpdateClient replaces the whole configuration of a client: what is not said returns to its default (identity spec 1.2). An empty
// name keeps the old one.
func (s *Service) UpdateClient(ctx context.Context, scope fleet.Scope, poolID, id, name string, settings ClientSettings) (c *Client, err error) {
	err = s.tx(ctx, func(tx *store.Tx) error {
		var p *Pool
		if c, p, err = s.readClient(tx, scope, poolID, id); err != nil {
			return err
		}
		c.Name, c.ClientSettings, c.Modified = or(name, c.Name), settings, s.now()
		if err := checkClient(tx, p, c); err != nil {
			return err
		}
		row, err := s.clientRow(c)
		if err != nil {
			return err
		}
		return tx.UpdateUserPoolClient(row)
	})
	return c, err
}

// DeleteClient removes a client. Its tokens stop working here with it.
func (s *Service) DeleteClient(ctx context.Context, scope fleet.Scope, poolID, id string) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		if _, _, err := s.readClient(tx, scope, poolID, id); err != nil {
			return err
		}
		return tx.DeleteUserPoolClient(scope, poolID, id)
	})
}
