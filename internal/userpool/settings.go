package userpool

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Pool is a user pool with its settings.
type Pool struct {
	Scope    fleet.Scope
	ID, Name string
	Settings
	Tags              map[string]string
	Created, Modified time.Time
	EstimatedUsers    int    // of CreatePool and Pool only
	Prefix, HostName  string // domains of the sign-in pages; of Pool only

	secret []byte // sealed
}

// ARN names the pool as IAM policies do.
func (p *Pool) ARN() string { return ARN(p.Scope, p.ID) }

// ARN names a user pool of a scope as IAM policies do (identity spec 1.1).
func ARN(s fleet.Scope, poolID string) string { return s.ARN("cognito-idp", "userpool/"+poolID) }

// Settings of a pool (identity spec 1.2). They are stored as JSON under the names of these fields: a field may be added, never
// renamed. The zero value of each means AWS's default or, where said, ours.
type Settings struct {
	// Fixed when the pool is made.
	UsernameAttributes []string // email, phone_number: what people sign in with in place of a username
	AliasAttributes    []string // email, phone_number, preferred_username: what they may sign in with beside it
	CaseSensitive      bool     // default false, as AWS's console has it
	Schema             []SchemaAttribute

	Password           PasswordPolicy
	DeletionProtection bool
	AutoVerified       []string // email, phone_number: verified at sign-up
	VerifyFirst        []string // email, phone_number: an update counts only once verified
	AdminCreateOnly    bool     // nobody signs up by themselves
	Recovery           []RecoveryOption
	Tier               string
	MFA                string   // OFF (or empty), OPTIONAL, ON: whether people prove a software token beside their password
	FirstFactors       []string // what a sign-in may begin with (AllowedFirstAuthFactors); empty: the password alone
	Passkeys           PasskeySettings

	SMSVerificationMessage, EmailVerificationMessage, EmailVerificationSubject, SMSAuthenticationMessage string

	Triggers Triggers

	Verification MessageTemplate
	Invitation   MessageTemplate
	Email        EmailSettings
	SMS          *SMSSettings
}

// PasswordPolicy says what a password must be like.
type PasswordPolicy struct {
	MinLength                      int // 6..99
	Upper, Lower, Numbers, Symbols bool
	History                        int // 0..24 passwords that may not come back
	TemporaryDays                  int // life of a temporary password
}

// DefaultPasswordPolicy is the policy of a pool that names none.
var DefaultPasswordPolicy = PasswordPolicy{MinLength: 8, Upper: true, Lower: true, Numbers: true, Symbols: true, TemporaryDays: 7}

// A RecoveryOption is a way to a new password, priority 1 first.
type RecoveryOption struct {
	Priority int    // 1..2
	Name     string // verified_email, verified_phone_number, admin_only
}

// A MessageTemplate words what is sent; {####} stands for the code or password, {username} for the user.
type MessageTemplate struct {
	SMS, Email, Subject        string
	EmailByLink, SubjectByLink string // {##TEXT##} stands for the link
	ByLink                     bool   // of VerificationMessageTemplate: mail for a sign-up has a link in place of a code
}

// EmailSettings and SMSSettings are AWS's delivery settings. They are kept and shown: delivery here is the server's own.
type EmailSettings struct{ SourceARN, ReplyTo, SendingAccount, From, ConfigurationSet string }

// SMSSettings: see EmailSettings.
type SMSSettings struct{ CallerARN, ExternalID, Region string }

// checkSettings completes s with defaults and refuses what contradicts the rules.
func checkSettings(s *Settings) error {
	if s.Password == (PasswordPolicy{}) {
		s.Password = DefaultPasswordPolicy
	}
	if s.Password.MinLength == 0 {
		s.Password.MinLength = DefaultPasswordPolicy.MinLength
	}
	if s.Password.TemporaryDays == 0 { // AWS treats 0 as absent
		s.Password.TemporaryDays = DefaultPasswordPolicy.TemporaryDays
	}
	if s.Tier == "" {
		s.Tier = "ESSENTIALS"
	}
	if err := s.checkFirstFactors(); err != nil {
		return err
	}
	if p := s.Password; p.MinLength < 6 || p.MinLength > 99 || p.History < 0 || p.History > 24 || p.TemporaryDays < 0 || p.TemporaryDays > 365 {
		return invalid("The password policy is out of range: minimum length 6 to 99, history 0 to 24, temporary passwords 1 to 365 days.")
	}
	if len(s.UsernameAttributes) > 0 && len(s.AliasAttributes) > 0 {
		return invalid("Only one of the aliasAttributes or usernameAttributes can be set in a user pool")
	}
	if err := s.checkWords(); err != nil {
		return err
	}
	if err := s.Triggers.check(); err != nil {
		return err
	}
	for _, o := range s.Recovery {
		if o.Name == "admin_only" && len(s.Recovery) > 1 {
			return invalid("Invalid account recovery setting parameter. Account Recovery Setting cannot use admin_only setting with any other recovery mechanisms.")
		}
	}
	slices.SortStableFunc(s.Recovery, func(a, b RecoveryOption) int { return a.Priority - b.Priority })
	return nil
}

