package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imprint-iot/imprint/internal/durable"
)

// An appConfig is what an app must know in order to sign people in here. None of it is secret.
type appConfig struct {
	Endpoint string // as AWS_ENDPOINT_URL
	Region   string
	UserPoolID, ClientID,
	IdentityPoolID string
}

// endpoint is the URL as Amplify wants it.
func (c appConfig) endpoint() string { return strings.TrimSuffix(c.Endpoint, "/") + "/" }

// An appFile is a module that is written into an app's folder.
type appFile struct{ path, text string }

// wroteThis begins every file of ours: no other is replaced.
const wroteThis = "// Written by `imprint auth init`, which replaces it when it is run again."

// files are the configuration for both generations of Amplify. They differ in more than names: version 6 knows an endpoint for the
// identity pool, 3 to 5 do not (docs/clients/amplify-4.md).
func (c appConfig) files(dir string) []appFile {
	return []appFile{
		{filepath.Join(dir, "aws-exports.js"), wroteThis + "\n" +
			"// For Amplify 3 to 5: Amplify.configure(awsExports). The host of the identity pool is fixed in those versions: include\n" +
			"// " + c.endpoint() + "compat/amplify-endpoints.js in the page, before the app.\n" +
			"const awsExports = " + javaScript(c.awsExports()) + ";\n\nexport default awsExports;\n"},
		{filepath.Join(dir, "amplify-config.js"), wroteThis + "\n" +
			"// For Amplify 6: Amplify.configure(config). endpoint and region are for the clients of the AWS SDK.\n" +
			"const config = " + javaScript(c.resources()) + ";\n\n" +
			"export const endpoint = " + javaScript(c.endpoint()) + ";\nexport const region = " + javaScript(c.Region) + ";\nexport default config;\n"},
	}
}

// javaScript writes a value as JSON, which is JavaScript.
func javaScript(v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // literals of this file
	}
	return string(b)
}

// awsExports has the keys that the Amplify CLI writes. endpoint is none of them: Amplify 3 to 5 take every key for one of Auth's, and
// that one is the endpoint of the user pool.
func (c appConfig) awsExports() any {
	return struct {
		Region           string   `json:"aws_project_region"`
		IdentityPool     string   `json:"aws_cognito_identity_pool_id"`
		CognitoRegion    string   `json:"aws_cognito_region"`
		UserPool         string   `json:"aws_user_pools_id"`
		Client           string   `json:"aws_user_pools_web_client_id"`
		OAuth            object   `json:"oauth"`
		UsernameIs       []string `json:"aws_cognito_username_attributes"`
		SocialProviders  []string `json:"aws_cognito_social_providers"`
		SignUpAttributes []string `json:"aws_cognito_signup_attributes"`
		MFA              string   `json:"aws_cognito_mfa_configuration"`
		MFATypes         []string `json:"aws_cognito_mfa_types"`
		Password         object   `json:"aws_cognito_password_protection_settings"`
		Verified         []string `json:"aws_cognito_verification_mechanisms"`
		MandatorySignIn  string   `json:"aws_mandatory_sign_in"`
		Endpoint         string   `json:"endpoint"`
	}{c.Region, c.IdentityPoolID, c.Region, c.UserPoolID, c.ClientID, object{}, []string{}, []string{}, []string{"EMAIL"}, "OFF", []string{},
		object{"passwordPolicyMinLength": passwordLength, "passwordPolicyCharacters": []string{}}, []string{"EMAIL"}, "enable", c.endpoint()}
}

// resources is a ResourcesConfig of Amplify 6.
func (c appConfig) resources() any {
	type cognito struct {
		UserPool         string `json:"userPoolId"`
		Client           string `json:"userPoolClientId"`
		IdentityPool     string `json:"identityPoolId"`
		UserPoolEndpoint string `json:"userPoolEndpoint"`
		IdentityEndpoint string `json:"identityPoolEndpoint"`
		LoginWith        object `json:"loginWith"`
		Verification     string `json:"signUpVerificationMethod"`
		Attributes       object `json:"userAttributes"`
		Guests           bool   `json:"allowGuestAccess"`
		Password         object `json:"passwordFormat"`
	}
	type auth struct{ Cognito cognito }
	return struct{ Auth auth }{auth{cognito{c.UserPoolID, c.ClientID, c.IdentityPoolID, c.endpoint(), c.endpoint(), object{"username": true}, "code",
		object{"email": object{"required": true}}, false, object{"minLength": passwordLength}}}}
}

// current returns what the file holds now, nothing if it is not there. A file that is not ours is an error: it may be the only copy
// of another backend's configuration.
func (f appFile) current() ([]byte, error) {
	text, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !bytes.HasPrefix(text, []byte(wroteThis)) {
		err = fmt.Errorf("%s was not written by imprint auth init: move it away, or name another folder with --out", f.path)
	}
	return text, err
}

// write says what it did. The file is for everybody who may read the app.
func (f appFile) write() (did string, err error) {
	is, err := f.current()
	switch {
	case err != nil:
		return "", err
	case string(is) == f.text:
		return "unchanged", nil
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o777); err != nil {
		return "", err
	}
	return "written", durable.WriteFile(f.path, []byte(f.text), 0o644)
}
