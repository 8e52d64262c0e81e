package iot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/wire"
)

const templateBody = `{"Parameters":{"Serial":{"Type":"String"}},"Resources":{
  "thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Serial"}}},
  "certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`

func TestProvisioning(t *testing.T) {
	t.Parallel()
	const role, hook = `"arn:aws:iam::000000000000:role/r"`, `{"payloadVersion":"2020-04-01","targetArn":"arn:aws:lambda:us-east-1:000000000000:function:f"}`
	w := newWorld(t)
	w.known["BODY"] = quoted(templateBody)
	w.known["INLINE"] = quoted(`{"Resources":{"it":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"inline"}},
		"cert":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}}},"Parameters":{"CSR":{"Type":"String"}}}`)
	w.known["CSR"] = quoted(newCSR(t))
	const templates = "/provisioning-templates"
	w.play([]step{
		{do: "POST " + templates, body: `{"templateName":"t","templateBody":$BODY,"provisioningRoleArn":` + role + `,"description":"x","enabled":true,"tags":[{"Key":"a","Value":"b"}]}`,
			text: `{"defaultVersionId":1,"templateArn":"arn:aws:iot:us-east-1:000000000000:provisioningtemplate/t","templateName":"t"}`},
		{do: "POST " + templates, body: `{"templateName":"t","templateBody":$BODY,"provisioningRoleArn":` + role + `}`, want: exi},
		{do: "POST " + templates, body: `{"templateName":"u","templateBody":"{","provisioningRoleArn":` + role + `}`, want: inv},
		{do: "POST " + templates, body: `{"templateName":"u v","templateBody":$BODY,"provisioningRoleArn":` + role + `}`, want: inv},
		{do: "POST " + templates, body: `{"templateName":"u","templateBody":$BODY,"provisioningRoleArn":"arn:aws:iam::000000000000:role/forbidden"}`, want: "AccessDeniedException"},
		{do: "POST " + templates, body: `{"templateName":"jitp","type":"JITP","templateBody":$BODY,"provisioningRoleArn":` + role + `}`},
		{do: "GET " + templates + "/t", text: `"creationDate":17…"defaultVersionId":1,"description":"x","enabled":true,"lastModifiedDate":17…"provisioningRoleArn":` + role + `,…"templateBody":$BODY,"templateName":"t","type":"FLEET_PROVISIONING"`},
		{do: "GET " + templates + "/jitp", text: `"enabled":false…"type":"JITP"`},
		{do: "GET " + templates + "/none", want: nf},
		{do: "GET /tags?resourceArn=arn%3Aaws%3Aiot%3Aus-east-1%3A000000000000%3Aprovisioningtemplate%2Ft", text: `"Key":"a"`},
		{do: "PATCH " + templates + "/t", body: `{"preProvisioningHook":` + hook + `,"description":"y"}`},
		{do: "GET " + templates + "/t", text: `"description":"y"…"preProvisioningHook":{"payloadVersion":"2020-04-01","targetArn":"arn:aws:lambda:us-east-1:000000000000:function:f"}`},
		{do: "PATCH " + templates + "/t", body: `{"removePreProvisioningHook":true}`},
		{do: "PATCH " + templates + "/t", body: `{"defaultVersionId":9}`, want: nf},
		{do: "PATCH " + templates + "/none", body: `{}`, want: nf},
		{do: "GET " + templates + "?maxResults=1", text: `"templates":[{"creationDate":`, keep: "nextToken=NEXT"},
		{do: "GET " + templates + "?maxResults=1&nextToken=$NEXT", text: `"templateName":"t"`},
		{do: "POST " + templates + "/t/versions?setAsDefault=true", body: `{"templateBody":$BODY}`,
			text: `{"isDefaultVersion":true,"templateArn":"arn:aws:iot:us-east-1:000000000000:provisioningtemplate/t","templateName":"t","versionId":2}`},
		{do: "POST " + templates + "/none/versions", body: `{"templateBody":$BODY}`, want: nf},
		{do: "GET " + templates + "/t/versions/2", text: `"isDefaultVersion":true,"templateBody":$BODY,"versionId":2`},
		{do: "GET " + templates + "/t/versions/9", want: nf},
		{do: "GET " + templates + "/t/versions", text: `"isDefaultVersion":false,"versionId":1}…"isDefaultVersion":true,"versionId":2}`},
		{do: "GET " + templates + "/none/versions", want: nf},
		{do: "DELETE " + templates + "/t/versions/2", want: del},
		{do: "DELETE " + templates + "/t/versions/1"},
		{do: "DELETE " + templates + "/t/versions/1", want: nf},

		{do: "POST " + templates + "/t/provisioning-claim", text: `"certificatePem":"-----BEGIN CERTIFICATE-----\n…"expiration":17…"keyPair":{"PrivateKey":"-----BEGIN RSA PRIVATE KEY-----\n`,
			keep: "certificateId=CLAIM"},
		{do: "POST " + templates + "/jitp/provisioning-claim", body: `{}`, want: inv},
		{do: "POST " + templates + "/none/provisioning-claim", want: nf},
		{do: "GET /certificates/$CLAIM", want: nf},
		{do: "GET /certificates", text: `{"certificates":[]}`},

		{do: "POST /things", body: `{"templateBody":$INLINE,"parameters":{"CSR":$CSR}}`,
			text: `"certificatePem":"-----BEGIN CERTIFICATE-----\n…"resourceArns":{"cert":"arn:aws:iot:us-east-1:000000000000:cert/…"it":"arn:aws:iot:us-east-1:000000000000:thing/inline"}`},
		{do: "POST /things", body: `{"templateBody":"{"}`, want: inv},

		{do: "DELETE " + templates + "/t"},
		{do: "DELETE " + templates + "/t", want: nf},
	})
}

