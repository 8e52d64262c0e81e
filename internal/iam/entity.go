package iam

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// An Entity is a user, role, group, managed policy or OIDC provider.
type Entity struct {
	Kind, Name, ID, Path string // kinds are store.IAMUser …
	Created              time.Time
	Body
}

// Body is what entities have beside; each kind uses a part. It is stored as JSON under the names of these fields: a field may
// be added, never renamed.
type Body struct {
	Tags        map[string]string `json:",omitempty"`
	Boundary    string            `json:",omitempty"` // ARN of the managed policy that bounds a user or role
	Description string            `json:",omitempty"`

	Trust      string `json:",omitempty"` // role: who may become it
	MaxSession int    `json:",omitempty"` // role: seconds

	Default int       `json:",omitempty"` // policy: default version
	Next    int       `json:",omitempty"` // policy: highest version ever, since ids are not used again
	Updated time.Time `json:",omitzero"`  // policy

	URL         string   `json:",omitempty"` // oidc: issuer without its scheme
	ClientIDs   []string `json:",omitempty"` // oidc
	Thumbprints []string `json:",omitempty"` // oidc
}

// ARN names the entity.
func (e Entity) ARN(s fleet.Scope) string {
	switch e.Kind {
	case store.IAMOIDC:
		return s.IAM("oidc-provider/" + e.Name)
	default:
		return s.IAM(e.Kind + e.Path + e.Name)
	}
}

// Prefixes of unique ids.
var idPrefix = map[string]string{store.IAMUser: "AIDA", store.IAMRole: "AROA", store.IAMGroup: "AGPA", store.IAMPolicy: "ANPA", store.IAMOIDC: "OIDC"}

func newID(kind string) string { return idPrefix[kind] + fleet.RandomString(17, fleet.AlphaBase32) }

func title(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

func entityOf(row store.IAMEntity) (Entity, error) {
	e := Entity{Kind: row.Kind, Name: row.Name, ID: row.ID, Path: row.Path, Created: row.Created}
	if err := json.Unmarshal([]byte(row.Body), &e.Body); err != nil {
		return e, fmt.Errorf("reading %s %s: %w", row.Kind, row.Name, err)
	}
	return e, nil
}

func (e Entity) row() (store.IAMEntity, error) {
	b, err := json.Marshal(e.Body)
	return store.IAMEntity{Kind: e.Kind, Name: e.Name, ID: e.ID, Path: e.Path, Body: string(b), Created: e.Created}, err
}

// get reads an entity; what does not exist is NoSuchEntity in AWS's words.
func get(tx *store.Tx, s fleet.Scope, kind, name string) (Entity, error) {
	row, err := tx.IAMEntity(s, kind, name)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
		switch kind {
		case store.IAMPolicy:
			return Entity{}, noSuch("Policy %s was not found.", s.IAM("policy/"+name))
		case store.IAMOIDC:
			return Entity{}, noSuch("OpenIDConnect Provider not found for arn %s", s.IAM("oidc-provider/"+name))
		}
		return Entity{}, noSuch("The %s with name %s cannot be found.", kind, name)
	}
	if err != nil {
		return Entity{}, err
	}
	return entityOf(row)
}

// create stores a new entity with a fresh id.
func create(tx *store.Tx, s fleet.Scope, e *Entity) error {
	if e.Path == "" {
		e.Path = "/"
	}
	if !pathForm.MatchString(e.Path) {
		return fleet.Invalid("", "", "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.").WithCode("ValidationError")
	}
	if len(e.Tags) > maxTags {
		return limitExceeded("The number of tags has reached the maximum limit.")
	}
	if e.Boundary != "" {
		if _, err := managedDocument(tx, s, e.Boundary); err != nil {
			return err
		}
	}
	e.ID, e.Created = newID(e.Kind), tx.Now()
	row, err := e.row()
	if err != nil {
		return err
	}
	err = tx.CreateIAMEntity(s, row)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindExists}) {
		text := fmt.Sprintf("%s with name %s already exists.", title(e.Kind), e.Name)
		switch e.Kind {
		case store.IAMPolicy:
			text = fmt.Sprintf("A policy called %s already exists. Duplicate names are not allowed.", e.Name)
		case store.IAMOIDC:
			text = fmt.Sprintf("Provider with url https://%s already exists.", e.Name)
		}
		return (&fleet.Error{Kind: fleet.KindExists, Msg: text, Err: err}).WithCode("EntityAlreadyExists")
	}
	return err
}

func update(tx *store.Tx, s fleet.Scope, e Entity) error {
	row, err := e.row()
	if err != nil {
		return err
	}
	return tx.UpdateIAMEntity(s, row)
}

// Entity returns an entity of the account by kind and name.
func (s *Service) Entity(ctx context.Context, scope fleet.Scope, kind, name string) (e Entity, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		e, err = get(tx, scope, kind, name)
		return err
	})
	return e, err
}

