package compat

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

// One handler for all triggers, as people write them for AWS.
const triggerHandler = `def lambda_handler(event, context):
    source, request, response = event["triggerSource"], event["request"], event["response"]
    if source == "PreSignUp_SignUp":
        if request["validationData"].get("badge") != "7":
            raise Exception("no badge")
        response["autoConfirmUser"] = request.get("clientMetadata", {}).get("known") == "yes"
        response["autoVerifyEmail"] = response["autoConfirmUser"]
    elif source.startswith("CustomMessage_"):
        response["emailSubject"] = source
        response["emailMessage"] = "<p>%s for %s</p>" % (request["codeParameter"], event["userName"])
    elif source.startswith("TokenGeneration_"):
        response["claimsAndScopeOverrideDetails"] = {
            "idTokenGeneration": {"claimsToAddOrOverride": {"plant": "north", "sub": "evil"}},
            "accessTokenGeneration": {"claimsToAddOrOverride": {"shift": [1, 2]}, "scopesToAdd": ["plant/read"]},
            "groupOverrideDetails": {"groupsToOverride": ["night"], "iamRolesToOverride": [], "preferredRole": None}}
    print(source)
    return event
`

// laterVersion asks for the second version of the trigger for tokens, which Debian 12's AWS CLI does not know.
func laterVersion(t *testing.T, admin *sdk, pool, arn string) {
	t.Helper()
	found, err := admin.pools.DescribeUserPool(t.Context(), &cognitoidentityprovider.DescribeUserPoolInput{UserPoolId: &pool})
	check(t, err)
	triggers := found.UserPool.LambdaConfig
	triggers.PreTokenGenerationConfig = &types.PreTokenGenerationVersionConfigType{LambdaArn: &arn, LambdaVersion: types.PreTokenGenerationLambdaVersionTypeV20}
	_, err = admin.pools.UpdateUserPool(t.Context(), &cognitoidentityprovider.UpdateUserPoolInput{UserPoolId: &pool, LambdaConfig: triggers,
		AutoVerifiedAttributes: found.UserPool.AutoVerifiedAttributes, AdminCreateUserConfig: found.UserPool.AdminCreateUserConfig})
	check(t, err)
	found, err = admin.pools.DescribeUserPool(t.Context(), &cognitoidentityprovider.DescribeUserPoolInput{UserPoolId: &pool})
	check(t, err)
	if c := found.UserPool.LambdaConfig; *c.PreTokenGeneration != arn || c.PreTokenGenerationConfig.LambdaVersion != types.PreTokenGenerationLambdaVersionTypeV20 {
		t.Errorf("the pool has the triggers %+v", c)
	}
}

