package userpool

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

func hexSum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The test vector of identity spec 1.6, step by step.
func TestSRPVectorOfTheSpec(t *testing.T) {
	t.Parallel()
	const pool, identity, password, timestamp = "AbCdEf123", "installer1", "P@ssw0rd!1", "Sat Nov 1 01:02:03 UTC 2025"
	salt := unhex(t, "f00102030405060708090a0b0c0d0e0f")
	priv := new(big.Int).SetBytes(bytes.Repeat([]byte{0xa1}, 32))
	b := new(big.Int).SetBytes(bytes.Repeat([]byte{0xb2}, 32))
	block, err := decodeBase64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	v := srpVerifier(pool, identity, password, salt)
	a := new(big.Int).Exp(srpG, priv, srpN)
	public := srpPublic(b, v)
	u := srpScrambler(a, public)
	secret := srpSecret(a, b, u, v)
	key := srpKey(secret, u)
	for _, c := range []struct{ name, got, want string }{
		{"N", hexSum(srpN.Bytes()), "48cf8b092fbce4359d9871abf74f98e25b6163379eaa15cd9087e800c6d1c55c"},
		{"k", srpHex(srpK), "538282c4354742d7cbbde2359fcf67f9f5b3a6b08791e5011b43b8a5b66d9ee6"},
		{"padded salt", hex.EncodeToString(pad(new(big.Int).SetBytes(salt))), "00f00102030405060708090a0b0c0d0e0f"},
		{"v", hexSum(pad(v)), "e858530e0e6be925c2c9404035f71286a82ecd1cc115dd21699b5576167b1a32"},
		{"A", hexSum(pad(a)), "31421f07eb763d09c3565f8e34a296719127d9bebda6c4a66c3ff445701d5b96"},
		{"B", hexSum(pad(public)), "04350c9683ee8dcca4b1f4701095fa01e33da2d095ce276fb63552aadc324ce5"},
		{"u", srpHex(u), "9a9ee1d9f211d9c3bbb21bbaaf9415c4500d706a0938a62a22299e873b9935e2"},
		{"S", hexSum(pad(secret)), "d685fef65361e43f9dc95e2d7721f31e07955d0f150d2b835f4f27e9b8818a33"},
		{"K", hex.EncodeToString(key), "291efac8eb1e3be399bbff39d698567c"},
		{"signature", base64.StdEncoding.EncodeToString(srpSignature(key, pool, identity, block, timestamp)), "EOMIeBcJRrcwwpPH/ptA+Gise7xI1RNErQfCVlGcFjg="},
	} {
		if c.got != c.want {
			t.Errorf("%s is %s, want %s", c.name, c.got, c.want)
		}
	}
}

// srpClient is the client's half, written from the client's side of the protocol: it knows the password and never v.
type srpClient struct {
	pool, password string
	priv, public   *big.Int
}

func newSRPClient(poolID, password string) *srpClient {
	var raw [128]byte // clients use 1024 bits
	rand.Read(raw[:])
	priv := new(big.Int).SetBytes(raw[:])
	_, name, _ := strings.Cut(poolID, "_")
	return &srpClient{pool: name, password: password, priv: priv, public: new(big.Int).Exp(big.NewInt(2), priv, srpN)}
}

func (c *srpClient) srpA() string { return c.public.Text(16) }

