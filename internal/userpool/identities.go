package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file is what becomes of people whom another provider knows: users of the pool with the status EXTERNAL_PROVIDER, or one of the
// pool's own users whom an administrator has linked to them.

// identitiesAttribute is the attribute that tells who a user is elsewhere: JSON, kept beside the rows that count.
const identitiesAttribute = "identities"

// maxIdentities is how many identities may be linked to a user, as with AWS.
const maxIdentities = 5

// An arrival is somebody who comes from a provider.
type arrival struct {
	provider *IdentityProvider
	identity federation.Identity
	asked    bool // the trigger PreSignUp has let them in
}

// admit signs in somebody who comes from a provider. Triggers are asked outside of the transaction.
func (s *Service) admit(ctx context.Context, e entry, a arrival) (Outcome, error) {
	if err := s.askForNewcomer(ctx, e, &a); err != nil {
		return Outcome{}, err
	}
	var g grant
	var made bool
	session := newSession(e, s.now())
	if err := s.tx(ctx, func(tx *store.Tx) (err error) {
		g, made, err = s.arrive(tx, e, a, session)
		return err
	}); err != nil {
		return Outcome{}, err
	}
	if made {
		if err := s.postConfirmation(ctx, e.pool, e.client.ID, "ConfirmSignUp", &g.user); err != nil {
			return Outcome{}, err
		}
	}
	return s.fulfil(ctx, e, g)
}

// askForNewcomer asks the trigger PreSignUp whether somebody whom the pool does not know may come in. The trigger may link them to a user.
func (s *Service) askForNewcomer(ctx context.Context, e entry, a *arrival) error {
	p := e.pool
	err := s.view(ctx, func(tx *store.Tx) error {
		_, err := tx.PoolIdentity(p.Scope, p.ID, a.provider.Name, a.identity.Subject)
		return err
	})
	if !isNotFound(err) {
		return err
	}
	u, err := s.newcomer(e, *a)
	if err != nil {
		return err
	}
	a.asked = true
	return s.preSignUp(ctx, p, e.client.ID, "ExternalProvider", &u, nil)
}

// arrive finds whom an arrival is, or makes a user, brings the user up to date with what the provider says, and begins a sign-in. A
// second factor is the provider's matter.
func (s *Service) arrive(tx *store.Tx, e entry, a arrival, session newSessionIDs) (g grant, made bool, err error) {
	p := e.pool
	if once := a.identity.Once; once != "" {
		first, err := tx.SpendChallenge(p.Scope, p.ID, "saml:"+digest(a.provider.Name+"\x00"+once), a.identity.Until)
		if err != nil {
			return g, false, err
		}
		if !first {
			return g, false, notAuthorized("The identity provider's answer was used before.")
		}
	}
	known, err := tx.PoolIdentity(p.Scope, p.ID, a.provider.Name, a.identity.Subject)
	var u store.PoolUser
	switch {
	case isNotFound(err):
		made = true
		u, err = s.enrol(tx, e, a)
	case err == nil:
		u, err = s.welcome(tx, e, a, known.Sub)
	}
	if err != nil {
		return g, false, err
	}
	if err := s.fillGroups(tx, p, a, u); err != nil {
		return g, false, err
	}
	g, err = s.begin(tx, e, u, session)
	return g, made, err
}

// newcomer is the user that somebody becomes who comes for the first time.
func (s *Service) newcomer(e entry, a arrival) (u store.PoolUser, err error) {
	p, now := e.pool, s.now()
	u = store.PoolUser{Username: p.fold(a.provider.Name + "_" + a.identity.Subject), Sub: fleet.NewUUID(), Status: External, Enabled: true,
		PasswordSet: now, Created: now, Modified: now, Attributes: map[string]string{}}
	if !usernameForm.MatchString(u.Username) {
		return u, invalid("The identity provider calls you by a name that cannot be a username: 1 to 128 letters, digits and signs without spaces.")
	}
	if err := e.mapAttributes(&u, a); err != nil {
		return u, err
	}
	if lacking := slices.DeleteFunc(p.requiredAttributes(), func(n string) bool { return u.Attributes[n] != "" }); len(lacking) > 0 {
		return u, invalid("attributes required: [" + strings.Join(lacking, ", ") + "]")
	}
	return u, nil
}

