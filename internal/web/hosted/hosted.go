// Package hosted is the edge of hosted sign-in: the pages on which people sign in to a user pool with their browser, and the endpoints of
// OAuth 2.0 and OpenID Connect behind them (identity spec 1.12). It reads requests and writes pages; every rule, lock-outs and what nobody
// may learn included, is that of package userpool, the same as behind the API.
//
// Begin with Handler.ServeHTTP and the table routes below it. An app sends the browser to /oauth2/authorize (authorize.go); who is not
// signed in goes on to /login (login.go), perhaps by way of the pages of account.go; and comes back to the app with a code that it
// trades at /oauth2/token (token.go). page.go is what all pages have in common: one template, the cookie, the token of the forms.
// The pages need no JavaScript, and may run none, but for the one script of those with passkeys (passkeys.go), which browsers show to scripts
// alone.
//
// Nothing is remembered between two pages but by the cookie: the app's request travels in the address of each page and is checked again
// by each, and the step of a sign-in travels sealed in its form.
//
// A provider that vouches for people (OpenID Connect, SAML) plugs in at four places, of which external.go has three: visit.external sends
// the browser there, for requests that name it by identity_provider; visit.returned takes its answer, has the rules make or find the
// user and begin a sign-in, and visit.arrive sends the browser back to the app. loginPage lists the links to it in page.Links.
package hosted

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Config is what a Handler needs.
type Config struct {
	Pools *userpool.Service
	CORS  wire.CORS // of the endpoints that apps call by themselves; the pages have none
	Log   *slog.Logger

	// Observe, if set, hears of each answered request: the path below the domain, "other" for one that there is not.
	Observe func(path string, status int, took time.Duration)
}

// A Handler serves the domains of all pools.
type Handler struct {
	cfg    Config
	origin *http.CrossOriginProtection
	routes map[string]route
}

// A route is what is below the address of a domain.
type route struct {
	methods string // that it takes, as Allow lists them
	serve   func(*visit)
	called  bool // by apps, from other origins too; else it is for people
	posted  bool // forms of other sites lead here
}

// New returns a handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, origin: http.NewCrossOriginProtection()}
	page := func(get, post func(*visit)) route {
		return route{methods: "GET, HEAD, POST", serve: func(v *visit) {
			if v.r.Method == http.MethodPost {
				post(v)
			} else {
				get(v)
			}
		}}
	}
	get := func(f func(*visit)) route { return route{methods: "GET, HEAD", serve: f} }
	h.routes = map[string]route{
		"/oauth2/authorize": get((*visit).authorize),
		"/oauth2/token":     {methods: "POST", serve: (*visit).token, called: true},
		"/oauth2/userInfo":  {methods: "GET, POST", serve: (*visit).userInfo, called: true},
		"/oauth2/revoke":    {methods: "POST", serve: (*visit).revoke, called: true},
		"/logout":           get((*visit).logout),

		callbackPath:         {methods: "GET, POST", serve: (*visit).returned, posted: true},
		"/saml2/idpresponse": {methods: "POST", serve: (*visit).returned, posted: true},
		"/saml2/metadata":    get((*visit).metadata),

		"/login":                 page((*visit).showLogin, (*visit).login),
		"/login/password":        page((*visit).showLogin, (*visit).newPassword),
		"/login/code":            page((*visit).showLogin, (*visit).softwareToken),
		"/login/setup":           page((*visit).showLogin, (*visit).setUpToken),
		"/signup":                page((*visit).showSignUp, (*visit).signUp),
		"/confirmUser":           page((*visit).showConfirm, (*visit).confirm),
		"/resendcode":            page((*visit).showConfirm, (*visit).resend),
		"/forgotPassword":        page((*visit).showForgot, (*visit).forgot),
		"/confirmForgotPassword": page((*visit).showForgot, (*visit).recover),

		"/login/passkey":        page((*visit).showLogin, (*visit).askPasskey),
		"/login/passkey/answer": page((*visit).showLogin, (*visit).answerPasskey),
		passkeysPath:            page((*visit).showPasskeys, (*visit).addPasskey),
		"/passkeys/remove":      page((*visit).showPasskeys, (*visit).removePasskey),
		"/passkeys/back":        get((*visit).leavePasskeys),

		stylePath:                 get((*visit).style),
		scriptPath:                get((*visit).script),
		"/oauth2/assets/look.css": get((*visit).look),
		"/oauth2/assets/logo":     get((*visit).logo),
	}
	if h.cfg.Log == nil {
		h.cfg.Log = slog.New(slog.DiscardHandler)
	}
	return h
}

