package userpool

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Quotas of identity spec 1.2.
const (
	maxClients       = 1000
	maxGroups        = 10_000
	maxGroupsPerUser = 100
	maxTags          = 50
)

// CreatePool makes a pool with its signing keys. settings.Schema holds what the maker asked for; the result has the whole schema.
func (s *Service) CreatePool(ctx context.Context, scope fleet.Scope, name string, settings Settings, tags map[string]string) (*Pool, error) {
	var err error
	if settings.Schema, err = newSchema(settings.Schema); err != nil {
		return nil, err
	}
	if err := checkSettings(&settings); err != nil {
		return nil, err
	}
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	now := s.now()
	p := &Pool{Scope: scope, ID: scope.Region + "_" + fleet.RandomString(9, fleet.AlphaAlnum), Name: name, Settings: settings, Tags: tags,
		Created: now, Modified: now}
	secret := make([]byte, 32)
	rand.Read(secret)
	p.secret = s.seal("pool-secret", secret, scope, p.ID)
	keys, err := s.newPoolKeys(ctx, scope, p.ID, p.Created)
	if err != nil {
		return nil, err
	}
	row, err := rowOf(p)
	if err != nil {
		return nil, err
	}
	return p, s.tx(ctx, func(tx *store.Tx) error {
		if err := tx.CreateUserPool(row); err != nil {
			return err
		}
		for _, k := range keys {
			if err := tx.AddUserPoolKey(scope, p.ID, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Pool returns a pool with its estimated size.
func (s *Service) Pool(ctx context.Context, scope fleet.Scope, id string) (p *Pool, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		if p, err = readPool(tx, scope, id); err != nil {
			return err
		}
		if p.EstimatedUsers, err = tx.CountPoolUsers(scope, id); err != nil {
			return err
		}
		have, err := domains(tx, scope, id)
		for _, d := range have {
			if d.Custom {
				p.HostName = d.Name
			} else {
				p.Prefix = d.Name
			}
		}
		return err
	})
	return p, err
}

// Pools lists the pools of a scope, at most limit; next is the token of the next page.
func (s *Service) Pools(ctx context.Context, scope fleet.Scope, token string, limit int) (pools []*Pool, next string, err error) {
	after, err := pageKey("pools", token)
	if err != nil {
		return nil, "", err
	}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, key, err := tx.UserPools(scope, fleet.Page{After: after, Limit: limit})
		if err != nil {
			return err
		}
		next = pageToken("pools", key)
		pools, err = convert(rows, poolOf)
		return err
	})
	return pools, next, err
}

// UpdatePool replaces the changeable settings of a pool, so that what is not said returns to its default, but for the second factor and the
// policies of passwords and sign-in: none goes by being left out, as with AWS. An empty name keeps the old one, nil tags keep the old ones.
func (s *Service) UpdatePool(ctx context.Context, scope fleet.Scope, id, name string, settings Settings, tags map[string]string) error {
	if err := checkTags(tags); err != nil {
		return err
	}
	return s.changeQuietPool(ctx, scope, id, func(p *Pool) error {
		settings := settings
		settings.Schema, settings.CaseSensitive = p.Schema, p.CaseSensitive
		settings.UsernameAttributes, settings.AliasAttributes = p.UsernameAttributes, p.AliasAttributes
		settings.Tier, settings.MFA, settings.Passkeys = or(settings.Tier, p.Tier), or(settings.MFA, p.MFA), p.Passkeys
		if settings.FirstFactors == nil {
			settings.FirstFactors = p.FirstFactors
		}
		if settings.Password == (PasswordPolicy{}) {
			settings.Password = p.Password
		}
		if err := checkSettings(&settings); err != nil {
			return err
		}
		p.Settings, p.Name = settings, or(name, p.Name)
		if tags != nil {
			p.Tags = tags
		}
		return nil
	})
}

// AddAttributes adds custom attributes, given by their bare names, to a pool's schema.
func (s *Service) AddAttributes(ctx context.Context, scope fleet.Scope, id string, attributes []SchemaAttribute) error {
	return s.changeQuietPool(ctx, scope, id, func(p *Pool) (err error) {
		for _, a := range attributes {
			if p.Schema, err = addCustom(p.Schema, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// TagPool adds tags to a pool and UntagPool takes some away.
func (s *Service) TagPool(ctx context.Context, scope fleet.Scope, arn string, tags map[string]string) error {
	id, err := poolOfARN(scope, arn)
	if err != nil {
		return err
	}
	return s.changePool(ctx, scope, id, func(p *Pool) error {
		if p.Tags == nil {
			p.Tags = map[string]string{}
		}
		maps.Copy(p.Tags, tags)
		return checkTags(p.Tags)
	})
}

// UntagPool: see TagPool.
func (s *Service) UntagPool(ctx context.Context, scope fleet.Scope, arn string, keys []string) error {
	id, err := poolOfARN(scope, arn)
	if err != nil {
		return err
	}
	return s.changePool(ctx, scope, id, func(p *Pool) error {
		for _, k := range keys {
			delete(p.Tags, k)
		}
		return nil
	})
}

// PoolTags returns the tags of the pool that an ARN names.
func (s *Service) PoolTags(ctx context.Context, scope fleet.Scope, arn string) (map[string]string, error) {
	id, err := poolOfARN(scope, arn)
	if err != nil {
		return nil, err
	}
	p, err := s.Pool(ctx, scope, id)
	if err != nil {
		return nil, err
	}
	return p.Tags, nil
}

func poolOfARN(scope fleet.Scope, arn string) (string, error) {
	a, ok := fleet.ParseARN(arn)
	if !ok || !a.In(scope, "cognito-idp") || a.Kind() != "userpool" || a.Name() == "" {
		return "", fail(fleet.KindNotFound, "ResourceNotFoundException", "Resource "+arn+" does not exist.")
	}
	return a.Name(), nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return invalid("A user pool holds at most 50 tags.")
	}
	for k := range tags {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return invalid("Tag keys that begin with aws: are reserved.")
		}
	}
	return nil
}

func (s *Service) changePool(ctx context.Context, scope fleet.Scope, id string, change func(*Pool) error) error {
	return s.changePoolIf(ctx, scope, id, func(*store.Tx, *Pool) error { return nil }, change)
}

// changeQuietPool is changePool for what must stay while users are imported.
func (s *Service) changeQuietPool(ctx context.Context, scope fleet.Scope, id string, change func(*Pool) error) error {
	return s.changePoolIf(ctx, scope, id, notImporting, change)
}

func (s *Service) changePoolIf(ctx context.Context, scope fleet.Scope, id string, may func(*store.Tx, *Pool) error, change func(*Pool) error) error {
	return s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, id)
		if err == nil {
			err = may(tx, p)
		}
		if err != nil {
			return err
		}
		if err := change(p); err != nil {
			return err
		}
		p.Modified = s.now()
		row, err := rowOf(p)
		if err != nil {
			return err
		}
		return tx.UpdateUserPool(row)
	})
}

// DeletePool removes a pool. It is gone for everybody at once; its users follow in small transactions, each cut off from
// credentials and claims. Sweep finishes what a power cut interrupts.
func (s *Service) DeletePool(ctx context.Context, scope fleet.Scope, id string) error {
	err := s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, id)
		if err != nil {
			return err
		}
		if p.DeletionProtection {
			return invalid("The user pool cannot be deleted because deletion protection is activated. Deletion protection must be inactivated first.")
		}
		if err := notImporting(tx, p); err != nil {
			return err
		}
		have, err := tx.PoolDomains(scope, id)
		if err != nil {
			return err
		}
		if len(have) > 0 {
			return invalid("User pool cannot be deleted. It has a domain configured that should be deleted first.")
		}
		return tx.CloseUserPool(scope, id)
	})
	if err != nil {
		return err
	}
	return s.drain(context.WithoutCancel(ctx), scope, id)
}

func (s *Service) drain(ctx context.Context, scope fleet.Scope, id string) error {
	for done := false; !done; {
		if err := s.tx(ctx, func(tx *store.Tx) (err error) {
			done, err = tx.DrainUserPool(scope, id, 20, s.now())
			return err
		}); err != nil {
			return fmt.Errorf("removing what user pool %s held: %w", id, err)
		}
	}
	return nil
}

// pageToken and pageKey hide the key of a list's next page from its reader: what is in it is nobody's contract.
func pageToken(list, key string) string {
	if key == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + key))
}

func pageKey(list, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	key, ok := strings.CutPrefix(string(raw), list+"\x00")
	if err != nil || !ok || key == "" {
		return "", invalid("Invalid pagination token: repeat the list from its start.")
	}
	return key, nil
}

func convert[A, B any](in []A, f func(A) (B, error)) ([]B, error) {
	out := make([]B, 0, len(in))
	for _, a := range in {
		b, err := f(a)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
