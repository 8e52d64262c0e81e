package hosted

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

//go:embed templates
var files embed.FS

// pages is parsed when the first page is shown, not while a service starts.
var pages = sync.OnceValue(func() *template.Template { return template.Must(template.ParseFS(files, "templates/page.html")) })

// A page is what the one template shows: a sentence, forms, links.
type page struct {
	Title  string // the heading too
	Intro  string
	Notice string // what has just succeeded
	Error  string // what has just failed, told of the fields that are Wrong
	Key    *tokenKey
	Forms  []form
	Links  []link
	Pool   string // its name
	Style  string // address of the style sheet
	Script string // address of the script, "" for a page that has none
	Look   string // address of the pool's own style sheet, "" if it has none
	Logo   string // address of its logo, "" if it has none
	target string // where the answer to a form may lead, for the content security policy
	client string
}

// A form is sent to Action. Its first field has the focus, but that of a second form has not.
type form struct {
	Action string
	Token  string
	Hidden []field
	Fields []field
	Submit string
	Minor  bool      // a button that looks like a link
	Lead   string    // what stands before the button, and says what it is about
	Also   *button   // a second button
	Key    *ceremony // the form waits for a passkey
}

// A button sends its form to another address. It is there where browsers have passkeys.
type button struct{ Text, Action string }

// A ceremony is what the script asks the browser for: to get a passkey or to create one, with options in JSON.
type ceremony struct {
	Kind, Options string
	AtOnce        bool // the person has asked for it already
}

// A field is one input with its label.
type field struct {
	ID, Label, Type, Value, Autocomplete, InputMode, Hint string
	Optional, Focus, Wrong                                bool
}

type link struct{ Text, Before, Address string }

// tokenKey is what a person puts into an authenticator app.
type tokenKey struct {
	Picture template.HTML
	Text    string
	Address template.URL // otpauth:
}

// show writes a page.
func (v *visit) show(status int, p *page) {
	p.Style = v.base + stylePath + "?v=" + versionOf("style.css")
	if slices.ContainsFunc(p.Forms, func(f form) bool { return f.Also != nil || f.Key != nil }) {
		p.Script = v.base + scriptPath + "?v=" + versionOf("passkeys.js")
	}
	if v.site != nil {
		p.Pool = v.site.Pool.Name
		v.dress(p)
	}
	if len(p.Forms) > 0 {
		token, err := v.cfg.Pools.FormToken(v.site, v.ownCookie())
		if err != nil {
			v.failed(err)
			return
		}
		for i := range p.Forms {
			p.Forms[i].Token = token
		}
		if len(p.Forms[0].Fields) > 0 {
			focus := &p.Forms[0].Fields[0]
			for i := range p.Forms[0].Fields {
				if f := &p.Forms[0].Fields[i]; f.Wrong && p.Error != "" || focus.Value != "" && f.Value == "" && !focus.Wrong {
					focus = f
					break
				}
			}
			focus.Focus = true
		}
	}
	var out bytes.Buffer
	if err := pages().Execute(&out, p); err != nil {
		v.log(err)
		http.Error(v.w, "internal error", http.StatusInternalServerError)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policyFor(p.target, p.Script != ""))
	v.w.WriteHeader(status)
	v.w.Write(out.Bytes())
}

// dress gives a page the look of its client.
func (v *visit) dress(p *page) {
	l, err := v.cfg.Pools.Look(v.r.Context(), v.site.Pool.Scope, v.site.Pool.ID, p.client)
	if err != nil { // the page matters more
		v.log(err)
		return
	}
	query := "?" + url.Values{"client": {l.Client}, "v": {strconv.FormatInt(l.Modified.UnixMilli(), 36)}}.Encode()
	if l.CSS != "" {
		p.Look = v.base + "/oauth2/assets/look.css" + query
	}
	if l.ImageType() != "" {
		p.Logo = v.base + "/oauth2/assets/logo" + query
	}
}

