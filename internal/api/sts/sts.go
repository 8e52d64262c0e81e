// Package sts is the edge of temporary credentials: the awsQuery service STS (identity spec 3). It translates between the wire's
// structs and the rules in internal/iam and decides nothing itself.
//
// Begin with Service; model.gen.go is generated.
package sts

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Config says what the edge stands on.
type Config struct {
	IAM   *iam.Service
	Scope fleet.Scope // its region is that of sessions made by unsigned calls; their account is the role's
}

type api struct{ Config }

// Service makes the table. There are no MFA devices, so what needs one is refused rather than passed over.
func Service(cfg Config) *wire.Service {
	a := &api{cfg}
	return wire.NewService(Model, []wire.Row{
		wire.Do("GetCallerIdentity", a.getCallerIdentity).NoPermission(),
		// Whether the caller's own policies must allow it depends on the role's trust policy: iam.AssumeRole asks both.
		wire.Do("AssumeRole", a.assumeRole).NoPermission().Refuse("SerialNumber", "TokenCode", "ProvidedContexts"),
		wire.Do("AssumeRoleWithWebIdentity", a.assumeRoleWithWebIdentity).Public(),
		wire.Do("GetSessionToken", a.getSessionToken).NoPermission().Refuse("SerialNumber", "TokenCode"),
		wire.Do("GetAccessKeyInfo", a.getAccessKeyInfo),
	}, wire.ErrorTable{
		fleet.KindInvalid:         "ValidationError",
		fleet.KindNotFound:        "ValidationError",
		fleet.KindMalformedPolicy: "MalformedPolicyDocument",
		fleet.KindLimit:           "PackedPolicyTooLarge",
	})
}

func (a *api) getCallerIdentity(ctx context.Context, _ *GetCallerIdentityInput) (*GetCallerIdentityOutput, error) {
	c := fleet.CallerFrom(ctx)
	return &GetCallerIdentityOutput{Account: new(c.Scope.Account), Arn: new(c.ARN), UserId: new(c.UserID)}, nil
}

