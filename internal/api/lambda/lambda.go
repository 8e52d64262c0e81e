// Package lambda is the edge of AWS Lambda's control plane and of Invoke, for the functions that this server runs itself: it turns the
// wire's structs into calls of the rules (internal/lambda) and their answers back.
//
// Begin with Service, the table of operations. configuration.go says how a function looks on the wire. Structs and constraints are in
// model.gen.go, which is generated.
package lambda

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/wire"
)

type api struct{ functions *lambda.Service }

// maxRequest is AWS's: 50 MiB in base64 and a little more.
const maxRequest = 70167211

// Service makes the table.
func Service(functions *lambda.Service) *wire.Service {
	a := &api{functions}
	return wire.NewService(Model, []wire.Row{
		wire.Do("CreateFunction", a.createFunction).Body(maxRequest).On(func(s fleet.Scope, in *CreateFunctionInput) []string { return resource(s, in.FunctionName, nil) }).
			Conditions(func(_ fleet.Scope, in *CreateFunctionInput) map[string][]string { return tagConditions(in.Tags) }).
			Refuse("CodeSigningConfigArn", "DeadLetterConfig", "FileSystemConfigs", "ImageConfig", "LoggingConfig", "SnapStart"),
		wire.Do("UpdateFunctionCode", a.updateFunctionCode).Body(maxRequest).On(func(s fleet.Scope, in *UpdateFunctionCodeInput) []string { return resource(s, in.FunctionName, nil) }),
		wire.Do("UpdateFunctionConfiguration", a.updateFunctionConfiguration).
			On(func(s fleet.Scope, in *UpdateFunctionConfigurationInput) []string {
				return resource(s, in.FunctionName, nil)
			}).
			Refuse("DeadLetterConfig", "FileSystemConfigs", "ImageConfig", "LoggingConfig", "SnapStart"),
		wire.Do("GetFunction", a.getFunction).On(func(s fleet.Scope, in *GetFunctionInput) []string { return resource(s, in.FunctionName, in.Qualifier) }),
		wire.Do("GetFunctionConfiguration", a.getFunctionConfiguration).
			On(func(s fleet.Scope, in *GetFunctionConfigurationInput) []string {
				return resource(s, in.FunctionName, in.Qualifier)
			}),
		wire.Do("ListFunctions", a.listFunctions).Refuse("MasterRegion"),
		wire.Do("DeleteFunction", a.deleteFunction).On(func(s fleet.Scope, in *DeleteFunctionInput) []string {
			return resource(s, in.FunctionName, in.Qualifier)
		}),
		wire.Do("Invoke", a.invoke).Action("InvokeFunction").Body(function.MaxPayload).Lasts(function.MaxTimeout).
			On(func(s fleet.Scope, in *InvokeInput) []string { return resource(s, in.FunctionName, in.Qualifier) }).
			Refuse("ClientContext"),

		wire.Do("AddPermission", a.addPermission).On(func(s fleet.Scope, in *AddPermissionInput) []string {
			return resource(s, in.FunctionName, in.Qualifier)
		}).
			Conditions(func(_ fleet.Scope, in *AddPermissionInput) map[string][]string {
				return map[string][]string{"lambda:Principal": {in.Principal}}
			}).
			Refuse("EventSourceToken", "FunctionUrlAuthType", "PrincipalOrgID"),
		wire.Do("RemovePermission", a.removePermission).On(func(s fleet.Scope, in *RemovePermissionInput) []string {
			return resource(s, in.FunctionName, in.Qualifier)
		}),
		wire.Do("GetPolicy", a.getPolicy).On(func(s fleet.Scope, in *GetPolicyInput) []string { return resource(s, in.FunctionName, in.Qualifier) }),

		wire.Do("TagResource", a.tagResource).On(func(s fleet.Scope, in *TagResourceInput) []string { return resource(s, in.Resource, nil) }).
			Conditions(func(_ fleet.Scope, in *TagResourceInput) map[string][]string { return tagConditions(in.Tags) }),
		wire.Do("UntagResource", a.untagResource).On(func(s fleet.Scope, in *UntagResourceInput) []string { return resource(s, in.Resource, nil) }).
			Conditions(func(_ fleet.Scope, in *UntagResourceInput) map[string][]string {
				return map[string][]string{"aws:TagKeys": in.TagKeys}
			}),
		wire.Do("ListTags", a.listTags).On(func(s fleet.Scope, in *ListTagsInput) []string { return resource(s, in.Resource, nil) }),

		// What AWS CLI, Terraform and CDK ask of every function.
		wire.Do("ListVersionsByFunction", a.listVersions).On(func(s fleet.Scope, in *ListVersionsByFunctionInput) []string {
			return resource(s, in.FunctionName, nil)
		}),
		wire.Do("ListAliases", a.listAliases).On(func(s fleet.Scope, in *ListAliasesInput) []string { return resource(s, in.FunctionName, nil) }),
		wire.Do("GetFunctionCodeSigningConfig", a.getCodeSigning).
			On(func(s fleet.Scope, in *GetFunctionCodeSigningConfigInput) []string {
				return resource(s, in.FunctionName, nil)
			}),
		wire.Do("GetFunctionConcurrency", a.getConcurrency).On(func(s fleet.Scope, in *GetFunctionConcurrencyInput) []string {
			return resource(s, in.FunctionName, nil)
		}),
		wire.Do("GetRuntimeManagementConfig", a.getRuntimeManagement).
			On(func(s fleet.Scope, in *GetRuntimeManagementConfigInput) []string {
				return resource(s, in.FunctionName, in.Qualifier)
			}),
	}, wire.ErrorTable{
		fleet.KindInternal:    "ServiceException",
		fleet.KindInvalid:     "InvalidParameterValueException",
		fleet.KindNotFound:    "ResourceNotFoundException",
		fleet.KindExists:      "ResourceConflictException",
		fleet.KindConflict:    "ResourceConflictException",
		fleet.KindVersion:     "PreconditionFailedException",
		fleet.KindLimit:       "CodeStorageExceededException",
		fleet.KindThrottled:   "TooManyRequestsException",
		fleet.KindUnavailable: "ServiceException",
	})
}

