package iot

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// Error codes, by the abbreviations of iot-core spec 1.5.
const (
	inv = "InvalidRequestException"
	nf  = "ResourceNotFoundException"
	exi = "ResourceAlreadyExistsException"
	ver = "VersionConflictException"
	del = "DeleteConflictException"
	vlm = "VersionsLimitExceededException"
	cst = "CertificateStateException"
	mal = "MalformedPolicyException"
	cva = "CertificateValidationException"
)

const principal = "x-amzn-principal"

func TestThings(t *testing.T) {
	t.Parallel()
	newWorld(t).play([]step{
		{do: "POST /things/a", body: `{"attributePayload":{"attributes":{"k":"v"}}}`, keep: "thingId=ID",
			text: `"thingArn":"arn:aws:iot:us-east-1:000000000000:thing/a"…"thingName":"a"`},
		{do: "POST /things/a", body: `{"attributePayload":{"attributes":{"k":"v"}}}`, text: `"thingId":"$ID"`},
		{do: "POST /things/a", body: `{}`, want: exi, text: `"resourceArn":"arn:aws:iot:us-east-1:000000000000:thing/a"…"resourceId":"$ID"`},
		{do: "POST /things/a%20b", want: inv, text: "at 'thingName' failed to satisfy constraint"},
		{do: "POST /things/b", body: `{"thingTypeName":"none"}`, want: nf},
		{do: "POST /things/c%3Ad", text: `thing/c:d`},
		{do: "GET /things/a", text: `"attributes":{"k":"v"}…"defaultClientId":"a"…"thingId":"$ID"…"version":1`},
		{do: "GET /things/c%3Ad", text: `"attributes":{}`},
		{do: "GET /things/none", want: nf},
		{do: "PATCH /things/a", body: `{"attributePayload":{"attributes":{"x":"y"},"merge":true},"expectedVersion":1}`},
		{do: "PATCH /things/a", body: `{"expectedVersion":1}`, want: ver, text: "The version for thing a does not match the expected version."},
		{do: "PATCH /things/none", body: `{}`, want: nf},
		{do: "GET /things/a", text: `"attributes":{"k":"v","x":"y"}…"version":2`},
		{do: "GET /things?attributeName=x&attributeValue=y", text: `"things":[{"attributes":{"k":"v","x":"y"},"thingArn":"arn:aws:iot:us-east-1:000000000000:thing/a","thingName":"a","version":2}]`},
		{do: "GET /things?attributeName=x&attributeValue=z&usePrefixAttributeValue=TRUE", text: `{"things":[]}`},
		{do: "GET /things?attributeValue=z", want: inv},
		{do: "GET /things?maxResults=251", want: inv},
		{do: "GET /things?maxResults=1", text: `"nextToken":"`, keep: "nextToken=NEXT"},
		{do: "GET /things?maxResults=1&nextToken=$NEXT", text: `c:d`},
		{do: "GET /things?maxResults=1&nextToken=$NEXT&thingTypeName=x", want: inv},
		{do: "GET /things?nextToken=nonsense", want: inv},
		{do: "DELETE /things/a?expectedVersion=1", want: ver},
		{do: "DELETE /things/a?expectedVersion=2"},
		{do: "DELETE /things/a"},
	})
}

