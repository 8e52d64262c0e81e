package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/imprint-iot/imprint/internal/delivery/deliverytest"
)

// Somebody signs up with the AWS CLI; the code comes by mail, over TLS and in the pool's words.
func TestACodeComesByMail(t *testing.T) {
	t.Parallel()
	mail := deliverytest.Start(t, deliverytest.Config{User: "imprint", Password: "mail-password"})
	dir := t.TempDir()
	root, password := filepath.Join(dir, "root.pem"), filepath.Join(dir, "password")
	check(t, os.WriteFile(root, mail.PEM, 0o600))
	check(t, os.WriteFile(password, []byte("mail-password\n"), 0o600))
	s := ownServer(t, "--smtp", mail.Addr, "--smtp-user", "imprint", "--smtp-password-file", password, "--mail-from", "Imprint <imprint@factory.example>", "--egress-ca", root)
	idp := func(args ...string) string {
		t.Helper()
		return s.run(t, dir, nil, imprint(), append([]string{"aws", "--output", "json", "cognito-idp"}, args...)...)
	}
	pool := must[struct{ UserPool struct{ Id string } }](t, idp("create-user-pool", "--pool-name", "people", "--auto-verified-attributes", "email",
		"--admin-create-user-config", "AllowAdminCreateUserOnly=false", "--verification-message-template",
		`{"EmailSubject": "Welcome", "EmailMessage": "<p>Your code is <b>{####}</b></p>", "DefaultEmailOption": "CONFIRM_WITH_CODE"}`)).UserPool.Id
	app := must[struct{ UserPoolClient struct{ ClientId string } }](t, idp("create-user-pool-client", "--user-pool-id", pool, "--client-name", "app",
		"--explicit-auth-flows", "ALLOW_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH")).UserPoolClient.ClientId
	up := must[struct {
		CodeDeliveryDetails struct{ Destination, DeliveryMedium string }
	}](t, idp("sign-up", "--client-id", app, "--username", "ada", "--password", "Correct-Horse-7!", "--user-attributes", "Name=email,Value=ada@example.com"))
	if up.CodeDeliveryDetails.Destination != "a***@e***" || up.CodeDeliveryDetails.DeliveryMedium != "EMAIL" {
		t.Errorf("the client is told %+v", up)
	}
	m := <-mail.Mails
	if !m.Secure || m.User != "imprint" || m.To != "ada@example.com" || m.Header.Get("Subject") != "Welcome" || m.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the mail is %+v", m)
	}
	code := regexp.MustCompile(`[0-9]{6}`).FindString(m.Body)
	if m.Body != fmt.Sprintf("<p>Your code is <b>%s</b></p>\n", code) {
		t.Errorf("the mail says %q", m.Body)
	}
	idp("confirm-sign-up", "--client-id", app, "--username", "ada", "--confirmation-code", code)
	idp("initiate-auth", "--client-id", app, "--auth-flow", "USER_PASSWORD_AUTH", "--auth-parameters", "USERNAME=ada,PASSWORD=Correct-Horse-7!")
	idp("forgot-password", "--client-id", app, "--username", "ada") // answered before the mail is sent
	m = <-mail.Mails
	code = regexp.MustCompile(`[0-9]{6}`).FindString(m.Body)
	idp("confirm-forgot-password", "--client-id", app, "--username", "ada", "--confirmation-code", code, "--password", "Other-Horse-8!")
	log, err := os.ReadFile(s.log)
	check(t, err)
	for _, secret := range []string{"mail-password", code, "ada@example.com"} {
		if regexp.MustCompile(`\b` + secret + `\b`).Match(log) { // not where ids and times have the code's six digits by chance
			t.Errorf("the log has %s", secret)
		}
	}
}
