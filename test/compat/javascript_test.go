package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
)

func TestJavaScriptClientsProvisionADevice(t *testing.T) {
	t.Parallel()
	for _, port := range []string{"IOT_PORT", "IOT_ALPN_PORT"} {
		t.Run(port, func(t *testing.T) {
			t.Parallel()
			s := sharedServer(t)
			w := newWorld(t, s, "js"+strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(port, "IOT_"), "PORT")))
			const temporary = "First-Time-1!"
			_, err := w.admin.pools.AdminSetUserPassword(t.Context(), &cognitoidentityprovider.AdminSetUserPasswordInput{
				UserPoolId: &w.poolID, Username: &w.installer, Password: ptr(temporary), Permanent: false})
			check(t, err)
			dir := t.TempDir()
			key, csr := newCSR(t)
			check(t, os.WriteFile(filepath.Join(dir, "key.pem"), []byte(key), 0o600))
			check(t, os.WriteFile(filepath.Join(dir, "csr.pem"), []byte(csr), 0o600))
			out := s.run(t, "node", []string{"POOL_ID=" + w.poolID, "CLIENT_ID=" + w.clientID, "IDENTITY_POOL=" + w.identityPool,
				"INSTALLER=" + w.installer, "TEMPORARY=" + temporary, "PASSWORD=" + w.password, "TEMPLATE=" + w.template,
				"KEY_FILE=" + filepath.Join(dir, "key.pem"), "CSR_FILE=" + filepath.Join(dir, "csr.pem"), "MQTT_PORT=" + s.get(port)}, "node", "trusteduser.mjs")
			got := must[struct {
				Challenged            bool
				Username, ARN, Denied string
				Things                []string
				Configuration         map[string]string
				Refused, Heard        []string
			}](t, out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
			if !got.Challenged {
				t.Error("the first sign-in was not asked for a new password")
			}
			if got.Username != w.installer || !strings.Contains(got.ARN, ":assumed-role/"+w.installerRole+"/CognitoIdentityCredentials") {
				t.Errorf("signed in as %s, %s", got.Username, got.ARN)
			}
			if got.Denied != "AccessDeniedException" {
				t.Errorf("listing things as the installer: %s", got.Denied)
			}
			if len(got.Things) != 2 || got.Things[0] != w.thing("js1") || got.Things[1] != w.thing("js2") {
				t.Errorf("things %v", got.Things)
			}
			if got.Configuration["serial"] != "no js1" {
				t.Errorf("configuration %v", got.Configuration)
			}
			for i, code := range got.Refused {
				if code != "InvalidCertificateOwnershipToken" || got.Heard[i] != "on" {
					t.Errorf("forged token: %s; heard %q", code, got.Heard[i])
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }
