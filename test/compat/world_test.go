package compat

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	identitytypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentity/types"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// sdk is the AWS SDK for Go, version 2, pointed at a site with one set of credentials.
type sdk struct {
	iot      *iot.Client
	iam      *iam.Client
	sts      *sts.Client
	pools    *cognitoidentityprovider.Client
	identity *cognitoidentity.Client
}

func (s *site) sdk(t *testing.T, creds aws.CredentialsProvider) *sdk {
	t.Helper()
	cfg := aws.Config{Region: s.get("AWS_REGION"), Credentials: creds, HTTPClient: s.httpClient(t), BaseEndpoint: aws.String(s.get("AWS_ENDPOINT_URL")),
		RetryMaxAttempts: 1}
	return &sdk{iot.NewFromConfig(cfg), iam.NewFromConfig(cfg), sts.NewFromConfig(cfg), cognitoidentityprovider.NewFromConfig(cfg), cognitoidentity.NewFromConfig(cfg)}
}

func (s *site) adminSDK(t *testing.T) *sdk {
	return s.sdk(t, credentials.NewStaticCredentialsProvider(s.get("AWS_ACCESS_KEY_ID"), s.get("AWS_SECRET_ACCESS_KEY"), ""))
}

// A world is what an administrator prepares for one test: every name carries the test's prefix, so that tests share a server.
type world struct {
	site   *site
	admin  *sdk
	prefix string

	account, region    string
	template, policy   string
	provisioningRole   string // name
	installerRole      string // name
	visitorRole        string // name: a role without rights
	poolID, clientID   string
	identityPool       string
	installer, visitor string // user names
	password           string
}

const account = "000000000000"

func (w *world) roleARN(name string) string { return "arn:aws:iam::" + account + ":role/" + name }
func (w *world) iotARN(resource string) string {
	return "arn:aws:iot:" + w.region + ":" + account + ":" + resource
}

func text(v any) *string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return aws.String(string(b))
}

type object = map[string]any

// newWorld prepares a site by the SDK for Go: roles, policy, template, user pool with installer and visitor, identity pool.
func newWorld(t *testing.T, s *site, prefix string) *world {
	t.Helper()
	prefix += "-" + fleet.RandomString(4, fleet.AlphaLowerDigit) // a test may run several times on the shared server
	w := &world{site: s, admin: s.adminSDK(t), prefix: prefix, account: account, region: s.get("AWS_REGION"),
		template: prefix + "-lamps", policy: prefix + "-lamp", provisioningRole: prefix + "-provisioning",
		installerRole: prefix + "-installer", visitorRole: prefix + "-visitor", installer: prefix + "-ida", visitor: prefix + "-vic",
		password: "Correct-Horse-7!"}
	ctx := t.Context()
	w.makeProvisioning(t, ctx)
	w.makePeople(t, ctx)
	return w
}

