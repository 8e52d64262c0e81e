package iam

import (
	"context"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestWhoMayAssumeARole(t *testing.T) {
	t.Parallel()
	const ada = "arn:aws:iam::111111111111:user/ada"
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + home + `"},"Action":"sts:AssumeRole"},
		{"Effect":"Deny","Principal":{"AWS":"` + ada + `"},"Action":"sts:AssumeRole"}]}`
	tests := []struct {
		name     string
		of       fleet.Scope // account of the role
		trust    string
		policies []string
		boundary string
		want     string // of the refusal; empty: allowed
	}{
		{"the account is trusted, and ada may", here, trustAWS(home), []string{"Allow sts:AssumeRole *"}, "", ""},
		{"the account is trusted by its root's ARN", here, trustAWS("arn:aws:iam::" + home + ":root"), []string{"Allow sts:AssumeRole *"}, "", ""},
		{"the account is trusted, but ada has no permission", here, trustAWS(home), nil, "", "because no identity-based policy allows the sts:AssumeRole action"},
		{"everybody is trusted, but ada has no permission", here, trustAWS("*"), nil, "", "because no identity-based policy allows the sts:AssumeRole action"},
		{"ada may, but another account is trusted", here, trustAWS(abroad), []string{"Allow * *"}, "", "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111111111111:role/r"},
		{"ada is trusted by name", here, trustAWS(ada), nil, "", ""},
		{"ada is trusted by name, but her policy denies it", here, trustAWS(ada), []string{"Deny sts:* *"}, "", "with an explicit deny in an identity-based policy"},
		{"ada is trusted by name, but her boundary lacks it", here, trustAWS(ada), nil, document("Allow iot:* *"), "because no permissions boundary allows"},
		{"the trust policy denies ada", here, deny, []string{"Allow * *"}, "", "sts:AssumeRole"},
		{"another account trusts ada's, and she may", there, trustAWS(home), []string{"Allow sts:AssumeRole arn:aws:iam::222222222222:role/r"}, "", ""},
		{"another account trusts ada by name, but she has no permission", there, trustAWS(ada), nil, "", "because no identity-based policy allows the sts:AssumeRole action"},
		{"ada may, but another account does not trust her", there, trustAWS(abroad), []string{"Allow * *"}, "", "sts:AssumeRole"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			caller := w.user(here, "ada", tt.policies...)
			if tt.boundary != "" {
				_, err := w.CreatePolicy(t.Context(), here, Entity{Name: "bound"}, tt.boundary)
				w.ok(err)
				w.ok(w.SetBoundary(t.Context(), here, store.IAMUser, "ada", here.IAM("policy/bound")))
			}
			role := w.role(tt.of, "r", tt.trust, "Allow iot:* *")
			s, err := w.AssumeRole(t.Context(), caller, AssumeRequest{RoleARN: role, Name: "session"})
			if tt.want != "" {
				w.refused(err, fleet.KindDenied, tt.want)
				if s.AccessKeyID != "" {
					t.Error("credentials beside a refusal")
				}
				return
			}
			w.ok(err)
			c := w.caller(s.AccessKeyID, s.Token.Reveal())
			if c.Scope.Account != tt.of.Account || c.RoleARN != role {
				t.Errorf("caller %+v", c)
			}
			w.ok(w.can(c, "iot:ListThings", "*"))
		})
	}
}

// TestASessionPolicyBindsWhoIsTrustedByName: a narrowed session must not widen itself by becoming a role that names it.
func TestASessionPolicyBindsWhoIsTrustedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	first := w.role(here, "first", trustAWS(home), "Allow * *")
	second := w.role(here, "second", trustAWS(first), "Allow * *")
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: first, Name: "session", Policy: document("Allow iot:List* *")})
	w.ok(err)
	_, err = w.AssumeRole(t.Context(), w.caller(s.AccessKeyID, s.Token.Reveal()), AssumeRequest{RoleARN: second, Name: "session"})
	w.refused(err, fleet.KindDenied, "because no session policy allows the sts:AssumeRole action")
	w.assume(w.assume(ada, first), second)
}

