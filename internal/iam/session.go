package iam

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Credential is the secret behind an access key and the caller that it makes.
type Credential struct {
	Secret fleet.Secret
	Caller *fleet.Caller
}

// Credentials are temporary keys.
type Credentials struct {
	AccessKeyID   string
	Secret, Token fleet.Secret
	Expires       time.Time
}

// A session is what a session token holds: everything about temporary credentials, sealed, so that any node can read it and
// nothing need be stored. Names are short because it travels in a header and, for WebSockets, in a URL.
type session struct {
	Key        string             `json:"k"` // access key id that the token belongs to
	Secret     string             `json:"s"`
	Account    string             `json:"a"`
	Region     string             `json:"r"` // that it was made in, which matters to a device alone
	Kind       fleet.CallerKind   `json:"t"`
	Name       string             `json:"n"` // of user or role
	ID         string             `json:"i"` // unique id of user or role: one made anew under the same name is another
	Session    string             `json:"e,omitempty"`
	Issued     int64              `json:"f"` // milliseconds since the epoch
	Expires    int64              `json:"x"`
	Policies   []string           `json:"p,omitempty"` // session policies: documents or ARNs
	Tags       map[string]string  `json:"g,omitempty"`
	Transitive []string           `json:"v,omitempty"` // tag keys that stay when the session becomes another role
	Federation *fleet.Federation  `json:"w,omitempty"`
	Made       string             `json:"m,omitempty"` // long-lived key that the session goes back to
	Origin     string             `json:"o,omitempty"` // account of that key, or of the person, where it is another
	Source     string             `json:"d,omitempty"` // source identity
	Device     *fleet.DeviceFacts `json:"c,omitempty"`
}

const (
	purposeSession = "session token"
	maxToken       = 4 << 10  // characters of a token
	maxSession     = 64 << 10 // bytes that it may unpack to
)

func refuse(code, text string) error {
	return &fleet.Error{Kind: fleet.KindUnauthenticated, Code: code, Msg: text}
}

func unknownKey() error {
	return refuse(sigv4.UnrecognizedClient, "The security token included in the request is invalid.")
}

func expired() error {
	return refuse(sigv4.ExpiredToken, "The security token included in the request is expired")
}

// seal makes the token of a session.
func (s *Service) seal(v session) (fleet.Secret, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(plain); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return fleet.Secret(base64.StdEncoding.EncodeToString(s.sealer.Seal(purposeSession, packed.Bytes(), []byte(v.Key)))), nil
}

// open reads a token that belongs to an access key. Whatever is wrong with it, the answer is the same.
func (s *Service) open(key, token string) (v session, err error) {
	if len(token) > maxToken {
		return v, unknownKey()
	}
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return v, unknownKey()
	}
	packed, err := s.sealer.Open(purposeSession, sealed, []byte(key))
	if err != nil {
		return v, unknownKey()
	}
	plain, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), maxSession))
	if err != nil || json.Unmarshal(plain, &v) != nil || subtle.ConstantTimeCompare([]byte(v.Key), []byte(key)) != 1 {
		return v, unknownKey()
	}
	return v, nil
}

// Lookup finds the secret of an access key and the caller that it makes in a region: keys and sessions are good in all regions. token is
// the session token, "" for none. Errors have kind Unauthenticated and sigv4's codes.
func (s *Service) Lookup(ctx context.Context, region, accessKeyID, token string) (c Credential, err error) {
	switch {
	case len(accessKeyID) > 4 && accessKeyID[:4] == "ASIA":
		c, err = s.lookupSession(ctx, accessKeyID, token)
	case token != "":
		err = unknownKey()
	default:
		c, err = remember(s, "key "+accessKeyID, func() (c Credential, err error) {
			err = s.db.View(ctx, func(tx *store.Tx) error {
				c, err = s.userCredential(tx, accessKeyID)
				return err
			})
			return c, err
		})
	}
	if err != nil {
		return Credential{}, err
	}
	own := *c.Caller // what is cached is everybody's
	own.Scope.Region = region
	c.Caller = &own
	return c, nil
}

func (s *Service) userCredential(tx *store.Tx, id string) (Credential, error) {
	k, err := tx.FindAccessKey(id)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && !k.Active {
		return Credential{}, unknownKey()
	}
	if err != nil {
		return Credential{}, err
	}
	secret, err := s.sealer.Open(purposeKey, k.Secret, []byte(id))
	if err != nil {
		return Credential{}, fmt.Errorf("opening the secret of access key %s: %w", id, err)
	}
	scope := fleet.Scope{Account: k.Account}
	e, err := get(tx, scope, store.IAMUser, k.User)
	if err != nil {
		return Credential{}, err
	}
	return Credential{fleet.Secret(secret), &fleet.Caller{Scope: scope, Kind: fleet.IAMUser, ARN: e.ARN(scope), UserID: e.ID, Name: e.Name,
		AccessKeyID: id, Tags: e.Tags}}, nil
}

