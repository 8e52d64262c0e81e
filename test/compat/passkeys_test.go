package compat

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idpdocument "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/document"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"

	"github.com/imprint-iot/imprint/internal/webauthn/webauthntest"
)

// A step is what a method of Amplify answers.
type step struct {
	Error, Message string
	IsSignedIn     bool
	NextStep       struct {
		SignInStep          string
		AvailableChallenges []string
	}
}

// passkeyPool makes a pool where people sign in with passkeys of localhost, at the prefix "keys", with the user ida.
func passkeyPool(t *testing.T, s *site, admin *sdk, password string) *string {
	t.Helper()
	made, err := admin.pools.CreateUserPool(t.Context(), &cognitoidentityprovider.CreateUserPoolInput{PoolName: ptr("Installers of Plant 7"), Policies: &idptypes.UserPoolPolicyType{
		SignInPolicy: &idptypes.SignInPolicyType{AllowedFirstAuthFactors: []idptypes.AuthFactorType{"PASSWORD", "WEB_AUTHN"}}}})
	check(t, err)
	id := made.UserPool.Id
	_, err = admin.pools.SetUserPoolMfaConfig(t.Context(), &cognitoidentityprovider.SetUserPoolMfaConfigInput{UserPoolId: id,
		WebAuthnConfiguration: &idptypes.WebAuthnConfigurationType{UserVerification: idptypes.UserVerificationTypeRequired}})
	check(t, err)
	_, err = admin.pools.CreateUserPoolDomain(t.Context(), &cognitoidentityprovider.CreateUserPoolDomainInput{UserPoolId: id, Domain: ptr("keys")})
	check(t, err)
	_, err = admin.pools.AdminCreateUser(t.Context(), &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: id, Username: ptr("ida"), MessageAction: "SUPPRESS"})
	check(t, err)
	_, err = admin.pools.AdminSetUserPassword(t.Context(), &cognitoidentityprovider.AdminSetUserPasswordInput{UserPoolId: id, Username: ptr("ida"), Password: &password, Permanent: true})
	check(t, err)
	return id
}

