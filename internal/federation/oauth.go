package federation

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
	"github.com/imprint-iot/imprint/internal/oidc"
)

// endpoints are where a provider is spoken to.
type endpoints struct {
	authorize, token, attributes string
	keys                         string // "": by discovery
	basic                        bool   // the client's secret goes into a header
	tellsIssuer                  bool   // the provider promises iss in its answers (RFC 9207)
}

// endpoints are those that the administrator gave, and the discovery document's for the rest.
func (c *Service) endpoints(ctx context.Context, p Provider) (endpoints, error) {
	d := p.Details
	e := endpoints{authorize: d[authorizeURL], token: d[tokenURL], attributes: d[attributeURL], keys: d[keysURL]}
	if p.Type != TypeOIDC || e.authorize != "" && e.token != "" && e.keys != "" {
		return e, nil
	}
	m, err := c.tokens.Discover(ctx, oidc.Provider{Issuer: d[issuerURL]})
	if err != nil {
		return e, tokenError(err)
	}
	for at, found := range map[*string]string{&e.authorize: m.AuthorizationEndpoint, &e.token: m.TokenEndpoint, &e.attributes: m.UserInfoEndpoint, &e.keys: m.KeysURL} {
		if *at == "" {
			*at = found
		}
	}
	if e.authorize == "" || e.token == "" {
		return e, setup("The discovery document of %s names no authorization_endpoint or no token_endpoint.", d[issuerURL])
	}
	e.basic, e.tellsIssuer = !slices.Contains(m.TokenAuthMethods, "client_secret_post"), m.TellsIssuer
	return e, nil
}

// beginCode asks for a code (RFC 6749 section 4.1.1).
func (c *Service) beginCode(ctx context.Context, p Provider, us Us, state string, ask Ask) (string, Pending, error) {
	e, err := c.endpoints(ctx, p)
	if err != nil {
		return "", Pending{}, err
	}
	to, err := url.Parse(e.authorize)
	if err != nil {
		return "", Pending{}, setup("The authorize_url is no URL.")
	}
	k, pending := kinds[p.Type], Pending{}
	asked := splitScopes(p.Details[scopes])
	q := to.Query()
	q.Set("response_type", "code")
	q.Set("client_id", p.Details[clientID])
	q.Set("redirect_uri", us.Callback)
	q.Set("state", state)
	if k.openID {
		if pending.Nonce = rand.Text(); !slices.Contains(asked, "openid") && p.Type == TypeGoogle {
			asked = append(asked, "openid")
		}
		q.Set("nonce", pending.Nonce)
	}
	if p.proves() {
		pending.Verifier = fleet.RandomString(64, fleet.AlphaAlnum)
		q.Set("code_challenge", challenge(pending.Verifier))
		q.Set("code_challenge_method", "S256")
	}
	switch p.Type {
	case TypeApple:
		q.Set("response_mode", "form_post") // Apple demands it of whoever asks for name or email
	case TypeOIDC, TypeGoogle:
		set(q, "login_hint", ask.LoginHint)
		set(q, "prompt", ask.Prompt)
	}
	q.Set("scope", strings.Join(asked, p.scopeSeparator()))
	to.RawQuery = q.Encode()
	return to.String(), pending, nil
}

// proves says that a provider is sent a challenge of RFC 7636. Those that don't know it pass it over (RFC 6749 section 3.1); of Facebook
// and Apple nothing is known that they do with it.
func (p Provider) proves() bool { return p.Type != TypeFacebook && p.Type != TypeApple }

func (p Provider) scopeSeparator() string {
	if p.Type == TypeFacebook {
		return ","
	}
	return " "
}

func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

// Errors that a provider may give in place of a code (RFC 6749 section 4.1.2.1, OpenID Connect Core 3.1.2.6, and what Apple and Facebook
// say). Others are not passed on: a browser brought them.
var knownErrors = []string{"access_denied", "temporarily_unavailable", "server_error", "invalid_request", "unauthorized_client", "invalid_scope",
	"unsupported_response_type", "interaction_required", "login_required", "account_selection_required", "consent_required", "user_cancelled_authorize"}

const maxCode = 4096

// finishCode trades a code for what the provider says of somebody.
func (c *Service) finishCode(ctx context.Context, p Provider, us Us, pending Pending, answer url.Values) (Identity, error) {
	e, err := c.endpoints(ctx, p)
	if err != nil {
		return Identity{}, err
	}
	if err := p.checkIssuer(e, answer); err != nil {
		return Identity{}, err
	}
	if code := answer.Get("error"); code != "" {
		if !slices.Contains(knownErrors, code) {
			code = "server_error"
		}
		return Identity{}, &Error{Fault: Denied, Code: code, Msg: "The identity provider did not sign you in: " + code}
	}
	code := answer.Get("code")
	if code == "" || len(code) > maxCode || len(answer["code"]) > 1 {
		return Identity{}, refused("The identity provider's answer has no code.")
	}
	tokens, err := c.exchange(ctx, p, e, us, pending, code)
	if err != nil {
		return Identity{}, err
	}
	id, err := c.identify(ctx, p, e, pending, tokens)
	if err != nil {
		return Identity{}, err
	}
	if p.Type == TypeApple {
		addAppleName(id.Claims, answer.Get("user"))
	}
	for name, token := range map[string]string{"access_token": tokens.Access, "id_token": tokens.ID} { // AWS maps tokens to attributes for those who want them
		if slices.Contains(slices.Collect(maps.Values(p.Mapping)), name) && token != "" {
			id.Claims[name] = token
		}
	}
	return id, nil
}

