package iam

import (
	"testing"
)

func TestSimulations(t *testing.T) {
	w := newWorld(t)
	w.ok("CreateUser UserName=ada")
	w.ok("PutUserPolicy UserName=ada PolicyName=read PolicyDocument=" + readIoT)
	const one = "SimulatePrincipalPolicyResult/EvaluationResults/member/"
	a := w.ok("SimulatePrincipalPolicy PolicySourceArn=" + account + "user/ada ActionNames.member.1=iot:DescribeThing ActionNames.member.2=iot:DeleteThing")
	w.is(a, one+"EvalDecision", "allowed implicitDeny")
	w.is(a, one+"EvalResourceName", "* *")
	w.is(a, one+"MatchedStatements/member/SourcePolicyId", "read")
	w.is(a, one+"MatchedStatements/member/SourcePolicyType", "user")
	w.is(a, one+"MatchedStatements/member/StartPosition/Line", "1")
	a = w.ok("SimulatePrincipalPolicy MaxItems=1 PolicySourceArn=" + account + "user/ada ActionNames.member.1=iot:DescribeThing ActionNames.member.2=iot:DeleteThing")
	w.is(a, one+"EvalActionName", "iot:DescribeThing")
	a = w.ok("SimulatePrincipalPolicy PolicySourceArn=" + account + "user/ada ActionNames.member.1=iot:DescribeThing ActionNames.member.2=iot:DeleteThing Marker=" + a.Get("SimulatePrincipalPolicyResult/Marker"))
	w.is(a, one+"EvalActionName", "iot:DeleteThing")
	w.is(a, "SimulatePrincipalPolicyResult/IsTruncated", "false")

	const custom = "SimulateCustomPolicyResult/EvaluationResults/member/"
	conditional := `{"Statement":{"Effect":"Deny","Action":"iot:*","Resource":"*","Condition":{"StringEquals":{"aws:UserAgent":"x"}}}}`
	a = w.ok("SimulateCustomPolicy PolicyInputList.member.1=" + readIoT + " PolicyInputList.member.2=" + conditional + " ActionNames.member.1=iot:DescribeThing")
	w.is(a, custom+"EvalDecision", "allowed")
	w.is(a, custom+"MissingContextValues/member", "aws:useragent")
	a = w.ok("SimulateCustomPolicy PolicyInputList.member.1=" + readIoT + " PolicyInputList.member.2=" + conditional + " ActionNames.member.1=iot:DescribeThing ContextEntries.member.1.ContextKeyName=aws:UserAgent ContextEntries.member.1.ContextKeyType=string ContextEntries.member.1.ContextKeyValues.member.1=x")
	w.is(a, custom+"EvalDecision", "explicitDeny")
	w.is(a, custom+"MatchedStatements/member/SourcePolicyId", "PolicyInputList.2")
	a = w.ok("SimulateCustomPolicy PolicyInputList.member.1=" + readIoT + " PermissionsBoundaryPolicyInputList.member.1=" + readIoT + " ActionNames.member.1=iot:DescribeThing")
	w.is(a, custom+"PermissionsBoundaryDecisionDetail/AllowedByPermissionsBoundary", "true")
	w.fails("InvalidInput", "SimulateCustomPolicy PolicyInputList.member.1={} ActionNames.member.1=iot:DescribeThing")
	w.fails("NoSuchEntity", "SimulatePrincipalPolicy PolicySourceArn="+account+"user/bob ActionNames.member.1=iot:DescribeThing")
}

func TestTagsOfPoliciesAndProviders(t *testing.T) {
	w := newWorld(t)
	policy := w.ok("CreatePolicy PolicyName=reading PolicyDocument=" + readIoT + " Tags.member.1.Key=a Tags.member.1.Value=1").Get("CreatePolicyResult/Policy/Arn")
	provider := w.ok("CreateOpenIDConnectProvider Url=https://id.example/realm").Get("CreateOpenIDConnectProviderResult/OpenIDConnectProviderArn")
	for _, c := range []struct{ kind, member, arn string }{{"Policy", "PolicyArn", policy}, {"OpenIDConnectProvider", "OpenIDConnectProviderArn", provider}} {
		x := " " + c.member + "=" + c.arn
		w.ok("Tag" + c.kind + x + " Tags.member.1.Key=a Tags.member.1.Value=2 Tags.member.2.Key=b Tags.member.2.Value=3")
		w.is(w.ok("List"+c.kind+"Tags"+x), "List"+c.kind+"TagsResult/Tags/member/Value", "2 3")
		w.ok("Untag" + c.kind + x + " TagKeys.member.1=a")
		w.is(w.ok("List"+c.kind+"Tags"+x), "List"+c.kind+"TagsResult/Tags/member/Key", "b")
		w.fails("NoSuchEntity", "Tag"+c.kind+x+"x Tags.member.1.Key=a Tags.member.1.Value=2")
	}
	w.is(w.ok("GetPolicy PolicyArn="+policy), "GetPolicyResult/Policy/Tags/member/Value", "3")
	w.fails("AccessDenied", "TagPolicy PolicyArn=arn:aws:iam::aws:policy/AdministratorAccess Tags.member.1.Key=a Tags.member.1.Value=2")
}

func TestGroupsAreRenamed(t *testing.T) {
	w := newWorld(t)
	w.ok("CreateGroup GroupName=crew")
	w.ok("UpdateGroup GroupName=crew NewGroupName=staff NewPath=/plant/")
	w.is(w.ok("GetGroup GroupName=staff"), "GetGroupResult/Group/Arn", account+"group/plant/staff")
	w.fails("NoSuchEntity", "GetGroup GroupName=crew")
	w.ok("CreateGroup GroupName=crew")
	w.fails("EntityAlreadyExists", "UpdateGroup GroupName=crew NewGroupName=Staff")
}
