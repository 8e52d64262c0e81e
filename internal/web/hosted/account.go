package hosted

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// attributeField is the input for an attribute of a user.
func attributeField(name, value string) field {
	f := field{ID: "attribute." + name, Label: label(name), Type: "text", Value: value}
	switch name {
	case "email":
		f.Type, f.InputMode, f.Autocomplete = "email", "email", "email"
	case "phone_number":
		f.Type, f.InputMode, f.Autocomplete, f.Hint = "tel", "tel", "tel", "With the country code, for example +4915112345678."
	case "birthdate":
		f.Type, f.Autocomplete = "date", "bday"
	case "given_name":
		f.Autocomplete = "given-name"
	case "family_name":
		f.Autocomplete = "family-name"
	case "name":
		f.Autocomplete = "name"
	}
	return f
}

// label makes words of an attribute's name: "Family name", "Site".
func label(name string) string {
	text := strings.ReplaceAll(strings.TrimPrefix(name, "custom:"), "_", " ")
	if text == "" {
		return name
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func count(n int) string { return strconv.Itoa(n) }

// missingAttributes lists what NEW_PASSWORD_REQUIRED asks for.
func missingAttributes(o userpool.Outcome) []string {
	var names []string
	if json.Unmarshal([]byte(o.Parameters["requiredAttributes"]), &names) != nil {
		return nil
	}
	for i, n := range names {
		names[i] = strings.TrimPrefix(n, "userAttributes.")
	}
	return names
}

// signUpPage asks for a new account.
func (v *visit) signUpPage(st *step) *page {
	p := v.newPage(st, "Sign up")
	f := form{Action: v.at(st, "/signup"), Submit: "Sign up", Fields: []field{nameOf(st.Pool(), st.get(nameField))}}
	for _, a := range st.SignUpAttributes() {
		f.Fields = append(f.Fields, attributeField(a, st.get("attribute."+a)))
	}
	password := newPasswordOf(st.Pool())
	password.Label = "Password"
	f.Fields = append(f.Fields, password)
	p.Forms = []form{f}
	p.Links = []link{{Before: "Have an account?", Text: "Sign in", Address: v.at(st, "/login")}}
	return p
}

func (v *visit) showSignUp() {
	st := v.shown()
	switch {
	case st == nil:
	case !st.TakesSignUps():
		v.fail(http.StatusBadRequest, "Nobody signs up here by themselves: ask whoever runs this to make an account for you.")
	default:
		v.show(http.StatusOK, v.signUpPage(st))
	}
}

// signUp is the form of signUpPage.
func (v *visit) signUp() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	attributes := map[string]string{}
	for _, a := range st.SignUpAttributes() {
		if value := strings.TrimSpace(st.get("attribute." + a)); value != "" {
			attributes[a] = value
		}
	}
	made, err := v.cfg.Pools.SignUp(v.r.Context(), st.Registration(name, st.secret(passwordField), attributes))
	switch {
	case err != nil:
		status, text := v.words(err)
		v.wrong(v.signUpPage(st), status, text, blamed(err)...)
	case made.Confirmed || made.Delivery == nil:
		p := v.newPage(st, "Account made")
		if p.Intro = "Your account is ready."; !made.Confirmed {
			p.Intro = "Your account has to be confirmed by whoever runs this. Sign in after that."
		}
		p.Links = []link{{Text: "Sign in", Address: v.at(st, "/login")}}
		v.show(http.StatusOK, p)
	default:
		v.show(http.StatusOK, v.confirmPage(st, name, "A code was sent to "+made.Delivery.Destination+"."))
	}
}

// blamed guesses which fields an error is about.
func blamed(err error) []string {
	var out []string
	text := strings.ToLower(err.Error())
	for word, id := range map[string]string{"password": passwordField, "username": nameField, "user already": nameField, "account with": nameField,
		"email": "attribute.email", "phone": "attribute.phone_number"} {
		if strings.Contains(text, word) {
			out = append(out, id)
		}
	}
	return out
}

// confirmPage asks for the code of a sign-up.
func (v *visit) confirmPage(st *step, name, intro string) *page {
	p := v.newPage(st, "Confirm your account")
	p.Intro = intro
	hidden := []field{{ID: nameField, Value: name}}
	p.Forms = []form{
		{Action: v.at(st, "/confirmUser"), Submit: "Confirm", Hidden: hidden, Fields: []field{codeOf("Code", "Six digits, from the message.")}},
		{Action: v.at(st, "/resendcode"), Submit: "Send another code", Hidden: hidden, Minor: true},
	}
	return p
}

func (v *visit) showConfirm() {
	if strings.Contains(v.r.URL.RawQuery, "confirmation_code=") {
		v.followed()
		return
	}
	if st := v.shown(); st != nil {
		p := v.confirmPage(st, "", "")
		p.Forms = p.Forms[:1]
		p.Forms[0].Hidden = nil
		p.Forms[0].Fields = append([]field{nameOf(st.Pool(), v.hint())}, p.Forms[0].Fields...)
		v.show(http.StatusOK, p)
	}
}

// followed confirms a sign-up by the link of its mail, at once as with AWS. No request of an app goes with it.
func (v *visit) followed() {
	query, err := parseForm(v.r.URL.RawQuery, maxQuery)
	if err != nil {
		v.fail(http.StatusBadRequest, "The link cannot be read: "+err.Error()+".")
		return
	}
	if v.r.Method == http.MethodGet { // who only looks where it leads confirms nothing
		if err := v.cfg.Pools.ConfirmByLink(v.r.Context(), v.site, query.Get("client_id"), query.Get("user_name"), fleet.Secret(query.Get("confirmation_code"))); err != nil {
			v.failed(err)
			return
		}
	}
	v.show(http.StatusOK, &page{Title: "Account confirmed", Intro: "Your account is confirmed. Go back to the app and sign in."})
}

// confirm is the form of confirmPage.
func (v *visit) confirm() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	if err := v.cfg.Pools.ConfirmSignUp(v.r.Context(), st.CodeRequest(name), digits(st.get(codeField)), false); err != nil {
		status, text := v.words(err)
		v.wrong(v.confirmPage(st, name, ""), status, text, codeField)
		return
	}
	p := v.loginPage(st)
	p.Notice = "Your account is confirmed. Sign in."
	v.show(http.StatusOK, p)
}