func TestPrincipalsOfThings(t *testing.T) {
	t.Parallel()
	const identity = "us-east-1:01234567-89ab-cdef-0123-456789abcdef"
	newWorld(t).play([]step{
		{do: "POST /things/a"}, {do: "POST /things/b"},
		{do: "POST /keys-and-certificate", keep: "certificateArn=ONE"},
		{do: "POST /keys-and-certificate", keep: "certificateArn=TWO"},
		{do: "PUT /things/a/principals", head: []string{principal, "$ONE"}},
		{do: "PUT /things/a/principals", head: []string{principal, "$ONE"}},
		{do: "PUT /things/a/principals", want: inv},
		{do: "PUT /things/a/principals", head: []string{principal, identity}},
		{do: "PUT /things/none/principals", head: []string{principal, "$ONE"}, want: nf},
		{do: "PUT /things/a/principals", head: []string{principal, "$ONE0"}, want: nf},
		{do: "PUT /things/a/principals", head: []string{principal, "me"}, want: inv},
		{do: "PUT /things/a/principals?thingPrincipalType=EXCLUSIVE_THING", head: []string{principal, "$TWO"}},
		{do: "PUT /things/a/principals?thingPrincipalType=ALONE", head: []string{principal, "$TWO"}, want: inv},
		{do: "PUT /things/b/principals", head: []string{principal, "$TWO"}, want: inv},
		{do: "GET /things/a/principals?maxResults=2", text: `"nextToken":"…"principals":["arn:`},
		{do: "GET /things/none/principals", want: nf},
		{do: "GET /things/a/principals-v2?thingPrincipalType=EXCLUSIVE_THING",
			text: `{"thingPrincipalObjects":[{"principal":"$TWO","thingPrincipalType":"EXCLUSIVE_THING"}]}`},
		{do: "GET /principals/things", head: []string{principal, "$ONE"}, text: `{"things":["a"]}`},
		{do: "GET /principals/things", head: []string{principal, identity}, text: `{"things":["a"]}`},
		{do: "GET /principals/things", head: []string{principal, "$ONE0"}, want: nf},
		{do: "GET /principals/things-v2", head: []string{principal, "$TWO"}, text: `{"principalThingObjects":[{"thingName":"a","thingPrincipalType":"EXCLUSIVE_THING"}]}`},
		{do: "DELETE /things/a", want: inv, text: "Cannot delete. Thing a is still attached to one or more principals"},
		{do: "DELETE /things/a/principals", head: []string{principal, "$ONE"}},
		{do: "DELETE /things/a/principals", head: []string{principal, "$ONE"}},
		{do: "DELETE /things/none/principals", head: []string{principal, "$ONE"}, want: nf},
		{do: "GET /principals/things", head: []string{principal, "$ONE"}, text: `{"things":[]}`},
	})
}

// IAM decides on the ARN that a request names. One of another partition, which a statement about the thing's own does not match, names nothing.
func TestAnotherPartitionNamesNothing(t *testing.T) {
	t.Parallel()
	const foreign = "arn:aws-cn:iot:us-east-1:000000000000:"
	w := newWorld(t)
	w.play([]step{
		{do: "POST /things/a"}, {do: "POST /thing-groups/g"}, {do: "POST /billing-groups/b"},
		{do: "POST /policies/p", body: `{"policyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}}"}`},
		{do: "POST /keys-and-certificate", keep: "certificateId=CERT"},
		{do: "PUT /thing-groups/addThingToThingGroup", body: `{"thingName":"a","thingGroupArn":"` + foreign + `thinggroup/g"}`, want: nf},
		{do: "PUT /thing-groups/addThingToThingGroup", body: `{"thingArn":"` + foreign + `thing/a","thingGroupName":"g"}`, want: nf},
		{do: "PUT /billing-groups/addThingToBillingGroup", body: `{"thingName":"a","billingGroupArn":"` + foreign + `billinggroup/b"}`, want: nf},
		{do: "PUT /target-policies/p", body: `{"target":"` + foreign + `thinggroup/g"}`, want: nf},
		{do: "PUT /target-policies/p", body: `{"target":"` + foreign + `cert/$CERT"}`, want: nf},
		{do: "PUT /things/a/principals", head: []string{principal, foreign + "cert/$CERT"}, want: nf},
		{do: "POST /tags", body: `{"resourceArn":"` + foreign + `thinggroup/g","tags":[{"Key":"team","Value":"red"}]}`, want: nf},
	})
}

func TestThingTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play([]step{
		{do: "POST /thing-types/lamp", body: `{"thingTypeProperties":{"thingTypeDescription":"x","searchableAttributes":["a"],
			"mqtt5Configuration":{"propagatingAttributes":[{"userPropertyKey":"k","thingAttribute":"a"}]}},"tags":[{"Key":"team","Value":"red"}]}`, keep: "thingTypeId=ID"},
		{do: "POST /thing-types/lamp", body: `{}`, want: exi, text: "$ID"},
		{do: "POST /thing-types/light"},
		{do: "GET /thing-types/lamp", text: `"deprecated":false}…"propagatingAttributes":[{"thingAttribute":"a","userPropertyKey":"k"}]…"searchableAttributes":["a"],"thingTypeDescription":"x"`},
		{do: "GET /thing-types/none", want: nf},
		{do: "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Athingtype%2Flamp", text: `{"tags":[{"Key":"team","Value":"red"}]}`},
		{do: "PATCH /thing-types/lamp", body: `{"thingTypeProperties":{"searchableAttributes":["b"]}}`, want: inv},
		{do: "PATCH /thing-types/lamp", body: `{"thingTypeProperties":{"thingTypeDescription":"y"}}`},
		{do: "PATCH /thing-types/none", body: `{}`, want: nf},
		{do: "GET /thing-types?thingTypeName=la", text: `"thingTypeArn":"arn:aws:iot:us-east-1:000000000000:thingtype/lamp"…"thingTypeDescription":"y"`},
		{do: "POST /things/a", body: `{"thingTypeName":"lamp"}`},
		{do: "DELETE /thing-types/lamp", want: inv},
		{do: "POST /thing-types/lamp/deprecate", body: `{}`},
		{do: "POST /thing-types/none/deprecate", body: `{}`, want: nf},
		{do: "GET /thing-types/lamp", text: `"deprecated":true,"deprecationDate":17`},
		{do: "DELETE /thing-types/lamp", want: inv, text: "Please wait for 5 minutes after deprecation and then retry"},
		{do: "POST /things/b", body: `{"thingTypeName":"lamp"}`, want: inv},
		{do: "PATCH /things/a", body: `{"removeThingType":true}`},
		{do: "POST /thing-types/lamp/deprecate", body: `{"undoDeprecate":true}`},
		{do: "POST /things/b", body: `{"thingTypeName":"lamp"}`},
		{do: "DELETE /things/b"},
		{do: "POST /thing-types/lamp/deprecate"},
	})
	w.mu.Lock()
	w.now = w.now.Add(5 * time.Minute)
	w.mu.Unlock()
	w.play([]step{{do: "DELETE /thing-types/lamp"}, {do: "DELETE /thing-types/lamp", want: nf}})
}

