package compat

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	identitytypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentity/types"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
)

func certificateID(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

// answered returns the request id and the text of a service's error.
func answered(t *testing.T, err error) (string, string) {
	t.Helper()
	var api smithy.APIError
	var res *awshttp.ResponseError
	if !errors.As(err, &api) || !errors.As(err, &res) {
		t.Fatalf("no error of the service: %v", err)
	}
	return res.ServiceRequestID(), api.ErrorCode() + ": " + api.ErrorMessage()
}

func (f *field) as(t *testing.T, region, key, secret string) *iot.Client {
	return iot.NewFromConfig(aws.Config{Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""), HTTPClient: f.site.httpClient(t),
		BaseEndpoint: aws.String(f.site.get("AWS_ENDPOINT_URL")), RetryMaxAttempts: 1})
}

// at lists things with a signature of another time.
func (f *field) at(t *testing.T, off time.Duration) (string, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, f.site.get("AWS_ENDPOINT_URL")+"/things", nil)
	check(t, err)
	sum := sha256.Sum256(nil)
	check(t, v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: f.site.get("AWS_ACCESS_KEY_ID"), SecretAccessKey: f.site.get("AWS_SECRET_ACCESS_KEY")}, req,
		hex.EncodeToString(sum[:]), "iot", f.world.region, time.Now().Add(off)))
	res, err := f.site.httpClient(t).Do(req)
	check(t, err)
	res.Body.Close()
	return res.Header.Get("X-Amzn-Requestid"), res.Header.Get("X-Amzn-Errortype")
}

// credentialsOf trades an Id token, and returns the refusal.
func (f *field) tradeRefused(t *testing.T, token string) (string, string) {
	t.Helper()
	anon := f.site.sdk(t, aws.AnonymousCredentials{})
	logins := map[string]string{f.world.provider(): token}
	id, err := anon.identity.GetId(t.Context(), &cognitoidentity.GetIdInput{IdentityPoolId: &f.world.identityPool, Logins: logins})
	if err != nil {
		return answered(t, err)
	}
	_, err = anon.identity.GetCredentialsForIdentity(t.Context(), &cognitoidentity.GetCredentialsForIdentityInput{IdentityId: id.IdentityId, Logins: logins})
	return answered(t, err)
}

var appFailures = []failure{
	{"The app's role may not make claims", func(t *testing.T, f *field) (string, string) {
		_, err := f.world.as(t, f.world.signIn(t, f.world.visitor).ID).iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &f.world.template})
		_, heard := answered(t, err)
		return f.world.visitor, heard
	}, "not authorized to perform: iot:CreateProvisioningClaim", "allow iot:CreateProvisioningClaim"},
	{"The template of a claim is disabled", func(t *testing.T, f *field) (string, string) {
		f.enable(t, f.world.template, false)
		defer f.enable(t, f.world.template, true)
		_, err := f.installer.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &f.world.template})
		_, heard := answered(t, err)
		return f.world.template, heard
	}, "is not enabled", ""},
	{"The identity pool can choose no role", func(t *testing.T, f *field) (string, string) {
		pool := func(how identitytypes.AmbiguousRoleResolutionType) {
			_, err := f.world.admin.identity.SetIdentityPoolRoles(t.Context(), &cognitoidentity.SetIdentityPoolRolesInput{IdentityPoolId: &f.world.identityPool,
				Roles:        map[string]string{"authenticated": f.world.roleARN(f.world.visitorRole)},
				RoleMappings: map[string]identitytypes.RoleMapping{f.world.provider() + ":" + f.world.clientID: {Type: "Token", AmbiguousRoleResolution: how}}})
			check(t, err)
		}
		pool("Deny")
		defer pool("AuthenticatedRole")
		return f.tradeRefused(t, f.world.signIn(t, f.world.visitor).ID.Reveal())
	}, "selects no single role", "different precedences"},
	{"The app sends the access token", func(t *testing.T, f *field) (string, string) {
		return f.tradeRefused(t, f.world.signIn(t, f.world.installer).Access.Reveal())
	}, "Invalid login token", "not the access token"},
	{"The installer was signed out", func(t *testing.T, f *field) (string, string) {
		tokens := f.world.signIn(t, f.world.visitor)
		_, err := f.world.admin.pools.AdminUserGlobalSignOut(t.Context(), &cognitoidentityprovider.AdminUserGlobalSignOutInput{UserPoolId: &f.world.poolID, Username: &f.world.visitor})
		check(t, err)
		return f.tradeRefused(t, tokens.ID.Reveal())
	}, "", "sign in again"},
	{"The password is wrong", func(t *testing.T, f *field) (string, string) {
		anon := f.site.sdk(t, aws.AnonymousCredentials{})
		_, err := anon.pools.InitiateAuth(t.Context(), &cognitoidentityprovider.InitiateAuthInput{ClientId: &f.world.clientID, AuthFlow: "USER_PASSWORD_AUTH",
			AuthParameters: map[string]string{"USERNAME": f.world.visitor, "PASSWORD": "wrong"}})
		return answered(t, err)
	}, "Incorrect username or password", "type name and password again"},
	{"The request is signed for another region", func(t *testing.T, f *field) (string, string) {
		_, err := f.as(t, "eu-north-1", f.site.get("AWS_ACCESS_KEY_ID"), f.site.get("AWS_SECRET_ACCESS_KEY")).ListThings(t.Context(), &iot.ListThingsInput{})
		return answered(t, err)
	}, "scoped to a valid Region, not eu-north-1", "AWS_REGION"},
	{"The access key is of another account or of AWS", func(t *testing.T, f *field) (string, string) {
		const foreign = "AKIAIOSFODNN7EXAMPLE"
		_, err := f.as(t, f.world.region, foreign, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY").ListThings(t.Context(), &iot.ListThingsInput{})
		_, heard := answered(t, err)
		return foreign, heard
	}, "security token included in the request is invalid", "imprint env"},
	{"The secret access key is wrong", func(t *testing.T, f *field) (string, string) {
		_, err := f.as(t, f.world.region, f.site.get("AWS_ACCESS_KEY_ID"), "wrong").ListThings(t.Context(), &iot.ListThingsInput{})
		id, _ := answered(t, err)
		return id, "InvalidSignatureException"
	}, "does not match the signature you provided", "check the secret access key"},
	{"The clock of the app is slow", func(t *testing.T, f *field) (string, string) { return f.at(t, -time.Hour) }, "Signature expired", "set the clock"},
	{"The clock of the app is fast", func(t *testing.T, f *field) (string, string) { return f.at(t, time.Hour) }, "Signature not yet current", "set the clock"},
}
