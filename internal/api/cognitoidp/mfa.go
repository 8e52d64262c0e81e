package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) getUserPoolMfaConfig(ctx context.Context, in *GetUserPoolMfaConfigInput) (*GetUserPoolMfaConfigOutput, error) {
	p, err := a.pools.Pool(ctx, scope(ctx), in.UserPoolId)
	if err != nil {
		return nil, err
	}
	return &GetUserPoolMfaConfigOutput{MfaConfiguration: new(p.MFAMode()), SoftwareTokenMfaConfiguration: softwareTokens(p.MFAMode()),
		WebAuthnConfiguration: passkeySettings(p.Passkeys)}, nil
}

func (a *api) setUserPoolMfaConfig(ctx context.Context, in *SetUserPoolMfaConfigInput) (*SetUserPoolMfaConfigOutput, error) {
	var tokens *bool
	if c := in.SoftwareTokenMfaConfiguration; c != nil {
		tokens = new(wire.Value(c.Enabled))
	}
	var passkeys *userpool.PasskeySettings
	if c := in.WebAuthnConfiguration; c != nil {
		passkeys = &userpool.PasskeySettings{RelyingParty: wire.Value(c.RelyingPartyId), Verification: wire.Value(c.UserVerification),
			Factor: wire.Value(c.FactorConfiguration)}
	}
	p, err := a.pools.SetMFA(ctx, scope(ctx), in.UserPoolId, wire.Value(in.MfaConfiguration), tokens, passkeys)
	if err != nil {
		return nil, err
	}
	return &SetUserPoolMfaConfigOutput{MfaConfiguration: new(p.MFAMode()), SoftwareTokenMfaConfiguration: softwareTokens(p.MFAMode()),
		WebAuthnConfiguration: passkeySettings(p.Passkeys)}, nil
}

// passkeySettings shows what was set; nil if nothing was.
func passkeySettings(s userpool.PasskeySettings) *WebAuthnConfigurationType {
	if s == (userpool.PasskeySettings{}) {
		return nil
	}
	return &WebAuthnConfigurationType{RelyingPartyId: text(s.RelyingParty), UserVerification: text(s.Verification), FactorConfiguration: text(s.Factor)}
}

// softwareTokens: they are the only second factor, so they are on when there is one.
func softwareTokens(mode string) *SoftwareTokenMfaConfigType {
	if mode == userpool.MFAOff {
		return nil
	}
	return &SoftwareTokenMfaConfigType{Enabled: new(true)}
}

func enrolment(token, session *fleet.Secret) userpool.Enrolment {
	return userpool.Enrolment{AccessToken: wire.Value(token), Session: wire.Value(session)}
}

// secret leaves out what is empty.
func secret(s fleet.Secret) *fleet.Secret {
	if s == "" {
		return nil
	}
	return &s
}

func (a *api) associateSoftwareToken(ctx context.Context, in *AssociateSoftwareTokenInput) (*AssociateSoftwareTokenOutput, error) {
	code, session, err := a.pools.NewSoftwareToken(ctx, enrolment(in.AccessToken, in.Session))
	if err != nil {
		return nil, err
	}
	return &AssociateSoftwareTokenOutput{SecretCode: &code, Session: secret(session)}, nil
}

func (a *api) verifySoftwareToken(ctx context.Context, in *VerifySoftwareTokenInput) (*VerifySoftwareTokenOutput, error) {
	session, err := a.pools.VerifySoftwareToken(ctx, enrolment(in.AccessToken, in.Session), in.UserCode, wire.Value(in.FriendlyDeviceName))
	if err != nil {
		return nil, err
	}
	return &VerifySoftwareTokenOutput{Status: new("SUCCESS"), Session: secret(session)}, nil
}

func (a *api) setUserMFAPreference(ctx context.Context, in *SetUserMFAPreferenceInput) (*SetUserMFAPreferenceOutput, error) {
	choice, err := mfaChoice(in.SMSMfaSettings, in.EmailMfaSettings, in.WebAuthnMfaSettings, in.SoftwareTokenMfaSettings)
	if err != nil {
		return nil, err
	}
	return nil, a.pools.PreferMFA(ctx, in.AccessToken, choice)
}

