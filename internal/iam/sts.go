package iam

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// An AssumeRequest is the caller's wish to become a role.
type AssumeRequest struct {
	RoleARN        string
	Name           string
	Duration       time.Duration // 0: an hour
	Policy         string        // session policy; "" for none
	PolicyARNs     []string
	Tags           map[string]string
	Transitive     []string
	ExternalID     string
	SourceIdentity string
}

// maxChained is how long a session that was made by a session may live.
const maxChained = time.Hour

// AssumeRole makes a caller a role. The role's trust policy must allow the caller; when it names the caller's account only, the
// caller's own policies must allow sts:AssumeRole too, as they must for a role of another account.
func (s *Service) AssumeRole(ctx context.Context, caller *fleet.Caller, r AssumeRequest) (Session, error) {
	a, ok := fleet.ParseARN(r.RoleARN)
	if !ok || a.Service != "iam" || a.Kind() != "role" {
		return Session{}, fleet.Invalid("", "", "%s is invalid", r.RoleARN).WithCode("ValidationError")
	}
	chained := caller.Kind == fleet.RoleSession
	if chained && r.Duration > maxChained {
		return Session{}, fleet.Invalid("", "", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining").WithCode("ValidationError")
	}
	policies, err := s.narrowing(ctx, caller.Scope, r.Policy, r.PolicyARNs)
	if err != nil {
		return Session{}, err
	}
	names := []string{caller.ARN, caller.UserID}
	if caller.RoleARN != "" {
		names = append(names, caller.RoleARN)
	}
	facts := s.facts(caller, nil)
	if r.ExternalID != "" {
		facts.Set("sts:ExternalId", r.ExternalID)
	}
	if r.SourceIdentity != "" {
		facts.Set("sts:SourceIdentity", r.SourceIdentity)
	}
	made := caller.AccessKeyID
	out, err := s.IssueSession(ctx, SessionRequest{Scope: fleet.Scope{Account: a.Account, Region: caller.Scope.Region}, RoleARN: r.RoleARN, Name: r.Name,
		Duration: r.Duration, Principal: policy.Principal{Account: caller.Scope.Account, Names: names}, Action: "sts:AssumeRole", Context: facts,
		Policies: policies, Tags: r.Tags, Transitive: r.Transitive, Federation: caller.Federation, Made: made})
	if err != nil {
		return Session{}, err
	}
	if out.Delegated || a.Account != caller.Scope.Account {
		if err := s.Authorize(ctx, caller, "sts:AssumeRole", []string{r.RoleARN}, nil); err != nil {
			return Session{}, err
		}
	}
	return out, nil
}

// narrowing checks the policies that shall narrow a session.
func (s *Service) narrowing(ctx context.Context, scope fleet.Scope, document string, arns []string) ([]string, error) {
	var out []string
	if document != "" {
		if _, err := policy.Parse(document, policy.Identity); err != nil {
			return nil, err
		}
		if n := policy.Size(document); n > policy.MaxSession {
			return nil, fleet.Invalid("", "", "the session policy has %d characters, at most %d are allowed", n, policy.MaxSession).WithCode("PackedPolicyTooLarge")
		}
		out = append(out, document)
	}
	err := s.db.View(ctx, func(tx *store.Tx) error {
		for _, arn := range arns {
			if _, err := managedDocument(tx, scope, arn); err != nil {
				return err
			}
		}
		return nil
	})
	return append(out, arns...), err
}

// SessionToken gives an IAM user temporary credentials with the user's own rights, less IAM and most of STS.
func (s *Service) SessionToken(ctx context.Context, caller *fleet.Caller, d time.Duration) (Credentials, error) {
	if caller.Kind != fleet.IAMUser {
		return Credentials{}, fleet.Denied("Cannot call GetSessionToken with session credentials")
	}
	if d == 0 {
		d = 12 * time.Hour
	}
	now := s.clock.Now()
	return s.credentials(session{Key: "ASIA" + fleet.RandomString(16, fleet.AlphaBase32), Secret: newSecret().Reveal(), Account: caller.Scope.Account,
		Region: caller.Scope.Region, Kind: fleet.UserSession, Name: caller.Name, ID: caller.UserID, Issued: now.UnixMilli(),
		Expires: now.Add(d).UnixMilli(), Made: caller.AccessKeyID})
}

// A WebIdentity is what a verified token says of its bearer.
type WebIdentity struct {
	Issuer string // without scheme; cognito-identity.amazonaws.com for identity pools
	fleet.Federation
}

// A TokenVerifier checks the tokens of AssumeRoleWithWebIdentity: signature and time. known is false for an issuer that is
// not ours.
type TokenVerifier interface {
	VerifyWebIdentity(ctx context.Context, token string) (id WebIdentity, known bool, err error)
}

const identityPools = "cognito-identity.amazonaws.com"

// AssumeWebIdentity makes the bearer of a token a role, if the role's trust policy allows its provider. Errors carry STS's codes
// (identity spec 3).
func (s *Service) AssumeWebIdentity(ctx context.Context, region string, token fleet.Secret, r AssumeRequest) (Session, WebIdentity, error) {
	a, ok := fleet.ParseARN(r.RoleARN)
	if !ok || a.Service != "iam" || a.Kind() != "role" {
		return Session{}, WebIdentity{}, fleet.Invalid("", "", "Request ARN is invalid").WithCode("ValidationError")
	}
	scope := fleet.Scope{Account: a.Account, Region: region}
	id, known, err := s.tokens.VerifyWebIdentity(ctx, token.Reveal())
	if err != nil {
		return Session{}, id, err
	}
	if !known {
		return Session{}, id, fleet.Invalid("", "", "No OpenIDConnect provider found in your account for %s: this version takes the tokens of its own user pools and identity pools", id.Issuer).WithCode("InvalidIdentityToken")
	}
	federated := identityPools
	if id.Issuer != identityPools {
		if federated, err = s.provider(ctx, scope, id); err != nil {
			return Session{}, id, err
		}
	}
	policies, err := s.narrowing(ctx, scope, r.Policy, r.PolicyARNs)
	if err != nil {
		return Session{}, id, err
	}
	fed := id.Federation
	fed.Provider = id.Issuer
	out, err := s.IssueSession(ctx, SessionRequest{Scope: scope, RoleARN: r.RoleARN, Name: r.Name, Duration: r.Duration,
		Principal: policy.Principal{Federated: federated}, Action: "sts:AssumeRoleWithWebIdentity", Policies: policies, Federation: &fed})
	return out, id, err
}

// provider finds the account's OIDC provider for a token and checks the token's audience.
func (s *Service) provider(ctx context.Context, scope fleet.Scope, id WebIdentity) (arn string, err error) {
	e, err := s.Entity(ctx, scope, store.IAMOIDC, strings.TrimSuffix(id.Issuer, "/"))
	switch {
	case errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}):
		return "", fleet.Invalid("", "", "No OpenIDConnect provider found in your account for https://%s", id.Issuer).WithCode("InvalidIdentityToken")
	case err != nil:
		return "", err
	case !slices.Contains(e.ClientIDs, id.Audience):
		return "", fleet.Invalid("", "", "Incorrect token audience").WithCode("InvalidIdentityToken")
	}
	return e.ARN(scope), nil
}