// checkWords refuses templates that lack what they are for: the code, and in an invitation the user name as well.
func (s *Settings) checkWords() error {
	for _, t := range []struct {
		name, text string
		needs      []string
	}{
		{"EmailVerificationMessage", s.EmailVerificationMessage, []string{"{####}"}},
		{"SmsVerificationMessage", s.SMSVerificationMessage, []string{"{####}"}},
		{"VerificationMessageTemplate.EmailMessage", s.Verification.Email, []string{"{####}"}},
		{"VerificationMessageTemplate.SmsMessage", s.Verification.SMS, []string{"{####}"}},
		{"AdminCreateUserConfig.InviteMessageTemplate.EmailMessage", s.Invitation.Email, []string{"{username}", "{####}"}},
		{"AdminCreateUserConfig.InviteMessageTemplate.SMSMessage", s.Invitation.SMS, []string{"{username}", "{####}"}},
	} {
		for _, need := range t.needs {
			if t.text != "" && !strings.Contains(t.text, need) {
				return invalid(t.name + " must contain " + need + ".")
			}
		}
	}
	return nil
}

// aliasKinds lists the attributes under which a user of the pool may sign in.
func (s *Settings) aliasKinds() []string {
	if len(s.UsernameAttributes) > 0 {
		return s.UsernameAttributes
	}
	return s.AliasAttributes
}

func (p *Pool) key() string { return poolKey(p.ID) }

// poolKey is the part of a pool id behind "_", which SRP calls the pool's name (identity spec 1.6).
func poolKey(id string) string {
	for i := range id {
		if id[i] == '_' {
			return id[i+1:]
		}
	}
	return id
}

func poolOf(row store.UserPool) (*Pool, error) {
	p := &Pool{Scope: row.Scope, ID: row.ID, Name: row.Name, Tags: row.Tags, Created: row.Created, Modified: row.Modified, secret: row.Secret}
	if err := json.Unmarshal([]byte(row.Settings), &p.Settings); err != nil {
		return nil, fmt.Errorf("reading the settings of user pool %s: %w", row.ID, err)
	}
	return p, nil
}

func rowOf(p *Pool) (store.UserPool, error) {
	settings, err := json.Marshal(p.Settings)
	return store.UserPool{Scope: p.Scope, ID: p.ID, Name: p.Name, Settings: string(settings), Tags: p.Tags, Secret: p.secret,
		Created: p.Created, Modified: p.Modified}, err
}

// A Client is an app that signs people in.
type Client struct {
	Scope            fleet.Scope
	PoolID, ID, Name string
	ClientSettings
	Secret            fleet.Secret // empty for a public client
	Created, Modified time.Time
}

// ClientSettings are replaced as a whole by an update (identity spec 1.2). They are stored as JSON under these names.
type ClientSettings struct {
	AuthFlows                       []string // ALLOW_… or the three legacy names
	AccessValidity, IDValidity      *int     // in their unit; nil: one hour
	RefreshValidity                 *int     // in its unit; nil or 0: 30 days
	AccessUnit, IDUnit, RefreshUnit string   // seconds, minutes, hours, days; empty: hours, hours, days
	SessionMinutes                  int      // how long a challenge waits for its answer, 3..15
	ReadAttributes, WriteAttributes []string // nil: all
	NoRevocation                    bool     // tokens carry no origin_jti
	ShowUnknownUsers                bool     // PreventUserExistenceErrors LEGACY
	Rotation                        *Rotation
	Providers                       []string // SupportedIdentityProviders
	CallbackURLs, LogoutURLs        []string
	DefaultRedirect                 string
	OAuthFlows, OAuthScopes         []string
	OAuth                           bool // AllowedOAuthFlowsUserPoolClient
	PropagateContext                bool // EnablePropagateAdditionalUserContextData, kept and shown
}

// Rotation of refresh tokens.
type Rotation struct {
	Enabled      bool
	GraceSeconds int // 0..60
}

var defaultAuthFlows = []string{"ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_CUSTOM_AUTH"}

