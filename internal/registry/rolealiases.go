package registry

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	maxRoleAliases       = 100 // iot-core spec 11
	defaultAliasDuration = time.Hour
)

// CreateRoleAlias creates a name for a role. A name that is taken is KindExists even for the same role (iot-core spec 1.8).
func CreateRoleAlias(tx *store.Tx, s fleet.Scope, name, role string, d time.Duration, tags []fleet.Tag) (fleet.RoleAlias, error) {
	if !fleet.ValidRoleAlias(name) {
		return fleet.RoleAlias{}, fleet.Invalid("role alias", name, "has no valid name: 1 to 128 letters, digits or characters of _=,@- are allowed")
	}
	if d == 0 {
		d = defaultAliasDuration
	}
	r := fleet.RoleAlias{Name: name, RoleARN: role, Duration: d, Created: tx.Now(), Modified: tx.Now()}
	if err := checkAlias(s, r); err != nil {
		return r, err
	}
	if err := tx.CreateRoleAlias(s, r); err != nil {
		if fleet.KindOf(err) == fleet.KindExists {
			arn := s.IoT("rolealias", name)
			err = exists(name, arn, "Role alias %s already exists", name)
		}
		return r, err
	}
	n, err := tx.CountRoleAliases(s)
	if err == nil && n > maxRoleAliases {
		err = fleet.OverLimit("role alias", name, "would be one too many: %d are allowed; delete one that is not used", maxRoleAliases)
	}
	if err != nil {
		return r, err
	}
	return r, PutNewTags(tx, s, "rolealias/"+name, tags)
}

// checkAlias checks what the credential provider will rely on: a role of this account, and a time that AWS allows.
func checkAlias(s fleet.Scope, r fleet.RoleAlias) error {
	a, ok := fleet.ParseARN(r.RoleARN)
	switch {
	case !ok || a.Service != "iam" || a.Kind() != "role" || a.Name() == "":
		return fleet.Invalid("role", r.RoleARN, "is not the ARN of a role")
	case a.Account != s.Account:
		return fleet.Invalid("role", r.RoleARN, "belongs to another account; a role alias stands for a role of its own account")
	case r.Duration < 15*time.Minute || r.Duration > 12*time.Hour:
		return fleet.Invalid("role alias", r.Name, "cannot give credentials for %d seconds; 900 to 43200 are allowed", int64(r.Duration/time.Second))
	}
	return nil
}

// UpdateRoleAlias changes role and duration, unless they are nil.
func UpdateRoleAlias(tx *store.Tx, s fleet.Scope, name string, role *string, d *time.Duration) error {
	r, err := tx.RoleAlias(s, name)
	if err != nil {
		return err
	}
	if role != nil {
		r.RoleARN = *role
	}
	if d != nil {
		r.Duration = *d
	}
	if err := checkAlias(s, r); err != nil {
		return err
	}
	r.Modified = tx.Now()
	return tx.UpdateRoleAlias(s, r)
}

// DeleteRoleAlias deletes a role alias. Credentials that were given under it live on until they expire.
func DeleteRoleAlias(tx *store.Tx, s fleet.Scope, name string) error {
	if _, err := tx.RoleAlias(s, name); err != nil {
		return err
	}
	return tx.DeleteRoleAlias(s, name)
}
