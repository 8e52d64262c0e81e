package userpool

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// What is counted per user and hour, and how often it may happen (identity spec 1.9).
const (
	signInAttempts  = "sign-in"
	resendAttempts  = "resend"
	confirmAttempts = "confirm"
	changeAttempts  = "change-password"
	forgotAttempts  = "forgot"
	recoverAttempts = "recover"
	askAttempts     = "ask-verification"
	verifyAttempts  = "verify"
	tokenAttempts   = "verify-software-token"
)

var hourly = map[string]int{
	resendAttempts: 5, confirmAttempts: 15, changeAttempts: 5, forgotAttempts: 5, recoverAttempts: 15, askAttempts: 5, verifyAttempts: 15,
	tokenAttempts: 15,
}

const (
	freeFailures = 5                // the fifth failure locks
	longestLock  = 15 * time.Minute // and the silence that forgets all
)

// userSubject and nameSubject say whose attempts are counted: a user's, whatever name was typed, or those for a name that nobody has.
func userSubject(sub string) string  { return digest("user\x00" + sub)[:32] }
func nameSubject(name string) string { return digest("name\x00" + name)[:32] }

func subjectOf(u *store.PoolUser, name string) string {
	if u != nil {
		return userSubject(u.Sub)
	}
	return nameSubject(name)
}

// What an attempt to sign in has proven.
type proof int

const (
	provenNothing proof = iota
	provenPart          // the password, and another factor will be asked for
	provenAll
)

// countSignIn records the outcome of a sign-in and reports whether it came during a lock, in which case the outcome does not
// matter (identity spec 1.11): from the fifth failure on a lock of one second, doubled by each further one; attempts during a
// lock do not lengthen it; fifteen minutes without any attempt, or a success, forget everything. Wrong codes of a software token
// count with wrong passwords, and a password alone forgets none of them: who knows it could guess codes for ever.
func countSignIn(tx *store.Tx, scope fleet.Scope, pool, subject string, now time.Time, proven proof) (locked bool, err error) {
	a, err := tx.PoolAttempts(scope, pool, subject, signInAttempts)
	if err != nil {
		return false, err
	}
	if !now.Before(a.Expires) {
		a = store.PoolAttempts{}
	}
	locked = now.Before(a.Until)
	switch {
	case locked:
	case proven != provenNothing && a.Count == 0:
		return false, nil
	case proven == provenPart:
	case proven == provenAll:
		return false, tx.ClearPoolAttempts(scope, pool, subject, signInAttempts)
	default:
		a.Count++
		if n := a.Count - freeFailures; n >= 0 {
			a.Until = now.Add(min(time.Second<<min(n, 20), longestLock))
		}
	}
	a.Expires = now.Add(longestLock)
	return locked, tx.PutPoolAttempts(scope, pool, subject, signInAttempts, a)
}

// countHourly records an attempt and reports whether there were too many within the hour that began with the first. Of one that counts is
// known for an hour that it was made (counted), as long as a code is good that it sends.
func countHourly(tx *store.Tx, scope fleet.Scope, pool, subject, action string, now time.Time) (tooMany bool, err error) {
	a, err := tx.PoolAttempts(scope, pool, subject, action)
	if err != nil {
		return false, err
	}
	if !now.Before(a.Until) {
		a = store.PoolAttempts{Until: now.Add(time.Hour)}
	}
	if a.Count >= hourly[action] {
		return true, nil
	}
	a.Count++
	a.Expires = now.Add(time.Hour)
	return false, tx.PutPoolAttempts(scope, pool, subject, action, a)
}

// counted reports whether an action was tried within an hour.
func counted(tx *store.Tx, scope fleet.Scope, pool, subject, action string, now time.Time) (bool, error) {
	a, err := tx.PoolAttempts(scope, pool, subject, action)
	return a.Count > 0 && now.Before(a.Expires), err
}
