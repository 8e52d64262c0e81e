package compat

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
)

// sampleTemplate is the name that stands in the sample app.
const sampleTemplate = "TrustedUserProvisioningTemplate"

// A clientSite is a server on which a page of docs/clients has been followed up to its app.
type clientSite struct {
	*site
	app       string // folder
	temporary string // password; empty once it was used
	roots     string // file of what the browser trusts
}

// followPage follows a page with an app whose other sources are in a folder of apps.
func followPage(t *testing.T, page, app string, serve ...string) *clientSite {
	t.Helper()
	s := &clientSite{site: ownServer(t, serve...)}
	s.roots = s.get("AWS_CA_BUNDLE")
	s.app = filepath.Dir(s.data)
	if app != "" {
		check(t, os.CopyFS(filepath.Join(s.app, "src"), os.DirFS(filepath.Join("apps", app, "src"))))
	}
	s.follow(t, "clients/"+page, "")
	password, err := os.ReadFile(filepath.Join(s.app, "temporary-password"))
	check(t, err)
	s.temporary = strings.TrimSpace(string(password))
	return s
}

// poolOf finds a user pool and its client.
func poolOf(t *testing.T, admin *sdk, name string) (poolID, clientID string) {
	t.Helper()
	// Other tests have pools on the same server, more than one page of them.
	for p := cognitoidentityprovider.NewListUserPoolsPaginator(admin.pools, &cognitoidentityprovider.ListUserPoolsInput{MaxResults: aws.Int32(60)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		check(t, err)
		for _, p := range page.UserPools {
			if *p.Name == name {
				poolID = *p.Id
			}
		}
	}
	clients, err := admin.pools.ListUserPoolClients(t.Context(), &cognitoidentityprovider.ListUserPoolClientsInput{UserPoolId: &poolID})
	check(t, err)
	return poolID, *clients.UserPoolClients[0].ClientId
}

// play has an installer use the page's app in a browser that trusts roots.
func (s *clientSite) play(t *testing.T, script, shot string, env ...string) played {
	t.Helper()
	return browse[played](t, s.site, browserHome(t, s.roots), script,
		append(env, "APP="+s.app, "INSTALLER=ida", "TEMPORARY="+s.temporary, "PASSWORD=Correct-Horse-7!", "SHOT="+shot)...)
}

// A sampleClaim is what the SDKs in the browser return.
type sampleClaim struct {
	CertificateID  string `json:"certificateId"`
	CertificatePEM string `json:"certificatePem"`
	KeyPair        struct{ PrivateKey string }
}

// checkClaim sees that the claim is one, that the server knows it, and that it is of the template.
func (s *clientSite) checkClaim(t *testing.T, template string, c sampleClaim) {
	t.Helper()
	block, _ := pem.Decode([]byte(c.CertificatePEM))
	if block == nil || !strings.Contains(c.KeyPair.PrivateKey, "PRIVATE KEY") {
		t.Fatalf("no claim: %.300v", c)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	if life := cert.NotAfter.Sub(cert.NotBefore).Minutes(); life > 10 {
		t.Errorf("it lives %v minutes", life)
	}
	out := s.run(t, s.app, nil, imprint(), "claim", "report", c.CertificateID)
	if !strings.Contains(out, template) || !strings.Contains(out, "ida") {
		t.Errorf("the report of the claim: %s", out)
	}
}

// played is what the scripts print.
type played struct {
	Heading, Refused string
	Claim            sampleClaim
	Kept             []string
	Requests         []string
	Console          []string
}

func (p played) check(t *testing.T, s *clientSite, template string, want []string) {
	t.Helper()
	if p.Refused != "Incorrect username or password." {
		t.Errorf("a wrong password: %q", p.Refused)
	}
	s.checkClaim(t, template, p.Claim)
	for _, key := range p.Kept {
		if strings.HasSuffix(strings.ToLower(key), "token") {
			t.Errorf("%s is still there after signing out", key)
		}
	}
	if p.Requests = slices.Compact(p.Requests); !slices.Equal(p.Requests, want) {
		t.Errorf("the browser called\n  %s\nwant\n  %s", strings.Join(p.Requests, "\n  "), strings.Join(want, "\n  "))
	}
	if t.Failed() {
		t.Logf("console: %s", strings.Join(p.Console, "\n"))
	}
}

func (s *clientSite) host() string { return strings.TrimPrefix(s.get("AWS_ENDPOINT_URL"), "https://") }

// The sample's App.js stands in apps/seed as it was published. Its library has the host of the identity pool built in.
func TestTheSampleAppWithTheLibrariesOfItsTime(t *testing.T) {
	t.Parallel()
	s := followPage(t, "amplify-4.md", "seed", "--aws-names")
	head, err := os.ReadFile(filepath.Join(s.app, "public", "index.html"))
	check(t, err)
	got := s.play(t, "seed.mjs", "amplify-4", "HEAD="+string(head))
	got.check(t, s, sampleTemplate, on(s.host(), append([]string{"GET /compat/amplify-endpoints.js"}, signedInCalls(sampleTemplate)...)...))

	// The same without the script and without an endpoint: the DNS leads AWS's host names here.
	exports := filepath.Join(s.app, "src", "aws-exports.js")
	text, err := os.ReadFile(exports)
	check(t, err)
	check(t, os.WriteFile(exports, regexp.MustCompile(`(?m)^ *"endpoint": .*$`).ReplaceAll(text, nil), 0o600))
	s.temporary = "" // was used
	s.roots = filepath.Join(s.app, "aws-names.pem")
	check(t, os.WriteFile(s.roots, []byte(s.run(t, s.app, nil, imprint(), "ca", "--aws-names")), 0o600))
	var rules []string
	for _, service := range []string{"cognito-idp", "cognito-identity", "iot"} {
		rules = append(rules, "MAP "+service+".us-east-1.amazonaws.com:443 "+strings.Replace(s.host(), "localhost", "127.0.0.1", 1))
	}
	got = s.play(t, "seed.mjs", "amplify-4-dns", "RULES="+strings.Join(rules, "|"))
	var calls []string
	for _, c := range signedInCalls(sampleTemplate) {
		host := "cognito-idp"
		switch {
		case strings.HasPrefix(c, "POST /"):
			host = "iot"
		case strings.Contains(c, "Id"):
			host = "cognito-identity"
		}
		calls = append(calls, host+".us-east-1.amazonaws.com "+c)
	}
	got.check(t, s, sampleTemplate, calls)
}

func TestAnAppWithAmplify6(t *testing.T) {
	t.Parallel()
	s := followPage(t, "amplify-6.md", "")
	got := s.play(t, "amplify6.mjs", "amplify-6")
	got.check(t, s, "lamps", on(s.host(), signedInCalls("lamps")...))
}

// signedInCalls are those of identity spec 7.1 and 7.2, and of a wrong password before. What is called several times in a row is told once.
func signedInCalls(template string) []string {
	return []string{"InitiateAuth", "RespondToAuthChallenge", "InitiateAuth", "RespondToAuthChallenge", "GetId", "GetCredentialsForIdentity", "GetUser",
		"POST /provisioning-templates/" + template + "/provisioning-claim", "RevokeToken"}
}

// on names the host of calls.
func on(host string, calls ...string) (out []string) {
	for _, c := range calls {
		out = append(out, host+" "+c)
	}
	return out
}
