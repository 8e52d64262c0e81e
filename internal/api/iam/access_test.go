package iam

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/api/apitest"
	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestCallersNeedThePermissionOnWhatTheyName(t *testing.T) {
	w := newWorld(t)
	w.ok("CreateUser UserName=bob Path=/team/ Tags.member.1.Key=site Tags.member.1.Value=lab")
	w.ok("CreateUser UserName=eve")
	helper := w.User("helper", `
		{"Effect":"Allow","Action":"iam:*","Resource":"`+account+`user/team/*"},
		{"Effect":"Allow","Action":"iam:TagUser","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/site":"lab","aws:RequestTag/age":"1"}}},
		{"Effect":"Deny","Action":"iam:DeleteUser","Resource":"`+account+`user/team/bob"}`)
	for _, c := range []struct{ name, call, code string }{
		{"the path is read from the store", "GetUser UserName=bob", ""},
		{"another path is not allowed", "GetUser UserName=eve", "AccessDenied"},
		{"what does not exist has the path /", "ListGroupsForUser UserName=none", "AccessDenied"},
		{"a new user has the path of the request", "CreateUser UserName=new Path=/team/", ""},
		{"a new user elsewhere", "CreateUser UserName=new2 Path=/other/", "AccessDenied"},
		{"listing a path", "ListUsers PathPrefix=/team/", ""},
		{"listing everybody", "ListUsers", "AccessDenied"},
		{"moving a user away needs both paths", "UpdateUser UserName=bob NewPath=/other/", "AccessDenied"},
		{"renaming within the path", "UpdateUser UserName=new NewUserName=newer", ""},
		{"a denial holds for every spelling of the name", "DeleteUser UserName=BOB", "AccessDenied"},
		{"tags of the resource and the request", "TagUser UserName=eve Tags.member.1.Key=age Tags.member.1.Value=1", "AccessDenied"},
	} {
		a := w.as(helper, c.code, c.call)
		if c.code == "AccessDenied" && !strings.Contains(a.Message, "User: "+account+"user/helper is not authorized to perform: iam:") {
			t.Errorf("%s: %s", c.name, a.Message)
		}
	}
	w.ok("TagUser UserName=eve Tags.member.1.Key=site Tags.member.1.Value=lab")
	w.as(helper, "", "TagUser UserName=eve Tags.member.1.Key=age Tags.member.1.Value=1")
	w.as(helper, "AccessDenied", "TagUser UserName=eve Tags.member.1.Key=age Tags.member.1.Value=2")
}

func TestOperationsOnOnesOwnKeysNeedPermissionToo(t *testing.T) {
	w := newWorld(t)
	self := w.User("self", `{"Effect":"Allow","Action":["iam:*AccessKey*","iam:GetUser"],"Resource":"`+account+`user/${aws:username}"}`)
	nobody := w.User("nobody", "")
	w.is(w.as(self, "", "GetUser"), "GetUserResult/User/UserName", "self")
	id := w.as(self, "", "CreateAccessKey").Get("CreateAccessKeyResult/AccessKey/AccessKeyId")
	w.as(self, "", "GetAccessKeyLastUsed AccessKeyId="+id)
	w.as(self, "", "UpdateAccessKey Status=Inactive AccessKeyId="+id)
	w.as(self, "", "DeleteAccessKey AccessKeyId="+id)
	for _, call := range []string{"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey Status=Active AccessKeyId=" + nobody.AccessKeyID,
		"DeleteAccessKey AccessKeyId=" + nobody.AccessKeyID, "GetAccessKeyLastUsed AccessKeyId=" + nobody.AccessKeyID} {
		w.as(nobody, "AccessDenied", call)
		w.as(self, "AccessDenied", call+map[bool]string{true: "", false: " UserName=nobody"}[strings.HasPrefix(call, "GetAccessKeyL")])
	}
}

func TestTheMakingOfUsersIsDelegatedWithABoundary(t *testing.T) {
	w := newWorld(t)
	const boundary = "arn:aws:iam::aws:policy/AWSIoTFullAccess"
	lead := w.User("lead", `{"Effect":"Allow","Action":["iam:CreateUser","iam:AttachUserPolicy","iam:PutUserPolicy"],"Resource":"*",
		"Condition":{"StringEquals":{"iam:PermissionsBoundary":"`+boundary+`"}}}`)
	w.ok("CreateUser UserName=free")
	w.as(lead, "AccessDenied", "CreateUser UserName=x")
	w.as(lead, "AccessDenied", "CreateUser UserName=x PermissionsBoundary=arn:aws:iam::aws:policy/AdministratorAccess")
	w.as(lead, "", "CreateUser UserName=x PermissionsBoundary="+boundary)
	w.as(lead, "", "AttachUserPolicy UserName=x PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess")
	w.as(lead, "AccessDenied", "AttachUserPolicy UserName=free PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess")
	w.as(lead, "AccessDenied", "PutUserPolicy UserName=free PolicyName=p PolicyDocument="+readIoT)
}

func TestAttachingMayBeLimitedToSomePolicies(t *testing.T) {
	w := newWorld(t)
	lead := w.User("lead", `{"Effect":"Allow","Action":"iam:AttachGroupPolicy","Resource":"*",
		"Condition":{"ArnEquals":{"iam:PolicyARN":"arn:aws:iam::aws:policy/AWSIoTDataAccess"}}}`)
	w.ok("CreateGroup GroupName=g")
	w.as(lead, "", "AttachGroupPolicy GroupName=g PolicyArn=arn:aws:iam::aws:policy/AWSIoTDataAccess")
	w.as(lead, "AccessDenied", "AttachGroupPolicy GroupName=g PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess")
}

func TestADenialOfAProviderHoldsForEverySpellingOfItsURL(t *testing.T) {
	w := newWorld(t)
	lead := w.User("lead", `{"Effect":"Allow","Action":"iam:*","Resource":"*"},
		{"Effect":"Deny","Action":"iam:*","Resource":"`+account+`oidc-provider/id.example/ab"}`)
	for _, url := range []string{"https://id.example/ab", "HTTPS://id.example/ab/", "https://id.example/a%62"} {
		w.as(lead, "AccessDenied", "CreateOpenIDConnectProvider Url="+url)
	}
	w.ok("CreateOpenIDConnectProvider Url=https://id.example/ab")
	w.as(lead, "AccessDenied", "GetOpenIDConnectProvider OpenIDConnectProviderArn="+account+"oidc-provider/ID.example/ab")
}

func TestAnotherAccountIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	stranger := w.Account(fleet.Scope{Account: "444455556666", Region: apitest.Home.Region})
	w.as(stranger, "NoSuchEntity", "GetUser UserName=bob")
	w.ok("CreateUser UserName=bob")
	p := w.ok("CreatePolicy PolicyName=p PolicyDocument=" + readIoT).Get("CreatePolicyResult/Policy/Arn")
	w.as(stranger, "NoSuchEntity", "GetUser UserName=bob")
	w.as(stranger, "AccessDenied", "GetPolicy PolicyArn="+p)
	w.as(stranger, "NoSuchEntity", "AttachUserPolicy UserName=administrator PolicyArn="+p)
	w.as(stranger, "NoSuchEntity", "GetAccessKeyLastUsed AccessKeyId="+w.Admin.AccessKeyID)
	w.is(w.as(stranger, "", "ListUsers"), "ListUsersResult/Users/member/Arn", "arn:aws:iam::444455556666:user/administrator")
}
