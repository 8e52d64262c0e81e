package cognitoidp

import (
	"encoding/json"
	"testing"

	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

func TestPasskeysOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	factors := []any{"PASSWORD", "WEB_AUTHN"}
	first := func() any {
		return dig(w.do("DescribeUserPool", object{"UserPoolId": pool}), "UserPool", "Policies", "SignInPolicy", "AllowedFirstAuthFactors")
	}
	same(t, "first factors", first(), []any{"PASSWORD"})
	w.do("UpdateUserPool", object{"UserPoolId": pool, "Policies": object{"SignInPolicy": object{"AllowedFirstAuthFactors": factors}}})
	same(t, "first factors", first(), factors)
	w.do("UpdateUserPool", object{"UserPoolId": pool}) // which keeps policies that it does not name
	same(t, "first factors", first(), factors)
	set := object{"RelyingPartyId": "iot.lan", "UserVerification": "required"}
	same(t, "WebAuthn", w.do("SetUserPoolMfaConfig", object{"UserPoolId": pool, "WebAuthnConfiguration": set}), object{"MfaConfiguration": "OFF", "WebAuthnConfiguration": set})
	w.do("UpdateUserPool", object{"UserPoolId": pool})
	same(t, "WebAuthn", w.do("GetUserPoolMfaConfig", object{"UserPoolId": pool}), object{"MfaConfiguration": "OFF", "WebAuthnConfiguration": set})
	w.do("UpdateUserPoolClient", object{"UserPoolId": pool, "ClientId": client, "ExplicitAuthFlows": []any{"ALLOW_USER_AUTH", "ALLOW_USER_PASSWORD_AUTH"}})

	tokens := w.do("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ada", "PASSWORD": good}})
	access := dig(tokens, "AuthenticationResult", "AccessToken")
	a := webauthntest.New("https://app.iot.lan")
	options, err := json.Marshal(w.do("StartWebAuthnRegistration", object{"AccessToken": access})["CredentialCreationOptions"])
	if err != nil {
		t.Fatal(err)
	}
	var credential any
	if err := json.Unmarshal(a.Create(options), &credential); err != nil {
		t.Fatal(err)
	}
	w.fails("CompleteWebAuthnRegistration", object{"AccessToken": access}, "InvalidParameterException", "credential")
	w.fails("CompleteWebAuthnRegistration", object{"AccessToken": access, "Credential": "x"}, "InvalidParameterException", "Credential: the credential cannot be read")
	same(t, "registration", w.do("CompleteWebAuthnRegistration", object{"AccessToken": access, "Credential": credential}), object{})
	w.fails("CompleteWebAuthnRegistration", object{"AccessToken": access, "Credential": credential}, "WebAuthnChallengeNotFoundException", "answered already")
	same(t, "factors", w.do("GetUserAuthFactors", object{"AccessToken": access}), object{"Username": "ada", "ConfiguredUserAuthFactors": factors})
	listed, _ := w.do("ListWebAuthnCredentials", object{"AccessToken": access, "MaxResults": 5})["Credentials"].([]any)
	if len(listed) != 1 {
		t.Fatalf("listed are %v", listed)
	}
	key, _ := listed[0].(object)
	same(t, "passkey", []any{key["FriendlyCredentialName"], key["RelyingPartyId"], key["AuthenticatorAttachment"], key["AuthenticatorTransports"]},
		[]any{"Platform passkey", "iot.lan", "platform", []any{"internal", "hybrid"}})

	chosen := w.do("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_AUTH", "AuthParameters": object{"USERNAME": "ada"}})
	same(t, "choice", []any{chosen["ChallengeName"], chosen["AvailableChallenges"], chosen["ChallengeParameters"]},
		[]any{"SELECT_CHALLENGE", []any{"PASSWORD", "PASSWORD_SRP", "WEB_AUTHN"}, object{}})
	asked := w.do("RespondToAuthChallenge", object{"ClientId": client, "ChallengeName": "SELECT_CHALLENGE", "Session": chosen["Session"],
		"ChallengeResponses": object{"USERNAME": "ada", "ANSWER": "WEB_AUTHN"}})
	request, _ := dig(asked, "ChallengeParameters", "CREDENTIAL_REQUEST_OPTIONS").(string)
	done := w.do("RespondToAuthChallenge", object{"ClientId": client, "ChallengeName": "WEB_AUTHN", "Session": asked["Session"],
		"ChallengeResponses": object{"USERNAME": "ada", "CREDENTIAL": string(a.Get([]byte(request)))}})
	if dig(done, "AuthenticationResult", "AccessToken") == nil {
		t.Errorf("the passkey gives %v", done)
	}
	same(t, "removal", w.do("DeleteWebAuthnCredential", object{"AccessToken": access, "CredentialId": key["CredentialId"]}), object{})
	w.fails("DeleteWebAuthnCredential", object{"AccessToken": access, "CredentialId": key["CredentialId"]}, "ResourceNotFoundException", "no such passkey")
	same(t, "passkeys", w.do("ListWebAuthnCredentials", object{"AccessToken": access}), object{"Credentials": []any{}})
	w.fails("SetUserPoolMfaConfig", object{"UserPoolId": pool, "WebAuthnConfiguration": object{"RelyingPartyId": "https://iot.lan"}}, "InvalidParameterException", "RelyingPartyId must be a domain")
}