func TestThingGroups(t *testing.T) {
	t.Parallel()
	const add, remove, change = "PUT /thing-groups/addThingToThingGroup", "PUT /thing-groups/removeThingFromThingGroup", "PUT /thing-groups/updateThingGroupsForThing"
	newWorld(t).play([]step{
		{do: "POST /thing-groups/root", body: `{"thingGroupProperties":{"thingGroupDescription":"top","attributePayload":{"attributes":{"k":"v"}}},"tags":[{"Key":"a","Value":"b"}]}`, keep: "thingGroupId=ID"},
		{do: "POST /thing-groups/root", body: `{"thingGroupProperties":{"thingGroupDescription":"top","attributePayload":{"attributes":{"k":"v"}}}}`, text: `"thingGroupId":"$ID"`},
		{do: "POST /thing-groups/root", body: `{}`, want: exi, text: "Thing Group root already exists in current account with different properties"},
		{do: "POST /thing-groups/child", body: `{"parentGroupName":"root"}`},
		{do: "POST /thing-groups/orphan", body: `{"parentGroupName":"none"}`, want: nf},
		{do: "GET /thing-groups/child", text: `"thingGroupMetadata":{"creationDate":17…"parentGroupName":"root","rootToParentThingGroups":[{"groupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/root","groupName":"root"}]},"thingGroupName":"child","version":1`},
		{do: "GET /thing-groups/none", want: nf},
		{do: "PATCH /thing-groups/root", body: `{"thingGroupProperties":{"thingGroupDescription":"tip"},"expectedVersion":1}`, text: `{"version":2}`},
		{do: "PATCH /thing-groups/root", body: `{"thingGroupProperties":{},"expectedVersion":1}`, want: ver},
		{do: "PATCH /thing-groups/root", body: `{}`, want: inv},
		{do: "PATCH /thing-groups/none", body: `{"thingGroupProperties":{}}`, want: nf},
		{do: "GET /thing-groups", text: `"groupName":"child"…"groupName":"root"`},
		{do: "GET /thing-groups?recursive=false", text: `{"thingGroups":[{"groupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/root","groupName":"root"}]}`},
		{do: "GET /thing-groups?parentGroup=root", text: `{"thingGroups":[{"groupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/child","groupName":"child"}]}`},
		{do: "GET /thing-groups?namePrefixFilter=ro", text: `{"thingGroups":[{"groupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/root","groupName":"root"}]}`},
		{do: "GET /thing-groups?parentGroup=none", want: nf},
		{do: "POST /things/a"},
		{do: add, body: `{"thingName":"a","thingGroupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/child"}`},
		{do: add, body: `{"thingArn":"arn:aws:iot:us-east-1:000000000000:thing/a","thingName":"a","thingGroupName":"child"}`},
		{do: add, body: `{"thingArn":"arn:aws:iot:us-east-1:000000000000:thing/b","thingName":"a","thingGroupName":"child"}`, want: inv},
		{do: add, body: `{"thingArn":"arn:aws:iot:us-east-1:000000000000:policy/a","thingGroupName":"child"}`, want: inv},
		{do: add, body: `{"thingArn":"arn:aws:iot:us-east-1:111111111111:thing/a","thingGroupName":"child"}`, want: nf},
		{do: add, body: `{"thingGroupName":"child"}`, want: inv},
		{do: add, body: `{"thingName":"a"}`, want: inv},
		{do: add, body: `{"thingName":"a","thingGroupName":"root"}`, want: inv},
		{do: add, body: `{"thingName":"a","thingGroupName":"none"}`, want: nf},
		{do: "GET /things/a/thing-groups", text: `{"thingGroups":[{"groupArn":"arn:aws:iot:us-east-1:000000000000:thinggroup/child","groupName":"child"}]}`},
		{do: "GET /things/none/thing-groups", want: nf},
		{do: "GET /thing-groups/root/things", text: `{"things":[]}`},
		{do: "GET /thing-groups/root/things?recursive=true", text: `{"things":["a"]}`},
		{do: "GET /thing-groups/none/things", want: nf},
		{do: change, body: `{"thingName":"a","thingGroupsToAdd":["root"],"thingGroupsToRemove":["child"]}`},
		{do: change, body: `{"thingGroupsToAdd":["root"]}`, want: inv},
		{do: change, body: `{"thingName":"a","thingGroupsToAdd":["none"]}`, want: nf},
		{do: remove, body: `{"thingName":"a","thingGroupName":"root"}`},
		{do: remove, body: `{"thingName":"a","thingGroupName":"root"}`},
		{do: remove, body: `{"thingName":"none","thingGroupName":"root"}`, want: nf},
		{do: "DELETE /thing-groups/root", want: inv, text: "Cannot delete thing group : root when there are still child groups attached to it"},
		{do: "DELETE /thing-groups/child?expectedVersion=7", want: ver},
		{do: "DELETE /thing-groups/child?expectedVersion=1"},
		{do: "DELETE /thing-groups/child"},
	})
}

func TestBillingGroups(t *testing.T) {
	t.Parallel()
	const add, remove = "PUT /billing-groups/addThingToBillingGroup", "PUT /billing-groups/removeThingFromBillingGroup"
	newWorld(t).play([]step{
		{do: "POST /billing-groups/cash", body: `{"billingGroupProperties":{"billingGroupDescription":"x"},"tags":[{"Key":"a","Value":"b"}]}`},
		{do: "POST /billing-groups/cash", body: `{}`, want: exi},
		{do: "GET /billing-groups/cash", text: `"billingGroupArn":"arn:aws:iot:us-east-1:000000000000:billinggroup/cash"…"billingGroupDescription":"x"}…"version":1`},
		{do: "GET /billing-groups/none", want: nf},
		{do: "PATCH /billing-groups/cash", body: `{"billingGroupProperties":{"billingGroupDescription":"y"}}`, text: `{"version":2}`},
		{do: "PATCH /billing-groups/cash", body: `{"billingGroupProperties":{},"expectedVersion":1}`, want: ver},
		{do: "PATCH /billing-groups/none", body: `{"billingGroupProperties":{}}`, want: nf},
		{do: "POST /things/a", body: `{"billingGroupName":"none"}`, want: nf},
		{do: "POST /things/a"},
		{do: add, body: `{"thingName":"a","billingGroupName":"cash"}`},
		{do: add, body: `{"thingName":"a","billingGroupArn":"arn:aws:iot:us-east-1:000000000000:billinggroup/none"}`, want: nf},
		{do: add, body: `{"thingName":"a"}`, want: inv},
		{do: "GET /things/a", text: `"billingGroupName":"cash"`},
		{do: "GET /billing-groups?namePrefixFilter=c", text: `"groupName":"cash"`},
		{do: "GET /billing-groups/cash/things", text: `{"things":["a"]}`},
		{do: "GET /billing-groups/none/things", want: nf},
		{do: remove, body: `{"thingName":"a","billingGroupName":"cash"}`},
		{do: remove, body: `{"thingName":"none","billingGroupName":"cash"}`, want: nf},
		{do: "GET /billing-groups/cash/things", text: `{"things":[]}`},
		{do: "DELETE /billing-groups/cash?expectedVersion=1", want: ver},
		{do: "DELETE /billing-groups/cash"},
		{do: "DELETE /billing-groups/cash"},
	})
}

