package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	idptypes "github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
)

const authMethodsPage = "clients/amplify-4-auth.md"

const authMethodsHead = `# The methods of Amplify 4's Auth

Each public method of the class ` + "`Auth`" + ` of aws-amplify 4.3.46, called once in Chromium against this server, in the order in which a person
needs it: what it does by its documentation, and whether it does that here. Written by a test, which also checks that no method is
missing (` + "`IMPRINT_UPDATE=1 go test -run AuthMethods`" + ` in test/compat).

| method | | here |
|---|---|---|
`

func TestAuthMethodsOfAmplify4DoWhatTheyAreDocumentedToDo(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	dir := filepath.Dir(s.data)
	check(t, os.CopyFS(filepath.Join(dir, "src"), os.DirFS(filepath.Join("apps", "authmethods", "src"))))
	s.run(t, dir, nil, imprint(), "auth", "init", "--sign-up")
	admin := s.adminSDK(t)
	poolID, _ := poolOf(t, admin, "installers")
	_, err := admin.pools.SetUserPoolMfaConfig(t.Context(), &cognitoidentityprovider.SetUserPoolMfaConfigInput{UserPoolId: &poolID,
		MfaConfiguration: idptypes.UserPoolMfaTypeOptional, SoftwareTokenMfaConfiguration: &idptypes.SoftwareTokenMfaConfigType{Enabled: true}})
	check(t, err)
	const temporary = "First-Time-1!"
	_, err = admin.pools.AdminCreateUser(t.Context(), &cognitoidentityprovider.AdminCreateUserInput{UserPoolId: &poolID, Username: ptr("ida"),
		TemporaryPassword: ptr(temporary), MessageAction: "SUPPRESS", UserAttributes: []idptypes.AttributeType{{Name: ptr("email"), Value: ptr("ida@example.com")}}})
	check(t, err)
	head := `HEAD=<script src="` + s.get("AWS_ENDPOINT_URL") + `/compat/amplify-endpoints.js"></script>`
	got := browse[struct {
		Became   []struct{ Method, Does, Error string }
		Methods  []string
		Requests []string
	}](t, s, browserHome(t, s.get("AWS_CA_BUNDLE")), "authmethods.mjs", "APP="+dir, "OUTBOX="+filepath.Join(s.data, "outbox"), "TEMPORARY="+temporary, head)
	var page strings.Builder
	page.WriteString(authMethodsHead)
	called := map[string]bool{}
	for _, b := range got.Became {
		called[b.Method] = true
		here := "yes"
		if b.Error != "" {
			here = "not offered: `" + b.Error + "`"
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", b.Method, b.Does, here)
		if strings.Contains(b.Error, "not as documented") {
			t.Errorf("%s: %s", b.Method, b.Error)
		}
	}
	for _, m := range got.Methods {
		if !called[m] {
			t.Errorf("Auth.%s is not called", m)
		}
		delete(called, m)
	}
	for m := range called {
		t.Errorf("Auth has no public method %s", m)
	}
	if len(got.Methods) < 30 || !slices.Contains(got.Methods, "signIn") {
		t.Errorf("these are not all: %v", got.Methods)
	}
	if os.Getenv("IMPRINT_UPDATE") != "" {
		check(t, os.WriteFile(filepath.Join("..", "..", "docs", filepath.FromSlash(authMethodsPage)), []byte(page.String()), 0o644))
	}
	if want := document(t, authMethodsPage); want != page.String() {
		t.Errorf("docs/%s says something else; IMPRINT_UPDATE=1 writes\n%s", authMethodsPage, page.String())
	}
	if t.Failed() {
		t.Log(strings.Join(got.Requests, "\n"))
	}
}
