package iam

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
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
	ProviderID     string // of web identities that are access tokens: the public provider that issued them
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
	scope := fleet.Scope{Account: a.Account, Region: caller.Scope.Region}
	policies, err := narrowing(r.Policy, r.PolicyARNs)
	if err != nil {
		return Session{}, err
	}
	r = inherit(caller, r)
	id, _, _ := strings.Cut(caller.UserID, ":")
	names := []string{caller.ARN, id}
	if caller.RoleARN != "" {
		names = append(names, caller.RoleARN)
	}
	facts := s.facts(caller, nil)
	if r.ExternalID != "" {
		facts.Set("sts:ExternalId", r.ExternalID)
	}
	made := caller.ParentKeyID
	if caller.Kind == fleet.IAMUser {
		made = caller.AccessKeyID
	}
	request := SessionRequest{Scope: scope, RoleARN: r.RoleARN, Name: r.Name,
		Duration: r.Duration, Principal: policy.Principal{Account: caller.Scope.Account, Names: names}, Action: "sts:AssumeRole", Context: facts,
		Policies: policies, Tags: r.Tags, Transitive: r.Transitive, Federation: caller.Federation, Made: made, Source: r.SourceIdentity, caller: caller}
	if request.Origin = caller.ParentAccount; request.Origin == "" && a.Account != caller.Scope.Account {
		request.Origin = caller.Scope.Account
	}
	out, err := s.IssueSession(ctx, request)
	if err != nil {
		return Session{}, err
	}
	if err := s.mayAssume(ctx, caller, request, out.Delegated || a.Account != caller.Scope.Account); err != nil {
		return Session{}, err
	}
	if err := s.attachable(ctx, scope, r.PolicyARNs); err != nil {
		return Session{}, err
	}
	return out, nil
}

// anything stands for the permission that a trust policy gives to a caller of its own account whom it names.
var anything = policy.Named{Name: "role trust policy", Doc: policy.MustParse(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, policy.Identity)}

// mayAssume asks the caller's own policies. Where the role's trust policy has named the caller itself they need not allow it, but
// they may deny it, and boundary and session policies still bound the caller (identity spec 3 and 4.2).
func (s *Service) mayAssume(ctx context.Context, caller *fleet.Caller, r SessionRequest, needed bool) error {
	rules, err := s.rules(ctx, caller)
	if err != nil {
		return err
	}
	if !needed {
		rules.Policies = append(slices.Clip(rules.Policies), anything)
	}
	extra := policy.Context{}
	setRequest(extra, r)
	if id := r.Context.Get("sts:ExternalId"); len(id) > 0 {
		extra.Set("sts:ExternalId", id...)
	}
	facts := s.facts(caller, extra)
	for _, action := range r.actions() {
		v := policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: r.RoleARN, Context: facts})
		if !v.Allowed() {
			return refusal(caller, action, r.RoleARN, v)
		}
	}
	return nil
}

// inherit passes a role session's transitive tags and its source identity on to the next role. They can't be changed on the way.
func inherit(caller *fleet.Caller, r AssumeRequest) AssumeRequest {
	if len(caller.TransitiveTags) > 0 {
		r.Tags, r.Transitive = maps.Clone(r.Tags), slices.Clone(r.Transitive)
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		for _, k := range caller.TransitiveTags { // whatever the case in which the request names it
			setTag(r.Tags, k, caller.Tags[k])
			r.Transitive = append(slices.DeleteFunc(r.Transitive, func(said string) bool { return strings.EqualFold(said, k) }), k)
		}
	}
	if caller.SourceIdentity != "" {
		r.SourceIdentity = caller.SourceIdentity
	}
	return r
}

// narrowing puts together the policies that shall narrow a session.
func narrowing(document string, arns []string) ([]string, error) {
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
	return append(out, arns...), nil
}

// attachable fails if the account lacks one of the managed policies. It is asked once a role of the account has trusted somebody:
// others must not learn which policies there are.
func (s *Service) attachable(ctx context.Context, scope fleet.Scope, arns []string) error {
	return s.db.View(ctx, func(tx *store.Tx) error {
		for _, arn := range arns {
			if _, err := managedDocument(tx, scope, arn); err != nil {
				return err
			}
		}
		return nil
	})
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
	// As in IssueSession: a key that is being withdrawn must not leave a session behind.
	if err := s.db.Tx(ctx, func(tx *store.Tx) error { return s.alive(tx, caller) }); err != nil {
		return Credentials{}, err
	}
	return s.credentials(session{Key: "ASIA" + fleet.RandomString(16, fleet.AlphaBase32), Secret: newSecret().Reveal(), Account: caller.Scope.Account,
		Region: caller.Scope.Region, Kind: fleet.UserSession, Name: caller.Name, ID: caller.UserID, Issued: now.UnixMilli(),
		Expires: now.Add(d).UnixMilli(), Made: caller.AccessKeyID})
}

// A WebIdentity is what a verified token says of its bearer.
type WebIdentity struct {
	Issuer string // without scheme; cognito-identity.amazonaws.com for identity pools
	fleet.Federation
	Claims jwt.Claims // that may tag the session; nil for tokens of identity pools, whose sessions are tagged by the pool

	// StillHolds looks at the bearer again once credentials were issued, in a write transaction: a sign-out that was being
	// committed meanwhile is not outlived.
	StillHolds func(context.Context) error
}

