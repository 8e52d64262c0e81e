package fleet

import "time"

// A RoleAlias is the name under which devices ask the credential provider for credentials of a role (iot-core spec 10).
type RoleAlias struct {
	Name              string
	RoleARN           string
	Duration          time.Duration // of the credentials
	Created, Modified time.Time
}

var roleAlias = NewPattern(`^[\w=,@-]{1,128}$`)

// ValidRoleAlias reports whether s may name a role alias (iot-core spec 2.2).
func ValidRoleAlias(s string) bool { return roleAlias.MatchString(s) }