func TestConditionsOfTrustPolicies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, action, condition string
		request                 AssumeRequest
		want                    string
	}{
		{"an external id", `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"x1"}}`, AssumeRequest{ExternalID: "x1"}, ""},
		{"another external id", `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"x1"}}`, AssumeRequest{ExternalID: "x2"}, "sts:AssumeRole"},
		{"no external id", `"sts:AssumeRole"`, `{"StringEquals":{"sts:ExternalId":"x1"}}`, AssumeRequest{}, "sts:AssumeRole"},
		{"the session's name", `"sts:AssumeRole"`, `{"StringEquals":{"sts:RoleSessionName":"session"}}`, AssumeRequest{}, ""},
		{"tags that may be given", `["sts:AssumeRole","sts:TagSession"]`, `{"ForAllValues:StringEquals":{"aws:TagKeys":["plant"]}}`, AssumeRequest{Tags: map[string]string{"plant": "x"}}, ""},
		{"tags that may not", `["sts:AssumeRole","sts:TagSession"]`, `{"ForAllValues:StringEquals":{"aws:TagKeys":["plant"]}}`, AssumeRequest{Tags: map[string]string{"rank": "x"}}, "sts:AssumeRole"},
		{"tags without TagSession", `"sts:AssumeRole"`, "", AssumeRequest{Tags: map[string]string{"plant": "x"}}, "sts:TagSession"},
		{"a source identity", `["sts:AssumeRole","sts:SetSourceIdentity"]`, `{"StringEquals":{"sts:SourceIdentity":"ada"}}`, AssumeRequest{SourceIdentity: "ada"}, ""},
		{"a source identity that may not be set", `"sts:AssumeRole"`, "", AssumeRequest{SourceIdentity: "ada"}, "sts:SetSourceIdentity"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada := w.user(here, "ada", "Allow sts:* *")
			tt.request.Name, tt.request.RoleARN = "session", w.role(here, "r", trust(tt.action, `{"AWS":"`+home+`"}`, tt.condition))
			_, err := w.AssumeRole(t.Context(), ada, tt.request)
			if tt.want == "" {
				w.ok(err)
			} else {
				w.refused(err, fleet.KindDenied, "is not authorized to perform: "+tt.want)
			}
		})
	}
}

func TestARoleThatDoesNotExistLooksLikeOneThatRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	w.role(there, "closed", trustAWS(abroad))
	for name, r := range map[string]AssumeRequest{"as it comes": {}, "for longer than a role allows": {Duration: 12 * time.Hour},
		"narrowed by a policy that may be there": {PolicyARNs: []string{there.IAM("policy/p")}}} {
		texts := map[string]string{}
		for _, role := range []string{"closed", "absent"} {
			r.RoleARN, r.Name = there.IAM("role/"+role), "session"
			_, err := w.AssumeRole(t.Context(), ada, r)
			w.refused(err, fleet.KindDenied, r.RoleARN)
			texts[role] = text(err)[:40]
		}
		if texts["closed"] != texts["absent"] {
			t.Errorf("%s: %q", name, texts)
		}
	}
}

