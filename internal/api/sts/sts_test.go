package sts

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/api/apitest"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

const (
	users = "arn:aws:iam::111122223333:user/"
	roles = "arn:aws:iam::111122223333:role/"
)

var other = fleet.Scope{Account: "444455556666", Region: apitest.Home.Region}

// tokens takes the tokens that it holds.
type tokens map[string]iam.WebIdentity

func (t tokens) VerifyWebIdentity(_ context.Context, token string) (iam.WebIdentity, bool, error) {
	if token == "expired" {
		return iam.WebIdentity{}, true, fleet.Invalid("", "", "Token expired").WithCode("ExpiredTokenException")
	}
	id, known := t[token]
	id.StillHolds = func(context.Context) error { return nil }
	return id, known, nil
}

type world struct{ *apitest.World }

func newWorld(t *testing.T) world {
	t.Helper()
	t.Parallel()
	held := tokens{"good": {Issuer: "id.example/pool", Federation: fleet.Federation{Audience: "client", Subject: "subject-1"}},
		"wrong": {Issuer: "id.example/pool", Federation: fleet.Federation{Audience: "another", Subject: "subject-1"}}}
	return world{apitest.New(t, held, func(rules *iam.Service) []*wire.Service {
		return []*wire.Service{Service(Config{IAM: rules, Scope: apitest.Home})}
	})}
}

// do makes a request that must be answered with code; "" is success. call and more are those of apitest's Call.
func (w world) do(who sigv4.Credentials, code, call string, more ...string) apitest.Answer {
	w.Helper()
	a := w.Call(who, Model.Version, code, call, more...)
	if want := map[string]int{"": 200, "AccessDenied": 403, "ExpiredToken": 403, "InvalidClientTokenId": 403, "MissingAuthenticationToken": 403}[code]; want != a.Status && (want != 0 || a.Status != 400) {
		w.Fatalf("%s: status %d", call, a.Status)
	}
	return a
}

func (w world) is(a apitest.Answer, path, want string) {
	w.Helper()
	if got := a.Get(path); got != want {
		w.Errorf("%s is %q, want %q", path, got, want)
	}
}

// role adds a role of an account that trusts as the statement says, and may do everything.
func (w world) role(s fleet.Scope, name, trust string) {
	w.Helper()
	_, err := w.IAM.CreateRole(w.Context(), s, iam.Entity{Name: name, Path: "/path/", Body: iam.Body{Trust: apitest.Policy(trust)}})
	w.Must(err)
	w.Must(w.IAM.PutInline(w.Context(), s, store.IAMRole, name, "all", apitest.Policy(`{"Effect":"Allow","Action":"*","Resource":"*"}`)))
}

// keys takes credentials out of an answer.
func keys(a apitest.Answer, action string) sigv4.Credentials {
	c := action + "Result/Credentials/"
	return sigv4.Credentials{AccessKeyID: a.Get(c + "AccessKeyId"), Secret: fleet.Secret(a.Get(c + "SecretAccessKey")), Token: fleet.Secret(a.Get(c + "SessionToken"))}
}

// assume becomes a role.
func (w world) assume(who sigv4.Credentials, role string, more ...string) sigv4.Credentials {
	w.Helper()
	return keys(w.do(who, "", "AssumeRole RoleSessionName=test RoleArn="+role, more...), "AssumeRole")
}

func trusts(principal string) string {
	return `{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}`
}

const mayAssume = `{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}`

func TestGetCallerIdentityCannotBeDenied(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob", `{"Effect":"Deny","Action":"*","Resource":"*"}`)
	a := w.do(bob, "", "GetCallerIdentity")
	w.is(a, "GetCallerIdentityResult/Arn", users+"bob")
	w.is(a, "GetCallerIdentityResult/Account", "111122223333")
	if id := a.Get("GetCallerIdentityResult/UserId"); !strings.HasPrefix(id, "AIDA") {
		t.Errorf("UserId %s", id)
	}
	w.do(sigv4.Credentials{}, "MissingAuthenticationToken", "GetCallerIdentity")
}