// The AWS CLI gives a pool triggers, permits them as one has to, and people notice.
func TestTheAWSCLIGivesAPoolTriggers(t *testing.T) {
	t.Parallel()
	s, dir := functionServer(t), t.TempDir()
	cli := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"aws", "--output", "json"}, args...)...)
	}
	refused := func(code, text string, args ...string) {
		t.Helper()
		out, err := s.try(t, dir, nil, imprint(), append([]string{"aws"}, args...)...)
		if err == nil || !strings.Contains(out, "("+code+")") || !strings.Contains(out, text) {
			t.Errorf("%v: %v, %s; want %s %q", args, err, out, code, text)
		}
	}
	cli("iam", "create-role", "--role-name", "fn", "--assume-role-policy-document", lambdaTrust)
	cli("lambda", "create-function", "--function-name", "people", "--runtime", "python3.12", "--handler", "app.lambda_handler", "--role", "arn:aws:iam::"+account+":role/fn",
		"--zip-file", s.zipAs(t, dir, "fn.zip", map[string]string{"app.py": triggerHandler}), "--timeout", "5")
	arn := functionARN("us-east-1", "people")
	pool := must[struct{ UserPool struct{ Id, Arn string } }](t, cli("cognito-idp", "create-user-pool", "--pool-name", "people", "--auto-verified-attributes", "email",
		"--admin-create-user-config", "AllowAdminCreateUserOnly=false", "--lambda-config",
		"PreSignUp="+arn+",PostConfirmation="+arn+",CustomMessage="+arn+",PreTokenGeneration="+arn)).UserPool
	type config struct{ PreSignUp, PreTokenGeneration string }
	if c := must[config](t, cli("cognito-idp", "describe-user-pool", "--user-pool-id", pool.Id, "--query", "UserPool.LambdaConfig")); c.PreSignUp != arn || c.PreTokenGeneration != arn {
		t.Errorf("the pool has the triggers %+v", c)
	}
	laterVersion(t, s.adminSDK(t), pool.Id, arn)
	app := must[struct{ UserPoolClient struct{ ClientId string } }](t, cli("cognito-idp", "create-user-pool-client", "--user-pool-id", pool.Id, "--client-name", "app",
		"--explicit-auth-flows", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH")).UserPoolClient.ClientId
	signUp := func(name string, more ...string) []string {
		return append([]string{"cognito-idp", "sign-up", "--client-id", app, "--username", name, "--password", "Correct-Horse-7!", "--user-attributes", "Name=email,Value=" + name + "@example.com"}, more...)
	}
	refused("UnexpectedLambdaException", "PreSignUp invocation failed due to error AccessDeniedException.", signUp("ada")...)
	cli("lambda", "add-permission", "--function-name", "people", "--statement-id", "pool", "--action", "lambda:InvokeFunction", "--principal", "cognito-idp.amazonaws.com",
		"--source-arn", pool.Arn)
	refused("UserLambdaValidationException", "PreSignUp failed with error no badge.", signUp("ada", "--validation-data", "Name=badge,Value=8")...)
	if up := must[struct{ UserConfirmed bool }](t, cli(signUp("ada", "--validation-data", "Name=badge,Value=7", "--client-metadata", "known=yes")...)); !up.UserConfirmed {
		t.Error("the trigger did not confirm ada")
	}
	if up := must[struct{ UserConfirmed bool }](t, cli(signUp("bob", "--validation-data", "Name=badge,Value=7")...)); up.UserConfirmed {
		t.Error("bob was confirmed")
	}
	m := s.outbox(t, "bob")
	if m.Subject != "CustomMessage_SignUp" || m.Body != "<p>"+m.Code+" for bob</p>" {
		t.Errorf("the message is %+v", m)
	}
	cli("cognito-idp", "confirm-sign-up", "--client-id", app, "--username", "bob", "--confirmation-code", m.Code)
	in := must[struct {
		AuthenticationResult struct{ AccessToken, IdToken string }
	}](t, cli("cognito-idp", "initiate-auth", "--client-id", app, "--auth-flow", "USER_PASSWORD_AUTH", "--auth-parameters", "USERNAME=ada,PASSWORD=Correct-Horse-7!")).AuthenticationResult
	id, access := payload(t, in.IdToken), payload(t, in.AccessToken)
	if id["plant"] != "north" || id["sub"] == "evil" || id["email_verified"] != true || access["scope"] != "aws.cognito.signin.user.admin plant/read" {
		t.Errorf("the tokens say %v, %v", id, access)
	}
	log := s.run(t, dir, nil, imprint(), "function", "logs", "people")
	for _, source := range []string{"PreSignUp_SignUp", "CustomMessage_SignUp", "PostConfirmation_ConfirmSignUp", "TokenGeneration_Authentication"} {
		if !strings.Contains(log, source) {
			t.Errorf("the function was not called for %s", source)
		}
	}
	refused("InvalidParameterException", "PreSignUp, PostConfirmation, CustomMessage and PreTokenGeneration", "cognito-idp", "update-user-pool", "--user-pool-id", pool.Id, "--lambda-config", "UserMigration="+arn)
	cli("cognito-idp", "update-user-pool", "--user-pool-id", pool.Id) // without triggers there are none
}

// payload is what a token says.
func payload(t *testing.T, token string) object {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	check(t, err)
	return must[object](t, string(b))
}

// mailed is what the outbox has of a message.
type mailed struct{ Time, Username, Reason, Medium, To, Subject, Body, Code string }

// outbox returns the newest message to a user.
func (s *site) outbox(t *testing.T, user string) (last mailed) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.data, "outbox", "*.json"))
	check(t, err)
	for _, f := range files { // names begin with the time
		b, err := os.ReadFile(f)
		check(t, err)
		if m := must[mailed](t, string(b)); m.Username == user {
			last = m
		}
	}
	if last.Code == "" {
		t.Fatalf("no message to %s in %v", user, files)
	}
	return last
}