// Entities lists the entities of a kind whose path begins with prefix, by name.
func (s *Service) Entities(ctx context.Context, scope fleet.Scope, kind, prefix string, page fleet.Page) (list []Entity, next string, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		list = nil
		rows, n, err := tx.IAMEntities(scope, kind, prefix, page)
		next = n
		for _, row := range rows {
			e, err := entityOf(row)
			if err != nil {
				return err
			}
			list = append(list, e)
		}
		return err
	})
	return list, next, err
}

// Change alters an entity.
func (s *Service) Change(ctx context.Context, scope fleet.Scope, kind, name string, change func(*Entity) error) (e Entity, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if e, err = get(tx, scope, kind, name); err != nil {
			return err
		}
		if err := change(&e); err != nil {
			return err
		}
		return update(tx, scope, e)
	})
	return e, err
}

// Tag and Untag change the tags of a user or role.
func (s *Service) Tag(ctx context.Context, scope fleet.Scope, kind, name string, tags map[string]string) error {
	_, err := s.Change(ctx, scope, kind, name, func(e *Entity) error {
		if e.Tags == nil {
			e.Tags = map[string]string{}
		}
		for k, v := range tags {
			setTag(e.Tags, k, v)
		}
		if len(e.Tags) > maxTags {
			return limitExceeded("The number of tags has reached the maximum limit.")
		}
		return nil
	})
	return err
}

func (s *Service) Untag(ctx context.Context, scope fleet.Scope, kind, name string, keys []string) error {
	_, err := s.Change(ctx, scope, kind, name, func(e *Entity) error {
		for _, k := range keys {
			dropTag(e.Tags, k)
		}
		return nil
	})
	return err
}

// TagARN and UntagARN change the tags of a managed policy of the account, or of an OpenID Connect provider, by ARN.
func (s *Service) TagARN(ctx context.Context, scope fleet.Scope, arn string, tags map[string]string) error {
	kind, name, err := s.named(ctx, scope, arn)
	if err != nil {
		return err
	}
	return s.Tag(ctx, scope, kind, name, tags)
}

func (s *Service) UntagARN(ctx context.Context, scope fleet.Scope, arn string, keys []string) error {
	kind, name, err := s.named(ctx, scope, arn)
	if err != nil {
		return err
	}
	return s.Untag(ctx, scope, kind, name, keys)
}

func (s *Service) named(ctx context.Context, scope fleet.Scope, arn string) (kind, name string, err error) {
	if name, err := providerName(scope, arn); err == nil {
		return store.IAMOIDC, name, nil
	}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		e, err := ownPolicy(tx, scope, arn)
		name = e.Name
		return err
	})
	return store.IAMPolicy, name, err
}

// setTag and dropTag change one of a map's tags. Their keys are the same in any case, as condition keys are (identity spec 4.3).
func setTag(tags map[string]string, key, value string) {
	dropTag(tags, key)
	tags[key] = value
}

func dropTag(tags map[string]string, key string) {
	for k := range tags {
		if strings.EqualFold(k, key) {
			delete(tags, k)
		}
	}
}

// SetBoundary bounds a user or role by a managed policy; an empty ARN removes the bound.
func (s *Service) SetBoundary(ctx context.Context, scope fleet.Scope, kind, name, arn string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, name)
		if err != nil {
			return err
		}
		if arn != "" {
			if _, err := managedDocument(tx, scope, arn); err != nil {
				return err
			}
		}
		e.Boundary = arn
		return update(tx, scope, e)
	})
}

// Delete removes a user, role or group once nothing hangs on it any more, in AWS's words for what does.
func (s *Service) Delete(ctx context.Context, scope fleet.Scope, kind, name string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		e, err := get(tx, scope, kind, name)
		if err != nil {
			return err
		}
		if err := nothingHangsOn(tx, scope, e); err != nil {
			return err
		}
		if kind == store.IAMRole {
			if err := tx.CutOff(scope.Global(), "role:"+e.Name, tx.Now()); err != nil {
				return err
			}
		}
		return tx.DeleteIAMEntity(scope, kind, e.Name)
	})
}

func nothingHangsOn(tx *store.Tx, s fleet.Scope, e Entity) error {
	inline, err := tx.InlinePolicies(s, e.Kind, e.Name)
	if err != nil {
		return err
	}
	attached, err := tx.AttachedPolicies(s, e.Kind, e.Name)
	if err != nil {
		return err
	}
	var keys []store.AccessKey
	var groups, members []string
	switch e.Kind {
	case store.IAMUser:
		if keys, err = tx.AccessKeys(s, e.Name); err != nil {
			return err
		}
		groups, err = tx.IAMGroupsOf(s, e.Name)
	case store.IAMGroup:
		members, err = tx.IAMMembers(s, e.Name)
	}
	switch {
	case err != nil:
		return err
	case len(keys) > 0:
		return deleteConflict("Cannot delete entity, must delete access keys first.")
	case len(attached) > 0:
		return deleteConflict("Cannot delete entity, must detach all policies first.")
	case len(inline) > 0:
		return deleteConflict("Cannot delete entity, must delete policies first.")
	case len(groups) > 0:
		return deleteConflict("Cannot delete entity, must remove users from group first.")
	case len(members) > 0:
		return deleteConflict("Cannot delete entity, must remove users from group first.")
	}
	return nil
}