func (a *api) assumeRole(ctx context.Context, in *AssumeRoleInput) (*AssumeRoleOutput, error) {
	tags, err := tagsIn(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, k := range in.TransitiveTagKeys {
		if _, ok := tags[k]; !ok {
			return nil, fleet.Invalid("", "", "The transitive tag key %s is not among the session tags", k)
		}
	}
	r := iam.AssumeRequest{RoleARN: in.RoleArn, Name: in.RoleSessionName, Duration: seconds(in.DurationSeconds), Policy: wire.Value(in.Policy),
		Tags: tags, Transitive: in.TransitiveTagKeys, ExternalID: wire.Value(in.ExternalId), SourceIdentity: wire.Value(in.SourceIdentity)}
	if r.PolicyARNs, err = arnsIn(in.PolicyArns); err != nil {
		return nil, err
	}
	s, err := a.IAM.AssumeRole(ctx, fleet.CallerFrom(ctx), r)
	if err != nil {
		return nil, stsCode(err)
	}
	return &AssumeRoleOutput{Credentials: credentialsOut(s.Credentials), AssumedRoleUser: userOut(s), PackedPolicySize: packedOut(s),
		SourceIdentity: sourceOut(s.Source)}, nil
}

// assumeRoleWithWebIdentity needs ProviderId for access tokens alone, which name no issuer (identity spec 3).
func (a *api) assumeRoleWithWebIdentity(ctx context.Context, in *AssumeRoleWithWebIdentityInput) (*AssumeRoleWithWebIdentityOutput, error) {
	r := iam.AssumeRequest{RoleARN: in.RoleArn, Name: in.RoleSessionName, Duration: seconds(in.DurationSeconds), Policy: wire.Value(in.Policy), ProviderID: wire.Value(in.ProviderId)}
	var err error
	if r.PolicyARNs, err = arnsIn(in.PolicyArns); err != nil {
		return nil, err
	}
	s, id, err := a.IAM.AssumeWebIdentity(ctx, a.Scope.Region, in.WebIdentityToken, r)
	if err != nil {
		return nil, stsCode(err)
	}
	return &AssumeRoleWithWebIdentityOutput{Credentials: credentialsOut(s.Credentials), AssumedRoleUser: userOut(s), PackedPolicySize: packedOut(s),
		SubjectFromWebIdentityToken: new(id.Subject), Provider: new(providerOut(id.Issuer)), Audience: new(id.Audience), SourceIdentity: sourceOut(s.Source)}, nil
}

func (a *api) getSessionToken(ctx context.Context, in *GetSessionTokenInput) (*GetSessionTokenOutput, error) {
	c, err := a.IAM.SessionToken(ctx, fleet.CallerFrom(ctx), seconds(in.DurationSeconds))
	if err != nil {
		return nil, err
	}
	return &GetSessionTokenOutput{Credentials: credentialsOut(c)}, nil
}

// getAccessKeyInfo tells the account of a key of the caller's account and of the key that the caller signed with. Other than
// with AWS the account is not part of a key's id, and nobody is told whose a stranger's key is.
func (a *api) getAccessKeyInfo(ctx context.Context, in *GetAccessKeyInfoInput) (*GetAccessKeyInfoOutput, error) {
	c := fleet.CallerFrom(ctx)
	if in.AccessKeyId != c.AccessKeyID {
		if _, err := a.IAM.KeyOwner(ctx, c.Scope, in.AccessKeyId); err != nil {
			return nil, stsCode(err)
		}
	}
	return &GetAccessKeyInfoOutput{Account: new(c.Scope.Account)}, nil
}

// stsCode puts ValidationError in place of IAM's codes that STS does not have, such as NoSuchEntity of a session policy.
func stsCode(err error) error {
	var e *fleet.Error
	if errors.As(err, &e) && e.Kind == fleet.KindNotFound {
		return &fleet.Error{Kind: fleet.KindInvalid, Code: "ValidationError", Msg: e.Msg, Err: err}
	}
	return err
}

// Conversions.

func seconds(n *int) time.Duration { return time.Duration(wire.Value(n)) * time.Second }

func tagsIn(list []Tag) (map[string]string, error) {
	tags, folded := make(map[string]string, len(list)), map[string]bool{}
	for _, t := range list {
		f := strings.ToLower(t.Key)
		if folded[f] {
			return nil, fleet.Invalid("", "", "Duplicate tag keys found: %s. Tag keys are case insensitive.", t.Key)
		}
		if strings.HasPrefix(f, "aws:") {
			return nil, fleet.Invalid("", "", "The tag key %s begins with aws:, which is reserved", t.Key)
		}
		folded[f], tags[t.Key] = true, t.Value
	}
	return tags, nil
}

// maxARNs is how many managed policies may narrow a session (identity spec 3).
const maxARNs = 10

func arnsIn(list []PolicyDescriptorType) (arns []string, err error) {
	if len(list) > maxARNs {
		return nil, fleet.Invalid("", "", "PolicyArns has %d members, at most %d are allowed", len(list), maxARNs)
	}
	for _, p := range list {
		if p.Arn != nil {
			arns = append(arns, *p.Arn)
		}
	}
	return arns, nil
}

func credentialsOut(c iam.Credentials) *Credentials {
	return &Credentials{AccessKeyId: c.AccessKeyID, SecretAccessKey: c.Secret, SessionToken: c.Token, Expiration: c.Expires}
}

func userOut(s iam.Session) *AssumedRoleUser {
	return &AssumedRoleUser{Arn: s.ARN, AssumedRoleId: s.ID}
}

// packedOut is absent unless something was packed, as with AWS.
func packedOut(s iam.Session) *int {
	if s.Packed == 0 {
		return nil
	}
	return new(s.Packed)
}

func sourceOut(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// providerOut is the token's iss: the issuer with its scheme, the bare name for identity pools and providers of access tokens.
func providerOut(issuer string) string {
	if issuer == fleet.IdentityPools || oidc.Social(issuer) {
		return issuer
	}
	return "https://" + issuer
}
