package iam

import (
	"context"
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// CreateUser, CreateGroup and CreateRole add an entity of which Name, Path and Body are given.
func (s *Service) CreateUser(ctx context.Context, scope fleet.Scope, e Entity) (Entity, error) {
	e.Kind = store.IAMUser
	return s.create(ctx, scope, e)
}

func (s *Service) CreateGroup(ctx context.Context, scope fleet.Scope, e Entity) (Entity, error) {
	e.Kind = store.IAMGroup
	return s.create(ctx, scope, e)
}

func (s *Service) create(ctx context.Context, scope fleet.Scope, e Entity) (Entity, error) {
	err := s.db.Tx(ctx, func(tx *store.Tx) error { return create(tx, scope, &e) })
	return e, err
}

// Rename gives a user or group another name or path; empty means unchanged.
func (s *Service) Rename(ctx context.Context, scope fleet.Scope, kind, name, newName, newPath string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, name)
		if err != nil {
			return err
		}
		if newPath != "" {
			if !pathForm.MatchString(newPath) {
				return invalidInput("The specified value for newPath is invalid.")
			}
			e.Path = newPath
			if err := update(tx, scope, e); err != nil {
				return err
			}
		}
		if newName == "" || newName == e.Name {
			return nil
		}
		err = tx.RenameIAMEntity(scope, kind, e.Name, newName)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindExists}) {
			return fleet.Exists("", "", "%s with name %s already exists.", title(kind), newName).WithCode("EntityAlreadyExists")
		}
		return err
	})
}

// A Key is an access key; Secret is set when it is made, and never again.
type Key struct {
	store.AccessKey
	Secret fleet.Secret
}

const alphaSecret = fleet.AlphaAlnum + "/+"

func newSecret() fleet.Secret { return fleet.Secret(fleet.RandomString(40, alphaSecret)) }

const purposeKey = "iam access key"

// CreateKey makes an access key for a user.
func (s *Service) CreateKey(ctx context.Context, scope fleet.Scope, user string) (Key, error) {
	var k Key
	id, secret := "AKIA"+fleet.RandomString(16, fleet.AlphaBase32), newSecret()
	err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		k, err = s.createKey(tx, scope, user, id, secret, maxKeys)
		return err
	})
	return k, err
}

func (s *Service) createKey(tx *store.Tx, scope fleet.Scope, user, id string, secret fleet.Secret, limit int) (Key, error) {
	e, err := get(tx, scope, store.IAMUser, user)
	if err != nil {
		return Key{}, err
	}
	keys, err := tx.AccessKeys(scope, e.Name)
	if err != nil {
		return Key{}, err
	}
	if len(keys) >= limit {
		return Key{}, limitExceeded("Cannot exceed quota for AccessKeysPerUser: %d", limit)
	}
	k := store.AccessKey{Account: scope.Account, ID: id, User: e.Name, Active: true, Created: tx.Now(),
		Secret: s.sealer.Seal(purposeKey, []byte(secret.Reveal()), []byte(id))}
	return Key{k, secret}, tx.CreateAccessKey(scope, k)
}

// Keys lists a user's keys without their secrets.
func (s *Service) Keys(ctx context.Context, scope fleet.Scope, user string) (keys []store.AccessKey, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, store.IAMUser, user)
		if err != nil {
			return err
		}
		keys, err = tx.AccessKeys(scope, e.Name)
		return err
	})
	return keys, err
}

func userKey(tx *store.Tx, scope fleet.Scope, user, id string) error {
	k, err := tx.FindAccessKey(id)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && (k.Account != scope.Account || k.User != user) {
		return noSuch("The Access Key with id %s cannot be found.", id)
	}
	return err
}

// SetKeyActive switches a user's key on or off. Off also ends the sessions made with it.
func (s *Service) SetKeyActive(ctx context.Context, scope fleet.Scope, user, id string, active bool) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := userKey(tx, scope, user, id); err != nil {
			return err
		}
		if !active {
			if err := tx.CutOff(scope.Global(), "key:"+id, tx.Now()); err != nil {
				return err
			}
		}
		return tx.SetAccessKeyActive(scope, id, active)
	})
}

