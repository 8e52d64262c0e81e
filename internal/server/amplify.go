package server

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"time"
)

// amplifyEndpoints leads Amplify 3 to 5 here, whose identity-pool host is fixed (identity spec 6.3 a). It is always served: it is the
// same for every installation, says nothing of this one, and counts only for a page that includes it.
//
//go:embed static/amplify-endpoints.js
var amplifyEndpoints []byte

// amplifyEndpointsPath is where pages include it from.
const amplifyEndpointsPath = "/compat/amplify-endpoints.js"

var amplifyEndpointsTag = func() string {
	sum := sha256.Sum256(amplifyEndpoints)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
}()

// serveAmplifyEndpoints answers any page: one of another origin may check what it gets (integrity) only if CORS admits it.
func serveAmplifyEndpoints(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=3600")
	h.Set("ETag", amplifyEndpointsTag)
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(amplifyEndpoints))
}
