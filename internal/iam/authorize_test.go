package iam

import (
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

const template = "arn:aws:iot:us-east-1:111111111111:provisioningtemplate/pumps"

// TestDenialsSayWhichPolicyIsMissing has AWS's sentences (identity spec 4.2).
func TestDenialsSayWhichPolicyIsMissing(t *testing.T) {
	t.Parallel()
	const start = "User: arn:aws:iam::111111111111:user/ada is not authorized to perform: iot:CreateProvisioningClaim on resource: " + template
	tests := []struct {
		name     string
		policies []string
		boundary string
		want     string
	}{
		{"nothing at all", nil, "", start + " because no identity-based policy allows the iot:CreateProvisioningClaim action"},
		{"another template", []string{"Allow iot:* " + template + "2"}, "", start + " because no identity-based policy allows the iot:CreateProvisioningClaim action"},
		{"the template itself", []string{"Allow iot:CreateProvisioningClaim " + template}, "", ""},
		{"an explicit deny beside it", []string{"Allow iot:* *", "Deny iot:Create* " + template}, "", start + " with an explicit deny in an identity-based policy"},
		{"a boundary without it", []string{"Allow iot:* *"}, document("Allow s3:* *"), start + " because no permissions boundary allows the iot:CreateProvisioningClaim action"},
		{"a boundary that denies it", []string{"Allow iot:* *"}, document("Allow * *", "Deny iot:* *"), start + " with an explicit deny in a permissions boundary"},
		{"a boundary with it", []string{"Allow iot:* *"}, document("Allow iot:* *"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada := w.user(here, "ada", tt.policies...)
			if tt.boundary != "" {
				_, err := w.CreatePolicy(t.Context(), here, Entity{Name: "bound"}, tt.boundary)
				w.ok(err)
				w.ok(w.SetBoundary(t.Context(), here, store.IAMUser, "ada", here.IAM("policy/bound")))
			}
			if got := text(w.can(ada, "iot:CreateProvisioningClaim", template)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestSessionPoliciesNarrow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada", "Allow sts:* *")
	role := w.role(here, "r", trustAWS(home), "Allow iot:* *")
	_, err := w.CreatePolicy(t.Context(), here, Entity{Name: "lists"}, document("Allow iot:List* *"))
	w.ok(err)
	const start = "User: arn:aws:sts::111111111111:assumed-role/r/session is not authorized to perform: iot:DescribeEndpoint on resource: *"
	session := func(r AssumeRequest) *fleet.Caller {
		t.Helper()
		r.RoleARN, r.Name = role, "session"
		s, err := w.AssumeRole(t.Context(), ada, r)
		w.ok(err)
		return w.caller(s.AccessKeyID, s.Token.Reveal())
	}
	w.ok(w.can(session(AssumeRequest{}), "iot:DescribeEndpoint", "*"))
	inline := session(AssumeRequest{Policy: document("Allow iot:List* *")})
	w.ok(w.can(inline, "iot:ListThings", "*"))
	w.refused(w.can(inline, "iot:DescribeEndpoint", "*"), fleet.KindDenied, start+" because no session policy allows the iot:DescribeEndpoint action")
	denying := session(AssumeRequest{Policy: document("Allow * *", "Deny iot:Describe* *")})
	w.refused(w.can(denying, "iot:DescribeEndpoint", "*"), fleet.KindDenied, start+" with an explicit deny in a sessions policy")
	wider := session(AssumeRequest{Policy: document("Allow s3:* *")})
	w.refused(w.can(wider, "s3:GetObject", "*"), fleet.KindDenied, "because no identity-based policy allows")
	managed := session(AssumeRequest{PolicyARNs: []string{here.IAM("policy/lists")}})
	w.ok(w.can(managed, "iot:ListThings", "*"))
	w.refused(w.can(managed, "iot:DescribeEndpoint", "*"), fleet.KindDenied, start+" because no session policy allows")
	w.ok(w.DeletePolicy(t.Context(), here, here.IAM("policy/lists")))
	w.refused(w.can(managed, "iot:ListThings", "*"), fleet.KindDenied, "because no session policy allows") // gone: it allows nothing
}

// TestChangesOfPoliciesActAtOnce goes through every way in which a right is given or taken.
func TestChangesOfPoliciesActAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, ada := t.Context(), w.user(here, "ada")
	granted := func(want bool, after string, err error) {
		t.Helper()
		w.ok(err)
		if got := w.can(ada, "iot:ListThings", "*") == nil; got != want {
			t.Errorf("%s: granted is %v", after, got)
		}
	}
	granted(false, "a new user", nil)
	granted(true, "an inline policy", w.PutInline(ctx, here, store.IAMUser, "ada", "p", document("Allow iot:* *")))
	granted(false, "replaced", w.PutInline(ctx, here, store.IAMUser, "ada", "p", document("Allow s3:* *")))
	granted(true, "a managed policy", w.Attach(ctx, here, store.IAMUser, "ada", managedPrefix+"AWSIoTFullAccess"))
	granted(false, "detached", w.Detach(ctx, here, store.IAMUser, "ada", managedPrefix+"AWSIoTFullAccess"))
	_, err := w.CreateGroup(ctx, here, Entity{Name: "crew"})
	w.ok(err)
	granted(false, "a group's policy", w.PutInline(ctx, here, store.IAMGroup, "crew", "p", document("Allow iot:* *")))
	granted(true, "member of the group", w.AddToGroup(ctx, here, "crew", "ada"))
	granted(false, "no longer", w.RemoveFromGroup(ctx, here, "crew", "ada"))
	_, err = w.CreatePolicy(ctx, here, Entity{Name: "own"}, document("Allow s3:* *"))
	w.ok(err)
	own := here.IAM("policy/own")
	granted(false, "a policy of the account", w.Attach(ctx, here, store.IAMUser, "ada", own))
	_, err = w.AddVersion(ctx, here, own, document("Allow iot:* *"), false)
	granted(false, "a version that is not the default", err)
	granted(true, "the default", w.SetDefaultVersion(ctx, here, own, 2))
	granted(false, "back again", w.SetDefaultVersion(ctx, here, own, 1))
}

func TestConditionsOnTheCaller(t *testing.T) {
	t.Parallel()
	allow := func(resource, condition string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"` + resource + `","Condition":` + condition + `}}`
	}
	tests := []struct{ name, resource, condition string }{
		{"the address", "*", `{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`},
		{"the role", "*", `{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/r"}}`},
		{"the sort", "*", `{"StringEquals":{"aws:PrincipalType":"AssumedRole","aws:PrincipalAccount":"111111111111"}}`},
		{"the user id", "*", `{"StringLike":{"aws:userid":"AROA*:CognitoIdentityCredentials"}}`},
		{"a tag of the role", "*", `{"StringEquals":{"aws:PrincipalTag/Plant":"north"}}`},
		{"a tag in the resource", "arn:aws:iot:*:*:provisioningtemplate/${aws:PrincipalTag/kind}", `{}`},
		{"the identity", "*", `{"StringEquals":{"cognito-identity.amazonaws.com:sub":"us-east-1:ida"}}`},
		{"the pool", "*", `{"StringEquals":{"aws:FederatedProvider":"cognito-identity.amazonaws.com","cognito-identity.amazonaws.com:aud":"us-east-1:pool"}}`},
		{"the time of issue", "*", `{"DateGreaterThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}}`},
		{"the time", "*", `{"DateLessThan":{"aws:CurrentTime":"2026-02-01T00:00:00Z"}}`},
		{"a name that is not there", "*", `{"Null":{"aws:username":"true"}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			role := w.role(here, "r", trust(`"sts:AssumeRoleWithWebIdentity"`, federatedTrust, ""))
			w.ok(w.Tag(t.Context(), here, store.IAMRole, "r", map[string]string{"plant": "north", "kind": "pumps"}))
			c := w.signedIn(here, role)
			c.SourceIP = "192.0.2.7"
			w.ok(w.PutInline(t.Context(), here, store.IAMRole, "r", "p", allow(tt.resource, tt.condition)))
			w.ok(w.can(c, "iot:CreateProvisioningClaim", template))
		})
	}
}

func TestARequestCannotForgeFactsOfItsCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ada := w.user(here, "ada")
	w.ok(w.PutInline(t.Context(), here, store.IAMUser, "ada", "p",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"eve"}}}}`))
	err := w.Authorize(t.Context(), ada, "iot:ListThings", []string{"*"}, policy.Context{"aws:username": {"eve"}})
	w.refused(err, fleet.KindDenied, "iot:ListThings")
}

func TestEveryResourceMustBeAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := here.IoT("thing", "a"), here.IoT("thing", "b")
	ada := w.user(here, "ada", "Allow iot:UpdateThing "+a, "Deny iot:CreatePolicy "+b, "Allow iot:CreatePolicy *")
	w.ok(w.Authorize(t.Context(), ada, "iot:UpdateThing", []string{a}, nil))
	w.refused(w.Authorize(t.Context(), ada, "iot:UpdateThing", []string{a, b}, nil), fleet.KindDenied, b)
	w.ok(w.AuthorizeAny(t.Context(), ada, "iot:UpdateThing", []string{"*", a}, nil))
	w.refused(w.AuthorizeAny(t.Context(), ada, "iot:CreatePolicy", []string{"*", b}, nil), fleet.KindDenied, "explicit deny")
}

// TestOtherAccountsAreOutOfReach: no policy of an account, however wide, reaches another account's resources or names.
func TestOtherAccountsAreOutOfReach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, ada := t.Context(), w.user(here, "ada", "Allow * *")
	w.user(there, "eve")
	foreign := w.role(there, "r", trust(`"sts:AssumeRole"`, `{"Service":"iot.amazonaws.com"}`, ""))
	w.refused(w.can(ada, "iot:DeleteThing", there.IoT("thing", "x")), fleet.KindDenied, "because no resource-based policy allows the iot:DeleteThing action")
	w.ok(w.can(ada, "iam:GetPolicy", managedPrefix+"AWSIoTFullAccess"))
	w.refused(w.PassRole(ctx, ada, foreign, "iot.amazonaws.com"), fleet.KindDenied, "iam:PassRole")
	w.refused(w.PassRole(ctx, ada, foreign, "cognito-identity.amazonaws.com"), fleet.KindDenied, "iam:PassRole")
	_, err := w.Keys(ctx, here, "eve")
	w.refused(err, fleet.KindNotFound, "The user with name eve cannot be found.")
	_, err = w.CreatePolicy(ctx, there, Entity{Name: "theirs"}, document("Allow * *"))
	w.ok(err)
	w.refused(w.Attach(ctx, here, store.IAMUser, "ada", there.IAM("policy/theirs")), fleet.KindNotFound, "")
	w.refused(w.SetBoundary(ctx, here, store.IAMUser, "ada", there.IAM("policy/theirs")), fleet.KindNotFound, "")
	w.tx(func(tx *store.Tx) error {
		_, err := w.AssumeForService(tx, here, foreign, "iot.amazonaws.com")
		w.refused(err, fleet.KindNotFound, "")
		return nil
	})
	_, err = w.IssueSession(ctx, SessionRequest{Scope: here, RoleARN: foreign, Name: "session", Action: "sts:AssumeRole", Principal: policy.Principal{Service: "iot.amazonaws.com"}})
	w.refused(err, fleet.KindDenied, "Not authorized to perform sts:AssumeRole")
}

func TestServicesBecomeRoles(t *testing.T) {
	t.Parallel()
	const iot = "iot.amazonaws.com"
	service := func(condition string) string {
		return trust(`"sts:AssumeRole"`, `{"Service":"iot.amazonaws.com"}`, condition)
	}
	tests := []struct {
		name, trust, source string
		want                string // of the refusal; empty: allowed
	}{
		{"a role that trusts the service", service(""), "", ""},
		{"a role for another service", trust(`"sts:AssumeRole"`, `{"Service":"lambda.amazonaws.com"}`, ""), "", "sts:AssumeRole"},
		{"a role for the account", trustAWS(home), "", "because no role trust policy allows the sts:AssumeRole action"},
		{"a role for this account's service", service(`{"StringEquals":{"aws:SourceAccount":"` + home + `"}}`), "", ""},
		{"a role for another account's service", service(`{"StringEquals":{"aws:SourceAccount":"` + abroad + `"}}`), "", "sts:AssumeRole"},
		{"a role for this template", service(`{"ArnEquals":{"aws:SourceArn":"` + template + `"}}`), template, ""},
		{"a role for another template", service(`{"ArnEquals":{"aws:SourceArn":"` + template + `"}}`), template + "2", "sts:AssumeRole"},
		{"a role for a time that is not over", service(`{"DateLessThan":{"aws:CurrentTime":"2026-02-01T00:00:00Z"}}`), "", ""},
		{"a role for a time that is over", service(`{"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}`), "", "sts:AssumeRole"},
		{"a role for a template, and no word of one", service(`{"ArnEquals":{"aws:SourceArn":"` + template + `"}}`), "", "sts:AssumeRole"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			role := w.role(here, "r", tt.trust, "Allow iot:CreateThing *")
			var source []string
			if tt.source != "" {
				source = []string{tt.source}
			}
			w.tx(func(tx *store.Tx) error {
				c, err := w.AssumeForService(tx, here, role, iot, source...)
				if tt.want != "" {
					w.refused(err, fleet.KindDenied, tt.want)
					return nil
				}
				w.ok(err)
				w.ok(w.AuthorizeTx(tx, c, "iot:CreateThing", here.IoT("thing", "x"), nil))
				w.refused(w.AuthorizeTx(tx, c, "iot:AttachPolicy", "*", nil), fleet.KindDenied, "is not authorized to perform: iot:AttachPolicy on resource: *")
				return nil
			})
		})
	}
}

func TestPassRole(t *testing.T) {
	t.Parallel()
	const iot = "iot.amazonaws.com"
	w := newWorld(t)
	role := w.role(here, "r", trust(`"sts:AssumeRole"`, `{"Service":"iot.amazonaws.com"}`, `{"ArnLike":{"aws:SourceArn":"`+template+`"}}`))
	people := w.role(here, "people", trust(`"sts:AssumeRoleWithWebIdentity"`, federatedTrust, ""))
	ada, bob, eve := w.user(here, "ada", "Allow iam:PassRole *"), w.user(here, "bob"), w.user(here, "eve", "Allow iot:* *")
	w.ok(w.PutInline(t.Context(), here, store.IAMUser, "bob", "p",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"iot.amazonaws.com"}}}}`))
	w.ok(w.PassRole(t.Context(), ada, role, iot)) // pinned to a template that does not exist yet
	w.ok(w.PassRole(t.Context(), bob, role, iot))
	w.refused(w.PassRole(t.Context(), bob, people, fleet.IdentityPools), fleet.KindDenied, "iam:PassRole")
	w.ok(w.PassRole(t.Context(), ada, people, fleet.IdentityPools))
	w.refused(w.PassRole(t.Context(), eve, role, iot), fleet.KindDenied,
		"User: arn:aws:iam::111111111111:user/eve is not authorized to perform: iam:PassRole on resource: "+role)
	w.refused(w.PassRole(t.Context(), ada, people, iot), fleet.KindInvalid, "cannot be assumed by iot.amazonaws.com")
	w.refused(w.PassRole(t.Context(), ada, here.IAM("role/none"), iot), fleet.KindInvalid, "does not exist")
}

// TestClaimsEndWithTheirInstaller: what makes a claim unusable, and what does not.
func TestClaimsEndWithTheirInstaller(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(w *world, ada, ida, chained *fleet.Caller)
		want   map[string]bool // by who made the claim: still entitled
	}{
		{"nothing", func(*world, *fleet.Caller, *fleet.Caller, *fleet.Caller) {}, map[string]bool{"ada": true, "ida": true, "chained": true}},
		{"the person is signed out", func(w *world, _, _, _ *fleet.Caller) { signOut(w, here, "user:us-east-1_Pool/sub-1") }, map[string]bool{"ada": true, "chained": true}},
		{"the key is deleted", func(w *world, ada, _, _ *fleet.Caller) {
			w.ok(w.DeleteKey(w.Context(), here, "ada", ada.AccessKeyID))
		}, map[string]bool{"ida": true}},
		{"the role's trust changes", func(w *world, _, _, _ *fleet.Caller) { w.ok(w.SetTrust(w.Context(), here, "r", trustAWS(abroad))) }, map[string]bool{"ada": true}},
		{"the role loses the action", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.PutInline(w.Context(), here, store.IAMRole, "r", "p", document("Allow iot:List* *")))
		}, map[string]bool{"ada": true}},
		{"the role loses the template", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.PutInline(w.Context(), here, store.IAMRole, "r", "p", document("Allow iot:* "+template+"2")))
		}, map[string]bool{"ada": true}},
		{"the role is deleted", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.DeleteInline(w.Context(), here, store.IAMRole, "r", "p"))
			w.ok(w.Delete(w.Context(), here, store.IAMRole, "r"))
		}, map[string]bool{"ada": true}},
		{"sessions of before are revoked by the role's policy, as AWS's console does it", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.PutInline(w.Context(), here, store.IAMRole, "r", "AWSRevokeOlderSessions", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*",
				"Condition":{"DateLessThan":{"aws:TokenIssueTime":"`+w.clock.Format(time.RFC3339)+`"}}}}`))
		}, map[string]bool{"ada": true}},
		{"sessions of long ago are revoked", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.PutInline(w.Context(), here, store.IAMRole, "r", "AWSRevokeOlderSessions", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*",
				"Condition":{"DateLessThan":{"aws:TokenIssueTime":"`+w.clock.Add(-time.Hour).Format(time.RFC3339)+`"}}}}`))
		}, map[string]bool{"ada": true, "ida": true, "chained": true}},
		{"the right depends on facts of the request", func(w *world, _, _, _ *fleet.Caller) {
			w.ok(w.PutInline(w.Context(), here, store.IAMRole, "r", "p", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*",
				"Resource":"arn:aws:iot:*:*:provisioningtemplate/${aws:PrincipalTag/kind}","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}}`))
		}, map[string]bool{"ada": true, "ida": true, "chained": true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ada := w.user(here, "ada", "Allow * *")
			role := w.role(here, "r", `{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Principal":{"AWS":"`+home+`"},"Action":"sts:AssumeRole"},
				{"Effect":"Allow","Principal":`+federatedTrust+`,"Action":"sts:AssumeRoleWithWebIdentity"}]}`, "Allow iot:* *")
			ida, chained := w.signedIn(here, role), w.assume(ada, role)
			w.wait(time.Second)
			since := w.clock
			w.wait(time.Second)
			tt.change(w, ada, ida, chained)
			for name, c := range map[string]*fleet.Caller{"ada": ada, "ida": ida, "chained": chained} {
				w.tx(func(tx *store.Tx) error {
					err := w.StillEntitled(tx, here, fleet.InstallerOf(c), since, "iot:CreateProvisioningClaim", template)
					if (err == nil) != tt.want[name] || err != nil && fleet.KindOf(err) != fleet.KindDenied {
						t.Errorf("%s: %v", name, err)
					}
					return nil
				})
			}
		})
	}
}

func TestWhoIsNobodyMayNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []*fleet.Caller{{}, {Scope: here}, {Scope: here, Kind: fleet.Service, ARN: "iot.amazonaws.com"}, {Scope: here, Kind: fleet.IAMUser, Name: "ghost"}} {
		if err := w.can(c, "iot:ListThings", "*"); err == nil {
			t.Errorf("%+v is permitted", c)
		}
	}
	w.ok(w.can(&fleet.Caller{Scope: here, Kind: fleet.Root, ARN: here.IAM("root"), UserID: home}, "iot:ListThings", "*"))
}
