package server

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

const (
	account  = "000000000000"
	trustIoT = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	trustAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"sts:AssumeRole"}}`
	allowAll = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	lamps    = `{"Parameters":{"AWS::IoT::Certificate::Id":{"Type":"String"}},"Resources":{
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`
)

// residents are credentials of every kind.
type residents struct {
	session       client.Credentials
	device, claim tls.Certificate
	poolID, app   string
	tokens        object
}

const password = "Correct-Horse-7!"

// newResidents makes one credential of every kind; people takes a second more.
func newResidents(t testing.TB, c *client.Client, people bool) (r residents) {
	t.Helper()
	query := func(service, version, action string, params map[string]string, out any) {
		t.Helper()
		noError(t, c.Query(t.Context(), service, version, action, params, out))
	}
	rest := func(method, path string, in any) (out object) {
		t.Helper()
		noError(t, c.REST(t.Context(), "iot", method, path, in, &out))
		return out
	}
	for role, trust := range map[string]string{"provisioning": trustIoT, "operator": trustAll} {
		query("iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": role, "AssumeRolePolicyDocument": trust}, nil)
		query("iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": role, "PolicyName": "all", "PolicyDocument": allowAll}, nil)
	}
	r.session = assume(t, c)
	rest(http.MethodPost, "/policies/all", object{"policyDocument": allowAll})
	cert := rest(http.MethodPost, "/keys-and-certificate?setAsActive=true", nil)
	r.device = pairOf(t, cert["certificatePem"], cert["keyPair"].(object)["PrivateKey"])
	rest(http.MethodPut, "/target-policies/all", object{"target": cert["certificateArn"]})
	rest(http.MethodPost, "/provisioning-templates", object{"templateName": "lamps", "templateBody": lamps, "enabled": true,
		"provisioningRoleArn": "arn:aws:iam::" + account + ":role/provisioning"})
	claim := rest(http.MethodPost, "/provisioning-templates/lamps/provisioning-claim", object{})
	r.claim = pairOf(t, claim["certificatePem"], claim["keyPair"].(object)["PrivateKey"])
	if people {
		r.poolID = pool(t, c, "CreateUserPool", object{"PoolName": "people"})["UserPool"].(object)["Id"].(string)
		app := pool(t, c, "CreateUserPoolClient", object{"UserPoolId": r.poolID, "ClientName": "app", "ExplicitAuthFlows": []string{"ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"}})
		r.app = app["UserPoolClient"].(object)["ClientId"].(string)
		pool(t, c, "AdminCreateUser", object{"UserPoolId": r.poolID, "Username": "ida", "MessageAction": "SUPPRESS"})
		pool(t, c, "AdminSetUserPassword", object{"UserPoolId": r.poolID, "Username": "ida", "Password": password, "Permanent": true})
		out := pool(t, c, "InitiateAuth", object{"ClientId": r.app, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ida", "PASSWORD": password}})
		r.tokens = out["AuthenticationResult"].(object)
	}
	return r
}

func assume(t testing.TB, c *client.Client) client.Credentials {
	t.Helper()
	var out struct {
		C struct{ AccessKeyId, SecretAccessKey, SessionToken string } `xml:"AssumeRoleResult>Credentials"`
	}
	noError(t, c.Query(t.Context(), "sts", "2011-06-15", "AssumeRole", map[string]string{"RoleArn": "arn:aws:iam::" + account + ":role/operator", "RoleSessionName": "op"}, &out))
	return client.Credentials{AccessKeyID: out.C.AccessKeyId, Secret: fleet.Secret(out.C.SecretAccessKey), Token: fleet.Secret(out.C.SessionToken)}
}

func TestARestartInvalidatesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	old, env := api(t, s), s.Env() // the client keeps the roots of the first start
	made := newResidents(t, old, true)
	made.use(t, s, old)
	_, keys := answer(t, s, http.MethodGet, "/"+made.poolID+"/.well-known/jwks.json", "")
	var endpoint, again object
	noError(t, old.REST(t.Context(), "iot", http.MethodGet, "/endpoint", nil, &endpoint))
	stopServer(t, s)

	s = startServer(t, Config{Data: s.cfg.Data, KeyPool: -1})
	for i, v := range s.Env() {
		if v != env[i] {
			t.Errorf("%s has changed", v.Name)
		}
	}
	made.use(t, s, old)
	if _, now := answer(t, s, http.MethodGet, "/"+made.poolID+"/.well-known/jwks.json", ""); now != keys {
		t.Error("the pool has other keys")
	}
	noError(t, old.REST(t.Context(), "iot", http.MethodGet, "/endpoint", nil, &again))
	if text(endpoint) != text(again) {
		t.Errorf("endpoint %v became %v", endpoint, again)
	}
}

// use uses all credentials.
func (r residents) use(t *testing.T, s *Server, c *client.Client) {
	t.Helper()
	for name, c := range map[string]*client.Client{"arn:aws:iam::" + account + ":user/administrator": c,
		"arn:aws:sts::" + account + ":assumed-role/operator/op": c.As(r.session)} {
		if arn, err := whoami(t, c); err != nil || arn != name {
			t.Errorf("%s is %q, %v", name, arn, err)
		}
	}
	device(t, s, r.device).Connected("lamp").Disconnect()
	d := device(t, s, r.claim).Connected("new")
	d.Subscribe("$aws/certificates/create/json/rejected")
	d.Publish("$aws/certificates/create/json", "[", 1)
	d.Message()
	d.Disconnect()
	anonymous := as(t, s, client.Credentials{})
	if user := pool(t, anonymous, "GetUser", object{"AccessToken": r.tokens["AccessToken"]}); user["Username"] != "ida" {
		t.Errorf("GetUser: %v", user)
	}
	fresh := pool(t, anonymous, "InitiateAuth", object{"ClientId": r.app, "AuthFlow": "REFRESH_TOKEN_AUTH", "AuthParameters": object{"REFRESH_TOKEN": r.tokens["RefreshToken"]}})
	verify(t, s, r.poolID, fresh["AuthenticationResult"].(object)["IdToken"].(string))
	verify(t, s, r.poolID, r.tokens["IdToken"].(string))
}

// verify checks a token as a resource server would: by the documents that its issuer publishes and a library that is not ours.
func verify(t *testing.T, s *Server, poolID, token string) {
	t.Helper()
	var openid struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	res, body := answer(t, s, http.MethodGet, "/"+poolID+"/.well-known/openid-configuration", "")
	noError(t, json.Unmarshal([]byte(body), &openid))
	if openid.Issuer != s.site.baseURL()+"/"+poolID || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.StatusCode != 200 {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	_, body = answer(t, s, http.MethodGet, openid.Keys[len(s.site.baseURL()):], "")
	claims := verifiedByJOSE(t, token, body)
	if claims["iss"] != openid.Issuer || claims["cognito:username"] != "ida" || claims["token_use"] != "id" {
		t.Errorf("claims %v", claims)
	}
}
