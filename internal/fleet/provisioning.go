package fleet

import (
	"time"
)

// TemplateType is what a provisioning template is for; it never changes.
type TemplateType string

const (
	FleetProvisioning TemplateType = "FLEET_PROVISIONING"
	JITP              TemplateType = "JITP"
)

// A Template is a provisioning template with the body of its default version.
type Template struct {
	Name        string
	Description string
	Type        TemplateType
	RoleARN     string
	Enabled     *bool // nil: never said (shown as false; provisioning spec 4.2)
	Default     int   // id of the default version
	Body        string
	Hook        *Hook
	Generation  string // another one when a template of the same name is made anew
	Created     time.Time
	Modified    time.Time
}

// A TemplateVersion is one immutable body of a template.
type TemplateVersion struct {
	ID      int
	Body    string
	Default bool
	Created time.Time
}

// A Hook is asked before a device is provisioned (provisioning spec 5).
type Hook struct {
	PayloadVersion string
	TargetARN      string
}

// A Claim is a temporary certificate that a trusted user hands to a device: five minutes, one template. It is no registered
// certificate: lists don't show it, and its policy is fixed.
type Claim struct {
	ID        string // certificate id: hex SHA-256 of the DER
	Subject   string // CN of the certificate: an opaque handle of 64 hex digits
	Template  string
	Created   time.Time
	Expires   time.Time
	Revoked   time.Time // zero: live
	Installer Installer

	Generation string // of the template
	Limits     ClaimLimits
}

// What a temporary claim is good for.
const (
	ClaimActive  = "ACTIVE"
	ClaimExpired = "EXPIRED"
	ClaimRevoked = "REVOKED"
)

// Status says whether the claim itself is good at a time. Its template and its installer have a say, too.
func (c Claim) Status(now time.Time) string {
	switch {
	case !c.Revoked.IsZero():
		return ClaimRevoked
	case now.After(c.Expires):
		return ClaimExpired
	}
	return ClaimActive
}

// An Installer is the person or program behind a claim, as the claim, the certificate and the thing record it.
type Installer struct {
	CallerARN     string
	AccessKeyID   string
	ParentKeyID   string
	ParentAccount string // of ParentKeyID or of the person, where it is another account
	RoleARN       string
	PoolID        string
	UserSub       string
	Username      string
	IdentityID    string
	OIDC          string `json:",omitempty"` // IAM's OpenID Connect provider that vouched for the person, by name
}

// Who names the installer to people: by user name if there is one, else by ARN.
func (i Installer) Who() string {
	if i.Username != "" {
		return i.Username + " (" + i.PoolID + ") as " + i.CallerARN
	}
	return i.CallerARN
}

// InstallerOf takes from a caller what a claim must remember.
func InstallerOf(c *Caller) Installer {
	i := Installer{CallerARN: c.ARN, AccessKeyID: c.AccessKeyID, ParentKeyID: c.ParentKeyID, ParentAccount: c.ParentAccount, RoleARN: c.RoleARN}
	if f := c.Federation; f != nil {
		i.PoolID, i.UserSub, i.Username, i.IdentityID = f.PoolID, f.UserSub, f.Username, f.Subject
		i.OIDC = f.OIDC
	}
	return i
}

// Lifetimes that AWS fixes (provisioning spec 1.4, 3.6).
const (
	ClaimLifetime = 5 * time.Minute
	TokenLifetime = time.Hour
)

var templateName = NewPattern(`^[0-9A-Za-z_-]{1,36}$`)

// ValidTemplateName reports whether s may name a provisioning template.
func ValidTemplateName(s string) bool { return templateName.MatchString(s) }
