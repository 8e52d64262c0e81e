package iam

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// Authorize decides whether the caller may do an action on every one of the resources (ARNs, or "*" alone). extra holds context
// keys that only the request knows. A refusal has kind KindDenied and AWS's sentence.
func (s *Service) Authorize(ctx context.Context, caller *fleet.Caller, action string, resources []string, extra policy.Context) error {
	rules, err := s.rules(ctx, caller)
	if err != nil {
		return err
	}
	facts := s.facts(caller, extra)
	for _, r := range resources {
		if err := decide(rules, caller, action, r, facts); err != nil {
			return err
		}
	}
	return nil
}

// AuthorizeAny is Authorize for actions where the resources are alternatives: one that is allowed suffices, unless another is
// explicitly denied (identity spec 4.4).
func (s *Service) AuthorizeAny(ctx context.Context, caller *fleet.Caller, action string, resources []string, extra policy.Context) error {
	rules, err := s.rules(ctx, caller)
	if err != nil {
		return err
	}
	facts := s.facts(caller, extra)
	allowed := false
	var refusal error
	for _, r := range resources {
		v := policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: r, Context: facts})
		switch {
		case v.Decision == policy.ExplicitDeny:
			return fleet.Denied("%s", policy.Denial(caller.ARN, action, r, v))
		case v.Allowed():
			allowed = true
		default: // the last one is the concrete ARN, which tells the reader most
			refusal = fleet.Denied("%s", policy.Denial(caller.ARN, action, r, v))
		}
	}
	if allowed {
		return nil
	}
	return refusal
}

// AuthorizeTx decides inside a transaction, on what the transaction sees.
func (s *Service) AuthorizeTx(tx *store.Tx, caller *fleet.Caller, action, resource string, extra policy.Context) error {
	rules, err := s.readRules(tx, caller)
	if err != nil {
		return err
	}
	return decide(rules, caller, action, resource, s.facts(caller, extra))
}

func decide(rules policy.Rules, caller *fleet.Caller, action, resource string, facts policy.Context) error {
	if caller.Kind == fleet.UserSession && limited(action) {
		return fleet.Denied("User: %s is not authorized to perform: %s with session credentials", caller.ARN, action)
	}
	v := policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: resource, Context: facts})
	if v.Allowed() {
		return nil
	}
	return fleet.Denied("%s", policy.Denial(caller.ARN, action, resource, v))
}

// limited are the actions that credentials of GetSessionToken are not good for (identity spec 3).
func limited(action string) bool {
	return strings.HasPrefix(action, "iam:") || strings.HasPrefix(action, "sts:") && action != "sts:AssumeRole" && action != "sts:GetCallerIdentity"
}

// rules returns what bears on a caller, from the cache. Session policies come on top of what is cached for the identity.
func (s *Service) rules(ctx context.Context, c *fleet.Caller) (policy.Rules, error) {
	identity := *c
	identity.SessionPolicies = nil
	rules, err := remember(s, "rules "+c.Scope.Account+" "+identityKey(c), func() (r policy.Rules, err error) {
		err = s.db.View(ctx, func(tx *store.Tx) error {
			r, err = s.readRules(tx, &identity)
			return err
		})
		return r, err
	})
	if err != nil || len(c.SessionPolicies) == 0 {
		return rules, err
	}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		rules.Session, err = s.sessionPolicies(tx, c)
		return err
	})
	return rules, err
}

func identityKey(c *fleet.Caller) string {
	switch c.Kind {
	case fleet.Root:
		return "root"
	case fleet.RoleSession:
		return "role " + c.RoleARN
	case fleet.IAMUser, fleet.UserSession:
		return "user " + c.Name
	}
	return "nobody"
}

// readRules reads what bears on a caller. Whoever is neither root, user nor role has no rights.
func (s *Service) readRules(tx *store.Tx, c *fleet.Caller) (r policy.Rules, err error) {
	switch c.Kind {
	case fleet.Root:
		r.Root = true
	case fleet.RoleSession:
		var e Entity
		if e, err = roleOf(tx, c.Scope, c.RoleARN); err == nil {
			r, err = s.entityRules(tx, c.Scope, e)
		}
	case fleet.IAMUser, fleet.UserSession:
		var e Entity
		if e, err = get(tx, c.Scope, store.IAMUser, c.Name); err == nil {
			r, err = s.entityRules(tx, c.Scope, e)
		}
	}
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) { // deleted since: no rights
		return policy.Rules{}, nil
	}
	if err == nil && len(c.SessionPolicies) > 0 {
		r.Session, err = s.sessionPolicies(tx, c)
	}
	return r, err
}

