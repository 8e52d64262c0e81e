package federation

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/imprint-iot/imprint/internal/jwt"
)

// applePrivateKey reads a key file of Apple's: PKCS #8 in PEM, or only the base64 within.
func applePrivateKey(text string) (*ecdsa.PrivateKey, error) {
	var der []byte
	if block, _ := pem.Decode([]byte(text)); block != nil {
		der = block.Bytes
	} else {
		var err error
		if der, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err != nil {
			return nil, errors.New("it is neither PEM nor base64")
		}
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("it is no PKCS #8")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("it is no key of P-256")
	}
	return ec, nil
}

// appleSecretLife is far below the six months that Apple allows: each secret is used at once.
const appleSecretLife = 5 * time.Minute

// appleSecret makes the client secret that Apple wants: a token signed by the team's key (ES256).
func appleSecret(details map[string]string, now time.Time) (string, error) {
	key, err := applePrivateKey(details[privateKey])
	if err != nil {
		return "", fmt.Errorf("the key of Sign in with Apple: %w", err)
	}
	claims, err := json.Marshal(map[string]any{"iss": details[teamID], "iat": now.Unix(), "exp": now.Add(appleSecretLife).Unix(),
		"aud": details[issuerURL], "sub": details[clientID]})
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: details[keyID]}}, nil)
	if err != nil {
		return "", fmt.Errorf("signing the client secret: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("signing the client secret: %w", err)
	}
	return signed.CompactSerialize()
}

// addAppleName takes a name from the form that Apple lets the browser post beside the code of the first sign-in. Nobody has signed it,
// so a person may call themselves what they like by it; of an address in it nothing is taken.
func addAppleName(claims jwt.Claims, user string) {
	if user == "" || len(user) > maxDetail {
		return
	}
	var u struct {
		Name struct{ FirstName, LastName string }
	}
	if json.Unmarshal([]byte(user), &u) != nil {
		return
	}
	for name, value := range map[string]string{"firstName": u.Name.FirstName, "lastName": u.Name.LastName} {
		if value != "" && len(value) <= 256 {
			claims[name] = value
		}
	}
}
