package policy

// Rules are everything that bears on what one identity may do in its account (identity spec 4.2).
type Rules struct {
	Root     bool    // the account itself: allowed unless explicitly denied
	Policies []Named // identity policies: inline, managed, of groups

	Boundary []Named // the permissions boundary; nil: none
	Session  []Named // session policies; nil: none. A session whose policies allow nothing has a document that allows nothing
}

// A Verdict is the outcome of EvaluateIdentity.
type Verdict struct {
	Result        // of the set of policies that decided
	Source Source // which set that was
}

// Source names a set of policies.
type Source uint8

const (
	FromIdentity Source = iota
	FromBoundary
	FromSession
	FromTrust
	FromResource // of another account; we have no resource policies, so nothing is allowed
)

// EvaluateIdentity decides r for an identity: an explicit Deny anywhere wins; else the identity policies must allow, and so
// must the boundary and the session policies where there are any. When allowed, the Result is that of the identity policies.
func EvaluateIdentity(rules Rules, r Request) Verdict {
	sets := [...]struct {
		docs   []Named
		source Source
		asked  bool
	}{
		{rules.Policies, FromIdentity, true},
		{rules.Boundary, FromBoundary, rules.Boundary != nil},
		{rules.Session, FromSession, rules.Session != nil},
	}
	var results [len(sets)]Result
	for i, s := range sets {
		if !s.asked {
			continue
		}
		results[i] = Evaluate(s.docs, r)
		if results[i].Decision == ExplicitDeny {
			return Verdict{results[i], s.source}
		}
	}
	if rules.Root {
		return Verdict{Result{Decision: Allowed, Policy: "root"}, FromIdentity}
	}
	for i, s := range sets {
		if s.asked && results[i].Decision != Allowed {
			return Verdict{results[i], s.source}
		}
	}
	return Verdict{results[0], FromIdentity}
}

// Denial is AWS's sentence for a refused request (identity spec 4.2).
func Denial(callerARN, action, resource string, v Verdict) string {
	return "User: " + callerARN + " is not authorized to perform: " + action + " on resource: " + resource + v.reason(action)
}

func (v Verdict) reason(action string) string {
	if v.Decision == ExplicitDeny {
		switch v.Source {
		case FromBoundary:
			return " with an explicit deny in a permissions boundary"
		case FromSession:
			return " with an explicit deny in a sessions policy"
		case FromTrust:
			return " with an explicit deny in the role trust policy"
		}
		return " with an explicit deny in an identity-based policy"
	}
	set := "identity-based policy"
	switch v.Source {
	case FromBoundary:
		set = "permissions boundary"
	case FromSession:
		set = "session policy"
	case FromTrust:
		set = "role trust policy"
	case FromResource:
		set = "resource-based policy"
	}
	return " because no " + set + " allows the " + action + " action"
}
