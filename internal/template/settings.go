package template

// Settings are what a template says to this product alone, under Mappings.Imprint.Settings. The zero value of each means that
// the template is silent.
type Settings struct {
	// AllowedPolicyNames are the policy names that a parameter may choose.
	AllowedPolicyNames []string
	// AllowedThingGroups are the thing groups that a parameter may choose.
	AllowedThingGroups []string
	// Reprovision says what happens when a device asks for a thing that has a principal already.
	Reprovision Reprovision
}

// Reprovision is a rule for things that have a principal already.
type Reprovision string

const (
	ReprovisionDeny Reprovision = "deny" // refused, unless the requester is a principal of the thing; the default
	ReprovisionAWS  Reprovision = "aws"  // allowed: the new certificate is attached in addition
)
