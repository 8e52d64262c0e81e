package iam

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/oidc"
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
	facts := s.late(caller, extra)
	for _, r := range resources {
		if v := evaluate(rules, caller, action, r, facts); !v.Allowed() {
			return refusal(caller, action, r, v)
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
	facts := s.late(caller, extra)
	allowed := false
	var last error
	for _, r := range resources {
		v := evaluate(rules, caller, action, r, facts)
		switch {
		case v.Decision == policy.ExplicitDeny:
			return refusal(caller, action, r, v)
		case v.Allowed():
			allowed = true
		default: // the last one is the concrete ARN, which tells the reader most
			last = refusal(caller, action, r, v)
		}
	}
	if allowed {
		return nil
	}
	return last
}

// AuthorizeTx decides inside a transaction, on what was committed when it asks: rules come from the cache, which every committed
// change of IAM empties before whoever made it has the answer.
func (s *Service) AuthorizeTx(tx *store.Tx, caller *fleet.Caller, action, resource string, extra policy.Context) error {
	if err := s.alive(tx, caller); err != nil {
		return err
	}
	rules, err := s.rules(context.Background(), caller)
	if err != nil {
		return err
	}
	if v := evaluate(rules, caller, action, resource, s.late(caller, extra)); !v.Allowed() {
		return refusal(caller, action, resource, v)
	}
	return nil
}

// evaluate is the policy decision with two rules in front: credentials of GetSessionToken reach neither IAM nor most of STS, and
// what belongs to another account is out of reach of the caller's own policies alone (we have no resource policies but those of
// roles, which AssumeRole asks).
func evaluate(rules policy.Rules, caller *fleet.Caller, action, resource string, facts func() policy.Context) policy.Verdict {
	if caller.Kind == fleet.UserSession && limited(action) {
		return policy.Verdict{Source: policy.FromSession}
	}
	if a, ok := fleet.ParseARN(resource); ok && a.Account != "" && a.Account != "aws" && a.Account != caller.Scope.Account {
		return policy.Verdict{Source: policy.FromResource}
	}
	return policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: resource, Facts: facts})
}

func refusal(caller *fleet.Caller, action, resource string, v policy.Verdict) error {
	return fleet.Denied("%s", policy.Denial(caller.ARN, action, resource, v))
}

// limited are the actions that credentials of GetSessionToken are not good for (identity spec 3).
func limited(action string) bool {
	return strings.HasPrefix(action, "iam:") || strings.HasPrefix(action, "sts:") && action != "sts:AssumeRole" && action != "sts:GetCallerIdentity"
}

// alive refuses credentials that have ended since they were looked up: connections and long requests outlive a look-up. A caller
// without key is one of our services or commands, and lives as long as it acts.
func (s *Service) alive(tx *store.Tx, c *fleet.Caller) error {
	if c.AccessKeyID == "" || c.Kind == fleet.Root {
		return nil
	}
	if c.Kind == fleet.Service {
		if s.over(c) {
			return expired()
		}
		return nil
	}
	if c.Kind == fleet.IAMUser {
		k, err := tx.FindAccessKey(c.AccessKeyID)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && !k.Active {
			return unknownKey()
		}
		return err
	}
	if s.over(c) {
		return expired()
	}
	if dead, err := cutOff(tx, c.Scope, c.IssuedAt, fleet.InstallerOf(c)); err != nil || dead {
		return orExpired(err)
	}
	if err := certified(tx, c); err != nil {
		return err
	}
	return s.sameEntity(tx, c)
}

// over reports whether temporary credentials have reached their end.
func (s *Service) over(c *fleet.Caller) bool {
	return !c.Expires.IsZero() && !s.clock.Now().Before(c.Expires)
}

