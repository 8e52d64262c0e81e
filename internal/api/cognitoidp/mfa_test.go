package cognitoidp

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

// shown is what an authenticator app shows for a secret at a time (RFC 6238).
func shown(t *testing.T, secret any, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret.(string))
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha1.New, key)
	if err := binary.Write(h, binary.BigEndian, at.Unix()/30); err != nil {
		t.Fatal(err)
	}
	sum := h.Sum(nil)
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[sum[19]&15:])&0x7fffffff)%1_000_000)
}

func (w *world) clockTime() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func TestSoftwareTokensOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	on := object{"MfaConfiguration": "ON", "SoftwareTokenMfaConfiguration": object{"Enabled": true}}
	same(t, "MFA", w.do("SetUserPoolMfaConfig", object{"UserPoolId": pool, "MfaConfiguration": "ON", "SoftwareTokenMfaConfiguration": object{"Enabled": true}}), on)
	same(t, "MFA", w.do("GetUserPoolMfaConfig", object{"UserPoolId": pool}), on)
	same(t, "MFA", dig(w.do("DescribeUserPool", object{"UserPoolId": pool}), "UserPool", "MfaConfiguration"), "ON")
	signIn := object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ada", "PASSWORD": good}}
	first := w.do("InitiateAuth", signIn)
	same(t, "challenge", []any{first["ChallengeName"], first["ChallengeParameters"]},
		[]any{"MFA_SETUP", object{"MFAS_CAN_SETUP": `["SOFTWARE_TOKEN_MFA"]`, "USER_ID_FOR_SRP": "ada"}})
	w.fails("AssociateSoftwareToken", object{}, "InvalidParameterException", "Missing required parameter AccessToken or Session")
	made := w.do("AssociateSoftwareToken", object{"Session": first["Session"]})
	w.fails("VerifySoftwareToken", object{"Session": made["Session"], "UserCode": "12345a"}, "InvalidParameterException", "")
	verified := w.do("VerifySoftwareToken", object{"Session": made["Session"], "UserCode": shown(t, made["SecretCode"], w.clockTime()), "FriendlyDeviceName": "phone"})
	same(t, "status", verified["Status"], "SUCCESS")
	done := w.do("RespondToAuthChallenge", object{"ClientId": client, "ChallengeName": "MFA_SETUP", "Session": verified["Session"],
		"ChallengeResponses": object{"USERNAME": "ada"}})
	access := dig(done, "AuthenticationResult", "AccessToken")
	same(t, "factors", w.do("GetUser", object{"AccessToken": access})["UserMFASettingList"], []string{"SOFTWARE_TOKEN_MFA"})
	// As Amplify 4 sends it: null for what is not chosen.
	w.do("SetUserMFAPreference", `{"SMSMfaSettings":null,"SoftwareTokenMfaSettings":{"PreferredMfa":true,"Enabled":true},"AccessToken":"`+access.(string)+`"}`)
	seen := w.do("AdminGetUser", object{"UserPoolId": pool, "Username": "ada"})
	same(t, "factors", []any{seen["UserMFASettingList"], seen["PreferredMfaSetting"]}, []any{[]string{"SOFTWARE_TOKEN_MFA"}, "SOFTWARE_TOKEN_MFA"})
	w.do("AdminSetUserMFAPreference", object{"UserPoolId": pool, "Username": "ada", "SMSMfaSettings": object{"Enabled": false}})
	for kind, text := range map[string]string{"SMSMfaSettings": "User does not have delivery config set to turn on SMS_MFA",
		"EmailMfaSettings": "User does not have delivery config set to turn on EMAIL_OTP", "WebAuthnMfaSettings": "WebAuthn MFA has not been enabled by the userPool"} {
		w.fails("SetUserMFAPreference", object{"AccessToken": access, kind: object{"Enabled": true}}, "InvalidParameterException", text)
		w.fails("AdminSetUserMFAPreference", object{"UserPoolId": pool, "Username": "ada", kind: object{"Enabled": true}}, "InvalidParameterException", text)
	}
	next := w.do("InitiateAuth", signIn)
	same(t, "challenge", []any{next["ChallengeName"], next["ChallengeParameters"]},
		[]any{"SOFTWARE_TOKEN_MFA", object{"FRIENDLY_DEVICE_NAME": "phone", "USER_ID_FOR_SRP": "ada"}})
	answer := func(code string) object {
		return object{"ClientId": client, "ChallengeName": "SOFTWARE_TOKEN_MFA", "Session": next["Session"],
			"ChallengeResponses": object{"USERNAME": "ada", "SOFTWARE_TOKEN_MFA_CODE": code, "SMS_MFA_CODE": code}} // the older JavaScript client sends both
	}
	w.fails("RespondToAuthChallenge", answer(shown(t, made["SecretCode"], w.clockTime())), "ExpiredCodeException", "Your software token has already been used once.")
	w.fails("RespondToAuthChallenge", answer("x"), "CodeMismatchException", "Invalid code received for user")
	out := w.do("RespondToAuthChallenge", answer(shown(t, made["SecretCode"], w.clockTime().Add(30*time.Second))))
	if dig(out, "AuthenticationResult", "AccessToken") == nil {
		t.Errorf("a right code gives %v", out)
	}
	w.do("UpdateUserPool", object{"UserPoolId": pool, "MfaConfiguration": "OPTIONAL"})
	same(t, "MFA", dig(w.do("DescribeUserPool", object{"UserPoolId": pool}), "UserPool", "MfaConfiguration"), "OPTIONAL")
	w.do("UpdateUserPool", object{"UserPoolId": pool, "MfaConfiguration": "OFF"})
	same(t, "MFA", w.do("GetUserPoolMfaConfig", object{"UserPoolId": pool}), object{"MfaConfiguration": "OFF"})
	same(t, "MFA", dig(w.do("CreateUserPool", object{"PoolName": "p", "MfaConfiguration": "ON"}), "UserPool", "MfaConfiguration"), "ON")
}

func TestTheOlderWayToAskForSecondFactors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pool, client := w.setUp()
	access := dig(w.do("InitiateAuth", object{"ClientId": client, "AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": object{"USERNAME": "ada", "PASSWORD": good}}),
		"AuthenticationResult", "AccessToken")
	sms := []any{object{"DeliveryMedium": "SMS", "AttributeName": "phone_number"}}
	w.do("SetUserSettings", object{"AccessToken": access, "MFAOptions": []any{}})
	w.do("AdminSetUserSettings", object{"UserPoolId": pool, "Username": "ada", "MFAOptions": []any{}})
	w.fails("SetUserSettings", object{"AccessToken": access, "MFAOptions": sms}, "InvalidParameterException", "SMS_MFA")
	w.fails("AdminSetUserSettings", object{"UserPoolId": pool, "Username": "ada", "MFAOptions": sms}, "InvalidParameterException", "SMS_MFA")
	w.fails("SetUserSettings", object{"AccessToken": "x", "MFAOptions": []any{}}, "NotAuthorizedException", "Invalid Access Token")
	w.fails("AdminSetUserSettings", object{"UserPoolId": pool, "Username": "nobody", "MFAOptions": []any{}}, "UserNotFoundException", "User does not exist.")
	same(t, "factors", w.do("GetUserAuthFactors", object{"AccessToken": access}), object{"Username": "ada", "ConfiguredUserAuthFactors": []any{"PASSWORD"}})
}
