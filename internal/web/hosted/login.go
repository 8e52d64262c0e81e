package hosted

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// Parts that pages have in common.
const (
	nameField     = "username"
	passwordField = "password"
	codeField     = "code"
)

// nameOf is the field for what people of a pool call themselves.
func nameOf(p *userpool.Pool, value string) field {
	f := field{ID: nameField, Label: "Username", Type: "text", Autocomplete: "username", Value: value}
	switch kinds := p.UsernameAttributes; {
	case len(kinds) == 2:
		f.Label = "Email or phone number"
	case len(kinds) == 1 && kinds[0] == "email":
		f.Label, f.Type, f.InputMode = "Email", "email", "email"
	case len(kinds) == 1:
		f.Label, f.Type, f.InputMode, f.Hint = "Phone number", "tel", "tel", "With the country code, for example +4915112345678."
	}
	return f
}

func newPasswordOf(p *userpool.Pool) field {
	return field{ID: passwordField, Label: "New password", Type: "password", Autocomplete: "new-password", Hint: policyWords(p.Password)}
}

// policyWords tells what a password must be like before somebody has to guess.
func policyWords(p userpool.PasswordPolicy) string {
	var kinds []string
	for _, k := range []struct {
		need bool
		word string
	}{{p.Upper, "an upper-case letter"}, {p.Lower, "a lower-case letter"}, {p.Numbers, "a digit"}, {p.Symbols, "a symbol"}} {
		if k.need {
			kinds = append(kinds, k.word)
		}
	}
	text := "At least " + count(p.MinLength) + " characters"
	if n := len(kinds); n > 1 {
		kinds[n-1] = "and " + kinds[n-1]
	}
	if len(kinds) > 0 {
		text += ", with " + strings.Join(kinds, ", ")
	}
	return text + "."
}

// loginPage asks for name and password.
func (v *visit) loginPage(st *step) *page {
	p := v.newPage(st, "Sign in")
	if st.TakesPasswords() {
		hint := st.get(nameField)
		if hint == "" {
			hint = v.hint()
		}
		p.Forms = []form{{Action: v.at(st, "/login"), Submit: "Sign in", Fields: []field{
			nameOf(st.Pool(), hint), {ID: passwordField, Label: "Password", Type: "password", Autocomplete: "current-password"}}}}
		p.Links = append(p.Links, link{Text: "Forgot your password?", Address: v.at(st, "/forgotPassword")})
		v.withPasskeys(st, p)
	}
	p.Links = append(p.Links, v.elsewhere(st)...)
	if st.TakesSignUps() {
		p.Links = append(p.Links, link{Before: "No account yet?", Text: "Sign up", Address: v.at(st, "/signup")})
	}
	return p
}

// hint is the name that the app thinks will sign in.
func (v *visit) hint() string {
	query, err := parseForm(v.r.URL.RawQuery, maxQuery)
	if err != nil || len(query.Get("login_hint")) > 256 {
		return ""
	}
	return query.Get("login_hint")
}

func (v *visit) showLogin() {
	if st := v.shown(); st != nil {
		v.show(http.StatusOK, v.loginPage(st))
	}
}

