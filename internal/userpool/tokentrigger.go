package userpool

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// Events of PreTokenGeneration.
const (
	tokenEventV1 = "V1_0" // the Id token
	tokenEventV2 = "V2_0" // both tokens, and scopes
)

// Sources of PreTokenGeneration's events: why tokens are made.
const (
	tokensOfSignIn      = "Authentication"
	tokensOfNewPassword = "NewPasswordChallenge"
	tokensOfRefresh     = "RefreshTokens"
	tokensOfPages       = "HostedAuth"
)

// overrides is what the trigger wants changed of tokens.
type overrides struct {
	id, access                    claimChanges
	scopesToAdd, scopesToSuppress []string
	groups                        *groupOverride // nil: those of the user
}

type claimChanges struct {
	set      map[string]any
	suppress []string
}

// groupOverride is what tokens say of groups in place of what the pool knows.
type groupOverride struct {
	Groups    []string `json:"groups"`
	Roles     []string `json:"roles"`
	Preferred string   `json:"preferred"`
}

// fixedClaims cannot be changed by a trigger (AWS's developer guide, "Pre token generation Lambda trigger"): they say who the user is, to whom
// the token was given, and how long it lives. Groups and roles change by groupOverrideDetails alone.
var fixedClaims = []string{"acr", "amr", "aud", "at_hash", "auth_time", "azp", "client_id", "device_key", "event_id", "exp", "iat", "identities", "iss", "jti",
	"nbf", "nonce", "origin_jti", "scope", "sub", "token_use", "username", "version"}

func fixedClaim(name string) bool {
	return slices.Contains(fixedClaims, name) || strings.HasPrefix(name, "cognito:") || strings.HasPrefix(name, "dev:")
}

// preToken asks the pool's trigger what to change of the tokens of a grant; nil: nothing.
func (s *Service) preToken(ctx context.Context, e entry, g grant) (*overrides, error) {
	t := e.pool.Triggers
	if t.PreTokenGeneration == "" {
		return nil, nil
	}
	names, roles, preferred := groupClaims(g.groups)
	configuration := map[string]any{"groupsToOverride": emptyList(names), "iamRolesToOverride": emptyList(roles), "preferredRole": nil}
	if preferred != "" {
		configuration["preferredRole"] = preferred
	}
	request := map[string]any{"userAttributes": triggerAttributes(&g.user), "groupConfiguration": configuration}
	source := or(g.source, tokensOfSignIn)
	if g.source == "" && g.session.Scope != "" {
		source = tokensOfPages
	}
	o := occasion{trigger: "PreTokenGeneration", source: "TokenGeneration_" + source, function: t.PreTokenGeneration, version: "1",
		client: e.client.ID, username: g.user.Username}
	response := map[string]any{"claimsOverrideDetails": nil}
	if t.TokenVersion == tokenEventV2 {
		o.version = "2"
		request["scopes"] = strings.Fields(or(g.session.Scope, userScope))
		response = map[string]any{"claimsAndScopeOverrideDetails": nil}
	}
	m, err := s.trigger(ctx, e.pool, o, withMetadata(ctx, request), response)
	if err != nil {
		return nil, err
	}
	read := readClaimsV1
	if t.TokenVersion == tokenEventV2 {
		read = readClaimsV2
	}
	out, err := read(m)
	if err != nil {
		return nil, unrecognizable()
	}
	return out, nil
}

func emptyList(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}

// asOAuth words what a trigger refuses for the token endpoint.
func asOAuth(err error) error {
	var e *fleet.Error
	if errors.As(err, &e) && strings.Contains(e.Code, "Lambda") {
		return oauthError("invalid_request", e.Msg)
	}
	return err
}

// readClaimsV1 reads {"claimsOverrideDetails": {"claimsToAddOrOverride": {…}, "claimsToSuppress": […], "groupOverrideDetails": {…}}}.
func readClaimsV1(response map[string]json.RawMessage) (*overrides, error) {
	details, err := members(response["claimsOverrideDetails"])
	if err != nil || details == nil {
		return nil, err
	}
	var out overrides
	var set map[string]string // texts alone
	out.groups, err = readGroups(details)
	if err := errors.Join(err, member(details, "claimsToAddOrOverride", &set), member(details, "claimsToSuppress", &out.id.suppress)); err != nil {
		return nil, err
	}
	out.id.set = map[string]any{}
	for k, v := range set {
		out.id.set[k] = v
	}
	return &out, nil
}

// readClaimsV2 reads {"claimsAndScopeOverrideDetails": {"idTokenGeneration": {…}, "accessTokenGeneration": {…}, "groupOverrideDetails": {…}}}.
func readClaimsV2(response map[string]json.RawMessage) (*overrides, error) {
	details, err := members(response["claimsAndScopeOverrideDetails"])
	if err != nil || details == nil {
		return nil, err
	}
	var out overrides
	out.groups, err = readGroups(details)
	id, err2 := members(details["idTokenGeneration"])
	access, err3 := members(details["accessTokenGeneration"])
	if err := errors.Join(err, err2, err3, member(id, "claimsToAddOrOverride", &out.id.set), member(id, "claimsToSuppress", &out.id.suppress),
		member(access, "claimsToAddOrOverride", &out.access.set), member(access, "claimsToSuppress", &out.access.suppress),
		member(access, "scopesToAdd", &out.scopesToAdd), member(access, "scopesToSuppress", &out.scopesToSuppress)); err != nil {
		return nil, err
	}
	return &out, nil
}

// readGroups reads groupOverrideDetails. An empty object takes all groups away, as in AWS; null or nothing leaves them.
func readGroups(details map[string]json.RawMessage) (*groupOverride, error) {
	m, err := members(details["groupOverrideDetails"])
	if err != nil || m == nil {
		return nil, err
	}
	var g groupOverride
	err = errors.Join(member(m, "groupsToOverride", &g.Groups), member(m, "iamRolesToOverride", &g.Roles), member(m, "preferredRole", &g.Preferred))
	return &g, err
}

// apply changes the claims of one token.
func (c claimChanges) apply(claims jwt.Claims) {
	for _, name := range c.suppress {
		if !fixedClaim(name) {
			delete(claims, name)
		}
	}
	for name, v := range c.set {
		if !fixedClaim(name) && v != nil {
			claims[name] = v
		}
	}
}

// scopes changes the scope of an access token. Scopes of our own API cannot be added, and those with white space are none.
func (o *overrides) scopes(claims jwt.Claims) {
	list := slices.DeleteFunc(strings.Fields(claims.String("scope")), func(s string) bool { return slices.Contains(o.scopesToSuppress, s) })
	for _, s := range o.scopesToAdd {
		if len(strings.Fields(s)) == 1 && strings.TrimSpace(s) == s && !strings.HasPrefix(s, "aws.cognito") && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	if claims["scope"] = strings.Join(list, " "); len(list) == 0 {
		delete(claims, "scope")
	}
}

// keepGroups stores the groups that a trigger chose for the tokens of a session, so that they hold where tokens are looked at again
// (stillHolds). The newest tokens count.
func (s *Service) keepGroups(ctx context.Context, e entry, g grant, over *overrides) error {
	var text string
	if over != nil && over.groups != nil {
		b, err := json.Marshal(over.groups)
		if err != nil {
			return err
		}
		text = string(b)
	}
	if text == g.session.Groups || e.client.NoRevocation {
		return nil
	}
	return s.tx(ctx, func(tx *store.Tx) error { return tx.SetPoolSessionGroups(e.pool.Scope, e.pool.ID, g.session.ID, text) })
}

// heldGroups are the groups and roles that tokens of a user may state: those of the user, or those that the trigger chose for the session.
func heldGroups(tx *store.Tx, scope fleet.Scope, pool, sub, session string) (names, roles []string, err error) {
	if session != "" {
		row, err := tx.PoolSession(scope, pool, session)
		if err != nil {
			return nil, nil, err
		}
		if row.Groups != "" {
			var g groupOverride
			err := json.Unmarshal([]byte(row.Groups), &g)
			return g.Groups, slices.Concat(g.Roles, []string{g.Preferred}), err
		}
	}
	groups, _, err := tx.GroupsOfPoolUser(scope, pool, sub, fleet.Page{})
	names, roles, _ = groupClaims(groups)
	return names, roles, err
}
