package compat

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// functionServer is a server that runs functions on whatever machine this is: what keeps them in is tested where it is built.
func functionServer(t *testing.T) *site { return ownServer(t, "--unsafe-functions") }

// folder writes the files of a function and returns their folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return dir
}

// zipAs packs files into a zip file as Python does.
func (s *site) zipAs(t *testing.T, dir, name string, files map[string]string) string {
	t.Helper()
	s.run(t, folder(t, files), nil, "/usr/bin/python3", "-c", "import os, sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\nfor f in sorted(os.listdir('.')): z.write(f)\nz.close()",
		filepath.Join(dir, name))
	return "fileb://" + filepath.Join(dir, name)
}

const lambdaTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// A handler that answers with what it knows.
const echo = `import json, os
def lambda_handler(event, context):
    print("asked for", context.function_name)
    if event.get("fail"):
        raise ValueError("no " + event["fail"])
    return {"version": VERSION, "color": os.environ.get("COLOR"), "event": event}
`

// The order of calls is that of Terraform's aws_lambda_function and aws_lambda_permission.
func TestTheAWSCLIManagesFunctions(t *testing.T) {
	t.Parallel()
	s, dir := functionServer(t), t.TempDir()
	cli := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"aws"}, args...)...)
	}
	refusedBy := func(code, text string, args ...string) {
		t.Helper()
		out, err := s.try(t, dir, nil, imprint(), append([]string{"aws", "lambda"}, args...)...)
		if err == nil || !strings.Contains(out, "("+code+")") || !strings.Contains(out, text) {
			t.Errorf("%v: %v, %s; want %s %q", args, err, out, code, text)
		}
	}
	cli("iam", "create-role", "--role-name", "fn", "--assume-role-policy-document", lambdaTrust)
	role := "arn:aws:iam::" + account + ":role/fn"
	one := s.zipAs(t, dir, "one.zip", map[string]string{"app.py": strings.Replace(echo, "VERSION", "1", 1)})
	two := s.zipAs(t, dir, "two.zip", map[string]string{"app.py": strings.Replace(echo, "VERSION", "2", 1)})
	create := []string{"create-function", "--function-name", "echo", "--runtime", "python3.12", "--handler", "app.lambda_handler", "--role", role, "--zip-file", one}
	arn := functionARN("us-east-1", "echo")

	type configuration struct {
		FunctionArn, State, LastUpdateStatus, CodeSha256, RevisionId, LastModified, Version, PackageType string
		Timeout, CodeSize                                                                                int
	}
	refusedBy("InvalidParameterValueException", "cannot be assumed by Lambda", append(create[:len(create)-4:len(create)-4], "--role", role+"x", "--zip-file", one)...)
	made := must[configuration](t, cli(append([]string{"lambda"}, append(create, "--environment", "Variables={COLOR=blue}", "--tags", "site=plant")...)...))
	if made.FunctionArn != arn || made.State != "Active" || made.Timeout != 3 || made.Version != "$LATEST" || made.PackageType != "Zip" || !strings.HasSuffix(made.LastModified, "+0000") {
		t.Errorf("created %+v", made)
	}
	cli("lambda", "wait", "function-active-v2", "--function-name", "echo")
	got := must[struct {
		Configuration configuration
		Code, Tags    map[string]string
	}](t, cli("lambda", "get-function", "--function-name", arn))
	if got.Configuration != made || got.Tags["site"] != "plant" || got.Code["RepositoryType"] != "S3" {
		t.Errorf("got %+v", got)
	}
	if list := cli("lambda", "list-versions-by-function", "--function-name", "echo", "--query", "Versions[].FunctionArn", "--output", "text"); list != arn+":$LATEST\n" {
		t.Errorf("versions %q", list)
	}
	cli("lambda", "get-function-code-signing-config", "--function-name", "echo")
	refusedBy("ResourceConflictException", "Function already exist: echo", create...)

	// invoke runs it and returns its answer, and what the CLI printed.
	invoke := func(event string, args ...string) (answer object, printed object) {
		t.Helper()
		check(t, os.WriteFile(filepath.Join(dir, "event"), []byte(event), 0o600))
		printed = must[object](t, cli(append([]string{"lambda", "invoke", "--function-name", "echo", "--payload", "fileb://event", "answer"}, args...)...))
		text, err := os.ReadFile(filepath.Join(dir, "answer"))
		check(t, err)
		return must[object](t, string(text)), printed
	}
	answer, printed := invoke(`{"a":"ü"}`, "--log-type", "Tail")
	log, err := base64.StdEncoding.DecodeString(fmt.Sprint(printed["LogResult"]))
	if err != nil || answer["version"] != 1.0 || answer["color"] != "blue" || fmt.Sprint(answer["event"]) != "map[a:ü]" || printed["ExecutedVersion"] != "$LATEST" || !strings.Contains(string(log), "asked for echo\n") {
		t.Errorf("%v, %v, %s, %v", answer, printed, log, err)
	}
	answer, printed = invoke(`{"fail":"luck"}`)
	if printed["FunctionError"] != "Unhandled" || printed["StatusCode"] != 200.0 || answer["errorType"] != "ValueError" || answer["errorMessage"] != "no luck" {
		t.Errorf("%v, %v", answer, printed)
	}
	if out := must[object](t, cli("lambda", "invoke", "--function-name", "echo", "--invocation-type", "DryRun", "answer")); out["StatusCode"] != 204.0 {
		t.Errorf("a dry run: %v", out)
	}
	refusedBy("InvalidRequestContentException", "Could not parse request body into json", "invoke", "--function-name", "echo", "--payload", one, "answer")

	// A change holds from the next invocation on.
	updated := must[configuration](t, cli("lambda", "update-function-code", "--function-name", "echo", "--zip-file", two, "--revision-id", made.RevisionId))
	cli("lambda", "wait", "function-updated", "--function-name", "echo")
	if answer, _ = invoke(`{}`); answer["version"] != 2.0 || updated.CodeSha256 == made.CodeSha256 {
		t.Errorf("%v, %+v", answer, updated)
	}
	refusedBy("PreconditionFailedException", "RevisionId", "update-function-code", "--function-name", "echo", "--zip-file", one, "--revision-id", made.RevisionId)
	cli("lambda", "update-function-configuration", "--function-name", "echo", "--environment", "Variables={COLOR=red}", "--timeout", "10")
	cli("lambda", "wait", "function-updated-v2", "--function-name", "echo")
	if answer, _ = invoke(`{}`); answer["color"] != "red" || answer["version"] != 2.0 {
		t.Errorf("%v", answer)
	}

	refusedBy("ResourceNotFoundException", "does not exist", "get-policy", "--function-name", "echo")
	permission := []string{"add-permission", "--function-name", "echo", "--statement-id", "AllowIoT", "--action", "lambda:InvokeFunction", "--principal", "iot.amazonaws.com",
		"--source-arn", "arn:aws:iot:us-east-1:" + account + ":*"}
	cli(append([]string{"lambda"}, permission...)...)
	refusedBy("ResourceConflictException", "The statement id (AllowIoT) provided already exists", permission...)
	if policy := must[struct{ Policy string }](t, cli("lambda", "get-policy", "--function-name", "echo")); !strings.Contains(policy.Policy, `"Principal":{"Service":"iot.amazonaws.com"}`) {
		t.Errorf("%+v", policy)
	}
	cli("lambda", "remove-permission", "--function-name", "echo", "--statement-id", "AllowIoT")
	cli("lambda", "tag-resource", "--resource", arn, "--tags", "a=b")
	cli("lambda", "untag-resource", "--resource", arn, "--tag-keys", "site")
	if tags := must[struct{ Tags map[string]string }](t, cli("lambda", "list-tags", "--resource", arn)); len(tags.Tags) != 1 || tags.Tags["a"] != "b" {
		t.Errorf("%+v", tags)
	}

	create[2] = "second"
	cli(append([]string{"lambda"}, create...)...)
	if list := cli("lambda", "list-functions", "--page-size", "1", "--query", "Functions[].FunctionName", "--output", "text"); strings.Join(strings.Fields(list), " ") != "echo second" {
		t.Errorf("listed %q", list)
	}
	cli("lambda", "delete-function", "--function-name", "echo")
	refusedBy("ResourceNotFoundException", "Function not found: "+arn, "get-function", "--function-name", "echo")
	refusedBy("InvalidParameterValueException", "imprint function create", "create-function", "--function-name", "x", "--runtime", "python3.12", "--handler", "a.b", "--role", role, "--code", "S3Bucket=abc,S3Key=x")
	s.run(t, dir, nil, "/usr/bin/python3", "-c", "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\nz.writestr('../app.py', '')\nz.close()", filepath.Join(dir, "bad.zip"))
	refusedBy("InvalidParameterValueException", "Could not unzip uploaded file", "update-function-code", "--function-name", "second", "--zip-file", "fileb://bad.zip")
}

