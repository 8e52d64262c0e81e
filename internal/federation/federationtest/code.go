package federationtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/imprint-iot/imprint/internal/oidc/oidctest"
)

// A Code is an identity provider with codes (RFC 6749 section 4.1): of OpenID Connect, or one of the social ones. It holds whoever
// asks to what the real one demands, and signs its only user in without asking.
type Code struct {
	*oidctest.Issuer
	Type   string // of ProviderDetails
	Client string
	Secret string

	Subject string
	Claims  oidctest.Claims // of the user, in the Id token or the user information
	User    string          // Apple's form member of the first sign-in; "": none

	Bend      func(oidctest.Claims)                    // changes claims of the Id token
	Sign      func(testing.TB, oidctest.Claims) string // in place of the issuer
	UserInfo  func(oidctest.Claims)                    // changes the user information
	Answer    func(url.Values)                         // changes what the browser brings back
	BasicOnly bool                                     // takes the secret in a header alone

	t      testing.TB
	team   *ecdsa.PrivateKey // of Apple
	mu     sync.Mutex
	codes  map[string]asked
	tokens map[string]bool
	wrong  []string
	posted url.Values
}

// asked is what a code was given for.
type asked struct{ redirect, challenge, nonce string }

// NewCode starts a provider of a type. It ends with the test.
func NewCode(t testing.TB, providerType string) *Code {
	t.Helper()
	c := &Code{Issuer: oidctest.New(t), Type: providerType, Client: "imprint-client", Secret: "s3cret/+ of the client", Subject: "Subject-4711", t: t,
		Claims: oidctest.Claims{"email": "ada@example.com", "email_verified": true, "name": "Ada"}, codes: map[string]asked{}, tokens: map[string]bool{}}
	c.Serve = c.serve
	if providerType == "SignInWithApple" {
		var err error
		if c.team, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, w := range c.wrong {
			t.Errorf("the provider was spoken to wrongly: %s", w)
		}
	})
	return c
}

// Details are the ProviderDetails that name this provider in place of the real one.
func (c *Code) Details() map[string]string {
	d := map[string]string{"client_id": c.Client, "client_secret": c.Secret}
	switch c.Type {
	case "OIDC":
		maps.Copy(d, map[string]string{"oidc_issuer": c.URL, "authorize_scopes": "openid email", "attributes_request_method": "GET"})
		return d
	case "Google":
		maps.Copy(d, map[string]string{"authorize_scopes": "profile email openid", "oidc_issuer": c.URL, "jwks_uri": c.URL + "/keys"})
	case "SignInWithApple":
		der, err := x509.MarshalPKCS8PrivateKey(c.team)
		if err != nil {
			c.t.Fatal(err)
		}
		delete(d, "client_secret")
		maps.Copy(d, map[string]string{"authorize_scopes": "email name", "team_id": "TEAM123456", "key_id": "KEY1234567",
			"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "oidc_issuer": c.URL, "jwks_uri": c.URL + "/keys"})
	case "Facebook":
		d["authorize_scopes"] = "public_profile, email"
	case "LoginWithAmazon":
		d["authorize_scopes"] = "profile postal_code"
	}
	maps.Copy(d, map[string]string{"authorize_url": c.URL + "/authorize", "token_url": c.URL + "/token"})
	if c.Type != "SignInWithApple" {
		d["attributes_url"] = c.URL + "/userinfo"
	}
	return d
}

// Browse follows a redirect to the provider and returns what the browser brings back to us.
func (c *Code) Browse(redirect string) url.Values {
	c.t.Helper()
	client := *c.Server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Get(redirect)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	if c.Type == "SignInWithApple" {
		return c.form()
	}
	to, err := res.Location()
	if err != nil {
		c.t.Fatalf("the provider answers %s to %s", res.Status, redirect)
	}
	return to.Query()
}

// form is what was posted last, for Browse.
func (c *Code) form() url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.posted
}

func (c *Code) complain(w http.ResponseWriter, code int, format string, args ...any) bool {
	c.mu.Lock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"error":"invalid_request","error_description":%q}`, fmt.Sprintf(format, args...))
	return true
}

func (c *Code) serve(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/realm/authorize":
		return c.authorize(w, r)
	case "/realm/token":
		return c.token(w, r)
	case "/realm/userinfo":
		return c.userInfo(w, r)
	}
	return false
}

// openID says that the provider has Id tokens.
func (c *Code) openID() bool {
	return c.Type == "OIDC" || c.Type == "Google" || c.Type == "SignInWithApple"
}

func (c *Code) authorize(w http.ResponseWriter, r *http.Request) bool {
	q := r.URL.Query()
	switch {
	case q.Get("response_type") != "code", q.Get("client_id") != c.Client, q.Get("redirect_uri") == "", q.Get("state") == "":
		return c.complain(w, 400, "the request for a code is %v", q)
	case c.openID() && q.Get("nonce") == "":
		return c.complain(w, 400, "no nonce")
	case (c.Type == "OIDC" || c.Type == "Google") && !slices.Contains(strings.Fields(q.Get("scope")), "openid"):
		return c.complain(w, 400, "no openid among the scopes %q", q.Get("scope"))
	case c.Type == "SignInWithApple" && q.Get("response_mode") != "form_post":
		return c.complain(w, 400, "Apple wants response_mode=form_post for name and email")
	case q.Get("code_challenge") != "" && q.Get("code_challenge_method") != "S256":
		return c.complain(w, 400, "a challenge of another method")
	}
	answer := url.Values{"code": {rand.Text()}, "state": {q.Get("state")}}
	if c.Type == "SignInWithApple" && c.User != "" {
		answer.Set("user", c.User)
	}
	c.mu.Lock()
	c.codes[answer.Get("code")] = asked{q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce")}
	if c.Answer != nil {
		c.Answer(answer)
	}
	c.posted = answer
	c.mu.Unlock()
	if q.Get("response_mode") == "form_post" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>Apple</title><body onload="document.forms[0].submit()"><form method="post" action="%s">`, html.EscapeString(q.Get("redirect_uri")))
		for name := range answer {
			fmt.Fprintf(w, `<input type="hidden" name="%s" value="%s">`, name, html.EscapeString(answer.Get(name)))
		}
		fmt.Fprint(w, `<button>Go on</button></form>`)
		return true
	}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
	return true
}

