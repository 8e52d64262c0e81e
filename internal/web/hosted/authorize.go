package hosted

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

const (
	maxQuery      = 16 << 10 // bytes of a query or a form
	maxParameters = 64
)

// parseForm reads a query or the body of a form. A parameter that is there twice is refused (RFC 6749 section 3.1): two readers might take
// different ones.
func parseForm(text string, limit int) (url.Values, error) {
	if len(text) > limit {
		return nil, fmt.Errorf("the request is longer than %d KiB", limit>>10)
	}
	if strings.Count(text, "&") >= maxParameters {
		return nil, errors.New("the request has more than 64 parameters")
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, errors.New("the request is not form-encoded")
	}
	for name, v := range values {
		if len(v) > 1 {
			return nil, fmt.Errorf("the parameter %q is there twice", name)
		}
		if !utf8.ValidString(name) || !utf8.ValidString(v[0]) || strings.ContainsRune(v[0], 0) {
			return nil, errors.New("a parameter is not UTF-8")
		}
	}
	return values, nil
}

// carried are the parameters of an app's request that go from page to page.
var carried = []string{"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
	"identity_provider", "idp_identifier", "prompt", "max_age", "login_hint", "lang", "then"}

// carry keeps what is carried of a query, in a form to append to an address.
func carry(query url.Values) string {
	kept := url.Values{}
	for _, name := range carried {
		if v := query.Get(name); v != "" {
			kept.Set(name, v)
		}
	}
	return kept.Encode()
}

// requestOf reads an app's request.
func requestOf(query url.Values) userpool.AuthorizeRequest {
	return userpool.AuthorizeRequest{ClientID: query.Get("client_id"), ResponseType: query.Get("response_type"), RedirectURI: query.Get("redirect_uri"),
		Scope: query.Get("scope"), State: query.Get("state"), Nonce: query.Get("nonce"), Challenge: query.Get("code_challenge"),
		ChallengeMethod: query.Get("code_challenge_method"), Provider: query.Get("identity_provider"), Prompt: query.Get("prompt"), MaxAge: query.Get("max_age")}
}

// authorization checks the app's request in the address of every page. ok is false if the answer has been written: to the person in front
// of the browser while it is not known whose request it is, else to the app.
func (v *visit) authorization() (a *userpool.Authorization, query url.Values, ok bool) {
	return v.authorizationOf(v.r.URL.RawQuery)
}

// authorizationOf is authorization for a request that came before.
func (v *visit) authorizationOf(text string) (a *userpool.Authorization, query url.Values, ok bool) {
	query, err := parseForm(text, maxQuery)
	if err != nil {
		v.fail(http.StatusBadRequest, "The app's request cannot be read: "+err.Error()+".")
		return nil, nil, false
	}
	request := requestOf(query)
	if request.ResponseType == "" && (query.Get("then") == thenPasskeys || strings.HasPrefix(strings.TrimPrefix(v.r.URL.Path, v.base), "/passkeys/")) {
		request.ResponseType = "code" // the app has sent the browser for its passkeys, and asks for nothing
	}
	if id := query.Get("idp_identifier"); id != "" && request.Provider == "" {
		if request.Provider, err = v.cfg.Pools.ProviderOfIdentifier(v.r.Context(), v.site, id); err != nil {
			v.failed(err)
			return nil, nil, false
		}
		if request.Provider == "" {
			request.Provider = id // which the client does not have either
		}
	}
	a, err = v.cfg.Pools.Authorization(v.r.Context(), v.site, request)
	switch e := (*fleet.Error)(nil); {
	case err == nil:
		return a, query, true
	case a == nil:
		v.failed(err)
	case errors.As(err, &e) && e.Kind != fleet.KindInternal && e.Kind != fleet.KindUnavailable:
		v.back(a, url.Values{"error": {e.Code}, "error_description": {e.Msg}})
	default:
		v.log(err)
		v.back(a, url.Values{"error": {"server_error"}})
	}
	return nil, nil, false
}

