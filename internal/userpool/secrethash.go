package userpool

import (
	"encoding/base64"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// secretHash is what an app with a secret proves itself with (identity spec 1.7).
func secretHash(secret fleet.Secret, username, clientID string) string {
	return base64.StdEncoding.EncodeToString(hmacSum([]byte(secret.Reveal()), []byte(username), []byte(clientID)))
}

// checkSecretHash refuses a request whose SECRET_HASH does not fit the client and one of the names.
func (c *Client) checkSecretHash(hash string, usernames ...string) error {
	if c.Secret == "" {
		if hash != "" {
			return notAuthorized("Unable to verify secret hash for client " + c.ID)
		}
		return nil
	}
	if hash == "" {
		return notAuthorized("Client " + c.ID + " is configured with secret but SECRET_HASH was not received")
	}
	ok := false
	for _, name := range usernames {
		ok = secretsEqual(hash, secretHash(c.Secret, name, c.ID)) || ok
	}
	if !ok {
		return notAuthorized("Unable to verify secret hash for client " + c.ID)
	}
	return nil
}
