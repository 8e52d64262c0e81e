package fleet

import (
	"context"
	"time"
)

// CallerKind says what sort of identity signed a request.
type CallerKind int

const (
	Anonymous   CallerKind = iota // unsigned: public operations only
	Root                          // the account itself
	IAMUser                       // long-lived access key of a user
	RoleSession                   // temporary credentials of a role
	UserSession                   // temporary credentials of a user (GetSessionToken)
	Service                       // one of our own services, for example iot.amazonaws.com
	Device                        // a registered certificate, over HTTPS: its IoT policies say what it may, never IAM
)

// A Caller is whoever makes a request, as established by its signature. Authorisation looks at nothing else.
type Caller struct {
	Scope       Scope
	Kind        CallerKind
	ARN         string // as shown to the caller: arn:aws:iam::…:user/x, arn:aws:sts::…:assumed-role/R/session
	UserID      string // AIDA…, AROA…:session, the account id for root
	Name        string // user name, or role name for a session
	RoleARN     string // role sessions only: arn:aws:iam::…:role/path/name
	Session     string // role session name
	AccessKeyID string
	ParentKeyID string // long-lived key that a temporary credential goes back to; empty for web identities
	// ParentAccount is the account of that key, or of the person behind a web identity, where it is not the caller's own.
	ParentAccount string
	IssuedAt      time.Time // temporary credentials only
	Expires       time.Time // temporary credentials only; zero: never

	SessionPolicies []string          // policy documents that narrow the session
	Tags            map[string]string // principal tags, session tags win over the principal's own
	TransitiveTags  []string          // keys of Tags that a role assumed from here gets too
	Federation      *Federation       // web-identity sessions only
	SourceIdentity  string            // set by whoever assumed the role
	Device          *DeviceFacts      // sessions that the credential provider gave to a device only
	SourceIP        string
	UserAgent       string
}

// IdentityPools is the provider name of identity pools in trust policies and, after https://, the issuer of their tokens. It is AWS's
// own, literally, because trust policies name it.
const IdentityPools = "cognito-identity.amazonaws.com"

// Federation is where a web-identity session came from. Its facts stay condition keys for the whole session
// (identity spec 4.3) and tell an audit who the installer is.
type Federation struct {
	Provider string // IdentityPools or an issuer without its scheme
	Audience string // identity pool id or client id
	Subject  string // identity id or sub
	AMR      []string
	PoolID   string // user pool that vouched for the person, if ours
	UserSub  string // the person's sub in that pool
	Username string

	OIDC     string   `json:",omitempty"` // IAM's OpenID Connect provider that vouched for the person, by name; "" if none did
	Email    string   `json:",omitempty"`
	Original []string `json:",omitempty"` // aud, where azp was taken for Audience
}

// DeviceFacts say which device got credentials by its certificate. They are condition keys of its session (iot-core spec 10), which
// ends with the certificate's power.
type DeviceFacts struct {
	Certificate      string // id
	Region           string `json:"-"`          // of the certificate; the session is good in all
	Thing, ThingType string `json:",omitempty"` // "": the device named no thing, or one without a type
}

type callerKey struct{}

// WithCaller and CallerFrom carry the caller through a context: the one value, beside the request id, that travels so.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the request's caller, an anonymous one without scope if there is none.
func CallerFrom(ctx context.Context) *Caller {
	if c, ok := ctx.Value(callerKey{}).(*Caller); ok {
		return c
	}
	return &Caller{}
}

type requestIDKey struct{}

// WithRequestID and RequestID carry the id that a request's answer and log line show.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func RequestID(ctx context.Context) string {
	s, _ := ctx.Value(requestIDKey{}).(string)
	return s
}