// A reference is how a request names a function: by its name, by 000000000000:function:NAME or by its ARN, all perhaps with :QUALIFIER.
type reference struct {
	arn       string // of the function
	name      string
	qualifier string
	foreign   bool // of another account or region
}

func refer(s fleet.Scope, text string, qualifier *string) reference {
	of, rest := s, text
	if a, ok := fleet.ParseARN(text); ok {
		of, rest = fleet.Scope{Account: a.Account, Region: a.Region}, a.Resource
	} else if account, after, ok := strings.Cut(text, ":function:"); ok {
		of.Account, rest = account, after
	}
	name, q, _ := strings.Cut(strings.TrimPrefix(rest, "function:"), ":")
	if q == "" {
		q = wire.Value(qualifier)
	}
	return reference{lambda.ARN(of, name), name, q, of != s}
}

// resource is what IAM decides on.
func resource(s fleet.Scope, text string, qualifier *string) []string {
	r := refer(s, text, qualifier)
	if r.qualifier != "" {
		return []string{r.arn + ":" + r.qualifier}
	}
	return []string{r.arn}
}

// named returns the name of the function that a request means. Functions have one version, $LATEST.
func named(ctx context.Context, text string, qualifier *string) (string, error) {
	r := refer(scope(ctx), text, qualifier)
	missing := r.arn
	switch {
	case r.foreign:
	case r.qualifier != "" && r.qualifier != lambda.Latest:
		missing += ":" + r.qualifier
	default:
		return r.name, nil
	}
	return "", &fleet.Error{Kind: fleet.KindNotFound, Msg: "Function not found: " + missing}
}

func scope(ctx context.Context) fleet.Scope { return fleet.CallerFrom(ctx).Scope }

func tagConditions(tags map[string]string) map[string][]string {
	c := map[string][]string{}
	for key, value := range tags {
		c["aws:RequestTag/"+key] = []string{value}
	}
	if len(tags) > 0 {
		c["aws:TagKeys"] = slices.Sorted(maps.Keys(tags))
	}
	return c
}

// notOffered refuses what is not offered here, where a request sets it to something.
func notOffered(members map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if members[name] {
			return fleet.Invalid("", "", "%s is not offered by this server: leave it out", name)
		}
	}
	return nil
}