// TestIAMIsAskedForTheRightResources holds rows of identity spec 4.4 against what the table asks for.
func TestIAMIsAskedForTheRightResources(t *testing.T) {
	t.Parallel()
	const cert = "arn:aws:iot:us-east-1:000000000000:cert/c"
	for _, c := range []struct {
		do, body string
		head     []string
		want     wire.Access
	}{
		{"POST /things/a", `{"billingGroupName":"b"}`, nil, wire.Access{Action: "iot:CreateThing", Resources: []string{"thing/a", "billinggroup/b"}}},
		{"GET /things/a", "", nil, wire.Access{Action: "iot:DescribeThing", Resources: []string{"thing/a"}}},
		{"GET /things", "", nil, wire.Access{Action: "iot:ListThings", Resources: []string{"*"}}},
		{"PUT /things/a/principals", "", []string{principal, cert}, wire.Access{Action: "iot:AttachThingPrincipal", Resources: []string{"*"}}},
		{"GET /things/a/principals-v2", "", nil, wire.Access{Action: "iot:ListThingPrincipals", Resources: []string{"*"}}},
		{"GET /principals/things-v2", "", []string{principal, cert}, wire.Access{Action: "iot:ListPrincipalThings", Resources: []string{"*"}}},
		{"POST /thing-types/a", `{"tags":[{"Key":"team","Value":"red"}]}`, nil, wire.Access{Action: "iot:CreateThingType", Resources: []string{"thingtype/a"},
			Conditions: map[string][]string{"aws:RequestTag/team": {"red"}, "aws:TagKeys": {"team"}}}},
		{"PUT /thing-groups/addThingToThingGroup", `{"thingName":"a","thingGroupName":"g"}`, nil, wire.Access{Action: "iot:AddThingToThingGroup", Resources: []string{"thing/a", "thinggroup/g"}}},
		{"PUT /thing-groups/addThingToThingGroup", `{"thingName":"a","thingArn":"` + strings.Replace(cert, "cert/c", "thing/b", 1) + `","thingGroupName":"g"}`, nil,
			wire.Access{Action: "iot:AddThingToThingGroup", Resources: []string{"thing/a", "thing/b", "thinggroup/g"}}},
		{"PUT /thing-groups/updateThingGroupsForThing", `{"thingName":"a","thingGroupsToAdd":["g"],"thingGroupsToRemove":["h"]}`, nil,
			wire.Access{Action: "iot:UpdateThingGroupsForThing", Resources: []string{"thing/a", "thinggroup/h", "thinggroup/g"}}},
		{"GET /thing-groups/g/things", "", nil, wire.Access{Action: "iot:ListThingsInThingGroup", Resources: []string{"thinggroup/g"}}},
		{"PUT /billing-groups/addThingToBillingGroup", `{"thingName":"a","billingGroupName":"g"}`, nil, wire.Access{Action: "iot:AddThingToBillingGroup", Resources: []string{"thing/a", "billinggroup/g"}}},
		{"POST /keys-and-certificate", "", nil, wire.Access{Action: "iot:CreateKeysAndCertificate", Resources: []string{"*"}}},
		{"GET /certificates/" + strings.Repeat("AB", 32), "", nil, wire.Access{Action: "iot:DescribeCertificate", Resources: []string{"cert/" + strings.Repeat("ab", 32)}}},
		{"POST /policies/p", policyBody, nil, wire.Access{Action: "iot:CreatePolicy", Resources: []string{"*", "policy/p"}, AnyOf: true}},
		{"GET /policies/p/version", "", nil, wire.Access{Action: "iot:ListPolicyVersions", Resources: []string{"*", "policy/p"}, AnyOf: true}},
		{"GET /policies/p/version/1", "", nil, wire.Access{Action: "iot:GetPolicyVersion", Resources: []string{"policy/p"}}},
		{"PUT /target-policies/p", `{"target":"` + cert + `"}`, nil, wire.Access{Action: "iot:AttachPolicy", Resources: []string{"cert/c"}}},
		{"PUT /target-policies/p", `{"target":"us-east-1:01234567-89ab-cdef-0123-456789abcdef"}`, nil, wire.Access{Action: "iot:AttachPolicy", Resources: []string{"*"}}},
		{"POST /attached-policies/x", "", nil, wire.Access{Action: "iot:ListAttachedPolicies", Resources: []string{"*"}}},
		{"POST /policy-targets/p", "", nil, wire.Access{Action: "iot:ListTargetsForPolicy", Resources: []string{"policy/p"}}},
		{"PUT /principal-policies/p", "", []string{"x-amzn-iot-principal", cert}, wire.Access{Action: "iot:AttachPrincipalPolicy", Resources: []string{"cert/c"}}},
		{"POST /effective-policies?thingName=a", `{}`, nil, wire.Access{Action: "iot:GetEffectivePolicies", Resources: []string{"*"}}},
		{"POST /provisioning-templates/t/provisioning-claim", "", nil, wire.Access{Action: "iot:CreateProvisioningClaim", Resources: []string{"provisioningtemplate/t"}}},
		{"GET /provisioning-templates", "", nil, wire.Access{Action: "iot:ListProvisioningTemplates", Resources: []string{"*"}}},
		{"POST /things", `{"templateBody":"{}"}`, nil, wire.Access{Action: "iot:RegisterThing", Resources: []string{"*"}}},
		{"GET /endpoint", "", nil, wire.Access{Action: "iot:DescribeEndpoint", Resources: []string{"*"}}},
	} {
		t.Run(c.want.Action+" "+c.do, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			method, target, _ := strings.Cut(c.do, " ")
			w.send(mine, method, target, c.body, c.head...)
			if len(w.asked) != 1 {
				t.Fatalf("asked for %v", w.asked)
			}
			got := w.asked[0]
			for i, r := range c.want.Resources {
				if r != "*" {
					c.want.Resources[i] = "arn:aws:iot:us-east-1:000000000000:" + r
				}
			}
			if got.Action != c.want.Action || got.AnyOf != c.want.AnyOf || !slices.Equal(got.Resources, c.want.Resources) {
				t.Errorf("asked for %+v, want %+v", got, c.want)
			}
			for k, v := range c.want.Conditions {
				if !slices.Equal(got.Conditions[k], v) {
					t.Errorf("condition %s is %v, want %v", k, got.Conditions[k], v)
				}
			}
		})
	}
}

func newCSR(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "pump"}}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func selfSigned(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "own"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