// DeleteKey removes a user's key and ends the sessions made with it.
func (s *Service) DeleteKey(ctx context.Context, scope fleet.Scope, user, id string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := userKey(tx, scope, user, id); err != nil {
			return err
		}
		if err := tx.CutOff(scope.Global(), "key:"+id, tx.Now()); err != nil {
			return err
		}
		return tx.DeleteAccessKey(scope, id)
	})
}

// KeyOwner returns the user of a key of the account.
func (s *Service) KeyOwner(ctx context.Context, scope fleet.Scope, id string) (user string, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		k, err := tx.FindAccessKey(id)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && k.Account != scope.Account {
			return noSuch("The Access Key with id %s cannot be found.", id)
		}
		user = k.User
		return err
	})
	return user, err
}

// Administrator is the user that a new account begins with.
const Administrator = "administrator"

// maxAdminKeys is more than AWS allows a user, so that keys made on the machine of the server are never refused for those
// that somebody has lost.
const maxAdminKeys = 100

// Bootstrap makes sure that the account has its administrator, with all rights, and gives it a new key.
func (s *Service) Bootstrap(ctx context.Context, scope fleet.Scope) (accessKeyID string, secret fleet.Secret, err error) {
	id, secret := "AKIA"+fleet.RandomString(16, fleet.AlphaBase32), newSecret()
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.IAMEntity(scope, store.IAMUser, Administrator); errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
			if err := create(tx, scope, &Entity{Kind: store.IAMUser, Name: Administrator}); err != nil {
				return err
			}
			if err := tx.AttachManagedPolicy(scope, store.IAMUser, Administrator, managedPrefix+"AdministratorAccess"); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		_, err := s.createKey(tx, scope, Administrator, id, secret, maxAdminKeys)
		return err
	})
	return id, secret, err
}

// AddToGroup and RemoveFromGroup change a user's groups.
func (s *Service) AddToGroup(ctx context.Context, scope fleet.Scope, group, user string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		g, u, err := both(tx, scope, group, user)
		if err != nil {
			return err
		}
		return tx.AddIAMMember(scope, g, u)
	})
}

func (s *Service) RemoveFromGroup(ctx context.Context, scope fleet.Scope, group, user string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		g, u, err := both(tx, scope, group, user)
		if err != nil {
			return err
		}
		if was, err := tx.RemoveIAMMember(scope, g, u); err != nil || was {
			return err
		}
		return noSuch("User %s not in group %s", u, g)
	})
}

func both(tx *store.Tx, scope fleet.Scope, group, user string) (g, u string, err error) {
	ge, err := get(tx, scope, store.IAMGroup, group)
	if err != nil {
		return "", "", err
	}
	ue, err := get(tx, scope, store.IAMUser, user)
	return ge.Name, ue.Name, err
}

// Members lists a group's users, GroupsOf a user's groups.
func (s *Service) Members(ctx context.Context, scope fleet.Scope, group string) ([]Entity, error) {
	return s.related(ctx, scope, store.IAMGroup, group, store.IAMUser, (*store.Tx).IAMMembers)
}

func (s *Service) GroupsOf(ctx context.Context, scope fleet.Scope, user string) ([]Entity, error) {
	return s.related(ctx, scope, store.IAMUser, user, store.IAMGroup, (*store.Tx).IAMGroupsOf)
}

func (s *Service) related(ctx context.Context, scope fleet.Scope, kind, name, other string, names func(*store.Tx, fleet.Scope, string) ([]string, error)) (list []Entity, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		list = nil
		e, err := get(tx, scope, kind, name)
		if err != nil {
			return err
		}
		found, err := names(tx, scope, e.Name)
		for _, n := range found {
			o, err := get(tx, scope, other, n)
			if err != nil {
				return err
			}
			list = append(list, o)
		}
		return err
	})
	return list, err
}
