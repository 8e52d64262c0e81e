package compat

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	idp "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

// A relying is a user pool whose people sign in at a provider.
type relying struct {
	site         *site
	admin        *sdk
	pool, client string
	pages        string // address of the pool's domain
	back         string // of the app
	roots        *x509.CertPool
}

// newRelying makes a pool with a domain on a server that may call what listens on loopback.
func newRelying(t *testing.T, prefix string, rootFiles ...string) *relying {
	t.Helper()
	all := filepath.Join(t.TempDir(), "egress.pem")
	for _, f := range rootFiles {
		text, err := os.ReadFile(f)
		check(t, err)
		out, err := os.OpenFile(all, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		check(t, err)
		_, err = out.Write(text)
		check(t, err)
		check(t, out.Close())
	}
	s := ownServer(t, "--egress-allow", "127.0.0.1", "--egress-allow", "localhost", "--egress-ca", all)
	r := &relying{site: s, admin: s.adminSDK(t), roots: s.roots(t)}
	text, err := os.ReadFile(all)
	check(t, err)
	r.roots.AppendCertsFromPEM(text)
	pool, err := r.admin.pools.CreateUserPool(t.Context(), &idp.CreateUserPoolInput{PoolName: aws.String(prefix)})
	check(t, err)
	r.pool = *pool.UserPool.Id
	_, err = r.admin.pools.CreateUserPoolDomain(t.Context(), &idp.CreateUserPoolDomainInput{UserPoolId: &r.pool, Domain: &prefix})
	check(t, err)
	r.pages = s.get("AWS_ENDPOINT_URL") + "/auth/" + prefix
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "back") }))
	t.Cleanup(app.Close)
	r.back = strings.Replace(app.URL, "127.0.0.1", "localhost", 1) + "/back"
	return r
}

// provider adds an identity provider by the SDK, and a client that takes it beside passwords.
func (r *relying) provider(t *testing.T, name string, kind types.IdentityProviderTypeType, details, mapping map[string]string) {
	t.Helper()
	_, err := r.admin.pools.CreateIdentityProvider(t.Context(), &idp.CreateIdentityProviderInput{UserPoolId: &r.pool, ProviderName: &name, ProviderType: kind,
		ProviderDetails: details, AttributeMapping: mapping})
	check(t, err)
	c, err := r.admin.pools.CreateUserPoolClient(t.Context(), &idp.CreateUserPoolClientInput{UserPoolId: &r.pool, ClientName: aws.String("app"),
		SupportedIdentityProviders: []string{"COGNITO", name}, CallbackURLs: []string{r.back}, AllowedOAuthFlowsUserPoolClient: true,
		AllowedOAuthFlows: []types.OAuthFlowType{types.OAuthFlowTypeCode}, AllowedOAuthScopes: []string{"openid", "email"}})
	check(t, err)
	r.client = *c.UserPoolClient.ClientId
}

func (r *relying) start(more string) string {
	return r.pages + "/oauth2/authorize?" + url.Values{"client_id": {r.client}, "response_type": {"code"}, "redirect_uri": {r.back}, "scope": {"openid email"},
		"state": {"xyz"}}.Encode() + more
}

// claims trades the code that the app got and returns what the Id token says.
func (r *relying) claims(t *testing.T, code string) object {
	t.Helper()
	c := r.site.httpClient(t)
	res, err := c.PostForm(r.pages+"/oauth2/token", url.Values{"grant_type": {"authorization_code"}, "client_id": {r.client}, "code": {code}, "redirect_uri": {r.back}})
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	tokens := must[map[string]any](t, string(body))
	id, _ := tokens["id_token"].(string)
	parts := strings.Split(id, ".")
	if len(parts) != 3 {
		t.Fatalf("the app got %s", body)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	check(t, err)
	return must[object](t, string(payload))
}

var (
	anyForm  = regexp.MustCompile(`(?is)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	anyInput = regexp.MustCompile(`(?is)<input\s[^>]*>`)
	anyName  = regexp.MustCompile(`(?is)\sname="([^"]*)"`)
	anyValue = regexp.MustCompile(`(?is)\svalue="([^"]*)"`)
)