// answer computes the responses to a PASSWORD_VERIFIER challenge.
func (c *srpClient) answer(p map[string]string, at time.Time) map[string]string {
	stamp := at.UTC().Format("Mon Jan 2 15:04:05 UTC 2006")
	salt, _ := new(big.Int).SetString(p["SALT"], 16)
	serverB, _ := new(big.Int).SetString(p["SRP_B"], 16)
	javaBytes := func(x *big.Int) []byte { // an independent spelling of PAD: two's complement
		n := x.BitLen()/8 + 1
		return x.FillBytes(make([]byte, n))
	}
	sum := func(parts ...[]byte) *big.Int {
		h := sha256.New()
		for _, part := range parts {
			h.Write(part)
		}
		return new(big.Int).SetBytes(h.Sum(nil))
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	identity := p["USER_ID_FOR_SRP"]
	inner := sha256.Sum256([]byte(c.pool + identity + ":" + c.password))
	x := sum(javaBytes(salt), inner[:])
	u := sum(javaBytes(c.public), javaBytes(serverB))
	k := sum(javaBytes(srpN), []byte{2})
	// S = (B - k·g^x) ^ (a + u·x)
	base := new(big.Int).Exp(big.NewInt(2), x, srpN)
	base.Mul(base, k).Sub(serverB, base).Mod(base, srpN)
	s := base.Exp(base, new(big.Int).Add(c.priv, new(big.Int).Mul(u, x)), srpN)
	key := mac(mac(javaBytes(u), javaBytes(s)), []byte("Caldera Derived Key\x01"))[:16]
	block, _ := base64.StdEncoding.DecodeString(p["SECRET_BLOCK"])
	return map[string]string{
		"USERNAME":                    identity,
		"PASSWORD_CLAIM_SECRET_BLOCK": p["SECRET_BLOCK"],
		"TIMESTAMP":                   stamp,
		"PASSWORD_CLAIM_SIGNATURE":    base64.StdEncoding.EncodeToString(mac(key, []byte(c.pool), []byte(identity), block, []byte(stamp))),
	}
}

func TestBothHalvesOfSRPAgree(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ salt, identity, password string }{
		"salt that begins with zero bytes":          {"00050203040506070809ff0b0c0d0e0f", "installer1", "P@ssw0rd!1"},
		"salt that begins with a zero and high bit": {"00850203040506070809ff0b0c0d0e0f", "installer1", "P@ssw0rd!1"},
		"salt with the high bit":                    {"f0850203040506070809ff0b0c0d0e0f", "installer1", "P@ssw0rd!1"},
		"name and password that are not ASCII":      {"70850203040506070809ff0b0c0d0e0f", "žofie-名前", "Pässwörd-9-Ж😀"},
		"all-zero salt":                             {"00000000000000000000000000000000", "a", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			salt := unhex(t, c.salt)
			v := srpVerifier("AbCdEf123", c.identity, c.password, salt)
			client := newSRPClient("us-east-1_AbCdEf123", c.password)
			a, ok := parseSRPA(client.srpA())
			if !ok {
				t.Fatal("an honest SRP_A was refused")
			}
			b, public, u := srpOffer(a, v)
			block := []byte("sealed")
			answer := client.answer(map[string]string{"SALT": srpHex(new(big.Int).SetBytes(salt)), "SRP_B": srpHex(public), "USER_ID_FOR_SRP": c.identity,
				"SECRET_BLOCK": base64.StdEncoding.EncodeToString(block)}, time.Now())
			want := srpSignature(srpKey(srpSecret(a, b, u, v), u), "AbCdEf123", c.identity, block, answer["TIMESTAMP"])
			if answer["PASSWORD_CLAIM_SIGNATURE"] != base64.StdEncoding.EncodeToString(want) {
				t.Error("client and server disagree")
			}
		})
	}
}

func TestPublicNumbersThatAreRefused(t *testing.T) {
	t.Parallel()
	n := srpN.Text(16)
	for name, text := range map[string]string{
		"empty": "", "zero": "0", "many zeros": strings.Repeat("0", 800), "not hex": "xyz", "sign": "-5", "plus": "+5",
		"prefix": "0x05", "underscore": "1_0", "the prime": n, "above the prime": "1" + n, "too long": strings.Repeat("0", 1023) + "05", "blank": "5 ",
	} {
		if _, ok := parseSRPA(text); ok {
			t.Errorf("%s was accepted", name)
		}
	}
	for name, text := range map[string]string{"leading zero as .NET sends it": "0" + strings.Repeat("A", 767), "capitals": "ABCDEF", "small": "2"} {
		if _, ok := parseSRPA(text); !ok {
			t.Errorf("%s was refused", name)
		}
	}
}

func TestAShadowIsStableAndLooksReal(t *testing.T) {
	t.Parallel()
	salt, id, v := shadow([]byte("secret"), "us-east-1_A", "nobody")
	salt2, id2, v2 := shadow([]byte("secret"), "us-east-1_A", "nobody")
	_, id3, v3 := shadow([]byte("secret"), "us-east-1_A", "nobody2")
	if !bytes.Equal(salt, salt2) || id != id2 || v.Cmp(v2) != 0 || id == id3 || v.Cmp(v3) == 0 {
		t.Error("a shadow must depend on the name and on nothing else")
	}
	if big.Jacobi(v, srpN) != 1 {
		t.Error("a shadow's verifier must be a square, as real ones are")
	}
	if len(salt) != saltSize || !uuidForm.MatchString(id) {
		t.Errorf("salt %x, identity %s", salt, id)
	}
}

func FuzzParseSRPA(f *testing.F) {
	f.Add("05")
	f.Add(strings.Repeat("f", 768))
	f.Add("-1")
	f.Fuzz(func(t *testing.T, text string) {
		a, ok := parseSRPA(text)
		if ok && (a.Sign() <= 0 || a.Cmp(srpN) >= 0 || len(text) > maxSRPText) {
			t.Errorf("%q was accepted as %v", text, a)
		}
	})
}

func BenchmarkSRP(b *testing.B) {
	v := srpVerifier("p", "i", "password", newSalt())
	a := newSRPClient("us-east-1_p", "password").public
	b.Run("step 1", func(b *testing.B) {
		for b.Loop() {
			srpOffer(a, v)
		}
	})
	priv, _, u := srpOffer(a, v)
	b.Run("step 2", func(b *testing.B) {
		for b.Loop() {
			srpSecret(a, priv, u, v)
		}
	})
}
