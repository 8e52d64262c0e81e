package fleet

import (
	"regexp"
	"strings"
	"time"
)

// EntityKind says what sort of IAM entity something is.
type EntityKind string

const (
	UserEntity  EntityKind = "user"
	GroupEntity EntityKind = "group"
	RoleEntity  EntityKind = "role"
)

// An Entity is a user, group or role of an account: what IAM policies are attached to. Entities belong to no region.
type Entity struct {
	Kind        EntityKind
	Name        string // unique within account and kind, whatever the letter case
	ID          string // AIDA…, AGPA…, AROA…: never used again, so that a namesake made later inherits nothing
	Path        string // "/" or "/a/b/"
	Description string // roles
	Trust       string // roles: who may assume it, as submitted
	MaxSession  time.Duration
	Boundary    string // ARN of the managed policy that bounds users and roles; empty: none
	Created     time.Time
}

// ARN names the entity, for example arn:aws:iam::123456789012:role/service/provisioner.
func (e Entity) ARN(account string) string {
	return Scope{Account: account}.IAM(string(e.Kind) + e.Path + e.Name)
}

// An AccessKey is a long-lived key of a user. Its secret is known to the store in sealed form only.
type AccessKey struct {
	ID       string
	User     string // name
	Sealed   []byte
	Active   bool
	Created  time.Time
	LastUsed KeyUse // zero: never
}

// A KeyUse tells when and for what an access key was last used.
type KeyUse struct {
	At              time.Time
	Service, Region string
}

// A ManagedPolicy is an IAM policy that can be attached to several entities.
type ManagedPolicy struct {
	Name, ID    string
	Path        string
	Description string
	Default     int // id of the default version
	Attached    int // how many entities have it
	Bounding    int // how many entities it bounds
	Created     time.Time
	Modified    time.Time
}

// ARN names the policy. The account of policies that come with the product is "aws".
func (p ManagedPolicy) ARN(account string) string {
	return Scope{Account: account}.IAM("policy" + p.Path + p.Name)
}

// An OIDCProvider is an issuer of web-identity tokens that an account trusts.
type OIDCProvider struct {
	URL         string // without scheme
	ClientIDs   []string
	Thumbprints []string
	Created     time.Time
}

// ARN names the provider.
func (p OIDCProvider) ARN(account string) string {
	return Scope{Account: account}.IAM("oidc-provider/" + p.URL)
}

// SplitPath splits the resource of an IAM ARN behind its kind into path and name: "role/a/b/c" is ("role", "/a/b/", "c").
func SplitPath(resource string) (kind, path, name string) {
	kind, rest, _ := strings.Cut(resource, "/")
	i := strings.LastIndexByte(rest, '/')
	return kind, "/" + rest[:i+1], rest[i+1:]
}

var (
	iamName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	iamPath = regexp.MustCompile(`^/([!-~]+/)?$`)
)

// ValidIAMName reports whether s may name an entity or policy of IAM. Names of users and roles are at most 64 long.
func ValidIAMName(s string) bool { return iamName.MatchString(s) }

// ValidIAMPath reports whether s is a path: "/", or printable characters between slashes.
func ValidIAMPath(s string) bool { return len(s) <= 512 && iamPath.MatchString(s) }
