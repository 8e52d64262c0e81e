package server

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// TestAFolderOfAnEarlierVersionServes: keys, passwords, certificates and roots of the folder are good with today's code.
func TestAFolderOfAnEarlierVersionServes(t *testing.T) {
	t.Parallel()
	for name, dir := range storetest.Folders(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var facts struct {
				Password  fleet.Secret
				AccessKey struct {
					ID     string
					Secret fleet.Secret
				}
				Device   struct{ Thing, Certificate, Key, ID string }
				Endpoint string
				People   struct{ Pool, Client, Email, IdentityPool, Identity, Provider string }
			}
			noError(t, json.Unmarshal(mustRead(t, filepath.Join(dir, "facts.json")), &facts))
			anyPorts(t, dir)
			s := startServer(t, Config{Data: dir, KeyPool: -1})
			admin, anonymous := api(t, s), as(t, s, client.Credentials{})

			ada := as(t, s, client.Credentials{AccessKeyID: facts.AccessKey.ID, Secret: facts.AccessKey.Secret})
			if arn, err := whoami(t, ada); err != nil || arn != "arn:aws:iam::"+account+":user/ada" {
				t.Errorf("the access key is that of %q, %v", arn, err)
			}
			device(t, s, pairOf(t, facts.Device.Certificate, facts.Device.Key)).Connected(facts.Device.Thing).Disconnect()
			var things, endpoint object
			noError(t, admin.REST(t.Context(), "iot", http.MethodGet, "/things", nil, &things))
			if list := things["things"].([]any); len(list) != 2 {
				t.Errorf("things %v", list)
			}
			noError(t, admin.REST(t.Context(), "iot", http.MethodGet, "/endpoint?endpointType=iot:Data-ATS", nil, &endpoint))
			if endpoint["endpointAddress"] != facts.Endpoint {
				t.Errorf("endpoint %v, was %s", endpoint, facts.Endpoint)
			}
			p := facts.People
			tokens, err := anonymous.SignIn(t.Context(), p.Pool, p.Client, p.Email, facts.Password)
			noError(t, err)
			var id object
			noError(t, anonymous.JSON(t.Context(), "cognito-identity", "AWSCognitoIdentityService.GetId",
				object{"IdentityPoolId": p.IdentityPool, "Logins": object{p.Provider: tokens.ID.Reveal()}}, &id))
			if id["IdentityId"] != p.Identity {
				t.Errorf("the identity is %v, was %s", id, p.Identity)
			}
			noError(t, admin.REST(t.Context(), "iot", http.MethodPost, "/provisioning-templates/lamps/provisioning-claim", nil, &object{}))
		})
	}
}

// anyPorts makes the server of a folder listen on free ports instead of its own, which may be taken here.
func anyPorts(t *testing.T, dir string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, databaseFile)})
	noError(t, err)
	noError(t, db.Tx(t.Context(), func(tx *store.Tx) error {
		noError(t, tx.PutSetting("https-port", "0"))
		return tx.PutSetting("mqtt-port", "0")
	}))
	noError(t, db.Close())
}