// login is the form of loginPage.
func (v *visit) login() {
	st := v.sent()
	if st == nil {
		return
	}
	if !st.TakesPasswords() {
		v.fail(http.StatusBadRequest, "This app takes no passwords of this user pool.")
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	if name == "" || st.get(passwordField) == "" {
		p := v.loginPage(st)
		v.wrong(p, http.StatusBadRequest, "Enter your name and your password.", nameField, passwordField)
		return
	}
	o, err := v.cfg.Pools.SignIn(v.r.Context(), st.Authorization, name, st.secret(passwordField))
	switch code := codeOfError(err); {
	case err == nil:
		v.goOn(st, o)
	case code == "UserNotConfirmedException":
		v.show(http.StatusOK, v.confirmPage(st, name, "Your account is not confirmed yet. Enter the code that was sent to you."))
	case code == "PasswordResetRequiredException":
		p := v.forgotPage(st)
		v.wrong(p, http.StatusBadRequest, "You need a new password before you can sign in. Ask for a code to set it.")
	default:
		status, text := v.words(err)
		v.wrong(v.loginPage(st), status, text, nameField, passwordField)
	}
}

// wrong shows a page again with what is wrong with its fields.
func (v *visit) wrong(p *page, status int, text string, fields ...string) {
	p.Error = text
	for i := range p.Forms {
		for j := range p.Forms[i].Fields {
			f := &p.Forms[i].Fields[j]
			for _, name := range fields {
				f.Wrong = f.Wrong || f.ID == name && i == 0
			}
		}
	}
	v.show(status, p)
}

// again begins the sign-in anew after an error that no further try can mend, or shows the page of the step once more.
func (v *visit) again(st *step, p *page, err error, fields ...string) {
	status, text := v.words(err)
	var e *fleet.Error
	if errors.As(err, &e) && (strings.HasPrefix(e.Msg, "Invalid session for the user") || e.Code == "PasswordResetRequiredException" || e.Msg == "User is disabled.") {
		p, fields = v.loginPage(st), nil
	}
	v.wrong(p, status, text, fields...)
}

// goOn goes on with a sign-in: to the app, or to what is still to do.
func (v *visit) goOn(st *step, o userpool.Outcome) {
	name := o.Parameters["USER_ID_FOR_SRP"]
	switch o.Challenge {
	case "":
		if st.then == thenPasskeys {
			v.setCookie(o.Cookie, true)
			v.to(v.at(st, passkeysPath))
			return
		}
		v.arrive(st.Authorization, o.Cookie)
	case "NEW_PASSWORD_REQUIRED":
		v.show(http.StatusOK, v.newPasswordPage(st, name, o.Session.Reveal(), missingAttributes(o)))
	case "SOFTWARE_TOKEN_MFA":
		v.show(http.StatusOK, v.tokenPage(st, name, o.Session.Reveal(), o.Parameters["FRIENDLY_DEVICE_NAME"]))
	case "MFA_SETUP":
		v.beginSetUp(st, name, o.Session)
	default:
		v.fail(http.StatusBadRequest, "This sign-in asks for "+o.Challenge+", which these pages do not offer.")
	}
}

func sealed(name, session string) []field {
	return []field{{ID: nameField, Value: name}, {ID: "session", Value: session}}
}

// newPasswordPage asks somebody with a temporary password for one of their own, and for what the pool needs to know of them.
func (v *visit) newPasswordPage(st *step, name, session string, lacking []string) *page {
	p := v.newPage(st, "Set a new password")
	p.Intro = "Your password was a temporary one. Choose your own."
	f := form{Action: v.at(st, "/login/password"), Submit: "Set password and sign in", Hidden: append(sealed(name, session),
		field{ID: "lacking", Value: strings.Join(lacking, " ")}), Fields: []field{newPasswordOf(st.Pool())}}
	for _, a := range lacking {
		f.Fields = append(f.Fields, attributeField(a, st.get("attribute."+a)))
	}
	p.Forms = []form{f}
	return p
}

// newPassword is the form of newPasswordPage.
func (v *visit) newPassword() {
	st := v.sent()
	if st == nil {
		return
	}
	name, session := st.get(nameField), st.get("session")
	responses := map[string]fleet.Secret{"USERNAME": fleet.Secret(name), "NEW_PASSWORD": st.secret(passwordField)}
	lacking := attributesOf(st.form, st.get("lacking"))
	for _, a := range lacking {
		responses["userAttributes."+a] = st.secret("attribute." + a)
	}
	o, err := v.cfg.Pools.Answer(v.r.Context(), st.Authorization, userpool.Answer{Challenge: "NEW_PASSWORD_REQUIRED", Session: fleet.Secret(session), Responses: responses})
	if err != nil {
		v.again(st, v.newPasswordPage(st, name, session, lacking), err, passwordField)
		return
	}
	v.goOn(st, o)
}

func codeOf(label, hint string) field {
	return field{ID: codeField, Label: label, Type: "text", Autocomplete: "one-time-code", InputMode: "numeric", Hint: hint}
}

// tokenPage asks for the code of an authenticator app.
func (v *visit) tokenPage(st *step, name, session, device string) *page {
	p := v.newPage(st, "Enter your code")
	hint := "Six digits, from your authenticator app."
	if device != "" {
		hint = "Six digits, from your authenticator app (" + device + ")."
	}
	p.Forms = []form{{Action: v.at(st, "/login/code"), Submit: "Sign in",
		Hidden: append(sealed(name, session), field{ID: "device", Value: device}), Fields: []field{codeOf("Code", hint)}}}
	p.Links = []link{{Text: "Sign in as somebody else", Address: v.at(st, "/login")}}
	return p
}

// softwareToken is the form of tokenPage.
func (v *visit) softwareToken() {
	st := v.sent()
	if st == nil {
		return
	}
	name, session := st.get(nameField), st.get("session")
	o, err := v.cfg.Pools.Answer(v.r.Context(), st.Authorization, userpool.Answer{Challenge: "SOFTWARE_TOKEN_MFA", Session: fleet.Secret(session),
		Responses: map[string]fleet.Secret{"USERNAME": fleet.Secret(name), "SOFTWARE_TOKEN_MFA_CODE": digits(st.get(codeField))}})
	if err != nil {
		v.again(st, v.tokenPage(st, name, session, st.get("device")), err, codeField)
		return
	}
	v.goOn(st, o)
}

// digits takes out what people type between the digits of a code.
func digits(text string) fleet.Secret {
	return fleet.Secret(strings.NewReplacer(" ", "", "-", "").Replace(text))
}

// beginSetUp hands out the key of a software token.
func (v *visit) beginSetUp(st *step, name string, session fleet.Secret) {
	key, session, err := v.cfg.Pools.NewSoftwareToken(v.r.Context(), st.Enrolment(session))
	if err != nil {
		v.again(st, v.loginPage(st), err)
		return
	}
	v.show(http.StatusOK, v.setUpPage(st, name, session.Reveal(), key.Reveal()))
}

// setUpPage shows the key of a software token and asks for a first code.
func (v *visit) setUpPage(st *step, name, session, key string) *page {
	p := v.newPage(st, "Set up an authenticator app")
	p.Intro = "Everybody here signs in with a second factor. Scan the picture with an authenticator app, or type the key into it. Then enter the code that the app shows."
	p.Key = newTokenKey(st.Pool().Name, name, key)
	p.Forms = []form{{Action: v.at(st, "/login/setup"), Submit: "Set up and sign in", Hidden: append(sealed(name, session), field{ID: "key", Value: key}), Fields: []field{
		codeOf("Code", "Six digits, from your authenticator app."),
		{ID: "device", Label: "Name of the app or phone", Type: "text", Value: st.get("device"), Optional: true, Autocomplete: "off"}}}}
	return p
}

// setUpToken is the form of setUpPage.
func (v *visit) setUpToken() {
	st := v.sent()
	if st == nil {
		return
	}
	name, session := st.get(nameField), st.secret("session")
	next, err := v.cfg.Pools.VerifySoftwareToken(v.r.Context(), st.Enrolment(session), digits(st.get(codeField)), st.get("device"))
	if err != nil {
		v.again(st, v.setUpPage(st, name, session.Reveal(), st.get("key")), err, codeField)
		return
	}
	o, err := v.cfg.Pools.Answer(v.r.Context(), st.Authorization, userpool.Answer{Challenge: "MFA_SETUP", Session: next,
		Responses: map[string]fleet.Secret{"USERNAME": fleet.Secret(name)}})
	if err != nil {
		v.again(st, v.loginPage(st), err)
		return
	}
	v.goOn(st, o)
}

// attributesOf lists the attributes that a form brings, of those that it was made for.
func attributesOf(form url.Values, names string) []string {
	var out []string
	for _, a := range strings.Fields(names) {
		if form.Has("attribute." + a) {
			out = append(out, a)
		}
	}
	return out
}
