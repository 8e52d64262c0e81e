package iam

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// managedPrefix begins the ARN of every policy that AWS manages.
const managedPrefix = "arn:aws:iam::aws:policy/"

// builtins are the AWS-managed policies that scripts of IoT users name (identity spec 4). They cannot be changed.
var builtins = makeBuiltins()

func makeBuiltins() map[string]Managed {
	all := map[string]Managed{}
	for name, p := range map[string]struct {
		id, description string
		actions         []string
	}{
		"AdministratorAccess": {"ANPAAAAAAAAAAADMINIST", "Provides full access to AWS services and resources.", []string{"*"}},
		"AWSIoTFullAccess":    {"ANPAAAAAAAAAAIOTFULLA", "Provides full access to AWS IoT configuration and data.", []string{"iot:*", "iotjobsdata:*"}},
		"AWSIoTConfigAccess": {"ANPAAAAAAAAAAIOTCONFI", "Provides full access to AWS IoT configuration actions.", []string{
			"iot:Accept*", "iot:Add*", "iot:Associate*", "iot:Attach*", "iot:Cancel*", "iot:Clear*", "iot:Confirm*", "iot:Create*", "iot:Delete*",
			"iot:Deprecate*", "iot:Describe*", "iot:Detach*", "iot:Disable*", "iot:Enable*", "iot:Get*", "iot:List*", "iot:Register*", "iot:Reject*",
			"iot:Remove*", "iot:Replace*", "iot:Search*", "iot:Set*", "iot:Start*", "iot:Stop*", "iot:TagResource", "iot:Test*", "iot:Transfer*",
			"iot:UntagResource", "iot:Update*", "iot:Validate*"}},
		"AWSIoTConfigReadOnlyAccess": {"ANPAAAAAAAAAAIOTREADO", "Provides read only access to AWS IoT configuration actions.", []string{
			"iot:Describe*", "iot:Get*", "iot:List*", "iot:SearchIndex", "iot:TestAuthorization"}},
		"AWSIoTDataAccess": {"ANPAAAAAAAAAAIOTDATAA", "Provides full access to AWS IoT messaging actions.", []string{
			"iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish", "iot:GetThingShadow", "iot:UpdateThingShadow", "iot:DeleteThingShadow",
			"iot:ListNamedShadowsForThing", "iot:GetRetainedMessage", "iot:ListRetainedMessages"}},
		// Provisioning spec 14.3, to the letter: what a provisioning role may do.
		"service-role/AWSIoTThingsRegistration": {"ANPAAAAAAAAAAIOTTHING", "This policy allows users to register things at bulk using AWS IoT StartThingRegistrationTask API", []string{
			"iot:AddThingToThingGroup", "iot:AttachPolicy", "iot:AttachPrincipalPolicy", "iot:AttachThingPrincipal", "iot:CreateCertificateFromCsr",
			"iot:CreatePolicy", "iot:CreateThing", "iot:DescribeCertificate", "iot:DescribeThing", "iot:DescribeThingGroup", "iot:DescribeThingType",
			"iot:DetachPolicy", "iot:DetachThingPrincipal", "iot:GetPolicy", "iot:ListAttachedPolicies", "iot:ListPolicyPrincipals", "iot:ListPrincipalPolicies",
			"iot:ListPrincipalThings", "iot:ListTargetsForPolicy", "iot:ListThingGroupsForThing", "iot:ListThingPrincipals", "iot:RegisterCertificate",
			"iot:RegisterThing", "iot:RemoveThingFromThingGroup", "iot:UpdateCertificate", "iot:UpdateThing", "iot:UpdateThingGroupsForThing",
			"iot:AddThingToBillingGroup", "iot:DescribeBillingGroup", "iot:RemoveThingFromBillingGroup"}},
		"AmazonCognitoPowerUser": {"ANPAAAAAAAAAACOGNITOP", "Provides administrative access to existing Amazon Cognito resources.", []string{
			"cognito-identity:*", "cognito-idp:*", "cognito-sync:*", "iam:ListRoles", "iam:ListOpenIDConnectProviders", "iam:GetRole"}},
	} {
		document, err := json.Marshal(map[string]any{"Version": "2012-10-17",
			"Statement": []map[string]any{{"Effect": "Allow", "Action": p.actions, "Resource": "*"}}})
		if err != nil {
			panic(err) // literals above
		}
		path := "/"
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			path = "/" + name[:i+1]
		}
		since := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
		all[managedPrefix+name] = Managed{ARN: managedPrefix + name,
			Entity:   Entity{Kind: store.IAMPolicy, Name: lastSegment(name), ID: p.id, Path: path, Created: since, Body: Body{Description: p.description, Default: 1, Updated: since}},
			Versions: []store.ManagedVersion{{Version: 1, Document: string(document), Created: since}}}
	}
	return all
}

func builtin(arn string) (Managed, bool) {
	m, ok := builtins[arn]
	return m, ok
}

func builtinARNs() []string {
	arns := make([]string, 0, len(builtins))
	for arn := range builtins {
		arns = append(arns, arn)
	}
	slices.Sort(arns)
	return arns
}
