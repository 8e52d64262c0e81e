package compat

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

func TestAJavaScriptClientSetsUpASoftwareTokenAndSignsInWithIt(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "mfajs")
	const temporary = "First-Time-1!"
	_, err := w.admin.pools.AdminSetUserPassword(t.Context(), &cognitoidentityprovider.AdminSetUserPasswordInput{
		UserPoolId: &w.poolID, Username: &w.installer, Password: ptr(temporary), Permanent: false})
	check(t, err)
	_, err = w.admin.pools.SetUserPoolMfaConfig(t.Context(), &cognitoidentityprovider.SetUserPoolMfaConfigInput{UserPoolId: &w.poolID,
		MfaConfiguration: idptypes.UserPoolMfaTypeOn, SoftwareTokenMfaConfiguration: &idptypes.SoftwareTokenMfaConfigType{Enabled: true}})
	check(t, err)
	out := s.run(t, "node", []string{"POOL_ID=" + w.poolID, "CLIENT_ID=" + w.clientID, "INSTALLER=" + w.installer, "TEMPORARY=" + temporary,
		"PASSWORD=" + w.password}, "node", "mfa.mjs")
	got := must[struct {
		Asked, Again, Refused, Factors []string
		Mismatch, Preferred, Secret    string
		Valid                          []bool
	}](t, out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	for what, is := range map[string][2][]string{
		"the first sign-in asks for": {got.Asked, {"NEW_PASSWORD_REQUIRED", "MFA_SETUP", `["SOFTWARE_TOKEN_MFA"]`}},
		"the next one asks for":      {got.Again, {"SOFTWARE_TOKEN_MFA", "installer's phone"}},
		"refused": {got.Refused, {"ExpiredCodeException: Your software token has already been used once.",
			"CodeMismatchException: Invalid code received for user"}},
		"factors":    {got.Factors, {"SOFTWARE_TOKEN_MFA"}},
		"preferred":  {{got.Preferred}, {"SOFTWARE_TOKEN_MFA"}},
		"wrong code": {{got.Mismatch}, {"EnableSoftwareTokenMFAException: Code mismatch and fail enable Software Token MFA"}},
	} {
		if !slices.Equal(is[0], is[1]) {
			t.Errorf("%s %q, want %q", what, is[0], is[1])
		}
	}
	if !slices.Equal(got.Valid, []bool{true, true}) || len(got.Secret) != 52 {
		t.Errorf("sessions %v, a secret of %d characters", got.Valid, len(got.Secret))
	}
}

func TestAPythonClientUsesSoftwareTokens(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "mfapy")
	out := s.run(t, "python", []string{"POOL_ID=" + w.poolID, "CLIENT_ID=" + w.clientID, "VISITOR=" + w.visitor, "PASSWORD=" + w.password},
		"/usr/bin/python3", "-W", "ignore", "mfa.py")
	got := must[struct {
		Off, Mode, Unready, Status, Asked, Seen string
		Factors                                 []string
		SignedIn                                []bool
		Config                                  struct{ Enabled bool }
	}](t, out)
	if got.Off != "InvalidParameterException: Invalid MFA Configuration given. SMS MFA, Email MFA, or Software Token MFA must be enabled." ||
		got.Mode != "OPTIONAL" || !got.Config.Enabled {
		t.Errorf("the pool's mode: %+v", got)
	}
	if got.Unready != "InvalidParameterException: User has not verified software token mfa" || got.Status != "SUCCESS" || got.Asked != "SOFTWARE_TOKEN_MFA" ||
		!slices.Equal(got.Factors, []string{"SOFTWARE_TOKEN_MFA"}) || got.Seen != "SOFTWARE_TOKEN_MFA" || !slices.Equal(got.SignedIn, []bool{true, true, true}) {
		t.Errorf("got %+v", got)
	}
}
