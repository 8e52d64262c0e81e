package iam

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// The three kinds of entity that have policies, and how their operations are called.
var kinds = []struct{ kind, create string }{
	{"User", "CreateUser UserName=x"},
	{"Role", "CreateRole RoleName=x AssumeRolePolicyDocument=" + trust},
	{"Group", "CreateGroup GroupName=x"},
}

func TestInlinePolicies(t *testing.T) {
	for _, k := range kinds {
		t.Run("of a "+strings.ToLower(k.kind), func(t *testing.T) {
			w := newWorld(t)
			x := " " + k.kind + "Name=x"
			w.fails("NoSuchEntity", "Put"+k.kind+"Policy PolicyName=read PolicyDocument="+readIoT+x)
			w.ok(k.create)
			w.fails("MalformedPolicyDocument", "Put"+k.kind+"Policy PolicyName=read PolicyDocument={}"+x)
			w.ok("Put" + k.kind + "Policy PolicyName=read PolicyDocument=" + readIoT + x)
			w.ok("Put" + k.kind + "Policy PolicyName=also PolicyDocument=" + readIoT + x)
			a := w.ok("Get" + k.kind + "Policy PolicyName=read" + x)
			result := "Get" + k.kind + "PolicyResult/"
			w.is(a, result+k.kind+"Name", "x")
			doc, err := url.PathUnescape(a.Get(result + "PolicyDocument"))
			if err != nil || doc != readIoT || strings.ContainsAny(a.Get(result+"PolicyDocument"), `{"+`) {
				t.Errorf("the document came back as %s, %v", a.Get(result+"PolicyDocument"), err)
			}
			w.fails("NoSuchEntity", "Get"+k.kind+"Policy PolicyName=none"+x)
			list := "List" + k.kind + "Policies"
			a = w.ok(list + " MaxItems=1" + x)
			w.is(a, list+"Result/PolicyNames/member", "also")
			w.is(a, list+"Result/IsTruncated", "true")
			a = w.ok(list + x + " Marker=" + a.Get(list+"Result/Marker"))
			w.is(a, list+"Result/PolicyNames/member", "read")
			w.fails("DeleteConflict", "Delete"+k.kind+x)
			w.ok("Delete" + k.kind + "Policy PolicyName=read" + x)
			w.fails("NoSuchEntity", "Delete"+k.kind+"Policy PolicyName=read"+x)
			w.ok("Delete" + k.kind + "Policy PolicyName=also" + x)
			w.ok("Delete" + k.kind + x)
		})
	}
}

func TestManagedPoliciesAreAttached(t *testing.T) {
	for _, k := range kinds {
		t.Run("to a "+strings.ToLower(k.kind), func(t *testing.T) {
			w := newWorld(t)
			x := " " + k.kind + "Name=x"
			w.ok(k.create)
			own := w.ok("CreatePolicy PolicyName=reading Path=/lab/ PolicyDocument=" + readIoT).Get("CreatePolicyResult/Policy/Arn")
			w.ok("Attach" + k.kind + "Policy PolicyArn=" + own + x)
			w.ok("Attach" + k.kind + "Policy PolicyArn=" + own + x)
			w.ok("Attach" + k.kind + "Policy PolicyArn=arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration" + x)
			w.fails("NoSuchEntity", "Attach"+k.kind+"Policy PolicyArn="+account+"policy/none"+x)
			w.fails("InvalidInput", "Attach"+k.kind+"Policy PolicyArn="+strings.Repeat("x", 20)+x)
			list := "ListAttached" + k.kind + "Policies"
			w.is(w.ok(list+x), list+"Result/AttachedPolicies/member/PolicyName", "reading AWSIoTThingsRegistration")
			w.is(w.ok(list+" PathPrefix=/service-role/"+x), list+"Result/AttachedPolicies/member/PolicyName", "AWSIoTThingsRegistration")

			a := w.ok("ListEntitiesForPolicy PolicyArn=" + own)
			w.is(a, "ListEntitiesForPolicyResult/Policy"+k.kind+"s/member/"+k.kind+"Name", "x")
			for _, filter := range []string{"User", "Role", "Group"} {
				want := ""
				if filter == k.kind {
					want = "x"
				}
				a := w.ok("ListEntitiesForPolicy PathPrefix=/ PolicyArn=" + own + " EntityFilter=" + filter)
				w.is(a, "ListEntitiesForPolicyResult/Policy"+k.kind+"s/member/"+k.kind+"Name", want)
			}
			w.fails("DeleteConflict", "DeletePolicy PolicyArn="+own)
			w.fails("DeleteConflict", "Delete"+k.kind+x)
			w.ok("Detach" + k.kind + "Policy PolicyArn=" + own + x)
			w.fails("NoSuchEntity", "Detach"+k.kind+"Policy PolicyArn="+own+x)
			w.ok("DeletePolicy PolicyArn=" + own)
		})
	}
}

