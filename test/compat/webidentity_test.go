package compat

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	identitytypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentity/types"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// A second server takes the people of a pool of the first one, as it would those of any OpenID Connect provider: by STS with the AWS
// CLI, boto3 and the SDK for Go, which do it by themselves when they are given a token file, and by an identity pool.
func TestPeopleOfAnotherProvider(t *testing.T) {
	t.Parallel()
	first := sharedServer(t)
	w := newWorld(t, first, "web")
	out, err := first.sdk(t, aws.AnonymousCredentials{}).pools.InitiateAuth(t.Context(), &cognitoidentityprovider.InitiateAuthInput{AuthFlow: "USER_PASSWORD_AUTH",
		ClientId: &w.clientID, AuthParameters: map[string]string{"USERNAME": w.installer, "PASSWORD": w.password}})
	check(t, err)
	id, access := *out.AuthenticationResult.IdToken, *out.AuthenticationResult.AccessToken

	second := ownServer(t, "--egress-allow", "localhost", "--egress-ca", first.get("AWS_CA_BUNDLE"))
	admin := second.adminSDK(t)
	issuer := strings.TrimPrefix(first.get("AWS_ENDPOINT_URL"), "https://") + "/" + w.poolID
	made, err := admin.iam.CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://" + issuer), ClientIDList: []string{w.clientID},
		Tags: []iamtypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
	check(t, err)
	provider := *made.OpenIDConnectProviderArn
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Federated": provider}, "Action": "sts:AssumeRoleWithWebIdentity",
		"Condition": object{"StringEquals": object{issuer + ":aud": w.clientID}}}}
	installer, err := admin.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("installer"), AssumeRolePolicyDocument: text(trust)})
	check(t, err)
	_, err = admin.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("installer"), PolicyName: aws.String("p"),
		PolicyDocument: text(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:ListThings", "Resource": "*"}})})
	check(t, err)

	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) { check(t, os.WriteFile(file, []byte(token), 0o600)) }
	write(id)
	const session = ":assumed-role/installer/ann"
	// Debian 12's AWS CLI and boto3 know no AWS_ENDPOINT_URL, so they are told the endpoint and trade the token themselves.
	cli := []string{"aws", "--endpoint-url", second.get("AWS_ENDPOINT_URL"), "sts", "assume-role-with-web-identity", "--role-arn", *installer.Role.Arn,
		"--role-session-name", "ann", "--web-identity-token", "file://" + file}
	const python = `import boto3, os
def client(name, **more):
    return boto3.client(name, endpoint_url=os.environ["AWS_ENDPOINT_URL"], **more)
got = client("sts").assume_role_with_web_identity(RoleArn=os.environ["AWS_ROLE_ARN"], RoleSessionName="ann", WebIdentityToken=open(os.environ["TOKEN"]).read())
keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), (got["Credentials"][k] for k in ("AccessKeyId", "SecretAccessKey", "SessionToken"))))
print(got["Provider"], got["Audience"], client("sts", **keys).get_caller_identity()["Arn"])
client("iot", **keys).list_things()`
	trading := func(args ...string) (string, error) {
		return second.try(t, ".", []string{"HOME=" + t.TempDir(), "TOKEN=" + file, "AWS_ROLE_ARN=" + *installer.Role.Arn}, "env",
			append([]string{"-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY"}, args...)...)
	}
	for name, args := range map[string][]string{"AWS CLI": cli, "boto3": {"/usr/bin/python3", "-W", "ignore", "-c", python}} {
		if said, err := trading(args...); err != nil || !strings.Contains(said, session) || name == "boto3" && !strings.HasPrefix(said, "https://"+issuer+" "+w.clientID) {
			t.Errorf("%s is %s, %v", name, said, err)
		}
	}
	trade := stscreds.NewWebIdentityRoleProvider(second.sdk(t, aws.AnonymousCredentials{}).sts, *installer.Role.Arn, stscreds.IdentityTokenFile(file), func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "ann" })
	keys, err := trade.Retrieve(t.Context())
	check(t, err)
	fromFile := second.sdk(t, credentials.StaticCredentialsProvider{Value: keys})
	who, err := fromFile.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	check(t, err)
	if !strings.HasSuffix(*who.Arn, session) {
		t.Errorf("the SDK for Go is %s", *who.Arn)
	}
	_, err = fromFile.iot.ListThings(t.Context(), &iot.ListThingsInput{})
	check(t, err)

	write(access)
	said, err := trading(cli...)
	if err == nil || !strings.Contains(said, "InvalidIdentityToken") {
		t.Errorf("an access token: %v, %s", err, said)
	}
	write(id[:len(id)-6] + "AAAAAA")
	if said, err := trading(cli...); err == nil || !strings.Contains(said, "InvalidIdentityToken") {
		t.Errorf("a signature that is wrong: %v, %s", err, said)
	}

	byIdentityPool(t, admin, second, provider, issuer, id)

	_, err = admin.iam.DeleteOpenIDConnectProvider(t.Context(), &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &provider})
	check(t, err)
	_, err = fromFile.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if code(err) != "ExpiredToken" {
		t.Errorf("once the provider is gone: %v", err)
	}
}

