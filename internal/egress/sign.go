package egress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// Headers of a signed request (docs/hooks.md). The signature is "v1=" and the hexadecimal HMAC-SHA256, under the secret that both sides
// know, of the timestamp's text, a dot and the body. The receiver refuses timestamps that are more than five minutes off.
const (
	TimestampHeader = "Imprint-Timestamp" // seconds since 1970
	SignatureHeader = "Imprint-Signature"
)

// Sign sets both headers of a request with a body.
func Sign(r *http.Request, secret, body []byte, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(timestamp + "."))
	mac.Write(body)
	r.Header.Set(TimestampHeader, timestamp)
	r.Header.Set(SignatureHeader, "v1="+hex.EncodeToString(mac.Sum(nil)))
}
