package identitypool

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

const (
	userPool = "us-east-1_AbCdEf123"
	client   = "client1"
	aws      = "cognito-idp.us-east-1.amazonaws.com/" + userPool
	own      = "iot.lan:8443/" + userPool
)

var scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

// tokens take the JSON of the claims as the token. They no longer hold if the claims say so.
type tokens struct{}

func (tokens) VerifyIDToken(_ context.Context, _ fleet.Scope, pool, token string) (jwt.Claims, error) {
	var c jwt.Claims
	if err := json.Unmarshal([]byte(token), &c); err != nil || pool != userPool {
		return nil, fleet.Denied("Token signature invalid.")
	}
	return c, nil
}

func (tokens) StillHold(_ context.Context, _ fleet.Scope, _ string, c jwt.Claims) error {
	if c["gone"] == true {
		return fleet.Denied("Token has been revoked.")
	}
	return nil
}

// sessions remember what was asked for.
type sessions struct {
	mu    sync.Mutex
	asked []iam.SessionRequest
}

func (s *sessions) IssueSession(_ context.Context, r iam.SessionRequest) (iam.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r)
	return iam.Session{Credentials: iam.Credentials{AccessKeyID: "ASIA", Expires: time.Unix(1, 0)}}, nil
}

func (*sessions) VerifyProviderToken(context.Context, fleet.Scope, string, fleet.Secret) (iam.ProviderToken, error) {
	return iam.ProviderToken{}, fleet.NotFound("provider", "any")
}

func (*sessions) ProviderStillHolds(context.Context, fleet.Scope, iam.ProviderToken) error {
	return nil
}

func (s *sessions) last() iam.SessionRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[len(s.asked)-1]
}

var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func service(t *testing.T) (*Service, *sessions) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	asked := &sessions{}
	return New(Config{Store: db, Tokens: tokens{}, Sessions: asked, Key: key(), IssuerHost: "iot.lan:8443"}), asked
}