func (s *Service) lookupSession(ctx context.Context, key, token string) (Credential, error) {
	if token == "" {
		return Credential{}, unknownKey()
	}
	v, err := s.open(key, token)
	if err != nil {
		return Credential{}, err
	}
	if s.clock.Now().UnixMilli() >= v.Expires {
		return Credential{}, expired()
	}
	read := func() (c Credential, err error) {
		err = s.db.View(ctx, func(tx *store.Tx) error {
			c, err = s.sessionCredential(tx, v)
			return err
		})
		return c, err
	}
	if v.Device != nil { // its certificate may change, which empties no cache of ours
		return read()
	}
	return remember(s, "session "+key, read)
}

// sessionCredential checks that whoever stands behind a session still does.
func (s *Service) sessionCredential(tx *store.Tx, v session) (Credential, error) {
	scope := fleet.Scope{Account: v.Account, Region: v.Region}
	issued := time.UnixMilli(v.Issued).UTC()
	c := &fleet.Caller{Scope: scope, Kind: v.Kind, Name: v.Name, Session: v.Session, AccessKeyID: v.Key, IssuedAt: issued,
		Expires: time.UnixMilli(v.Expires).UTC(), SessionPolicies: v.Policies, Federation: v.Federation, Tags: map[string]string{},
		ParentKeyID: v.Made, TransitiveTags: v.Transitive, SourceIdentity: v.Source, ParentAccount: v.Origin}
	if v.Device != nil {
		device := *v.Device
		device.Region = v.Region
		c.Device = &device
	}
	if v.Kind == fleet.Service { // its end and its policy are all there is to it
		c.ARN, c.UserID = v.Name, v.Name
		return Credential{fleet.Secret(v.Secret), c}, nil
	}
	kind := store.IAMUser
	if v.Kind == fleet.RoleSession {
		kind = store.IAMRole
	}
	e, err := get(tx, scope, kind, v.Name)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) || err == nil && e.ID != v.ID {
		return Credential{}, expired()
	}
	if err != nil {
		return Credential{}, err
	}
	if v.Kind == fleet.RoleSession {
		c.ARN, c.UserID, c.RoleARN = sessionARN(scope, e.Name, v.Session), e.ID+":"+v.Session, e.ARN(scope)
	} else {
		c.ARN, c.UserID = e.ARN(scope), e.ID
	}
	if err := s.alive(tx, c); err != nil {
		return Credential{}, err
	}
	for _, tags := range []map[string]string{e.Tags, v.Tags} { // session tags win
		for k, value := range tags {
			setTag(c.Tags, k, value)
		}
	}
	return Credential{fleet.Secret(v.Secret), c}, nil
}

func sessionARN(s fleet.Scope, role, name string) string {
	return "arn:" + fleet.Partition + ":sts::" + s.Account + ":assumed-role/" + role + "/" + name
}

// A SessionRequest asks for temporary credentials of a role.
type SessionRequest struct {
	Scope     fleet.Scope // account of the role, region of the session
	RoleARN   string
	Name      string           // session name
	Duration  time.Duration    // 0: an hour
	Principal policy.Principal // who asks, for the trust policy
	Action    string           // sts:AssumeRole or sts:AssumeRoleWithWebIdentity
	Context   policy.Context   // condition keys for the trust policy

	Policies   []string // session policies: documents or ARNs of managed policies
	Tags       map[string]string
	Transitive []string
	Federation *fleet.Federation
	Made       string // long-lived key behind the session
	Origin     string // account of that key or of the person, if another than the role's
	Source     string // source identity
	Device     *fleet.DeviceFacts

	caller *fleet.Caller // who asks, if by credentials of our own, which must be good still
}

// A Session is what IssueSession made.
type Session struct {
	Credentials
	ARN, ID   string // of the session
	Source    string // source identity
	Packed    int    // percentage of the room for session policies and tags that is used
	Delegated bool   // the trust policy named the caller's account only
}