// walk follows redirects and sends the forms that it meets, with what fill says, as far as the app; it returns what the app is told.
func (r *relying) walk(t *testing.T, start string, fill map[string]string) url.Values {
	t.Helper()
	jar, err := cookiejar.New(nil)
	check(t, err)
	var told url.Values
	c := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.roots}}, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), r.back) {
			told = req.URL.Query()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	defer c.CloseIdleConnections()
	res, err := c.Get(start)
	for step := 0; ; step++ {
		check(t, err)
		page, err2 := io.ReadAll(res.Body)
		check(t, err2)
		check(t, res.Body.Close())
		if told != nil {
			return told
		}
		form := anyForm.FindSubmatch(page)
		if form == nil || step > 10 {
			t.Fatalf("at %s there is no form to go on with: %s\n%s", res.Request.URL, res.Status, page)
		}
		values := url.Values{}
		for _, in := range anyInput.FindAllString(string(form[2]), -1) {
			if name := anyName.FindStringSubmatch(in); name != nil {
				values.Set(html.UnescapeString(name[1]), "")
				if v := anyValue.FindStringSubmatch(in); v != nil {
					values.Set(html.UnescapeString(name[1]), html.UnescapeString(v[1]))
				}
				if v, ok := fill[name[1]]; ok {
					values.Set(name[1], v)
				}
			}
		}
		action, err2 := res.Request.URL.Parse(html.UnescapeString(string(form[1])))
		check(t, err2)
		res, err = c.PostForm(action.String(), values)
	}
}

// arrived checks who signed in.
func (r *relying) arrived(t *testing.T, told url.Values, username, email string) {
	t.Helper()
	if told.Get("state") != "xyz" || told.Get("code") == "" {
		t.Fatalf("the app was told %v", told)
	}
	claims := r.claims(t, told.Get("code"))
	if claims["cognito:username"] != username || claims["email"] != email || claims["identities"] == nil {
		t.Errorf("the Id token says %v", claims)
	}
	u, err := r.admin.pools.AdminGetUser(t.Context(), &idp.AdminGetUserInput{UserPoolId: &r.pool, Username: &username})
	check(t, err)
	if u.UserStatus != types.UserStatusTypeExternalProvider {
		t.Errorf("the status is %s", u.UserStatus)
	}
}

// listening runs a provider of others and returns the line that it prints when it is ready.
func listening(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = "idps", append(os.Environ(), env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], tail([]byte(said.String())))
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s does not start: %v\n%s", args[0], err, said.String())
	}
	return strings.TrimSpace(line)
}

func (r *relying) callback() string { return r.pages + "/oauth2/idpresponse" }

// A pool of one Imprint is the identity provider of a pool of another.
func TestPeopleSignInAtAnotherUserPool(t *testing.T) {
	t.Parallel()
	home := ownServer(t)
	r := newRelying(t, "guests", home.get("AWS_CA_BUNDLE"))
	ctx, admin := t.Context(), home.adminSDK(t)
	made, err := admin.pools.CreateUserPool(ctx, &idp.CreateUserPoolInput{PoolName: aws.String("staff")})
	check(t, err)
	pool := made.UserPool.Id
	_, err = admin.pools.CreateUserPoolDomain(ctx, &idp.CreateUserPoolDomainInput{UserPoolId: pool, Domain: aws.String("staff")})
	check(t, err)
	c, err := admin.pools.CreateUserPoolClient(ctx, &idp.CreateUserPoolClientInput{UserPoolId: pool, ClientName: aws.String("guests"), GenerateSecret: true,
		CallbackURLs: []string{r.callback()}, AllowedOAuthFlowsUserPoolClient: true, AllowedOAuthFlows: []types.OAuthFlowType{types.OAuthFlowTypeCode},
		AllowedOAuthScopes: []string{"openid", "email"}})
	check(t, err)
	const password = "Correct-Horse-7"
	_, err = admin.pools.AdminCreateUser(ctx, &idp.AdminCreateUserInput{UserPoolId: pool, Username: aws.String("ada"), MessageAction: types.MessageActionTypeSuppress,
		UserAttributes: []types.AttributeType{{Name: aws.String("email"), Value: aws.String("ada@example.com")}}})
	check(t, err)
	_, err = admin.pools.AdminSetUserPassword(ctx, &idp.AdminSetUserPasswordInput{UserPoolId: pool, Username: aws.String("ada"), Password: aws.String(password), Permanent: true})
	check(t, err)
	ada, err := admin.pools.AdminGetUser(ctx, &idp.AdminGetUserInput{UserPoolId: pool, Username: aws.String("ada")})
	check(t, err)
	sub := ""
	for _, a := range ada.UserAttributes {
		if *a.Name == "sub" {
			sub = *a.Value
		}
	}
	r.provider(t, "Staff", types.IdentityProviderTypeTypeOidc, map[string]string{"client_id": *c.UserPoolClient.ClientId, "client_secret": *c.UserPoolClient.ClientSecret,
		"authorize_scopes": "openid email", "oidc_issuer": home.get("AWS_ENDPOINT_URL") + "/" + *pool, "attributes_request_method": "GET"},
		map[string]string{"email": "email"})
	r.arrived(t, r.walk(t, r.start("&identity_provider=Staff"), map[string]string{"username": "ada", "password": password}), "staff_"+sub, "ada@example.com")
}

