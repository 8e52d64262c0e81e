package compat

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

// TestAmplifySignsInByRedirect: signInWithRedirect and signOut of Amplify 6, by configuration alone.
func TestAmplifySignsInByRedirect(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "redirect")
	app, home, configure := servedApp(t, "redirect")
	domain := strings.ToLower(w.prefix)
	_, err := w.admin.pools.CreateUserPoolDomain(t.Context(), &cognitoidentityprovider.CreateUserPoolDomainInput{UserPoolId: &w.poolID, Domain: &domain})
	check(t, err)
	client, err := w.admin.pools.CreateUserPoolClient(t.Context(), &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: &w.poolID, ClientName: ptr("web"),
		AllowedOAuthFlowsUserPoolClient: true, AllowedOAuthFlows: []idptypes.OAuthFlowType{"code"}, AllowedOAuthScopes: []string{"openid", "aws.cognito.signin.user.admin"},
		CallbackURLs: []string{home}, LogoutURLs: []string{home}, SupportedIdentityProviders: []string{"COGNITO"}})
	check(t, err)
	_, err = w.admin.pools.AdminCreateUser(t.Context(), &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: &w.poolID, Username: ptr("ida"), MessageAction: "SUPPRESS",
		UserAttributes: []idptypes.AttributeType{{Name: ptr("email"), Value: ptr("ida@example.com")}}})
	check(t, err)
	_, err = w.admin.pools.AdminSetUserPassword(t.Context(), &cognitoidentityprovider.AdminSetUserPasswordInput{UserPoolId: &w.poolID, Username: ptr("ida"), Password: &w.password, Permanent: true})
	check(t, err)
	endpoint := s.get("AWS_ENDPOINT_URL")
	configure(object{"Auth": object{"Cognito": object{"userPoolId": w.poolID, "userPoolClientId": *client.UserPoolClient.ClientId, "userPoolEndpoint": endpoint + "/",
		"loginWith": object{"oauth": object{"domain": strings.TrimPrefix(endpoint, "https://") + "/auth/" + domain, "scopes": []string{"openid", "aws.cognito.signin.user.admin"},
			"redirectSignIn": []string{home}, "redirectSignOut": []string{home}, "responseType": "code"}}}}})
	got := browse[struct {
		Who, Pages string
		Seen       struct{ State, Scope, Email string }
		Requests   []string
		Console    []string
	}](t, s, browserHome(t, s.get("AWS_CA_BUNDLE")), "redirect.mjs", "APP="+app, "ADDRESS="+home, "PASSWORD="+w.password)
	if got.Who != "signed in: ida" || got.Pages != "/auth/"+domain+"/login" || got.Seen.State != "came from here" || got.Seen.Email != "ida@example.com" ||
		got.Seen.Scope != "openid aws.cognito.signin.user.admin" {
		t.Errorf("the app saw %+v", got)
	}
}
