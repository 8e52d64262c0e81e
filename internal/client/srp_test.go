package client

import (
	"math/big"
	"strings"
	"testing"
)

// The vector of identity spec 1.6.
func TestSRPProofMatchesThePublishedVector(t *testing.T) {
	t.Parallel()
	a, _ := new(big.Int).SetString(strings.Repeat("a1", 32), 16)
	A := new(big.Int).Exp(srpG, a, srpN)
	b, _ := new(big.Int).SetString(strings.Repeat("b2", 32), 16)
	x, _ := new(big.Int).SetString("62d4411f1b85122a3db59d58b296377b371de605631eaf49b6c3a757567578e6", 16)
	v := new(big.Int).Exp(srpG, x, srpN)
	B := new(big.Int).Mul(srpHash(srpPad(srpN), srpPad(srpG)), v)
	B.Add(B, new(big.Int).Exp(srpG, b, srpN)).Mod(B, srpN)
	got, err := srpProof(a, A, "AbCdEf123", "P@ssw0rd!1", "Sat Nov 1 01:02:03 UTC 2025", map[string]string{
		"SRP_B": B.Text(16), "SALT": "f00102030405060708090a0b0c0d0e0f", "USER_ID_FOR_SRP": "installer1",
		"SECRET_BLOCK": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	})
	if want := "EOMIeBcJRrcwwpPH/ptA+Gise7xI1RNErQfCVlGcFjg="; got != want || err != nil {
		t.Errorf("proof %s, %v; want %s", got, err, want)
	}
}