// sameEntity refuses a session of a role or user that was deleted, even if a namesake exists by now.
func (s *Service) sameEntity(tx *store.Tx, c *fleet.Caller) error {
	kind := store.IAMUser
	if c.Kind == fleet.RoleSession {
		kind = store.IAMRole
	}
	e, err := get(tx, c.Scope, kind, c.Name)
	id, _, _ := strings.Cut(c.UserID, ":")
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && e.ID != id {
		return expired()
	}
	return err
}

func orExpired(err error) error {
	if err != nil {
		return err
	}
	return expired()
}

// checkAlive is alive, from the cache where a change would empty it: one of a certificate does not.
func (s *Service) checkAlive(ctx context.Context, c *fleet.Caller) (err error) {
	read := func() (struct{}, error) {
		return struct{}{}, s.db.View(ctx, func(tx *store.Tx) error { return s.alive(tx, c) })
	}
	switch {
	case c.AccessKeyID == "":
	case c.Device != nil:
		_, err = read()
	default:
		_, err = remember(s, "alive "+c.AccessKeyID, read)
	}
	return err
}

// rules returns what bears on a caller, from the cache, after making sure that its credentials still live. Session policies come
// on top of what is cached for the identity.
func (s *Service) rules(ctx context.Context, c *fleet.Caller) (policy.Rules, error) {
	if s.over(c) { // which no change announces: never from the cache
		return policy.Rules{}, expired()
	}
	if err := s.checkAlive(ctx, c); err != nil {
		return policy.Rules{}, err
	}
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
	if c.Kind == fleet.Service { // which has no policy but that of its session
		rules.Policies = rules.Session
	}
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
		list = append(list, policy.Named{Name: p.Name, Doc: d, From: kind})
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
	from := "user-managed"
	if _, ok := builtin(arn); ok {
		from = "aws-managed"
	}
	return policy.Named{Name: lastSegment(arn), Doc: d, From: from}, err
}