// The provider is made with the npm library oidc-provider, which tells its issuer in answers (RFC 9207) and demands PKCE.
func TestPeopleSignInAtOIDCProvider(t *testing.T) {
	t.Parallel()
	certFile, keyFile := serverPair(t, t.TempDir())
	r := newRelying(t, "npm", certFile)
	const secret = "a secret of thirty-two characters"
	issuer := listening(t, []string{"CERTIFICATE=" + certFile, "KEY=" + keyFile, "SECRET=" + secret, "REDIRECT=" + r.callback()}, "node", "oidc.mjs")
	for _, g := range []string{"installers", "board"} {
		_, err := r.admin.pools.CreateGroup(t.Context(), &idp.CreateGroupInput{UserPoolId: &r.pool, GroupName: &g})
		check(t, err)
	}
	r.provider(t, "Corp", types.IdentityProviderTypeTypeOidc, map[string]string{"client_id": "imprint", "client_secret": secret, "authorize_scopes": "openid email groups",
		"oidc_issuer": issuer, "attributes_request_method": "GET", "imprint_groups_claim": "groups", "imprint_groups": `{"Factory":"installers"}`},
		map[string]string{"email": "email", "email_verified": "email_verified"})
	told := r.walk(t, r.start("&identity_provider=Corp"), map[string]string{"login": "ada", "password": "anything"})
	r.arrived(t, told, "corp_ada", "ada@example.com")
	groups, err := r.admin.pools.AdminListGroupsForUser(t.Context(), &idp.AdminListGroupsForUserInput{UserPoolId: &r.pool, Username: aws.String("corp_ada")})
	check(t, err)
	var names []string
	for _, g := range groups.Groups {
		names = append(names, *g.GroupName)
	}
	if got := strings.Join(names, " "); got != "installers "+r.pool+"_Corp" {
		t.Errorf("the groups are %q", got)
	}

	home := browserHome(t, r.site.get("AWS_CA_BUNDLE"), certFile)
	in := browse[browsed](t, r.site, home, "federation.mjs", "START="+r.start(""), "BACK="+r.back, "LINK=Sign in with Corp", "SHOT=federation-oidc")
	in.checked(t, r, "corp_ada", "ada@example.com")
}

// browsed is what federation.mjs prints.
type browsed struct {
	Got     map[string]string
	Seen    []string
	Cookies []struct {
		Name, SameSite   string
		Secure, HTTPOnly bool
	}
}

func (b browsed) checked(t *testing.T, r *relying, username, email string) {
	t.Helper()
	told := url.Values{}
	for k, v := range b.Got {
		told.Set(k, v)
	}
	r.arrived(t, told, username, email)
	for _, c := range b.Cookies {
		if strings.HasPrefix(c.Name, "__Host-imprint-idp-") {
			t.Errorf("the browser keeps the cookie %s", c.Name)
		}
	}
}