func TestAManagedPolicyAndItsVersions(t *testing.T) {
	w := newWorld(t)
	a := w.ok("CreatePolicy PolicyName=p Description=d Tags.member.1.Key=k Tags.member.1.Value=v PolicyDocument=" + readIoT)
	arn := " PolicyArn=" + account + "policy/p"
	w.is(a, "CreatePolicyResult/Policy/DefaultVersionId", "v1")
	w.fails("EntityAlreadyExists", "CreatePolicy PolicyName=P PolicyDocument="+readIoT)
	w.fails("LimitExceeded", "CreatePolicy PolicyName=big PolicyDocument="+
		strings.Replace(readIoT, "iot:Describe*", "iot:"+strings.Repeat("x", 6144), 1))

	for n := 2; n <= 5; n++ {
		a = w.ok("CreatePolicyVersion SetAsDefault=" + strconv.FormatBool(n == 3) + " PolicyDocument=" + strings.Replace(readIoT, "Describe", "Get", 1) + arn)
		w.is(a, "CreatePolicyVersionResult/PolicyVersion/VersionId", "v"+strconv.Itoa(n))
	}
	w.fails("LimitExceeded", "CreatePolicyVersion PolicyDocument="+readIoT+arn)
	w.is(w.ok("GetPolicy"+arn), "GetPolicyResult/Policy/DefaultVersionId", "v3")
	a = w.ok("ListPolicyVersions MaxItems=3" + arn)
	w.is(a, "ListPolicyVersionsResult/Versions/member/VersionId", "v5 v4 v3")
	w.is(a, "ListPolicyVersionsResult/Versions/member/IsDefaultVersion", "false false true")
	a = w.ok("ListPolicyVersions Marker=" + a.Get("ListPolicyVersionsResult/Marker") + arn)
	w.is(a, "ListPolicyVersionsResult/Versions/member/VersionId", "v2 v1")

	a = w.ok("GetPolicyVersion VersionId=v1" + arn)
	if doc, err := url.PathUnescape(a.Get("GetPolicyVersionResult/PolicyVersion/Document")); err != nil || doc != readIoT {
		t.Errorf("the document came back as %q, %v", doc, err)
	}
	w.fails("NoSuchEntity", "GetPolicyVersion VersionId=v9"+arn)
	w.fails("DeleteConflict", "DeletePolicyVersion VersionId=v3"+arn)
	w.ok("SetDefaultPolicyVersion VersionId=v1" + arn)
	w.fails("NoSuchEntity", "SetDefaultPolicyVersion VersionId=v9"+arn)
	w.fails("DeleteConflict", "DeletePolicy"+arn)
	for _, v := range []string{"v2", "v3", "v4", "v5"} {
		w.ok("DeletePolicyVersion VersionId=" + v + arn)
	}
	w.is(w.ok("CreatePolicyVersion PolicyDocument="+readIoT+arn), "CreatePolicyVersionResult/PolicyVersion/VersionId", "v6")
	w.ok("DeletePolicyVersion VersionId=v6" + arn)
	w.ok("DeletePolicy" + arn)
	w.fails("NoSuchEntity", "GetPolicy"+arn)
}

