package identitypool

import (
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// chooseRole decides which role a signed-in person gets (identity spec 2.5). custom is the role that the client asked for, ""
// for none.
func (s *Service) chooseRole(p *Pool, l login, custom string) (string, error) {
	m, mapped := s.mapping(p, l)
	switch {
	case !mapped && custom != "":
		return "", notAuthorized("CustomRoleArn needs a role mapping for the provider %s", l.provider)
	case !mapped:
		return authenticatedRole(p)
	case m.Type == "Rules":
		return roleByRules(p, m, l.claims, custom)
	case l.poolID == "" && !slices.Contains(s.roleIssuers, l.provider):
		// Whoever set the mapping was allowed to pass each role of a group of our pools; nobody has passed what another issuer names.
		return roleByToken(p, m, nil, custom)
	}
	return roleByToken(p, m, l.claims, custom)
}

func authenticatedRole(p *Pool) (string, error) {
	if r := p.Roles["authenticated"]; r != "" {
		return r, nil
	}
	return "", badConfiguration(nil)
}

func roleByToken(p *Pool, m Mapping, claims jwt.Claims, custom string) (string, error) {
	roles := rolesOf(claims)
	if custom != "" {
		if slices.Contains(roles, custom) {
			return custom, nil
		}
		return "", notAuthorized("The token does not hold the role %s", custom)
	}
	if preferred := claims.String("cognito:preferred_role"); preferred != "" {
		return preferred, nil
	}
	if len(roles) == 1 {
		return roles[0], nil
	}
	return ambiguous(p, m)
}

// rolesOf reads cognito:roles, a list in real tokens and comma-separated text in the guide.
func rolesOf(claims jwt.Claims) []string {
	roles := claims.Strings("cognito:roles")
	if len(roles) == 1 && strings.Contains(roles[0], ",") {
		roles = strings.Split(roles[0], ",")
	}
	return roles
}

func roleByRules(p *Pool, m Mapping, claims jwt.Claims, custom string) (string, error) {
	for _, r := range m.Rules {
		if r.matches(claims) && (custom == "" || custom == r.RoleARN) {
			return r.RoleARN, nil
		}
	}
	if custom != "" {
		return "", notAuthorized("No rule that matches the token gives the role %s", custom)
	}
	return ambiguous(p, m)
}

func ambiguous(p *Pool, m Mapping) (string, error) {
	if m.Ambiguous == "AuthenticatedRole" {
		return authenticatedRole(p)
	}
	return "", notAuthorized("The token selects no single role, and the role mapping says to deny then.")
}

// matches compares a claim as text; of a list, any element may match, and for NotEqual none may be equal. A claim that is
// absent matches nothing.
func (r Rule) matches(claims jwt.Claims) bool {
	values := claimValues(claims, r.Claim)
	if len(values) == 0 {
		return false
	}
	is := func(f func(string) bool) bool { return slices.ContainsFunc(values, f) }
	switch r.Match {
	case "Equals":
		return is(func(v string) bool { return v == r.Value })
	case "NotEqual":
		return !is(func(v string) bool { return v == r.Value })
	case "Contains":
		return is(func(v string) bool { return strings.Contains(v, r.Value) })
	case "StartsWith":
		return is(func(v string) bool { return strings.HasPrefix(v, r.Value) })
	}
	return false
}

func claimValues(claims jwt.Claims, name string) []string {
	switch v := claims[name].(type) {
	case bool:
		return []string{map[bool]string{true: "true", false: "false"}[v]}
	case interface{ String() string }: // json.Number
		return []string{v.String()}
	}
	return claims.Strings(name)
}

// tags are the principal tags that a login brings to its session (identity spec 2.6).
func (s *Service) tags(p *Pool, l login) map[string]string {
	m := s.TagMap(p, l.provider)
	from := m.Tags
	if m.Defaults {
		from = defaultTags
	}
	tags := map[string]string{}
	for key, claim := range from {
		if v := claimValues(l.claims, claim); len(v) > 0 {
			tags[key] = strings.Join(v, ";")
		}
	}
	return tags
}

var defaultTags = map[string]string{"username": "sub", "client": "aud"}

// federation is what stays known of the person for the whole session.
func federation(p *Pool, identity string, l login) *fleet.Federation {
	if l.poolID == "" {
		f := l.foreign
		f.Provider, f.Audience, f.Subject, f.Original, f.Email = fleet.IdentityPools, p.ID, identity, nil, ""
		return &f
	}
	return &fleet.Federation{Provider: fleet.IdentityPools, Audience: p.ID, Subject: identity,
		AMR:    []string{"authenticated", l.provider, l.provider + ":CognitoSignIn:" + l.subject},
		PoolID: l.poolID, UserSub: l.subject, Username: l.claims.String("cognito:username")}
}
