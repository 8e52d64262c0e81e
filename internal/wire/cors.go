package wire

import (
	"net/http"
	"slices"
	"strings"
)

// CORS answers browsers on endpoints without cookies, where any origin is safe (identity spec 6.2). The zero value admits every
// origin; with Origins only those listed.
type CORS struct {
	Origins []string // "https://app.example.com"; empty or "*": all
}

const exposedHeaders = "x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage, x-amz-request-id, x-amz-id-2, Date"

// Preflight answers an OPTIONS request; it is never authenticated.
func (c CORS) Preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Headers")
	if c.allow(h, r) {
		h.Set("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS")
		// A literal * would not cover Authorization.
		if asked := r.Header.Values("Access-Control-Request-Headers"); len(asked) > 0 {
			h.Set("Access-Control-Allow-Headers", strings.Join(asked, ", "))
		}
		h.Set("Access-Control-Max-Age", "7200")
		if r.Header.Get("Access-Control-Request-Private-Network") != "" {
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// Headers adds what a browser needs to see the answer to r, errors included.
func (c CORS) Headers(h http.Header, r *http.Request) {
	if c.allow(h, r) {
		h.Set("Access-Control-Expose-Headers", exposedHeaders)
	}
}

func (c CORS) allow(h http.Header, r *http.Request) bool {
	if len(c.Origins) == 0 || slices.Contains(c.Origins, "*") {
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Allow-Origin", "*")
		return true
	}
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !slices.Contains(c.Origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	return true
}