// TestTheGoSDKUsesPasskeys: each operation and its errors, typed, and a passkey that outlives the server's death.
func TestTheGoSDKUsesPasskeys(t *testing.T) {
	t.Parallel()
	const password = "Correct-Horse-7!"
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	defer func() { _ = s.stop() }()
	admin := s.adminSDK(t)
	id := passkeyPool(t, s, admin, password)
	client, err := admin.pools.CreateUserPoolClient(t.Context(), &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: id, ClientName: ptr("app"),
		ExplicitAuthFlows: []idptypes.ExplicitAuthFlowsType{"ALLOW_USER_AUTH", "ALLOW_USER_PASSWORD_AUTH"}})
	check(t, err)
	clientID := client.UserPoolClient.ClientId
	signIn := func(parameters map[string]string) (*cognitoidentityprovider.InitiateAuthOutput, error) {
		parameters["USERNAME"] = "ida"
		return admin.pools.InitiateAuth(t.Context(), &cognitoidentityprovider.InitiateAuthInput{ClientId: clientID, AuthFlow: "USER_AUTH", AuthParameters: parameters})
	}
	first, err := signIn(map[string]string{"PREFERRED_CHALLENGE": "PASSWORD", "PASSWORD": password})
	check(t, err)
	access := first.AuthenticationResult.AccessToken
	a := webauthntest.New("http://localhost:3000")
	ask := func() []byte {
		t.Helper()
		out, err := admin.pools.StartWebAuthnRegistration(t.Context(), &cognitoidentityprovider.StartWebAuthnRegistrationInput{AccessToken: access})
		check(t, err)
		options, err := out.CredentialCreationOptions.MarshalSmithyDocument()
		check(t, err)
		return options
	}
	register := func(answer []byte) error {
		t.Helper()
		var credential any
		check(t, json.Unmarshal(answer, &credential))
		_, err := admin.pools.CompleteWebAuthnRegistration(t.Context(), &cognitoidentityprovider.CompleteWebAuthnRegistrationInput{AccessToken: access,
			Credential: idpdocument.NewLazyDocument(credential)})
		return err
	}
	evil := webauthntest.New("https://evil.example")
	wantAs[*idptypes.WebAuthnOriginNotAllowedException](t, register(evil.Create(ask())))
	evil.Origin, evil.Party = a.Origin, "evil.example"
	wantAs[*idptypes.WebAuthnRelyingPartyMismatchException](t, register(evil.Create(ask())))
	evil.Party, evil.Flags = "", webauthntest.Present
	wantAs[*idptypes.WebAuthnCredentialNotSupportedException](t, register(evil.Create(ask())))
	options := ask()
	check(t, register(a.Create(options)))
	wantAs[*idptypes.WebAuthnChallengeNotFoundException](t, register(a.Create(options)))

	check(t, s.cmd.Process.Kill())
	<-s.exited
	s, err = start(dir)
	check(t, err)
	admin = s.adminSDK(t)
	listed, err := admin.pools.ListWebAuthnCredentials(t.Context(), &cognitoidentityprovider.ListWebAuthnCredentialsInput{AccessToken: access})
	check(t, err)
	if len(listed.Credentials) != 1 || *listed.Credentials[0].RelyingPartyId != "localhost" || listed.Credentials[0].CreatedAt.IsZero() || len(listed.Credentials[0].AuthenticatorTransports) != 2 {
		t.Fatalf("after a restart ida has %+v", listed.Credentials)
	}
	asked, err := signIn(map[string]string{"PREFERRED_CHALLENGE": "WEB_AUTHN"})
	check(t, err)
	answer := func(credential []byte) (*cognitoidentityprovider.RespondToAuthChallengeOutput, error) {
		return admin.pools.RespondToAuthChallenge(t.Context(), &cognitoidentityprovider.RespondToAuthChallengeInput{ClientId: clientID, ChallengeName: asked.ChallengeName,
			Session: asked.Session, ChallengeResponses: map[string]string{"USERNAME": "ida", "CREDENTIAL": string(credential)}})
	}
	credential := a.Get([]byte(asked.ChallengeParameters["CREDENTIAL_REQUEST_OPTIONS"]))
	done, err := answer(credential)
	check(t, err)
	if done.AuthenticationResult == nil || done.AuthenticationResult.AccessToken == nil {
		t.Fatalf("the passkey gives %+v", done)
	}
	_, err = answer(credential)
	wantAs[*idptypes.NotAuthorizedException](t, err)
	_, err = admin.pools.DeleteWebAuthnCredential(t.Context(), &cognitoidentityprovider.DeleteWebAuthnCredentialInput{AccessToken: access, CredentialId: listed.Credentials[0].CredentialId})
	check(t, err)
	_, err = admin.pools.DeleteWebAuthnCredential(t.Context(), &cognitoidentityprovider.DeleteWebAuthnCredentialInput{AccessToken: access, CredentialId: listed.Credentials[0].CredentialId})
	wantAs[*idptypes.ResourceNotFoundException](t, err)
	_, err = admin.pools.UpdateUserPool(t.Context(), &cognitoidentityprovider.UpdateUserPoolInput{UserPoolId: id, Policies: &idptypes.UserPoolPolicyType{
		SignInPolicy: &idptypes.SignInPolicyType{AllowedFirstAuthFactors: []idptypes.AuthFactorType{"PASSWORD"}}}})
	check(t, err)
	_, err = admin.pools.StartWebAuthnRegistration(t.Context(), &cognitoidentityprovider.StartWebAuthnRegistrationInput{AccessToken: access})
	wantAs[*idptypes.WebAuthnNotEnabledException](t, err)
}

func wantAs[E error](t *testing.T, err error) {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Errorf("%v is no %T", err, want)
	}
}