// quoted writes text as a JSON string.
func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:us-east-1:*:topic/${iot:ClientId}"}]}`

var policyBody = `{"policyDocument":` + quoted(document) + `}`

func TestPolicies(t *testing.T) {
	t.Parallel()
	newWorld(t).play([]step{
		{do: "POST /policies/a+b", body: policyBody, text: `"policyArn":"arn:aws:iot:us-east-1:000000000000:policy/a+b","policyDocument":` + quoted(document) + `,"policyName":"a+b","policyVersionId":"1"`},
		{do: "POST /policies/a+b", body: policyBody, want: exi, text: "Policy cannot be created - name already exists (name=a+b)"},
		{do: "POST /policies/p", body: `{"policyDocument":"{}"}`, want: mal},
		{do: "POST /policies/p", body: `{}`, want: inv},
		{do: "POST /policies/p", body: policyBody},
		{do: "GET /policies/p", text: `"creationDate":17…"defaultVersionId":"1","generationId":"…"policyDocument":` + quoted(document)},
		{do: "GET /policies/none", want: nf},
		{do: "GET /policies?isAscendingOrder=true&pageSize=1", text: `"policyName":"a+b"`, keep: "nextMarker=NEXT"},
		{do: "GET /policies?isAscendingOrder=true&marker=$NEXT", text: `{"policies":[{"policyArn":"arn:aws:iot:us-east-1:000000000000:policy/p","policyName":"p"}]}`},
		{do: "GET /policies?marker=$NEXT", want: inv},
		{do: "GET /policies", text: `"policyName":"p"…"policyName":"a+b"`},
		{do: "POST /policies/p/version?setAsDefault=true", body: policyBody, text: `"isDefaultVersion":true…"policyVersionId":"2"`},
		{do: "POST /policies/p/version", body: policyBody, text: `"isDefaultVersion":false`},
		{do: "POST /policies/p/version", body: policyBody}, {do: "POST /policies/p/version", body: policyBody},
		{do: "POST /policies/p/version", body: policyBody, want: vlm, text: "The policy p already has the maximum number of versions (5)"},
		{do: "POST /policies/none/version", body: policyBody, want: nf},
		{do: "POST /policies/p/version", body: `{"policyDocument":"x"}`, want: mal},
		{do: "GET /policies/p/version", text: `"isDefaultVersion":false,"versionId":"5"…"isDefaultVersion":true,"versionId":"2"…"versionId":"1"`},
		{do: "GET /policies/none/version", want: nf},
		{do: "GET /policies/p/version/2", text: `"isDefaultVersion":true`},
		{do: "GET /policies/p/version/9", want: nf},
		{do: "GET /policies/p/version/x", want: inv},
		{do: "PATCH /policies/p/version/3"},
		{do: "PATCH /policies/p/version/9", want: nf},
		{do: "DELETE /policies/p/version/3", want: del},
		{do: "DELETE /policies/p/version/9", want: nf},
		{do: "DELETE /policies/p", want: del, text: "Cannot delete the policy because it has one or more policy versions attached to it (name=p)"},
		{do: "DELETE /policies/p/version/1"}, {do: "DELETE /policies/p/version/2"}, {do: "DELETE /policies/p/version/4"}, {do: "DELETE /policies/p/version/5"},
		{do: "DELETE /policies/p"},
		{do: "DELETE /policies/p", want: nf},
	})
}

