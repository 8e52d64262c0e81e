package hosted

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// This file is about passkeys at the pages: to sign in with one, and to add, see and remove them afterwards. Browsers show passkeys to scripts
// only, so these pages have one, and say so where it cannot run.

const (
	passkeysPath = "/passkeys/add" // AWS's name
	scriptPath   = "/oauth2/assets/passkeys.js"

	credentialField = "credential"
	thenPasskeys    = "passkeys" // in the query: where to go after the sign-in
)

// withPasskeys puts what has to do with passkeys on the page that asks for name and password.
func (v *visit) withPasskeys(st *step, p *page) {
	takes, err := v.cfg.Pools.TakesPasskeys(v.r.Context(), v.site, st.Authorization)
	if err != nil { // the page matters more
		v.log(err)
	}
	if takes {
		p.Forms[0].Also = &button{Text: "Sign in with a passkey", Action: v.at(st, "/login/passkey")}
		p.Links = append(p.Links, link{Text: "Add or remove passkeys", Address: v.at(st, passkeysPath)})
	}
}

func denied(err error) bool { return err != nil && fleet.KindOf(err) == fleet.KindDenied }

// askPasskey is the second button of loginPage.
func (v *visit) askPasskey() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	if name == "" {
		v.wrong(v.loginPage(st), http.StatusBadRequest, "Enter your name, then choose the passkey.", nameField)
		return
	}
	o, err := v.cfg.Pools.AskPasskey(v.r.Context(), st.Authorization, name)
	switch {
	case err != nil:
		status, text := v.words(err)
		v.wrong(v.loginPage(st), status, text, nameField)
	case o.Challenge != "WEB_AUTHN":
		v.wrong(v.loginPage(st), http.StatusBadRequest, "There is no passkey to sign in with for this name. Sign in with your password; then you can add one.", passwordField)
	default:
		p := v.newPage(st, "Use your passkey")
		p.Intro = "Your browser asks for the passkey of " + name + ": by fingerprint, face, device code or security key."
		p.Forms = []form{{Action: v.at(st, "/login/passkey/answer"), Submit: "Use the passkey", Hidden: sealed(name, o.Session.Reveal()),
			Key: &ceremony{Kind: "get", Options: o.Parameters["CREDENTIAL_REQUEST_OPTIONS"], AtOnce: true}}}
		p.Links = []link{{Text: "Sign in with your password", Address: v.at(st, "/login")}}
		v.show(http.StatusOK, p)
	}
}

// answerPasskey is the form of the page of askPasskey. A challenge is good for one answer, so after a wrong one the sign-in begins anew.
func (v *visit) answerPasskey() {
	st := v.sent()
	if st == nil {
		return
	}
	name := st.get(nameField)
	o, err := v.cfg.Pools.Answer(v.r.Context(), st.Authorization, userpool.Answer{Challenge: "WEB_AUTHN", Session: st.secret("session"),
		Responses: map[string]fleet.Secret{"USERNAME": fleet.Secret(name), "CREDENTIAL": st.secret(credentialField)}})
	if err != nil {
		status, text := v.words(err)
		if denied(err) && strings.HasSuffix(err.Error(), "Incorrect username or password.") {
			text = "This passkey was not accepted. Sign in with your password, or try again."
		}
		v.wrong(v.loginPage(st), status, text)
		return
	}
	v.goOn(st, o)
}

// passkeysPage shows the passkeys of whoever is signed in, and lets them add and remove some.
func (v *visit) passkeysPage(st *step) (*page, error) {
	holder := st.Holder(v.cookie())
	keys, _, err := v.cfg.Pools.Passkeys(v.r.Context(), holder, "", 100)
	if err != nil {
		return nil, err
	}
	options, err := v.cfg.Pools.NewPasskey(v.r.Context(), holder)
	if kind := fleet.KindOf(err); err != nil && (kind == fleet.KindInternal || kind == fleet.KindUnavailable) {
		return nil, err
	}
	p := v.newPage(st, "Your passkeys")
	if p.Intro = "With a passkey you sign in by fingerprint, face, device code or security key, without your password."; err != nil {
		_, p.Intro = v.words(err)
	} else {
		p.Forms = append(p.Forms, form{Action: v.at(st, passkeysPath), Submit: "Add a passkey", Key: &ceremony{Kind: "create", Options: string(options)}})
	}
	for _, k := range keys {
		p.Forms = append(p.Forms, form{Action: v.at(st, "/passkeys/remove"), Submit: "Remove", Minor: true, Hidden: []field{{ID: "passkey", Value: k.ID}},
			Lead: k.Name + ", added " + k.Created.UTC().Format("2 January 2006 15:04 UTC")})
	}
	p.Links = []link{{Text: "Go on to the app", Address: v.at(st, "/passkeys/back")}}
	return p, nil
}

// showPasskeysOf shows passkeysPage; who is not signed in signs in first.
func (v *visit) showPasskeysOf(st *step, status int, change func(*page)) {
	p, err := v.passkeysPage(st)
	if denied(err) {
		v.toLogin(st, thenPasskeys)
		return
	}
	if err != nil {
		v.failed(err)
		return
	}
	change(p)
	v.show(status, p)
}

func (v *visit) showPasskeys() {
	if st := v.shown(); st != nil {
		v.showPasskeysOf(st, http.StatusOK, func(*page) {})
	}
}

// addPasskey is the first form of passkeysPage.
func (v *visit) addPasskey() {
	st := v.sent()
	if st == nil {
		return
	}
	if err := v.cfg.Pools.AddPasskey(v.r.Context(), st.Holder(v.cookie()), []byte(st.get(credentialField))); err != nil {
		status, text := v.words(err)
		v.showPasskeysOf(st, status, func(p *page) { p.Error = text })
		return
	}
	v.showPasskeysOf(st, http.StatusOK, func(p *page) { p.Notice = "The passkey was added. Sign in with it the next time." })
}

// removePasskey is the form beside a passkey.
func (v *visit) removePasskey() {
	st := v.sent()
	if st == nil {
		return
	}
	if err := v.cfg.Pools.DeletePasskey(v.r.Context(), st.Holder(v.cookie()), st.get("passkey")); err != nil {
		status, text := v.words(err)
		v.showPasskeysOf(st, status, func(p *page) { p.Error = text })
		return
	}
	v.showPasskeysOf(st, http.StatusOK, func(p *page) {
		p.Notice = "The passkey was removed. Remove it from your device as well, which does not know."
	})
}

// leavePasskeys goes on to the app: with what it asked for, if it did; an app may have sent the browser here for the passkeys alone.
func (v *visit) leavePasskeys() {
	st := v.shown()
	switch {
	case st == nil:
	case !v.r.URL.Query().Has("response_type"):
		v.to(st.Redirect)
	default: // the app may want a sign-in that is newer
		if reply, err := v.cfg.Pools.AuthorizeAgain(v.r.Context(), st.Authorization, v.cookie()); !v.answer(st.Authorization, reply, err) {
			v.toLogin(st, "")
		}
	}
}

// toLogin lets somebody sign in, and then go on to where a step leads.
func (v *visit) toLogin(st *step, then string) {
	query, _ := url.ParseQuery(st.query) // which is our own
	if query.Set("then", then); then == "" {
		query.Del("then")
	}
	v.to(v.base + "/login?" + query.Encode())
}
