package jwt

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"
)

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func part(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestASignedTokenReadsBack(t *testing.T) {
	t.Parallel()
	token, err := Sign(testKey(), "k1", Claims{"sub": "u", "exp": 1_700_000_000, "cognito:groups": []string{"a", "b"}, "email": "a&b@x"})
	if err != nil {
		t.Fatal(err)
	}
	head, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if string(head) != `{"kid":"k1","alg":"RS256"}` {
		t.Errorf("header %s: identity spec 1.8 wants kid and alg only", head)
	}
	got, err := Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(&testKey().PublicKey); err != nil {
		t.Error(err)
	}
	exp, ok := got.Claims.Time("exp")
	if got.KeyID != "k1" || got.Claims.String("sub") != "u" || !ok || !exp.Equal(time.Unix(1_700_000_000, 0)) ||
		len(got.Claims.Strings("cognito:groups")) != 2 || got.Claims.String("email") != "a&b@x" {
		t.Errorf("read back %+v", got)
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	good, err := Sign(testKey(), "k1", Claims{"sub": "u"})
	if err != nil {
		t.Fatal(err)
	}
	p := strings.Split(good, ".")
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"no signature part":                {p[0] + "." + p[1], ErrMalformed},
		"unsecured token":                  {part(`{"alg":"none"}`) + "." + p[1] + ".", ErrAlgorithm},
		"HMAC with the public key":         {part(`{"kid":"k1","alg":"HS256"}`) + "." + p[1] + "." + p[2], ErrAlgorithm},
		"a header that must be understood": {part(`{"alg":"RS256","crit":["b64"]}`) + "." + p[1] + "." + p[2], ErrMalformed},
		"changed payload":                  {p[0] + "." + part(`{"sub":"v"}`) + "." + p[2], ErrSignature},
		"changed signature":                {p[0] + "." + p[1] + "." + part("x"), ErrSignature},
		"payload that is no object":        {p[0] + "." + part(`[1]`) + "." + p[2], ErrMalformed},
		"payload null":                     {p[0] + "." + part(`null`) + "." + p[2], ErrMalformed},
		"two payloads":                     {p[0] + "." + part(`{"sub":"u"}{}`) + "." + p[2], ErrMalformed},
		"padded base64":                    {p[0] + "." + p[1] + "==." + p[2], ErrMalformed},
		"too long":                         {strings.Repeat("a", MaxSize+1), ErrMalformed},
		"empty":                            {"", ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tok, err := Parse(c.token)
			if err == nil {
				err = tok.Verify(&testKey().PublicKey)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestAKeySetNamesItsKeys(t *testing.T) {
	t.Parallel()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(KeySet([]Key{{ID: "k1", Public: &testKey().PublicKey}}), &set); err != nil {
		t.Fatal(err)
	}
	k := set.Keys[0]
	if len(set.Keys) != 1 || k["kid"] != "k1" || k["alg"] != "RS256" || k["kty"] != "RSA" || k["use"] != "sig" || k["e"] != "AQAB" {
		t.Errorf("key set %v", set)
	}
	if got := string(KeySet(nil)); got != `{"keys":[]}` {
		t.Errorf("empty key set is %s", got)
	}
}

// The example of RFC 7638 section 3.1.
func TestThumbprintOfTheRFC(t *testing.T) {
	t.Parallel()
	n, err := base64.RawURLEncoding.DecodeString("0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs" +
		"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	if err != nil {
		t.Fatal(err)
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
	if got := Thumbprint(key); got != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" {
		t.Errorf("thumbprint %s", got)
	}
}

func FuzzParse(f *testing.F) {
	good, err := Sign(testKey(), "k1", Claims{"sub": "u", "exp": 5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("..")
	f.Add(part(`{"alg":"RS256"}`) + "." + part(`{"exp":1e99}`) + ".")
	f.Fuzz(func(t *testing.T, token string) {
		tok, err := Parse(token)
		if err != nil {
			return
		}
		tok.Claims.Time("exp")
		tok.Claims.Strings("sub")
		if tok.Verify(&testKey().PublicKey) == nil && token != good {
			t.Errorf("a token that was never signed verifies: %q", token)
		}
	})
}
