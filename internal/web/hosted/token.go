package hosted

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// form reads the body of a POST.
func (v *visit) form() (url.Values, error) { return v.formOf(maxQuery) }

// formOf is form for one of at most limit bytes.
func (v *visit) formOf(limit int) (url.Values, error) {
	if t, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, errors.New("the request must have Content-Type application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(io.LimitReader(v.r.Body, int64(limit)+1))
	if err != nil {
		return nil, errors.New("the request could not be read")
	}
	return parseForm(string(body), limit)
}

// clientOf reads how a client proves itself: by the header Authorization or in the form (RFC 6749 section 2.3.1), not by both.
func clientOf(authorization string, form url.Values) (id string, secret fleet.Secret, err error) {
	id, secret = form.Get("client_id"), fleet.Secret(form.Get("client_secret"))
	if authorization == "" {
		return id, secret, nil
	}
	user, password, ok := (&http.Request{Header: http.Header{"Authorization": {authorization}}}).BasicAuth()
	name, err1 := url.QueryUnescape(user)
	text, err2 := url.QueryUnescape(password)
	switch {
	case !ok || err1 != nil || err2 != nil:
		return "", "", errors.New("the header Authorization must be Basic, with id and secret of the client")
	case secret != "":
		return "", "", errors.New("the client's secret is in the header Authorization and in the form: send it once")
	case id != "" && id != name:
		return "", "", errors.New("client_id in the form is not the client of the header Authorization")
	}
	return name, fleet.Secret(text), nil
}

// called reads what an app sends by itself: its form and who it is. ok is false if the answer has been written.
func (v *visit) called() (form url.Values, id string, secret fleet.Secret, ok bool) {
	form, err := v.form()
	if err == nil {
		id, secret, err = clientOf(v.r.Header.Get("Authorization"), form)
	}
	if err != nil {
		v.oauthError(http.StatusBadRequest, "invalid_request", err.Error())
	}
	return form, id, secret, err == nil
}

// token is POST /oauth2/token.
func (v *visit) token() {
	form, id, secret, ok := v.called()
	if !ok {
		return
	}
	t, err := v.cfg.Pools.Token(v.r.Context(), v.site, userpool.TokenRequest{Grant: form.Get("grant_type"), Client: id, Secret: secret,
		Code: fleet.Secret(form.Get("code")), Redirect: form.Get("redirect_uri"), Verifier: fleet.Secret(form.Get("code_verifier")),
		Refresh: fleet.Secret(form.Get("refresh_token")), Scope: form.Get("scope")})
	if err != nil {
		v.refuse(http.StatusBadRequest, err)
		return
	}
	out := map[string]any{"access_token": t.Access.Reveal(), "token_type": "Bearer", "expires_in": t.ExpiresIn}
	if t.ID != "" {
		out["id_token"] = t.ID.Reveal()
	}
	if t.Refresh != "" {
		out["refresh_token"] = t.Refresh.Reveal()
	}
	v.json(http.StatusOK, out)
}

// revoke is POST /oauth2/revoke.
func (v *visit) revoke() {
	form, id, secret, ok := v.called()
	if !ok {
		return
	}
	if err := v.cfg.Pools.RevokeAtSite(v.r.Context(), v.site, id, secret, fleet.Secret(form.Get("token"))); err != nil {
		v.refuse(http.StatusUnauthorized, err)
		return
	}
	v.w.WriteHeader(http.StatusOK)
}

// userInfo is GET or POST /oauth2/userInfo.
func (v *visit) userInfo() {
	scheme, token, _ := strings.Cut(v.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		v.w.Header().Set("WWW-Authenticate", `Bearer error="invalid_request", error_description="The header Authorization must be Bearer and an access token"`)
		v.oauthError(http.StatusBadRequest, "invalid_request", "The header Authorization must be Bearer and an access token.")
		return
	}
	info, err := v.cfg.Pools.UserInfo(v.r.Context(), v.site, fleet.Secret(strings.TrimSpace(token)))
	var e *fleet.Error
	switch {
	case err == nil:
		v.json(http.StatusOK, info)
	case errors.As(err, &e) && (e.Kind == fleet.KindDenied || e.Kind == fleet.KindNotFound || e.Kind == fleet.KindState):
		v.w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+strings.NewReplacer(`"`, "", `\`, "").Replace(e.Msg)+`"`)
		v.oauthError(http.StatusUnauthorized, "invalid_token", e.Msg)
	default:
		v.refuse(http.StatusBadRequest, err)
	}
}

// oauthCodes translates errors of the API's operations, which the endpoints share.
var oauthCodes = map[string]string{"UnsupportedTokenTypeException": "unsupported_token_type", "UnsupportedOperationException": "invalid_request",
	"NotAuthorizedException": "invalid_grant"}

// refuse answers an app's call with an error of RFC 6749. unproven is the status where the client has not proven itself.
func (v *visit) refuse(unproven int, err error) {
	var e *fleet.Error
	if !errors.As(err, &e) {
		e = &fleet.Error{Kind: fleet.KindInternal}
	}
	code := e.Code
	if c, ok := oauthCodes[code]; ok {
		code = c
	}
	switch e.Kind {
	case fleet.KindInternal, fleet.KindUnavailable:
		v.log(err)
		v.oauthError(http.StatusInternalServerError, "server_error", "")
	case fleet.KindThrottled:
		v.w.Header().Set("Retry-After", retryAfter(e))
		v.oauthError(http.StatusTooManyRequests, "temporarily_unavailable", "Too many requests from this address have come to nothing. Try again later.")
	default:
		status := http.StatusBadRequest
		if code == "invalid_client" {
			status = unproven
		}
		v.oauthError(status, code, e.Msg)
	}
}

func (v *visit) oauthError(status int, code, description string) {
	out := map[string]string{"error": code}
	if description != "" {
		out["error_description"] = description
	}
	v.json(status, out)
}

func (v *visit) json(status int, out any) {
	body, err := json.Marshal(out)
	if err != nil {
		v.log(err)
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	v.w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	v.w.Header().Set("Pragma", "no-cache")
	v.w.WriteHeader(status)
	v.w.Write(body)
}

// retryAfter is the header for a refusal that a budget has made.
func retryAfter(e *fleet.Error) string {
	return strconv.Itoa(max(1, int(e.RetryAfter.Seconds())))
}
