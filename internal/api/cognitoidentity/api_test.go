package cognitoidentity

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

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/identitypool"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
	"github.com/imprint-iot/imprint/internal/wire"
)

const (
	mine     = "000000000000"
	other    = "999999999999"
	provider = "cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEf123"
	role     = "arn:aws:iam::" + mine + ":role/installer"
)

// rules stands in for the user pools and IAM below: every token "good" is ada's, every session is issued.
type rules struct{}

func (rules) VerifyIDToken(_ context.Context, _ fleet.Scope, _, token string) (jwt.Claims, error) {
	if token != "good" {
		return nil, fleet.Denied("Token signature invalid.")
	}
	return jwt.Claims{"aud": "app", "sub": "sub-1", "cognito:username": "ada"}, nil
}

func (rules) StillHold(context.Context, fleet.Scope, string, jwt.Claims) error { return nil }

func (rules) IssueSession(context.Context, iam.SessionRequest) (iam.Session, error) {
	return iam.Session{Credentials: iam.Credentials{AccessKeyID: "ASIAX", Secret: "s", Token: "t", Expires: time.Unix(1_800_000_000, 0)}}, nil
}

func (rules) VerifyProviderToken(_ context.Context, _ fleet.Scope, arn string, token fleet.Secret) (iam.ProviderToken, error) {
	e := iam.Entity{Name: strings.TrimPrefix(arn, "arn:aws:iam::"+mine+":oidc-provider/")}
	if token != "good" {
		return iam.ProviderToken{}, &oidc.Error{Reason: oidc.Unreachable, Msg: "could not get the keys"}
	}
	return iam.ProviderToken{Token: &oidc.Token{Subject: "ann", Audience: "app", Claims: jwt.Claims{"sub": "ann"}}, Provider: e}, nil
}

func (rules) ProviderStillHolds(context.Context, fleet.Scope, iam.ProviderToken) error { return nil }

func (rules) PassRole(_ context.Context, _ *fleet.Caller, role, service string) error {
	if strings.HasSuffix(role, "/forbidden") || service != "cognito-identity.amazonaws.com" {
		return fleet.Denied("User: x is not authorized to perform: iam:PassRole on resource: %s", role).WithCode("AccessDeniedException")
	}
	return nil
}