// checkClient completes the settings of a client with defaults and refuses what contradicts the rules of the pool.
func checkClient(tx *store.Tx, p *Pool, c *Client) error {
	s := &c.ClientSettings
	if len(s.AuthFlows) == 0 {
		s.AuthFlows = defaultAuthFlows
	}
	legacy, modern := 0, 0
	for _, f := range s.AuthFlows {
		switch f {
		case "ADMIN_NO_SRP_AUTH", "CUSTOM_AUTH_FLOW_ONLY", "USER_PASSWORD_AUTH":
			legacy++
		default:
			modern++
		}
	}
	if legacy > 0 && modern > 0 {
		return invalid("Cannot specify both legacy and new auth flows: names with ALLOW_ do not mix with the others.")
	}
	if s.SessionMinutes == 0 {
		s.SessionMinutes = 3
	}
	for _, v := range []struct {
		life     time.Duration
		min, max time.Duration
	}{
		{s.accessLife(), 5 * time.Minute, 24 * time.Hour},
		{s.idLife(), 5 * time.Minute, 24 * time.Hour},
		{s.refreshLife(), time.Hour, 3650 * 24 * time.Hour},
	} {
		if v.life < v.min || v.life > v.max {
			return invalid("Invalid range for token validity.")
		}
	}
	for _, name := range slices.Concat(s.ReadAttributes, s.WriteAttributes) {
		if _, ok := p.attribute(name); !ok {
			return invalid("Invalid attribute " + strconv.Quote(name) + ": it is not in the schema of the user pool.")
		}
	}
	for _, name := range p.requiredAttributes() {
		if s.WriteAttributes != nil && !slices.Contains(s.WriteAttributes, name) {
			return invalid("Invalid write attributes specified while creating a client: the required attribute " + name + " is missing.")
		}
	}
	if len(s.CallbackURLs) > 100 || len(s.LogoutURLs) > 100 {
		return invalid("At most 100 callback URLs and 100 logout URLs are allowed.")
	}
	if err := checkProviders(tx, p, c.Providers); err != nil {
		return err
	}
	return checkOAuth(tx, p, c)
}

func (s *ClientSettings) accessLife() time.Duration {
	return life(s.AccessValidity, s.AccessUnit, time.Hour, time.Hour)
}
func (s *ClientSettings) idLife() time.Duration {
	return life(s.IDValidity, s.IDUnit, time.Hour, time.Hour)
}
func (s *ClientSettings) refreshLife() time.Duration {
	if s.RefreshValidity != nil && *s.RefreshValidity == 0 {
		return 30 * 24 * time.Hour
	}
	return life(s.RefreshValidity, s.RefreshUnit, 24*time.Hour, 30*24*time.Hour)
}

// life multiplies out a validity; unit is its unit unless named, otherwise is the life when none was given.
func life(n *int, name string, unit, otherwise time.Duration) time.Duration {
	if n == nil {
		return otherwise
	}
	switch name {
	case "seconds":
		unit = time.Second
	case "minutes":
		unit = time.Minute
	case "hours":
		unit = time.Hour
	case "days":
		unit = 24 * time.Hour
	}
	if *n > int(10*365*24*time.Hour/unit) { // would overflow; refused as out of range
		return 1<<63 - 1
	}
	return time.Duration(*n) * unit
}

// allows reports whether the client may use a flow, for example "USER_SRP_AUTH".
func (s *ClientSettings) allows(flow string) bool {
	if slices.Contains(s.AuthFlows, "ALLOW_"+flow) || slices.Contains(s.AuthFlows, flow) {
		return true
	}
	legacy := !slices.ContainsFunc(s.AuthFlows, func(f string) bool { return len(f) > 6 && f[:6] == "ALLOW_" })
	switch flow { // legacy names only add to what was then always on
	case "USER_SRP_AUTH", "REFRESH_TOKEN_AUTH":
		return legacy && (flow == "REFRESH_TOKEN_AUTH" || !slices.Contains(s.AuthFlows, "CUSTOM_AUTH_FLOW_ONLY"))
	case "ADMIN_USER_PASSWORD_AUTH":
		return slices.Contains(s.AuthFlows, "ADMIN_NO_SRP_AUTH")
	}
	return false
}

func (s *Service) clientOf(row store.UserPoolClient) (*Client, error) {
	c := &Client{Scope: row.Scope, PoolID: row.Pool, ID: row.ID, Name: row.Name, Created: row.Created, Modified: row.Modified}
	if err := json.Unmarshal([]byte(row.Settings), &c.ClientSettings); err != nil {
		return nil, fmt.Errorf("reading the settings of app client %s: %w", row.ID, err)
	}
	if len(row.Secret) > 0 {
		secret, err := s.open("client-secret", row.Secret, row.Scope, row.Pool, row.ID)
		if err != nil {
			return nil, err
		}
		c.Secret = fleet.Secret(secret)
	}
	return c, nil
}