func (a *api) createFunction(ctx context.Context, in *CreateFunctionInput) (*CreateFunctionOutput, error) {
	name, err := named(ctx, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	c := in.Code
	if err := notOffered(map[string]bool{"PackageType Image": wire.Value(in.PackageType) == "Image", "Publish": wire.Value(in.Publish),
		"Code.ImageUri": c.ImageUri != nil, "Code.S3Bucket": fromS3(c.S3Bucket, c.S3Key, c.S3ObjectVersion)}); err != nil {
		return nil, zipHint(err, c.ZipFile)
	}
	if err := unusual(in.KMSKeyArn, in.Layers, in.TracingConfig, in.VpcConfig); err != nil {
		return nil, err
	}
	f, err := a.functions.Create(ctx, name, c.ZipFile, changeOf(&in.Role, in.Runtime, in.Handler, in.Description, in.Timeout, in.MemorySize, in.EphemeralStorage, in.Environment, in.Architectures), in.Tags)
	if err != nil {
		return nil, err
	}
	return a.configuration(ctx, f)
}

func fromS3(members ...*string) bool {
	return slices.ContainsFunc(members, func(m *string) bool { return m != nil })
}

// zipHint adds to a refusal of another source of code how to give it.
func zipHint(err error, zip []byte) error {
	if len(zip) > 0 {
		return err
	}
	return fleet.Invalid("", "", "%v. Give the code as ZipFile: aws lambda … --zip-file fileb://code.zip, or imprint function create NAME --folder DIR", err)
}

// unusual refuses settings that say something other than their absence would.
func unusual(key *string, layers []string, tracing *TracingConfig, vpc *VpcConfig) error {
	return notOffered(map[string]bool{"KMSKeyArn": wire.Value(key) != "", "Layers": len(layers) > 0,
		"TracingConfig.Mode Active": tracing != nil && wire.Value(tracing.Mode) == "Active", "VpcConfig": vpc != nil && (len(vpc.SubnetIds)+len(vpc.SecurityGroupIds) > 0 || wire.Value(vpc.Ipv6AllowedForDualStack))})
}

func changeOf(role, runtime, handler, description *string, timeout, memory *int, storage *EphemeralStorage, environment *Environment, architectures []string) lambda.Change {
	c := lambda.Change{Role: role, Runtime: runtime, Handler: handler, Description: description, Memory: memory}
	if timeout != nil {
		c.Timeout = new(time.Duration(*timeout) * time.Second)
	}
	if storage != nil {
		c.Storage = &storage.Size
	}
	if environment != nil {
		c.Environment = map[string]string{}
		for name, value := range environment.Variables {
			c.Environment[name] = value.Reveal()
		}
	}
	if len(architectures) > 0 {
		c.Architecture = &architectures[0]
	}
	return c
}

func (a *api) updateFunctionCode(ctx context.Context, in *UpdateFunctionCodeInput) (*UpdateFunctionCodeOutput, error) {
	name, err := named(ctx, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := notOffered(map[string]bool{"Publish": wire.Value(in.Publish), "ImageUri": in.ImageUri != nil,
		"S3Bucket": fromS3(in.S3Bucket, in.S3Key, in.S3ObjectVersion)}); err != nil {
		return nil, zipHint(err, in.ZipFile)
	}
	var architecture *string
	if len(in.Architectures) > 0 {
		architecture = &in.Architectures[0]
	}
	f, err := a.functions.UpdateCode(ctx, name, in.ZipFile, architecture, wire.Value(in.RevisionId), wire.Value(in.DryRun))
	if err != nil {
		return nil, err
	}
	return a.configuration(ctx, f)
}

func (a *api) updateFunctionConfiguration(ctx context.Context, in *UpdateFunctionConfigurationInput) (*UpdateFunctionConfigurationOutput, error) {
	name, err := named(ctx, in.FunctionName, nil)
	if err == nil {
		err = unusual(in.KMSKeyArn, in.Layers, in.TracingConfig, in.VpcConfig)
	}
	if err != nil {
		return nil, err
	}
	c := changeOf(in.Role, in.Runtime, in.Handler, in.Description, in.Timeout, in.MemorySize, in.EphemeralStorage, in.Environment, nil)
	c.Revision = wire.Value(in.RevisionId)
	f, err := a.functions.UpdateConfiguration(ctx, name, c)
	if err != nil {
		return nil, err
	}
	return a.configuration(ctx, f)
}

func (a *api) deleteFunction(ctx context.Context, in *DeleteFunctionInput) (*DeleteFunctionOutput, error) {
	name, err := named(ctx, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if refer(scope(ctx), in.FunctionName, in.Qualifier).qualifier != "" {
		return nil, fleet.Invalid("", "", "$LATEST version cannot be deleted without deleting the function.")
	}
	return nil, a.functions.Delete(ctx, name)
}