// enrol makes a user of somebody who comes for the first time.
func (s *Service) enrol(tx *store.Tx, e entry, a arrival) (store.PoolUser, error) {
	p := e.pool
	u, err := s.newcomer(e, a)
	if err != nil {
		return u, err
	}
	if p.Triggers.PreSignUp != "" && !a.asked { // known a moment ago
		return u, fail(fleet.KindConflict, "ConcurrentModificationException", "The user was changed meanwhile. Sign in again.")
	}
	who := store.PoolIdentity{Provider: a.provider.Name, Subject: a.identity.Subject, Sub: u.Sub, Origin: true, Issuer: a.identity.Issuer, Created: u.Created}
	if u.Attributes[identitiesAttribute], err = s.identitiesText(tx, p, []store.PoolIdentity{who}); err != nil {
		return u, err
	}
	if err := tx.CreatePoolUser(p.Scope, p.ID, u); err != nil {
		if isExists(err) { // another subject that folds to the same, or a user who was called so before
			return u, usernameExists("A user with the name " + u.Username + " exists already, who is somebody else.")
		}
		return u, err
	}
	if err := tx.AddPoolIdentity(p.Scope, p.ID, who); err != nil {
		return u, err
	}
	return u, s.joinProviderGroup(tx, p, a.provider, u.Sub)
}

var usernameForm = fleet.NewPattern(`^[\p{L}\p{M}\p{S}\p{N}\p{P}]{1,128}$`)

// welcome brings a user up to date who was here before, or to whom the identity was linked.
func (s *Service) welcome(tx *store.Tx, e entry, a arrival, sub string) (store.PoolUser, error) {
	p := e.pool
	old, err := tx.PoolUserBySub(p.Scope, p.ID, sub)
	if err != nil {
		return old, err
	}
	e.meets(&old)
	switch {
	case !old.Enabled:
		return old, userDisabled()
	case old.Status == Unconfirmed:
		return old, userNotConfirmed()
	case old.Status == ResetRequired:
		return old, resetRequired()
	case old.Status == MustChange:
		return old, notAuthorized("The user has a temporary password: sign in with it once.")
	}
	u := old
	u.Attributes = maps.Clone(old.Attributes)
	if err := e.mapAttributes(&u, a); err != nil {
		return u, err
	}
	if maps.Equal(old.Attributes, u.Attributes) {
		return u, nil
	}
	u.Modified = s.now()
	return u, p.save(tx, old, u)
}

// mapAttributes writes what the provider says into attributes (AttributeMapping). What it does not say stays as it was.
func (e entry) mapAttributes(u *store.PoolUser, a arrival) error {
	changes := map[string]string{}
	for name, claim := range a.provider.Mapping {
		value, said := claimOf(a, claim)
		attribute, known := e.pool.attribute(name)
		if !said || !known || name == "sub" {
			continue
		}
		if attribute.Type == "Boolean" { // some write "True"
			value = strings.ToLower(value)
		}
		if old, had := u.Attributes[name]; had && old == value || value == "" {
			continue
		}
		// Whether an address is verified is no user's to write, but the provider's to say.
		if list := e.client.WriteAttributes; list != nil && !slices.Contains(list, name) && !strings.HasSuffix(name, "_verified") {
			return invalid("user." + name + ": Attribute cannot be updated: the app client may not write it.")
		}
		changes[name] = value
	}
	return e.pool.change(u, changes)
}

// claimOf returns the text of a claim.
func claimOf(a arrival, claim string) (string, bool) {
	if a.provider.Type == federation.TypeSAML && claim == "NameID" {
		return a.identity.Subject, true
	}
	return federation.Text(a.identity.Claims[claim])
}

