package compat

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func (s *site) lambdaSDK(t *testing.T) *lambda.Client {
	t.Helper()
	return lambda.New(lambda.Options{Region: s.get("AWS_REGION"), HTTPClient: s.httpClient(t), BaseEndpoint: aws.String(s.get("AWS_ENDPOINT_URL")), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(s.get("AWS_ACCESS_KEY_ID"), s.get("AWS_SECRET_ACCESS_KEY"), "")})
}

// zipped is a zip file with app.py: echo, of a version.
func zipped(t *testing.T, version string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create("app.py")
	check(t, err)
	_, err = f.Write([]byte(strings.Replace(echo, "VERSION", version, 1)))
	check(t, err)
	check(t, z.Close())
	return b.Bytes()
}

// functionRole makes a role that functions may have and returns its ARN.
func functionRole(t *testing.T, s *site) string {
	t.Helper()
	out, err := s.adminSDK(t).iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("fn"), AssumeRolePolicyDocument: aws.String(lambdaTrust)})
	check(t, err)
	return *out.Role.Arn
}

// The calls are those of Terraform's aws_lambda_function and aws_lambda_permission, in their order and with what they set, and what is
// asserted after a read is what they take from it into their state (terraform-provider-aws, internal/service/lambda, function.go and
// permission.go as of November 2026): the provider itself was not run. Invocation, paging and the SDK's waiters come in between.
func TestTheSDKForGoManagesFunctionsAsTerraformDoes(t *testing.T) {
	t.Parallel()
	s, ctx := functionServer(t), t.Context()
	role, c := functionRole(t, s), s.lambdaSDK(t)
	name := aws.String("echo")
	blue := map[string]string{"COLOR": "blue"}
	create := &lambda.CreateFunctionInput{FunctionName: name, Code: &lambdatypes.FunctionCode{ZipFile: zipped(t, "1")}, Description: aws.String(""), MemorySize: aws.Int32(128),
		PackageType: lambdatypes.PackageTypeZip, Role: &role, Timeout: aws.Int32(3), Handler: aws.String("app.lambda_handler"), Runtime: lambdatypes.RuntimePython312,
		Environment: &lambdatypes.Environment{Variables: blue}, Tags: map[string]string{"site": "plant"}}
	made, err := c.CreateFunction(ctx, create)
	check(t, err)

	// read is the provider's read of the resource.
	read := func(color string, timeout int32) *lambda.GetFunctionOutput {
		t.Helper()
		out, err := c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
		check(t, err)
		f := out.Configuration
		if out.Code == nil || out.Code.SourceKMSKeyArn != nil || out.Code.ImageUri != nil || out.Concurrency != nil || out.Tags["site"] != "plant" {
			t.Errorf("read %+v, code %+v", out, out.Code)
		}
		if *f.FunctionArn != functionARN("us-east-1", "echo") || f.CodeSha256 == nil || f.CodeSize == 0 || *f.Description != "" || *f.Handler != "app.lambda_handler" || *f.MemorySize != 128 ||
			f.PackageType != lambdatypes.PackageTypeZip || *f.Role != role || f.Runtime != lambdatypes.RuntimePython312 || *f.Timeout != timeout || f.Environment.Variables["COLOR"] != color {
			t.Errorf("read %+v", f)
		}
		if !slices.Equal(f.Architectures, []lambdatypes.Architecture{lambdatypes.ArchitectureX8664}) || f.EphemeralStorage == nil || *f.EphemeralStorage.Size != 512 ||
			f.DeadLetterConfig != nil || f.DurableConfig != nil || f.KMSKeyArn != nil || len(f.Layers) != 0 || len(f.FileSystemConfigs) != 0 || f.ImageConfigResponse != nil ||
			f.TracingConfig != nil && f.TracingConfig.Mode != lambdatypes.TracingModePassThrough ||
			f.SnapStart != nil && f.SnapStart.ApplyOn != lambdatypes.SnapStartApplyOnNone || f.VpcConfig != nil && len(f.VpcConfig.SubnetIds) != 0 {
			t.Errorf("what was not set reads back as %+v", f)
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000-0700", *f.LastModified); err != nil {
			t.Error(err)
		}
		versions, err := c.ListVersionsByFunction(ctx, &lambda.ListVersionsByFunctionInput{FunctionName: name, MaxItems: aws.Int32(10000)})
		check(t, err)
		if n := len(versions.Versions); n != 1 || *versions.Versions[0].Version != "$LATEST" || versions.NextMarker != nil {
			t.Errorf("%d versions: %+v", n, versions.Versions)
		}
		signing, err := c.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: name})
		check(t, err)
		if aws.ToString(signing.CodeSigningConfigArn) != "" {
			t.Errorf("signing %+v", signing)
		}
		return out
	}
	// updated waits as the provider does, and by both generations of the SDK's waiters.
	updated := func() {
		t.Helper()
		f, err := c.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: name})
		check(t, err)
		if f.LastUpdateStatus != lambdatypes.LastUpdateStatusSuccessful || f.State != lambdatypes.StateActive {
			t.Errorf("%s, %s", f.State, f.LastUpdateStatus)
		}
		check(t, lambda.NewFunctionUpdatedWaiter(c).Wait(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: name}, time.Minute))
		check(t, lambda.NewFunctionUpdatedV2Waiter(c).Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, time.Minute))
	}
	check(t, lambda.NewFunctionExistsWaiter(c).Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, time.Minute))
	check(t, lambda.NewFunctionActiveV2Waiter(c).Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, time.Minute))
	if got := read("blue", 3); *got.Configuration.CodeSha256 != *made.CodeSha256 {
		t.Errorf("code %s, then %s", *made.CodeSha256, *got.Configuration.CodeSha256)
	}

	arn := "arn:aws:iot:us-east-1:" + account + ":provisioningtemplate/lamps"
	_, err = c.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: name, StatementId: aws.String("AllowIoT"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("iot.amazonaws.com"), SourceAccount: aws.String(account), SourceArn: &arn})
	check(t, err)
	document, err := c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: name})
	check(t, err)
	st := must[struct {
		Statement []struct {
			Sid, Effect, Action, Resource string
			Principal                     struct{ Service string }
			Condition                     map[string]map[string]string
		}
	}](t, *document.Policy).Statement
	if len(st) != 1 || st[0].Sid != "AllowIoT" || st[0].Effect != "Allow" || st[0].Action != "lambda:InvokeFunction" || st[0].Resource != *made.FunctionArn || st[0].Principal.Service != "iot.amazonaws.com" ||
		st[0].Condition["StringEquals"]["AWS:SourceAccount"] != account || st[0].Condition["ArnLike"]["AWS:SourceArn"] != arn {
		t.Errorf("policy %s", *document.Policy)
	}

	invoke := func(want string) {
		t.Helper()
		out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: name, Payload: []byte(`{"a":1}`), LogType: lambdatypes.LogTypeTail})
		check(t, err)
		log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
		if string(out.Payload) != want || out.StatusCode != 200 || out.FunctionError != nil || *out.ExecutedVersion != "$LATEST" || err != nil || !strings.Contains(string(log), "asked for echo\n") {
			t.Errorf("%+v: %s, log %s, %v", out, out.Payload, log, err)
		}
	}
	invoke(`{"version": 1, "color": "blue", "event": {"a": 1}}`)

	// A change of settings and code: settings first.
	_, err = c.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: aws.Int32(10),
		Environment: &lambdatypes.Environment{Variables: map[string]string{"COLOR": "red"}}})
	check(t, err)
	updated()
	_, err = c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zipped(t, "2")})
	check(t, err)
	updated()
	if got := read("red", 10); *got.Configuration.CodeSha256 == *made.CodeSha256 {
		t.Error("the code's hash is that of the old code")
	}
	invoke(`{"version": 2, "color": "red", "event": {"a": 1}}`)

	create.FunctionName = aws.String("other")
	_, err = c.CreateFunction(ctx, create)
	check(t, err)
	var names []string
	for pages := lambda.NewListFunctionsPaginator(c, &lambda.ListFunctionsInput{MaxItems: aws.Int32(1)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		check(t, err)
		if len(page.Functions) > 1 {
			t.Errorf("a page of %d", len(page.Functions))
		}
		for _, f := range page.Functions {
			names = append(names, *f.FunctionName)
		}
	}
	if !slices.Equal(names, []string{"echo", "other"}) {
		t.Errorf("listed %v", names)
	}

	// Destroyed: the permission first; both are asked for until they are gone.
	_, err = c.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: name, StatementId: aws.String("AllowIoT")})
	check(t, err)
	_, err = c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: name})
	refused(t, err, "ResourceNotFoundException")
	_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
	check(t, err)
	_, err = c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
	refused(t, err, "ResourceNotFoundException")
	_, err = c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: name})
	refused(t, err, "ResourceNotFoundException")
}

