package iam

import (
	"strings"
	"testing"
)

func TestAUserIsMadeReadRenamedAndDeleted(t *testing.T) {
	w := newWorld(t)
	a := w.ok("CreateUser UserName=bob Path=/team/ Tags.member.1.Key=site Tags.member.1.Value=lab PermissionsBoundary=arn:aws:iam::aws:policy/AWSIoTFullAccess")
	w.is(a, "CreateUserResult/User/Arn", account+"user/team/bob")
	w.is(a, "CreateUserResult/User/Tags/member/Value", "lab")
	if id := a.Get("CreateUserResult/User/UserId"); !strings.HasPrefix(id, "AIDA") || len(id) != 21 {
		t.Errorf("UserId is %q", id)
	}
	w.fails("EntityAlreadyExists", "CreateUser UserName=BOB")
	a = w.ok("GetUser UserName=bob")
	w.is(a, "GetUserResult/User/PermissionsBoundary/PermissionsBoundaryArn", "arn:aws:iam::aws:policy/AWSIoTFullAccess")
	w.is(a, "GetUserResult/User/CreateDate", "2026-11-21T12:00:00Z")
	w.is(w.ok("GetUser"), "GetUserResult/User/UserName", "administrator")

	w.ok("TagUser UserName=bob Tags.member.1.Key=SITE Tags.member.1.Value=roof Tags.member.2.Key=age Tags.member.2.Value=")
	w.is(w.ok("ListUserTags UserName=bob"), "ListUserTagsResult/Tags/member/Key", "SITE age")
	w.ok("UntagUser UserName=bob TagKeys.member.1=site")
	w.is(w.ok("ListUserTags UserName=bob"), "ListUserTagsResult/Tags/member/Key", "age")
	w.fails("InvalidInput", "TagUser UserName=bob Tags.member.1.Key=a Tags.member.1.Value=1 Tags.member.2.Key=A Tags.member.2.Value=2")
	w.fails("InvalidInput", "TagUser UserName=bob Tags.member.1.Key=aws:x Tags.member.1.Value=1")

	w.ok("DeleteUserPermissionsBoundary UserName=bob")
	if a := w.ok("GetUser UserName=bob"); a.Has("GetUserResult/User/PermissionsBoundary") {
		t.Error("the boundary is still there")
	}
	w.ok("PutUserPermissionsBoundary UserName=bob PermissionsBoundary=arn:aws:iam::aws:policy/AWSIoTDataAccess")
	w.fails("NoSuchEntity", "PutUserPermissionsBoundary UserName=bob PermissionsBoundary="+account+"policy/none")

	w.ok("UpdateUser UserName=bob NewUserName=rob NewPath=/")
	w.fails("NoSuchEntity", "GetUser UserName=bob")
	w.is(w.ok("GetUser UserName=rob"), "GetUserResult/User/Arn", account+"user/rob")
	w.fails("EntityAlreadyExists", "UpdateUser UserName=rob NewUserName=administrator")
	a = w.ok("DeleteUser UserName=rob")
	if a.Has("DeleteUserResult") {
		t.Errorf("an operation without answer has one: %v", a)
	}
	w.fails("NoSuchEntity", "DeleteUser UserName=rob")
}