// proven looks at who trades a code (RFC 6749 section 2.3.1; Apple: a token signed by the team's key).
func (c *Code) proven(r *http.Request) string {
	if c.Type == "SignInWithApple" {
		return c.provenToApple(r.PostForm.Get("client_secret"))
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(password)
	} else if c.BasicOnly {
		return "the secret is not in a header"
	}
	if id != c.Client || secret != c.Secret {
		return fmt.Sprintf("the client is %q with the secret %q", id, secret)
	}
	return ""
}

func (c *Code) provenToApple(secret string) string {
	s, err := jose.ParseSignedCompact(secret, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return "the client secret is no token of ES256: " + err.Error()
	}
	payload, err := s.Verify(&c.team.PublicKey)
	var claims struct {
		Iss, Aud, Sub string
		Iat, Exp      int64
	}
	now := time.Now().Unix()
	switch {
	case err != nil, s.Signatures[0].Header.KeyID != "KEY1234567", json.Unmarshal(payload, &claims) != nil:
		return fmt.Sprintf("the client secret is not signed by the team's key: %v", err)
	case claims.Iss != "TEAM123456", claims.Aud != c.URL, claims.Sub != c.Client, claims.Iat > now+60, claims.Exp <= now, claims.Exp > now+15777000:
		return fmt.Sprintf("the client secret says %+v", claims)
	}
	return ""
}

func (c *Code) token(w http.ResponseWriter, r *http.Request) bool {
	if err := r.ParseForm(); err != nil || r.Method != http.MethodPost {
		return c.complain(w, 400, "the code is not posted: %s %v", r.Method, err)
	}
	if why := c.proven(r); why != "" {
		return c.complain(w, 401, "%s", why)
	}
	c.mu.Lock()
	a, known := c.codes[r.PostForm.Get("code")]
	delete(c.codes, r.PostForm.Get("code"))
	c.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case !known:
		w.WriteHeader(400)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return true
	case r.PostForm.Get("grant_type") != "authorization_code", r.PostForm.Get("redirect_uri") != a.redirect:
		return c.complain(w, 400, "the code is traded with %v", r.PostForm)
	case a.challenge != "" && base64.RawURLEncoding.EncodeToString(sum[:]) != a.challenge:
		return c.complain(w, 400, "the verifier does not fit the challenge")
	}
	out := map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 3600}
	c.mu.Lock()
	c.tokens[out["access_token"].(string)] = true
	c.mu.Unlock()
	if c.openID() {
		claims := c.Issuer.Claims(c.Client, c.Subject, time.Now(), oidctest.Claims{"nonce": a.nonce})
		if c.Type == "SignInWithApple" {
			maps.Copy(claims, c.Claims)
		}
		if c.Bend != nil {
			c.Bend(claims)
		}
		sign := c.Sign
		if sign == nil {
			sign = func(t testing.TB, claims oidctest.Claims) string {
				change := maps.Clone(claims)
				for name := range c.Issuer.Claims("", "", time.Now(), nil) {
					if _, kept := claims[name]; !kept {
						change[name] = nil
					}
				}
				return c.Issuer.Token(t, c.Client, c.Subject, change)
			}
		}
		out["id_token"] = sign(c.t, claims)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		return c.complain(w, 500, "%v", err)
	}
	return true
}

// userInfo is OpenID Connect's, Facebook's /me or Amazon's /user/profile.
func (c *Code) userInfo(w http.ResponseWriter, r *http.Request) bool {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.mu.Lock()
	known := c.tokens[token]
	c.mu.Unlock()
	if !known {
		return c.complain(w, 401, "the access token %q is not of here", token)
	}
	claims := oidctest.Claims{}
	switch c.Type {
	case "Facebook":
		mac := hmac.New(sha256.New, []byte(c.Secret))
		mac.Write([]byte(token))
		if r.URL.Query().Get("appsecret_proof") != hex.EncodeToString(mac.Sum(nil)) {
			return c.complain(w, 400, "the proof of the secret is wrong")
		}
		for _, name := range strings.Split(r.URL.Query().Get("fields"), ",") { // and nothing else
			if v, ok := c.Claims[name]; ok {
				claims[name] = v
			}
		}
		claims["id"] = c.Subject
	case "LoginWithAmazon":
		maps.Copy(claims, c.Claims)
		claims["user_id"] = c.Subject
	default:
		maps.Copy(claims, c.Claims)
		claims["sub"] = c.Subject
	}
	if c.UserInfo != nil {
		c.UserInfo(claims)
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(claims); err != nil {
		return c.complain(w, 500, "%v", err)
	}
	return true
}