func TestAssumeRoleAsksBothPolicies(t *testing.T) {
	w := newWorld(t)
	able, unable := w.User("able", mayAssume), w.User("unable", "")
	barred := w.User("barred", `{"Effect":"Deny","Action":"sts:AssumeRole","Resource":"`+roles+`path/named"}`)
	stranger := w.Account(other)
	w.role(apitest.Home, "delegated", trusts("arn:aws:iam::111122223333:root"))
	w.role(apitest.Home, "named", trusts(users+"unable")+","+trusts(users+"barred"))
	w.role(apitest.Home, "foreign", trusts("444455556666"))
	w.role(apitest.Home, "guarded", `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"right"}}}`)
	for _, c := range []struct {
		name, role, more, code string
		who                    sigv4.Credentials
	}{
		{"delegated to the account: own policies allow it", "delegated", "", "", able},
		{"delegated to the account: own policies say nothing", "delegated", "", "AccessDenied", unable},
		{"named in the trust policy: own policies need not allow it", "named", "", "", unable},
		{"named in the trust policy: own policies may deny it", "named", "", "AccessDenied", barred},
		{"not named in the trust policy", "named", "", "AccessDenied", able},
		{"of another account, trusted", "foreign", "", "", stranger},
		{"of another account, not trusted", "delegated", "", "AccessDenied", stranger},
		{"own account where another is trusted", "foreign", "", "AccessDenied", able},
		{"a role that does not exist", "none", "", "AccessDenied", able},
		{"the right external id", "guarded", " ExternalId=right", "", able},
		{"a wrong external id", "guarded", " ExternalId=wrong", "AccessDenied", able},
		{"no external id", "guarded", "", "AccessDenied", able},
	} {
		a := w.do(c.who, c.code, "AssumeRole RoleSessionName=test RoleArn="+roles+"path/"+c.role+c.more)
		if c.code == "" && a.Get("AssumeRoleResult/AssumedRoleUser/Arn") != "arn:aws:sts::111122223333:assumed-role/"+c.role+"/test" {
			t.Errorf("%s: %v", c.name, a)
		}
		if c.code != "" && !strings.Contains(a.Message, " is not authorized to perform: sts:AssumeRole on resource: "+roles+"path/"+c.role) {
			t.Errorf("%s: %s", c.name, a.Message)
		}
	}
}

func TestARoleSessionKnowsItself(t *testing.T) {
	w := newWorld(t)
	w.role(apitest.Home, "role", trusts("111122223333"))
	a := w.do(w.Admin, "", "AssumeRole RoleSessionName=me@lab RoleArn="+roles+"path/role")
	if a.Has("AssumeRoleResult/PackedPolicySize") {
		t.Error("nothing was packed")
	}
	w.is(a, "AssumeRoleResult/Credentials/Expiration", "2026-11-21T13:00:00Z")
	me := w.do(keys(a, "AssumeRole"), "", "GetCallerIdentity")
	w.is(me, "GetCallerIdentityResult/Arn", "arn:aws:sts::111122223333:assumed-role/role/me@lab") // without the role's path
	w.is(me, "GetCallerIdentityResult/UserId", a.Get("AssumeRoleResult/AssumedRoleUser/AssumedRoleId"))

	stripped := keys(a, "AssumeRole")
	stripped.Token = ""
	w.do(stripped, "InvalidClientTokenId", "GetCallerIdentity")
	w.Sleep(time.Hour)
	w.do(keys(a, "AssumeRole"), "ExpiredToken", "GetCallerIdentity")
}

