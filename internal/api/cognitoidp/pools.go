package cognitoidp

import (
	"context"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) createUserPool(ctx context.Context, in *CreateUserPoolInput) (*CreateUserPoolOutput, error) {
	settings, err := poolSettings(&UpdateUserPoolInput{
		AccountRecoverySetting: in.AccountRecoverySetting, AdminCreateUserConfig: in.AdminCreateUserConfig,
		AutoVerifiedAttributes: in.AutoVerifiedAttributes, DeletionProtection: in.DeletionProtection, DeviceConfiguration: in.DeviceConfiguration,
		EmailConfiguration: in.EmailConfiguration, EmailVerificationMessage: in.EmailVerificationMessage,
		EmailVerificationSubject: in.EmailVerificationSubject, IssuerConfiguration: in.IssuerConfiguration, LambdaConfig: in.LambdaConfig,
		MfaConfiguration: in.MfaConfiguration, Policies: in.Policies, SmsAuthenticationMessage: in.SmsAuthenticationMessage,
		SmsConfiguration: in.SmsConfiguration, SmsVerificationMessage: in.SmsVerificationMessage,
		UserAttributeUpdateSettings: in.UserAttributeUpdateSettings, UserPoolAddOns: in.UserPoolAddOns, UserPoolTier: in.UserPoolTier,
		VerificationMessageTemplate: in.VerificationMessageTemplate,
	})
	if err != nil {
		return nil, err
	}
	settings.UsernameAttributes, settings.AliasAttributes = in.UsernameAttributes, in.AliasAttributes
	settings.CaseSensitive = in.UsernameConfiguration != nil && in.UsernameConfiguration.CaseSensitive
	settings.Schema = schemaIn(in.Schema)
	p, err := a.pools.CreatePool(ctx, scope(ctx), in.PoolName, settings, in.UserPoolTags)
	if err != nil {
		return nil, err
	}
	return &CreateUserPoolOutput{UserPool: poolOut(p)}, nil
}

func (a *api) updateUserPool(ctx context.Context, in *UpdateUserPoolInput) (*UpdateUserPoolOutput, error) {
	settings, err := poolSettings(in)
	if err != nil {
		return nil, err
	}
	return nil, a.pools.UpdatePool(ctx, scope(ctx), in.UserPoolId, wire.Value(in.PoolName), settings, in.UserPoolTags)
}

func (a *api) describeUserPool(ctx context.Context, in *DescribeUserPoolInput) (*DescribeUserPoolOutput, error) {
	p, err := a.pools.Pool(ctx, scope(ctx), in.UserPoolId)
	if err != nil {
		return nil, err
	}
	return &DescribeUserPoolOutput{UserPool: poolOut(p)}, nil
}

