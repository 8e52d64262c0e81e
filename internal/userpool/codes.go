package userpool

import (
	"slices"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Purposes of codes. A code for one purpose serves no other.
const (
	signUpCode  = "signup"
	recoverCode = "recover"
	verifyCode  = "verify:" // + attribute
)

const (
	confirmLife = 24 * time.Hour
	recoverLife = time.Hour
	// maxCodeFailures wrong guesses make a code worthless, whoever guessed.
	maxCodeFailures = 15
)

func newCode() fleet.Secret { return fleet.Secret(fleet.RandomString(6, fleet.AlphaDigits)) }

// putCode stores a code in place of an earlier one.
func (s *Service) putCode(tx *store.Tx, p *Pool, sub, purpose, attribute, value string, code fleet.Secret, life time.Duration) error {
	return tx.PutPoolCode(p.Scope, p.ID, sub, store.PoolCode{Purpose: purpose, Attribute: attribute, Value: value, Expires: s.now().Add(life),
		Code: s.seal("code", []byte(code.Reveal()), p.Scope, p.ID, sub, purpose)})
}

// takeCode spends a code. verdict is what to tell the user if it was wrong; the count of failures must be kept then, so the
// transaction goes on.
func (s *Service) takeCode(tx *store.Tx, p *Pool, sub, purpose string, guess fleet.Secret) (c store.PoolCode, verdict, err error) {
	if c, verdict, err = s.checkCode(tx, p, sub, purpose, guess); err != nil || verdict != nil {
		return c, verdict, err
	}
	return c, nil, tx.DeletePoolCode(p.Scope, p.ID, sub, purpose)
}

// checkCode is takeCode that leaves a right code where it is.
func (s *Service) checkCode(tx *store.Tx, p *Pool, sub, purpose string, guess fleet.Secret) (c store.PoolCode, verdict, err error) {
	c, err = tx.PoolCode(p.Scope, p.ID, sub, purpose)
	if isNotFound(err) {
		return c, codeExpired(), nil
	}
	if err != nil {
		return c, nil, err
	}
	if !s.now().Before(c.Expires) || c.Failures >= maxCodeFailures {
		return c, codeExpired(), nil
	}
	code, err := s.open("code", c.Code, p.Scope, p.ID, sub, purpose)
	if err != nil {
		return c, nil, err
	}
	if !secretsEqual(string(code), guess.Reveal()) {
		c.Failures++
		return c, codeMismatch(), tx.PutPoolCode(p.Scope, p.ID, sub, c)
	}
	return c, nil, nil
}

// signUpAddress chooses where a sign-up code goes: an auto-verified attribute that the user gave and has not verified, the phone
// before the e-mail (identity spec 1.9).
func (p *Pool) signUpAddress(attributes map[string]string) (attribute, value string) {
	for _, name := range []string{"phone_number", "email"} {
		if v := attributes[name]; v != "" && slices.Contains(p.AutoVerified, name) && attributes[name+"_verified"] != "true" {
			return name, v
		}
	}
	return "", ""
}

// recoveryAddress chooses where a recovery code goes. It fails with the protocol's error if there is no way.
func (p *Pool) recoveryAddress(attributes map[string]string) (attribute, value string, err error) {
	order := []string{"phone_number", "email"} // of pools without AccountRecoverySetting
	if len(p.Recovery) > 0 {
		order = nil
		for _, o := range p.Recovery {
			switch o.Name {
			case "admin_only":
				return "", "", notAuthorized("Contact administrator to reset password.")
			case "verified_email":
				order = append(order, "email")
			case "verified_phone_number":
				order = append(order, "phone_number")
			}
		}
	}
	for _, name := range order {
		if v := attributes[name]; v != "" && attributes[name+"_verified"] == "true" {
			return name, v, nil
		}
	}
	return "", "", invalid("Cannot reset password for the user as there is no registered/verified email or phone_number")
}
