package iam

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

// managedPrefix begins the ARN of every policy that AWS manages.
const managedPrefix = "arn:aws:iam::aws:policy/"

const guestPolicy = "AmazonCognitoUnAuthedIdentitiesSessionPolicy"

// GuestPolicy is the ARN of the session policy of guests.
const GuestPolicy = managedPrefix + guestPolicy

// builtins are the AWS-managed policies that scripts of IoT users name (identity spec 4). They cannot be changed.
var builtins = sync.OnceValue(makeBuiltins)

func makeBuiltins() map[string]Managed {
	all := map[string]Managed{}
	for name, p := range map[string]struct {
		id, description string
		actions         []string
	}{
		"AdministratorAccess": {"ANPAAAAAAAAAAADMINIST", "Provides full access to AWS services and resources.", []string{"*"}},
		"AWSIoTFullAccess":    {"ANPAAAAAAAAAAIOTFULLA", "Provides full access to AWS IoT configuration and data.", []string{"iot:*", "iotjobsdata:*"}},
		"AWSIoTConfigAccess": {"ANPAAAAAAAAAAIOTCONFI", "Provides full access to AWS IoT configuration actions.",
			iotActions(iotReads, iotWrites)},
		"AWSIoTConfigReadOnlyAccess": {"ANPAAAAAAAAAAIOTREADO", "Provides read only access to AWS IoT configuration actions.",
			iotActions(iotReads)},
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
		// What guests of identity pools are held to whatever their role may do (identity spec 2.5).
		guestPolicy: {"ANPAAAAAAAAAACOGNITOG", "Session policy of unauthenticated identities.", []string{
			"iot:*", "iotjobsdata:*", "cognito-identity:*", "cognito-idp:*", "cognito-sync:*", "mobileanalytics:*", "mobiletargeting:*", "execute-api:*", "lambda:InvokeFunction", "s3:*", "dynamodb:*",
			"sns:*", "sqs:*", "kinesis:*", "firehose:*", "logs:*", "polly:*", "lex:*", "rekognition:*", "geo:*", "appsync:*"}},
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
	m, ok := builtins()[arn]
	return m, ok
}

func builtinARNs() []string {
	all := builtins()
	arns := make([]string, 0, len(all))
	for arn := range all {
		arns = append(arns, arn)
	}
	slices.Sort(arns)
	return arns
}

// iotActions makes actions of names that are parted by white space.
func iotActions(lists ...string) (actions []string) {
	for _, name := range strings.Fields(strings.Join(lists, " ")) {
		actions = append(actions, "iot:"+name)
	}
	return actions
}

// iotReads are the actions of AWSIoTConfigReadOnlyAccess, by name and not by wildcard: iot:Get* would let the reader of settings
// read device shadows and retained messages too.
const iotReads = `
	DescribeAuthorizer DescribeCACertificate DescribeCertificate DescribeDefaultAuthorizer DescribeEndpoint
	DescribeEventConfigurations DescribeIndex DescribeJob DescribeJobExecution DescribeRoleAlias DescribeStream
	DescribeThing DescribeThingGroup DescribeThingRegistrationTask DescribeThingType GetEffectivePolicies
	GetIndexingConfiguration GetJobDocument GetLoggingOptions GetOTAUpdate GetPolicy GetPolicyVersion GetRegistrationCode
	GetTopicRule GetV2LoggingOptions ListAttachedPolicies ListAuthorizers ListCACertificates ListCertificates
	ListCertificatesByCA ListIndices ListJobExecutionsForJob ListJobExecutionsForThing ListJobs ListOTAUpdates
	ListOutgoingCertificates ListPolicies ListPolicyPrincipals ListPolicyVersions ListPrincipalPolicies ListPrincipalThings
	ListRoleAliases ListStreams ListTargetsForPolicy ListThingGroups ListThingGroupsForThing ListThingPrincipals
	ListThingRegistrationTaskReports ListThingRegistrationTasks ListThings ListThingsInThingGroup ListThingTypes
	ListTopicRules ListV2LoggingLevels SearchIndex TestAuthorization TestInvokeAuthorizer DescribeAccountAuditConfiguration
	DescribeAuditTask ListAuditTasks DescribeScheduledAudit ListScheduledAudits ListAuditFindings DescribeSecurityProfile
	ListSecurityProfiles ListSecurityProfilesForTarget ListTargetsForSecurityProfile ListActiveViolations
	ListViolationEvents ValidateSecurityProfileBehaviors`

// iotWrites are what AWSIoTConfigAccess has beside them. Provisioning templates and claims are not among them, as in AWS.
const iotWrites = `
	AcceptCertificateTransfer AddThingToThingGroup AssociateTargetsWithJob AttachPolicy AttachPrincipalPolicy
	AttachThingPrincipal CancelCertificateTransfer CancelJob CancelJobExecution ClearDefaultAuthorizer CreateAuthorizer
	CreateCertificateFromCsr CreateJob CreateKeysAndCertificate CreateOTAUpdate CreatePolicy CreatePolicyVersion
	CreateRoleAlias CreateStream CreateThing CreateThingGroup CreateThingType CreateTopicRule DeleteAuthorizer
	DeleteCACertificate DeleteCertificate DeleteJob DeleteJobExecution DeleteOTAUpdate DeletePolicy DeletePolicyVersion
	DeleteRegistrationCode DeleteRoleAlias DeleteStream DeleteThing DeleteThingGroup DeleteThingType DeleteTopicRule
	DeleteV2LoggingLevel DeprecateThingType DetachPolicy DetachPrincipalPolicy DetachThingPrincipal DisableTopicRule
	EnableTopicRule RegisterCACertificate RegisterCertificate RegisterThing RejectCertificateTransfer
	RemoveThingFromThingGroup ReplaceTopicRule SetDefaultAuthorizer SetDefaultPolicyVersion SetLoggingOptions
	SetV2LoggingLevel SetV2LoggingOptions StartThingRegistrationTask StopThingRegistrationTask TransferCertificate
	UpdateAuthorizer UpdateCACertificate UpdateCertificate UpdateEventConfigurations UpdateIndexingConfiguration
	UpdateRoleAlias UpdateStream UpdateThing UpdateThingGroup UpdateThingGroupsForThing UpdateAccountAuditConfiguration
	DeleteAccountAuditConfiguration StartOnDemandAuditTask CancelAuditTask CreateScheduledAudit UpdateScheduledAudit
	DeleteScheduledAudit CreateSecurityProfile UpdateSecurityProfile DeleteSecurityProfile AttachSecurityProfile
	DetachSecurityProfile`