// joinProviderGroup puts a user into the group of all who came by the provider. AWS makes it with the first of them.
func (s *Service) joinProviderGroup(tx *store.Tx, p *Pool, i *IdentityProvider, sub string) error {
	name, now := p.ID+"_"+i.Name, s.now()
	if _, err := tx.PoolGroup(p.Scope, p.ID, name); isNotFound(err) {
		if err := tx.CreatePoolGroup(p.Scope, p.ID, Group{Name: name, Description: "Autogenerated group for users who sign in using " + i.Name, Created: now, Modified: now}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return tx.AddPoolGroupMember(p.Scope, p.ID, sub, name)
}

// fillGroups puts a user into the listed groups that the provider names, and takes the user out of the listed ones that it does not.
// Groups that the administrator has not listed are none of the provider's business.
func (s *Service) fillGroups(tx *store.Tx, p *Pool, a arrival, u store.PoolUser) error {
	listed, err := a.provider.Groups()
	if err != nil || len(listed) == 0 {
		return err
	}
	want := a.provider.GroupsOf(a.identity)
	have, _, err := tx.GroupsOfPoolUser(p.Scope, p.ID, u.Sub, fleet.Page{})
	if err != nil {
		return err
	}
	in := map[string]bool{}
	for _, g := range have {
		in[g.Name] = true
	}
	lost := false
	for _, name := range slices.Compact(slices.Sorted(maps.Values(listed))) {
		switch wanted := slices.Contains(want, name); {
		case wanted && !in[name]:
			if _, err := tx.PoolGroup(p.Scope, p.ID, name); isNotFound(err) {
				continue // deleted since it was listed
			} else if err != nil {
				return err
			}
			if err := tx.AddPoolGroupMember(p.Scope, p.ID, u.Sub, name); err != nil {
				return err
			}
		case !wanted && in[name]:
			if _, err := tx.RemovePoolGroupMember(p.Scope, p.ID, u.Sub, name); err != nil {
				return err
			}
			lost = true
		}
	}
	if lost { // as RemoveFromGroup does
		return tx.CutOff(p.Scope, cutSubject(p.ID, u.Sub), s.now())
	}
	return nil
}

// identityText is an element of the attribute identities.
type identityText struct {
	UserID       string  `json:"userId"`
	ProviderName string  `json:"providerName"`
	ProviderType string  `json:"providerType"`
	Issuer       *string `json:"issuer"`
	Primary      bool    `json:"primary"`
	DateCreated  int64   `json:"dateCreated"`
}

// identitiesText writes the attribute identities.
func (s *Service) identitiesText(tx *store.Tx, p *Pool, list []store.PoolIdentity) (string, error) {
	out := []identityText{}
	for _, i := range list {
		t := identityText{UserID: i.Subject, ProviderName: i.Provider, Primary: i.Origin, DateCreated: i.Created.UnixMilli()}
		if row, err := tx.PoolProvider(p.Scope, p.ID, i.Provider); err == nil {
			t.ProviderType = row.Type
		} else if !isNotFound(err) {
			return "", err
		}
		if i.Issuer != "" {
			t.Issuer = &i.Issuer
		}
		out = append(out, t)
	}
	return toJSON(out)
}

// identitiesClaim is the attribute as a token has it: Cognito writes all of it as text there.
func identitiesClaim(text string) any {
	var list []identityText
	if json.Unmarshal([]byte(text), &list) != nil {
		return text
	}
	out := []map[string]any{}
	for _, i := range list {
		out = append(out, map[string]any{"userId": i.UserID, "providerName": i.ProviderName, "providerType": i.ProviderType, "issuer": i.Issuer,
			"primary": strconv.FormatBool(i.Primary), "dateCreated": strconv.FormatInt(i.DateCreated, 10)})
	}
	return out
}

// A ProviderUser names a user by a provider (ProviderUserIdentifierType).
type ProviderUser struct{ Provider, Attribute, Value string }

// bySubject is the attribute by which identities are named.
const bySubject = "Cognito_Subject"

// LinkUser lets somebody whom a provider knows sign in as a user who exists (AdminLinkProviderForUser).
func (s *Service) LinkUser(ctx context.Context, scope fleet.Scope, poolID string, destination, source ProviderUser) error {
	if source.Attribute != bySubject {
		return notOffered("The ProviderAttributeName " + source.Attribute + " of SourceUser, other than Cognito_Subject,")
	}
	if source.Value == "" || len(source.Value) > 1024 {
		return invalid("The ProviderAttributeValue of SourceUser must have 1 to 1024 bytes.")
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		if _, err := s.readProvider(tx, p, source.Provider); err != nil {
			return err
		}
		u, err := p.named(tx, destination)
		if err != nil {
			return err
		}
		list, err := tx.PoolIdentities(scope, poolID, u.Sub)
		if err != nil {
			return err
		}
		if len(list) >= maxIdentities {
			return overLimit("A user has at most 5 identities at other providers.")
		}
		who := store.PoolIdentity{Provider: source.Provider, Subject: source.Value, Sub: u.Sub, Created: s.now()}
		if err := tx.AddPoolIdentity(scope, poolID, who); isExists(err) {
			return invalid("Merging is not currently supported, provide a SourceUser that has not been signed up in order to link")
		} else if err != nil {
			return err
		}
		return s.tellIdentities(tx, p, *u, append(list, who))
	})
}

// UnlinkUser takes a link away again (AdminDisableProviderForUser): the next time, the person whom the provider knows becomes a user of
// their own. What is signed in by then ends.
func (s *Service) UnlinkUser(ctx context.Context, scope fleet.Scope, poolID string, who ProviderUser) error {
	switch {
	case strings.EqualFold(who.Provider, OwnProvider):
		return notOffered("AdminDisableProviderForUser for users of the pool itself (AdminDisableUser disables them)")
	case who.Attribute != bySubject:
		return notOffered("The ProviderAttributeName " + who.Attribute + ", other than Cognito_Subject,")
	}
	return s.tx(ctx, func(tx *store.Tx) error {
		p, err := readPool(tx, scope, poolID)
		if err != nil {
			return err
		}
		i, err := tx.PoolIdentity(scope, poolID, who.Provider, who.Value)
		if err != nil {
			return asNotFound(err, userNotFound())
		}
		if i.Origin {
			return invalid("The user came into being by this identity: it cannot be taken away. AdminDisableUser disables the user.")
		}
		if err := tx.DeletePoolIdentity(scope, poolID, who.Provider, who.Value); err != nil {
			return err
		}
		list, err := tx.PoolIdentities(scope, poolID, i.Sub)
		if err != nil {
			return err
		}
		u, err := tx.PoolUserBySub(scope, poolID, i.Sub)
		if err != nil {
			return err
		}
		if err := s.signOut(tx, p, &u); err != nil {
			return err
		}
		return s.tellIdentities(tx, p, u, list)
	})
}

// named returns the user whom an administrator names by a provider; the pool itself is called Cognito.
func (p *Pool) named(tx *store.Tx, who ProviderUser) (*store.PoolUser, error) {
	if strings.EqualFold(who.Provider, OwnProvider) {
		u, err := p.find(tx, who.Value)
		if err == nil && u == nil {
			err = userNotFound()
		}
		return u, err
	}
	i, err := tx.PoolIdentity(p.Scope, p.ID, who.Provider, who.Value)
	if err != nil {
		return nil, asNotFound(err, userNotFound())
	}
	u, err := tx.PoolUserBySub(p.Scope, p.ID, i.Sub)
	return &u, err
}

// tellIdentities writes the attribute of a user.
func (s *Service) tellIdentities(tx *store.Tx, p *Pool, old store.PoolUser, list []store.PoolIdentity) (err error) {
	u := old
	u.Attributes, u.Modified = maps.Clone(old.Attributes), s.now()
	delete(u.Attributes, identitiesAttribute)
	if len(list) > 0 {
		if u.Attributes[identitiesAttribute], err = s.identitiesText(tx, p, list); err != nil {
			return err
		}
	}
	return tx.UpdatePoolUser(p.Scope, p.ID, old, u)
}

// refuseExternal refuses operations about the password of a user who has none.
func refuseExternal(u *store.PoolUser) error {
	if u.Status == External {
		return notAuthorized("User password cannot be reset in the current state.")
	}
	return nil
}

// reservedName refuses a username that somebody would get who comes from a provider of the pool.
func (p *Pool) reservedName(tx *store.Tx, username string) error {
	before, _, found := strings.Cut(username, "_")
	if !found {
		return nil
	}
	names, err := tx.PoolProviderNames(p.Scope, p.ID)
	if err == nil && slices.ContainsFunc(names, func(n string) bool { return p.fold(n) == before }) {
		err = invalid("Usernames that begin with " + before + "_ are for users who sign in with that identity provider.")
	}
	return err
}

// federationError says in the words of this package why a provider did not vouch for somebody.
func federationError(err error) error {
	var e *federation.Error
	if !errors.As(err, &e) {
		return err
	}
	kind, code := fleet.KindDenied, "NotAuthorizedException"
	switch e.Fault {
	case federation.Unavailable:
		kind, code = fleet.KindUnavailable, "temporarily_unavailable"
	case federation.Setup:
		kind, code = fleet.KindInvalid, "InvalidParameterException"
	case federation.Denied:
		code = e.Code
	}
	return fail(kind, code, e.Msg)
}

// stateLife is how long a person may take at a provider.
const stateLife = 10 * time.Minute
