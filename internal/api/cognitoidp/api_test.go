package cognitoidp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

const (
	mine  = "000000000000"
	other = "999999999999"
	good  = "P@ssw0rd!1"
)

// world is the API behind its frontend, on a store of its own. The header Account says who calls.
type world struct {
	t     *testing.T
	front *wire.Frontend
	keys  keys

	mu    sync.Mutex
	now   time.Time
	asked []wire.Access
	codes map[string]string // of the last message for each reason
}

type permits struct{}

func (permits) PassRole(_ context.Context, _ *fleet.Caller, role, _ string) error {
	if strings.HasSuffix(role, "/forbidden") {
		return fleet.Denied("User: x is not authorized to perform: iam:PassRole on resource: %s", role).WithCode("AccessDeniedException")
	}
	return nil
}

// keys remembers what it has made.
type keys struct {
	mu   sync.Mutex
	made []*rsa.PrivateKey
}

func (k *keys) Take(context.Context) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.made = append(k.made, key)
	return key, err
}

// Send keeps the codes of messages.
func (w *world) Send(_ context.Context, m delivery.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.codes[m.Reason] = m.Code.Reveal()
	return nil
}

// code returns that of the last message for a reason. Messages of several may overtake each other: some are sent behind the answer.
func (w *world) code(reason string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.codes[reason]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, codes: map[string]string{}, now: time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)}
	clock := func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now = w.now.Add(time.Millisecond)
		return w.now
	}
	db, err := store.Open(context.Background(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	pools, err := userpool.New(userpool.Config{Store: db, Sealer: pki.NewSealer([pki.KeySize]byte{1}), Keys: &w.keys, Roles: permits{}, Delivery: w,
		Issuer: "https://iot.lan:8443", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pools.Close(); db.Close() })
	w.front = &wire.Frontend{
		Services: []*wire.Service{Service(Config{Pools: pools})},
		Log:      slog.New(slog.DiscardHandler),
		Authenticate: func(_ context.Context, r *http.Request, _ []byte, _ *wire.Service) (*fleet.Caller, error) {
			return &fleet.Caller{Scope: fleet.Scope{Account: r.Header.Get("Account"), Region: "us-east-1"}, Kind: fleet.IAMUser}, nil
		},
		Authorize: func(_ context.Context, _ *fleet.Caller, a wire.Access) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, a)
			return nil
		},
	}
	return w
}

type object = map[string]any

// as calls an operation for an account; body is JSON or an object.
func (w *world) as(account, operation string, body any) (int, object) {
	w.t.Helper()
	text, isText := body.(string)
	if !isText {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(b)
	}
	r := httptest.NewRequest("POST", "https://iot.lan:8443/", strings.NewReader(text))
	r.Header.Set("X-Amz-Target", "AWSCognitoIdentityProviderService."+operation)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("Account", account)
	out := httptest.NewRecorder()
	w.front.ServeHTTP(out, r)
	var answer object
	if err := json.Unmarshal(out.Body.Bytes(), &answer); err != nil {
		w.t.Fatalf("%s answers %d %q: %v", operation, out.Code, out.Body, err)
	}
	return out.Code, answer
}

// do calls an operation that must succeed.
func (w *world) do(operation string, body any) object {
	w.t.Helper()
	status, answer := w.as(mine, operation, body)
	if status != 200 {
		w.t.Fatalf("%s answers %d %v", operation, status, answer)
	}
	return answer
}

// fails calls an operation that must be refused with a code and a text that contains some words.
func (w *world) fails(operation string, body any, code, words string) {
	w.t.Helper()
	status, answer := w.as(mine, operation, body)
	if message, _ := answer["message"].(string); status != 400 || answer["__type"] != code || !strings.Contains(message, words) {
		w.t.Errorf("%s answers %d %v, want %s %q", operation, status, answer, code, words)
	}
}

// dig follows a path into an answer.
func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(object)
		v = m[p]
	}
	return v
}

