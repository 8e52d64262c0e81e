package cognitoidp

import (
	"maps"
	"testing"

	"github.com/imprint-iot/imprint/internal/jwt"
)

// withAccessToken has the operations that take an access token, with what they need beside it.
var withAccessToken = map[string]object{
	"AssociateSoftwareToken":           {},
	"ChangePassword":                   {"PreviousPassword": good, "ProposedPassword": good + "2"},
	"CompleteWebAuthnRegistration":     {"Credential": object{"id": "x"}},
	"DeleteUser":                       {},
	"DeleteWebAuthnCredential":         {"CredentialId": "x"},
	"ListWebAuthnCredentials":          {},
	"StartWebAuthnRegistration":        {},
	"DeleteUserAttributes":             {"UserAttributeNames": []string{"name"}},
	"GetUser":                          {},
	"GetUserAttributeVerificationCode": {"AttributeName": "email"},
	"GetUserAuthFactors":               {},
	"GlobalSignOut":                    {},
	"SetUserMFAPreference":             {"SoftwareTokenMfaSettings": object{"Enabled": false}},
	"SetUserSettings":                  {"MFAOptions": []object{}},
	"UpdateUserAttributes":             {"UserAttributes": []object{{"Name": "name", "Value": "Eve"}}},
	"VerifySoftwareToken":              {"UserCode": "123456"},
	"VerifyUserAttribute":              {"AttributeName": "email", "Code": "123456"},
}

// Whoever has the keys of one pool, or an account in it, is nobody in another: no operation takes a token that the pool it speaks of has not
// signed itself, for its own client.
func TestATokenOfAnotherPoolIsRefusedEverywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, there := w.setUp()
	evil := w.keys.made[1] // of access tokens of the first pool
	_, here := w.setUp()
	own := w.keys.made[3]
	token := func(client string) string {
		return dig(w.signIn(client), "AuthenticationResult", "AccessToken").(string)
	}
	foreign, real := token(there), token(here)
	claims := func(token string) jwt.Claims {
		parsed, err := jwt.Parse(token)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Claims
	}
	forged := func(kid string, base jwt.Claims, change jwt.Claims) string {
		c := maps.Clone(base)
		maps.Copy(c, change)
		text, err := jwt.Sign(evil, kid, c)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	drills := map[string]string{
		"its claims under our issuer":    forged(jwt.Thumbprint(&evil.PublicKey), claims(foreign), jwt.Claims{"iss": claims(real).String("iss")}),
		"our claims with its key":        forged(jwt.Thumbprint(&evil.PublicKey), claims(real), nil),
		"our claims, and our key's name": forged(jwt.Thumbprint(&own.PublicKey), claims(real), nil),
		"its issuer with our client":     forged(jwt.Thumbprint(&evil.PublicKey), claims(real), jwt.Claims{"iss": claims(foreign).String("iss")}),
	}
	known := maps.Clone(withAccessToken)
	for _, o := range Service(Config{}).Coverage().Implemented {
		f, takes := o.Input.FieldByName("AccessToken")
		if !takes {
			continue
		}
		more, listed := known[o.Operation]
		if !listed {
			t.Errorf("%s takes an access token (%s): give withAccessToken an example of it", o.Operation, f.Type)
			continue
		}
		delete(known, o.Operation)
		for name, token := range drills {
			in := maps.Clone(more)
			in["AccessToken"] = token
			t.Log(o.Operation, name)
			w.fails(o.Operation, in, "NotAuthorizedException", "Invalid Access Token")
		}
	}
	for name := range known {
		t.Errorf("%s takes no access token", name)
	}
	for _, token := range []string{foreign, real} { // nothing has happened to either
		if got := dig(w.do("GetUser", object{"AccessToken": token}), "Username"); got != "ada" {
			t.Errorf("the user is %v", got)
		}
	}
}