// IssueSession makes temporary credentials of a role after asking its trust policy. Errors: KindDenied in AWS's words, also for a
// role that does not exist, so that nobody can probe for names.
func (s *Service) IssueSession(ctx context.Context, r SessionRequest) (out Session, err error) {
	if r.Duration == 0 {
		r.Duration = time.Hour
	}
	key, secret := "ASIA"+fleet.RandomString(16, fleet.AlphaBase32), newSecret()
	now := s.clock.Now() // before the role is read: a change of it that comes later ends this session
	var e Entity
	// In a write transaction: a cut-off that is being committed has an earlier time than this session, which must not outlive it.
	err = s.db.Tx(ctx, func(tx *store.Tx) (err error) {
		if r.caller != nil {
			if err := s.alive(tx, r.caller); err != nil {
				return err
			}
		}
		e, err = roleOf(tx, r.Scope, r.RoleARN)
		if errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) {
			return notTrusted(r)
		}
		if err != nil {
			return err
		}
		if out.Delegated, err = s.trusted(e, r); err != nil {
			return err
		}
		if r.Duration > time.Duration(e.MaxSession)*time.Second { // which nobody learns of a role that does not trust them
			return fleet.Invalid("", "", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.").WithCode("ValidationError")
		}
		return nil
	})
	if err != nil {
		return Session{}, err
	}
	out.Credentials, err = s.credentials(session{Key: key, Secret: secret.Reveal(), Account: r.Scope.Account, Region: r.Scope.Region, Kind: fleet.RoleSession,
		Name: e.Name, ID: e.ID, Session: r.Name, Issued: now.UnixMilli(), Expires: now.Add(r.Duration).UnixMilli(), Policies: r.Policies, Tags: r.Tags,
		Transitive: r.Transitive, Federation: r.Federation, Made: r.Made, Origin: r.Origin, Source: r.Source, Device: r.Device})
	out.ARN, out.ID = sessionARN(r.Scope, e.Name, r.Name), e.ID+":"+r.Name
	out.Source, out.Packed = r.Source, r.packed()
	return out, err
}

// ServiceSession makes credentials of a service of ours, such as iot.amazonaws.com, for links that it hands out: they are good for what
// document allows, and nothing else, for so long.
func (s *Service) ServiceSession(scope fleet.Scope, service, document string, d time.Duration) (Credentials, error) {
	if _, err := s.parse(document, policy.Identity); err != nil {
		return Credentials{}, err
	}
	now := s.clock.Now()
	return s.credentials(session{Key: "ASIA" + fleet.RandomString(16, fleet.AlphaBase32), Secret: newSecret().Reveal(), Account: scope.Account, Region: scope.Region,
		Kind: fleet.Service, Name: service, Issued: now.UnixMilli(), Expires: now.Add(d).UnixMilli(), Policies: []string{document}})
}

// packed is how much of the room for session policies and tags a request uses, in percent; 0 only if it brings none.
func (r SessionRequest) packed() int {
	used := 0
	for _, p := range r.Policies {
		used += len(p)
	}
	for k, v := range r.Tags {
		used += len(k) + len(v)
	}
	return min((used*100+policy.MaxSession-1)/policy.MaxSession, 100)
}

func (s *Service) credentials(v session) (Credentials, error) {
	token, err := s.seal(v)
	if err == nil && len(token) > maxToken {
		err = fleet.Invalid("", "", "Packed size of session policies and tags consumes %d%% of allotted space.", len(token)*100/maxToken).WithCode("PackedPolicyTooLarge")
	}
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{v.Key, fleet.Secret(v.Secret), token, time.UnixMilli(v.Expires).UTC()}, nil
}

// trusted asks a role's trust policy; tags need sts:TagSession beside.
func (s *Service) trusted(e Entity, r SessionRequest) (delegated bool, err error) {
	trust, err := s.parse(e.Trust, policy.Trust)
	if err != nil {
		return false, err
	}
	facts := policy.Context{}
	s.setCircumstances(facts, &fleet.Caller{Scope: r.Scope})
	for k, v := range r.Context {
		facts.Set(k, v...)
	}
	setRequest(facts, r)
	if r.Federation != nil {
		setFederation(facts, r.Federation)
	}
	for _, action := range r.actions() {
		d := policy.Evaluate([]policy.Named{{Name: e.Name, Doc: trust}}, policy.Request{Action: action, Resource: r.RoleARN, Principal: r.Principal, Context: facts})
		if !d.Allowed() {
			r.Action = action
			return false, notTrusted(r)
		}
		delegated = delegated || d.Delegated
	}
	return delegated, nil
}

// actions are what both trust policy and caller must allow (identity spec 3).
func (r SessionRequest) actions() []string {
	list := []string{r.Action}
	if len(r.Tags) > 0 {
		list = append(list, "sts:TagSession")
	}
	if r.Source != "" {
		list = append(list, "sts:SetSourceIdentity")
	}
	return list
}

// setRequest sets the keys that describe a request for a session.
func setRequest(facts policy.Context, r SessionRequest) {
	facts.Set("sts:RoleSessionName", r.Name)
	facts.Set("aws:TagKeys", slices.Sorted(maps.Keys(r.Tags))...)
	facts.Set("sts:TransitiveTagKeys", r.Transitive...)
	for k, v := range r.Tags {
		facts.Set("aws:RequestTag/"+k, v)
	}
	if r.Source != "" {
		facts.Set("sts:SourceIdentity", r.Source)
	}
}

func notTrusted(r SessionRequest) error {
	if len(r.Principal.Names) > 0 {
		return fleet.Denied("User: %s is not authorized to perform: %s on resource: %s", r.Principal.Names[0], r.Action, r.RoleARN)
	}
	return fleet.Denied("Not authorized to perform %s", r.Action)
}