// resend is the second form of confirmPage.
func (v *visit) resend() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	d, err := v.cfg.Pools.ResendCode(v.r.Context(), st.CodeRequest(name))
	if err != nil {
		status, text := v.words(err)
		v.wrong(v.confirmPage(st, name, ""), status, text)
		return
	}
	v.show(http.StatusOK, v.confirmPage(st, name, "Another code was sent to "+d.Destination+"."))
}

// forgotPage asks whose password was forgotten.
func (v *visit) forgotPage(st *step) *page {
	p := v.newPage(st, "Forgot your password?")
	p.Intro = "A code will be sent to you, with which you can set a new one."
	p.Forms = []form{{Action: v.at(st, "/forgotPassword"), Submit: "Send a code", Fields: []field{nameOf(st.Pool(), st.get(nameField))}}}
	p.Links = []link{{Text: "Back to sign-in", Address: v.at(st, "/login")}}
	return p
}

func (v *visit) showForgot() {
	if st := v.shown(); st != nil {
		v.show(http.StatusOK, v.forgotPage(st))
	}
}

// forgot is the form of forgotPage.
func (v *visit) forgot() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	if name == "" {
		v.wrong(v.forgotPage(st), http.StatusBadRequest, "Enter your name.", nameField)
		return
	}
	d, err := v.cfg.Pools.ForgotPassword(v.r.Context(), st.CodeRequest(name))
	if err != nil {
		status, text := v.words(err)
		v.wrong(v.forgotPage(st), status, text, nameField)
		return
	}
	v.show(http.StatusOK, v.recoverPage(st, name, "A code was sent to "+d.Destination+"."))
}

// recoverPage asks for the code and a new password.
func (v *visit) recoverPage(st *step, name, intro string) *page {
	p := v.newPage(st, "Set a new password")
	p.Intro = intro
	p.Forms = []form{{Action: v.at(st, "/confirmForgotPassword"), Submit: "Set password", Hidden: []field{{ID: nameField, Value: name}},
		Fields: []field{codeOf("Code", "Six digits, from the message."), newPasswordOf(st.Pool())}}}
	p.Links = []link{{Text: "Send another code", Address: v.at(st, "/forgotPassword")}}
	return p
}

// recover is the form of recoverPage.
func (v *visit) recover() {
	st := v.sent()
	if st == nil {
		return
	}
	name := strings.TrimSpace(st.get(nameField))
	if err := v.cfg.Pools.ConfirmForgotPassword(v.r.Context(), st.CodeRequest(name), digits(st.get(codeField)), st.secret(passwordField)); err != nil {
		status, text := v.words(err)
		wrong := codeField
		if c := codeOfError(err); c == "InvalidPasswordException" || c == "PasswordHistoryPolicyViolationException" {
			wrong = passwordField
		}
		v.wrong(v.recoverPage(st, name, ""), status, text, wrong)
		return
	}
	p := v.loginPage(st)
	p.Notice = "Your password is set. Sign in with it."
	v.show(http.StatusOK, p)
}

// codeOfError is the API's code of an error, "" if it has none.
func codeOfError(err error) string {
	var e *fleet.Error
	if !errors.As(err, &e) {
		return ""
	}
	return e.Code
}