// sample is the handler of AWS's own walk-through, which keeps its answer in a global. Its check of serial numbers is filled in.
const sample = `import json

provision_response = {'allowProvisioning': False}

def isWhitelisted(serial_number):
    #check serial against database of approved serials
    return serial_number in ("L-1", "L-2")
def lambda_handler(event, context):
    print("Received event: " + json.dumps(event, indent=2))
    # Assume Device has sent a device_serial attribute
    device_serial = event["parameters"]["SerialNumber"]
    # Check serial against an isWhitelisted() function
    if isWhitelisted(device_serial):
        provision_response["allowProvisioning"] = True
    return provision_response
`

// explained is what imprint explain says of an attempt, once its trace has been saved.
func explained(t *testing.T, s *site, trace string) string {
	t.Helper()
	for {
		out, err := s.try(t, t.TempDir(), nil, imprint(), "explain", trace)
		if err == nil {
			return out
		}
		if !strings.Contains(out, "nothing is known of") || t.Context().Err() != nil {
			t.Fatalf("explain: %v\n%s", err, out)
		}
	}
}

// denied checks that the hook does not let a device in, and that explain says why in these words.
func (w *world) denied(t *testing.T, as *sdk, serial string, want ...string) {
	t.Helper()
	_, no, ok := w.ask(t, as, serial)
	if ok || no.StatusCode != 403 || no.ErrorCode != "AccessDenied" {
		t.Fatalf("%s: %v %+v", serial, ok, no)
	}
	out := explained(t, w.site, no.TraceID)
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("explain says\n%s\nwithout %q", out, text)
		}
	}
}

func TestALocalFunctionDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, functionServer(t), "local")
	s, dir := w.site, t.TempDir()
	ida := w.installerSDK(t)
	verb := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), args...)
	}
	verb("function", "create", "check", "--folder", folder(t, map[string]string{"app.py": sample}), "--runtime", "python3.12", "--handler", "app.lambda_handler", "--no-hooks")
	w.hooked(t, "check")
	why := func(serial string, want ...string) { t.Helper(); w.denied(t, ida, serial, want...) }
	permit := "aws lambda add-permission --function-name check --statement-id iot --action lambda:InvokeFunction --principal iot.amazonaws.com"
	why("L-1", "iot.amazonaws.com may not invoke it", permit)
	verb(strings.Fields(permit)...)
	for _, serial := range []string{"L-1", "L-2"} {
		if got, no, ok := w.ask(t, ida, serial); !ok || got.name() != w.thing(serial) {
			t.Fatalf("a listed serial: %+v, %+v", got, no)
		}
		why("X-secret", "did not allow", "local check after", "it wrote")
	}
	if logs := verb("function", "logs", "check"); strings.Count(logs, "Received event") != 4 || strings.Count(logs, "== ") != 4 {
		t.Errorf("logs:\n%s", logs)
	}
	if _, no, _ := w.ask(t, ida, "X-secret"); strings.Contains(explained(t, s, no.TraceID), "X-secret |") {
		t.Error("the trace shows in what the function wrote what a device sent")
	}
	if out := verb("function", "list"); !strings.HasPrefix(out, "check  local  5s") {
		t.Errorf("listed %q", out)
	}

	// Another code decides from the next device on: that of docs/hooks.md.
	verb("function", "update", "check", "--folder", folder(t, map[string]string{"app.py": pythonBlock(t, "A function of your own")}))
	why("L-3", "asked by")
	if got, no, ok := w.ask(t, ida, "4711"); !ok || got.name() != w.thing("4711") {
		t.Fatalf("the new code: %+v, %+v", got, no)
	}
	if out := verb("function", "invoke", "check", "--quiet", "--payload", `{"clientId": "x", "parameters": {"SerialNumber": "4711"}}`); out != `{"allowProvisioning": true}`+"\n" {
		t.Errorf("invoke printed %q", out)
	}
	verb("function", "delete", "check")
	why("4712", "imprint function create")
}