func (w *world) makeProvisioning(t *testing.T, ctx context.Context) {
	t.Helper()
	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}
	_, err := w.admin.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &w.provisioningRole, AssumeRolePolicyDocument: text(trust)})
	check(t, err)
	_, err = w.admin.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &w.provisioningRole,
		PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")})
	check(t, err)
	const thing = "${iot:Connection.Thing.ThingName}"
	_, err = w.admin.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &w.policy, PolicyDocument: text(object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": w.iotARN("client/" + thing)},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": w.iotARN("topic/lamps/" + thing + "/*")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": w.iotARN("topicfilter/lamps/" + thing + "/*")}}})})
	check(t, err)
	_, err = w.admin.iot.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: &w.template, Enabled: aws.Bool(true),
		ProvisioningRoleArn: aws.String(w.roleARN(w.provisioningRole)), TemplateBody: text(w.templateBody())})
	check(t, err)
}

func (w *world) templateBody() object {
	return object{
		"Parameters": object{"SerialNumber": object{"Type": "String"}},
		"Mappings":   object{"Floor": object{"1": object{"colour": "red"}}},
		"Resources": object{
			"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{
				"ThingName":        w.thingNameExpression(),
				"AttributePayload": object{"serial": object{"Ref": "SerialNumber"}, "colour": object{"Fn::FindInMap": []string{"Floor", "1", "colour"}}}}},
			"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
			"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": w.policy}},
		},
		"DeviceConfiguration": object{"serial": object{"Fn::Sub": "no ${SerialNumber}"}},
	}
}

func (w *world) thingNameExpression() object {
	return object{"Fn::Join": []any{"", []any{w.prefix, "-lamp-", object{"Ref": "SerialNumber"}}}}
}

func (w *world) thing(serial string) string { return w.prefix + "-lamp-" + serial }

func (w *world) makePeople(t *testing.T, ctx context.Context) {
	t.Helper()
	pool, err := w.admin.pools.CreateUserPool(ctx, &cognitoidentityprovider.CreateUserPoolInput{PoolName: &w.prefix})
	check(t, err)
	w.poolID = *pool.UserPool.Id
	app, err := w.admin.pools.CreateUserPoolClient(ctx, &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: &w.poolID, ClientName: aws.String("app"),
		ExplicitAuthFlows: []idptypes.ExplicitAuthFlowsType{"ALLOW_USER_SRP_AUTH", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}})
	check(t, err)
	w.clientID = *app.UserPoolClient.ClientId
	ids, err := w.admin.identity.CreateIdentityPool(ctx, &cognitoidentity.CreateIdentityPoolInput{IdentityPoolName: &w.prefix,
		CognitoIdentityProviders: []identitytypes.CognitoIdentityProvider{{ProviderName: aws.String(w.provider()), ClientId: &w.clientID}}})
	check(t, err)
	w.identityPool = *ids.IdentityPoolId

	trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Federated": "cognito-identity.amazonaws.com"},
		"Action":    []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"},
		"Condition": object{"StringEquals": object{"cognito-identity.amazonaws.com:aud": w.identityPool}, "ForAnyValue:StringLike": object{"cognito-identity.amazonaws.com:amr": "authenticated"}}}}
	for _, role := range []string{w.installerRole, w.visitorRole} {
		_, err = w.admin.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: text(trust)})
		check(t, err)
	}
	_, err = w.admin.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &w.installerRole, PolicyName: aws.String("claims"), PolicyDocument: text(object{
		"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:CreateProvisioningClaim", "Resource": w.iotARN("provisioningtemplate/" + w.template)}})})
	check(t, err)
	_, err = w.admin.identity.SetIdentityPoolRoles(ctx, &cognitoidentity.SetIdentityPoolRolesInput{IdentityPoolId: &w.identityPool,
		Roles:        map[string]string{"authenticated": w.roleARN(w.visitorRole)},
		RoleMappings: map[string]identitytypes.RoleMapping{w.provider() + ":" + w.clientID: {Type: "Token", AmbiguousRoleResolution: "AuthenticatedRole"}}})
	check(t, err)
	group := "installers"
	_, err = w.admin.pools.CreateGroup(ctx, &cognitoidentityprovider.CreateGroupInput{UserPoolId: &w.poolID, GroupName: &group, RoleArn: aws.String(w.roleARN(w.installerRole)), Precedence: aws.Int32(1)})
	check(t, err)
	for _, user := range []string{w.installer, w.visitor} {
		_, err = w.admin.pools.AdminCreateUser(ctx, &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: &w.poolID, Username: &user, MessageAction: "SUPPRESS"})
		check(t, err)
		_, err = w.admin.pools.AdminSetUserPassword(ctx, &cognitoidentityprovider.AdminSetUserPasswordInput{UserPoolId: &w.poolID, Username: &user, Password: &w.password, Permanent: true})
		check(t, err)
	}
	_, err = w.admin.pools.AdminAddUserToGroup(ctx, &cognitoidentityprovider.AdminAddUserToGroupInput{UserPoolId: &w.poolID, Username: &w.installer, GroupName: &group})
	check(t, err)
}

func (w *world) provider() string { return "cognito-idp." + w.region + ".amazonaws.com/" + w.poolID }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signIn signs a user in by SRP and returns the tokens.
func (w *world) signIn(t *testing.T, user string) client.Tokens {
	t.Helper()
	tokens, err := w.site.anonymous(t).SignIn(t.Context(), w.poolID, w.clientID, user, fleet.Secret(w.password))
	check(t, err)
	return tokens
}

// as trades an Id token for the SDK with the credentials of the role that the token selects.
func (w *world) as(t *testing.T, idToken fleet.Secret) *sdk {
	t.Helper()
	anon := w.site.sdk(t, aws.AnonymousCredentials{})
	logins := map[string]string{w.provider(): idToken.Reveal()}
	id, err := anon.identity.GetId(t.Context(), &cognitoidentity.GetIdInput{IdentityPoolId: &w.identityPool, Logins: logins})
	check(t, err)
	if !strings.HasPrefix(*id.IdentityId, w.region+":") {
		t.Errorf("identity id %q", *id.IdentityId)
	}
	out, err := anon.identity.GetCredentialsForIdentity(t.Context(), &cognitoidentity.GetCredentialsForIdentityInput{IdentityId: id.IdentityId, Logins: logins})
	check(t, err)
	k := out.Credentials
	return w.site.sdk(t, credentials.NewStaticCredentialsProvider(*k.AccessKeyId, *k.SecretKey, *k.SessionToken))
}

// installerSDK signs the installer in and returns the SDK with the group role's credentials.
func (w *world) installerSDK(t *testing.T) *sdk { return w.as(t, w.signIn(t, w.installer).ID) }

// A claim as the SDK returned it; tests also keep other certificates with their keys in one, all PEM.
type claim struct{ id, cert, key string }

func (w *world) claim(t *testing.T, as *sdk) claim {
	t.Helper()
	out, err := as.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
	check(t, err)
	return claim{*out.CertificateId, *out.CertificatePem, *out.KeyPair.PrivateKey}
}