// fail writes a page that says what is wrong, for requests that lead nowhere. Where apps call, it is JSON.
func (v *visit) fail(status int, text string) {
	path := strings.TrimPrefix(v.r.URL.Path, v.base)
	if v.routes[path].called {
		v.oauthError(status, "invalid_request", text)
		return
	}
	v.show(status, &page{Title: "This did not work", Error: text})
}

// failed is fail for an error of the rules.
func (v *visit) failed(err error) {
	status, text := v.words(err)
	v.fail(status, text)
}

// words says for a person what is wrong. What is ours is logged and not shown.
func (v *visit) words(err error) (status int, text string) {
	var e *fleet.Error
	if !errors.As(err, &e) {
		e = &fleet.Error{Kind: fleet.KindInternal}
	}
	switch {
	case e.Kind == fleet.KindNotFound && e.Resource == "domain":
		return http.StatusNotFound, "There is no sign-in page at this address."
	case e.Kind == fleet.KindThrottled && e.Code == "TooManyRequestsException":
		v.w.Header().Set("Retry-After", retryAfter(e))
		return http.StatusTooManyRequests, "Too many attempts came from here. Wait a minute, then try again."
	case e.Kind == fleet.KindInternal || e.Kind == fleet.KindUnavailable && e.Code == "":
		v.log(err)
		return http.StatusInternalServerError, "Something went wrong on our side. Try again in a moment."
	case strings.HasPrefix(e.Msg, "Invalid session for the user"):
		return http.StatusBadRequest, "This step took too long, or was done already. Sign in again."
	case peoplesWords[e.Msg] != "":
		return http.StatusBadRequest, peoplesWords[e.Msg]
	case strings.HasPrefix(e.Msg, "Password did not conform with policy: "):
		return http.StatusBadRequest, "This password will not do. " + strings.TrimPrefix(e.Msg, "Password did not conform with policy: ") + "."
	case e.Msg == "Password attempts exceeded":
		return http.StatusBadRequest, "Too many wrong attempts. Wait a little, then try again."
	}
	return http.StatusBadRequest, e.Msg
}

// peoplesWords stand for texts of the API that programs know by heart and people do not understand.
var peoplesWords = map[string]string{
	"Code mismatch and fail enable Software Token MFA":                      "This code is not right. Enter the one that the app shows now.",
	"Invalid code received for user":                                        "This code is not right. Enter the one that the app shows now.",
	"Your software token has already been used once.":                       "This code was used already. Wait for the next one.",
	"Invalid verification code provided, please try again.":                 "This code is not right. Look at the newest message.",
	"Invalid code provided, please request a code again.":                   "This code is not good any more. Ask for another one.",
	"Attempt limit exceeded, please try after some time.":                   "There were too many attempts. Try again in an hour.",
	"User password cannot be reset in the current state.":                   "Your password is a temporary one: sign in with it, or ask for another.",
	"Temporary password has expired and must be reset by an administrator.": "Your temporary password has expired. Ask for another one.",
}

func (v *visit) log(err error) {
	v.cfg.Log.ErrorContext(v.r.Context(), "a request to the pages of a user pool failed", "path", v.r.URL.Path, "error", err)
}

// cookieName is one for each pool. The prefix __Host- keeps other hosts of the domain from setting it (RFC 6265bis section 4.1.3); the path
// / that it asks for is why the pool is in the name.
func (v *visit) cookieName() string { return "__Host-imprint-" + v.site.Pool.ID }

// cookie is what the browser sent, "" for nothing that could be ours.
func (v *visit) cookie() fleet.Secret {
	c, err := v.r.Cookie(v.cookieName())
	if err != nil || len(c.Value) != 43 {
		return ""
	}
	return fleet.Secret(c.Value)
}

// ownCookie is the browser's cookie; one that has none gets one.
func (v *visit) ownCookie() fleet.Secret {
	if c := v.cookie(); c != "" {
		return c
	}
	c := v.cfg.Pools.NewCookie()
	v.setCookie(c, false)
	return c
}