var key = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// world is the API behind its frontend. The header Account says who calls.
type world struct {
	t     *testing.T
	front *wire.Frontend
	mu    sync.Mutex
	asked []wire.Access
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	db, err := store.Open(context.Background(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	k, err := key()
	if err != nil {
		t.Fatal(err)
	}
	pools := identitypool.New(identitypool.Config{Store: db, Tokens: rules{}, Sessions: rules{}, Key: k, IssuerHost: "iot.lan:8443"})
	w.front = &wire.Frontend{
		Services: []*wire.Service{Service(Config{Pools: pools, Roles: rules{}})},
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

func (w *world) as(account, operation string, body object) (int, object) {
	w.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "https://iot.lan:8443/", strings.NewReader(string(text)))
	r.Header.Set("X-Amz-Target", "AWSCognitoIdentityService."+operation)
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
func (w *world) do(operation string, body object) object {
	w.t.Helper()
	status, answer := w.as(mine, operation, body)
	if status != 200 {
		w.t.Fatalf("%s answers %d %v", operation, status, answer)
	}
	return answer
}

// fails calls an operation that must be refused.
func (w *world) fails(operation string, body object, code, words string) {
	w.t.Helper()
	status, answer := w.as(mine, operation, body)
	if message, _ := answer["message"].(string); status != 400 || answer["__type"] != code || !strings.Contains(message, words) {
		w.t.Errorf("%s answers %d %v, want %s %q", operation, status, answer, code, words)
	}
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

func (w *world) pool() string {
	w.t.Helper()
	return w.do("CreateIdentityPool", object{"IdentityPoolName": "installers", "AllowUnauthenticatedIdentities": true, "AllowClassicFlow": true,
		"CognitoIdentityProviders": []object{{"ProviderName": provider, "ClientId": "app", "ServerSideTokenCheck": true}}, "IdentityPoolTags": object{"a": "b"}})["IdentityPoolId"].(string)
}

func TestAPoolReadsBackAsItWasWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.pool()
	want := object{"IdentityPoolId": id, "IdentityPoolName": "installers", "AllowUnauthenticatedIdentities": true, "AllowClassicFlow": true,
		"CognitoIdentityProviders": []object{{"ProviderName": provider, "ClientId": "app", "ServerSideTokenCheck": true}}, "IdentityPoolTags": object{"a": "b"}}
	same(t, "pool", w.do("DescribeIdentityPool", object{"IdentityPoolId": id}), want)
	want["IdentityPoolName"] = "renamed"
	same(t, "updated pool", w.do("UpdateIdentityPool", want), want)
	same(t, "list", w.do("ListIdentityPools", object{"MaxResults": 10})["IdentityPools"], []object{{"IdentityPoolId": id, "IdentityPoolName": "renamed"}})
	arn := "arn:aws:cognito-identity:us-east-1:" + mine + ":identitypool/" + id
	w.do("TagResource", object{"ResourceArn": arn, "Tags": object{"c": "d"}})
	w.do("UntagResource", object{"ResourceArn": arn, "TagKeys": []string{"a"}})
	same(t, "tags", w.do("ListTagsForResource", object{"ResourceArn": arn}), object{"Tags": object{"c": "d"}})
	same(t, "output", w.do("DeleteIdentityPool", object{"IdentityPoolId": id}), object{})
	w.fails("DescribeIdentityPool", object{"IdentityPoolId": id}, "ResourceNotFoundException", "IdentityPool '"+id+"' not found.")
	w.fails("CreateIdentityPool", object{"IdentityPoolName": "p"}, "ValidationException", "allowUnauthenticatedIdentities")
}

func TestRolesReplaceThoseBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.pool()
	mappings := object{provider + ":app": object{"Type": "Rules", "AmbiguousRoleResolution": "Deny",
		"RulesConfiguration": object{"Rules": []object{{"Claim": "team", "MatchType": "Equals", "Value": "x", "RoleARN": role}}}}}
	in := object{"IdentityPoolId": id, "Roles": object{"authenticated": role}, "RoleMappings": mappings}
	same(t, "output", w.do("SetIdentityPoolRoles", in), object{})
	same(t, "roles", w.do("GetIdentityPoolRoles", object{"IdentityPoolId": id}), in)
	w.do("SetIdentityPoolRoles", object{"IdentityPoolId": id, "Roles": object{"unauthenticated": role}})
	got := w.do("GetIdentityPoolRoles", object{"IdentityPoolId": id})
	same(t, "roles", got["Roles"], object{"unauthenticated": role})
	if m, _ := got["RoleMappings"].(object); len(m) != 0 {
		t.Errorf("mappings stayed: %v", m)
	}
	w.fails("SetIdentityPoolRoles", object{"IdentityPoolId": id, "Roles": object{"authenticated": "arn:aws:iam::" + mine + ":role/forbidden"}}, "AccessDeniedException", "iam:PassRole")
	w.fails("SetIdentityPoolRoles", object{"IdentityPoolId": id, "Roles": object{}, "RoleMappings": object{provider + ":app": object{"Type": "Token"}}}, "InvalidParameterException", "AmbiguousRoleResolution")
	tags := object{"IdentityPoolId": id, "IdentityProviderName": provider, "UseDefaults": false, "PrincipalTags": object{"team": "custom:team"}}
	same(t, "tag map", w.do("SetPrincipalTagAttributeMap", tags), tags)
	same(t, "tag map", w.do("GetPrincipalTagAttributeMap", object{"IdentityPoolId": id, "IdentityProviderName": "iot.lan:8443/us-east-1_AbCdEf123"})["PrincipalTags"], tags["PrincipalTags"])
}

func TestIdentitiesOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.pool()
	w.do("SetIdentityPoolRoles", object{"IdentityPoolId": id, "Roles": object{"authenticated": role, "unauthenticated": role}})
	logins := object{"iot.lan:8443/us-east-1_AbCdEf123": "good"}
	identity := w.do("GetId", object{"IdentityPoolId": id, "AccountId": mine, "Logins": logins})["IdentityId"]
	out := w.do("GetCredentialsForIdentity", object{"IdentityId": identity, "Logins": logins})
	same(t, "credentials", out, object{"IdentityId": identity, "Credentials": object{"AccessKeyId": "ASIAX", "SecretKey": "s", "SessionToken": "t", "Expiration": 1_800_000_000}})
	if token, _ := w.do("GetOpenIdToken", object{"IdentityId": identity, "Logins": logins})["Token"].(string); strings.Count(token, ".") != 2 {
		t.Errorf("token %q", token)
	}
	// Amplify 6 sends an empty map for guests.
	guest := w.do("GetId", object{"IdentityPoolId": id, "Logins": object{}})["IdentityId"]
	w.do("GetCredentialsForIdentity", object{"IdentityId": guest})
	same(t, "logins", w.do("DescribeIdentity", object{"IdentityId": identity})["Logins"], []string{provider})
	page := w.do("ListIdentities", object{"IdentityPoolId": id, "MaxResults": 1})
	rest := w.do("ListIdentities", object{"IdentityPoolId": id, "MaxResults": 1, "NextToken": page["NextToken"], "HideDisabled": true})
	if len(page["Identities"].([]any)) != 1 || len(rest["Identities"].([]any)) != 1 || rest["NextToken"] != nil {
		t.Errorf("pages %v, %v", page, rest)
	}
	w.fails("ListIdentities", object{"IdentityPoolId": id, "MaxResults": 1, "NextToken": "!"}, "InvalidParameterException", "NextToken")
	w.do("UnlinkIdentity", object{"IdentityId": identity, "Logins": logins, "LoginsToRemove": []string{provider}})
	w.fails("GetId", object{"IdentityPoolId": id, "Logins": object{provider: "bad"}}, "NotAuthorizedException", "Invalid login token. Token signature invalid.")
	same(t, "deletion", w.do("DeleteIdentities", object{"IdentityIdsToDelete": []any{identity, guest}}), object{"UnprocessedIdentityIds": []any{}})
	w.fails("GetCredentialsForIdentity", object{"IdentityId": identity}, "ResourceNotFoundException", "Identity '"+identity.(string)+"' not found.")
}

func TestProvidersOfOthersAreRefusedClearly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, member := range []object{{"DeveloperProviderName": "me"}, {"SamlProviderARNs": []string{"arn:aws:iam::000000000000:saml-provider/kc"}}} {
		member["IdentityPoolName"], member["AllowUnauthenticatedIdentities"] = "p", false
		status, answer := w.as(mine, "CreateIdentityPool", member)
		if message, _ := answer["message"].(string); status == 200 || !strings.Contains(message, "not implemented") {
			t.Errorf("%v answers %d %v", member, status, answer)
		}
	}
}

func TestPoolsTakeProvidersOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const arn = "arn:aws:iam::000000000000:oidc-provider/kc.example/realm"
	body := object{"IdentityPoolName": "p", "AllowUnauthenticatedIdentities": false, "OpenIdConnectProviderARNs": []string{arn}, "SupportedLoginProviders": object{"accounts.google.com": "x;y"}}
	made := w.do("CreateIdentityPool", body)
	shown := w.do("DescribeIdentityPool", object{"IdentityPoolId": made["IdentityPoolId"]})
	same(t, "providers", shown["OpenIdConnectProviderARNs"], []string{arn})
	same(t, "public providers", shown["SupportedLoginProviders"], object{"accounts.google.com": "x;y"})
	id := w.do("GetId", object{"IdentityPoolId": made["IdentityPoolId"], "Logins": object{"kc.example/realm": "good"}})["IdentityId"]
	same(t, "logins", w.do("DescribeIdentity", object{"IdentityId": id})["Logins"], []string{"kc.example/realm"})
	w.fails("GetId", object{"IdentityPoolId": made["IdentityPoolId"], "Logins": object{"kc.example/realm": "bad"}}, "ExternalServiceException", "could not get the keys")
	w.fails("SetIdentityPoolRoles", object{"IdentityPoolId": made["IdentityPoolId"], "Roles": object{}, "RoleMappings": object{arn: object{"Type": "Token", "AmbiguousRoleResolution": "Deny"}}}, "InvalidParameterException", "type Token")
	body["IdentityPoolId"] = made["IdentityPoolId"]
	delete(body, "OpenIdConnectProviderARNs")
	if changed := w.do("UpdateIdentityPool", body); changed["OpenIdConnectProviderARNs"] != nil {
		t.Errorf("%v", changed)
	}
}

func TestAnotherAccountSeesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.pool()
	identity := w.do("GetId", object{"IdentityPoolId": id})["IdentityId"]
	body := object{"IdentityPoolId": id, "IdentityId": identity, "ResourceArn": "arn:aws:cognito-identity:us-east-1:" + mine + ":identitypool/" + id,
		"IdentityProviderName": provider, "MaxResults": 10, "Tags": object{"a": "b"}, "TagKeys": []string{"a"}, "Roles": object{},
		"IdentityPoolName": "p", "AllowUnauthenticatedIdentities": true}
	for _, op := range Service(Config{}).Coverage().Implemented {
		if op.Public || op.Operation == "CreateIdentityPool" {
			continue
		}
		if op.Operation == "DeleteIdentities" {
			body["IdentityIdsToDelete"] = []any{identity}
		}
		status, answer := w.as(other, op.Operation, body)
		switch op.Operation {
		case "ListIdentityPools":
			same(t, "foreign pools", answer, object{"IdentityPools": []any{}})
		case "DeleteIdentities":
			w.do("DescribeIdentity", object{"IdentityId": identity}) // still there
		default:
			if status != 400 || answer["__type"] != "ResourceNotFoundException" {
				t.Errorf("%s of another account's pool answers %d %v", op.Operation, status, answer)
			}
		}
	}
}