// authorize is GET /oauth2/authorize.
func (v *visit) authorize() {
	a, query, ok := v.authorization()
	if !ok {
		return
	}
	if p := a.Request.Provider; p != "" && p != userpool.OwnProvider && a.Request.Prompt != "none" {
		v.external(a, p, carry(query))
		return
	}
	if reply, err := v.cfg.Pools.AuthorizeAgain(v.r.Context(), a, v.cookie()); v.answer(a, reply, err) {
		return
	}
	if a.Request.Prompt == "none" {
		v.back(a, url.Values{"error": {"login_required"}, "error_description": {"Nobody is signed in in this browser."}})
		return
	}
	if p := v.only(a); p != "" {
		v.external(a, p, carry(query))
		return
	}
	v.to(v.base + "/login?" + carry(query))
}

// arrive is the end of a sign-in: the browser gets the cookie of the outcome, always a new one, and goes back to the app.
func (v *visit) arrive(a *userpool.Authorization, cookie fleet.Secret) {
	v.setCookie(cookie, true)
	if reply, err := v.cfg.Pools.Authorize(v.r.Context(), a, cookie); !v.answer(a, reply, err) {
		v.back(a, url.Values{"error": {"server_error"}, "error_description": {"The sign-in ended before it began."}})
	}
}

// answer sends the browser back to the app with what the app asked for. It reports false, and has written nothing, if nobody is signed in.
func (v *visit) answer(a *userpool.Authorization, reply userpool.Reply, err error) bool {
	switch {
	case err != nil:
		v.log(err)
		v.back(a, url.Values{"error": {"server_error"}})
	case !reply.SignedIn:
		return false
	case reply.Tokens == nil:
		v.back(a, url.Values{"code": {reply.Code.Reveal()}})
	default:
		t := url.Values{"access_token": {reply.Tokens.Access.Reveal()}, "token_type": {"Bearer"}, "expires_in": {strconv.Itoa(reply.Tokens.ExpiresIn)}}
		if reply.Tokens.ID != "" {
			t.Set("id_token", reply.Tokens.ID.Reveal())
		}
		v.back(a, t)
	}
	return true
}

// back sends the browser to the app: parameters in the query or, where the app asked for a token, in the fragment.
func (v *visit) back(a *userpool.Authorization, parameters url.Values) {
	if a.Request.State != "" {
		parameters.Set("state", a.Request.State)
	}
	if a.Request.ResponseType == "token" {
		v.to(a.Redirect + "#" + parameters.Encode())
		return
	}
	v.to(extended(a.Redirect, parameters))
}

// extended adds parameters to the query of an address.
func extended(address string, parameters url.Values) string {
	if strings.Contains(address, "?") {
		return address + "&" + parameters.Encode()
	}
	return address + "?" + parameters.Encode()
}

// to redirects. What is sent by a form is not sent on (RFC 9700 section 4.12).
func (v *visit) to(address string) {
	status := http.StatusFound
	if v.r.Method == http.MethodPost {
		status = http.StatusSeeOther
	}
	v.w.Header().Set("Location", address)
	v.w.WriteHeader(status)
}

// formTarget is what the content security policy has to allow for a form whose answer may lead to an address.
func formTarget(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return ""
	}
	if u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(u.Host, "[];, '\"") {
		return u.Scheme + ":" // apps with a scheme of their own; a policy cannot name an IPv6 address
	}
	return u.Scheme + "://" + u.Host
}

// logout is GET /logout: the browser is signed out, and goes where the client may send it.
func (v *visit) logout() {
	query, err := parseForm(v.r.URL.RawQuery, maxQuery)
	if err != nil {
		v.fail(http.StatusBadRequest, "The app's request cannot be read: "+err.Error()+".")
		return
	}
	to := query.Get("logout_uri")
	again := to == "" && query.Get("redirect_uri") != "" // to sign in as somebody else
	if again {
		if _, _, ok := v.authorization(); !ok {
			return
		}
	} else if err := v.cfg.Pools.LogoutAddress(v.r.Context(), v.site, query.Get("client_id"), to); err != nil {
		v.failed(err)
		return
	}
	if err := v.cfg.Pools.SignOutBrowser(v.r.Context(), v.site, v.cookie()); err != nil {
		v.failed(err)
		return
	}
	v.dropCookie()
	switch {
	case again:
		v.to(v.base + "/login?" + carry(query))
	case to == "":
		v.show(http.StatusOK, &page{Title: "Signed out", Intro: "You are signed out in this browser. You may close this page."})
	default:
		if state := query.Get("state"); state != "" {
			to = extended(to, url.Values{"state": {state}})
		}
		v.to(to)
	}
}
