// Package imprint is the edge for what AWS has no operation for: accounts, the traces behind `imprint explain`, the functions
// that hooks call and the tables that rules ask. It is a restJson1 service like iot, signed and authorised the same way, with IAM
// actions of its own (imprint:ListTraces …) on resources like arn:aws:imprint:REGION:ACCOUNT:table/NAME.
//
// Begin with Model, which is written by hand here, then Service in api.go.
package imprint

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Model describes the service to the codec.
var Model = wire.Model{
	ID: "Imprint", Version: "2026-11-21", Protocol: wire.RESTJSON,
	SigningNames: []string{"imprint"}, ValidationCode: "InvalidRequestException",
	Operations: []wire.Operation{
		{Name: "CreateAccount", Method: "POST", URI: "/imprint/accounts"},
		{Name: "ListAccounts", Method: "GET", URI: "/imprint/accounts"},
		{Name: "ListTraces", Method: "GET", URI: "/imprint/traces"},
		{Name: "ListLogs", Method: "GET", URI: "/imprint/logs"},
		{Name: "ReadLog", Method: "GET", URI: "/imprint/log"},
		{Name: "KeepLog", Method: "PUT", URI: "/imprint/log"},
		{Name: "DeleteLog", Method: "DELETE", URI: "/imprint/log"},
		{Name: "GetClaimPolicy", Method: "POST", URI: "/imprint/claim-policy"},
		{Name: "ReportClaim", Method: "GET", URI: "/imprint/claims/{claimId}"},
		{Name: "ContainClaim", Method: "POST", URI: "/imprint/claims/{claimId}/containment"},
		{Name: "PutClaimLimits", Method: "PUT", URI: "/imprint/claims/{claimId}/limits"},
		{Name: "GetClaimLimits", Method: "GET", URI: "/imprint/claims/{claimId}/limits"},
		{Name: "RollClaim", Method: "POST", URI: "/imprint/claims/{claimId}/roll"},
		{Name: "ListApprovals", Method: "GET", URI: "/imprint/approvals"},
		{Name: "ApproveDevice", Method: "POST", URI: "/imprint/approvals/{approvalId}/approve"},
		{Name: "DenyDevice", Method: "POST", URI: "/imprint/approvals/{approvalId}/deny"},
		{Name: "DeprovisionThing", Method: "POST", URI: "/imprint/things/{thingName}/deprovision"},
		{Name: "ListOrphans", Method: "GET", URI: "/imprint/orphans"},
		{Name: "GetExpiryForecast", Method: "GET", URI: "/imprint/expiry"},
		{Name: "ListExpiringCertificates", Method: "GET", URI: "/imprint/expiry/certificates"},
		{Name: "LintTemplate", Method: "POST", URI: "/imprint/lint-template"},
		{Name: "TryTemplate", Method: "POST", URI: "/imprint/try-template"},
		{Name: "TryTemplateWithHook", Method: "POST", URI: "/imprint/try-template-with-hook"},
		{Name: "PutFunction", Method: "PUT", URI: "/imprint/functions/{name}"},
		{Name: "ListFunctions", Method: "GET", URI: "/imprint/functions"},
		{Name: "DeleteFunction", Method: "DELETE", URI: "/imprint/functions/{name}"},
		{Name: "GetFunctionLogs", Method: "GET", URI: "/imprint/functions/{name}/logs"},
		{Name: "ResetSoftwareToken", Method: "POST", URI: "/imprint/user-pools/{userPoolId}/reset-software-token"},
		{Name: "GetUserImportLog", Method: "GET", URI: "/imprint/user-pools/{userPoolId}/imports/{jobId}/log"},
		{Name: "CreateTable", Method: "PUT", URI: "/imprint/tables/{name}"},
		{Name: "ListTables", Method: "GET", URI: "/imprint/tables"},
		{Name: "DeleteTable", Method: "DELETE", URI: "/imprint/tables/{name}"},
		{Name: "PutTableKeys", Method: "POST", URI: "/imprint/tables/{name}/keys"},
		{Name: "ListTableKeys", Method: "GET", URI: "/imprint/tables/{name}/keys"},
		{Name: "RotateUserPoolKeys", Method: "POST", URI: "/imprint/user-pools/{userPoolId}/rotate-keys"},
		{Name: "DeleteTableKeys", Method: "POST", URI: "/imprint/tables/{name}/delete-keys"},
	},
	Errors: map[string]int{
		"InvalidRequestException":        400,
		"AccessDeniedException":          403,
		"ResourceNotFoundException":      404,
		"ResourceAlreadyExistsException": 409,
		"ConflictException":              409,
		"LimitExceededException":         410,
		"InternalFailureException":       500,
	},
	Shapes: map[string]wire.Shape{
		"AccountName":    {Range: "1..128", Pattern: `[\w .@-]+`, RE2: `[\w .@-]+`},
		"AccountId":      {Range: "12..12", Pattern: `[0-9]+`},
		"Subject":        {Range: "1..4096"},
		"MaxResults":     {Range: "1..100"},
		"Name":           {Range: "1..64", Pattern: `[A-Za-z0-9_.-]+`, RE2: `[A-Za-z0-9_.-]+`},
		"NextToken":      {Range: "1..512"},
		"UserPoolId":     {Range: "1..55", Pattern: `[\w-]+_[0-9a-zA-Z]+`, RE2: `[\w-]+_[0-9a-zA-Z]+`},
		"Username":       {Range: "1..128"},
		"ImportJobId":    {Range: "1..55", Pattern: `import-[0-9a-zA-Z-]+`, RE2: `import-[0-9a-zA-Z-]+`},
		"MaxLines":       {Range: "1..1000"},
		"Milliseconds":   {Range: "100..10000"},
		"LogGroupName":   {Range: "1..512", Pattern: `[.\-_/#A-Za-z0-9]+`, RE2: `[.\-_/#A-Za-z0-9]+`},
		"Keys":           {Range: "1..1000"},
		"MaxKeys":        {Range: "1..1000"},
		"Templates":      {Range: "1..16"},
		"ClaimId":        {Range: "64..64", Pattern: `[a-f0-9]+`, RE2: `[a-f0-9]+`},
		"ThingName":      {Range: "1..128", Pattern: `[a-zA-Z0-9:_-]+`, RE2: `[a-zA-Z0-9:_-]+`},
		"OrphanKind":     {Enum: orphanKinds()},
		"Seconds":        {Range: "0..315360000"},
		"TemplateBody":   {Range: "1..65536"},
		"CertificatePem": {Range: "1..65536"},
		"RoleArn":        {Range: "20..2048"},
		"TemplateName":   {Range: "1..36", Pattern: `[0-9A-Za-z_-]+`, RE2: `[0-9A-Za-z_-]+`},
		"Topics":         {Range: "0..50"},
		"ApprovalId":     {Range: "36..36", Pattern: `[a-f0-9-]+`, RE2: `[a-f0-9-]+`},
		"PolicyFor":      {Enum: []string{"CLAIM", "INSTALLER"}},
		"QueueState":     {Enum: []string{"PENDING", "APPROVED", "DENIED", "USED"}},
	},
}

