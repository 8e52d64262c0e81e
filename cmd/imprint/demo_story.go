package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

type object = map[string]any

// administrator makes everything that an installer and a device need, over the public API.
func (d *demo) administrator(ctx context.Context) error {
	d.title("The administrator prepares (once)")
	for _, f := range []func(context.Context) error{d.provisioningRole, d.policyAndTemplate, d.userPool, d.identityPool} {
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
}

func document(v object) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // literals of this file
	}
	return string(b)
}

func allow(action, resource any) object {
	return object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": action, "Resource": resource}}
}

func (d *demo) role(ctx context.Context, name string, trust object) error {
	trust["Version"] = "2012-10-17"
	return d.admin.Query(ctx, "iam", iamVersion, "CreateRole", map[string]string{"RoleName": name, "AssumeRolePolicyDocument": document(trust)}, nil)
}

func (d *demo) roleARN(name string) string { return "arn:aws:iam::000000000000:role/" + name }

func (d *demo) iotARN(resource string) string {
	return "arn:aws:iot:" + d.env.Get("AWS_REGION") + ":000000000000:" + resource
}

func (d *demo) provisioningRole(ctx context.Context) error {
	d.step("a provisioning role, which only the service may assume")
	err := d.role(ctx, "provisioning", object{"Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})
	if err != nil {
		return err
	}
	return d.admin.Query(ctx, "iam", iamVersion, "AttachRolePolicy", map[string]string{"RoleName": "provisioning",
		"PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}, nil)
}

func (d *demo) policyAndTemplate(ctx context.Context) error {
	const thing = "${iot:Connection.Thing.ThingName}"
	d.step("a policy: a lamp connects as itself and uses its own topics, nothing else")
	policy := object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": d.iotARN("client/" + thing)},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": d.iotARN("topic/lamps/" + thing + "/*")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": d.iotARN("topicfilter/lamps/" + thing + "/*")},
	}}
	if err := d.admin.REST(ctx, "iot", http.MethodPost, "/policies/lamp", object{"policyDocument": document(policy)}, nil); err != nil {
		return err
	}
	d.step("a template %q: thing lamp-<serial>, that policy, and a configuration for the device", demoTemplate)
	template := object{
		"Parameters": object{"SerialNumber": object{"Type": "String"}, "AWS::IoT::Certificate::Id": object{"Type": "String"}},
		"Resources": object{
			"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{
				"ThingName":        object{"Fn::Join": []any{"", []any{"lamp-", object{"Ref": "SerialNumber"}}}},
				"AttributePayload": object{"serial": object{"Ref": "SerialNumber"}}}},
			"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
			"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "lamp"}},
		},
		"DeviceConfiguration": object{"reportEverySeconds": "60"},
	}
	return d.admin.REST(ctx, "iot", http.MethodPost, "/provisioning-templates", object{"templateName": demoTemplate, "enabled": true,
		"templateBody": document(template), "provisioningRoleArn": d.roleARN("provisioning")}, nil)
}

func (d *demo) idp(ctx context.Context, operation string, in object, out any) error {
	return d.admin.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, out)
}

func (d *demo) userPool(ctx context.Context) error {
	d.step("a user pool with a group %q and the installer %s in it", "installers", demoUser)
	var pool struct{ UserPool struct{ Id string } }
	if err := d.idp(ctx, "CreateUserPool", object{"PoolName": "staff", "AdminCreateUserConfig": object{"AllowAdminCreateUserOnly": true}}, &pool); err != nil {
		return err
	}
	d.poolID = pool.UserPool.Id
	var app struct{ UserPoolClient struct{ ClientId string } }
	if err := d.idp(ctx, "CreateUserPoolClient", object{"UserPoolId": d.poolID, "ClientName": "installer-app"}, &app); err != nil {
		return err
	}
	d.clientID = app.UserPoolClient.ClientId

	d.identityPoolID = ""
	var identities struct{ IdentityPoolId string }
	err := d.admin.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.CreateIdentityPool", object{
		"IdentityPoolName": "staff", "AllowUnauthenticatedIdentities": false,
		"CognitoIdentityProviders": []object{{"ProviderName": d.provider(), "ClientId": d.clientID}}}, &identities)
	if err != nil {
		return err
	}
	d.identityPoolID = identities.IdentityPoolId
	trust := object{"Statement": object{"Effect": "Allow", "Principal": object{"Federated": "cognito-identity.amazonaws.com"},
		"Action":    "sts:AssumeRoleWithWebIdentity",
		"Condition": object{"StringEquals": object{"cognito-identity.amazonaws.com:aud": d.identityPoolID}}}}
	if err := d.role(ctx, "installer", trust); err != nil {
		return err
	}
	err = d.admin.Query(ctx, "iam", iamVersion, "PutRolePolicy", map[string]string{"RoleName": "installer", "PolicyName": "claims",
		"PolicyDocument": document(allow("iot:CreateProvisioningClaim", d.iotARN("provisioningtemplate/"+demoTemplate)))}, nil)
	if err != nil {
		return err
	}
	if err := d.idp(ctx, "CreateGroup", object{"UserPoolId": d.poolID, "GroupName": "installers", "RoleArn": d.roleARN("installer"), "Precedence": 1}, nil); err != nil {
		return err
	}
	d.password = fleet.Secret("Demo-" + fleet.RandomString(16, fleet.AlphaAlnum) + "-1a!")
	for _, call := range []struct {
		name string
		in   object
	}{
		{"AdminCreateUser", object{"MessageAction": "SUPPRESS"}},
		{"AdminSetUserPassword", object{"Password": d.password.Reveal(), "Permanent": true}},
		{"AdminAddUserToGroup", object{"GroupName": "installers"}},
	} {
		call.in["UserPoolId"], call.in["Username"] = d.poolID, demoUser
		if err := d.idp(ctx, call.name, call.in, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) provider() string {
	return "cognito-idp." + d.env.Get("AWS_REGION") + ".amazonaws.com/" + d.poolID
}

func (d *demo) identityPool(ctx context.Context) error {
	d.step("an identity pool that turns a sign-in into the credentials of the group's role")
	return d.admin.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.SetIdentityPoolRoles", object{"IdentityPoolId": d.identityPoolID,
		"Roles":        object{"authenticated": d.roleARN("installer")},
		"RoleMappings": object{d.provider() + ":" + d.clientID: object{"Type": "Token", "AmbiguousRoleResolution": "Deny"}}}, nil)
}

// installer signs in and gets a claim with nothing but a user name and a password.
func (d *demo) installer(ctx context.Context) error {
	d.title("The installer stands before the device")
	d.step("%s signs in (SRP: the password stays in her app)", demoUser)
	if _, err := d.anon.SignIn(ctx, d.poolID, d.clientID, demoUser, "not her password"); client.Code(err) != "NotAuthorizedException" {
		return fmt.Errorf("a wrong password was not refused: %v", err)
	}
	tokens, err := d.anon.SignIn(ctx, d.poolID, d.clientID, demoUser, d.password)
	if err != nil {
		return err
	}
	d.note("a wrong password was refused, the right one gave Id, Access and Refresh tokens")

	d.step("the identity pool trades the Id token for temporary credentials of the role that the token's group selects")
	logins := object{d.provider(): tokens.ID.Reveal()}
	var id struct{ IdentityId string }
	if err := d.anon.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.GetId", object{"IdentityPoolId": d.identityPoolID, "Logins": logins}, &id); err != nil {
		return err
	}
	var creds struct {
		Credentials struct{ AccessKeyId, SecretKey, SessionToken string }
	}
	if err := d.anon.JSON(ctx, "cognito-identity", "AWSCognitoIdentityService.GetCredentialsForIdentity", object{"IdentityId": id.IdentityId, "Logins": logins}, &creds); err != nil {
		return err
	}
	k := creds.Credentials
	ida := d.anon.As(client.Credentials{AccessKeyID: k.AccessKeyId, Secret: fleet.Secret(k.SecretKey), Token: fleet.Secret(k.SessionToken)})
	var who struct {
		Result struct{ Arn string } `xml:"GetCallerIdentityResult"`
	}
	if err := ida.Query(ctx, "sts", stsVersion, "GetCallerIdentity", nil, &who); err != nil {
		return err
	}
	d.note("she is now %s", who.Result.Arn)
	if err := ida.REST(ctx, "iot", http.MethodGet, "/things", nil, nil); client.Code(err) != "AccessDeniedException" {
		return fmt.Errorf("the installer's role allows more than a claim: listing things gave %v", err)
	}
	d.note("and may do one thing only: listing the fleet was refused")

	d.step("she asks for a claim for the template %q", demoTemplate)
	var claim json.RawMessage
	if err := ida.REST(ctx, "iot", http.MethodPost, "/provisioning-templates/"+url.PathEscape(demoTemplate)+"/provisioning-claim", nil, &claim); err != nil {
		return err
	}
	var seen struct {
		CertificateId string
		Expiration    float64
	}
	if err := json.Unmarshal(claim, &seen); err != nil {
		return err
	}
	d.claimJSON, d.claimID = claim, seen.CertificateId
	d.note("certificate %.12s… and its key, good for five minutes", seen.CertificateId)
	return nil
}

// deviceStatus is the line that imprint-device prints.
type deviceStatus struct {
	State         string
	ThingName     string
	CertificateId string
	Claim         string
	Files         struct{ Certificate, PrivateKey, CA, Config string }
	Error         struct{ Code, Message string }
}

// device plays the device's part in a process of its own.
func (d *demo) device(ctx context.Context) error {
	d.title("The device (imprint-device, a separate process) gets the claim and works alone")
	d.step("it connects with the claim over mutual TLS, sends a CSR for a key of its own, registers, stores its identity, reconnects with it")
	out, err := d.runDevice(ctx, d.claimJSON, "provision", "--claim", "-", "--template", demoTemplate, "--param", "SerialNumber="+demoSerial,
		"--endpoint", d.env.Get("IOT_ENDPOINT"), "--port", d.env.Get("IOT_PORT"), "--ca", d.env.Get("AWS_CA_BUNDLE"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &d.status); err != nil {
		return fmt.Errorf("imprint-device printed %q: %w", out, err)
	}
	if d.status.State != "provisioned" || d.status.ThingName != demoThing {
		return fmt.Errorf("the device ended as %s", out)
	}
	d.note("it is now %s with certificate %.12s…", d.status.ThingName, d.status.CertificateId)
	if err := d.claimIsErased(); err != nil {
		return err
	}
	d.note("the claim's key is nowhere on the device any more")

	d.step("it publishes on its own topic and hears itself")
	topic := "lamps/" + demoThing + "/state"
	out, err = d.runDevice(ctx, nil, "run", "--once", "--client-id", demoThing, "--port", d.env.Get("IOT_PORT"), "--subscribe", topic, "--publish", topic+`={"on":true}`)
	if err != nil {
		return err
	}
	if !strings.Contains(string(out), `"message"`) {
		return fmt.Errorf("the device did not hear its own message: %s", out)
	}
	d.note("%s", topic)

	d.step("it tries another lamp's topic")
	out, err = d.runDevice(ctx, nil, "run", "--once", "--client-id", demoThing, "--port", d.env.Get("IOT_PORT"), "--publish", "lamps/lamp-9999/state=0")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitRefused {
		return fmt.Errorf("publishing on another's topic was not refused: %v %s", err, out)
	}
	d.note("refused: its policy holds it to its own")
	return nil
}

// exitRefused is imprint-device's exit code for a publish that the service refused.
const exitRefused = 7

func (d *demo) runDevice(ctx context.Context, stdin []byte, verb string, args ...string) ([]byte, error) {
	bin, err := deviceBinary()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bin, append([]string{verb, "--dir", filepath.Join(d.dir, "device")}, args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%w: %s%s", err, out, stderr.Bytes())
	}
	return out, nil
}

// deviceBinary finds imprint-device beside this binary or on the PATH.
func deviceBinary() (string, error) {
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "imprint-device"); exec.Command(beside, "version").Run() == nil {
			return beside, nil
		}
	}
	bin, err := exec.LookPath("imprint-device")
	if err != nil {
		return "", errors.New("imprint-device is neither beside imprint nor on the PATH: `make build` builds both")
	}
	return bin, nil
}

// claimIsErased looks through every file of the device for the claim's private key.
func (d *demo) claimIsErased() error {
	var claim struct{ KeyPair struct{ PrivateKey string } }
	if err := json.Unmarshal(d.claimJSON, &claim); err != nil {
		return err
	}
	lines := strings.Split(claim.KeyPair.PrivateKey, "\n")
	if len(lines) < 3 {
		return errors.New("the claim came without a private key")
	}
	return filepath.WalkDir(filepath.Join(d.dir, "device"), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(lines[1])) {
			err = fmt.Errorf("the claim's key is still in %s", path)
		}
		return err
	})
}

// verdict asks the service what it thinks happened.
func (d *demo) verdict(ctx context.Context) error {
	d.title("What the service says")
	d.step("the registry knows the thing and its one active certificate")
	var things struct{ Principals []string }
	if err := d.admin.REST(ctx, "iot", http.MethodGet, "/things/"+demoThing+"/principals", nil, &things); err != nil {
		return err
	}
	if len(things.Principals) != 1 || !strings.HasSuffix(things.Principals[0], d.status.CertificateId) {
		return fmt.Errorf("%s has the principals %v", demoThing, things.Principals)
	}
	var cert struct{ CertificateDescription struct{ Status string } }
	if err := d.admin.REST(ctx, "iot", http.MethodGet, "/certificates/"+d.status.CertificateId, nil, &cert); err != nil {
		return err
	}
	if cert.CertificateDescription.Status != string(fleet.Active) {
		return fmt.Errorf("the certificate is %s", cert.CertificateDescription.Status)
	}
	d.note("%s: %s", demoThing, cert.CertificateDescription.Status)
	d.step("imprint explain --last 2 %s: what it was refused, and its registration", demoSerial)
	records, err := explain(ctx, d.admin, demoSerial, 2)
	if err != nil {
		return err
	}
	if len(records) != 2 || records[0].Outcome != trace.Refused || records[1].Kind != trace.Register || records[1].Outcome != trace.OK {
		return fmt.Errorf("the traces are not those of the refusal and the registration: %v", records)
	}
	for _, r := range records {
		for line := range strings.SplitSeq(strings.TrimSpace(r.Text()), "\n") {
			fmt.Fprintf(d.out, "    %s\n", d.paint("2", line))
		}
	}
	return nil
}
