package client

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Tokens are what signing in to a user pool yields.
type Tokens struct {
	ID, Access, Refresh fleet.Secret
}

const idp = "AWSCognitoIdentityProviderService."

// SignIn signs a user in with SRP, as the sign-in pages of apps do: the password never leaves this process
// (identity spec 1.6; the names of the values are those of RFC 5054).
func (c *Client) SignIn(ctx context.Context, poolID, clientID, username string, password fleet.Secret) (Tokens, error) {
	a, A := srpClientKey()
	var ch struct {
		ChallengeName       string
		ChallengeParameters map[string]string
	}
	err := c.JSON(ctx, "cognito-idp", idp+"InitiateAuth", map[string]any{"AuthFlow": "USER_SRP_AUTH", "ClientId": clientID,
		"AuthParameters": map[string]string{"USERNAME": username, "SRP_A": A.Text(16)}}, &ch)
	if err != nil {
		return Tokens{}, err
	}
	if ch.ChallengeName != "PASSWORD_VERIFIER" {
		return Tokens{}, fmt.Errorf("signing in: the pool asks for %s, which this client cannot answer", ch.ChallengeName)
	}
	_, pool, _ := strings.Cut(poolID, "_")
	at := time.Now().UTC().Format("Mon Jan 2 15:04:05 UTC 2006")
	proof, err := srpProof(a, A, pool, password.Reveal(), at, ch.ChallengeParameters)
	if err != nil {
		return Tokens{}, err
	}
	var out struct {
		ChallengeName        string
		AuthenticationResult struct{ IdToken, AccessToken, RefreshToken string }
	}
	err = c.JSON(ctx, "cognito-idp", idp+"RespondToAuthChallenge", map[string]any{"ChallengeName": "PASSWORD_VERIFIER", "ClientId": clientID,
		"ChallengeResponses": map[string]string{
			"USERNAME":                    ch.ChallengeParameters["USER_ID_FOR_SRP"],
			"PASSWORD_CLAIM_SECRET_BLOCK": ch.ChallengeParameters["SECRET_BLOCK"],
			"PASSWORD_CLAIM_SIGNATURE":    proof,
			"TIMESTAMP":                   at,
		}}, &out)
	if err != nil {
		return Tokens{}, err
	}
	if out.ChallengeName != "" {
		return Tokens{}, fmt.Errorf("signing in: the pool asks for %s, which this client cannot answer", out.ChallengeName)
	}
	r := out.AuthenticationResult
	return Tokens{fleet.Secret(r.IdToken), fleet.Secret(r.AccessToken), fleet.Secret(r.RefreshToken)}, nil
}

// The 3072-bit group of RFC 5054 appendix A (prime from RFC 3526 section 4), generator 2.
var (
	srpN, _ = new(big.Int).SetString("FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"+
		"EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"+
		"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"+
		"83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"+
		"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"+
		"15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"+
		"ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"+
		"BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF", 16)
	srpG = big.NewInt(2)
)

func srpClientKey() (a, A *big.Int) {
	var b [128]byte
	rand.Read(b[:])
	a = new(big.Int).SetBytes(b[:])
	return a, new(big.Int).Exp(srpG, a, srpN)
}

// srpProof answers the PASSWORD_VERIFIER challenge: it proves knowledge of the password for this exchange alone.
func srpProof(a, A *big.Int, pool, password, at string, p map[string]string) (string, error) {
	B, ok := new(big.Int).SetString(p["SRP_B"], 16)
	salt, okSalt := new(big.Int).SetString(p["SALT"], 16)
	block, err := base64.StdEncoding.DecodeString(p["SECRET_BLOCK"])
	if !ok || !okSalt || err != nil || new(big.Int).Mod(B, srpN).Sign() == 0 {
		return "", fmt.Errorf("signing in: the pool's SRP challenge is malformed")
	}
	k := srpHash(srpPad(srpN), srpPad(srpG))
	u := srpHash(srpPad(A), srpPad(B))
	inner := sha256.Sum256([]byte(pool + p["USER_ID_FOR_SRP"] + ":" + password))
	x := srpHash(srpPad(salt), inner[:])
	base := new(big.Int).Sub(B, new(big.Int).Mul(k, new(big.Int).Exp(srpG, x, srpN)))
	S := new(big.Int).Exp(base.Mod(base, srpN), new(big.Int).Add(a, new(big.Int).Mul(u, x)), srpN)
	prk := srpMAC(srpPad(u), srpPad(S))
	key := srpMAC(prk, []byte("Caldera Derived Key\x01"))[:16]
	return base64.StdEncoding.EncodeToString(srpMAC(key, []byte(pool), []byte(p["USER_ID_FOR_SRP"]), block, []byte(at))), nil
}

// srpPad is the two's-complement form of a non-negative number: a zero byte in front if the top bit is set.
func srpPad(n *big.Int) []byte {
	h := n.Text(16)
	if len(h)%2 == 1 {
		h = "0" + h
	}
	if strings.ContainsRune("89abcdef", rune(h[0])) {
		h = "00" + h
	}
	b, err := hex.DecodeString(h)
	if err != nil {
		panic("client: a number's hexadecimal form is not hexadecimal") // cannot happen
	}
	return b
}

func srpHash(parts ...[]byte) *big.Int {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return new(big.Int).SetBytes(h.Sum(nil))
}

func srpMAC(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
