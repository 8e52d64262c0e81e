package compat

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

var authName = regexp.MustCompile(`(?m)^identity pool \S+ (\S+): `)

func TestAuthInitMakesWhatAnAppNeedsAndNothingTwice(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "authinit")
	dir := t.TempDir()
	name := w.prefix + "-app"
	initialize := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"auth", "init", "--name", name}, args...)...)
	}
	first := initialize()
	for _, want := range []string{"user pool " + name + " ", "role " + name + "-authRole: made", "people who have signed in may do nothing yet",
		"imprint auth init --name " + name + " --template TEMPLATE", "admin-create-user"} {
		if !strings.Contains(first, want) {
			t.Errorf("the first run never said %q:\n%s", want, first)
		}
	}
	read := func(file string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "src", file))
		check(t, err)
		return string(text)
	}
	exports, config := read("aws-exports.js"), read("amplify-config.js")
	second := initialize("--template", w.template)
	if strings.Contains(second, ": made") || !strings.Contains(second, "may make claims for "+w.template+", and do nothing else") || strings.Contains(second, "--template TEMPLATE") {
		t.Errorf("the second run: %s", second)
	}
	if third := initialize(); strings.Contains(third, ": made") || !strings.Contains(third, "may make claims as before") || !strings.Contains(third, "aws-exports.js: unchanged") {
		t.Errorf("the third run: %s", third)
	}
	if read("aws-exports.js") != exports || read("amplify-config.js") != config {
		t.Error("the files changed")
	}

	poolID, clientID := poolOf(t, w.admin, name)
	identityPool := authName.FindStringSubmatch(first)[1]
	for _, file := range []string{exports, config} {
		for _, want := range []string{poolID, clientID, identityPool, s.get("AWS_ENDPOINT_URL") + "/"} {
			if !strings.Contains(file, `"`+want+`"`) {
				t.Errorf("a file without %s:\n%s", want, file)
			}
		}
	}
	// A person with an account may make a claim for the template, and nothing else; nobody may make an account or come as a guest.
	_, err := w.admin.pools.AdminCreateUser(t.Context(), &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: &poolID, Username: &w.installer, MessageAction: "SUPPRESS"})
	check(t, err)
	_, err = w.admin.pools.AdminSetUserPassword(t.Context(), &cognitoidentityprovider.AdminSetUserPasswordInput{UserPoolId: &poolID, Username: &w.installer, Password: &w.password, Permanent: true})
	check(t, err)
	w.poolID, w.clientID, w.identityPool = poolID, clientID, identityPool
	tokens, err := s.anonymous(t).SignIn(t.Context(), poolID, clientID, w.installer, fleet.Secret(w.password))
	check(t, err)
	ida := w.as(t, tokens.ID)
	w.claim(t, ida)
	other := w.prefix + "-none"
	if _, err := ida.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &other}); !strings.Contains(errText(err), "AccessDenied") {
		t.Errorf("a claim for another template: %v", err)
	}
	if _, err := ida.iot.ListThings(t.Context(), nil); !strings.Contains(errText(err), "AccessDenied") {
		t.Errorf("listing things: %v", err)
	}
	anyone := s.sdk(t, aws.AnonymousCredentials{})
	_, err = anyone.pools.SignUp(t.Context(), &cognitoidentityprovider.SignUpInput{ClientId: &clientID, Username: aws.String("eve"), Password: &w.password})
	if !strings.Contains(errText(err), "SignUp is not permitted") {
		t.Errorf("signing up: %v", err)
	}
	if _, err = anyone.identity.GetId(t.Context(), &cognitoidentity.GetIdInput{IdentityPoolId: &identityPool}); !strings.Contains(errText(err), "Unauthenticated access is not supported") {
		t.Errorf("a guest: %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAuthInitLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "authother")
	dir := t.TempDir()
	wrong := func(want string, args ...string) {
		t.Helper()
		out, err := s.try(t, dir, nil, imprint(), append([]string{"auth", "init"}, args...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: %v, %q; want %q", args, err, out, want)
		}
	}
	mine := filepath.Join(dir, "mine")
	check(t, os.Mkdir(mine, 0o700))
	const other = "const awsmobile = {}; // of another backend\n"
	check(t, os.WriteFile(filepath.Join(mine, "aws-exports.js"), []byte(other), 0o600))
	name := w.prefix + "-app"
	wrong("mine/aws-exports.js was not written by imprint auth init: move it away, or name another folder with --out", "--name", name, "--out", "mine")
	wrong("Provisioning template nowhere does not exist (nothing was made;", "--name", name, "--template", "nowhere")
	if text, err := os.ReadFile(filepath.Join(mine, "aws-exports.js")); err != nil || string(text) != other {
		t.Errorf("%q, %v", text, err)
	}
	for p := cognitoidentityprovider.NewListUserPoolsPaginator(w.admin.pools, &cognitoidentityprovider.ListUserPoolsInput{MaxResults: aws.Int32(60)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		check(t, err)
		for _, p := range page.UserPools {
			if *p.Name == name {
				t.Error("a pool was made although nothing came of it")
			}
		}
	}
	// A role of the name that belongs to somebody else is neither changed nor used.
	admin, err := s.adminClient()
	check(t, err)
	check(t, admin.Query(t.Context(), "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": name + "-authRole",
		"AssumeRolePolicyDocument": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`}, nil))
	wrong("the role "+name+"-authRole is there and does not trust the identity pool", "--name", name, "--template", w.template)
	if err := admin.Query(t.Context(), "iam", "2010-05-08", "GetRolePolicy", map[string]string{"RoleName": name + "-authRole", "PolicyName": "create-provisioning-claim"}, nil); client.Code(err) != "NoSuchEntity" {
		t.Errorf("the role has a policy: %v", err)
	}
	// Names of pools are no identifiers.
	for range 2 {
		_, err := w.admin.pools.CreateUserPool(t.Context(), &cognitoidentityprovider.CreateUserPoolInput{PoolName: aws.String(w.prefix + "-twins")})
		check(t, err)
	}
	wrong("there are two user pools called "+w.prefix+"-twins", "--name", w.prefix+"-twins")
	out := s.run(t, dir, nil, imprint(), "auth", "init", "--name", w.prefix+"-open", "--sign-up")
	if !strings.Contains(out, "People make their accounts in the app. Whoever has one may make claims.") {
		t.Errorf("open for everybody: %s", out)
	}
}
