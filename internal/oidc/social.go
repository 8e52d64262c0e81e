package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/jwt"
)

// Names of the public providers, as AWS writes them in Logins maps and trust policies.
const (
	Google   = "accounts.google.com"
	Apple    = "appleid.apple.com"
	Facebook = "graph.facebook.com"
	Amazon   = "www.amazon.com"
)

// Public reports whether name is a public provider that needs no provider of IAM.
func Public(name string) bool { return name == Google || name == Apple || Social(name) }

// Social reports whether a public provider has access tokens in place of Id tokens, so that it must be asked about each of them.
func Social(name string) bool { return name == Facebook || name == Amazon }

// WellKnown returns what is known of Google and Apple.
func WellKnown(name string) Provider {
	p := Provider{Issuer: "https://" + name}
	if name == Google {
		p.Aliases = []string{Google} // OpenID Connect of Google: "always https://accounts.google.com or accounts.google.com"
	}
	return p
}

// apiOf is where the public providers with access tokens are asked.
var apiOf = map[string]string{Facebook: "https://graph.facebook.com", Amazon: "https://api.amazon.com"}

const maxAnswer = 64 << 10

// at is where a public provider is reached: the operator may have named a stand-in.
func (v *Verifier) at(name string) string {
	if host := v.hosts[name]; host != "" {
		return host
	}
	return apiOf[name]
}

// VerifyPublic checks what a person of a public provider brings: an Id token of Google or Apple, an access token of Facebook or Amazon.
// It has to be for one of the apps: whatever token somebody gave to any other app is worth nothing here.
func (v *Verifier) VerifyPublic(ctx context.Context, name, token string, apps []string) (*Token, error) {
	if !Social(name) {
		p := WellKnown(name)
		if host := v.hosts[name]; host != "" { // a stand-in is an issuer of its own
			p = Provider{Issuer: host}
		}
		return v.Verify(ctx, p, token, Expect{Audiences: apps})
	}
	t, err := v.Ask(ctx, name, token)
	if err == nil && !slices.ContainsFunc(apps, func(app string) bool { return slices.Contains(t.Audiences, app) }) {
		return nil, fail(Audience, "the token is for another app")
	}
	return t, err
}

// Ask asks Facebook or Amazon whose an access token is and for which apps; whether they are the right ones is the caller's question.
func (v *Verifier) Ask(ctx context.Context, name, token string) (*Token, error) {
	if len(token) == 0 || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fail(Malformed, "the token is no access token of %s", name)
	}
	if name == Facebook {
		return v.askFacebook(ctx, token)
	}
	return v.askAmazon(ctx, token)
}

// askFacebook finds out the app before the person: GET /app is the only call that tells it without a secret of the app.
func (v *Verifier) askFacebook(ctx context.Context, token string) (*Token, error) {
	var app struct {
		ID string `json:"id"`
	}
	if err := v.ask(ctx, Facebook, "/app?fields=id", token, &app); err != nil {
		return nil, err
	}
	me := jwt.Claims{}
	if err := v.ask(ctx, Facebook, "/me?fields=id,name,email", token, &me); err != nil {
		return nil, err
	}
	return socialToken(Facebook, me, me.String("id"), app.ID)
}

// askAmazon asks what Login with Amazon's guide says every app must ask, since its tokens are good for the profile whatever app they were
// given to.
func (v *Verifier) askAmazon(ctx context.Context, token string) (*Token, error) {
	about := jwt.Claims{}
	if err := v.ask(ctx, Amazon, "/auth/o2/tokeninfo?access_token="+url.QueryEscape(token), "", &about); err != nil {
		return nil, err
	}
	t, err := socialToken(Amazon, about, about.String("user_id"), about.String("aud"), about.String("app_id"))
	if err != nil {
		return nil, err
	}
	n, _ := about["exp"].(json.Number)
	left, err := n.Int64() // seconds that it still lives
	if err != nil || left <= 0 {
		return nil, fail(Expired, "Token expired")
	}
	t.Expires = v.clock.Now().Add(time.Duration(min(left, 1<<30)) * time.Second)
	return t, nil
}

func socialToken(name string, claims jwt.Claims, subject string, apps ...string) (*Token, error) {
	apps = slices.DeleteFunc(apps, func(a string) bool { return a == "" })
	if subject == "" || len(subject) > maxSubject || len(apps) == 0 {
		return nil, fail(Misconfigured, "the answer of %s names no person or no app", name)
	}
	claims["sub"], claims["aud"] = subject, apps
	return &Token{Claims: claims, Subject: subject, Audience: apps[0], Audiences: apps}, nil
}

// ask makes one call. The token never is in an error: Amazon wants it in the URL, which the HTTP client's errors show.
func (v *Verifier) ask(ctx context.Context, name, path, bearer string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.at(name)+path, nil)
	if err != nil {
		return &Error{Misconfigured, "where " + name + " is reached is no URL", nil}
	}
	req.Header.Set("Accept", "application/json")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := v.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return &Error{Unreachable, "could not ask " + name, err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	switch {
	case err != nil:
		return &Error{Unreachable, "could not ask " + name, err}
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return &Error{Unreachable, "could not ask " + name, fmt.Errorf("it answered %s", res.Status)}
	case res.StatusCode != http.StatusOK:
		return fail(Rejected, "%s does not take the token", name)
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	if err := dec.Decode(out); err != nil {
		return &Error{Misconfigured, "the answer of " + name + " cannot be read", err}
	}
	return nil
}

// CheckHosts refuses what cannot stand in for public providers: a map of their names to https URLs.
func CheckHosts(hosts map[string]string) error {
	for name, host := range hosts {
		if !Public(name) {
			return fmt.Errorf("%q is none of %s, %s, %s, %s", name, Google, Apple, Facebook, Amazon)
		}
		if err := CheckIssuer(host); err != nil {
			return fleet.Invalid("", "", "%s=%q is not an https URL without query, like https://id.lan:9443", name, host)
		}
	}
	return nil
}