// setUp makes a pool, a client and a confirmed user.
func (w *world) setUp() (pool, client string) {
	w.t.Helper()
	p := w.do("CreateUserPool", object{"PoolName": "installers"})
	pool = dig(p, "UserPool", "Id").(string)
	c := w.do("CreateUserPoolClient", object{"UserPoolId": pool, "ClientName": "app", "ExplicitAuthFlows": []string{"ALLOW_USER_PASSWORD_AUTH",
		"ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_USER_SRP_AUTH"}})
	client = dig(c, "UserPoolClient", "ClientId").(string)
	w.do("AdminCreateUser", object{"UserPoolId": pool, "Username": "ada", "MessageAction": "SUPPRESS", "UserAttributes": []object{
		{"Name": "email", "Value": "ada@example.com"}, {"Name": "email_verified", "Value": "true"}}})
	w.do("AdminSetUserPassword", object{"UserPoolId": pool, "Username": "ada", "Password": good, "Permanent": true})
	return pool, client
}

func (w *world) signIn(client string) object {
	w.t.Helper()
	return w.do("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ada", "PASSWORD": good}})
}

func TestAPoolIsDescribedAsTerraformComparesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	in := object{
		"PoolName": "p", "DeletionProtection": "ACTIVE", "AutoVerifiedAttributes": []any{"email"}, "UsernameAttributes": []any{"email"},
		"Policies": object{"PasswordPolicy": object{"MinimumLength": 12, "RequireNumbers": true, "TemporaryPasswordValidityDays": 3, "PasswordHistorySize": 4}},
		"Schema": []any{object{"Name": "site", "AttributeDataType": "String", "Mutable": true, "StringAttributeConstraints": object{"MaxLength": "20"}},
			object{"Name": "email", "AttributeDataType": "String", "Mutable": true, "Required": true, "StringAttributeConstraints": object{"MinLength": "5", "MaxLength": "99"}}},
		"AdminCreateUserConfig":  object{"AllowAdminCreateUserOnly": false, "InviteMessageTemplate": object{"EmailMessage": "{username} {####}", "EmailSubject": "hi", "SMSMessage": "{username} {####}"}},
		"AccountRecoverySetting": object{"RecoveryMechanisms": []any{object{"Name": "verified_email", "Priority": 1}}},
		"UserPoolTags":           object{"a": "b"}, "UsernameConfiguration": object{"CaseSensitive": true}, "MfaConfiguration": "OFF",
		"EmailConfiguration":          object{"EmailSendingAccount": "COGNITO_DEFAULT"},
		"UserAttributeUpdateSettings": object{"AttributesRequireVerificationBeforeUpdate": []any{"email"}},
		"VerificationMessageTemplate": object{"DefaultEmailOption": "CONFIRM_WITH_CODE", "EmailMessage": "code {####}", "EmailSubject": "code"},
		"LambdaConfig":                object{}, "DeviceConfiguration": object{"ChallengeRequiredOnNewDevice": false},
	}
	made := w.do("CreateUserPool", in)
	id := dig(made, "UserPool", "Id").(string)
	got := dig(w.do("DescribeUserPool", object{"UserPoolId": id}), "UserPool").(object)
	for _, member := range []string{"DeletionProtection", "AutoVerifiedAttributes", "UsernameAttributes", "AccountRecoverySetting", "UserPoolTags",
		"UsernameConfiguration", "MfaConfiguration", "EmailConfiguration", "UserAttributeUpdateSettings", "VerificationMessageTemplate", "LambdaConfig"} {
		same(t, member, got[member], in[member])
	}
	same(t, "password policy", dig(got, "Policies", "PasswordPolicy"), object{"MinimumLength": 12, "RequireNumbers": true, "RequireLowercase": false,
		"RequireUppercase": false, "RequireSymbols": false, "TemporaryPasswordValidityDays": 3, "PasswordHistorySize": 4})
	same(t, "ARN", got["Arn"], "arn:aws:cognito-idp:us-east-1:"+mine+":userpool/"+id)
	same(t, "admin_only", dig(got, "AdminCreateUserConfig", "AllowAdminCreateUserOnly"), false)
	schema := map[string]any{}
	for _, a := range got["SchemaAttributes"].([]any) {
		schema[dig(a, "Name").(string)] = a
	}
	if len(schema) != 21 {
		t.Errorf("%d attributes are described, want 20 standard ones and one of ours", len(schema))
	}
	same(t, "sub", schema["sub"], object{"Name": "sub", "AttributeDataType": "String", "DeveloperOnlyAttribute": false, "Mutable": false, "Required": true,
		"StringAttributeConstraints": object{"MinLength": "1", "MaxLength": "2048"}})
	same(t, "updated_at", schema["updated_at"], object{"Name": "updated_at", "AttributeDataType": "Number", "DeveloperOnlyAttribute": false, "Mutable": true,
		"Required": false, "NumberAttributeConstraints": object{"MinValue": "0"}})
	same(t, "custom attribute", schema["custom:site"], object{"Name": "custom:site", "AttributeDataType": "String", "DeveloperOnlyAttribute": false,
		"Mutable": true, "Required": false, "StringAttributeConstraints": object{"MaxLength": "20"}})
	same(t, "required", dig(schema["email"], "Required"), true)
	same(t, "MFA", w.do("GetUserPoolMfaConfig", object{"UserPoolId": id}), object{"MfaConfiguration": "OFF"})
	same(t, "MFA", w.do("SetUserPoolMfaConfig", object{"UserPoolId": id, "MfaConfiguration": "OFF"}), object{"MfaConfiguration": "OFF"})
	w.do("UpdateUserPool", object{"UserPoolId": id, "DeletionProtection": "INACTIVE"})
	w.do("DeleteUserPool", object{"UserPoolId": id})
	w.fails("DescribeUserPool", object{"UserPoolId": id}, "ResourceNotFoundException", "User pool "+id+" does not exist.")
}

