package imprint

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Administrators gives a new account its first user and key.
type Administrators interface {
	Bootstrap(ctx context.Context, scope fleet.Scope) (accessKeyID string, secret fleet.Secret, err error)
}

// Config says what the edge stands on.
type Config struct {
	Store     *store.DB
	Admins    Administrators
	Hooks     *hook.Service
	Functions *lambda.Service
	Logs      *logs.Service
	Provision *provision.Service
	Pools     *userpool.Service
	Home      fleet.Scope // only its callers may make accounts and see their list
}

type api struct{ Config }

// Service makes the table.
func Service(cfg Config) *wire.Service {
	a := &api{cfg}
	return wire.NewService(Model, append(a.guardRows(), []wire.Row{
		wire.Do("CreateAccount", a.createAccount),
		wire.Do("ListAccounts", a.listAccounts),
		wire.Do("ListTraces", a.listTraces),
		wire.Do("ListLogs", a.listLogs),
		wire.Do("ReadLog", a.readLog).On(func(s fleet.Scope, in *ReadLogInput) []string { return logGroup(s, in.GroupName) }),
		wire.Do("KeepLog", a.keepLog).On(func(s fleet.Scope, in *KeepLogInput) []string { return logGroup(s, in.GroupName) }),
		wire.Do("DeleteLog", a.deleteLog).On(func(s fleet.Scope, in *DeleteLogInput) []string { return logGroup(s, in.GroupName) }),
		wire.Do("GetClaimPolicy", a.getClaimPolicy).On(func(s fleet.Scope, in *GetClaimPolicyInput) []string { return templates(s, in.TemplateNames...) }),
		wire.Do("ReportClaim", a.reportClaim).On(func(s fleet.Scope, in *ReportClaimInput) []string { return claim(s, in.ClaimId) }),
		wire.Do("ContainClaim", a.containClaim).On(func(s fleet.Scope, in *ContainClaimInput) []string { return claim(s, in.ClaimId) }),
		wire.Do("DeprovisionThing", a.deprovisionThing).On(func(s fleet.Scope, in *DeprovisionThingInput) []string { return []string{s.IoT("thing", in.ThingName)} }),
		wire.Do("ListOrphans", a.listOrphans),
		wire.Do("GetExpiryForecast", a.getExpiryForecast),
		wire.Do("ListExpiringCertificates", a.listExpiringCertificates),
		wire.Do("LintTemplate", a.lintTemplate).On(func(s fleet.Scope, in *LintTemplateInput) []string { return draftOf(s, in.TemplateName) }),
		wire.Do("TryTemplate", a.tryTemplate).On(func(s fleet.Scope, in *TryTemplateInput) []string { return draftOf(s, in.TemplateName) }),
		wire.Do("TryTemplateWithHook", a.tryTemplateWithHook).On(func(s fleet.Scope, in *TryTemplateInput) []string { return draftOf(s, in.TemplateName) }),
		wire.Do("PutFunction", a.putFunction).On(func(s fleet.Scope, in *PutFunctionInput) []string { return function(s, in.Name) }),
		wire.Do("ListFunctions", a.listFunctions),
		wire.Do("DeleteFunction", a.deleteFunction).On(func(s fleet.Scope, in *DeleteFunctionInput) []string { return function(s, in.Name) }),
		wire.Do("GetFunctionLogs", a.getFunctionLogs).On(func(s fleet.Scope, in *GetFunctionLogsInput) []string { return function(s, in.Name) }),
		wire.Do("ResetSoftwareToken", a.resetSoftwareToken).On(func(s fleet.Scope, in *ResetSoftwareTokenInput) []string { return userPool(s, in.UserPoolId) }),
		wire.Do("GetUserImportLog", a.getUserImportLog).On(func(s fleet.Scope, in *GetUserImportLogInput) []string { return userPool(s, in.UserPoolId) }),
		wire.Do("CreateTable", a.createTable).On(func(s fleet.Scope, in *CreateTableInput) []string { return table(s, in.Name) }),
		wire.Do("ListTables", a.listTables),
		wire.Do("DeleteTable", a.deleteTable).On(func(s fleet.Scope, in *DeleteTableInput) []string { return table(s, in.Name) }),
		wire.Do("PutTableKeys", a.putTableKeys).On(func(s fleet.Scope, in *PutTableKeysInput) []string { return table(s, in.Name) }),
		wire.Do("ListTableKeys", a.listTableKeys).On(func(s fleet.Scope, in *ListTableKeysInput) []string { return table(s, in.Name) }),
		wire.Do("RotateUserPoolKeys", a.rotateUserPoolKeys).On(func(s fleet.Scope, in *RotateUserPoolKeysInput) []string { return userPool(s, in.UserPoolId) }),
		wire.Do("DeleteTableKeys", a.deleteTableKeys).On(func(s fleet.Scope, in *DeleteTableKeysInput) []string { return table(s, in.Name) }),
	}...), wire.ErrorTable{
		fleet.KindInvalid:  "InvalidRequestException",
		fleet.KindExists:   "ResourceAlreadyExistsException",
		fleet.KindNotFound: "ResourceNotFoundException",
		fleet.KindLimit:    "LimitExceededException",
		fleet.KindState:    "ConflictException",
	})
}

// home refuses callers of other accounts, whatever their own policies say.
func (a *api) home(ctx context.Context) error {
	if c := fleet.CallerFrom(ctx); c.Scope.Account != a.Home.Account {
		return fleet.Denied("accounts are managed from account %s alone", a.Home.Account)
	}
	return nil
}

func (a *api) createAccount(ctx context.Context, in *CreateAccountInput) (*CreateAccountOutput, error) {
	if err := a.home(ctx); err != nil {
		return nil, err
	}
	id := wire.Value(in.AccountId)
	if id == "" {
		id = fleet.RandomString(12, fleet.AlphaDigits)
	}
	if err := a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.CreateAccount(id, in.Name) }); err != nil {
		return nil, err
	}
	key, secret, err := a.Admins.Bootstrap(ctx, fleet.Scope{Account: id, Region: a.Home.Region})
	if err != nil {
		return nil, err
	}
	return &CreateAccountOutput{AccountId: id, AccessKeyId: key, SecretAccessKey: secret}, nil
}

func (a *api) listAccounts(ctx context.Context, _ *ListAccountsInput) (*ListAccountsOutput, error) {
	if err := a.home(ctx); err != nil {
		return nil, err
	}
	out := &ListAccountsOutput{Accounts: []Account{}}
	err := a.Store.View(ctx, func(tx *store.Tx) error {
		accounts, err := tx.Accounts()
		for _, acc := range accounts {
			out.Accounts = append(out.Accounts, Account{AccountId: acc.ID, Name: acc.Name, CreationDate: acc.Created})
		}
		return err
	})
	return out, err
}