// entityRules gathers the policies of a user or role: inline, managed, of groups, and the boundary.
func (s *Service) entityRules(tx *store.Tx, scope fleet.Scope, e Entity) (r policy.Rules, err error) {
	if r.Policies, err = s.policiesOf(tx, scope, e.Kind, e.Name); err != nil {
		return r, err
	}
	if e.Kind == store.IAMUser {
		groups, err := tx.IAMGroupsOf(scope, e.Name)
		if err != nil {
			return r, err
		}
		for _, g := range groups {
			more, err := s.policiesOf(tx, scope, store.IAMGroup, g)
			if err != nil {
				return r, err
			}
			r.Policies = append(r.Policies, more...)
		}
	}
	if e.Boundary != "" {
		d, err := s.managedNamed(tx, scope, e.Boundary)
		if err != nil {
			return r, err
		}
		r.Boundary = []policy.Named{d}
	}
	return r, nil
}

func (s *Service) policiesOf(tx *store.Tx, scope fleet.Scope, kind, entity string) (list []policy.Named, err error) {
	inline, err := tx.InlinePolicies(scope, kind, entity)
	if err != nil {
		return nil, err
	}
	for _, p := range inline {
		d, err := s.parse(p.Document, policy.Identity)
		if err != nil {
			return nil, err
		}
		list = append(list, policy.Named{Name: p.Name, Doc: d})
	}
	arns, err := tx.AttachedPolicies(scope, kind, entity)
	for _, arn := range arns {
		d, err := s.managedNamed(tx, scope, arn)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, err
}

func (s *Service) managedNamed(tx *store.Tx, scope fleet.Scope, arn string) (policy.Named, error) {
	text, err := managedDocument(tx, scope, arn)
	if err != nil {
		return policy.Named{}, err
	}
	d, err := s.parse(text, policy.Identity)
	return policy.Named{Name: lastSegment(arn), Doc: d}, err
}

// sessionPolicies compiles the documents and managed policies that narrow a session.
func (s *Service) sessionPolicies(tx *store.Tx, c *fleet.Caller) (list []policy.Named, err error) {
	for _, p := range c.SessionPolicies {
		var n policy.Named
		if strings.HasPrefix(p, "arn:") {
			n, err = s.managedNamed(tx, c.Scope, p)
		} else {
			n.Name = "session policy"
			n.Doc, err = s.parse(p, policy.Identity)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// facts are the condition keys of a signed request (identity spec 4.3). The caller's facts can't be overridden by extra.
func (s *Service) facts(c *fleet.Caller, extra policy.Context) policy.Context {
	now := s.clock.Now()
	f := policy.Context{}
	for k, v := range extra {
		f.Set(k, v...)
	}
	f.Set("aws:CurrentTime", now.Format(time.RFC3339))
	f.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	f.Set("aws:SecureTransport", "true")
	f.Set("aws:RequestedRegion", c.Scope.Region)
	set := func(key, value string) {
		if value != "" {
			f.Set(key, value)
		}
	}
	set("aws:SourceIp", c.SourceIP)
	set("aws:UserAgent", c.UserAgent)
	set("aws:PrincipalAccount", c.Scope.Account)
	set("aws:userid", c.UserID)
	switch c.Kind {
	case fleet.Root:
		set("aws:PrincipalType", "Account")
		set("aws:PrincipalArn", c.ARN)
	case fleet.IAMUser, fleet.UserSession:
		set("aws:PrincipalType", "User")
		set("aws:PrincipalArn", c.ARN)
		set("aws:username", c.Name)
	case fleet.RoleSession:
		set("aws:PrincipalType", "AssumedRole")
		set("aws:PrincipalArn", c.RoleARN)
		set("sts:RoleSessionName", c.Session)
	}
	if !c.IssuedAt.IsZero() {
		f.Set("aws:TokenIssueTime", c.IssuedAt.Format(time.RFC3339))
		f.Set("aws:MultiFactorAuthPresent", "false")
	}
	for k, v := range c.Tags {
		f.Set("aws:PrincipalTag/"+k, v)
	}
	if fed := c.Federation; fed != nil {
		setFederation(f, fed)
		f.Set("aws:FederatedProvider", fed.Provider)
	}
	return f
}

// setFederation sets the keys that trust policies of web identities ask for: PROVIDER:aud, :sub and :amr.
func setFederation(f policy.Context, fed *fleet.Federation) {
	f.Set(fed.Provider+":aud", fed.Audience)
	f.Set(fed.Provider+":sub", fed.Subject)
	f.Set(fed.Provider+":amr", fed.AMR...)
}

// PassRole decides whether the caller may hand a role to a service: iam:PassRole on the role, which must trust the service.
func (s *Service) PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error {
	if err := s.Authorize(ctx, caller, "iam:PassRole", []string{roleARN}, policy.Context{"iam:passedtoservice": {service}}); err != nil {
		return err
	}
	// The identity services are handed roles for people: their trust is asked when somebody signs in.
	if service != "iot.amazonaws.com" {
		return nil
	}
	return s.db.View(ctx, func(tx *store.Tx) error {
		_, err := s.AssumeForService(tx, caller.Scope, roleARN, service)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || errors.Is(err, &fleet.Error{Kind: fleet.KindDenied}) {
			return fleet.Invalid("role", roleARN, "cannot be assumed by %s: it does not exist in this account, or its trust policy lacks {\"Principal\": {\"Service\": %q}, \"Action\": \"sts:AssumeRole\"}", service, service)
		}
		return err
	})
}

// AssumeForService makes a service the caller with a role's rights, if the role's trust policy allows it. source is the ARN of
// the resource that the service acts for, which trust policies may ask for (aws:SourceArn) so that no other resource can use the
// role. Kinds: KindNotFound, KindDenied.
func (s *Service) AssumeForService(tx *store.Tx, scope fleet.Scope, roleARN, service string, source ...string) (*fleet.Caller, error) {
	e, err := roleOf(tx, scope, roleARN)
	if err != nil {
		return nil, err
	}
	facts := policy.Context{}
	facts.Set("aws:SourceAccount", scope.Account)
	if len(source) > 0 {
		facts.Set("aws:SourceArn", source...)
	}
	const session = "service"
	c := &fleet.Caller{Scope: scope, Kind: fleet.RoleSession, ARN: sessionARN(scope, e.Name, session), UserID: e.ID + ":" + session,
		Name: e.Name, RoleARN: e.ARN(scope), Session: session, Tags: e.Tags}
	trust, err := s.parse(e.Trust, policy.Trust)
	if err != nil {
		return nil, err
	}
	r := policy.Evaluate([]policy.Named{{Name: e.Name, Doc: trust}}, policy.Request{Action: "sts:AssumeRole", Resource: c.RoleARN, Principal: policy.Principal{Service: service}, Context: facts})
	if !r.Allowed() {
		return nil, fleet.Denied("%s is not authorized to perform: sts:AssumeRole on resource: %s because no role trust policy allows the sts:AssumeRole action", service, c.RoleARN)
	}
	return c, nil
}

// StillEntitled reports whether whoever asked for a claim at the time since could still ask for it: a user who was disabled or
// signed out, a key that was deleted, a role that was deleted or changed or has lost the action, takes the claim along. The
// refusal has kind KindDenied and says which it was.
func (s *Service) StillEntitled(tx *store.Tx, scope fleet.Scope, who fleet.Installer, since time.Time, action, resource string) error {
	user := ""
	if who.PoolID != "" {
		user = "user:" + who.PoolID + "/" + who.UserSub
	}
	if dead, err := tx.CutoffAfter(scope, since, user); err != nil || dead {
		return orDenied(err, "the installer %s was disabled, signed out or moved to another group since", who.Username)
	}
	if dead, err := tx.CutoffAfter(scope.Global(), since, "key:"+who.AccessKeyID); err != nil || dead {
		return orDenied(err, "the access key %s of the installer was withdrawn since", who.AccessKeyID)
	}
	c := &fleet.Caller{Scope: scope, ARN: who.CallerARN, RoleARN: who.RoleARN}
	switch a, ok := fleet.ParseARN(who.CallerARN); {
	case who.RoleARN != "":
		c.Kind = fleet.RoleSession
		if dead, err := tx.CutoffAfter(scope.Global(), since, "role:"+lastSegment(who.RoleARN)); err != nil || dead {
			return orDenied(err, "the installer's role %s was deleted or changed since", who.RoleARN)
		}
	case ok && a.Resource == "root":
		return nil
	case ok && a.Kind() == "user":
		c.Kind, c.Name = fleet.IAMUser, lastSegment(a.Name())
	}
	rules, err := s.readRules(tx, c)
	if err != nil {
		return err
	}
	facts := s.facts(c, nil)
	if v := policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: resource, Context: facts, Partial: true}); !v.Allowed() {
		return fleet.Denied("the installer's rights have changed since: %s", policy.Denial(who.CallerARN, action, resource, v))
	}
	return nil
}

func orDenied(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fleet.Denied(format, args...)
}
