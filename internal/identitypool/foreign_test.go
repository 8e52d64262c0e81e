package identitypool_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/identitypool"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
	"github.com/imprint-iot/imprint/internal/store"
)

const app = "factory-app"

// abroad lets the identity pool take tokens of the other provider, and returns the provider's ARN.
func (s *story) abroad(change func(*identitypool.Pool)) string {
	s.Helper()
	e, err := s.iam.CreateProvider(s.Context(), home, s.issuer.URL, []string{app, "second"}, []string{s.issuer.Thumbprint()}, nil)
	s.must(err)
	arn := e.ARN(home)
	_, err = s.identities.Update(s.Context(), home, s.identity.ID, func(p *identitypool.Pool) {
		p.OIDC = []string{arn}
		if change != nil {
			change(p)
		}
	})
	s.must(err)
	return arn
}

// foreign is a token of the other provider, by the story's clock.
func (s *story) foreign(change oidctest.Claims) string {
	s.Helper()
	now := s.clock()
	all := oidctest.Claims{"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for k, v := range change {
		all[k] = v
	}
	return s.issuer.Token(s, app, "ann", all)
}

// trade trades a token of some provider for credentials.
func (s *story) trade(provider, token, custom string) (string, iam.Credentials, error) {
	s.Helper()
	logins := map[string]fleet.Secret{provider: fleet.Secret(token)}
	identity, err := s.identities.ID(s.Context(), s.identity.ID, logins)
	if err != nil {
		return "", iam.Credentials{}, err
	}
	return s.identities.Credentials(s.Context(), identity, logins, custom)
}

func TestAForeignTokenGivesCredentials(t *testing.T) {
	t.Parallel()
	s := begin(t)
	arn := s.abroad(nil)
	_, err := s.identities.Update(s.Context(), home, s.identity.ID, func(p *identitypool.Pool) {
		p.Mappings[arn] = identitypool.Mapping{Type: "Rules", Ambiguous: "AuthenticatedRole", Rules: []identitypool.Rule{{Claim: "groups", Match: "Equals", Value: "installers", RoleARN: role("installer")}}}
		p.TagMaps = map[string]identitypool.TagMap{s.issuer.Name(): {Tags: map[string]string{"plant": "plant", "groups": "groups"}}}
	})
	s.must(err)
	id, c, err := s.trade(s.issuer.Name(), s.foreign(oidctest.Claims{"groups": []string{"staff", "installers"}, "plant": "north", "preferred_username": "ann.other"}), "")
	s.must(err)
	who, err := s.caller(c)
	s.must(err)
	f := who.Federation
	if who.RoleARN != role("installer") || f.Username != "ann.other" || f.OIDC != s.issuer.Name() || f.PoolID != "" || f.Subject != id || f.Audience != s.identity.ID {
		t.Errorf("caller %+v of %+v", who, f)
	}
	if want := []string{"authenticated", s.issuer.Name(), s.issuer.Name() + ":OIDC:" + app + ":ann"}; !slices.Equal(f.AMR, want) {
		t.Errorf("amr %v", f.AMR)
	}
	if who.Tags["plant"] != "north" || who.Tags["groups"] != "staff;installers" {
		t.Errorf("tags %v", who.Tags)
	}
	again, c, err := s.trade(s.issuer.Name()+"/", s.foreign(nil), "")
	s.must(err)
	who, err = s.caller(c)
	s.must(err)
	if again != id || who.RoleARN != role("visitor") {
		t.Errorf("with another spelling: %s (first %s), %s", again, id, who.RoleARN)
	}
}