func TestAccessKeysAreMadeSwitchedAndDeleted(t *testing.T) {
	w := newWorld(t)
	w.ok("CreateUser UserName=bob")
	a := w.ok("CreateAccessKey UserName=bob")
	id := a.Get("CreateAccessKeyResult/AccessKey/AccessKeyId")
	if secret := a.Get("CreateAccessKeyResult/AccessKey/SecretAccessKey"); len(secret) != 40 || !strings.HasPrefix(id, "AKIA") || len(id) != 20 {
		t.Fatalf("unusable key: %v", a)
	}
	w.is(a, "CreateAccessKeyResult/AccessKey/Status", "Active")
	w.ok("CreateAccessKey UserName=bob")
	w.fails("LimitExceeded", "CreateAccessKey UserName=bob")

	w.ok("UpdateAccessKey UserName=bob Status=Inactive AccessKeyId=" + id)
	w.fails("InvalidInput", "UpdateAccessKey UserName=bob Status=Expired AccessKeyId="+id)
	w.fails("NoSuchEntity", "UpdateAccessKey UserName=administrator Status=Active AccessKeyId="+id)
	a = w.ok("ListAccessKeys UserName=bob")
	if got := a.All("ListAccessKeysResult/AccessKeyMetadata/member/Status"); len(got) != 2 || got[0] == got[1] {
		t.Errorf("states are %q", got)
	}
	if strings.Contains(a.Body, "Secret") {
		t.Error("the list shows secrets")
	}
	w.is(a, "ListAccessKeysResult/IsTruncated", "false")
	a = w.ok("GetAccessKeyLastUsed AccessKeyId=" + id)
	w.is(a, "GetAccessKeyLastUsedResult/UserName", "bob")
	w.is(a, "GetAccessKeyLastUsedResult/AccessKeyLastUsed/ServiceName", "N/A")
	w.fails("NoSuchEntity", "GetAccessKeyLastUsed AccessKeyId=AKIAAAAAAAAAAAAAAAAA")

	w.fails("DeleteConflict", "DeleteUser UserName=bob")
	w.ok("DeleteAccessKey UserName=bob AccessKeyId=" + id)
	w.fails("NoSuchEntity", "DeleteAccessKey UserName=bob AccessKeyId="+id)
	w.is(w.ok("ListAccessKeys"), "ListAccessKeysResult/AccessKeyMetadata/member/UserName", "administrator")
}

func TestARoleIsMadeChangedAndDeleted(t *testing.T) {
	w := newWorld(t)
	a := w.ok("CreateRole RoleName=provisioner Path=/service/ MaxSessionDuration=7200", "AssumeRolePolicyDocument", trust, "Description", "for our line")
	w.is(a, "CreateRoleResult/Role/Arn", account+"role/service/provisioner")
	w.fails("MalformedPolicyDocument", "CreateRole RoleName=other AssumeRolePolicyDocument={}")
	w.fails("EntityAlreadyExists", "CreateRole RoleName=Provisioner AssumeRolePolicyDocument="+trust)

	a = w.ok("GetRole RoleName=provisioner")
	w.is(a, "GetRoleResult/Role/MaxSessionDuration", "7200")
	if doc := a.Get("GetRoleResult/Role/AssumeRolePolicyDocument"); !strings.HasPrefix(doc, "%7B%22Version%22") {
		t.Errorf("the trust policy is not percent-encoded: %s", doc)
	}
	a = w.ok("UpdateRole RoleName=provisioner MaxSessionDuration=3600")
	if !a.Has("UpdateRoleResult") {
		t.Errorf("UpdateRole must answer an empty result: %v", a)
	}
	w.is(w.ok("GetRole RoleName=provisioner"), "GetRoleResult/Role/Description", "for our line")
	w.is(w.ok("UpdateRoleDescription RoleName=provisioner Description=new"), "UpdateRoleDescriptionResult/Role/Description", "new")
	w.ok("UpdateRole RoleName=provisioner Description=newer")
	a = w.ok("GetRole RoleName=provisioner")
	w.is(a, "GetRoleResult/Role/Description", "newer")
	w.is(a, "GetRoleResult/Role/MaxSessionDuration", "3600")

	w.ok("TagRole RoleName=provisioner Tags.member.1.Key=a Tags.member.1.Value=1")
	w.ok("PutRolePermissionsBoundary RoleName=provisioner PermissionsBoundary=arn:aws:iam::aws:policy/AWSIoTFullAccess")
	w.is(w.ok("ListRoleTags RoleName=provisioner"), "ListRoleTagsResult/Tags/member/Value", "1")
	a = w.ok("ListRoles PathPrefix=/service/")
	w.is(a, "ListRolesResult/Roles/member/RoleName", "provisioner")
	if a.Has("ListRolesResult/Roles/member/Tags") {
		t.Error("lists show no tags")
	}
	w.is(w.ok("ListRoles PathPrefix=/elsewhere/"), "ListRolesResult/Roles/member/RoleName", "")
	w.ok("UntagRole RoleName=provisioner TagKeys.member.1=a")
	w.ok("DeleteRolePermissionsBoundary RoleName=provisioner")

	w.fails("MalformedPolicyDocument", "UpdateAssumeRolePolicy RoleName=provisioner PolicyDocument="+readIoT)
	w.ok("UpdateAssumeRolePolicy RoleName=provisioner PolicyDocument=" + strings.Replace(trust, "iot.", "lambda.", 1))
	if doc := w.ok("GetRole RoleName=provisioner").Get("GetRoleResult/Role/AssumeRolePolicyDocument"); !strings.Contains(doc, "lambda.amazonaws.com") {
		t.Errorf("the trust policy is still %s", doc)
	}
	a = w.ok("ListInstanceProfilesForRole RoleName=provisioner")
	w.is(a, "ListInstanceProfilesForRoleResult/IsTruncated", "false")
	w.fails("NoSuchEntity", "ListInstanceProfilesForRole RoleName=none")
	w.ok("DeleteRole RoleName=provisioner")
	w.fails("NoSuchEntity", "GetRole RoleName=provisioner")
}