// The provider is made with the Debian package python3-pysaml2.
func TestPeopleSignInByPySAML(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := serverPair(t, dir)
	r := newRelying(t, "pysaml", certFile)
	signing, cert, ours := filepath.Join(dir, "signing.key"), filepath.Join(dir, "signing.pem"), filepath.Join(dir, "sp.xml")
	r.site.run(t, dir, nil, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", signing, "-out", cert, "-subj", "/CN=idp", "-days", "2")
	res, err := r.site.httpClient(t).Get(r.pages + "/saml2/metadata")
	check(t, err)
	defer res.Body.Close()
	metadata, err := io.ReadAll(res.Body)
	check(t, err)
	check(t, os.WriteFile(ours, metadata, 0o600))
	entity := listening(t, []string{"CERTIFICATE=" + certFile, "KEY=" + keyFile, "SIGNING_KEY=" + signing, "SIGNING_CERTIFICATE=" + cert, "SP_METADATA=" + ours, "SIGN=both"},
		"/usr/bin/python3", "saml.py")
	mail := "urn:oid:0.9.2342.19200300.100.1.3"
	r.provider(t, "Plant", types.IdentityProviderTypeTypeSaml, map[string]string{"MetadataURL": entity}, map[string]string{"email": mail})
	r.arrived(t, r.walk(t, r.start("&identity_provider=Plant"), nil), "plant_ada-4711", "ada@example.com")

	home := browserHome(t, r.site.get("AWS_CA_BUNDLE"), certFile)
	in := browse[browsed](t, r.site, home, "federation.mjs", "START="+r.start(""), "BACK="+r.back, "LINK=Sign in with Plant", "SHOT=federation-saml")
	in.checked(t, r, "plant_ada-4711", "ada@example.com")
}

// Each command of docs/federation.md runs, and what they made signs somebody in.
func TestThePageOfFederationWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := serverPair(t, dir)
	r := newRelying(t, "another", certFile)
	pool, err := r.admin.pools.CreateUserPool(t.Context(), &idp.CreateUserPoolInput{PoolName: aws.String("installers")})
	check(t, err)
	app, err := r.admin.pools.CreateUserPoolClient(t.Context(), &idp.CreateUserPoolClientInput{UserPoolId: pool.UserPool.Id, ClientName: aws.String("app")})
	check(t, err)
	r.pool, r.client = *pool.UserPool.Id, *app.UserPoolClient.ClientId
	r.pages, r.back = r.site.get("AWS_ENDPOINT_URL")+"/auth/plant", "https://app.example/back" // as the page has them
	const secret = "a secret of thirty-two characters"
	issuer := listening(t, []string{"CERTIFICATE=" + certFile, "KEY=" + keyFile, "SECRET=" + secret, "REDIRECT=" + r.callback()}, "node", "oidc.mjs")
	r.site.run(t, filepath.Dir(r.site.data), nil, "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "AuthKey_KEYID.p8")
	r.site.follow(t, "federation.md", "", "POOL="+r.pool, "CLIENT="+r.client, "ISSUER="+issuer, "CLIENT_ID=imprint", "SECRET="+secret, "METADATA="+samlMetadata(t, certFile, keyFile))

	list, err := r.admin.pools.ListIdentityProviders(t.Context(), &idp.ListIdentityProvidersInput{UserPoolId: &r.pool})
	check(t, err)
	var names []string
	for _, p := range list.Providers {
		names = append(names, *p.ProviderName)
	}
	if got := strings.Join(names, " "); got != "Corp Facebook Google LoginWithAmazon Plant SignInWithApple" {
		t.Errorf("the page makes %s", got)
	}
	r.arrived(t, r.walk(t, r.start("&identity_provider=Corp"), map[string]string{"login": "ada", "password": "anything"}), "corp_ada", "ada@example.com")
}

// samlMetadata serves the description of a SAML provider that signs with the key of its server, and returns where.
func samlMetadata(t *testing.T, certFile, keyFile string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	check(t, err)
	text := `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example/saml">` +
		`<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#">` +
		`<X509Data><X509Certificate>` + base64.StdEncoding.EncodeToString(pair.Certificate[0]) + `</X509Certificate></X509Data></KeyInfo></KeyDescriptor>` +
		`<SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="https://idp.example/saml/sso"/></IDPSSODescriptor></EntityDescriptor>`
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL + "/metadata"
}