func byIdentityPool(t *testing.T, admin *sdk, s *site, provider, issuer, token string) {
	t.Helper()
	ctx := t.Context()
	pool, err := admin.identity.CreateIdentityPool(ctx, &cognitoidentity.CreateIdentityPoolInput{IdentityPoolName: aws.String("others"), OpenIdConnectProviderARNs: []string{provider}})
	check(t, err)
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Federated": "cognito-identity.amazonaws.com"}, "Action": []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"},
		"Condition": object{"StringEquals": object{"cognito-identity.amazonaws.com:aud": *pool.IdentityPoolId}, "ForAnyValue:StringEquals": object{"cognito-identity.amazonaws.com:amr": issuer}}}}
	role, err := admin.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("visitor"), AssumeRolePolicyDocument: text(trust)})
	check(t, err)
	_, err = admin.identity.SetIdentityPoolRoles(ctx, &cognitoidentity.SetIdentityPoolRolesInput{IdentityPoolId: pool.IdentityPoolId, Roles: map[string]string{"authenticated": *role.Role.Arn},
		RoleMappings: map[string]identitytypes.RoleMapping{provider: {Type: identitytypes.RoleMappingTypeRules, AmbiguousRoleResolution: identitytypes.AmbiguousRoleResolutionTypeAuthenticatedRole,
			RulesConfiguration: &identitytypes.RulesConfigurationType{Rules: []identitytypes.MappingRule{{Claim: aws.String("token_use"), MatchType: "Equals", Value: aws.String("id"), RoleARN: role.Role.Arn}}}}}})
	check(t, err)
	people := s.sdk(t, aws.AnonymousCredentials{})
	logins := map[string]string{issuer: token}
	id, err := people.identity.GetId(ctx, &cognitoidentity.GetIdInput{IdentityPoolId: pool.IdentityPoolId, Logins: logins})
	check(t, err)
	got, err := people.identity.GetCredentialsForIdentity(ctx, &cognitoidentity.GetCredentialsForIdentityInput{IdentityId: id.IdentityId, Logins: logins})
	check(t, err)
	who, err := s.sdk(t, credentials.NewStaticCredentialsProvider(*got.Credentials.AccessKeyId, *got.Credentials.SecretKey, *got.Credentials.SessionToken)).sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	check(t, err)
	if !strings.HasSuffix(*who.Arn, ":assumed-role/visitor/CognitoIdentityCredentials") {
		t.Errorf("the person is %s", *who.Arn)
	}
}

// The calls that Terraform makes on what it has made, beside those that other tests make: tags, renaming, simulation.
func TestTerraformsCallsOnIAM(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	admin := s.adminSDK(t).iam
	ctx, name := context.Background(), aws.String("tf-"+strings.ToLower(t.Name()))
	made, err := admin.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: name, PolicyDocument: text(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:Describe*", "Resource": "*"}})})
	check(t, err)
	tags := []iamtypes.Tag{{Key: aws.String("Owner"), Value: aws.String("plant")}}
	_, err = admin.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: made.Policy.Arn, Tags: tags})
	check(t, err)
	listed, err := admin.ListPolicyTags(ctx, &iam.ListPolicyTagsInput{PolicyArn: made.Policy.Arn})
	check(t, err)
	if len(listed.Tags) != 1 || *listed.Tags[0].Value != "plant" {
		t.Errorf("%v", listed.Tags)
	}
	_, err = admin.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: name})
	check(t, err)
	renamed := aws.String(*name + "-2")
	_, err = admin.UpdateGroup(ctx, &iam.UpdateGroupInput{GroupName: name, NewGroupName: renamed, NewPath: aws.String("/plant/")})
	check(t, err)
	group, err := admin.GetGroup(ctx, &iam.GetGroupInput{GroupName: renamed})
	check(t, err)
	_, err = admin.AttachGroupPolicy(ctx, &iam.AttachGroupPolicyInput{GroupName: renamed, PolicyArn: made.Policy.Arn})
	check(t, err)
	simulated, err := admin.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{PolicySourceArn: group.Group.Arn, ActionNames: []string{"iot:DescribeThing", "iot:DeleteThing"}})
	check(t, err)
	if r := simulated.EvaluationResults; len(r) != 2 || r[0].EvalDecision != "allowed" || *r[0].MatchedStatements[0].SourcePolicyId != *name || r[0].MatchedStatements[0].SourcePolicyType != "user-managed" || r[1].EvalDecision != "implicitDeny" {
		t.Errorf("%+v", r)
	}
	provider, err := admin.CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{Url: aws.String("https://id.example/" + *name), ClientIDList: []string{"x"}})
	check(t, err)
	_, err = admin.TagOpenIDConnectProvider(ctx, &iam.TagOpenIDConnectProviderInput{OpenIDConnectProviderArn: provider.OpenIDConnectProviderArn, Tags: tags})
	check(t, err)
	shown, err := admin.GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: provider.OpenIDConnectProviderArn})
	check(t, err)
	if len(shown.Tags) != 1 || *shown.Tags[0].Key != "Owner" {
		t.Errorf("%v", shown.Tags)
	}
}

func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}