// TestPeopleSignInWithPasskeysInABrowser: Amplify 6 and the pages, in Chromium with its virtual authenticator.
func TestPeopleSignInWithPasskeysInABrowser(t *testing.T) {
	t.Parallel()
	const password = "Correct-Horse-7!"
	s := ownServer(t)
	admin := s.adminSDK(t)
	id := passkeyPool(t, s, admin, password)
	app := newOAuthApp(t, s)
	client, err := admin.pools.CreateUserPoolClient(t.Context(), &cognitoidentityprovider.CreateUserPoolClientInput{UserPoolId: id, ClientName: ptr("app"),
		ExplicitAuthFlows:               []idptypes.ExplicitAuthFlowsType{"ALLOW_USER_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"},
		AllowedOAuthFlowsUserPoolClient: true, AllowedOAuthFlows: []idptypes.OAuthFlowType{"code"}, AllowedOAuthScopes: []string{"openid", "email"},
		CallbackURLs: []string{app.URL + "/back"}, SupportedIdentityProviders: []string{"COGNITO"}})
	check(t, err)
	clientID, endpoint := *client.UserPoolClient.ClientId, s.get("AWS_ENDPOINT_URL")
	app.discover(t, endpoint+"/"+*id, clientID, "")
	dir, home, configure := servedApp(t, "passkeys")
	configure(object{"Auth": object{"Cognito": object{"userPoolId": *id, "userPoolClientId": clientID, "userPoolEndpoint": endpoint + "/"}}})
	back := app.URL + "/back"
	alone := url.Values{"client_id": {clientID}, "redirect_uri": {back}}.Encode()

	got := browse[struct {
		Amplify struct {
			SRP, Preferred, Asked, Chosen, PreferredPassword, Unverified, Copied, Without, Again step
			Password, PasswordSRP                                                                []step
			Associated, Out, Who, Removed                                                        string
			Listed, Left                                                                         []struct{ CredentialID, FriendlyCredentialName, RelyingPartyID, AuthenticatorAttachment string }
		}
		Seen, Faults []string
		Back         string
		Without      struct{ Button, SignedIn, Told bool }
		Requests     []string
		Console      []string
	}](t, s, browserHome(t, s.get("AWS_CA_BUNDLE")), "passkeys.mjs", "APP="+dir, "HOME_PAGE="+home, "PASSWORD="+password, "BACK="+back, "ADDRESS="+app.address(),
		"AGAIN="+app.address()+"&prompt=login", "PASSKEYS="+endpoint+"/auth/keys/passkeys/add?"+alone)

	a := got.Amplify
	for name, in := range map[string]step{"PASSWORD_SRP": a.SRP, "WEB_AUTHN": a.Preferred, "WEB_AUTHN by choice": a.Chosen, "PASSWORD": a.PreferredPassword,
		"PASSWORD by choice": a.Password[1], "PASSWORD_SRP by choice": a.PasswordSRP[1]} {
		if !in.IsSignedIn || in.NextStep.SignInStep != "DONE" {
			t.Errorf("%s: %+v", name, in)
		}
	}
	if a.Associated != "associated" || a.Out != "out" || a.Who != "ida" || a.Removed != "removed" || len(a.Left) != 0 || a.Again.Error == "" {
		t.Errorf("associated %q, again %+v, out %q, who %q, removed %q, left %v", a.Associated, a.Again, a.Out, a.Who, a.Removed, a.Left)
	}
	if len(a.Listed) != 1 || a.Listed[0].RelyingPartyID != "localhost" || a.Listed[0].FriendlyCredentialName == "" || a.Listed[0].AuthenticatorAttachment != "platform" {
		t.Errorf("listed are %+v", a.Listed)
	}
	if !slices.Equal(a.Asked.NextStep.AvailableChallenges, []string{"PASSWORD", "PASSWORD_SRP", "WEB_AUTHN"}) || a.Asked.NextStep.SignInStep != "CONTINUE_SIGN_IN_WITH_FIRST_FACTOR_SELECTION" {
		t.Errorf("the choice is %+v", a.Asked)
	}
	if a.Password[0].NextStep.SignInStep != "CONFIRM_SIGN_IN_WITH_PASSWORD" || a.PasswordSRP[0].NextStep.SignInStep != "CONFIRM_SIGN_IN_WITH_PASSWORD" {
		t.Errorf("PASSWORD goes on with %+v, PASSWORD_SRP with %+v", a.Password[0], a.PasswordSRP[0])
	}
	if a.Unverified.IsSignedIn || a.Unverified.Error == "" {
		t.Errorf("without verification: %+v", a.Unverified)
	}
	if a.Copied.Error != "NotAuthorizedException" || !strings.Contains(a.Copied.Message, "there may be a copy") {
		t.Errorf("a copy: %+v", a.Copied)
	}
	if a.Without.IsSignedIn || a.Without.NextStep.SignInStep != "CONTINUE_SIGN_IN_WITH_FIRST_FACTOR_SELECTION" {
		t.Errorf("without a passkey: %+v", a.Without)
	}

	want := []string{"Sign in", "Sign in: There is no passkey to sign in with for this name. Sign in with your password; then you can add one.", "Sign in", "Your passkeys", "Your passkeys",
		"This device has a passkey of this account already.", "the app", "the app", "Use your passkey", "the app", "The passkey was not used. Try again, or go another way.", "the app", "Your passkeys"}
	if !slices.Equal(got.Seen, want) {
		t.Errorf("the browser saw\n  %s\nwant\n  %s", strings.Join(got.Seen, "\n  "), strings.Join(want, "\n  "))
	}
	if len(got.Faults) > 0 {
		t.Errorf("axe finds\n  %s", strings.Join(got.Faults, "\n  "))
	}
	if got.Back != back {
		t.Errorf("from the passkeys the browser goes to %s", got.Back)
	}
	if w := got.Without; w.Button || !w.SignedIn || !w.Told {
		t.Errorf("without JavaScript: %+v", w)
	}
	in := 0
	for range cap(app.got) {
		select {
		case r := <-app.got:
			if r.err == nil && r.tokens.Extra("id_token") != nil {
				in++
			}
			continue
		default:
		}
		break
	}
	if in != 5 {
		t.Errorf("the app got tokens %d times", in)
	}
	if os.Getenv("SCREENSHOTS") != "" || t.Failed() {
		t.Logf("requests %v\nconsole %v", got.Requests, got.Console)
	}
}
