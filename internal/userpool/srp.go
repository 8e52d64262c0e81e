package userpool

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"
)

// This file is the server's half of Cognito's variant of the Secure Remote Password protocol, exactly as identity spec 1.6
// gives it: a 3072-bit group, SHA-256, numbers padded like Java's BigInteger, and an HKDF of one block. It is pure: no clock,
// no store.

// srpN is the prime of the 3072-bit group (RFC 5054 appendix A), srpG its generator.
var (
	srpN, _ = new(big.Int).SetString(""+
		"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"+
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"+
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"+
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"+
		"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"+
		"15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"+
		"ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"+
		"BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF", 16)
	srpG = big.NewInt(2)
	srpK = hashInt(pad(srpN), pad(srpG))
)

// onPower is for tests, which count: nearly all of a sign-in's work is powers.
var onPower = func() {}

// power returns base^exponent in the group.
func power(base, exponent *big.Int) *big.Int {
	onPower()
	return new(big.Int).Exp(base, exponent, srpN)
}

const (
	saltSize   = 16
	maxSRPText = 1024 // characters of SRP_A; 769 is the longest honest one
)

// pad returns the bytes of x as Java's BigInteger.toByteArray does: big-endian, minimal, with a leading zero byte if the top
// bit is set.
func pad(x *big.Int) []byte {
	b := x.Bytes()
	if len(b) == 0 || b[0]&0x80 != 0 {
		return append([]byte{0}, b...)
	}
	return b
}

func hashInt(parts ...[]byte) *big.Int {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return new(big.Int).SetBytes(h.Sum(nil))
}

// srpVerifier returns v for a password. pool is the part of the pool id behind "_", identity the user's canonical name. The
// password is hashed as the UTF-8 that was received, without normalisation.
func srpVerifier(pool, identity, password string, salt []byte) *big.Int {
	inner := sha256.Sum256([]byte(pool + identity + ":" + password))
	x := hashInt(pad(new(big.Int).SetBytes(salt)), inner[:])
	return power(srpG, x)
}

// parseSRPA reads a client's public number. Leading zeros and either case are fine; ok is false for text that is no number or a
// number that would give the session away (RFC 5054 section 2.5.4).
func parseSRPA(text string) (a *big.Int, ok bool) {
	if text == "" || len(text) > maxSRPText || strings.Trim(text, "0123456789abcdefABCDEF") != "" {
		return nil, false
	}
	a, ok = new(big.Int).SetString(text, 16)
	if !ok || a.Sign() == 0 || a.Cmp(srpN) >= 0 {
		return nil, false
	}
	return a, true
}

// srpOffer returns the server's private number b, its public number B and the scrambler u for a client that sent a.
func srpOffer(a, verifier *big.Int) (b, public, u *big.Int) {
	for {
		var raw [32]byte
		rand.Read(raw[:])
		b = new(big.Int).SetBytes(raw[:])
		public = srpPublic(b, verifier)
		if u = srpScrambler(a, public); public.Sign() != 0 && u.Sign() != 0 {
			return b, public, u
		}
	}
}

func srpPublic(b, verifier *big.Int) *big.Int {
	public := new(big.Int).Mul(srpK, verifier)
	public.Add(public, power(srpG, b))
	return public.Mod(public, srpN)
}

func srpScrambler(a, public *big.Int) *big.Int { return hashInt(pad(a), pad(public)) }

// srpSecret returns the number S that both sides know if the password was right.
func srpSecret(a, b, u, verifier *big.Int) *big.Int {
	s := power(verifier, u)
	return power(s.Mul(s, a).Mod(s, srpN), b)
}

// srpKey derives the 16-byte signing key from S.
func srpKey(secret, u *big.Int) []byte {
	prk := hmacSum(pad(u), pad(secret))
	return hmacSum(prk, []byte("Caldera Derived Key"), []byte{1})[:16]
}

// srpSignature is what the client must send as PASSWORD_CLAIM_SIGNATURE, before base64.
func srpSignature(key []byte, pool, identity string, secretBlock []byte, timestamp string) []byte {
	return hmacSum(key, []byte(pool), []byte(identity), secretBlock, []byte(timestamp))
}

func hmacSum(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// sameVerifier compares two verifiers in constant time.
func sameVerifier(a, b *big.Int) bool {
	var x, y [384]byte
	return subtle.ConstantTimeCompare(a.FillBytes(x[:]), b.FillBytes(y[:])) == 1
}

// decodeBase64 accepts both alphabets, padded or not: some clients normalise what they echo.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.DecodeString(s)
}

// srpHex writes a number as clients expect it: lower-case hex of whole bytes.
func srpHex(x *big.Int) string {
	if x.Sign() == 0 {
		return "00"
	}
	return hex.EncodeToString(x.Bytes())
}

// shadow returns what an unknown user shows in sign-in: a salt, an identity and a verifier that stay the same for the same name
// and that nobody without the pool's secret can tell from a real user's (RFC 5054 section 2.5.1.3). The verifier is a square,
// as every real one is.
func shadow(secret []byte, poolID, username string) (salt []byte, uuid string, verifier *big.Int) {
	seed := func(purpose string) []byte { return hmacSum(secret, []byte(purpose+"\x00"+poolID+"\x00"+username)) }
	salt = seed("salt")[:saltSize]
	id := seed("identity")[:16]
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	h := hex.EncodeToString(id)
	uuid = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	var wide []byte
	for i := byte(0); len(wide) < 400; i++ {
		wide = append(wide, seed("verifier"+string('0'+rune(i)))...)
	}
	verifier = new(big.Int).SetBytes(wide)
	verifier.Mod(verifier, srpN)
	return salt, uuid, verifier.Mul(verifier, verifier).Mod(verifier, srpN)
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}