// CreateAccountInput asks for a new tenant; without AccountId a free one is drawn.
type CreateAccountInput struct {
	Name      string  `wire:"name,required" shape:"AccountName"`
	AccountId *string `wire:"accountId" shape:"AccountId"`
}

// CreateAccountOutput holds the key of the new account's administrator. It is shown this once.
type CreateAccountOutput struct {
	AccountId       string       `wire:"accountId,required"`
	AccessKeyId     string       `wire:"accessKeyId,required"`
	SecretAccessKey fleet.Secret `wire:"secretAccessKey,required"`
}

type ListAccountsInput struct{}

type ListAccountsOutput struct {
	Accounts []Account `wire:"accounts,required"`
}

type Account struct {
	AccountId    string    `wire:"accountId,required"`
	Name         string    `wire:"name,required"`
	CreationDate time.Time `wire:"creationDate,required"`
}

// ListTracesInput finds traces by trace id, thing, certificate id, claim id, client id or the value of a device's parameter;
// without Subject the newest are returned.
type ListTracesInput struct {
	Subject    *string `wire:"subject,querystring" shape:"Subject"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

type ListTracesOutput struct {
	Traces []Trace `wire:"traces,required"`
}

// Trace is one attempt, newest first.
type Trace struct {
	TraceId     string            `wire:"traceId,required"`
	Kind        string            `wire:"kind,required"`
	Start       time.Time         `wire:"start,required"`
	Microsecond int64             `wire:"durationMicroseconds,required"`
	Outcome     string            `wire:"outcome,required"`
	Code        string            `wire:"code,required"`
	Cause       string            `wire:"cause,required"`
	Cure        string            `wire:"cure,required"`
	Facts       map[string]string `wire:"facts,required"`
	Steps       []Step            `wire:"steps,required"`
}

// Step is one decision of an attempt, with its time since the start.
type Step struct {
	Microsecond int64  `wire:"atMicroseconds,required"`
	Name        string `wire:"name,required"`
	Text        string `wire:"text,required"`
}