func TestAttachedPolicies(t *testing.T) {
	t.Parallel()
	const iotPrincipal, group = "x-amzn-iot-principal", "arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Athinggroup%2F"
	newWorld(t).play([]step{
		{do: "POST /keys-and-certificate", keep: "certificateArn=CERT certificateId=ID"},
		{do: "POST /policies/p", body: policyBody}, {do: "POST /policies/q", body: policyBody},
		{do: "POST /thing-groups/root"}, {do: "POST /thing-groups/child", body: `{"parentGroupName":"root"}`},
		{do: "PUT /target-policies/p", body: `{"target":"$CERT"}`},
		{do: "PUT /target-policies/p", body: `{"target":"$CERT"}`},
		{do: "PUT /target-policies/p", body: `{"target":"arn:aws:iot:us-east-1:000000000000:thinggroup/root"}`},
		{do: "PUT /target-policies/q", body: `{"target":"arn:aws:iot:us-east-1:000000000000:thinggroup/child"}`},
		{do: "PUT /target-policies/none", body: `{"target":"$CERT"}`, want: nf},
		{do: "PUT /target-policies/p", body: `{"target":"$CERT0"}`, want: nf},
		{do: "PUT /target-policies/p", body: `{"target":"nobody"}`, want: inv},
		{do: "PUT /target-policies/p", body: `{}`, want: inv},
		{do: "POST /attached-policies/arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Acert%2F$ID", body: `{}`,
			text: `{"policies":[{"policyArn":"arn:aws:iot:us-east-1:000000000000:policy/p","policyName":"p"}]}`},
		{do: "POST /attached-policies/" + group + "child", text: `{"policies":[{"policyArn":"arn:aws:iot:us-east-1:000000000000:policy/q","policyName":"q"}]}`},
		{do: "POST /attached-policies/" + group + "child?recursive=true", text: `"policyName":"p"…"policyName":"q"`},
		{do: "POST /attached-policies/" + group + "none", want: nf},
		{do: "POST /policy-targets/p?pageSize=1", text: `{"nextMarker":"…"targets":["$CERT"]}`, keep: "nextMarker=NEXT"},
		{do: "POST /policy-targets/p?pageSize=1&marker=$NEXT", text: `{"targets":["arn:aws:iot:us-east-1:000000000000:thinggroup/root"]}`},
		{do: "POST /policy-targets/none", want: nf},
		{do: "DELETE /policies/p", want: del, text: "The policy cannot be deleted as the policy is attached to one or more principals (name=p)"},
		{do: "POST /target-policies/p", body: `{"target":"$CERT"}`},
		{do: "POST /target-policies/p", body: `{"target":"$CERT"}`},
		{do: "POST /target-policies/none", body: `{"target":"$CERT"}`},
		{do: "POST /target-policies/p", body: `{"target":"$CERT0"}`, want: inv, text: "Invalid Target"},

		{do: "PUT /principal-policies/q", head: []string{iotPrincipal, "$CERT"}},
		{do: "PUT /principal-policies/none", head: []string{iotPrincipal, "$CERT"}, want: nf},
		{do: "GET /principal-policies", head: []string{iotPrincipal, "$CERT"}, text: `"policyName":"q"`},
		{do: "GET /principal-policies?isAscendingOrder=false", head: []string{iotPrincipal, "$CERT0"}, want: nf},
		{do: "GET /policy-principals?isAscendingOrder=false", head: []string{"x-amzn-iot-policy", "q"}, text: `{"principals":["arn:aws:iot:us-east-1:000000000000:thinggroup/child","$CERT"]}`},
		{do: "GET /policy-principals", head: []string{"x-amzn-iot-policy", "none"}, want: nf},

		{do: "POST /things/a"},
		{do: "PUT /things/a/principals", head: []string{principal, "$CERT"}},
		{do: "PUT /thing-groups/addThingToThingGroup", body: `{"thingName":"a","thingGroupName":"child"}`},
		{do: "POST /effective-policies?thingName=a", body: `{}`, text: `"policyDocument":` + quoted(document) + `,"policyName":"p"…"policyName":"q"`},
		{do: "POST /effective-policies", body: `{"principal":"$CERT"}`, text: `"policyName":"q"`},
		{do: "POST /effective-policies", body: `{}`, want: inv},
		{do: "POST /effective-policies", body: `{"principal":"$CERT","cognitoIdentityPoolId":"us-east-1:x"}`, want: inv},
		{do: "POST /effective-policies?thingName=none", body: `{}`, want: nf},
		{do: "POST /test-authorization?clientId=a", body: `{"principal":"$CERT","authInfos":[{"actionType":"PUBLISH","resources":["arn:aws:iot:us-east-1:000000000000:topic/a"]},
			{"actionType":"PUBLISH","resources":["arn:aws:iot:us-east-1:000000000000:topic/b"]}]}`, text: `"authDecision":"ALLOWED"…"authDecision":"IMPLICIT_DENY"`},
		{do: "POST /test-authorization", body: `{"principal":"$CERT","authInfos":[{"actionType":"PUBLISH","resources":["arn:aws:iot:us-east-1:000000000000:topic/a"]}]}`,
			text: `"authDecision":"IMPLICIT_DENY"…"missingContextValues":["iot:ClientId"]`},
		{do: "POST /test-authorization", body: `{"principal":"$CERT","authInfos":[]}`, want: inv},

		{do: "DELETE /principal-policies/q", head: []string{iotPrincipal, "$CERT"}},
		{do: "DELETE /principal-policies/none", head: []string{iotPrincipal, "$CERT"}, want: nf},
	})
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.known["CSR"] = quoted(newCSR(t))
	w.known["OWN"] = quoted(selfSigned(t))
	w.play([]step{
		{do: "POST /keys-and-certificate?setAsActive=true", keep: "certificateId=ID certificateArn=ARN",
			text: `"certificatePem":"-----BEGIN CERTIFICATE-----\n…"keyPair":{"PrivateKey":"-----BEGIN RSA PRIVATE KEY-----\n…"PublicKey":"-----BEGIN PUBLIC KEY-----\n`},
		{do: "POST /certificates", body: `{"certificateSigningRequest":$CSR}`, keep: "certificateId=FROM"},
		{do: "POST /certificates", body: `{"certificateSigningRequest":"nonsense"}`, want: inv},
		{do: "POST /certificates", body: `{}`, want: inv},
		{do: "GET /certificates/$ID", text: `"certificateMode":"DEFAULT"…"creationDate":17…"customerVersion":1…"ownedBy":"000000000000","status":"ACTIVE","validity":{"notAfter":2524607999,"notBefore":`},
		{do: "GET /certificates/$FROM", text: `"status":"INACTIVE"`},
		{do: "GET /certificates/" + strings.Repeat("0", 64), want: nf},
		{do: "GET /certificates/short", want: inv},
		{do: "GET /certificates?pageSize=1", text: `"certificateId":"$FROM"…"status":"INACTIVE"…"nextMarker":"`, keep: "nextMarker=NEXT"},
		{do: "GET /certificates?pageSize=1&marker=$NEXT", text: `"certificateId":"$ID"`},
		{do: "GET /certificates?isAscendingOrder=true&marker=$NEXT", want: inv},
		{do: "GET /certificates?isAscendingOrder=true", text: `"certificateId":"$ID"…"certificateId":"$FROM"`},
		{do: "GET /certificates?pageSize=251", want: inv},
		{do: "GET /certificates-by-ca/" + strings.Repeat("0", 64), text: `{"certificates":[]}`},
		{do: "DELETE /certificates/$ID", want: cst, text: "Certificate must be deactivated (not ACTIVE) before deletion. Id: $ID"},
		{do: "PUT /certificates/$ID?newStatus=ACTIVE"},
		{do: "PUT /certificates/$ID?newStatus=PENDING_ACTIVATION", want: inv},
		{do: "PUT /certificates/$ID?newStatus=ASLEEP", want: inv},
		{do: "PUT /certificates/$ID", want: inv},
		{do: "PUT /certificates/$ID?newStatus=INACTIVE"},
		{do: "GET /certificates/$ID", text: `"customerVersion":2…"status":"INACTIVE"`},
		{do: "PUT /certificates/" + strings.Repeat("0", 64) + "?newStatus=ACTIVE", want: nf},
		{do: "PUT /certificates/$FROM?newStatus=REVOKED"},
		{do: "PUT /certificates/$FROM?newStatus=ACTIVE", want: cst},
		{do: "POST /things/a"},
		{do: "PUT /things/a/principals", head: []string{principal, "$ARN"}},
		{do: "DELETE /certificates/$ID?forceDelete=true", want: del, text: "Things must be detached before deletion (arn: $ARN)"},
		{do: "DELETE /things/a/principals", head: []string{principal, "$ARN"}},
		{do: "POST /policies/p", body: policyBody},
		{do: "PUT /target-policies/p", body: `{"target":"$ARN"}`},
		{do: "DELETE /certificates/$ID", want: del, text: "Certificate policies must be detached before deletion (arn: $ARN)"},
		{do: "DELETE /certificates/$ID?forceDelete=true"},
		{do: "DELETE /certificates/$ID", want: nf},
		{do: "POST /certificate/register-no-ca", body: `{"certificatePem":$OWN,"status":"ACTIVE"}`, keep: "certificateId=OWNID"},
		{do: "POST /certificate/register-no-ca", body: `{"certificatePem":$OWN}`, want: exi, text: "The certificate is already provisioned or registered…\"resourceArn\":\"arn:aws:iot:us-east-1:000000000000:cert/$OWNID\""},
		{do: "POST /certificate/register-no-ca", body: `{"certificatePem":"nonsense"}`, want: cva},
		{do: "POST /certificate/register-no-ca", body: `{"certificatePem":$OWN,"status":"PENDING_TRANSFER"}`, want: inv},
		{do: "GET /certificates/$OWNID", text: `"certificateMode":"SNI_ONLY"…"status":"ACTIVE"`},
		{do: "POST /certificate/register", body: `{"certificatePem":$OWN}`, want: cva, text: "No CA that is registered here has signed the certificate"},
	})
}

