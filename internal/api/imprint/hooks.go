package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Functions that hooks call, and tables that rules ask. The rules are in package hook.

// PutFunctionInput says what the ARN of a function stands for. Webhooks take url and secret; functions of kind lambda url,
// functionName, region, accessKeyId and secret; rules take rule.
type PutFunctionInput struct {
	Name          string        `wire:"name,required,uri" shape:"Name"`
	Kind          string        `wire:"kind,required"`
	Url           *string       `wire:"url"`
	FunctionName  *string       `wire:"functionName"`
	Region        *string       `wire:"region"`
	AccessKeyId   *string       `wire:"accessKeyId"`
	Secret        *fleet.Secret `wire:"secret,sensitive"`
	Rule          *string       `wire:"rule"`
	TimeoutMillis *int          `wire:"timeoutMilliseconds" shape:"Milliseconds"`
}

// PutFunctionOutput has the secret if it was made by the service. It is shown this once.
type PutFunctionOutput struct {
	FunctionArn string        `wire:"functionArn,required"`
	Secret      *fleet.Secret `wire:"secret,sensitive"`
}

type ListFunctionsInput struct {
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

type ListFunctionsOutput struct {
	Functions []Function `wire:"functions,required"`
	NextToken *string    `wire:"nextToken"`
}

// Function is a function without its secret.
type Function struct {
	Name             string    `wire:"name,required"`
	FunctionArn      string    `wire:"functionArn,required"`
	Kind             string    `wire:"kind,required"`
	Url              *string   `wire:"url"`
	FunctionName     *string   `wire:"functionName"`
	Region           *string   `wire:"region"`
	AccessKeyId      *string   `wire:"accessKeyId"`
	Rule             *string   `wire:"rule"`
	TimeoutMillis    int       `wire:"timeoutMilliseconds,required"`
	LastModifiedDate time.Time `wire:"lastModifiedDate,required"`
}

type DeleteFunctionInput struct {
	Name string `wire:"name,required,uri" shape:"Name"`
}

type DeleteFunctionOutput struct{}

type CreateTableInput struct {
	Name string `wire:"name,required,uri" shape:"Name"`
}

// CreateTableOutput says whether there was no table of that name.
type CreateTableOutput struct {
	Created bool `wire:"created,required"`
}

type ListTablesInput struct {
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

type ListTablesOutput struct {
	Tables    []Table `wire:"tables,required"`
	NextToken *string `wire:"nextToken"`
}

type Table struct {
	Name         string    `wire:"name,required"`
	Keys         int       `wire:"keys,required"` // how many
	CreationDate time.Time `wire:"creationDate,required"`
}

type DeleteTableInput struct {
	Name string `wire:"name,required,uri" shape:"Name"`
}

type DeleteTableOutput struct{}

// PutTableKeysInput adds keys to a table. What was added stays if the request fails: the same request goes on.
type PutTableKeysInput struct {
	Name string   `wire:"name,required,uri" shape:"Name"`
	Keys []string `wire:"keys,required" shape:"Keys"`
}

// PutTableKeysOutput says how many keys were new.
type PutTableKeysOutput struct {
	Added int `wire:"added,required"`
}

type DeleteTableKeysInput struct {
	Name string   `wire:"name,required,uri" shape:"Name"`
	Keys []string `wire:"keys,required" shape:"Keys"`
}

// DeleteTableKeysOutput says how many of the keys there were.
type DeleteTableKeysOutput struct {
	Removed int `wire:"removed,required"`
}

type ListTableKeysInput struct {
	Name       string  `wire:"name,required,uri" shape:"Name"`
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxKeys"`
}

type ListTableKeysOutput struct {
	Keys      []string `wire:"keys,required"`
	NextToken *string  `wire:"nextToken"`
}

func function(s fleet.Scope, name string) []string {
	return []string{s.ARN("imprint", "function/"+name)}
}
func table(s fleet.Scope, name string) []string { return []string{s.ARN("imprint", "table/"+name)} }

func scopeOf(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

// list begins or continues a list of this service.
func list(ctx context.Context, token *string, limit *int, question ...string) (wire.Listing, error) {
	s := scopeOf(ctx)
	l, ok := wire.NewListing(token, limit, 100, append([]string{s.Account, s.Region}, question...)...)
	if !ok {
		return l, fleet.Invalid("nextToken", *token, "does not continue this list; begin without one")
	}
	return l, nil
}

func (a *api) putFunction(ctx context.Context, in *PutFunctionInput) (*PutFunctionOutput, error) {
	f, made, err := a.Hooks.PutFunction(ctx, scopeOf(ctx), hook.NewFunction{Secret: wire.Value(in.Secret), Function: fleet.Function{
		Name: in.Name, Kind: fleet.FunctionKind(in.Kind), URL: wire.Value(in.Url), Remote: wire.Value(in.FunctionName), Region: wire.Value(in.Region),
		AccessKeyID: wire.Value(in.AccessKeyId), Rule: wire.Value(in.Rule), Timeout: time.Duration(wire.Value(in.TimeoutMillis)) * time.Millisecond}})
	if err != nil {
		return nil, err
	}
	out := &PutFunctionOutput{FunctionArn: lambdaARN(ctx, f.Name)}
	if made != "" {
		out.Secret = &made
	}
	return out, nil
}

func lambdaARN(ctx context.Context, name string) string {
	return scopeOf(ctx).ARN("lambda", "function:"+name)
}

func (a *api) listFunctions(ctx context.Context, in *ListFunctionsInput) (*ListFunctionsOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListFunctions")
	if err != nil {
		return nil, err
	}
	out := &ListFunctionsOutput{Functions: []Function{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		list, next, err := tx.Functions(scopeOf(ctx), l.Page)
		for _, f := range list {
			out.Functions = append(out.Functions, Function{f.Name, lambdaARN(ctx, f.Name), string(f.Kind), wire.Optional(f.URL), wire.Optional(f.Remote), wire.Optional(f.Region),
				wire.Optional(f.AccessKeyID), wire.Optional(f.Rule), int(f.Timeout.Milliseconds()), f.Modified})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}

func (a *api) deleteFunction(ctx context.Context, in *DeleteFunctionInput) (*DeleteFunctionOutput, error) {
	return nil, a.Hooks.DeleteFunction(ctx, scopeOf(ctx), in.Name)
}

func (a *api) createTable(ctx context.Context, in *CreateTableInput) (*CreateTableOutput, error) {
	created, err := a.Hooks.CreateTable(ctx, scopeOf(ctx), in.Name)
	return &CreateTableOutput{created}, err
}

func (a *api) listTables(ctx context.Context, in *ListTablesInput) (*ListTablesOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListTables")
	if err != nil {
		return nil, err
	}
	out := &ListTablesOutput{Tables: []Table{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		list, next, err := tx.Tables(scopeOf(ctx), l.Page)
		for _, t := range list {
			out.Tables = append(out.Tables, Table{t.Name, t.Size, t.Created})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}

func (a *api) deleteTable(ctx context.Context, in *DeleteTableInput) (*DeleteTableOutput, error) {
	return nil, a.Hooks.DeleteTable(ctx, scopeOf(ctx), in.Name)
}

func (a *api) putTableKeys(ctx context.Context, in *PutTableKeysInput) (*PutTableKeysOutput, error) {
	n, err := a.Hooks.AddKeys(ctx, scopeOf(ctx), in.Name, in.Keys)
	return &PutTableKeysOutput{n}, err
}

func (a *api) deleteTableKeys(ctx context.Context, in *DeleteTableKeysInput) (*DeleteTableKeysOutput, error) {
	n, err := a.Hooks.RemoveKeys(ctx, scopeOf(ctx), in.Name, in.Keys)
	return &DeleteTableKeysOutput{n}, err
}

func (a *api) listTableKeys(ctx context.Context, in *ListTableKeysInput) (*ListTableKeysOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListTableKeys", in.Name)
	if err != nil {
		return nil, err
	}
	out := &ListTableKeysOutput{Keys: []string{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		list, next, err := tx.TableKeys(scopeOf(ctx), in.Name, l.Page)
		out.Keys = append(out.Keys, list...)
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}
