package main

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
)

// srpPowers is how many modular powers the server's half of an SRP sign-in takes (RFC 5054 section 2.6): g^b for its public number, v^u
// and (A·v^u)^b for the secret. Each exponent has 256 bits.
const srpPowers = 3

// A power is one of them.
type power struct{ base, exponent, modulus *big.Int }

// newPower draws numbers of the sizes that SRP has. The modulus is no prime, which the cost does not depend on.
func newPower() (*power, error) {
	random := func(bits int) (*big.Int, error) {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
		if err != nil {
			return nil, err
		}
		return n.SetBit(n.SetBit(n, bits-1, 1), 0, 1), nil
	}
	var p power
	for _, n := range []struct {
		into **big.Int
		bits int
	}{{&p.base, 3071}, {&p.exponent, 256}, {&p.modulus, 3072}} {
		var err error
		if *n.into, err = random(n.bits); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func (p *power) compute() error {
	if new(big.Int).Exp(p.base, p.exponent, p.modulus).Sign() == 0 {
		return errors.New("a power of odd numbers is zero")
	}
	return nil
}

// measureSignIns signs a user in by SRP: two requests, the powers, and the pool's RSA signatures of two tokens.
func measureSignIns(ctx context.Context, o options, w *world) (*figures, error) {
	return measure(o, w, o.workers, func(int) error {
		_, err := w.anon.SignIn(ctx, w.poolID, w.appID, user, password)
		return err
	})
}

// measureClaims asks for claims faster than RSA keys can be made: the key generation is what it measures.
func measureClaims(ctx context.Context, o options, w *world) (*figures, error) {
	return measure(o, w, o.workers, func(int) error {
		_, err := w.claim(ctx)
		return err
	})
}
