package iam

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
	"github.com/imprint-iot/imprint/internal/store"
)

const app = "factory-app"

// abroad makes another issuer, which the account trusts under its thumbprint, and a role for its people.
func (w *world) abroad(condition string, statements ...string) (i *oidctest.Issuer, provider, role string) {
	w.Helper()
	i = oidctest.New(w)
	c, err := egress.New(egress.Config{Allow: []string{i.Host()}, Roots: x509.NewCertPool()})
	w.ok(err)
	c, err = egress.WithThumbprints(c, []string{i.Thumbprint()}) // for the public providers, which have none of their own
	w.ok(err)
	w.oidc = oidc.New(oidc.Config{HTTP: c, Clock: func() time.Time { return w.clock }, Hosts: map[string]string{oidc.Facebook: i.Server.URL, oidc.Amazon: i.Server.URL}})
	e, err := w.CreateProvider(w.Context(), here, i.URL+"/", []string{app}, nil, nil)
	w.ok(err)
	provider = e.ARN(here)
	return i, provider, w.role(here, "foreign", trust(`["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"]`, `{"Federated":"`+provider+`"}`, condition), statements...)
}

func (w *world) foreignToken(i *oidctest.Issuer, change oidctest.Claims) fleet.Secret {
	all := oidctest.Claims{"iat": w.clock.Unix(), "exp": w.clock.Add(time.Hour).Unix()}
	for k, v := range change {
		all[k] = v
	}
	return fleet.Secret(i.Token(w, app, "ann", all))
}

func codeOf(err error) string {
	var e *fleet.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestForeignTokensBecomeSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer, provider, role := w.abroad("", `Allow iot:* arn:aws:iot:us-east-1:111111111111:thing/${aws:PrincipalTag/plant}-*`)
	token := w.foreignToken(issuer, oidctest.Claims{"azp": app, "aud": "resource", "email": "ann@example.com", "amr": []string{"mfa"}, tagsClaim: map[string]any{"principal_tags": map[string]any{"plant": []string{"north"}, "shift": []string{"late"}}, "transitive_tag_keys": []string{"plant"}},
		tagsClaim + "/principal_tags/rank": "first", sourceClaim: "ann@example.com"})
	s, id, err := w.AssumeWebIdentity(t.Context(), here.Region, token, AssumeRequest{RoleARN: role, Name: "session"})
	w.ok(err)
	if id.Issuer != issuer.Name()+"/" || id.Audience != app || id.Subject != "ann" || s.Source != "ann@example.com" {
		t.Errorf("%+v", id)
	}
	c := w.caller(s.AccessKeyID, s.Token.Reveal())
	w.ok(w.can(c, "iot:DescribeThing", "arn:aws:iot:us-east-1:111111111111:thing/north-1"))
	w.refused(w.can(c, "iot:DescribeThing", "arn:aws:iot:us-east-1:111111111111:thing/south-1"), fleet.KindDenied, "no identity-based policy allows")
	f := w.facts(c, nil)
	for key, want := range map[string]string{issuer.Name() + ":aud": app, issuer.Name() + ":sub": "ann", issuer.Name() + ":oaud": "resource", issuer.Name() + ":amr": "mfa", issuer.Name() + ":email": "ann@example.com",
		issuer.Name() + "/:sub": "ann", "aws:FederatedProvider": provider, "aws:PrincipalTag/rank": "first", "aws:SourceIdentity": "ann@example.com"} {
		if got := f.Get(key); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %v", key, got)
		}
	}
	narrow, _, err := w.AssumeWebIdentity(t.Context(), here.Region, token, AssumeRequest{RoleARN: role, Name: "session", Policy: document("Allow iot:List* *")})
	w.ok(err)
	w.refused(w.can(w.caller(narrow.AccessKeyID, narrow.Token.Reveal()), "iot:DescribeThing", "arn:aws:iot:us-east-1:111111111111:thing/north-1"), fleet.KindDenied, "no session policy allows")
	w.wait(time.Second)
	w.ok(w.DeleteProvider(t.Context(), here, provider))
	_, err = w.Lookup(t.Context(), here.Region, s.AccessKeyID, s.Token.Reveal())
	w.dead(err)
}

func TestForeignTokensThatSTSRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer, _, role := w.abroad("")
	other := oidctest.New(t)
	stranger := oidctest.EC(t, "first")
	claims := issuer.Claims(app, "ann", w.clock, nil)
	tags := func(v any) oidctest.Claims { return oidctest.Claims{tagsClaim: v} }
	for name, c := range map[string]struct {
		token      fleet.Secret
		code, says string
	}{
		"no token at all":          {"x", "InvalidIdentityToken", "is not a valid JWT"},
		"another issuer":           {w.foreignToken(other, nil), "InvalidIdentityToken", "No OpenIDConnect provider found in your account for " + other.URL},
		"the issuer in upper case": {w.foreignToken(issuer, oidctest.Claims{"iss": strings.Replace(issuer.URL, "realm", "REALM", 1)}), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		"no issuer":                {w.foreignToken(issuer, oidctest.Claims{"iss": nil}), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		"as an identity pool":      {w.foreignToken(issuer, oidctest.Claims{"iss": "https://cognito-identity.amazonaws.com"}), "InvalidIdentityToken", "No OpenIDConnect provider found"},
		"another audience":         {w.foreignToken(issuer, oidctest.Claims{"aud": "x"}), "InvalidIdentityToken", "Incorrect token audience"},
		"another azp":              {w.foreignToken(issuer, oidctest.Claims{"azp": "x"}), "InvalidIdentityToken", "Incorrect token audience"},
		"another's key":            {fleet.Secret(stranger.Sign(t, nil, claims)), "InvalidIdentityToken", "Token signature invalid."},
		"none":                     {fleet.Secret(oidctest.Raw(t, oidctest.Claims{"alg": "none"}, claims, nil)), "InvalidIdentityToken", "RS256"},
		"over":                     {w.foreignToken(issuer, oidctest.Claims{"exp": w.clock.Add(-6 * time.Minute).Unix()}), "ExpiredTokenException", "Token expired"},
		"issued in the future":     {w.foreignToken(issuer, oidctest.Claims{"iat": w.clock.Add(6 * time.Minute).Unix()}), "InvalidIdentityToken", "future"},
		"an access token":          {w.foreignToken(issuer, oidctest.Claims{"aud": nil, "scope": "openid"}), "InvalidIdentityToken", "you sent an Access Token"},
		"an access token by typ":   {w.foreignToken(issuer, oidctest.Claims{"typ": "Bearer"}), "InvalidIdentityToken", "you sent an Access Token"},
		"a tag of AWS":             {w.foreignToken(issuer, tags(map[string]any{"principal_tags": map[string]any{"aws:x": []string{"y"}}})), "InvalidIdentityToken", "aws:"},
		"a tag with two values":    {w.foreignToken(issuer, tags(map[string]any{"principal_tags": map[string]any{"x": []string{"y", "z"}}})), "InvalidIdentityToken", "one value"},
		"a tag twice":              {w.foreignToken(issuer, tags(map[string]any{"principal_tags": map[string]any{"x": "1", "X": "2"}})), "InvalidIdentityToken", "twice"},
		"a transitive key alone":   {w.foreignToken(issuer, tags(map[string]any{"transitive_tag_keys": []string{"x"}})), "InvalidIdentityToken", "not among its tags"},
		"a source that is none":    {w.foreignToken(issuer, oidctest.Claims{sourceClaim: "a b"}), "InvalidIdentityToken", "source identity"},
	} {
		s, _, err := w.AssumeWebIdentity(t.Context(), here.Region, c.token, AssumeRequest{RoleARN: role, Name: "session"})
		if codeOf(err) != c.code || !strings.Contains(text(err), c.says) || s.AccessKeyID != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	issuer.Server.CloseClientConnections()
	issuer.Serve = func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(503); return true }
	w.oidc = oidc.New(oidc.Config{HTTP: http.DefaultClient, Clock: func() time.Time { return w.clock }})
	_, _, err := w.AssumeWebIdentity(t.Context(), here.Region, w.foreignToken(issuer, nil), AssumeRequest{RoleARN: role, Name: "session"})
	if codeOf(err) != "IDPCommunicationError" {
		t.Errorf("an issuer that is down: %v", err)
	}
}

func TestTrustPoliciesJudgeForeignPeople(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		condition func(issuer string) string
		change    oidctest.Claims
		ok        bool
	}{
		"its subject":              {func(i string) string { return `{"StringEquals":{"` + i + `:sub":"ann"}}` }, nil, true},
		"another subject":          {func(i string) string { return `{"StringEquals":{"` + i + `:sub":"bob"}}` }, nil, false},
		"its audience":             {func(i string) string { return `{"StringEquals":{"` + i + `:aud":"` + app + `"}}` }, nil, true},
		"with the slash":           {func(i string) string { return `{"StringEquals":{"` + i + `/:aud":"` + app + `"}}` }, nil, true},
		"a method":                 {func(i string) string { return `{"ForAnyValue:StringEquals":{"` + i + `:amr":"mfa"}}` }, oidctest.Claims{"amr": []string{"pwd", "mfa"}}, true},
		"another method":           {func(i string) string { return `{"ForAnyValue:StringEquals":{"` + i + `:amr":"mfa"}}` }, oidctest.Claims{"amr": []string{"pwd"}}, false},
		"an identity pool's words": {func(string) string { return `{"StringEquals":{"cognito-identity.amazonaws.com:aud":"` + app + `"}}` }, nil, false},
		"tags that may be":         {func(string) string { return `{"StringEquals":{"aws:RequestTag/plant":"north"}}` }, oidctest.Claims{tagsClaim: map[string]any{"principal_tags": map[string]any{"plant": "north"}}}, true},
		"tags that may not":        {func(string) string { return `{"StringEquals":{"aws:RequestTag/plant":"north"}}` }, oidctest.Claims{tagsClaim: map[string]any{"principal_tags": map[string]any{"plant": "south"}}}, false},
	} {
		w := newWorld(t)
		issuer, provider, role := w.abroad("")
		w.ok(w.SetTrust(t.Context(), here, "foreign", trust(`["sts:AssumeRoleWithWebIdentity","sts:TagSession"]`, `{"Federated":"`+provider+`"}`, c.condition(issuer.Name()))))
		w.wait(time.Second)
		_, _, err := w.AssumeWebIdentity(t.Context(), here.Region, w.foreignToken(issuer, c.change), AssumeRequest{RoleARN: role, Name: "session"})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if !c.ok {
			w.refused(err, fleet.KindDenied, "Not authorized to perform sts:")
		}
	}
	// A role that trusts another account's provider of the same issuer does not let ours in, nor does the pool service's name.
	w := newWorld(t)
	issuer, _, _ := w.abroad("")
	for name, who := range map[string]string{"another account's provider": there.IAM("oidc-provider/" + issuer.Name()), "identity pools": fleet.IdentityPools} {
		role := w.role(here, strings.ReplaceAll(strings.ToLower(name[:7]), " ", ""), trust(`["sts:AssumeRoleWithWebIdentity"]`, `{"Federated":"`+who+`"}`, ""))
		_, _, err := w.AssumeWebIdentity(t.Context(), here.Region, w.foreignToken(issuer, nil), AssumeRequest{RoleARN: role, Name: "session"})
		w.refused(err, fleet.KindDenied, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
}

func TestAccessTokensOfPublicProviders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer, _, _ := w.abroad("")
	issuer.Serve = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer good" && r.URL.Query().Get("access_token") != "good" {
			rw.WriteHeader(http.StatusUnauthorized)
			return true
		}
		json.NewEncoder(rw).Encode(map[string]any{"id": map[string]string{"/app": app, "/me": "ann"}[r.URL.Path], "aud": app, "user_id": "ann", "exp": 60})
		return true
	}
	for name, keys := range map[string]string{oidc.Facebook: `"graph.facebook.com:app_id":"` + app + `","graph.facebook.com:id":"ann"`, oidc.Amazon: `"www.amazon.com:app_id":"` + app + `","www.amazon.com:user_id":"ann"`} {
		role := w.role(here, name, trust(`["sts:AssumeRoleWithWebIdentity"]`, `{"Federated":"`+name+`"}`, `{"StringEquals":{`+keys+`}}`), "Allow iot:* *")
		s, id, err := w.AssumeWebIdentity(t.Context(), here.Region, "good", AssumeRequest{RoleARN: role, Name: "session", ProviderID: name})
		w.ok(err)
		if c := w.caller(s.AccessKeyID, s.Token.Reveal()); id.Subject != "ann" || w.facts(c, nil).Get("aws:FederatedProvider")[0] != name {
			t.Errorf("%s: %+v", name, c)
		}
		_, _, err = w.AssumeWebIdentity(t.Context(), here.Region, "bad", AssumeRequest{RoleARN: role, Name: "session", ProviderID: name})
		if codeOf(err) != "IDPRejectedClaim" || fleet.KindOf(err) != fleet.KindDenied {
			t.Errorf("%s, a token that it does not take: %v", name, err)
		}
	}
}

