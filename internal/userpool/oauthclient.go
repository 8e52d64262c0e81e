package userpool

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Flows of OAuth, as AllowedOAuthFlows names them.
const (
	codeFlow        = "code"
	implicitFlow    = "implicit"
	credentialsFlow = "client_credentials"
)

func invalidFlow(msg string) *fleet.Error {
	return fail(fleet.KindInvalid, "InvalidOAuthFlowException", msg)
}

// checkOAuth refuses settings of OAuth that contradict each other, or name what does not exist.
func checkOAuth(tx *store.Tx, p *Pool, c *Client) error {
	for _, u := range slices.Concat(c.CallbackURLs, c.LogoutURLs) {
		if why := badRedirect(u); why != "" {
			return invalid("Invalid redirect URI " + u + ": " + why)
		}
	}
	if c.DefaultRedirect != "" && !slices.Contains(c.CallbackURLs, c.DefaultRedirect) {
		return invalid("Default Redirect URI is not in the list of Redirect URIs.")
	}
	for _, scope := range c.OAuthScopes {
		if exists, err := scopeExists(tx, p, scope); err != nil || !exists {
			return orElse(err, fail(fleet.KindInvalid, "ScopeDoesNotExistException", "Invalid scope requested: "+scope))
		}
	}
	if c.OAuth && (len(c.OAuthFlows) == 0 || len(c.OAuthScopes) == 0) {
		return invalid("AllowedOAuthFlows and AllowedOAuthScopes are required if user pool client is allowed to use OAuth flows.")
	}
	byItself := slices.Contains(c.OAuthFlows, credentialsFlow)
	byUser := slices.Contains(c.OAuthFlows, codeFlow) || slices.Contains(c.OAuthFlows, implicitFlow)
	switch {
	case byItself && byUser:
		return invalidFlow("client_credentials flow can not be selected along with code flow or implicit flow.")
	case byItself && c.Secret == "":
		return invalidFlow("client_credentials flow can not be selected if client does not have a client secret.")
	case byItself && slices.ContainsFunc(c.OAuthScopes, func(s string) bool { return slices.Contains(ownScopes, s) }):
		return invalidFlow("client_credentials flow can not be selected along with scopes openid, phone, email, profile and aws.cognito.signin.user.admin.")
	case c.OAuth && byUser && len(c.CallbackURLs) == 0:
		return invalid("CallbackURLs is required for the flows code and implicit.")
	}
	return nil
}

// badRedirect says why an app cannot be sent back to an address; "" if it can. It must be absolute and without a fragment, and https but for
// this machine and for apps with a scheme of their own (identity spec 1.12). Browsers would run javascript: and show data: as ours.
func badRedirect(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || strings.ContainsAny(text, " \\\"<>") {
		return "it must be an absolute address."
	}
	switch strings.ToLower(u.Scheme) {
	case "https":
		if u.Host == "" {
			return "it must name a host."
		}
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "it must begin with https://; http:// is for localhost only."
		}
	case "javascript", "data", "vbscript", "file", "blob", "about", "view-source", "filesystem":
		return "this scheme is not allowed."
	}
	if u.Fragment != "" || strings.Contains(text, "#") {
		return "it must not have a fragment (#)."
	}
	if u.User != nil {
		return "it must not have a user name."
	}
	return ""
}

// signsInWith reports whether people may sign in to the client with a provider; one that names none takes the pool's own users.
func (c *Client) signsInWith(provider string) bool {
	if len(c.Providers) == 0 {
		return provider == OwnProvider
	}
	return slices.Contains(c.Providers, provider)
}

// OwnProvider is what SupportedIdentityProviders calls the users of the pool itself.
const OwnProvider = "COGNITO"