func TestAClaimThatIsContainedWhileAFunctionThinksRegistersNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, functionServer(t), "slow")
	s, dir := w.site, t.TempDir()
	ida := w.installerSDK(t)
	verb := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), args...)
	}
	verb("function", "create", "slow", "--folder", folder(t, map[string]string{"app.py": "import time\ndef handler(event, context):\n    time.sleep(2)\n    return {'allowProvisioning': True}\n"}),
		"--runtime", "python3.12", "--handler", "app.handler", "--timeout", "5s")
	w.hooked(t, "slow")
	v := variant{csr: true, format: "json"}
	c := w.claim(t, ida)
	d := v.dial(t, s, "thinker", c.cert, c.key)
	cert := v.create(t, d)
	topic := registerTopic(w.template, v.format)
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, v.encode(t, object{"certificateOwnershipToken": cert.Token, "parameters": object{"SerialNumber": "1"}}))
	d.subscribe(t, v.createTopic()+"/rejected") // so the request was read: the function is being asked
	verb("claim", "contain", c.id, "--revoke-since", "1h")
	// It has said yes by now, unless loading it and thinking took longer than the five seconds that a hook has.
	eventually(t, func() bool { return strings.Contains(verb("function", "logs", "slow"), "== ") })
	_, err := w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String(w.thing("1"))})
	refused(t, err, "ResourceNotFoundException")
	if got, err := w.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &cert.CertificateID}); err == nil && got.CertificateDescription.Status == "ACTIVE" {
		t.Errorf("the certificate is %v", got.CertificateDescription.Status)
	}
}

// The other endpoint is another server, which checks the signature and the policy of the key, and runs the function.
func TestAFunctionOfAnotherEndpointDecides(t *testing.T) {
	t.Parallel()
	other, dir := functionServer(t), t.TempDir()
	other.run(t, dir, nil, imprint(), "function", "create", "listed", "--folder", folder(t, map[string]string{
		"app.py": "def handler(event, context):\n    return {'allowProvisioning': event['parameters']['SerialNumber'] == 'L-1'}\n"}), "--runtime", "python3.12", "--handler", "app.handler", "--no-hooks")
	admin, user := other.adminSDK(t).iam, aws.String("caller")
	_, err := admin.CreateUser(t.Context(), &iam.CreateUserInput{UserName: user})
	check(t, err)
	key, err := admin.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: user})
	check(t, err)
	secret := filepath.Join(dir, "secret")
	check(t, os.WriteFile(secret, []byte(*key.AccessKey.SecretAccessKey), 0o600))

	s := ownServer(t, "--egress-allow", "127.0.0.1,::1", "--egress-ca", other.get("AWS_CA_BUNDLE"))
	w := newWorld(t, s, "remote")
	ida := w.installerSDK(t)
	s.run(t, dir, nil, imprint(), "function", "put", "check", "--lambda", other.get("AWS_ENDPOINT_URL"), "--region", other.get("AWS_REGION"),
		"--access-key-id", *key.AccessKey.AccessKeyId, "--secret-file", secret, "--function", "listed")
	w.hooked(t, "check")
	why := func(serial string, want ...string) { t.Helper(); w.denied(t, ida, serial, want...) }
	why("L-1", "AccessDeniedException") // the key may do nothing yet
	_, err = admin.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: user, PolicyName: aws.String("invoke"), PolicyDocument: text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": functionARN(other.get("AWS_REGION"), "listed")}})})
	check(t, err)
	if got, no, ok := w.ask(t, ida, "L-1"); !ok || got.name() != w.thing("L-1") {
		t.Fatalf("a listed serial: %+v, %+v", got, no)
	}
	why("X-2", "did not allow")
	check(t, os.WriteFile(secret, []byte("another secret of some length"), 0o600))
	s.run(t, dir, nil, imprint(), "function", "put", "check", "--lambda", other.get("AWS_ENDPOINT_URL"), "--region", other.get("AWS_REGION"),
		"--access-key-id", *key.AccessKey.AccessKeyId, "--secret-file", secret, "--function", "listed")
	why("L-1", "Signature")
	check(t, other.stop())
	why("L-1", "connect")
}