// The confusions of providers: whatever a token of one provider is presented as, it is worth nothing but as what it is.
func TestForeignTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.abroad(func(p *identitypool.Pool) { p.Public = map[string]string{oidc.Google: app} })
	other := oidctest.New(t)
	stranger := oidctest.EC(t, "first")
	now := s.clock()
	ada := s.signIn()
	mine := "iot.lan:8443/" + s.pool.ID
	aws := "cognito-idp.us-east-1.amazonaws.com/" + s.pool.ID
	for name, c := range map[string]struct{ provider, token, says string }{
		"another audience":               {s.issuer.Name(), s.foreign(oidctest.Claims{"aud": "x"}), "Token is not from a supported provider of this identity pool."},
		"another azp":                    {s.issuer.Name(), s.foreign(oidctest.Claims{"azp": "x"}), "Token is not from a supported provider of this identity pool."},
		"another issuer":                 {s.issuer.Name(), other.Token(t, app, "ann", oidctest.Claims{"iat": now.Unix()}), "Issuer doesn't match providerName"},
		"another's key":                  {s.issuer.Name(), stranger.Sign(t, nil, s.issuer.Claims(app, "ann", now, nil)), "Token signature invalid."},
		"none":                           {s.issuer.Name(), oidctest.Raw(t, oidctest.Claims{"alg": "none"}, s.issuer.Claims(app, "ann", now, nil), nil), "Invalid login token."},
		"over":                           {s.issuer.Name(), s.foreign(oidctest.Claims{"exp": now.Add(-6 * time.Minute).Unix()}), "Token expired: "},
		"issued in the future":           {s.issuer.Name(), s.foreign(oidctest.Claims{"iat": now.Add(time.Hour).Unix()}), "Invalid login token."},
		"an access token":                {s.issuer.Name(), s.foreign(oidctest.Claims{"aud": nil}), "missing a required claim: aud"},
		"an access token that says so":   {s.issuer.Name(), s.foreign(oidctest.Claims{"typ": "Bearer"}), "Not a valid OpenId Connect identity token."},
		"a provider that is not listed":  {other.Name(), other.Token(t, app, "ann", nil), "Logins don't match."},
		"as our own user pool's":         {mine, s.foreign(nil), "Invalid login token."},
		"as our own, in AWS's name":      {aws, s.foreign(oidctest.Claims{"iss": "https://" + aws}), "Invalid login token."},
		"our own as the other provider":  {s.issuer.Name(), ada.ID.Reveal(), "Issuer doesn't match providerName"},
		"our access token as Id token":   {mine, ada.Access.Reveal(), "Missing a required claim: aud"},
		"the other provider's as Google": {oidc.Google, s.foreign(nil), "Issuer doesn't match providerName"},
		"in the name of Google":          {s.issuer.Name(), s.foreign(oidctest.Claims{"iss": "https://accounts.google.com"}), "Issuer doesn't match providerName"},
		"the ARN as the name":            {home.IAM("oidc-provider/" + s.issuer.Name()), s.foreign(nil), "Logins don't match."},
	} {
		_, _, err := s.trade(c.provider, c.token, "")
		if code(err) != "NotAuthorizedException" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A token that crafts cognito:roles chooses no role, whatever the mapping, unless the operator trusts the issuer with that.
func TestForeignTokensNameNoRoles(t *testing.T) {
	t.Parallel()
	s := begin(t)
	byToken := identitypool.Mapping{Type: "Token", Ambiguous: "AuthenticatedRole"}
	arn := s.abroad(nil)
	_, err := s.identities.Update(s.Context(), home, s.identity.ID, func(p *identitypool.Pool) { p.Mappings[arn] = byToken })
	if code(err) != "InvalidParameterException" || !strings.Contains(err.Error(), "identity-roles") {
		t.Errorf("a mapping by token for another issuer: %v", err)
	}
	crafted := s.foreign(oidctest.Claims{"cognito:roles": []string{role("installer")}, "cognito:preferred_role": role("installer"), "cognito:groups": []string{"installers"}, "token_use": "id"})
	for _, mapping := range []map[string]identitypool.Mapping{{}, {arn: byToken}} {
		// What an earlier release or the operator's list let in must not count either.
		s.must(s.db.Tx(s.Context(), func(tx *store.Tx) error {
			row, err := tx.FindIdentityPool(s.identity.ID)
			if err != nil {
				return err
			}
			var settings identitypool.Settings
			if err := json.Unmarshal([]byte(row.Settings), &settings); err != nil {
				return err
			}
			settings.Mappings = mapping
			b, err := json.Marshal(settings)
			row.Settings = string(b)
			if err != nil {
				return err
			}
			return tx.UpdateIdentityPool(row)
		}))
		_, c, err := s.trade(s.issuer.Name(), crafted, "")
		s.must(err)
		if who, err := s.caller(c); err != nil || who.RoleARN != role("visitor") {
			t.Errorf("with %v: %v, %v", mapping, who, err)
		}
		if _, _, err := s.trade(s.issuer.Name(), crafted, role("installer")); code(err) != "NotAuthorizedException" {
			t.Errorf("asked for, with %v: %v", mapping, err)
		}
	}
	trusting := identitypool.New(identitypool.Config{Store: s.db, Tokens: s.users, Sessions: s.iam, IssuerHost: "iot.lan:8443", Clock: s.clock, RoleIssuers: []string{s.issuer.Name()}})
	_, err = trusting.Update(s.Context(), home, s.identity.ID, func(p *identitypool.Pool) { p.Mappings = map[string]identitypool.Mapping{arn: byToken} })
	s.must(err)
	s.identities = trusting
	_, c, err := s.trade(s.issuer.Name(), crafted, "")
	s.must(err)
	if who, err := s.caller(c); err != nil || who.RoleARN != role("installer") {
		t.Errorf("of an issuer that the operator lists: %v, %v", who, err)
	}
}

func TestWhatEndsASessionOfAForeignToken(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *story, arn string) error{
		"the provider is deleted": func(s *story, arn string) error { return s.iam.DeleteProvider(s.Context(), home, arn) },
		"its client is removed": func(s *story, arn string) error {
			return s.iam.ChangeProvider(s.Context(), home, arn, func(e *iam.Entity) { e.ClientIDs = []string{"second"} })
		},
		"the role trusts others": func(s *story, _ string) error {
			return s.iam.SetTrust(s.Context(), home, "visitor", trust("us-east-1:another"))
		},
		"the role is deleted": func(s *story, _ string) error { return s.iam.Delete(s.Context(), home, store.IAMRole, "visitor") },
	} {
		s := begin(t)
		arn := s.abroad(nil)
		_, c, err := s.trade(s.issuer.Name(), s.foreign(nil), "")
		s.must(err)
		if _, err := s.caller(c); err != nil {
			t.Fatal(err)
		}
		s.must(end(s, arn))
		if _, err := s.caller(c); err == nil || !strings.Contains(err.Error(), "is expired") {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := s.trade(s.issuer.Name(), s.foreign(nil), ""); err == nil {
			t.Errorf("%s: a new session was given", name)
		}
	}
	s := begin(t)
	arn := s.abroad(nil)
	_, c, err := s.trade(s.issuer.Name(), s.foreign(nil), "")
	s.must(err)
	s.must(s.iam.ChangeProvider(s.Context(), home, arn, func(e *iam.Entity) { e.ClientIDs = append(e.ClientIDs, "third") }))
	if _, err := s.caller(c); err != nil {
		t.Errorf("a client more: %v", err)
	}
}

// The basic flow: a token of ours in between, which must not outlive the provider either.
func TestForeignPeopleInTheBasicFlow(t *testing.T) {
	t.Parallel()
	s := begin(t)
	arn := s.abroad(func(p *identitypool.Pool) { p.Classic = true })
	logins := map[string]fleet.Secret{s.issuer.Name(): fleet.Secret(s.foreign(nil))}
	id, err := s.identities.ID(s.Context(), s.identity.ID, logins)
	s.must(err)
	_, token, err := s.identities.OpenIDToken(s.Context(), id, logins)
	s.must(err)
	claims, err := s.identities.VerifyToken(s.Context(), token.Reveal())
	s.must(err)
	if !slices.Contains(claims.Strings("amr"), s.issuer.Name()) || claims.String("imprint:oidc") != s.issuer.Name() {
		t.Errorf("%v", claims)
	}
	s.must(s.iam.DeleteProvider(s.Context(), home, arn))
	if _, err := s.identities.VerifyToken(s.Context(), token.Reveal()); code(err) != "ExpiredTokenException" {
		t.Errorf("once the provider is gone: %v", err)
	}
}

func TestGuestsBecomeForeignPeopleAndMerge(t *testing.T) {
	t.Parallel()
	s := begin(t)
	s.abroad(func(p *identitypool.Pool) { p.Guests, p.Roles["unauthenticated"] = true, role("other") })
	guest, err := s.identities.ID(s.Context(), s.identity.ID, nil)
	s.must(err)
	s.must(s.iam.SetTrust(s.Context(), home, "other", strings.ReplaceAll(trust(s.identity.ID), `"authenticated"`, `"unauthenticated"`)))
	_, c, err := s.identities.Credentials(s.Context(), guest, nil, "")
	s.must(err)
	who, err := s.caller(c)
	s.must(err)
	s.must(s.iam.PutInline(s.Context(), home, store.IAMRole, "other", "all", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
	for action, ok := range map[string]bool{"iot:Connect": true, "iam:ListUsers": false, "imprint:ContainClaim": false} {
		if err := s.iam.Authorize(s.Context(), who, action, []string{"*"}, nil); (err == nil) != ok {
			t.Errorf("a guest whose role may do all, %s: %v", action, err)
		}
	}
	ann := map[string]fleet.Secret{s.issuer.Name(): fleet.Secret(s.foreign(nil))}
	ada := map[string]fleet.Secret{"iot.lan:8443/" + s.pool.ID: s.signIn().ID}
	both := map[string]fleet.Secret{}
	for _, m := range []map[string]fleet.Secret{ann, ada} {
		for k, v := range m {
			both[k] = v
		}
	}
	// The guest becomes ann; ada, who is the same person, is linked to her.
	for _, logins := range []map[string]fleet.Secret{ann, both, ada} {
		got, _, err := s.identities.Credentials(s.Context(), guest, logins, "")
		if err != nil || got != guest {
			t.Fatalf("%d logins: %s, %v", len(logins), got, err)
		}
	}
	if _, _, err := s.identities.Credentials(s.Context(), guest, nil, ""); code(err) != "NotAuthorizedException" || !strings.Contains(err.Error(), "is forbidden") {
		t.Errorf("as a guest again: %v", err)
	}
	// Another guest with the same login is led to the first identity.
	second, err := s.identities.ID(s.Context(), s.identity.ID, nil)
	s.must(err)
	if got, _, err := s.identities.Credentials(s.Context(), second, ann, ""); err != nil || got != guest {
		t.Errorf("another guest: %s, %v", got, err)
	}
	// bob of the same provider can't have ann's place.
	bob := map[string]fleet.Secret{s.issuer.Name(): fleet.Secret(s.foreign(oidctest.Claims{"sub": "bob"})), "iot.lan:8443/" + s.pool.ID: ada["iot.lan:8443/"+s.pool.ID]}
	if _, _, err := s.identities.Credentials(s.Context(), guest, bob, ""); code(err) != "ResourceConflictException" {
		t.Errorf("another person of a provider that is linked: %v", err)
	}
	s.must(s.identities.Unlink(s.Context(), guest, ada, []string{s.issuer.Name()}))
	i, err := s.identities.Identity(s.Context(), home, guest)
	s.must(err)
	if len(i.Logins) != 1 {
		t.Errorf("logins %v", i.Logins)
	}
}

func TestProvidersOfPoolsAreChecked(t *testing.T) {
	t.Parallel()
	s := begin(t)
	for name, c := range map[string]struct {
		change func(*identitypool.Pool)
		says   string
	}{
		"another account's": {func(p *identitypool.Pool) { p.OIDC = []string{"arn:aws:iam::999999999999:oidc-provider/id.example"} }, "is no OpenID Connect provider of account"},
		"a role":            {func(p *identitypool.Pool) { p.OIDC = []string{role("visitor")} }, "is no OpenID Connect provider of account"},
		"twice": {func(p *identitypool.Pool) {
			p.OIDC = []string{home.IAM("oidc-provider/id.example"), home.IAM("oidc-provider/id.example/")}
		}, "is named twice"},
		"our own user pool": {func(p *identitypool.Pool) { p.OIDC = []string{home.IAM("oidc-provider/iot.lan:8443/" + s.pool.ID)} }, "CognitoIdentityProviders"},
		"unknown to us":     {func(p *identitypool.Pool) { p.Public = map[string]string{"api.twitter.com": "x"} }, "SupportedLoginProviders takes"},
		"an empty client":   {func(p *identitypool.Pool) { p.Public = map[string]string{oidc.Google: "x;"} }, "none of them empty"},
		"mapped twice": {func(p *identitypool.Pool) {
			m := identitypool.Mapping{Type: "Rules", Ambiguous: "Deny", Rules: []identitypool.Rule{{Claim: "c", Match: "Equals", Value: "v", RoleARN: role("visitor")}}}
			p.Mappings = map[string]identitypool.Mapping{home.IAM("oidc-provider/id.example"): m, "id.example/": m}
		}, "are for the same provider"},
	} {
		_, err := s.identities.Update(s.Context(), home, s.identity.ID, c.change)
		if code(err) != "InvalidParameterException" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// standIn answers as Facebook and Amazon do about the token "good", which is ann's for the app.
func standIn(t *testing.T) *oidctest.Issuer {
	i := oidctest.New(t)
	i.Serve = func(w http.ResponseWriter, r *http.Request) bool {
		answer := func(v any) bool {
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
			return true
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		if r.URL.Path == "/auth/o2/tokeninfo" {
			token = r.URL.Query().Get("access_token")
		}
		switch {
		case r.URL.Path != "/app" && r.URL.Path != "/me" && r.URL.Path != "/auth/o2/tokeninfo":
			return false
		case token == "slow":
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case token != "good" && token != "other":
			w.WriteHeader(http.StatusBadRequest)
			return true
		}
		for_ := map[string]string{"good": app, "other": "other"}[token]
		switch r.URL.Path {
		case "/app":
			return answer(map[string]string{"id": for_})
		case "/me":
			return answer(map[string]string{"id": "ann", "name": "Ann", "email": "ann@example.com"})
		case "/auth/o2/tokeninfo":
			return answer(map[string]any{"aud": for_, "app_id": "amzn1.application." + for_, "user_id": "ann", "exp": 3000, "iss": "https://www.amazon.com"})
		}
		return false
	}
	return i
}

func TestAccessTokensOfPublicProviders(t *testing.T) {
	t.Parallel()
	s := begin(t)
	i := standIn(t)
	c, err := egress.New(egress.Config{Allow: []string{i.Host()}})
	s.must(err)
	c, err = egress.WithThumbprints(c, []string{i.Thumbprint()})
	s.must(err)
	issuers := oidc.New(oidc.Config{HTTP: c, Clock: s.clock, Hosts: map[string]string{oidc.Facebook: i.Server.URL, oidc.Amazon: i.Server.URL, oidc.Google: i.URL, oidc.Apple: i.URL}})
	s.identities = identitypool.New(identitypool.Config{Store: s.db, Tokens: s.users, Sessions: s.iam, Issuers: issuers, IssuerHost: "iot.lan:8443", Clock: s.clock})
	_, err = s.identities.Update(s.Context(), home, s.identity.ID, func(p *identitypool.Pool) {
		p.Public = map[string]string{oidc.Facebook: "x;" + app, oidc.Amazon: "amzn1.application." + app, oidc.Google: app, oidc.Apple: app}
		p.Mappings[oidc.Facebook] = identitypool.Mapping{Type: "Rules", Ambiguous: "Deny", Rules: []identitypool.Rule{{Claim: "email", Match: "Equals", Value: "ann@example.com", RoleARN: role("installer")}}}
	})
	s.must(err)
	ids := map[string]bool{}
	for provider, token := range map[string]string{oidc.Facebook: "good", oidc.Amazon: "good", oidc.Google: s.foreignOf(i), oidc.Apple: s.foreignOf(i)} {
		id, c, err := s.trade(provider, token, "")
		if err != nil {
			t.Errorf("%s: %v", provider, err)
			continue
		}
		who, err := s.caller(c)
		s.must(err)
		want := role("visitor")
		if provider == oidc.Facebook {
			want = role("installer")
		}
		if ids[id] = true; who.RoleARN != want || who.Federation.AMR[1] != provider || who.Federation.UserSub != "ann" {
			t.Errorf("%s: %s, %+v", provider, who.RoleARN, who.Federation)
		}
	}
	if len(ids) != 4 {
		t.Errorf("four providers gave %d identities: ann of one is not ann of another", len(ids))
	}
	for _, provider := range []string{oidc.Facebook, oidc.Amazon} {
		for token, want := range map[string]string{"other": "NotAuthorizedException", "bad": "NotAuthorizedException", "slow": "ExternalServiceException", "a b": "NotAuthorizedException",
			s.foreignOf(i): "NotAuthorizedException"} {
			if _, _, err := s.trade(provider, token, ""); code(err) != want || strings.Contains(err.Error(), "access_token") {
				t.Errorf("%s, token %.8q: %v", provider, token, err)
			}
		}
	}
}

// foreignOf is a good Id token of an issuer, by the story's clock.
func (s *story) foreignOf(i *oidctest.Issuer) string {
	now := s.clock()
	return i.Token(s, app, "ann", oidctest.Claims{"iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
}