func TestPoliciesAreListedByOwnerPathAndUse(t *testing.T) {
	w := newWorld(t)
	w.ok("CreatePolicy PolicyName=idle Path=/lab/ PolicyDocument=" + readIoT)
	w.ok("CreatePolicy PolicyName=bound PolicyDocument=" + readIoT)
	w.ok("CreateUser UserName=bob PermissionsBoundary=" + account + "policy/bound")
	const names = "ListPoliciesResult/Policies/member/PolicyName"
	for call, want := range map[string]string{
		"Scope=Local":                                      "bound idle",
		"Scope=Local PathPrefix=/lab/":                     "idle",
		"PathPrefix=/service-role/":                        "AWSIoTThingsRegistration",
		"OnlyAttached=true":                                "AdministratorAccess",
		"PolicyUsageFilter=PermissionsBoundary":            "bound",
		"Scope=Local PolicyUsageFilter=PermissionsPolicy":  "idle",
		"Scope=AWS OnlyAttached=true PathPrefix=/nowhere/": "",
	} {
		w.is(w.ok("ListPolicies "+call), names, want)
	}
	w.is(w.ok("ListPolicies Scope=AWS MaxItems=1"), names, "AWSIoTConfigAccess")

	a := w.ok("GetPolicy PolicyArn=" + account + "policy/bound")
	w.is(a, "GetPolicyResult/Policy/PermissionsBoundaryUsageCount", "1")
	w.is(a, "GetPolicyResult/Policy/AttachmentCount", "0")
	const users = "ListEntitiesForPolicyResult/PolicyUsers/member/UserName"
	w.is(w.ok("ListEntitiesForPolicy PolicyArn="+account+"policy/bound"), users, "bob")
	w.is(w.ok("ListEntitiesForPolicy PolicyUsageFilter=PermissionsPolicy PolicyArn="+account+"policy/bound"), users, "")
	w.fails("DeleteConflict", "DeletePolicy PolicyArn="+account+"policy/bound")
}

func TestPoliciesOfAWSCannotBeChanged(t *testing.T) {
	w := newWorld(t)
	const arn = " PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess"
	w.is(w.ok("GetPolicy"+arn), "GetPolicyResult/Policy/AttachmentCount", "1")
	w.fails("AccessDenied", "DeletePolicy"+arn)
	w.fails("AccessDenied", "CreatePolicyVersion PolicyDocument="+readIoT+arn)
}

func TestAnOpenIDConnectProvider(t *testing.T) {
	w := newWorld(t)
	thumb := strings.Repeat("ab", 20)
	w.fails("InvalidInput", "CreateOpenIDConnectProvider Url=http://id.example")
	w.fails("InvalidInput", "CreateOpenIDConnectProvider Url=https://id.example?x=1")
	a := w.ok("CreateOpenIDConnectProvider Url=https://id.example:8443/pool ClientIDList.member.1=one Tags.member.1.Key=k Tags.member.1.Value=v ThumbprintList.member.1=" + thumb)
	arn := a.Get("CreateOpenIDConnectProviderResult/OpenIDConnectProviderArn")
	if arn != account+"oidc-provider/id.example:8443/pool" {
		t.Fatalf("ARN %s", arn)
	}
	w.fails("EntityAlreadyExists", "CreateOpenIDConnectProvider Url=https://id.example:8443/pool")
	named := " OpenIDConnectProviderArn=" + arn
	w.ok("AddClientIDToOpenIDConnectProvider ClientID=two" + named)
	w.ok("AddClientIDToOpenIDConnectProvider ClientID=two" + named)
	w.ok("RemoveClientIDFromOpenIDConnectProvider ClientID=one" + named)
	w.ok("UpdateOpenIDConnectProviderThumbprint ThumbprintList.member.1=" + strings.Repeat("cd", 20) + named)
	a = w.ok("GetOpenIDConnectProvider" + named)
	w.is(a, "GetOpenIDConnectProviderResult/Url", "id.example:8443/pool")
	w.is(a, "GetOpenIDConnectProviderResult/ClientIDList/member", "two")
	w.is(a, "GetOpenIDConnectProviderResult/ThumbprintList/member", strings.Repeat("cd", 20))
	w.is(a, "GetOpenIDConnectProviderResult/Tags/member/Value", "v")
	w.is(w.ok("ListOpenIDConnectProviders"), "ListOpenIDConnectProvidersResult/OpenIDConnectProviderList/member/Arn", arn)
	w.ok("DeleteOpenIDConnectProvider" + named)
	w.fails("NoSuchEntity", "GetOpenIDConnectProvider"+named)
}