func TestSessionsEndWithWhatTheyStandOn(t *testing.T) {
	for name, change := range map[string]func(w world){
		"when the trust policy changes": func(w world) {
			w.Must(w.IAM.SetTrust(w.Context(), apitest.Home, "role", apitest.Policy(trusts("111122223333"))))
		},
		"when the key behind is switched off": func(w world) {
			w.Must(w.IAM.SetKeyActive(w.Context(), apitest.Home, "administrator", w.Admin.AccessKeyID, false))
		},
		"when the role is made anew": func(w world) {
			w.Must(w.IAM.DeleteInline(w.Context(), apitest.Home, store.IAMRole, "role", "all"))
			w.Must(w.IAM.Delete(w.Context(), apitest.Home, store.IAMRole, "role"))
			w.role(apitest.Home, "role", trusts("111122223333"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.role(apitest.Home, "role", trusts("111122223333"))
			session := w.assume(w.Admin, roles+"path/role")
			w.do(session, "", "GetCallerIdentity")
			change(w)
			w.do(session, "ExpiredToken", "GetCallerIdentity")
		})
	}
}

func TestSessionPoliciesNarrow(t *testing.T) {
	w := newWorld(t)
	w.role(apitest.Home, "role", trusts("111122223333"))
	a := w.do(w.Admin, "", "AssumeRole RoleSessionName=test RoleArn="+roles+"path/role", "Policy", apitest.Policy(`{"Effect":"Allow","Action":"iot:*","Resource":"*"}`))
	if n, err := strconv.Atoi(a.Get("AssumeRoleResult/PackedPolicySize")); err != nil || n < 1 || n > 100 {
		t.Errorf("PackedPolicySize %d, %v", n, err)
	}
	const info = "GetAccessKeyInfo AccessKeyId="
	w.do(keys(a, "AssumeRole"), "AccessDenied", info+w.Admin.AccessKeyID)
	w.do(w.assume(w.Admin, roles+"path/role", "PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/AWSIoTFullAccess"), "AccessDenied", info+w.Admin.AccessKeyID)
	w.do(w.assume(w.Admin, roles+"path/role"), "", info+w.Admin.AccessKeyID)

	const call = "AssumeRole RoleSessionName=test RoleArn=" + roles + "path/role "
	w.do(w.Admin, "MalformedPolicyDocument", call+"Policy={}")
	w.do(w.Admin, "ValidationError", call+"PolicyArns.member.1.arn=arn:aws:iam::111122223333:policy/none")
	w.do(w.Admin, "PackedPolicyTooLarge", call, "Policy", apitest.Policy(`{"Effect":"Allow","Action":"iot:`+strings.Repeat("x", 2048)+`","Resource":"*"}`))
	var many strings.Builder
	for i := range 11 {
		many.WriteString(" PolicyArns.member." + strconv.Itoa(i+1) + ".arn=arn:aws:iam::aws:policy/AWSIoTFullAccess")
	}
	w.do(w.Admin, "ValidationError", call+many.String())
}

func TestTagsAndSourceIdentityStayOnTheWayToAnotherRole(t *testing.T) {
	w := newWorld(t)
	w.role(apitest.Home, "first", trusts("111122223333"))
	w.role(apitest.Home, "second", `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],
		"Condition":{"StringEquals":{"aws:RequestTag/team":"red","sts:SourceIdentity":"alice"}}}`)
	w.role(apitest.Home, "untagged", `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}`)
	const first = "AssumeRole RoleSessionName=test RoleArn=" + roles + "path/first"
	const tags = " Tags.member.1.Key=team Tags.member.1.Value=red"
	a := w.do(w.Admin, "", first+tags+" TransitiveTagKeys.member.1=team SourceIdentity=alice")
	w.is(a, "AssumeRoleResult/SourceIdentity", "alice")
	w.is(a, "AssumeRoleResult/PackedPolicySize", "1")
	session := keys(a, "AssumeRole")
	chained := w.do(session, "", "AssumeRole RoleSessionName=next RoleArn="+roles+"path/second")
	w.is(chained, "AssumeRoleResult/SourceIdentity", "alice") // whose it is, not what was asked for
	w.is(w.do(session, "", "AssumeRole RoleSessionName=next SourceIdentity=mallory RoleArn="+roles+"path/second"), "AssumeRoleResult/SourceIdentity", "alice")
	w.do(keys(chained, "AssumeRole"), "", "GetCallerIdentity")
	w.do(session, "AccessDenied", "AssumeRole RoleSessionName=next RoleArn="+roles+"path/untagged")
	w.do(session, "ValidationError", "AssumeRole RoleSessionName=next DurationSeconds=3601 RoleArn="+roles+"path/second")
	w.do(w.assume(w.Admin, roles+"path/first"), "AccessDenied", "AssumeRole RoleSessionName=next RoleArn="+roles+"path/second")

	w.do(w.Admin, "ValidationError", first+tags+" TransitiveTagKeys.member.1=other")
	w.do(w.Admin, "ValidationError", first+tags+" Tags.member.2.Key=TEAM Tags.member.2.Value=blue")
	w.do(w.Admin, "ValidationError", first+" Tags.member.1.Key=aws:x Tags.member.1.Value=1")
}

func TestAssumeRoleRefusesWhatItCannotDo(t *testing.T) {
	w := newWorld(t)
	w.role(apitest.Home, "role", trusts("111122223333"))
	const call = "AssumeRole RoleSessionName=test RoleArn=" + roles + "path/role "
	w.do(w.Admin, "ValidationError", call+"DurationSeconds=899")
	w.do(w.Admin, "ValidationError", call+"DurationSeconds=3601") // longer than the role allows
	w.do(w.Admin, "ValidationError", "AssumeRole RoleSessionName=test RoleArn=arn:aws:iam::111122223333:user/x")
	if a := w.do(w.Admin, "InvalidAction", call+"SerialNumber=arn:aws:iam::111122223333:mfa/x TokenCode=123456"); !strings.Contains(a.Message, "SerialNumber") {
		t.Errorf("message %q", a.Message)
	}
}

func TestSessionTokensAreForUsers(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob", `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	w.role(apitest.Home, "role", trusts("111122223333"))
	w.do(bob, "ValidationError", "GetSessionToken DurationSeconds=899")
	w.do(bob, "ValidationError", "GetSessionToken DurationSeconds=129601")
	w.do(bob, "InvalidAction", "GetSessionToken TokenCode=123456")
	a := w.do(bob, "", "GetSessionToken")
	w.is(a, "GetSessionTokenResult/Credentials/Expiration", "2026-11-22T00:00:00Z")
	session := keys(a, "GetSessionToken")
	w.is(w.do(session, "", "GetCallerIdentity"), "GetCallerIdentityResult/Arn", users+"bob")
	w.assume(session, roles+"path/role")
	if a := w.do(session, "AccessDenied", "GetSessionToken"); a.Message != "Cannot call GetSessionToken with session credentials" {
		t.Errorf("message %q", a.Message)
	}
	w.do(session, "AccessDenied", "GetAccessKeyInfo AccessKeyId="+bob.AccessKeyID)
	w.do(w.assume(bob, roles+"path/role"), "AccessDenied", "GetSessionToken")

	short := keys(w.do(bob, "", "GetSessionToken DurationSeconds=900"), "GetSessionToken")
	w.Sleep(15 * time.Minute)
	w.do(short, "ExpiredToken", "GetCallerIdentity")
	w.do(session, "", "GetCallerIdentity")
	w.Must(w.IAM.DeleteKey(w.Context(), apitest.Home, "bob", bob.AccessKeyID))
	w.do(session, "ExpiredToken", "GetCallerIdentity")
}

func TestGetAccessKeyInfoTellsTheAccountOfItsOwnKeys(t *testing.T) {
	w := newWorld(t)
	bob := w.User("bob", "")
	stranger := w.Account(other)
	w.is(w.do(w.Admin, "", "GetAccessKeyInfo AccessKeyId="+bob.AccessKeyID), "GetAccessKeyInfoResult/Account", "111122223333")
	w.do(stranger, "ValidationError", "GetAccessKeyInfo AccessKeyId="+bob.AccessKeyID)
	w.do(bob, "AccessDenied", "GetAccessKeyInfo AccessKeyId="+bob.AccessKeyID)
}

func TestAWebIdentityBecomesARole(t *testing.T) {
	w := newWorld(t)
	provider, err := w.IAM.CreateProvider(w.Context(), apitest.Home, "https://id.example/pool", []string{"client"}, nil, nil)
	w.Must(err)
	trust := func(subject string) string {
		return `{"Effect":"Allow","Principal":{"Federated":"` + provider.ARN(apitest.Home) + `"},"Action":"sts:AssumeRoleWithWebIdentity",
			"Condition":{"StringEquals":{"id.example/pool:aud":"client","id.example/pool:sub":"` + subject + `"}}}`
	}
	w.role(apitest.Home, "mine", trust("subject-1"))
	w.role(apitest.Home, "another", trust("subject-2"))
	unsigned := sigv4.Credentials{}
	const call = "AssumeRoleWithWebIdentity RoleSessionName=test RoleArn=" + roles + "path/"
	a := w.do(unsigned, "", call+"mine WebIdentityToken=good")
	const result = "AssumeRoleWithWebIdentityResult/"
	w.is(a, result+"SubjectFromWebIdentityToken", "subject-1")
	w.is(a, result+"Audience", "client")
	w.is(a, result+"Provider", "https://id.example/pool")
	w.is(w.do(keys(a, "AssumeRoleWithWebIdentity"), "", "GetCallerIdentity"), "GetCallerIdentityResult/Arn", "arn:aws:sts::111122223333:assumed-role/mine/test")
	if a := w.do(unsigned, "AccessDenied", call+"another WebIdentityToken=good"); a.Message != "Not authorized to perform sts:AssumeRoleWithWebIdentity" {
		t.Errorf("message %q", a.Message)
	}
	w.do(unsigned, "InvalidIdentityToken", call+"mine WebIdentityToken=wrong")
	w.do(unsigned, "InvalidIdentityToken", call+"mine WebIdentityToken=unknown")
	w.do(unsigned, "ExpiredTokenException", call+"mine WebIdentityToken=expired")
	w.Must(w.IAM.DeleteProvider(w.Context(), apitest.Home, provider.ARN(apitest.Home)))
	if a := w.do(unsigned, "InvalidIdentityToken", call+"mine WebIdentityToken=good"); !strings.HasPrefix(a.Message, "No OpenIDConnect provider found in your account for https://id.example/pool") {
		t.Errorf("message %q", a.Message)
	}
}