// same compares two values as JSON.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("%s is %s, want %s", what, a, b)
	}
}

func TestAPoolThatSaysNothingGetsTheDefaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := dig(w.do("CreateUserPool", object{"PoolName": "p"}), "UserPool")
	same(t, "password policy", dig(p, "Policies", "PasswordPolicy"), object{"MinimumLength": 8, "RequireNumbers": true, "RequireLowercase": true,
		"RequireUppercase": true, "RequireSymbols": true, "TemporaryPasswordValidityDays": 7})
	same(t, "who may sign up", dig(p, "AdminCreateUserConfig", "AllowAdminCreateUserOnly"), true)
	asked := dig(w.do("CreateUserPool", object{"PoolName": "q", "AdminCreateUserConfig": object{"UnusedAccountValidityDays": 7}}), "UserPool")
	same(t, "who may sign up, as the SDK for Go says that all may", dig(asked, "AdminCreateUserConfig", "AllowAdminCreateUserOnly"), false)
	same(t, "case", dig(p, "UsernameConfiguration", "CaseSensitive"), false)
	same(t, "tier", dig(p, "UserPoolTier"), "ESSENTIALS")
	c := dig(w.do("CreateUserPoolClient", object{"UserPoolId": dig(p, "Id"), "ClientName": "app"}), "UserPoolClient").(object)
	same(t, "flows", c["ExplicitAuthFlows"], []string{"ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_CUSTOM_AUTH"})
	same(t, "validity", []any{c["RefreshTokenValidity"], c["AccessTokenValidity"], c["AuthSessionValidity"], c["EnableTokenRevocation"], c["PreventUserExistenceErrors"]},
		[]any{30, nil, 3, true, "ENABLED"})
	if _, has := c["ClientSecret"]; has {
		t.Error("a public client shows a secret")
	}
}

func TestAPoolMayConfirmWithLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	words := object{"DefaultEmailOption": "CONFIRM_WITH_LINK", "EmailMessageByLink": "Welcome. {##This way##}", "EmailSubjectByLink": "Come in"}
	made := w.do("CreateUserPool", object{"PoolName": "p", "VerificationMessageTemplate": words})
	got := dig(w.do("DescribeUserPool", object{"UserPoolId": dig(made, "UserPool", "Id")}), "UserPool", "VerificationMessageTemplate")
	same(t, "the words", got, words)
}

func TestWhatIsNotOfferedIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	for name, member := range map[string]object{
		"triggers":   {"LambdaConfig": object{"UserMigration": "arn:aws:lambda:us-east-1:000000000000:function:f"}},
		"devices":    {"DeviceConfiguration": object{"ChallengeRequiredOnNewDevice": true}},
		"risk":       {"UserPoolAddOns": object{"AdvancedSecurityMode": "ENFORCED"}},
		"one-time":   {"Policies": object{"SignInPolicy": object{"AllowedFirstAuthFactors": []any{"PASSWORD", "EMAIL_OTP"}}}},
		"new issuer": {"IssuerConfiguration": object{"Type": "UPDATED"}},
	} {
		t.Log(name)
		member["PoolName"] = "p"
		w.fails("CreateUserPool", member, "InvalidParameterException", "not offered")
	}
	w.fails("SetUserPoolMfaConfig", object{"UserPoolId": pool, "MfaConfiguration": "ON", "SmsMfaConfiguration": object{"SmsAuthenticationMessage": "code {####}"}},
		"InvalidParameterException", "not implemented")
	w.fails("UpdateUserPoolClient", object{"UserPoolId": pool, "ClientId": client, "AnalyticsConfiguration": object{"ApplicationId": "c0ffee"}},
		"InvalidParameterException", "not implemented")
	w.fails("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_AUTH", "AuthParameters": object{"USERNAME": "ada"}}, "InvalidParameterException", "USER_AUTH is not enabled")
	w.fails("RespondToAuthChallenge", object{"ClientId": client, "ChallengeName": "SMS_MFA", "ChallengeResponses": object{"USERNAME": "ada"}}, "InvalidParameterException", "not offered")
}

func TestSignInOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, client := w.setUp()
	// As amazon-cognito-identity-js and Amplify 4 send it: a null DEVICE_KEY, empty metadata.
	out := w.do("InitiateAuth", `{"AuthFlow":"USER_PASSWORD_AUTH","ClientId":"`+client+`","AuthParameters":{"USERNAME":"ada","PASSWORD":"`+good+`","DEVICE_KEY":null},"ClientMetadata":{},"UserContextData":{}}`)
	if _, has := out["ChallengeName"]; has {
		t.Error("success has no ChallengeName")
	}
	if _, has := out["Session"]; has {
		t.Error("success has no Session")
	}
	same(t, "ChallengeParameters", out["ChallengeParameters"], object{})
	r := out["AuthenticationResult"].(object)
	same(t, "result", []any{r["TokenType"], r["ExpiresIn"]}, []any{"Bearer", 3600})
	access, refresh := r["AccessToken"], r["RefreshToken"]
	u := w.do("GetUser", object{"AccessToken": access})
	list := u["UserAttributes"].([]any)
	same(t, "first attribute", dig(list[0], "Name"), "sub")
	same(t, "the rest", list[1:], []object{{"Name": "email", "Value": "ada@example.com"}, {"Name": "email_verified", "Value": "true"}})
	same(t, "name", u["Username"], "ada")
	for _, again := range []object{
		w.do("InitiateAuth", `{"AuthFlow":"REFRESH_TOKEN","ClientId":"`+client+`","AuthParameters":{"REFRESH_TOKEN":"`+refresh.(string)+`","DEVICE_KEY":null}}`),
		w.do("GetTokensFromRefreshToken", object{"ClientId": client, "RefreshToken": refresh}),
	} {
		r := again["AuthenticationResult"].(object)
		if r["AccessToken"] == nil || r["IdToken"] == nil || r["RefreshToken"] != nil {
			t.Errorf("refresh answers %v", again)
		}
	}
	same(t, "output of RevokeToken", w.do("RevokeToken", object{"ClientId": client, "Token": refresh}), object{})
	w.fails("GetUser", object{"AccessToken": access}, "NotAuthorizedException", "Access Token has been revoked")
	w.fails("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ada", "PASSWORD": "x"}},
		"NotAuthorizedException", "Incorrect username or password.")
	w.fails("InitiateAuth", object{"ClientId": client, "AuthFlow": "NO_SUCH_FLOW"}, "InvalidParameterException", "1 validation error detected")
	w.fails("InitiateAuth", object{"AuthFlow": "USER_PASSWORD_AUTH"}, "InvalidParameterException", "1 validation error detected: Value null at 'clientId'")
}

func TestANewPasswordOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	w.do("AdminCreateUser", object{"UserPoolId": pool, "Username": "eve", "TemporaryPassword": good, "DesiredDeliveryMediums": []any{"EMAIL"}})
	out := w.do("AdminInitiateAuth", object{"UserPoolId": pool, "ClientId": client, "AuthFlow": "ADMIN_USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "eve", "PASSWORD": w.code("invitation")}})
	same(t, "challenge", out["ChallengeName"], "NEW_PASSWORD_REQUIRED")
	same(t, "parameters", out["ChallengeParameters"], object{"USER_ID_FOR_SRP": "eve", "requiredAttributes": "[]", "userAttributes": "{}"})
	in := object{"ClientId": client, "ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": out["Session"], "ChallengeResponses": object{"USERNAME": "eve", "NEW_PASSWORD": good + "2"}, "ClientMetadata": object{}}
	if w.do("RespondToAuthChallenge", in)["AuthenticationResult"] == nil {
		t.Error("no tokens")
	}
	w.fails("RespondToAuthChallenge", in, "NotAuthorizedException", "Invalid session for the user, session can only be used once.")
}

func TestSignUpOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool := dig(w.do("CreateUserPool", object{"PoolName": "p", "AutoVerifiedAttributes": []any{"email"}, "AdminCreateUserConfig": object{"AllowAdminCreateUserOnly": false}}), "UserPool", "Id")
	client := dig(w.do("CreateUserPoolClient", object{"UserPoolId": pool, "ClientName": "app", "ExplicitAuthFlows": []any{"ALLOW_USER_PASSWORD_AUTH"}}), "UserPoolClient", "ClientId").(string)
	out := w.do("SignUp", object{"ClientId": client, "Username": "ada", "Password": good, "UserAttributes": []object{{"Name": "email", "Value": "ada@example.com"}}})
	same(t, "confirmed", out["UserConfirmed"], false)
	same(t, "delivery", out["CodeDeliveryDetails"], object{"AttributeName": "email", "DeliveryMedium": "EMAIL", "Destination": "a***@e***"})
	w.do("ResendConfirmationCode", object{"ClientId": client, "Username": "nobody"})
	w.fails("ConfirmSignUp", object{"ClientId": client, "Username": "ada", "ConfirmationCode": "x"}, "CodeMismatchException", "Invalid verification code provided, please try again.")
	w.do("ConfirmSignUp", object{"ClientId": client, "Username": "ada", "ConfirmationCode": w.code("sign-up")})
	w.do("ForgotPassword", object{"ClientId": client, "Username": "ada"})
	access := dig(w.signIn(client), "AuthenticationResult", "AccessToken")
	w.do("ChangePassword", object{"AccessToken": access, "PreviousPassword": good, "ProposedPassword": good + "2"})
	w.do("UpdateUserAttributes", object{"AccessToken": access, "UserAttributes": []object{{"Name": "name", "Value": "Ada"}}})
	w.do("DeleteUserAttributes", object{"AccessToken": access, "UserAttributeNames": []any{"name"}})
	w.do("GetUserAttributeVerificationCode", object{"AccessToken": access, "AttributeName": "email"})
	w.do("VerifyUserAttribute", object{"AccessToken": access, "AttributeName": "email", "Code": w.code("verification")})
	w.do("DeleteUser", object{"AccessToken": access})
	w.fails("GlobalSignOut", object{"AccessToken": access}, "UserNotFoundException", "User does not exist.")
}

func TestAdministrationOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	user := object{"UserPoolId": pool, "Username": "ada"}
	with := func(pairs ...any) object {
		o := object{"UserPoolId": pool, "Username": "ada"}
		for i := 0; i < len(pairs); i += 2 {
			o[pairs[i].(string)] = pairs[i+1]
		}
		return o
	}
	group := object{"UserPoolId": pool, "GroupName": "installers"}
	w.do("CreateGroup", object{"UserPoolId": pool, "GroupName": "installers", "RoleArn": "arn:aws:iam::" + mine + ":role/r", "Precedence": 0, "Description": "d"})
	w.fails("CreateGroup", object{"UserPoolId": pool, "GroupName": "x", "RoleArn": "arn:aws:iam::" + mine + ":role/forbidden"}, "AccessDeniedException", "iam:PassRole")
	same(t, "precedence", dig(w.do("GetGroup", group), "Group", "Precedence"), 0)
	same(t, "description", dig(w.do("UpdateGroup", object{"UserPoolId": pool, "GroupName": "installers", "Description": "e"}), "Group", "Description"), "e")
	w.do("AdminAddUserToGroup", with("GroupName", "installers"))
	same(t, "groups", len(w.do("AdminListGroupsForUser", user)["Groups"].([]any)), 1)
	same(t, "members", dig(w.do("ListUsersInGroup", group)["Users"].([]any)[0], "Username"), "ada")
	same(t, "list", len(w.do("ListGroups", object{"UserPoolId": pool})["Groups"].([]any)), 1)
	w.do("AdminRemoveUserFromGroup", with("GroupName", "installers"))
	w.do("DeleteGroup", group)

	w.do("AdminUpdateUserAttributes", with("UserAttributes", []object{{"Name": "name", "Value": "Ada"}}))
	w.do("AdminDeleteUserAttributes", with("UserAttributeNames", []any{"name"}))
	w.do("AdminDisableUser", user)
	same(t, "enabled", w.do("AdminGetUser", user)["Enabled"], false)
	w.do("AdminEnableUser", user)
	w.do("AdminUserGlobalSignOut", user)
	w.fails("AdminConfirmSignUp", user, "NotAuthorizedException", "Current status is CONFIRMED")
	found := w.do("ListUsers", object{"UserPoolId": pool, "Filter": `email = "ada@example.com"`, "AttributesToGet": []any{"email"}, "Limit": 0})["Users"].([]any)
	same(t, "found", dig(found[0], "Attributes"), []object{{"Name": "email", "Value": "ada@example.com"}})
	w.do("AdminResetUserPassword", user)
	same(t, "status", w.do("AdminGetUser", user)["UserStatus"], "RESET_REQUIRED")
	w.do("ConfirmForgotPassword", object{"ClientId": client, "Username": "ada", "ConfirmationCode": w.code("recovery"), "Password": good})
	w.signIn(client)
	w.do("AdminDeleteUser", user)
	w.fails("AdminGetUser", user, "UserNotFoundException", "User does not exist.")

	arn := "arn:aws:cognito-idp:us-east-1:" + mine + ":userpool/" + pool
	w.do("TagResource", object{"ResourceArn": arn, "Tags": object{"a": "b", "c": "d"}})
	w.do("UntagResource", object{"ResourceArn": arn, "TagKeys": []any{"c"}})
	same(t, "tags", w.do("ListTagsForResource", object{"ResourceArn": arn}), object{"Tags": object{"a": "b"}})
	w.do("AddCustomAttributes", object{"UserPoolId": pool, "CustomAttributes": []object{{"Name": "site", "AttributeDataType": "String"}}})
	same(t, "pools", len(w.do("ListUserPools", object{"MaxResults": 60})["UserPools"].([]any)), 1)
	same(t, "clients", len(w.do("ListUserPoolClients", object{"UserPoolId": pool})["UserPoolClients"].([]any)), 1)
	c := object{"UserPoolId": pool, "ClientId": client}
	w.do("UpdateUserPoolClient", object{"UserPoolId": pool, "ClientId": client, "PreventUserExistenceErrors": "LEGACY", "AccessTokenValidity": 5,
		"TokenValidityUnits": object{"AccessToken": "minutes"}, "RefreshTokenRotation": object{"Feature": "ENABLED", "RetryGracePeriodSeconds": 5}, "EnableTokenRevocation": false})
	got := dig(w.do("DescribeUserPoolClient", c), "UserPoolClient").(object)
	same(t, "client", []any{got["PreventUserExistenceErrors"], got["AccessTokenValidity"], got["TokenValidityUnits"], got["RefreshTokenRotation"], got["EnableTokenRevocation"], got["ClientName"]},
		[]any{"LEGACY", 5, object{"AccessToken": "minutes"}, object{"Feature": "ENABLED", "RetryGracePeriodSeconds": 5}, false, "app"})
	w.do("DeleteUserPoolClient", c)
}

func TestAnotherAccountSeesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	w.do("CreateGroup", object{"UserPoolId": pool, "GroupName": "g"})
	w.do("CreateUserPoolDomain", object{"UserPoolId": pool, "Domain": "plant"})
	w.do("CreateResourceServer", object{"UserPoolId": pool, "Identifier": "api", "Name": "x"})
	arn := "arn:aws:cognito-idp:us-east-1:" + mine + ":userpool/" + pool
	body := object{"UserPoolId": pool, "Username": "ada", "GroupName": "g", "ClientId": client, "ResourceArn": arn, "ProviderName": "Corp", "IdpIdentifier": "x"}
	more := map[string]object{
		"AdminSetUserPassword": {"Password": good}, "AdminUpdateUserAttributes": {"UserAttributes": []object{}}, "AdminDeleteUserAttributes": {"UserAttributeNames": []any{"name"}},
		"AddCustomAttributes": {"CustomAttributes": []object{{"Name": "x"}}}, "TagResource": {"Tags": object{"a": "b"}}, "UntagResource": {"TagKeys": []any{"a"}},
		"AdminInitiateAuth": {"AuthFlow": "ADMIN_USER_PASSWORD_AUTH"}, "AdminRespondToAuthChallenge": {"ChallengeName": "NEW_PASSWORD_REQUIRED"},
		"CreateUserPoolClient": {"ClientName": "x"}, "ListUserPools": {"MaxResults": 60}, "CreateUserPool": {"PoolName": "x"},
		"CreateUserPoolDomain": {"Domain": "plant"}, "DescribeUserPoolDomain": {"Domain": "plant"}, "UpdateUserPoolDomain": {"Domain": "plant"}, "DeleteUserPoolDomain": {"Domain": "plant"},
		"CreateResourceServer": {"Identifier": "api", "Name": "x"}, "DescribeResourceServer": {"Identifier": "api"}, "DeleteResourceServer": {"Identifier": "api"},
		"UpdateResourceServer": {"Identifier": "api", "Name": "x"}, "AdminSetUserSettings": {"MFAOptions": []object{}},
		"CreateIdentityProvider": {"ProviderType": "OIDC", "ProviderDetails": object{"client_id": "x"}},
		"CreateUserImportJob":    {"JobName": "x", "CloudWatchLogsRoleArn": "arn:aws:iam::999999999999:role/logs"}, "DescribeUserImportJob": {"JobId": "import-x"},
		"ListUserImportJobs": {"MaxResults": 1}, "StartUserImportJob": {"JobId": "import-x"}, "StopUserImportJob": {"JobId": "import-x"},
		"AdminLinkProviderForUser": {"DestinationUser": object{"ProviderName": "Cognito", "ProviderAttributeValue": "ada"},
			"SourceUser": object{"ProviderName": "Corp", "ProviderAttributeName": "Cognito_Subject", "ProviderAttributeValue": "x"}},
		"AdminDisableProviderForUser": {"User": object{"ProviderName": "Corp", "ProviderAttributeName": "Cognito_Subject", "ProviderAttributeValue": "x"}},
	}
	for _, op := range Service(Config{}).Coverage().Implemented {
		if op.Public || op.Operation == "CreateUserPool" {
			continue
		}
		in := object{}
		for k, v := range body {
			in[k] = v
		}
		for k, v := range more[op.Operation] {
			in[k] = v
		}
		status, answer := w.as(other, op.Operation, in)
		if op.Operation == "ListUserPools" {
			same(t, "foreign pools", answer, object{"UserPools": []any{}})
			continue
		}
		if op.Operation == "DescribeUserPoolDomain" { // AWS does not call an unknown domain an error
			same(t, "foreign domain", answer, object{"DomainDescription": object{}})
			continue
		}
		if status != 400 || answer["__type"] != "ResourceNotFoundException" {
			t.Errorf("%s of another account's pool answers %d %v", op.Operation, status, answer)
		}
	}
}

func TestIAMDecidesOnThePool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, _ := w.setUp()
	w.do("CreateUserPool", object{"PoolName": "p", "UserPoolTags": object{"team": "plant"}})
	w.do("AdminGetUser", object{"UserPoolId": pool, "Username": "ada"})
	n := len(w.asked)
	same(t, "creation", w.asked[n-2], wire.Access{Action: "cognito-idp:CreateUserPool", Resources: []string{"*"},
		Conditions: map[string][]string{"aws:TagKeys": {"team"}, "aws:RequestTag/team": {"plant"}}})
	same(t, "operation on a pool", w.asked[n-1], wire.Access{Action: "cognito-idp:AdminGetUser", Resources: []string{"arn:aws:cognito-idp:us-east-1:" + mine + ":userpool/" + pool}})
}