func TestGroupsHoldUsers(t *testing.T) {
	w := newWorld(t)
	w.is(w.ok("CreateGroup GroupName=staff Path=/lab/"), "CreateGroupResult/Group/Arn", account+"group/lab/staff")
	w.ok("CreateUser UserName=bob")
	w.fails("NoSuchEntity", "AddUserToGroup GroupName=staff UserName=none")
	w.fails("NoSuchEntity", "RemoveUserFromGroup GroupName=staff UserName=bob")
	w.ok("AddUserToGroup GroupName=staff UserName=bob")
	w.ok("AddUserToGroup GroupName=staff UserName=bob")
	a := w.ok("GetGroup GroupName=staff")
	w.is(a, "GetGroupResult/Group/GroupName", "staff")
	w.is(a, "GetGroupResult/Users/member/Arn", account+"user/bob")
	w.is(w.ok("ListGroupsForUser UserName=bob"), "ListGroupsForUserResult/Groups/member/GroupName", "staff")
	w.is(w.ok("ListGroups"), "ListGroupsResult/Groups/member/Path", "/lab/")
	w.fails("DeleteConflict", "DeleteGroup GroupName=staff")
	w.fails("DeleteConflict", "DeleteUser UserName=bob")
	w.ok("RemoveUserFromGroup GroupName=staff UserName=bob")
	w.ok("DeleteGroup GroupName=staff")
	w.ok("DeleteUser UserName=bob")
}

func TestListsComeInPages(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		w.ok("CreateGroup GroupName=" + name)
	}
	var got []string
	for marker, n := "", 0; ; n++ {
		call := "ListGroups MaxItems=2"
		if marker != "" {
			call += " Marker=" + marker
		}
		a := w.ok(call)
		got = append(got, a.All("ListGroupsResult/Groups/member/GroupName")...)
		if marker = a.Get("ListGroupsResult/Marker"); (marker == "") != (a.Get("ListGroupsResult/IsTruncated") == "false") || n > 2 {
			t.Fatalf("page %d: %v", n, a)
		}
		if n == 0 {
			w.fails("ValidationError", "ListUsers Marker="+marker)     // another list
			w.fails("ValidationError", "ListGroups Marker=notamarker") // none of ours
			w.fails("ValidationError", "ListGroups PathPrefix=/x/ Marker="+marker)
		}
		if marker == "" {
			break
		}
	}
	if strings.Join(got, "") != "abcd" {
		t.Errorf("got %q", got)
	}
	w.fails("ValidationError", "ListGroups MaxItems=0")
	w.fails("ValidationError", "ListGroups MaxItems=1001")
}

func TestPagesOfAListThatIsCutHereContinueAfterADeletion(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("k", 120) // markers stay within 320 characters
	for _, k := range []string{"1", "2", "3"} {
		w.ok("TagUser UserName=administrator Tags.member.1.Value=v Tags.member.1.Key=" + long + k)
	}
	a := w.ok("ListUserTags UserName=administrator MaxItems=1")
	w.is(a, "ListUserTagsResult/Tags/member/Key", long+"1")
	w.ok("UntagUser UserName=administrator TagKeys.member.1=" + long + "1")
	a = w.ok("ListUserTags UserName=administrator MaxItems=1 Marker=" + a.Get("ListUserTagsResult/Marker"))
	w.is(a, "ListUserTagsResult/Tags/member/Key", long+"2")
	a = w.ok("ListUserTags UserName=administrator MaxItems=1 Marker=" + a.Get("ListUserTagsResult/Marker"))
	w.is(a, "ListUserTagsResult/Tags/member/Key", long+"3")
	w.is(a, "ListUserTagsResult/IsTruncated", "false")
}