func TestBoto3ManagesFunctions(t *testing.T) {
	t.Parallel()
	s := functionServer(t)
	dir := t.TempDir()
	for _, version := range []string{"1", "2"} {
		check(t, os.WriteFile(filepath.Join(dir, version+".zip"), zipped(t, version), 0o600))
	}
	got := must[struct {
		Answers      []object
		Log, Policy  string
		Listed       []string
		Failed, Gone string
	}](t, s.run(t, "python", []string{"ROLE=" + functionRole(t, s), "ZIPS=" + dir}, "/usr/bin/python3", "-W", "ignore", "functions.py"))
	if len(got.Answers) != 2 || got.Answers[0]["version"] != 1.0 || got.Answers[1]["version"] != 2.0 || got.Answers[1]["color"] != "red" || !strings.Contains(got.Log, "asked for one") ||
		!strings.Contains(got.Policy, `"AllowIoT"`) || !slices.Equal(got.Listed, []string{"one", "two"}) || got.Failed != "Unhandled" || got.Gone != "ResourceNotFoundException" {
		t.Errorf("%+v", got)
	}
}

// The largest code that AWS takes costs the memory of its request, which is base64 of it, and not a second copy: uploading, and
// extracting for the first event.
func TestLargeCodeIsInMemoryOnce(t *testing.T) {
	t.Parallel()
	s, ctx := functionServer(t), t.Context()
	role, c := functionRole(t, s), s.lambdaSDK(t)
	noise := make([]byte, 49<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	var code bytes.Buffer
	z := zip.NewWriter(&code)
	for name, content := range map[string][]byte{"noise": noise, "app.py": []byte("import os\ndef handler(e, c): return os.path.getsize('noise')\n")} {
		f, err := z.Create(name)
		check(t, err)
		_, err = f.Write(content)
		check(t, err)
	}
	check(t, z.Close())
	before := s.highest(t)
	name := aws.String("large")
	_, err := c.CreateFunction(ctx, &lambda.CreateFunctionInput{FunctionName: name, Code: &lambdatypes.FunctionCode{ZipFile: code.Bytes()}, Role: &role,
		Handler: aws.String("app.handler"), Runtime: lambdatypes.RuntimePython312, Timeout: aws.Int32(60)})
	check(t, err)
	received, extra := base64.StdEncoding.EncodedLen(code.Len())>>20, 40
	uploaded := s.highest(t)
	t.Logf("%d MiB before, %d with an upload of %d", before, uploaded, received)
	if uploaded > before+received+extra {
		t.Errorf("an upload of %d MiB takes %d", received, uploaded-before)
	}
	out, err := c.Invoke(ctx, &lambda.InvokeInput{FunctionName: name})
	check(t, err)
	if string(out.Payload) != strconv.Itoa(len(noise)) {
		t.Errorf("%s %s", out.Payload, aws.ToString(out.FunctionError))
	}
	if invoked := s.highest(t); invoked > max(uploaded, before+extra)+8 {
		t.Errorf("extracting it takes %d MiB", invoked-before)
	}
}
