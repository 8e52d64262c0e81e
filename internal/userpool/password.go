package userpool

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const (
	maxPassword = 256
	symbols     = "^$*.[]{}()?-\"!@#%&/\\,><':;|_~`+="
	uppers      = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lowers      = "abcdefghijklmnopqrstuvwxyz"
)

// check refuses a password that breaks the policy, with the first reason (identity spec 1.10).
func (p PasswordPolicy) check(password string) error {
	inside := strings.TrimSpace(password)
	switch {
	case utf8.RuneCountInString(password) < p.MinLength:
		return weakPassword("Password not long enough")
	case utf8.RuneCountInString(password) > maxPassword:
		return weakPassword("Password is longer than 256 characters")
	case p.Upper && !strings.ContainsAny(password, uppers):
		return weakPassword("Password must have uppercase characters")
	case p.Lower && !strings.ContainsAny(password, lowers):
		return weakPassword("Password must have lowercase characters")
	case p.Numbers && !strings.ContainsAny(password, fleet.AlphaDigits):
		return weakPassword("Password must have numeric characters")
	case p.Symbols && !strings.ContainsAny(inside, symbols+" "):
		return weakPassword("Password must have symbol characters")
	}
	return nil
}

// generate returns a password that every policy of the same minimum length accepts. Characters that look alike are left out:
// somebody will type it from a sheet of paper.
func (p PasswordPolicy) generate() fleet.Secret {
	const upper, lower, digits, marks = "ABCDEFGHJKLMNPQRSTUVWXYZ", "abcdefghijkmnopqrstuvwxyz", "23456789", "!#%+-?@="
	n := max(p.MinLength, 12)
	head := fleet.RandomString(1, upper) + fleet.RandomString(1, lower) + fleet.RandomString(1, digits) + fleet.RandomString(1, marks)
	return fleet.Secret(head + fleet.RandomString(n-len(head), upper+lower+digits))
}

// A password is one that the store can keep: salt and sealed verifier, and the sealed ones before it.
type password struct{ salt, verifier, history []byte }

type pastPassword struct{ Salt, Verifier []byte }

// newPassword derives what is stored for a user's new password. It fails if the policy refuses it or, where the pool keeps a
// history, if it was used before. It computes: call it outside of transactions.
func (s *Service) newPassword(ctx context.Context, p *Pool, old *store.PoolUser, username, sub, text string) (password, error) {
	if err := p.Password.check(text); err != nil {
		return password{}, err
	}
	past, err := s.pastPasswords(p, old)
	if err != nil {
		return password{}, err
	}
	var reused bool
	var salt []byte
	var v *big.Int
	err = s.compute(ctx, func() {
		for _, o := range past {
			reused = reused || sameVerifier(srpVerifier(p.key(), username, text, o.Salt), new(big.Int).SetBytes(o.Verifier))
		}
		salt = newSalt()
		v = srpVerifier(p.key(), username, text, salt)
	})
	if err != nil {
		return password{}, err
	}
	if reused {
		return password{}, reusedPassword()
	}
	out := password{salt: salt, verifier: s.seal("verifier", v.Bytes(), p.Scope, p.ID, sub)}
	if p.Password.History > 0 {
		past = append([]pastPassword{{salt, v.Bytes()}}, past...)
		list, err := json.Marshal(past[:min(len(past), p.Password.History)])
		if err != nil {
			return password{}, fmt.Errorf("keeping the password history: %w", err)
		}
		out.history = s.seal("password-history", list, p.Scope, p.ID, sub)
	}
	return out, nil
}

// pastPasswords lists the passwords that a user may not choose again, newest first; the present one is among them.
func (s *Service) pastPasswords(p *Pool, u *store.PoolUser) ([]pastPassword, error) {
	if u == nil || p.Password.History == 0 {
		return nil, nil
	}
	var past []pastPassword
	if len(u.History) > 0 {
		list, err := s.open("password-history", u.History, p.Scope, p.ID, u.Sub)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(list, &past); err != nil {
			return nil, fmt.Errorf("reading the password history: %w", err)
		}
	}
	if len(past) == 0 && len(u.Verifier) > 0 { // the history was switched on later
		v, err := s.open("verifier", u.Verifier, p.Scope, p.ID, u.Sub)
		if err != nil {
			return nil, err
		}
		past = []pastPassword{{u.Salt, v}}
	}
	return past[:min(len(past), p.Password.History)], nil
}

// verifierOf opens a user's verifier.
func (s *Service) verifierOf(p *Pool, u *store.PoolUser) (*big.Int, error) {
	v, err := s.open("verifier", u.Verifier, p.Scope, p.ID, u.Sub)
	return new(big.Int).SetBytes(v), err
}

// secretsEqual compares in constant time.
func secretsEqual(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
