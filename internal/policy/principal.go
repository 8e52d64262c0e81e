package policy

import (
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Principal is whoever asks to become a role. Exactly one of the three sorts is set: an AWS identity (Account, Names), a
// Service, or a federated identity (Federated).
type Principal struct {
	Account   string   // account of an AWS identity
	Names     []string // what a trust policy may call it: its ARN, for a session also the role's ARN, its unique id
	Service   string   // for example iot.amazonaws.com
	Federated string   // ARN of an OIDC provider, or cognito-identity.amazonaws.com
}

// principals is a compiled Principal or NotPrincipal element.
type principals struct {
	anyone    bool // "*": any AWS identity; services and federated identities must be named
	accounts  []string
	names     []string
	services  []string
	federated []string
}

func (p *principals) match(who *Principal) match {
	switch {
	case who.Service != "":
		return matchOf(contains(p.services, who.Service))
	case who.Federated != "":
		return matchOf(contains(p.federated, who.Federated))
	case who.Account == "":
		return noMatch
	}
	for _, n := range who.Names {
		if contains(p.names, n) {
			return directly
		}
	}
	if p.anyone || contains(p.accounts, who.Account) {
		return delegated
	}
	return noMatch
}

func matchOf(ok bool) match {
	if ok {
		return directly
	}
	return noMatch
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

var (
	accountID = fleet.NewPattern(`^[0-9]{12}$`)
	uniqueID  = fleet.NewPattern(`^A(IDA|ROA|GPA)[A-Z0-9]{16,124}$`)
	service   = fleet.NewPattern(`^[a-z0-9.-]+\.amazonaws\.com(\.cn)?$`)
)

// add files one principal of the given sort ("AWS", "Service" …). It returns false if it is not a principal.
func (p *principals) add(sort, value string) bool {
	switch sort {
	case "AWS":
		return p.addAWS(value)
	case "Service":
		if !service.MatchString(value) {
			return false
		}
		p.services = append(p.services, value)
	case "Federated":
		if value == "" || strings.ContainsAny(value, "*?") {
			return false
		}
		p.federated = append(p.federated, value)
	case "CanonicalUser": // storage principals; they never ask for a role
	default:
		return false
	}
	return true
}

func (p *principals) addAWS(value string) bool {
	switch {
	case value == "*":
		p.anyone = true
	case accountID.MatchString(value):
		p.accounts = append(p.accounts, value)
	case uniqueID.MatchString(value):
		p.names = append(p.names, value)
	default:
		a, ok := fleet.ParseARN(value)
		if !ok || (a.Service != "iam" && a.Service != "sts") || strings.ContainsAny(value, "*?") || !accountID.MatchString(a.Account) {
			return false // a wildcard may stand for everyone, not for part of a name
		}
		if a.Service == "iam" && a.Resource == "root" {
			p.accounts = append(p.accounts, a.Account)
		} else {
			p.names = append(p.names, value)
		}
	}
	return true
}
