package userpool

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Statuses of a user (identity spec 1.3).
const (
	Unconfirmed   = "UNCONFIRMED"
	Confirmed     = "CONFIRMED"
	ResetRequired = "RESET_REQUIRED"
	MustChange    = "FORCE_CHANGE_PASSWORD"
	External      = "EXTERNAL_PROVIDER" // signs in elsewhere and has no password here
)

// A User is what others may see of a user. Attributes include sub.
type User struct {
	Username, Sub, Status string
	Enabled               bool
	Attributes            map[string]string
	Created, Modified     time.Time
	MFA                   []string // second factors that the user has enabled; of User and Self only, as is PreferredMFA
	PreferredMFA          string
}

func userOf(u store.PoolUser) (User, error) {
	attributes := maps.Clone(u.Attributes)
	attributes["sub"] = u.Sub
	return User{Username: u.Username, Sub: u.Sub, Status: u.Status, Enabled: u.Enabled, Attributes: attributes, Created: u.Created, Modified: u.Modified}, nil
}

var uuidForm = fleet.NewPattern(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// fold brings a name into the form in which the pool compares it.
func (p *Pool) fold(name string) string {
	if p.CaseSensitive {
		return name
	}
	return strings.ToLower(name)
}

// find returns the user whom a name means: a username, an id or an alias; nil if there is none.
func (p *Pool) find(tx *store.Tx, name string) (*store.PoolUser, error) {
	folded := p.fold(name)
	tries := []func() (store.PoolUser, error){func() (store.PoolUser, error) { return tx.PoolUserByName(p.Scope, p.ID, folded) }}
	if uuidForm.MatchString(name) {
		tries = append(tries, func() (store.PoolUser, error) { return tx.PoolUserBySub(p.Scope, p.ID, name) })
	}
	for _, kind := range p.aliasKinds() {
		if kind == "email" && !strings.Contains(name, "@") || kind == "phone_number" && !strings.HasPrefix(name, "+") {
			continue
		}
		tries = append(tries, func() (store.PoolUser, error) { return tx.PoolUserByAlias(p.Scope, p.ID, kind, folded) })
	}
	for _, try := range tries {
		u, err := try()
		if err == nil {
			return &u, nil
		}
		if !isNotFound(err) {
			return nil, err
		}
	}
	return nil, nil
}

// aliases lists the names under which a user may sign in beside the username: in a pool with username attributes any address, elsewhere
// a verified one only. Whoever comes from another provider has none: what that says of an address must take it from nobody here.
func (p *Pool) aliases(u store.PoolUser) []store.PoolAlias {
	var out []store.PoolAlias
	attributes := u.Attributes
	if u.Status == External {
		return nil
	}
	for _, kind := range p.aliasKinds() {
		v := attributes[kind]
		proven := len(p.UsernameAttributes) > 0 || kind == "preferred_username" || attributes[kind+"_verified"] == "true"
		if v != "" && proven {
			out = append(out, store.PoolAlias{Kind: kind, Value: p.fold(v)})
		}
	}
	return out
}

// save stores a changed user and its aliases.
func (p *Pool) save(tx *store.Tx, old, u store.PoolUser) error {
	if err := tx.UpdatePoolUser(p.Scope, p.ID, old, u); err != nil {
		return err
	}
	if slices.Equal(p.aliases(old), p.aliases(u)) {
		return nil
	}
	return p.setAliases(tx, u, aliasExists)
}

// setAliases stores the aliases of a user; taken words the error if another user has one.
func (p *Pool) setAliases(tx *store.Tx, u store.PoolUser, taken func(kind string) *fleet.Error) error {
	err := tx.SetPoolAliases(p.Scope, p.ID, u.Sub, p.aliases(u))
	if e := (*fleet.Error)(nil); isExists(err) && errors.As(err, &e) {
		return taken(e.Resource)
	}
	return err
}

// release takes aliases away from whoever owns them, since somebody else has proven to own the address (ForceAliasCreation).
func (p *Pool) release(tx *store.Tx, to store.PoolUser, now time.Time) error {
	if len(p.UsernameAttributes) > 0 {
		return nil
	}
	for _, a := range p.aliases(to) {
		owner, err := tx.AliasOwner(p.Scope, p.ID, a)
		if err != nil {
			return err
		}
		if owner == "" || owner == to.Sub || a.Kind == "preferred_username" {
			continue
		}
		old, err := tx.PoolUserBySub(p.Scope, p.ID, owner)
		if err != nil {
			return err
		}
		u := old
		u.Attributes = maps.Clone(old.Attributes)
		u.Attributes[a.Kind+"_verified"] = "false"
		u.Modified = now
		if err := p.save(tx, old, u); err != nil {
			return err
		}
	}
	return nil
}

// newIdentity begins a user of the pool: who they are, without a password. In a pool with username attributes the name given is
// an address, and the username becomes the id (identity spec 1.3).
func (p *Pool) newIdentity(name string, attributes map[string]string, now time.Time) (store.PoolUser, error) {
	u := store.PoolUser{Sub: fleet.NewUUID(), Enabled: true, Created: now, Modified: now, Attributes: map[string]string{}}
	maps.Copy(u.Attributes, attributes)
	delete(u.Attributes, "sub")
	if len(p.UsernameAttributes) > 0 {
		byEmail, byPhone := slices.Contains(p.UsernameAttributes, "email"), slices.Contains(p.UsernameAttributes, "phone_number")
		switch {
		case byEmail && isEmail(name):
			u.Attributes["email"] = name
		case byPhone && isPhone(name):
			u.Attributes["phone_number"] = name
		case byEmail && byPhone:
			return u, invalid("Username should be either an email or a phone number.")
		case byEmail:
			return u, invalid("Username should be an email.")
		default:
			return u, invalid("Username should be a phone number.")
		}
		u.Username = u.Sub
	} else {
		if slices.Contains(p.AliasAttributes, "email") && isEmail(name) {
			return u, invalid("Username cannot be of email format, since user pool is configured for email alias.")
		}
		if slices.Contains(p.AliasAttributes, "phone_number") && isPhone(name) {
			return u, invalid("Username cannot be of phone number format, since user pool is configured for phone number alias.")
		}
		u.Username = p.fold(name)
	}
	for k, v := range u.Attributes { // a blank value is no value
		if v == "" {
			delete(u.Attributes, k)
		}
	}
	return u, p.checkAttributes(u.Attributes)
}

// insert stores a new user. exists words the error if the username is taken.
func (p *Pool) insert(tx *store.Tx, u store.PoolUser, exists string) error {
	if err := p.vacant(tx, u, exists); err != nil {
		return err
	}
	return p.add(tx, u, exists)
}

// vacant fails if somebody has the username of a new user as one of their names.
func (p *Pool) vacant(tx *store.Tx, u store.PoolUser, exists string) error {
	if len(p.UsernameAttributes) > 0 {
		return nil
	}
	// The store sees equal usernames only; an alias of somebody would win or lose against it by chance.
	if other, err := p.find(tx, u.Username); err != nil || other != nil {
		return orElse(err, usernameExists(exists))
	}
	return p.reservedName(tx, u.Username)
}

// add stores a new user whose username is vacant.
func (p *Pool) add(tx *store.Tx, u store.PoolUser, exists string) error {
	if err := tx.CreatePoolUser(p.Scope, p.ID, u); err != nil {
		if isExists(err) {
			return usernameExists(exists)
		}
		return err
	}
	return p.setAliases(tx, u, func(kind string) *fleet.Error {
		if len(p.UsernameAttributes) > 0 {
			return usernameExists("An account with the given " + kind + " already exists.")
		}
		return aliasExists(kind)
	})
}

func cloneAttributes(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

func orElse(err error, otherwise *fleet.Error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// change applies new attribute values to u; an empty value removes the attribute. A changed address is unverified unless the
// change says otherwise.
func (p *Pool) change(u *store.PoolUser, changes map[string]string) error {
	set := map[string]string{}
	for name, value := range changes {
		a, _ := p.attribute(name)
		old, had := u.Attributes[name]
		switch {
		case name == "sub":
			return invalid("Cannot modify the non-mutable attribute sub")
		case a.Name != "" && !a.Mutable && had && old != value:
			return schemaError(name, "Attribute cannot be updated.")
		case a.Required && value == "":
			return schemaError(name, "The attribute is required")
		case value != "" || a.Name == "":
			set[name] = value
		}
	}
	if err := p.checkAttributes(set); err != nil {
		return err
	}
	attributes := maps.Clone(u.Attributes)
	for _, name := range []string{"email", "phone_number"} {
		if v, changed := changes[name]; changed && v != attributes[name] {
			delete(attributes, name+"_verified")
			if v != "" {
				attributes[name+"_verified"] = "false"
			}
		}
	}
	for name, value := range changes {
		if value == "" {
			delete(attributes, name)
		} else {
			attributes[name] = value
		}
	}
	u.Attributes = attributes
	return nil
}

// checkRequired refuses a user who lacks what the schema requires.
func (p *Pool) checkRequired(attributes map[string]string) error {
	for _, name := range p.requiredAttributes() {
		if attributes[name] == "" {
			return schemaError(name, "The attribute is required")
		}
	}
	return nil
}

// cutSubject is the name under which credentials and claims of a user are cut off.
func cutSubject(poolID, sub string) string { return "user:" + poolID + "/" + sub }

// signOut ends everything that a user has open: sessions, tokens here, temporary credentials, unused claims. The caller stores u.
func (s *Service) signOut(tx *store.Tx, p *Pool, u *store.PoolUser) error {
	now := s.now()
	u.SignedOut = now
	if err := tx.RevokePoolSessions(p.Scope, p.ID, u.Sub, now); err != nil {
		return err
	}
	return tx.CutOff(p.Scope, cutSubject(p.ID, u.Sub), now)
}
