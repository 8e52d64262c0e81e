package hosted

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// This file sends browsers to other identity providers and takes them back.

const (
	callbackPath = "/oauth2/idpresponse"
	maxAnswer    = 400 << 10 // bytes of a form that a provider's page posts: a SAML response in base64
	maxAway      = 4         // sign-ins at providers that a browser may have begun at the same time; the cookie of each is up to 4 KB
)

// only is the provider at which everybody signs in to an app, "" if people have a choice.
func (v *visit) only(a *userpool.Authorization) string {
	if a.TakesPasswords() || a.Request.Provider == userpool.OwnProvider {
		return ""
	}
	names, err := v.cfg.Pools.ExternalProviders(v.r.Context(), a)
	if err != nil || len(names) != 1 {
		if err != nil {
			v.log(err) // the page shows what there is
		}
		return ""
	}
	return names[0]
}

// external sends the browser to a provider.
func (v *visit) external(a *userpool.Authorization, name, query string) {
	ask := federation.Ask{LoginHint: v.hint(), Prompt: a.Request.Prompt}
	if ask.Prompt == "" && a.Request.MaxAge != "" { // how old the sign-in there is, nobody here knows
		ask.Prompt = "login"
	}
	x, err := v.cfg.Pools.Depart(v.r.Context(), v.site, a, name, query, ask)
	if err != nil {
		v.notVouched(a, err)
		return
	}
	v.dropOldest()
	// A form that another site posts brings no cookie that is Lax. The state that goes with this one is known to the provider and this
	// browser alone, so that nobody is helped by making the browser send it.
	site := http.SameSiteLaxMode
	if x.Posts {
		site = http.SameSiteNoneMode
	}
	http.SetCookie(v.w, &http.Cookie{Name: awayCookie(x.State), Value: x.Cookie.Reveal(), Path: "/", Secure: true, HttpOnly: true, SameSite: site,
		MaxAge: int(x.Life.Seconds())})
	v.to(x.To)
}

const awayPrefix = "__Host-imprint-idp-"

// awayCookie is the name of the cookie that goes with a state: a browser may be on its way to several providers.
func awayCookie(state string) string { return awayPrefix + state[:min(len(state), 8)] }

// dropOldest keeps the cookies of sign-ins that were given up from filling the header of every request.
func (v *visit) dropOldest() {
	var names []string
	for _, c := range v.r.Cookies() {
		if strings.HasPrefix(c.Name, awayPrefix) {
			names = append(names, c.Name)
		}
	}
	for len(names) >= maxAway { // browsers send the oldest first (RFC 6265 section 5.4)
		v.dropAway(names[0])
		names = names[1:]
	}
}

func (v *visit) dropAway(name string) {
	http.SetCookie(v.w, &http.Cookie{Name: name, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteNoneMode, MaxAge: -1})
}

// returned takes a browser back that a provider has sent: with a query, or with a form that the provider's page posts.
func (v *visit) returned() {
	answer, err := v.brought()
	if err != nil {
		v.fail(http.StatusBadRequest, "The identity provider's answer cannot be read: "+err.Error()+".")
		return
	}
	state := answer.Get("state")
	if answer.Has("SAMLResponse") {
		state = answer.Get("RelayState")
	}
	var cookie fleet.Secret
	if c, err := v.r.Cookie(awayCookie(state)); err == nil {
		cookie = fleet.Secret(c.Value)
	}
	back, err := v.cfg.Pools.Return(v.site, state, cookie)
	if err != nil {
		v.failed(err)
		return
	}
	v.dropAway(awayCookie(state))
	a, _, ok := v.authorizationOf(back.Query)
	if !ok {
		return
	}
	o, err := v.cfg.Pools.Arrive(v.r.Context(), v.site, a, back, answer)
	if err != nil {
		v.notVouched(a, err)
		return
	}
	v.arrive(a, o.Cookie)
}

func (v *visit) brought() (url.Values, error) {
	if v.r.Method == http.MethodPost {
		return v.formOf(maxAnswer)
	}
	return parseForm(v.r.URL.RawQuery, maxQuery)
}

// passedOn are the codes of errors that the app hears as they are (RFC 6749 section 4.1.2.1, OpenID Connect Core 3.1.2.6).
var passedOn = []string{"access_denied", "temporarily_unavailable", "server_error", "invalid_request", "interaction_required", "login_required",
	"account_selection_required", "consent_required"}

// notVouched tells the app why nobody has signed in. AWS says invalid_request of nearly everything.
func (v *visit) notVouched(a *userpool.Authorization, err error) {
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind == fleet.KindInternal || e.Kind == fleet.KindUnavailable && e.Code == "" {
		v.log(err)
		v.back(a, url.Values{"error": {"server_error"}})
		return
	}
	code := "invalid_request"
	switch {
	case slices.Contains(passedOn, e.Code):
		code = e.Code
	case e.Kind == fleet.KindThrottled || e.Kind == fleet.KindUnavailable:
		code = "temporarily_unavailable"
	}
	v.back(a, url.Values{"error": {code}, "error_description": {e.Msg}})
}

// elsewhere are the links to the providers that the app takes.
func (v *visit) elsewhere(st *step) (links []link) {
	names, err := v.cfg.Pools.ExternalProviders(v.r.Context(), st.Authorization)
	if err != nil {
		v.log(err)
		return nil
	}
	query, err := url.ParseQuery(st.query)
	if err != nil {
		return nil
	}
	query.Del("idp_identifier")
	for _, name := range names {
		query.Set("identity_provider", name)
		links = append(links, link{Text: "Sign in with " + spoken(name), Address: v.base + "/oauth2/authorize?" + query.Encode()})
	}
	return links
}

// spoken is what people call a provider.
func spoken(name string) string {
	switch name {
	case federation.TypeApple:
		return "Apple"
	case federation.TypeAmazon:
		return "Amazon"
	}
	return name
}

// metadata describes us to SAML providers.
func (v *visit) metadata() {
	doc, err := v.site.Us().Metadata()
	if err != nil {
		v.failed(err)
		return
	}
	v.w.Header().Set("Content-Type", "application/samlmetadata+xml")
	v.w.Write(doc)
}