func pool(t *testing.T, s *Service, settings Settings) *Pool {
	t.Helper()
	if settings.Providers == nil {
		settings.Providers = []Provider{{Name: aws, ClientID: client}}
	}
	p, err := s.Create(t.Context(), scope, "pool", nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func token(claims jwt.Claims) fleet.Secret {
	all := jwt.Claims{"aud": client, "sub": "sub-1", "cognito:username": "ida"}
	for k, v := range claims {
		all[k] = v
	}
	b, _ := json.Marshal(all)
	return fleet.Secret(b)
}

func codeOf(err error) string {
	var e *fleet.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestBothSpellingsOfAProviderAreOneIdentity(t *testing.T) {
	t.Parallel()
	s, asked := service(t)
	p := pool(t, s, Settings{Roles: map[string]string{"authenticated": "arn:aws:iam::000000000000:role/r"}})
	ids := map[string]bool{}
	for _, name := range []string{aws, own, "issuer-cognito-idp.us-east-1.amazonaws.com/" + userPool} {
		logins := map[string]fleet.Secret{name: token(nil)}
		id, err := s.ID(t.Context(), p.ID, logins)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, _, err := s.Credentials(t.Context(), id, logins, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		ids[id] = true
	}
	if len(ids) != 1 {
		t.Errorf("%d identities for one person", len(ids))
	}
	f := asked.last().Federation
	if f.Provider != fleet.IdentityPools || f.Audience != p.ID || f.UserSub != "sub-1" || f.Username != "ida" || f.AMR[2] != aws+":CognitoSignIn:sub-1" {
		t.Errorf("federation %+v", f)
	}
}

func TestTheTokenSelectsTheRole(t *testing.T) {
	t.Parallel()
	const a, b, everybody = "arn:aws:iam::000000000000:role/a", "arn:aws:iam::000000000000:role/b", "arn:aws:iam::000000000000:role/everybody"
	byToken := func(ambiguous string) *Mapping { return &Mapping{Type: "Token", Ambiguous: ambiguous} }
	rules := func(claim, match, value string) *Mapping {
		return &Mapping{Type: "Rules", Ambiguous: "Deny", Rules: []Rule{{claim, match, value, a}, {"sub", "Equals", "sub-1", b}}}
	}
	for name, c := range map[string]struct {
		mapping *Mapping
		claims  jwt.Claims
		custom  string
		role    string // empty: refused
	}{
		"no mapping gives everybody's role":       {role: everybody},
		"no mapping refuses a custom role":        {custom: a},
		"the preferred role":                      {byToken("Deny"), jwt.Claims{"cognito:roles": []string{a, b}, "cognito:preferred_role": b}, "", b},
		"the only role":                           {byToken("Deny"), jwt.Claims{"cognito:roles": []string{a}}, "", a},
		"roles as comma-separated text":           {byToken("Deny"), jwt.Claims{"cognito:roles": a + "," + b}, b, b},
		"several roles, denied":                   {byToken("Deny"), jwt.Claims{"cognito:roles": []string{a, b}}, "", ""},
		"several roles, everybody's":              {byToken("AuthenticatedRole"), jwt.Claims{"cognito:roles": []string{a, b}}, "", everybody},
		"no role, denied":                         {byToken("Deny"), nil, "", ""},
		"no role, everybody's":                    {byToken("AuthenticatedRole"), nil, "", everybody},
		"a custom role of the token":              {byToken("Deny"), jwt.Claims{"cognito:roles": []string{a, b}, "cognito:preferred_role": b}, a, a},
		"a custom role that the token lacks":      {byToken("Deny"), jwt.Claims{"cognito:roles": []string{a}}, b, ""},
		"a rule that equals":                      {rules("team", "Equals", "x"), jwt.Claims{"team": "x"}, "", a},
		"the next rule when the first fails":      {rules("team", "Equals", "x"), jwt.Claims{"team": "y"}, "", b},
		"a rule on any element of a list":         {rules("cognito:groups", "StartsWith", "inst"), jwt.Claims{"cognito:groups": []string{"x", "installers"}}, "", a},
		"NotEqual on a list wants none equal":     {rules("cognito:groups", "NotEqual", "x"), jwt.Claims{"cognito:groups": []string{"x", "y"}}, "", b},
		"NotEqual on an absent claim":             {rules("team", "NotEqual", "x"), nil, "", b},
		"a rule that contains":                    {rules("email", "Contains", "@acme."), jwt.Claims{"email": "ida@acme.test"}, "", a},
		"a rule on a boolean":                     {rules("email_verified", "Equals", "true"), jwt.Claims{"email_verified": true}, "", a},
		"a custom role by rules":                  {rules("team", "Equals", "x"), jwt.Claims{"team": "x"}, b, b},
		"a custom role that no matching rule has": {rules("team", "Equals", "x"), jwt.Claims{"team": "x"}, everybody, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, asked := service(t)
			settings := Settings{Roles: map[string]string{"authenticated": everybody}}
			if c.mapping != nil {
				settings.Mappings = map[string]Mapping{own + ":" + client: *c.mapping}
			}
			p := pool(t, s, settings)
			logins := map[string]fleet.Secret{aws: token(c.claims)}
			id, err := s.ID(t.Context(), p.ID, logins)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = s.Credentials(t.Context(), id, logins, c.custom)
			if c.role == "" {
				if codeOf(err) != "NotAuthorizedException" {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || asked.last().RoleARN != c.role {
				t.Errorf("role %v, %v; want %s", asked.asked, err, c.role)
			}
		})
	}
}

func TestLoginsAreRefusedInAWSWords(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	p := pool(t, s, Settings{})
	for name, c := range map[string]struct {
		logins map[string]fleet.Secret
		text   string
	}{
		"a guest where none is welcome": {nil, "Unauthenticated access is not supported for this identity pool."},
		"another user pool":             {map[string]fleet.Secret{"cognito-idp.us-east-1.amazonaws.com/us-east-1_Other0000": token(nil)}, "Logins don't match. Please include at least one valid login for this identity or identity pool."},
		"another region's name":         {map[string]fleet.Secret{"cognito-idp.eu-west-1.amazonaws.com/" + userPool: token(nil)}, "Logins don't match. Please include at least one valid login for this identity or identity pool."},
		"another client":                {map[string]fleet.Secret{aws: token(jwt.Claims{"aud": "client2"})}, "Token is not from a supported provider of this identity pool."},
		"a bad signature":               {map[string]fleet.Secret{aws: "x"}, "Invalid login token. Token signature invalid."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := s.ID(t.Context(), p.ID, c.logins)
			var e *fleet.Error
			if !errors.As(err, &e) || e.Code != "NotAuthorizedException" || e.Msg != c.text {
				t.Errorf("got %v", err)
			}
		})
	}
	_, err := s.ID(t.Context(), "us-east-1:00000000-0000-0000-0000-000000000000", nil)
	if codeOf(err) != "ResourceNotFoundException" || err.Error() != "IdentityPool 'us-east-1:00000000-0000-0000-0000-000000000000' not found." {
		t.Errorf("unknown pool: %v", err)
	}
}

func TestAGuestWhoSignsInKeepsTheIdentityOrAdoptsTheirOwn(t *testing.T) {
	t.Parallel()
	s, asked := service(t)
	p := pool(t, s, Settings{Guests: true, Roles: map[string]string{"authenticated": "arn:aws:iam::000000000000:role/in", "unauthenticated": "arn:aws:iam::000000000000:role/guest"}})
	ctx := t.Context()
	guest, err := s.ID(ctx, p.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Credentials(ctx, guest, nil, ""); err != nil || asked.last().RoleARN != "arn:aws:iam::000000000000:role/guest" || asked.last().Federation.AMR[0] != "unauthenticated" {
		t.Errorf("guest: %v, %v", asked.last(), err)
	}
	login := map[string]fleet.Secret{aws: token(nil)}
	if id, _, err := s.Credentials(ctx, guest, login, ""); err != nil || id != guest {
		t.Errorf("signing in gave %s, %v; want the guest's %s", id, err, guest)
	}
	if _, _, err := s.Credentials(ctx, guest, nil, ""); err == nil || err.Error() != "Access to Identity '"+guest+"' is forbidden." {
		t.Errorf("the linked identity without a login: %v", err)
	}
	second, _ := s.ID(ctx, p.ID, nil)
	if id, _, err := s.Credentials(ctx, second, login, ""); err != nil || id != guest {
		t.Errorf("another guest signing in as the same person got %s, %v", id, err)
	}
	stranger := map[string]fleet.Secret{aws: token(jwt.Claims{"sub": "sub-2"})}
	if _, _, err := s.Credentials(ctx, guest, stranger, ""); codeOf(err) != "NotAuthorizedException" {
		t.Errorf("another person on a linked identity: %v", err)
	}
	if err := s.Unlink(ctx, guest, login, []string{own}); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Identity(ctx, scope, guest); err != nil || len(i.Logins) != 0 {
		t.Errorf("after unlinking: %+v, %v", i, err)
	}
}

// slowTokens are tokens of any pool; what is to happen while one is checked happens then.
type slowTokens struct {
	tokens
	meanwhile func(claims jwt.Claims)
}

func (v slowTokens) VerifyIDToken(ctx context.Context, s fleet.Scope, _, token string) (jwt.Claims, error) {
	c, err := v.tokens.VerifyIDToken(ctx, s, userPool, token)
	if err == nil {
		v.meanwhile(c)
	}
	return c, err
}

func TestOfTwoPeopleWhoWantOneGuestsIdentityOneGetsIt(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	const second = "cognito-idp.us-east-1.amazonaws.com/us-east-1_Second123"
	p := pool(t, s, Settings{Guests: true, Roles: map[string]string{"authenticated": "arn:aws:iam::000000000000:role/in"},
		Providers: []Provider{{Name: aws, ClientID: client}, {Name: second, ClientID: client}}})
	guest, err := s.ID(t.Context(), p.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.tokens = slowTokens{meanwhile: func(c jwt.Claims) {
		if c.String("sub") != "late" {
			return
		}
		if id, _, err := s.Credentials(t.Context(), guest, map[string]fleet.Secret{second: token(nil)}, ""); err != nil || id != guest {
			t.Errorf("who came first got %s, %v", id, err)
		}
	}}
	if id, _, err := s.Credentials(t.Context(), guest, map[string]fleet.Secret{aws: token(jwt.Claims{"sub": "late"})}, ""); codeOf(err) != "NotAuthorizedException" {
		t.Errorf("who came second got %s, %v", id, err)
	}
	if i, err := s.Identity(t.Context(), scope, guest); err != nil || len(i.Logins) != 1 || i.Logins[second] != "sub-1" {
		t.Errorf("identity %+v, %v", i, err)
	}
}

func TestOtherAccountsSeeNothing(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	p := pool(t, s, Settings{Guests: true})
	id, err := s.ID(t.Context(), p.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"Pool":       func() error { _, err := s.Pool(ctx, other, p.ID); return err },
		"Update":     func() error { _, err := s.Update(ctx, other, p.ID, func(*Pool) {}); return err },
		"Delete":     func() error { return s.Delete(ctx, other, p.ID) },
		"Identity":   func() error { _, err := s.Identity(ctx, other, id); return err },
		"Identities": func() error { _, _, err := s.Identities(ctx, other, p.ID, fleet.Page{}); return err },
	} {
		if err := f(); codeOf(err) != "ResourceNotFoundException" {
			t.Errorf("%s from another account: %v", name, err)
		}
	}
	if err := s.DeleteIdentities(ctx, other, []string{id}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Identity(ctx, scope, id); err != nil {
		t.Errorf("another account deleted the identity: %v", err)
	}
}

func TestOpenIDTokensAreVerifiedUntilTheyExpire(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	now := time.Now()
	s.clock = func() time.Time { return now }
	p := pool(t, s, Settings{Classic: true})
	login := map[string]fleet.Secret{aws: token(nil)}
	id, err := s.ID(t.Context(), p.ID, login)
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := s.OpenIDToken(t.Context(), id, login)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.VerifyToken(t.Context(), text.Reveal())
	if err != nil || c.String("aud") != p.ID || c.String("sub") != id || c.Strings("amr")[0] != "authenticated" {
		t.Errorf("%v, %v", c, err)
	}
	now = now.Add(11 * time.Minute)
	if _, err := s.VerifyToken(t.Context(), text.Reveal()); err == nil {
		t.Error("an expired token was taken")
	}
	classic := pool(t, s, Settings{Guests: true})
	id, _ = s.ID(t.Context(), classic.ID, nil)
	if _, _, err := s.OpenIDToken(t.Context(), id, nil); codeOf(err) != "InvalidParameterException" {
		t.Errorf("classic flow off: %v", err)
	}
}

func TestASignOutWhileCredentialsAreMadeWins(t *testing.T) {
	t.Parallel()
	s, asked := service(t)
	p := pool(t, s, Settings{Roles: map[string]string{"authenticated": "arn:aws:iam::000000000000:role/r"}})
	login := map[string]fleet.Secret{aws: token(jwt.Claims{"gone": true})}
	id, err := s.ID(t.Context(), p.ID, login)
	if err != nil {
		t.Fatal(err)
	}
	_, c, err := s.Credentials(t.Context(), id, login, "")
	if codeOf(err) != "NotAuthorizedException" || err.Error() != "Invalid login token. Token has been revoked." || c.AccessKeyID != "" || len(asked.asked) != 1 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestTagMapsGoByAnySpellingOfTheProvider(t *testing.T) {
	t.Parallel()
	s, asked := service(t)
	ctx := t.Context()
	p := pool(t, s, Settings{Roles: map[string]string{"authenticated": "arn:aws:iam::000000000000:role/r"}})
	login := map[string]fleet.Secret{own: token(jwt.Claims{"cognito:groups": []string{"a", "b"}, "team": "x"})}
	id, err := s.ID(ctx, p.ID, login)
	if err != nil {
		t.Fatal(err)
	}
	tags := func() map[string]string {
		t.Helper()
		if _, _, err := s.Credentials(ctx, id, login, ""); err != nil {
			t.Fatal(err)
		}
		return asked.last().Tags
	}
	if got := tags(); len(got) != 0 {
		t.Errorf("without a map there are tags %v", got)
	}
	if err := s.SetTagMap(ctx, scope, p.ID, aws, TagMap{Tags: map[string]string{"groups": "cognito:groups", "team": "team", "none": "absent"}}); err != nil {
		t.Fatal(err)
	}
	if got := tags(); len(got) != 2 || got["groups"] != "a;b" || got["team"] != "x" {
		t.Errorf("tags %v", got)
	}
	if err := s.SetTagMap(ctx, scope, p.ID, own, TagMap{Defaults: true}); err != nil {
		t.Fatal(err)
	}
	if got := tags(); len(got) != 2 || got["username"] != "sub-1" || got["client"] != client {
		t.Errorf("default tags %v", got)
	}
	p, err = s.Pool(ctx, scope, p.ID)
	if err != nil || len(p.TagMaps) != 1 || !s.TagMap(p, aws).Defaults {
		t.Errorf("maps %v, %v", p.TagMaps, err)
	}
	for name, m := range map[string]TagMap{
		"long key":   {Tags: map[string]string{strings.Repeat("k", 129): "c"}},
		"long claim": {Tags: map[string]string{"k": strings.Repeat("c", 257)}},
		"too much":   {Tags: map[string]string{"a": strings.Repeat("c", 230), "b": strings.Repeat("c", 230)}},
	} {
		if err := s.SetTagMap(ctx, scope, p.ID, aws, m); codeOf(err) != "InvalidParameterException" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	token := Mapping{Type: "Token", Ambiguous: "Deny"}
	many := Mapping{Type: "Rules", Ambiguous: "Deny", Rules: make([]Rule, 26)}
	for name, c := range map[string]struct {
		settings Settings
		code     string
	}{
		"a mapping that leaves ties open": {Settings{Mappings: map[string]Mapping{aws + ":" + client: {Type: "Token"}}}, "InvalidParameterException"},
		"rules without rules":             {Settings{Mappings: map[string]Mapping{aws + ":" + client: {Type: "Rules", Ambiguous: "Deny"}}}, "InvalidParameterException"},
		"rules by token":                  {Settings{Mappings: map[string]Mapping{aws + ":" + client: {Type: "Token", Ambiguous: "Deny", Rules: make([]Rule, 1)}}}, "InvalidParameterException"},
		"two spellings of one provider":   {Settings{Mappings: map[string]Mapping{aws + ":" + client: token, own + ":" + client: token}}, "InvalidParameterException"},
		"too many rules":                  {Settings{Mappings: map[string]Mapping{aws + ":" + client: many}}, "LimitExceededException"},
		"too many providers":              {Settings{Providers: make([]Provider, 51)}, "LimitExceededException"},
	} {
		if _, err := s.Create(t.Context(), scope, "p", nil, c.settings); codeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnlinkingTakesALoginOfTheSameIdentity(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	ctx := t.Context()
	p := pool(t, s, Settings{Guests: true})
	login := map[string]fleet.Secret{aws: token(nil)}
	mine, err := s.ID(ctx, p.ID, login)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := s.ID(ctx, p.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, logins := range map[string]map[string]fleet.Secret{"no login": nil, "a login of another identity": login} {
		if err := s.Unlink(ctx, guest, logins, []string{aws}); codeOf(err) != "NotAuthorizedException" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, err := s.Identity(ctx, scope, mine); err != nil || len(i.Logins) != 1 {
		t.Errorf("identity %+v, %v", i, err)
	}
}

func TestADeletedPoolTakesItsIdentitiesAlong(t *testing.T) {
	t.Parallel()
	s, _ := service(t)
	ctx := t.Context()
	p, kept := pool(t, s, Settings{Guests: true}), pool(t, s, Settings{Guests: true})
	var id string
	for range 210 {
		var err error
		if id, err = s.ID(ctx, p.ID, nil); err != nil {
			t.Fatal(err)
		}
	}
	other, err := s.ID(ctx, kept.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, scope, p.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Identity(ctx, scope, id); codeOf(err) != "ResourceNotFoundException" || err.Error() != "Identity '"+id+"' not found." {
		t.Errorf("an identity outlives its pool: %v", err)
	}
	if _, err := s.Identity(ctx, scope, other); err != nil {
		t.Errorf("another pool lost an identity: %v", err)
	}
}