// TestPoliciesOfOthersAreNotTold: whom no role trusts hears the same of a managed policy that is there and of one that is not.
func TestPoliciesOfOthersAreNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(there, "closed", trustAWS(abroad))
	_, err := w.CreatePolicy(t.Context(), there, Entity{Name: "kept"}, document("Allow iot:* *"))
	w.ok(err)
	w.token["guest"] = WebIdentity{Issuer: "issuer.example", Federation: fleet.Federation{Audience: "app", Subject: "ida"}}
	_, err = w.CreateProvider(t.Context(), there, "https://issuer.example", []string{"app"}, nil, nil)
	w.ok(err)
	for _, policy := range []string{"kept", "absent"} {
		r := AssumeRequest{RoleARN: role, Name: "session", PolicyARNs: []string{there.IAM("policy/" + policy)}}
		_, err := w.AssumeRole(t.Context(), ada, r)
		w.refused(err, fleet.KindDenied, role)
		_, _, err = w.AssumeWebIdentity(fleet.WithCaller(t.Context(), &fleet.Caller{}), there.Region, "guest", r)
		w.refused(err, fleet.KindDenied, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
}

func TestTagsAndSourceIdentityTravelAlong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const actions = `["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]`
	ada := w.user(here, "ada", "Allow sts:* *")
	first := w.role(here, "first", trust(actions, `{"AWS":"`+home+`"}`, ""), "Allow sts:* *")
	second := w.role(here, "second", trust(actions, `{"AWS":"`+home+`"}`, ""))
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: first, Name: "session", SourceIdentity: "ada",
		Tags: map[string]string{"plant": "north", "shift": "late"}, Transitive: []string{"plant"}})
	w.ok(err)
	s, err = w.AssumeRole(t.Context(), w.caller(s.AccessKeyID, s.Token.Reveal()), AssumeRequest{RoleARN: second, Name: "session",
		SourceIdentity: "eve", Tags: map[string]string{"Plant": "south", "rank": "1"}})
	w.ok(err)
	c := w.caller(s.AccessKeyID, s.Token.Reveal())
	if c.Tags["plant"] != "north" || c.Tags["Plant"] != "" || c.Tags["rank"] != "1" || c.Tags["shift"] != "" || c.SourceIdentity != "ada" || c.ParentKeyID != ada.AccessKeyID {
		t.Errorf("caller %+v", c)
	}
}

