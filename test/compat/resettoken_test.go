package compat

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
)

// authenticator is an app that shows codes (RFC 6238); the server takes each once, so it shows the next one rather than one again.
type authenticator struct {
	secret string
	shown  int64
}

func (a *authenticator) code(t *testing.T) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(a.secret)
	check(t, err)
	a.shown = max(a.shown+1, time.Now().Unix()/30)
	mac := hmac.New(sha1.New, key)
	check(t, binary.Write(mac, binary.BigEndian, a.shown))
	sum := mac.Sum(nil)
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff%1_000_000)
}

// The AWS CLI sets a software token up during a sign-in, signs in with it, and sets up another after the operator has reset the lost one.
func TestTheAWSCLISetsUpASoftwareTokenAgainAfterItWasLost(t *testing.T) {
	t.Parallel()
	s, dir := sharedServer(t), t.TempDir()
	w := newWorld(t, s, "mfacli")
	idp := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"aws", "--output", "json", "cognito-idp"}, args...)...)
	}
	idp("set-user-pool-mfa-config", "--user-pool-id", w.poolID, "--mfa-configuration", "ON", "--software-token-mfa-configuration", "Enabled=true")
	type step struct {
		ChallengeName, Session string
		AuthenticationResult   struct{ AccessToken string }
	}
	signIn := func(want string) step {
		t.Helper()
		got := must[step](t, idp("initiate-auth", "--client-id", w.clientID, "--auth-flow", "USER_PASSWORD_AUTH", "--auth-parameters",
			"USERNAME="+w.installer+",PASSWORD="+w.password))
		if got.ChallengeName != want {
			t.Fatalf("the sign-in asks for %q, want %q", got.ChallengeName, want)
		}
		return got
	}
	answer := func(challenge, session, responses string) step {
		t.Helper()
		return must[step](t, idp("respond-to-auth-challenge", "--client-id", w.clientID, "--challenge-name", challenge, "--session", session,
			"--challenge-responses", "USERNAME="+w.installer+responses))
	}
	enrol := func() *authenticator {
		t.Helper()
		got := must[struct{ SecretCode, Session string }](t, idp("associate-software-token", "--session", signIn("MFA_SETUP").Session))
		app := &authenticator{secret: got.SecretCode}
		done := must[struct{ Status, Session string }](t, idp("verify-software-token", "--session", got.Session, "--user-code", app.code(t), "--friendly-device-name", "phone"))
		if in := answer("MFA_SETUP", done.Session, ""); done.Status != "SUCCESS" || in.AuthenticationResult.AccessToken == "" {
			t.Fatalf("the set-up answers %s, %+v", done.Status, in)
		}
		return app
	}
	app := enrol()
	in := answer("SOFTWARE_TOKEN_MFA", signIn("SOFTWARE_TOKEN_MFA").Session, ",SOFTWARE_TOKEN_MFA_CODE="+app.code(t))
	// Debian 12's AWS CLI does not know this operation.
	factors, err := s.sdk(t, aws.AnonymousCredentials{}).pools.GetUserAuthFactors(t.Context(), &cognitoidentityprovider.GetUserAuthFactorsInput{
		AccessToken: &in.AuthenticationResult.AccessToken})
	check(t, err)
	if got := fmt.Sprint(factors.ConfiguredUserAuthFactors, factors.UserMFASettingList); got != "[PASSWORD] [SOFTWARE_TOKEN_MFA]" {
		t.Errorf("the user has the factors %s", got)
	}
	said := s.run(t, dir, nil, imprint(), "user", "reset-token", w.poolID, w.installer)
	if !strings.Contains(said, "The software token of "+w.installer+" is gone.") {
		t.Errorf("the verb says %q", said)
	}
	enrol()
	signIn("SOFTWARE_TOKEN_MFA")
	if out, err := s.try(t, dir, nil, imprint(), "user", "reset-token", w.poolID, "nobody"); err == nil || !strings.Contains(out, "User does not exist.") {
		t.Errorf("the verb for nobody: %v, %s", err, out)
	}
}