// checkIssuer refuses an answer of one provider to a question that another one was asked (RFC 9207 section 2.4).
func (p Provider) checkIssuer(e endpoints, answer url.Values) error {
	said, present := answer["iss"]
	switch want := p.Details[issuerURL]; {
	case want == "" || !present && !e.tellsIssuer:
		return nil
	case len(said) != 1 || !oidc.SameIssuer(said[0], want) && !slices.Contains(aliases(p), said[0]):
		return refused("The answer is not of the identity provider that was asked.")
	}
	return nil
}

// tokens are what a code is good for (RFC 6749 section 5.1).
type tokens struct {
	Access string `json:"access_token"`
	ID     string `json:"id_token"`
	Type   string `json:"token_type"`
}

// exchange trades the code (RFC 6749 section 4.1.3). It posts, whatever token_request_method says: a secret does not belong into URLs.
func (c *Service) exchange(ctx context.Context, p Provider, e endpoints, us Us, pending Pending, code string) (t tokens, err error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {us.Callback}, clientID: {p.Details[clientID]}}
	set(form, "code_verifier", pending.Verifier)
	secret := p.Details[clientSecret]
	if p.Type == TypeApple {
		if secret, err = appleSecret(p.Details, c.clock.Now()); err != nil {
			return t, setup("%v", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.token, nil)
	if err != nil {
		return t, setup("The token_url is no URL.")
	}
	if e.basic && secret != "" { // RFC 6749 section 2.3.1 wants both escaped
		req.SetBasicAuth(url.QueryEscape(p.Details[clientID]), url.QueryEscape(secret))
	} else {
		set(form, clientSecret, secret)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	body := form.Encode()
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	if err := c.call(req, "its token endpoint", &t); err != nil {
		return t, err
	}
	if t.Access == "" || t.Type != "" && !strings.EqualFold(t.Type, "Bearer") {
		return t, refused("The identity provider gave no access token of type Bearer.")
	}
	return t, nil
}

// call makes a request whose answer is a JSON object.
func (c *Service) call(req *http.Request, what string, out any) error {
	req.Header.Set("Accept", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return unavailable(what, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return unavailable(what, err)
	}
	if res.StatusCode != http.StatusOK {
		return notOK(res.StatusCode, what, body)
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(out); err != nil {
		return &Error{Fault: Setup, Msg: "The answer of " + what + " is no JSON object", Err: errors.New("it cannot be read")}
	}
	return nil
}

// notOK tells apart what a provider answers in place of tokens (RFC 6749 section 5.2). Its description is for the log only.
func notOK(status int, what string, body []byte) error {
	var e struct {
		Error       any    `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &e) // what is no JSON says nothing
	code, _ := e.Error.(string)
	cause := fmt.Errorf("it answered %d %.60s %.200q", status, code, e.Description)
	switch {
	case status >= 500 || status == http.StatusTooManyRequests:
		return unavailable(what, cause)
	case code == "invalid_grant":
		return &Error{Fault: Refused, Msg: "The identity provider does not take the code", Err: cause}
	}
	return &Error{Fault: Setup, Msg: "The identity provider refused us at " + what, Err: cause}
}

// identify finds out whom the tokens are about.
func (c *Service) identify(ctx context.Context, p Provider, e endpoints, pending Pending, t tokens) (Identity, error) {
	if kinds[p.Type].openID {
		return c.identifyOpenID(ctx, p, e, pending, t)
	}
	claims, err := c.attributes(ctx, p, e, t)
	if err != nil {
		return Identity{}, err
	}
	subject, ok := Text(claims[kinds[p.Type].subject])
	if !ok || subject == "" {
		return Identity{}, refused("The identity provider did not say who you are.")
	}
	return Identity{Subject: subject, Claims: claims}, nil
}

// attributes asks what the provider knows of the owner of an access token.
func (c *Service) attributes(ctx context.Context, p Provider, e endpoints, t tokens) (jwt.Claims, error) {
	at, err := url.Parse(e.attributes)
	if err != nil {
		return nil, setup("The attributes_url is no URL.")
	}
	q := at.Query()
	if p.Details[addNames] == "true" {
		q.Set("fields", p.names())
	}
	if p.Type == TypeFacebook { // proves that the token comes from whoever has the secret
		mac := hmac.New(sha256.New, []byte(p.Details[clientSecret]))
		mac.Write([]byte(t.Access))
		q.Set("appsecret_proof", hex.EncodeToString(mac.Sum(nil)))
	}
	at.RawQuery = q.Encode()
	method := http.MethodGet
	if p.Details[requestBy] == "POST" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, setup("The attributes_url is no URL.")
	}
	req.Header.Set("Authorization", "Bearer "+t.Access)
	claims := jwt.Claims{}
	if err := c.call(req, "its user information", &claims); err != nil {
		return nil, err
	}
	if claims == nil {
		return nil, refused("The identity provider did not say who you are.")
	}
	return claims, nil
}

// names lists the claims that the mapping wants, for providers that have to be asked for each.
func (p Provider) names() string {
	names := slices.Collect(maps.Values(p.Mapping))
	if claim := p.Details[groupsClaim]; claim != "" {
		names = append(names, claim)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "access_token" || n == "id_token" })
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