func TestAccountWideOperations(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws:iot:us-east-1:000000000000:policy/p"
	const query = "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Apolicy%2F"
	newWorld(t).play([]step{
		{do: "POST /policies/p", body: `{"policyDocument":` + quoted(document) + `,"tags":[{"Key":"a"}]}`},
		{do: "POST /tags", body: `{"resourceArn":"` + arn + `","tags":[{"Key":"b","Value":"2"}]}`},
		{do: query + "p", text: `{"tags":[{"Key":"a","Value":""},{"Key":"b","Value":"2"}]}`},
		{do: query + "p&nextToken=x", want: inv},
		{do: query + "none", want: nf},
		{do: "POST /tags", body: `{"resourceArn":"` + arn + `","tags":[{"Key":"aws:b"}]}`, want: inv},
		{do: "POST /tags", body: `{"resourceArn":"` + arn + `x","tags":[{"Key":"b"}]}`, want: nf},
		{do: "POST /tags", body: `{"resourceArn":"arn:aws:iot:us-east-1:000000000000:thing/a","tags":[{"Key":"b"}]}`, want: inv},
		{do: "POST /untag", body: `{"resourceArn":"` + arn + `","tagKeys":["a"]}`},
		{do: "POST /untag", body: `{"resourceArn":"` + arn + `x","tagKeys":["a"]}`, want: nf},
		{do: query + "p", text: `{"tags":[{"Key":"b","Value":"2"}]}`},

		{do: "GET /endpoint?endpointType=iot%3AData-ATS", text: `{"endpointAddress":"iot.lan"}`},
		{do: "GET /endpoint", text: `{"endpointAddress":"iot.lan"}`},
		{do: "GET /endpoint?endpointType=x", want: inv, text: "Endpoint type x not recognized."},

		{do: "GET /event-configurations", text: `"CA_CERTIFICATE":{"Enabled":false}…"THING":{"Enabled":false}…"THING_TYPE_ASSOCIATION":{"Enabled":false}`},
		{do: "PATCH /event-configurations", body: `{"eventConfigurations":{"THING":{"Enabled":true}}}`},
		{do: "PATCH /event-configurations", body: `{"eventConfigurations":{"NOTHING":{"Enabled":true}}}`, want: inv},
		{do: "GET /event-configurations", text: `{"creationDate":17…"THING":{"Enabled":true}…"lastModifiedDate":17`},
	})
}