// A TokenVerifier checks the tokens of AssumeRoleWithWebIdentity that our own pools issued: signature and time. known is false for
// whatever another issuer may have made, text that is no token included.
type TokenVerifier interface {
	VerifyWebIdentity(ctx context.Context, token string) (id WebIdentity, known bool, err error)
}

// AssumeWebIdentity makes the bearer of a token a role, if the role's trust policy allows its provider. Errors carry STS's codes
// (identity spec 3).
func (s *Service) AssumeWebIdentity(ctx context.Context, region string, token fleet.Secret, r AssumeRequest) (Session, WebIdentity, error) {
	a, ok := fleet.ParseARN(r.RoleARN)
	if !ok || a.Service != "iam" || a.Kind() != "role" {
		return Session{}, WebIdentity{}, fleet.Invalid("", "", "Request ARN is invalid").WithCode("ValidationError")
	}
	scope := fleet.Scope{Account: a.Account, Region: region}
	id, federated, err := s.webIdentity(ctx, scope, token, r.ProviderID)
	if err != nil {
		return Session{}, id, err
	}
	if r.Tags, r.Transitive, r.SourceIdentity, err = webTags(id.Claims); err != nil {
		return Session{}, id, err
	}
	policies, err := narrowing(r.Policy, r.PolicyARNs)
	if err != nil {
		return Session{}, id, err
	}
	fed := id.Federation
	fed.Provider = id.Issuer
	origin, err := s.poolAccount(ctx, scope, fed.PoolID)
	if err != nil {
		return Session{}, id, err
	}
	where := policy.Context{}
	from := *fleet.CallerFrom(ctx) // whose address is all that is known of an unsigned request
	from.Scope = scope
	s.setCircumstances(where, &from)
	out, err := s.IssueSession(ctx, SessionRequest{Scope: scope, RoleARN: r.RoleARN, Name: r.Name, Duration: r.Duration, Origin: origin,
		Principal: policy.Principal{Federated: federated}, Action: "sts:AssumeRoleWithWebIdentity", Policies: policies, Federation: &fed, Context: where,
		Tags: r.Tags, Transitive: r.Transitive, Source: r.SourceIdentity})
	if err != nil {
		return Session{}, id, err
	}
	if err := s.attachable(ctx, scope, r.PolicyARNs); err != nil {
		return Session{}, id, err
	}
	if err := id.StillHolds(ctx); err != nil {
		return Session{}, id, err
	}
	return out, id, nil
}

// webIdentity finds out whose a token is and how trust policies of the scope's roles name its provider.
func (s *Service) webIdentity(ctx context.Context, scope fleet.Scope, token fleet.Secret, providerID string) (id WebIdentity, federated string, err error) {
	id, known, err := s.tokens.VerifyWebIdentity(ctx, token.Reveal())
	switch {
	case err != nil:
		return id, "", err
	case !known:
		return s.foreign(ctx, scope, token, providerID)
	case id.Issuer == fleet.IdentityPools:
		return id, fleet.IdentityPools, s.ownPool(ctx, scope, id.Audience)
	}
	e, err := s.provider(ctx, scope, id)
	if err != nil {
		return id, "", err
	}
	id.OIDC = e.Name
	return id, e.ARN(scope), nil
}

// poolAccount returns the account of a person's user pool if it is not that of scope: it is there that the person is signed out.
func (s *Service) poolAccount(ctx context.Context, scope fleet.Scope, pool string) (account string, err error) {
	if pool == "" {
		return "", nil
	}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		account = ""
		p, err := tx.FindUserPool(pool)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
			return fleet.Denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
		}
		if p.Scope.Account != scope.Account {
			account = p.Scope.Account
		}
		return err
	})
	return account, err
}

// ownPool checks that the identity pool behind a token is of the role's account. AWS takes any account's pools unless the trust
// policy names one: whoever forgets that lets every other account in.
func (s *Service) ownPool(ctx context.Context, scope fleet.Scope, pool string) error {
	return s.db.View(ctx, func(tx *store.Tx) error {
		p, err := tx.FindIdentityPool(pool)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && p.Scope.Account != scope.Account {
			return fleet.Denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
		}
		return err
	})
}

// provider finds the account's OIDC provider for a token and checks the token's audience.
func (s *Service) provider(ctx context.Context, scope fleet.Scope, id WebIdentity) (e Entity, err error) {
	e, err = s.Entity(ctx, scope, store.IAMOIDC, strings.TrimSuffix(id.Issuer, "/"))
	switch {
	case errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}):
		return e, fleet.Invalid("", "", "No OpenIDConnect provider found in your account for https://%s", id.Issuer).WithCode("InvalidIdentityToken")
	case err != nil:
		return e, err
	case e.Name != strings.TrimSuffix(id.Issuer, "/"): // names are found in any case, but issuers differ by it
		return e, fleet.Invalid("", "", "No OpenIDConnect provider found in your account for https://%s", id.Issuer).WithCode("InvalidIdentityToken")
	case !slices.Contains(e.ClientIDs, id.Audience):
		return e, fleet.Invalid("", "", "Incorrect token audience").WithCode("InvalidIdentityToken")
	}
	return e, nil
}