func (a *api) adminSetUserMFAPreference(ctx context.Context, in *AdminSetUserMFAPreferenceInput) (*AdminSetUserMFAPreferenceOutput, error) {
	choice, err := mfaChoice(in.SMSMfaSettings, in.EmailMfaSettings, in.WebAuthnMfaSettings, in.SoftwareTokenMfaSettings)
	if err != nil {
		return nil, err
	}
	return nil, a.pools.PreferMFAFor(ctx, scope(ctx), in.UserPoolId, in.Username, choice)
}

// mfaChoice reads what is wanted of software tokens and passkeys. The other factors cannot be had; clients that switch them off pass.
func mfaChoice(sms *SMSMfaSettingsType, email *EmailMfaSettingsType, passkey *WebAuthnMfaSettingsType, token *SoftwareTokenMfaSettingsType) (c userpool.MFAChoice, err error) {
	switch {
	case sms != nil && (wire.Value(sms.Enabled) || wire.Value(sms.PreferredMfa)):
		return c, noDelivery("SMS_MFA")
	case email != nil && (wire.Value(email.Enabled) || wire.Value(email.PreferredMfa)):
		return c, noDelivery("EMAIL_OTP")
	}
	if token != nil {
		c.Token = &userpool.TokenChoice{Enabled: wire.Value(token.Enabled), Preferred: wire.Value(token.PreferredMfa)}
	}
	if passkey != nil {
		c.Passkeys = new(wire.Value(passkey.Enabled))
	}
	return c, nil
}

func noDelivery(factor string) error {
	return fleet.Invalid("", "", "User does not have delivery config set to turn on %s", factor).WithCode("InvalidParameterException")
}

// setUserSettings and adminSetUserSettings are the older way to ask for SMS as the second factor, which is not offered: no option is what
// everybody has. Whose settings they are comes first, so that strangers hear of nobody.
func (a *api) setUserSettings(ctx context.Context, in *SetUserSettingsInput) (*SetUserSettingsOutput, error) {
	if err := a.pools.PreferMFA(ctx, in.AccessToken, userpool.MFAChoice{}); err != nil {
		return nil, err
	}
	return nil, refuseOptions(in.MFAOptions)
}

func (a *api) adminSetUserSettings(ctx context.Context, in *AdminSetUserSettingsInput) (*AdminSetUserSettingsOutput, error) {
	if err := a.pools.PreferMFAFor(ctx, scope(ctx), in.UserPoolId, in.Username, userpool.MFAChoice{}); err != nil {
		return nil, err
	}
	return nil, refuseOptions(in.MFAOptions)
}

func refuseOptions(options []MFAOptionType) error {
	factor := ""
	for _, o := range options {
		if name := wire.Value(o.AttributeName); name != "" && name != "phone_number" && name != "email" {
			return invalid("MFAOptions names the attribute " + name + ": only phone_number and email take messages.")
		}
		if factor = "SMS_MFA"; wire.Value(o.DeliveryMedium) == "EMAIL" {
			factor = "EMAIL_OTP"
		}
	}
	if factor == "" {
		return nil
	}
	return noDelivery(factor)
}

func (a *api) getUserAuthFactors(ctx context.Context, in *GetUserAuthFactorsInput) (*GetUserAuthFactorsOutput, error) {
	u, err := a.pools.Self(ctx, in.AccessToken)
	if err != nil {
		return nil, err
	}
	factors := []string{"PASSWORD"}
	keys, _, err := a.pools.Passkeys(ctx, userpool.Holder{AccessToken: in.AccessToken}, "", 1)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		factors = append(factors, "WEB_AUTHN")
	}
	return &GetUserAuthFactorsOutput{Username: u.Username, ConfiguredUserAuthFactors: factors, UserMFASettingList: u.MFA,
		PreferredMfaSetting: text(u.PreferredMFA)}, nil
}