const stylePath = "/oauth2/assets/style.css"

// Serves reports whether a request is for a domain of a pool: below userpool.PrefixPath, or a path of ours on a host name that is
// for ServeHTTP to find.
func (h *Handler) Serves(r *http.Request) bool {
	_, ours := h.routes[r.URL.Path]
	return ours || strings.HasPrefix(r.URL.Path, userpool.PrefixPath)
}

// A visit is one request to a domain.
type visit struct {
	*Handler
	w    http.ResponseWriter
	r    *http.Request
	site *userpool.Site
	base string // path of the domain, "" on a host name of its own
}

// ServeHTTP finds the domain and the route.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin, told := time.Now(), &statusWriter{w, http.StatusOK}
	w = told
	v := &visit{Handler: h, w: w, r: r.WithContext(withAddress(r))}
	domain, path, custom := v.where()
	rt, known := h.routes[path]
	if h.cfg.Observe != nil {
		label := path
		if !known {
			label = "other"
		}
		defer func() { h.cfg.Observe(label, told.status, time.Since(begin)) }()
	}
	secure(w.Header())
	if known && rt.called {
		h.cfg.CORS.Headers(w.Header(), r)
		if r.Method == http.MethodOptions {
			h.cfg.CORS.Preflight(w, r)
			return
		}
	}
	if !known || domain == "" {
		v.fail(http.StatusNotFound, "There is no such page.")
		return
	}
	if !strings.Contains(", "+rt.methods+",", ", "+r.Method+",") {
		w.Header().Set("Allow", rt.methods)
		v.fail(http.StatusMethodNotAllowed, "This page takes "+rt.methods+".")
		return
	}
	if err := h.origin.Check(r); err != nil && !rt.called && !rt.posted {
		v.fail(http.StatusForbidden, "This form came from another site. Go back to the app and sign in from there.")
		return
	}
	if path == stylePath { // the same everywhere, and pages that tell of an unknown domain need it too
		v.style()
		return
	}
	site, err := h.cfg.Pools.Site(v.r.Context(), domain, custom)
	if err != nil {
		v.failed(err)
		return
	}
	v.site = site
	rt.serve(v)
}

// A statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// where takes the address apart: the domain, whether it is a host name, and the path below it.
func (v *visit) where() (domain, path string, custom bool) {
	if rest, ok := strings.CutPrefix(v.r.URL.Path, userpool.PrefixPath); ok {
		domain, path, _ = strings.Cut(rest, "/")
		v.base = userpool.PrefixPath + domain
		return domain, "/" + path, false
	}
	host := v.r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), v.r.URL.Path, true
}

// withAddress says where a request comes from, for the budgets of strangers.
func withAddress(r *http.Request) context.Context {
	c := &fleet.Caller{UserAgent: r.UserAgent()}
	c.SourceIP, _, _ = net.SplitHostPort(r.RemoteAddr)
	return fleet.WithCaller(r.Context(), c)
}

// secure sets what every answer has: no frame, no script, nothing from elsewhere, nothing kept.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policyFor("", false))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // "no-referrer" would hide the origin of our own forms, too
	h.Set("Cache-Control", "no-store")
}

// policyFor is the content security policy of a page whose form may lead to target in the end: browsers hold redirects after a form
// to it as well. script: the page has ours.
func policyFor(target string, script bool) string {
	scripts := ""
	if script {
		scripts = "script-src 'self'; "
	}
	return strings.TrimSpace("default-src 'none'; " + scripts + "style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' " + target)
}
