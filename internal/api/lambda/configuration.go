package lambda

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// configuration shows a function as AWS does. What it does not offer has the value that AWS gives for its absence.
func (a *api) configuration(ctx context.Context, f fleet.LocalFunction) (*FunctionConfiguration, error) {
	arn := lambda.ARN(scope(ctx), f.Name)
	digest, err := hex.DecodeString(f.Code.Digest)
	if err != nil {
		return nil, err
	}
	out := &FunctionConfiguration{FunctionName: &f.Name, FunctionArn: &arn, Runtime: &f.Runtime, Handler: &f.Handler, Role: &f.Role, Description: &f.Description,
		Timeout: new(int(f.Timeout / time.Second)), MemorySize: &f.Memory, EphemeralStorage: &EphemeralStorage{Size: f.Storage}, Architectures: []string{f.Architecture},
		CodeSize: &f.Code.Size, CodeSha256: new(base64.StdEncoding.EncodeToString(digest)), RevisionId: &f.Revision,
		LastModified: new(f.Modified.UTC().Format("2006-01-02T15:04:05.000-0700")), Version: new(lambda.Latest), PackageType: new("Zip"),
		State: new("Active"), LastUpdateStatus: new("Successful"), TracingConfig: &TracingConfigResponse{Mode: new("PassThrough")},
		SnapStart:     &SnapStartResponse{ApplyOn: new("None"), OptimizationStatus: new("Off")},
		LoggingConfig: &LoggingConfig{LogFormat: new("Text"), LogGroup: new("/aws/lambda/" + f.Name)}}
	variables, err := a.functions.Environment(scope(ctx), f)
	if len(variables) > 0 {
		out.Environment = &EnvironmentResponse{Variables: map[string]fleet.Secret{}}
		for name, value := range variables {
			out.Environment.Variables[name] = fleet.Secret(value)
		}
	}
	return out, err
}

// function returns the function that a request means.
func (a *api) function(ctx context.Context, text string, qualifier *string) (fleet.LocalFunction, error) {
	name, err := named(ctx, text, qualifier)
	if err != nil {
		return fleet.LocalFunction{}, err
	}
	return a.functions.Function(ctx, name)
}

func (a *api) getFunction(ctx context.Context, in *GetFunctionInput) (*GetFunctionOutput, error) {
	f, err := a.function(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	c, err := a.configuration(ctx, f)
	if err != nil {
		return nil, err
	}
	tags, err := a.functions.Tags(ctx, f.Name)
	if len(tags) == 0 {
		tags = nil
	}
	// There is no link to the code: RepositoryType says where AWS would have it.
	return &GetFunctionOutput{Configuration: c, Code: &FunctionCodeLocation{RepositoryType: new("S3")}, Tags: tags}, err
}

func (a *api) getFunctionConfiguration(ctx context.Context, in *GetFunctionConfigurationInput) (*GetFunctionConfigurationOutput, error) {
	f, err := a.function(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return a.configuration(ctx, f)
}

const usualPage = 50

func (a *api) listFunctions(ctx context.Context, in *ListFunctionsInput) (*ListFunctionsOutput, error) {
	s := scope(ctx)
	// FunctionVersion ALL lists all versions, of which each function has one.
	l, ok := wire.NewListing(in.Marker, in.MaxItems, usualPage, s.String(), "ListFunctions")
	if !ok {
		return nil, fleet.Invalid("", "", "Invalid Marker: it does not continue this list; begin without one")
	}
	l.Limit = min(l.Limit, usualPage) // as in AWS
	out := &ListFunctionsOutput{Functions: []FunctionConfiguration{}}
	var list []fleet.LocalFunction
	var next string
	if err := a.functions.View(ctx, func(tx *store.Tx) (err error) {
		list, next, err = tx.LocalFunctions(s, l.Page)
		return err
	}); err != nil {
		return nil, err
	}
	for _, f := range list {
		c, err := a.configuration(ctx, f)
		if err != nil {
			return nil, err
		}
		if in.FunctionVersion != nil {
			c.FunctionArn = new(*c.FunctionArn + ":" + lambda.Latest)
		}
		// As in AWS, a list leaves these out.
		c.State, c.LastUpdateStatus = nil, nil
		out.Functions = append(out.Functions, *c)
	}
	out.NextMarker = l.Token(next)
	return out, nil
}

func (a *api) listVersions(ctx context.Context, in *ListVersionsByFunctionInput) (*ListVersionsByFunctionOutput, error) {
	f, err := a.function(ctx, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := onePage(in.Marker); err != nil {
		return nil, err
	}
	c, err := a.configuration(ctx, f)
	if err != nil {
		return nil, err
	}
	c.FunctionArn = new(*c.FunctionArn + ":" + lambda.Latest)
	c.State, c.LastUpdateStatus = nil, nil
	return &ListVersionsByFunctionOutput{Versions: []FunctionConfiguration{*c}}, nil
}

// onePage refuses to continue a list that never goes on.
func onePage(marker *string) error {
	if wire.Value(marker) != "" {
		return fleet.Invalid("", "", "Invalid Marker: it does not continue this list; begin without one")
	}
	return nil
}

func (a *api) listAliases(ctx context.Context, in *ListAliasesInput) (*ListAliasesOutput, error) {
	if _, err := a.function(ctx, in.FunctionName, nil); err != nil {
		return nil, err
	}
	return &ListAliasesOutput{Aliases: []AliasConfiguration{}}, onePage(in.Marker)
}

func (a *api) getCodeSigning(ctx context.Context, in *GetFunctionCodeSigningConfigInput) (*GetFunctionCodeSigningConfigOutput, error) {
	f, err := a.function(ctx, in.FunctionName, nil)
	return &GetFunctionCodeSigningConfigOutput{FunctionName: f.Name}, err
}

func (a *api) getConcurrency(ctx context.Context, in *GetFunctionConcurrencyInput) (*GetFunctionConcurrencyOutput, error) {
	_, err := a.function(ctx, in.FunctionName, nil)
	return nil, err
}

func (a *api) getRuntimeManagement(ctx context.Context, in *GetRuntimeManagementConfigInput) (*GetRuntimeManagementConfigOutput, error) {
	f, err := a.function(ctx, in.FunctionName, in.Qualifier)
	return &GetRuntimeManagementConfigOutput{UpdateRuntimeOn: new("Auto"), FunctionArn: new(lambda.ARN(scope(ctx), f.Name))}, err
}

func (a *api) listTags(ctx context.Context, in *ListTagsInput) (*ListTagsOutput, error) {
	name, err := named(ctx, in.Resource, nil)
	if err != nil {
		return nil, err
	}
	tags, err := a.functions.Tags(ctx, name)
	return &ListTagsOutput{Tags: tags}, err
}

func (a *api) tagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	name, err := named(ctx, in.Resource, nil)
	if err != nil {
		return nil, err
	}
	return nil, a.functions.Tag(ctx, name, in.Tags, nil)
}

func (a *api) untagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	name, err := named(ctx, in.Resource, nil)
	if err != nil {
		return nil, err
	}
	return nil, a.functions.Tag(ctx, name, nil, in.TagKeys)
}