// sessionPolicies compiles the documents and managed policies that narrow a session.
func (s *Service) sessionPolicies(tx *store.Tx, c *fleet.Caller) (list []policy.Named, err error) {
	for _, p := range c.SessionPolicies {
		var n policy.Named
		if strings.HasPrefix(p, "arn:") {
			n, err = s.managedNamed(tx, c.Scope, p)
			if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
				n, err = policy.Named{Name: lastSegment(p)}, nil // gone: it allows nothing
			}
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

// late gives the facts of a request when a policy first asks for them.
func (s *Service) late(c *fleet.Caller, extra policy.Context) func() policy.Context {
	return sync.OnceValue(func() policy.Context { return s.facts(c, extra) })
}

// facts are the condition keys of a signed request (identity spec 4.3). The caller's facts can't be overridden by extra.
func (s *Service) facts(c *fleet.Caller, extra policy.Context) policy.Context {
	f := policy.Context{}
	for k, v := range extra {
		f.Set(k, v...)
	}
	s.setCircumstances(f, c)
	set := func(key, value string) {
		if value != "" {
			f.Set(key, value)
		}
	}
	set("aws:PrincipalAccount", c.Scope.Account)
	set("aws:ResourceAccount", c.Scope.Account)
	set("aws:SourceIdentity", c.SourceIdentity)
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
	setDevice(f, c.Device)
	if fed := c.Federation; fed != nil {
		setFederation(f, fed)
		f.Set("aws:FederatedProvider", federatedProvider(c.Scope, fed.Provider))
	}
	return f
}

// setCircumstances sets the condition keys of any request, signed or not: when, where and from where it is made.
func (s *Service) setCircumstances(f policy.Context, c *fleet.Caller) {
	now := s.clock.Now()
	f.Set("aws:CurrentTime", now.Format(time.RFC3339))
	f.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
	f.Set("aws:SecureTransport", "true")
	f.Set("aws:RequestedRegion", c.Scope.Region)
	if c.SourceIP != "" {
		f.Set("aws:SourceIp", c.SourceIP)
	}
	if c.UserAgent != "" {
		f.Set("aws:UserAgent", c.UserAgent)
	}
}

// federatedProvider is how policies name an issuer: by its OIDC provider, save for identity pools.
func federatedProvider(scope fleet.Scope, issuer string) string {
	if issuer == fleet.IdentityPools || oidc.Social(issuer) {
		return issuer
	}
	return scope.IAM("oidc-provider/" + strings.TrimSuffix(issuer, "/"))
}

// setFederation sets the keys that trust policies of web identities ask for: PROVIDER:aud, :sub and :amr.
func setFederation(f policy.Context, fed *fleet.Federation) {
	for _, name := range slices.Compact([]string{fed.Provider, strings.TrimSuffix(fed.Provider, "/")}) { // as the issuer is written, and as its provider's ARN is
		f.Set(name+":aud", fed.Audience)
		f.Set(name+":sub", fed.Subject)
		f.Set(name+":amr", fed.AMR...)
		f.Set(name+":oaud", fed.Original...)
		if fed.Email != "" {
			f.Set(name+":email", fed.Email)
		}
		switch name { // identity providers that have words of their own for aud and sub
		case oidc.Facebook:
			f.Set(name+":app_id", fed.Audience)
			f.Set(name+":id", fed.Subject)
		case oidc.Amazon:
			f.Set(name+":app_id", fed.Audience)
			f.Set(name+":user_id", fed.Subject)
		}
	}
}

// PassRole decides whether the caller may hand a role to a service: iam:PassRole on the role, which must trust the service.
func (s *Service) PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error {
	to := service
	if service == CredentialProvider { // it is IoT that the role is handed to (identity spec 4.4)
		to = "iot.amazonaws.com"
	}
	if err := s.Authorize(ctx, caller, "iam:PassRole", []string{roleARN}, policy.Context{"iam:passedtoservice": {to}}); err != nil {
		return err
	}
	// The identity services are handed roles for people, and the credential provider for devices: trust is asked when one of them comes.
	if service != "iot.amazonaws.com" && service != "lambda.amazonaws.com" {
		return nil
	}
	return s.db.View(ctx, func(tx *store.Tx) error {
		// What the role will be used for is not known yet: conditions on that are left to AssumeForService.
		_, err := s.assumeForService(tx, caller.Scope, roleARN, service, policy.Context{}, true)
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
	facts := policy.Context{}
	facts.Set("aws:SourceArn", source...)
	return s.assumeForService(tx, scope, roleARN, service, facts, false)
}

func (s *Service) assumeForService(tx *store.Tx, scope fleet.Scope, roleARN, service string, facts policy.Context, partial bool) (*fleet.Caller, error) {
	e, err := roleOf(tx, scope, roleARN)
	if err != nil {
		return nil, err
	}
	facts.Set("aws:SourceAccount", scope.Account)
	if !partial {
		s.setCircumstances(facts, &fleet.Caller{Scope: scope})
	}
	const session = "service"
	c := &fleet.Caller{Scope: scope, Kind: fleet.RoleSession, ARN: sessionARN(scope, e.Name, session), UserID: e.ID + ":" + session,
		Name: e.Name, RoleARN: e.ARN(scope), Session: session, Tags: e.Tags}
	trust, err := s.parse(e.Trust, policy.Trust)
	if err != nil {
		return nil, err
	}
	r := policy.Evaluate([]policy.Named{{Name: e.Name, Doc: trust}}, policy.Request{Action: "sts:AssumeRole", Resource: c.RoleARN, Principal: policy.Principal{Service: service}, Context: facts, Partial: partial})
	if !r.Allowed() {
		return nil, fleet.Denied("%s is not authorized to perform: sts:AssumeRole on resource: %s because no role trust policy allows the sts:AssumeRole action", service, c.RoleARN)
	}
	return c, nil
}

// StillEntitled reports whether whoever asked for a claim at the time since could still ask for it: a user who was disabled or
// signed out, a key that was deleted, a role that was deleted or changed or has lost the action, takes the claim along. The
// refusal has kind KindDenied and says which it was.
func (s *Service) StillEntitled(tx *store.Tx, scope fleet.Scope, who fleet.Installer, since time.Time, action, resource string) error {
	home := homeOf(scope, who)
	if dead, err := tx.CutoffAfter(home, since, personSubject(who)); err != nil || dead {
		return orDenied(err, "the installer %s was disabled, signed out or moved to another group since", who.Username)
	}
	if dead, err := providerCut(tx, scope, since, who); err != nil || dead {
		return orDenied(err, "the identity provider %s that vouched for the installer was deleted or trusts less since", who.OIDC)
	}
	for _, key := range []string{who.AccessKeyID, who.ParentKeyID} {
		if key == "" {
			continue
		}
		if dead, err := tx.CutoffAfter(home.Global(), since, "key:"+key); err != nil || dead {
			return orDenied(err, "the access key %s of the installer was withdrawn since", key)
		}
	}
	c := &fleet.Caller{Scope: scope, ARN: who.CallerARN, RoleARN: who.RoleARN}
	if who.RoleARN != "" || who.ParentKeyID != "" { // a session, issued then or before: policies that revoke older ones ask for that
		c.IssuedAt = since
	}
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
	rules, err := s.rules(context.Background(), c)
	if err != nil {
		return err
	}
	if v := policy.EvaluateIdentity(rules, policy.Request{Action: action, Resource: resource, Facts: s.late(c, nil), Partial: true}); !v.Allowed() {
		return fleet.Denied("the installer's rights have changed since: %s", policy.Denial(who.CallerARN, action, resource, v))
	}
	return nil
}

// personSubject names the person of a user pool behind an installer for cut-offs; "" if there is none.
func personSubject(who fleet.Installer) string {
	if who.PoolID == "" {
		return ""
	}
	return "user:" + who.PoolID + "/" + who.UserSub
}

// homeOf is where the key or person behind an installer lives: a role of another account may have been assumed, or a person of a user pool
// in another region have signed in, whose id begins with the region.
func homeOf(scope fleet.Scope, who fleet.Installer) fleet.Scope {
	if who.ParentAccount != "" {
		scope.Account = who.ParentAccount
	}
	if region, _, ok := strings.Cut(who.PoolID, "_"); ok {
		scope.Region = region
	}
	return scope
}

// cutOff reports whether credentials issued then were ended since: by their own key, by the key or person that they go back to,
// or by their role. scope is where the session belongs.
func cutOff(tx *store.Tx, scope fleet.Scope, issued time.Time, who fleet.Installer) (bool, error) {
	home := homeOf(scope, who)
	for _, c := range []struct {
		at      fleet.Scope
		subject string
	}{
		{scope.Global(), subject("role:", lastSegment(who.RoleARN))},
		{scope.Global(), subject("key:", who.AccessKeyID)},
		{home.Global(), subject("key:", who.ParentKeyID)},
		{home, personSubject(who)},
	} {
		if dead, err := tx.CutoffAfter(c.at, issued, c.subject); dead || err != nil {
			return dead, err
		}
	}
	return providerCut(tx, scope, issued, who)
}

// providerCut reports whether IAM's OpenID Connect provider behind credentials was deleted or narrowed since. It is of the role's account,
// of the first role's where roles were chained.
func providerCut(tx *store.Tx, scope fleet.Scope, issued time.Time, who fleet.Installer) (bool, error) {
	for _, at := range []fleet.Scope{scope, homeOf(scope, who)} {
		if dead, err := tx.CutoffAfter(at.Global(), issued, subject("oidc:", who.OIDC)); dead || err != nil {
			return dead, err
		}
	}
	return false, nil
}

// subject is "" for an empty name: the store passes it over.
func subject(kind, name string) string {
	if name == "" {
		return ""
	}
	return kind + name
}

func orDenied(err error, format string, args ...any) error {
	if err != nil {
		return err
	}
	return fleet.Denied(format, args...)
}