// TestATransitiveTagStaysWhateverCaseItIsNamedIn: a later session must not end up with an empty one in its place.
func TestATransitiveTagStaysWhateverCaseItIsNamedIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	role := w.role(here, "r", trust(`["sts:AssumeRole","sts:TagSession"]`, `{"AWS":"`+home+`"}`, ""), "Allow sts:* *")
	c := w.user(here, "ada", "Allow sts:* *")
	for i, key := range []string{"plant", "Plant", "plant", "PLANT", "plant"} {
		s, err := w.AssumeRole(t.Context(), c, AssumeRequest{RoleARN: role, Name: "session",
			Tags: map[string]string{key: map[bool]string{true: "north", false: "south"}[i == 0]}, Transitive: []string{key}})
		w.ok(err)
		c = w.caller(s.AccessKeyID, s.Token.Reveal())
		if len(c.Tags) != 1 || c.Tags["plant"] != "north" || len(c.TransitiveTags) != 1 || c.TransitiveTags[0] != "plant" {
			t.Errorf("session %d: tags %v, transitive %v", i+1, c.Tags, c.TransitiveTags)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(here, "r", trustAWS(home), "Allow sts:* *") // two hours at most
	s, err := w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session", Duration: 2 * time.Hour})
	w.ok(err)
	if !s.Expires.Equal(w.clock.Add(2 * time.Hour)) {
		t.Errorf("expires %v", s.Expires)
	}
	_, err = w.AssumeRole(t.Context(), ada, AssumeRequest{RoleARN: role, Name: "session", Duration: 2*time.Hour + time.Second})
	w.refused(err, fleet.KindInvalid, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	_, err = w.AssumeRole(t.Context(), w.caller(s.AccessKeyID, s.Token.Reveal()), AssumeRequest{RoleARN: role, Name: "session", Duration: 2 * time.Hour})
	w.refused(err, fleet.KindInvalid, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
}

func TestWebIdentities(t *testing.T) {
	t.Parallel()
	const issuer = "pool.example/us-east-1_Pool"
	w := newWorld(t)
	w.tx(func(tx *store.Tx) error {
		for _, p := range []store.IdentityPool{{Scope: here, ID: "us-east-1:ours", Name: "ours"}, {Scope: there, ID: "us-east-1:theirs", Name: "theirs"}} {
			if err := tx.CreateIdentityPool(p); err != nil {
				return err
			}
		}
		return tx.CreateUserPool(store.UserPool{Scope: there, ID: "us-east-1_Pool", Secret: []byte{1}})
	})
	identity := func(pool, amr string) WebIdentity {
		return WebIdentity{Issuer: fleet.IdentityPools, Federation: fleet.Federation{Audience: pool, Subject: "us-east-1:ida", AMR: []string{amr}}}
	}
	w.token["ours"], w.token["theirs"], w.token["absent"] = identity("us-east-1:ours", "authenticated"), identity("us-east-1:theirs", "authenticated"), identity("us-east-1:absent", "authenticated")
	w.token["guest"] = identity("us-east-1:ours", "unauthenticated")
	w.token["user"] = WebIdentity{Issuer: issuer, Federation: fleet.Federation{Audience: "client", Subject: "sub-1", PoolID: "us-east-1_Pool", UserSub: "sub-1"}}
	other, upper := w.token["user"], w.token["user"]
	other.Audience, upper.Issuer = "other", "pool.example/US-EAST-1_POOL"
	w.token["other client"], w.token["another case"] = other, upper
	const action = `"sts:AssumeRoleWithWebIdentity"`
	open := w.role(here, "open", trust(action, federatedTrust, ""))
	pinned := w.role(here, "pinned", trust(action, federatedTrust, `{"StringEquals":{"cognito-identity.amazonaws.com:aud":"us-east-1:ours"},
		"ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"authenticated"}}`))
	users := w.role(here, "users", trust(action, `{"Federated":"arn:aws:iam::111111111111:oidc-provider/`+issuer+`"}`, `{"StringEquals":{"`+issuer+`:sub":"sub-1"}}`), "Allow iot:* *")
	closed := w.role(here, "closed", trustAWS(home))
	tests := []struct {
		name, token, role string
		provider          bool // the account has an OIDC provider for the issuer
		code              string
	}{
		{"an identity of the account's pool", "ours", open, false, ""},
		{"an identity of a pool that the role names", "ours", pinned, false, ""},
		{"a guest where people are asked for", "guest", pinned, false, "denied"},
		{"an identity of another account's pool", "theirs", open, false, "denied"},
		{"an identity of a pool that is gone", "absent", open, false, "denied"},
		{"a role that trusts no identities", "ours", closed, false, "denied"},
		{"a role that does not exist", "ours", here.IAM("role/none"), false, "denied"},
		{"a user pool without provider", "user", users, false, "InvalidIdentityToken"},
		{"a user pool with provider", "user", users, true, ""},
		{"a client that the provider does not list", "other client", users, true, "InvalidIdentityToken"},
		{"an issuer that differs by case", "another case", users, true, "InvalidIdentityToken"},
		{"an unknown issuer", "nonsense", users, true, "InvalidIdentityToken"},
		{"no role at all", "ours", "arn:aws:iam::111111111111:user/ada", false, "ValidationError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.T = t
			if tt.provider {
				_, err := w.CreateProvider(t.Context(), here, "https://"+issuer, []string{"client"}, nil, nil)
				w.ok(err)
				defer func() { w.ok(w.DeleteProvider(t.Context(), here, here.IAM("oidc-provider/"+issuer))) }()
			}
			s, _, err := w.AssumeWebIdentity(t.Context(), here.Region, fleet.Secret(tt.token), AssumeRequest{RoleARN: tt.role, Name: "session"})
			switch tt.code {
			case "":
				w.ok(err)
				w.caller(s.AccessKeyID, s.Token.Reveal())
			case "denied":
				w.refused(err, fleet.KindDenied, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
			default:
				if e, ok := err.(*fleet.Error); !ok || e.Code != tt.code {
					t.Errorf("got %v, want %s", err, tt.code)
				}
			}
		})
	}
	w.T = t
	w.wait(time.Second) // the providers that were deleted above have taken along what was issued up to now
	_, err := w.CreateProvider(t.Context(), here, "https://"+issuer, []string{"client"}, nil, nil)
	w.ok(err)
	s, _, err := w.AssumeWebIdentity(t.Context(), here.Region, "user", AssumeRequest{RoleARN: users, Name: "session"})
	w.ok(err)
	c := w.caller(s.AccessKeyID, s.Token.Reveal())
	w.ok(w.can(c, "iot:ListThings", "*"))
	signOut(w, there, "user:us-east-1_Pool/sub-1") // where the user pool is
	w.dead(w.can(c, "iot:ListThings", "*"))

	meanwhile := w.token["user"]
	meanwhile.StillHolds = func(context.Context) error { return fleet.Denied("Token has been revoked") }
	w.token["signed out meanwhile"] = meanwhile
	s, _, err = w.AssumeWebIdentity(t.Context(), here.Region, "signed out meanwhile", AssumeRequest{RoleARN: users, Name: "session"})
	w.refused(err, fleet.KindDenied, "revoked")
	if s.AccessKeyID != "" {
		t.Error("credentials for somebody who was signed out while they were made")
	}
}

func TestTrustPoliciesAskWhenAndFromWherePeopleCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tx(func(tx *store.Tx) error {
		return tx.CreateIdentityPool(store.IdentityPool{Scope: here, ID: "us-east-1:ours", Name: "ours"})
	})
	w.token["ida"] = WebIdentity{Issuer: fleet.IdentityPools, Federation: fleet.Federation{Audience: "us-east-1:ours", Subject: "us-east-1:ida"}}
	ctx := fleet.WithCaller(t.Context(), &fleet.Caller{Scope: here, SourceIP: "192.0.2.7", UserAgent: "app/1"})
	role := w.role(here, "r", trustAWS(home))
	for _, tt := range []struct {
		effect, condition string
		want              bool
	}{
		{"Allow", `{"DateLessThan":{"aws:CurrentTime":"2026-02-01T00:00:00Z"}}`, true},
		{"Allow", `{"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`, false},
		{"Deny", `{"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`, false},
		{"Deny", `{"NumericGreaterThan":{"aws:EpochTime":"1900000000"}}`, true},
		{"Deny", `{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, false},
		{"Deny", `{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, true},
		{"Deny", `{"BoolIfExists":{"aws:SecureTransport":"false"}}`, true},
		{"Allow", `{"StringEquals":{"aws:RequestedRegion":"us-east-1","aws:UserAgent":"app/1"}}`, true},
	} {
		statement := `{"Effect":"` + tt.effect + `","Principal":` + federatedTrust + `,"Action":"sts:AssumeRoleWithWebIdentity","Condition":` + tt.condition + `}`
		if tt.effect == "Deny" {
			statement += `,{"Effect":"Allow","Principal":` + federatedTrust + `,"Action":"sts:AssumeRoleWithWebIdentity"}`
		}
		w.ok(w.SetTrust(t.Context(), here, "r", `{"Version":"2012-10-17","Statement":[`+statement+`]}`))
		if _, _, err := w.AssumeWebIdentity(ctx, here.Region, "ida", AssumeRequest{RoleARN: role, Name: "session"}); (err == nil) != tt.want {
			t.Errorf("%s if %s: %v", tt.effect, tt.condition, err)
		}
	}
}

func TestTagsOfPeopleNeedTagSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issue := func(role string) error {
		_, err := w.IssueSession(t.Context(), SessionRequest{Scope: here, RoleARN: role, Name: "session", Principal: policy.Principal{Federated: fleet.IdentityPools},
			Action: "sts:AssumeRoleWithWebIdentity", Federation: person(), Tags: map[string]string{"username": "ida"}})
		return err
	}
	w.ok(issue(w.role(here, "tagged", trust(`["sts:AssumeRoleWithWebIdentity","sts:TagSession"]`, federatedTrust, ""))))
	w.refused(issue(w.role(here, "plain", trust(`"sts:AssumeRoleWithWebIdentity"`, federatedTrust, ""))), fleet.KindDenied, "sts:TagSession")
}