// setCookie gives the browser a cookie: for as long as it stays signed in, else until it is closed.
func (v *visit) setCookie(value fleet.Secret, signedIn bool) {
	c := &http.Cookie{Name: v.cookieName(), Value: value.Reveal(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if signedIn {
		c.MaxAge = int(userpool.BrowserLife.Seconds())
	}
	http.SetCookie(v.w, c)
}

func (v *visit) dropCookie() {
	http.SetCookie(v.w, &http.Cookie{Name: v.cookieName(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
}

// A step is a form that somebody has sent: the app's request that it belongs to, and its values.
type step struct {
	*userpool.Authorization
	query string // what is carried, for the addresses of further pages
	then  string // where to go after the sign-in; empty: to the app
	form  url.Values
}

func (s *step) get(name string) string          { return s.form.Get(name) }
func (s *step) secret(name string) fleet.Secret { return fleet.Secret(s.form.Get(name)) }

// shown begins a page that is asked for. It returns nil if the answer has been written.
func (v *visit) shown() *step {
	a, query, ok := v.authorization()
	if !ok {
		return nil
	}
	return &step{a, carry(query), query.Get("then"), url.Values{}}
}

// sent begins the work on a form. It returns nil if the answer has been written: a form that our own page has not sent does nothing.
func (v *visit) sent() *step {
	form, err := v.form()
	if err != nil {
		v.fail(http.StatusBadRequest, "The form cannot be read: "+err.Error()+".")
		return nil
	}
	a, query, ok := v.authorization()
	if !ok {
		return nil
	}
	st := &step{a, carry(query), query.Get("then"), form}
	good, err := v.cfg.Pools.IsFormToken(v.site, v.cookie(), form.Get("token"))
	switch {
	case err != nil:
		v.failed(err)
		return nil
	case !good:
		p := v.loginPage(st)
		p.Error = "The page was open for too long, or this browser keeps no cookies. Try again."
		v.show(http.StatusForbidden, p)
		return nil
	}
	return st
}

// newPage begins a page of a step.
func (v *visit) newPage(st *step, title string) *page {
	return &page{Title: title, target: formTarget(st.Redirect), client: st.ClientID()}
}

// at is the address of a page that goes on with a step.
func (v *visit) at(st *step, path string) string { return v.base + path + "?" + st.query }

// versionOf is in the address of an asset, so that a change has another one.
func versionOf(name string) string {
	sum := sha256.Sum256(mustRead("templates/" + name))
	return hex.EncodeToString(sum[:6])
}

func mustRead(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// style is the style sheet of all pages.
func (v *visit) style() {
	v.asset("text/css; charset=utf-8", mustRead("templates/style.css"))
}

// script is the one of pages with passkeys.
func (v *visit) script() {
	v.asset("text/javascript; charset=utf-8", mustRead("templates/passkeys.js"))
}

// look is the style sheet that was set for a client.
func (v *visit) look() {
	if l, ok := v.wanted(); ok {
		css, err := userpool.ParseLook(l.CSS)
		if err != nil {
			v.log(err)
		}
		v.asset("text/css; charset=utf-8", []byte(css))
	}
}

// logo is the picture that was set for a client.
func (v *visit) logo() {
	l, ok := v.wanted()
	switch {
	case !ok:
	case l.ImageType() == "":
		http.NotFound(v.w, v.r)
	default:
		v.asset(l.ImageType(), l.Image)
	}
}

func (v *visit) wanted() (userpool.Look, bool) {
	l, err := v.cfg.Pools.Look(v.r.Context(), v.site.Pool.Scope, v.site.Pool.ID, v.r.URL.Query().Get("client"))
	if err != nil {
		http.NotFound(v.w, v.r)
	}
	return l, err == nil
}

func (v *visit) asset(mediaType string, body []byte) {
	h := v.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "public, max-age=3600") // a change has another address
	v.w.Write(body)
}