func (a *api) listUserPools(ctx context.Context, in *ListUserPoolsInput) (*ListUserPoolsOutput, error) {
	pools, next, err := a.pools.Pools(ctx, scope(ctx), wire.Value(in.NextToken), in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &ListUserPoolsOutput{UserPools: []UserPoolDescriptionType{}, NextToken: text(next)}
	for _, p := range pools {
		out.UserPools = append(out.UserPools, UserPoolDescriptionType{Id: new(p.ID), Name: new(p.Name), LambdaConfig: triggersOut(p.Triggers),
			CreationDate: new(p.Created), LastModifiedDate: new(p.Modified)})
	}
	return out, nil
}

func (a *api) deleteUserPool(ctx context.Context, in *DeleteUserPoolInput) (*DeleteUserPoolOutput, error) {
	return nil, a.pools.DeletePool(ctx, scope(ctx), in.UserPoolId)
}

func (a *api) addCustomAttributes(ctx context.Context, in *AddCustomAttributesInput) (*AddCustomAttributesOutput, error) {
	return nil, a.pools.AddAttributes(ctx, scope(ctx), in.UserPoolId, schemaIn(in.CustomAttributes))
}

func invalid(text string) error {
	return fleet.Invalid("", "", "%s", text).WithCode("InvalidParameterException")
}

func notOffered(what string) error {
	return fleet.Invalid("", "", "%s is not offered by this version: leave it out.", what).WithCode("InvalidParameterException")
}

const withLink = "CONFIRM_WITH_LINK"

func emailOption(t userpool.MessageTemplate) string {
	if t.ByLink {
		return withLink
	}
	return "CONFIRM_WITH_CODE"
}

func (a *api) tagResource(ctx context.Context, in *TagResourceInput) (*TagResourceOutput, error) {
	return nil, a.pools.TagPool(ctx, scope(ctx), in.ResourceArn, in.Tags)
}

func (a *api) untagResource(ctx context.Context, in *UntagResourceInput) (*UntagResourceOutput, error) {
	return nil, a.pools.UntagPool(ctx, scope(ctx), in.ResourceArn, in.TagKeys)
}

func (a *api) listTagsForResource(ctx context.Context, in *ListTagsForResourceInput) (*ListTagsForResourceOutput, error) {
	tags, err := a.pools.PoolTags(ctx, scope(ctx), in.ResourceArn)
	if err != nil {
		return nil, err
	}
	if tags == nil {
		tags = map[string]string{}
	}
	return &ListTagsForResourceOutput{Tags: tags}, nil
}

// refusePoolMembers refuses what would change how people sign in and is not built. Empty forms, which tools send, pass.
func refusePoolMembers(in *UpdateUserPoolInput) error {
	if err := refuseTriggers(in.LambdaConfig); err != nil {
		return err
	}
	if d := in.DeviceConfiguration; d != nil && (wire.Value(d.ChallengeRequiredOnNewDevice) || wire.Value(d.DeviceOnlyRememberedOnUserPrompt)) {
		return notOffered("DeviceConfiguration (remembered devices)")
	}
	if o := in.UserPoolAddOns; o != nil && o.AdvancedSecurityMode != "OFF" {
		return notOffered("UserPoolAddOns with AdvancedSecurityMode " + o.AdvancedSecurityMode)
	}
	if i := in.IssuerConfiguration; i != nil && wire.Value(i.Type) == "UPDATED" {
		return notOffered("IssuerConfiguration with Type UPDATED")
	}
	if c := in.SmsConfiguration; c != nil && c.EumsSms != nil && *c.EumsSms != (EumsSmsConfigurationType{}) {
		return notOffered("SmsConfiguration.EumsSms")
	}
	return nil
}

// poolSettings reads what creation and update have in common.
func poolSettings(in *UpdateUserPoolInput) (userpool.Settings, error) {
	s := userpool.Settings{
		DeletionProtection: wire.Value(in.DeletionProtection) == "ACTIVE", AutoVerified: in.AutoVerifiedAttributes, Tier: wire.Value(in.UserPoolTier),
		MFA:                    wire.Value(in.MfaConfiguration),
		SMSVerificationMessage: wire.Value(in.SmsVerificationMessage), EmailVerificationMessage: wire.Value(in.EmailVerificationMessage),
		EmailVerificationSubject: wire.Value(in.EmailVerificationSubject), SMSAuthenticationMessage: wire.Value(in.SmsAuthenticationMessage),
		AdminCreateOnly: true, // a factory's default (identity spec 1.2)
	}
	if err := refusePoolMembers(in); err != nil {
		return s, err
	}
	var err error
	if s.Triggers, err = triggersIn(in.LambdaConfig); err != nil {
		return s, err
	}
	if in.Policies != nil && in.Policies.PasswordPolicy != nil {
		s.Password = passwordPolicyIn(in.Policies.PasswordPolicy)
	}
	if in.Policies != nil && in.Policies.SignInPolicy != nil {
		s.FirstFactors = in.Policies.SignInPolicy.AllowedFirstAuthFactors
	}
	if c := in.AdminCreateUserConfig; c != nil {
		s.AdminCreateOnly = wire.Value(c.AllowAdminCreateUserOnly)               // the SDK for Go, hence Terraform, leaves out what is false
		if s.Password.TemporaryDays == 0 && c.UnusedAccountValidityDays != nil { // the older name of the same thing
			if s.Password == (userpool.PasswordPolicy{}) {
				s.Password = userpool.DefaultPasswordPolicy
			}
			s.Password.TemporaryDays = *c.UnusedAccountValidityDays
		}
		if t := c.InviteMessageTemplate; t != nil {
			s.Invitation = userpool.MessageTemplate{SMS: wire.Value(t.SMSMessage), Email: wire.Value(t.EmailMessage), Subject: wire.Value(t.EmailSubject)}
		}
	}
	if t := in.VerificationMessageTemplate; t != nil {
		s.Verification = userpool.MessageTemplate{SMS: wire.Value(t.SmsMessage), Email: wire.Value(t.EmailMessage), Subject: wire.Value(t.EmailSubject),
			EmailByLink: wire.Value(t.EmailMessageByLink), SubjectByLink: wire.Value(t.EmailSubjectByLink), ByLink: wire.Value(t.DefaultEmailOption) == withLink}
	}
	if u := in.UserAttributeUpdateSettings; u != nil {
		s.VerifyFirst = u.AttributesRequireVerificationBeforeUpdate
	}
	if r := in.AccountRecoverySetting; r != nil {
		for _, m := range r.RecoveryMechanisms {
			s.Recovery = append(s.Recovery, userpool.RecoveryOption{Priority: m.Priority, Name: m.Name})
		}
	}
	if e := in.EmailConfiguration; e != nil {
		s.Email = userpool.EmailSettings{SourceARN: wire.Value(e.SourceArn), ReplyTo: wire.Value(e.ReplyToEmailAddress),
			SendingAccount: wire.Value(e.EmailSendingAccount), From: wire.Value(e.From), ConfigurationSet: wire.Value(e.ConfigurationSet)}
	}
	if m := in.SmsConfiguration; m != nil {
		s.SMS = &userpool.SMSSettings{CallerARN: wire.Value(m.SnsCallerArn), ExternalID: wire.Value(m.ExternalId), Region: wire.Value(m.SnsRegion)}
	}
	return s, nil
}

// passwordPolicyIn reads a policy that was given: what it does not say is off, but for the length.
func passwordPolicyIn(in *PasswordPolicyType) userpool.PasswordPolicy {
	p := userpool.PasswordPolicy{MinLength: 8, Upper: wire.Value(in.RequireUppercase), Lower: wire.Value(in.RequireLowercase),
		Numbers: wire.Value(in.RequireNumbers), Symbols: wire.Value(in.RequireSymbols), History: wire.Value(in.PasswordHistorySize),
		TemporaryDays: wire.Value(in.TemporaryPasswordValidityDays)}
	if in.MinimumLength != nil {
		p.MinLength = *in.MinimumLength
	}
	return p
}

func schemaIn(list []SchemaAttributeType) (out []userpool.SchemaAttribute) {
	for _, a := range list {
		s := userpool.SchemaAttribute{Name: wire.Value(a.Name), Type: wire.Value(a.AttributeDataType), DeveloperOnly: wire.Value(a.DeveloperOnlyAttribute),
			Mutable: a.Mutable == nil || *a.Mutable, Required: wire.Value(a.Required)}
		if c := a.StringAttributeConstraints; c != nil {
			s.Length = &userpool.Bounds{Min: wire.Value(c.MinLength), Max: wire.Value(c.MaxLength)}
		}
		if c := a.NumberAttributeConstraints; c != nil {
			s.Range = &userpool.Bounds{Min: wire.Value(c.MinValue), Max: wire.Value(c.MaxValue)}
		}
		out = append(out, s)
	}
	return out
}

func schemaOut(list []userpool.SchemaAttribute) (out []SchemaAttributeType) {
	for _, a := range list {
		s := SchemaAttributeType{Name: new(a.Name), AttributeDataType: new(a.Type), DeveloperOnlyAttribute: new(a.DeveloperOnly),
			Mutable: new(a.Mutable), Required: new(a.Required)}
		if a.Length != nil {
			s.StringAttributeConstraints = &StringAttributeConstraintsType{MinLength: text(a.Length.Min), MaxLength: text(a.Length.Max)}
		}
		if a.Range != nil {
			s.NumberAttributeConstraints = &NumberAttributeConstraintsType{MinValue: text(a.Range.Min), MaxValue: text(a.Range.Max)}
		}
		out = append(out, s)
	}
	return out
}

// poolOut describes a pool with everything that Terraform compares.
func poolOut(p *userpool.Pool) *UserPoolType {
	out := &UserPoolType{
		Id: new(p.ID), Name: new(p.Name), Arn: new(p.ARN()), CreationDate: new(p.Created), LastModifiedDate: new(p.Modified),
		EstimatedNumberOfUsers: new(p.EstimatedUsers), Domain: text(p.Prefix), CustomDomain: text(p.HostName), MfaConfiguration: new(p.MFAMode()), UserPoolTier: new(p.Tier), UserPoolTags: p.Tags,
		LambdaConfig: triggersOut(p.Triggers), DeletionProtection: new("INACTIVE"), SchemaAttributes: schemaOut(p.Schema),
		Policies: &UserPoolPolicyType{SignInPolicy: &SignInPolicyType{AllowedFirstAuthFactors: p.AllowedFirstFactors()},
			PasswordPolicy: &PasswordPolicyType{MinimumLength: new(p.Password.MinLength), RequireUppercase: new(p.Password.Upper),
				RequireLowercase: new(p.Password.Lower), RequireNumbers: new(p.Password.Numbers), RequireSymbols: new(p.Password.Symbols),
				TemporaryPasswordValidityDays: new(p.Password.TemporaryDays)}},
		UsernameAttributes: p.UsernameAttributes, AliasAttributes: p.AliasAttributes, AutoVerifiedAttributes: p.AutoVerified,
		UsernameConfiguration:    &UsernameConfigurationType{CaseSensitive: p.CaseSensitive},
		AdminCreateUserConfig:    &AdminCreateUserConfigType{AllowAdminCreateUserOnly: new(p.AdminCreateOnly), UnusedAccountValidityDays: new(p.Password.TemporaryDays)},
		SmsVerificationMessage:   text(p.SMSVerificationMessage),
		EmailVerificationMessage: text(p.EmailVerificationMessage), EmailVerificationSubject: text(p.EmailVerificationSubject),
		SmsAuthenticationMessage: text(p.SMSAuthenticationMessage),
		VerificationMessageTemplate: &VerificationMessageTemplateType{DefaultEmailOption: new(emailOption(p.Verification)), SmsMessage: text(p.Verification.SMS),
			EmailMessage: text(p.Verification.Email), EmailSubject: text(p.Verification.Subject), EmailMessageByLink: text(p.Verification.EmailByLink),
			EmailSubjectByLink: text(p.Verification.SubjectByLink)},
	}
	if p.DeletionProtection {
		out.DeletionProtection = new("ACTIVE")
	}
	if p.Password.History > 0 {
		out.Policies.PasswordPolicy.PasswordHistorySize = new(p.Password.History)
	}
	if t := p.Invitation; t != (userpool.MessageTemplate{}) {
		out.AdminCreateUserConfig.InviteMessageTemplate = &MessageTemplateType{SMSMessage: text(t.SMS), EmailMessage: text(t.Email), EmailSubject: text(t.Subject)}
	}
	if len(p.VerifyFirst) > 0 {
		out.UserAttributeUpdateSettings = &UserAttributeUpdateSettingsType{AttributesRequireVerificationBeforeUpdate: p.VerifyFirst}
	}
	if len(p.Recovery) > 0 {
		out.AccountRecoverySetting = &AccountRecoverySettingType{}
		for _, o := range p.Recovery {
			out.AccountRecoverySetting.RecoveryMechanisms = append(out.AccountRecoverySetting.RecoveryMechanisms, RecoveryOptionType{Priority: o.Priority, Name: o.Name})
		}
	}
	e := p.Email
	out.EmailConfiguration = &EmailConfigurationType{SourceArn: text(e.SourceARN), ReplyToEmailAddress: text(e.ReplyTo), From: text(e.From),
		ConfigurationSet: text(e.ConfigurationSet), EmailSendingAccount: new("COGNITO_DEFAULT")}
	if e.SendingAccount != "" {
		out.EmailConfiguration.EmailSendingAccount = new(e.SendingAccount)
	}
	if p.SMS != nil {
		out.SmsConfiguration = &SmsConfigurationType{SnsCallerArn: text(p.SMS.CallerARN), ExternalId: text(p.SMS.ExternalID), SnsRegion: text(p.SMS.Region)}
	}
	return out
}
