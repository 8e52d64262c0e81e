package userpool

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/store"
)

// WellKnown serves what verifiers of a pool's tokens look for: …/POOLID/.well-known/jwks.json and
// …/POOLID/.well-known/openid-configuration (identity spec 1.8). Both are public and cacheable.
func (s *Service) WellKnown() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			head.Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		body, err := s.document(r)
		switch {
		case isNotFound(err):
			http.NotFound(w, r)
		case err != nil:
			s.log.ErrorContext(r.Context(), "a key set could not be read", "path", r.URL.Path, "error", err)
			http.Error(w, "internal error", http.StatusInternalServerError)
		default:
			ServeCacheable(w, r, body, wellKnownAge)
		}
	})
}

// wellKnownAge is how long, in seconds, whoever asks may keep a key set: so long before they sign new keys are in it.
const wellKnownAge = 3600

// ServeCacheable answers with a JSON document that may be kept for age seconds, and with 304 to whoever has it still (RFC 9110 section 13).
func ServeCacheable(w http.ResponseWriter, r *http.Request, body []byte, age int) {
	head, sum := w.Header(), sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	head.Set("Content-Type", "application/json")
	head.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", age))
	head.Set("ETag", etag)
	for _, have := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if have = strings.TrimPrefix(strings.TrimSpace(have), "W/"); have == etag || have == "*" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.Write(body)
}

// IsWellKnown reports whether a path is one of those that WellKnown serves.
func IsWellKnown(path string) bool {
	_, _, ok := splitWellKnown(path)
	return ok
}

func splitWellKnown(path string) (poolID, document string, ok bool) {
	parts := strings.Split(path, "/")
	if n := len(parts); n >= 4 && parts[n-2] == ".well-known" && parts[n-3] != "" &&
		(parts[n-1] == "jwks.json" || parts[n-1] == "openid-configuration") {
		return parts[n-3], parts[n-1], true
	}
	return "", "", false
}

func (s *Service) document(r *http.Request) ([]byte, error) {
	id, name, ok := splitWellKnown(r.URL.Path)
	if !ok {
		return nil, fleet.NotFound("document", r.URL.Path)
	}
	var scope fleet.Scope
	if err := s.view(r.Context(), func(tx *store.Tx) error {
		row, err := tx.FindUserPool(id)
		scope = row.Scope
		return err
	}); err != nil {
		return nil, err
	}
	if name == "jwks.json" {
		keys, err := s.poolKeys(r.Context(), scope, id)
		if err != nil {
			return nil, err
		}
		return jwt.KeySet(keys.public), nil
	}
	issuer := s.Issuer(id)
	document := map[string]any{
		"issuer":                                issuer,
		"jwks_uri":                              issuer + "/.well-known/jwks.json",
		"response_types_supported":              []string{"code", "token"},
		"scopes_supported":                      []string{"openid", "email", "phone", "profile"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
	}
	// Without a domain a pool has no pages, and what signs in by the API needs none of these.
	base, err := s.PageURL(r.Context(), scope, id)
	if err != nil {
		return nil, err
	}
	if base != "" {
		document["authorization_endpoint"] = base + "/oauth2/authorize"
		document["token_endpoint"] = base + "/oauth2/token"
		document["userinfo_endpoint"] = base + "/oauth2/userInfo"
		document["revocation_endpoint"] = base + "/oauth2/revoke"
		document["end_session_endpoint"] = base + "/logout"
		document["code_challenge_methods_supported"] = []string{"S256"}
	}
	return json.Marshal(document)
}