// A claim that a foreign installer asked for ends with the trust in whoever vouched for them.
func TestClaimsEndWithTheProvider(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer, provider, role := w.abroad("", "Allow iot:CreateProvisioningClaim *")
	s, _, err := w.AssumeWebIdentity(t.Context(), here.Region, w.foreignToken(issuer, nil), AssumeRequest{RoleARN: role, Name: "session"})
	w.ok(err)
	who := fleet.InstallerOf(w.caller(s.AccessKeyID, s.Token.Reveal()))
	since := w.clock
	entitled := func() error {
		return w.db.View(t.Context(), func(tx *store.Tx) error {
			return w.StillEntitled(tx, here, who, since, "iot:CreateProvisioningClaim", here.ARN("iot", "provisioningtemplate/lamps"))
		})
	}
	w.ok(entitled())
	w.wait(time.Second)
	w.ok(w.ChangeProvider(t.Context(), here, provider, func(e *Entity) { e.ClientIDs = []string{"another"} }))
	w.refused(entitled(), fleet.KindDenied, "the identity provider")
}

func FuzzWebTags(f *testing.F) {
	for _, s := range []string{`{"https://aws.amazon.com/tags":{"principal_tags":{"a":["b"]},"transitive_tag_keys":["a"]}}`, `{"https://aws.amazon.com/tags/principal_tags/a":"b","https://aws.amazon.com/tags/transitive_tag_keys":"a"}`,
		`{"https://aws.amazon.com/tags":{"principal_tags":{"aws:a":["b"]}}}`, `{"https://aws.amazon.com/tags":{"principal_tags":{"a":["b","c"],"A":7}}}`, `{"https://aws.amazon.com/source_identity":"ann"}`, `{"https://aws.amazon.com/source_identity":7}`,
		`{"https://aws.amazon.com/tags":{"principal_tags":{"a":"b","A":"c"}}}`, `{"https://aws.amazon.com/tags":{"transitive_tag_keys":["x"]}}`, `{}`, `{"https://aws.amazon.com/tags":7}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c jwt.Claims
		if json.Unmarshal(b, &c) != nil {
			return
		}
		tags, transitive, source, err := webTags(c)
		if err != nil {
			return
		}
		folded := map[string]bool{}
		for k, v := range tags {
			l := strings.ToLower(k)
			if k == "" || len(k) > maxTagKey || len(v) > maxTagValue || strings.HasPrefix(l, "aws:") || folded[l] {
				t.Errorf("tag %q = %q", k, v)
			}
			folded[l] = true
		}
		for _, k := range transitive {
			if _, ok := tags[k]; !ok {
				t.Errorf("transitive %q of %v", k, tags)
			}
		}
		if len(tags) > maxTags || len(source) > 64 {
			t.Errorf("%v %q", tags, source)
		}
	})
}
