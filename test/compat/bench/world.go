package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

const (
	templateName = "bench"
	templateP256 = "bench-p256" // the same, with P-256 claims
)

type object = map[string]any

// A world is a prepared server.
type world struct {
	server *process
	admin  *client.Client
	anon   *client.Client
	addr   string
	tls    *tls.Config
	claims []tls.Certificate

	poolID, appID, identityPoolID string

	serial  atomic.Int64 // of the next device
	mu      sync.Mutex
	devices []device // provisioned ones
}

// A device is an identity that a flow has yielded.
type device struct {
	thing string
	cert  tls.Certificate
}

// A candidate has made its key and CSR already: the client's part in a flow should be small.
type candidate struct {
	key *ecdsa.PrivateKey
	csr string
}

const user, password = "installer", "Bench-pass-1a!"

// prepare makes role, policy, template, user pool and one claim per worker through the public API.
func prepare(ctx context.Context, s *process, workers int) (*world, error) {
	w := &world{}
	for _, step := range []func() error{
		func() error { return w.meet(s) },
		func() error { return w.template(ctx) },
		func() error { return w.users(ctx) },
		func() error { return w.identities(ctx) },
		func() error { return w.renewClaims(ctx, workers) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// meet makes the clients of a server.
func (w *world) meet(s *process) (err error) {
	w.server = s
	if w.anon, err = client.New(client.Config{Endpoint: s.env.Get("AWS_ENDPOINT_URL"), Region: s.env.Get("AWS_REGION"), CAFile: s.env.Get("AWS_CA_BUNDLE")}); err != nil {
		return err
	}
	roots, err := os.ReadFile(s.env.Get("AWS_CA_BUNDLE"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	w.addr = net.JoinHostPort(s.env.Get("IOT_ENDPOINT"), s.env.Get("IOT_PORT"))
	w.admin = w.anon.As(client.Credentials{AccessKeyID: s.env.Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.env.Get("AWS_SECRET_ACCESS_KEY"))})
	w.tls = &tls.Config{RootCAs: pool, ServerName: s.env.Get("IOT_ENDPOINT"), MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}
	return nil
}

// renewClaims gives the workers claims that last for the next minutes.
func (w *world) renewClaims(ctx context.Context, n int) error {
	w.claims = nil
	for range n {
		c, err := w.claim(ctx)
		if err != nil {
			return err
		}
		w.claims = append(w.claims, c)
	}
	return nil
}

func document(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // literals of this file
	}
	return string(b)
}

// trustIoT lets AWS IoT assume a role.
var trustIoT = object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}

func (w *world) template(ctx context.Context) error {
	const thing = "${iot:Connection.Thing.ThingName}"
	arn := func(resource string) string {
		return "arn:aws:iot:" + w.server.env.Get("AWS_REGION") + ":000000000000:" + resource
	}
	policy := object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": arn("client/" + thing)},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": arn("topic/lamps/" + thing + "/*")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": arn("topicfilter/lamps/" + thing + "/*")},
	}}
	const iam = "2010-05-08"
	if err := w.admin.Query(ctx, "iam", iam, "CreateRole", map[string]string{"RoleName": "provisioning", "AssumeRolePolicyDocument": document(trustIoT)}, nil); err != nil {
		return err
	}
	if err := w.admin.Query(ctx, "iam", iam, "AttachRolePolicy", map[string]string{"RoleName": "provisioning",
		"PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}, nil); err != nil {
		return err
	}
	if err := w.admin.REST(ctx, "iot", http.MethodPost, "/policies/lamp", object{"policyDocument": document(policy)}, nil); err != nil {
		return err
	}
	if err := w.addTemplate(ctx, templateName, nil, nil); err != nil {
		return err
	}
	return w.addTemplate(ctx, templateP256, object{"ClaimKeyType": "P-256"}, nil)
}

// addTemplate makes a template with settings of ours and a hook, both nil for none.
func (w *world) addTemplate(ctx context.Context, name string, settings, hook object) error {
	body := object{
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
	if settings != nil {
		body["Mappings"] = object{"Imprint": object{"Settings": settings}}
	}
	in := object{"templateName": name, "enabled": true, "templateBody": document(body), "provisioningRoleArn": "arn:aws:iam::000000000000:role/provisioning"}
	if hook != nil {
		in["preProvisioningHook"] = hook
	}
	return w.admin.REST(ctx, "iot", http.MethodPost, "/provisioning-templates", in, nil)
}

func (w *world) users(ctx context.Context) error {
	idp := func(operation string, in object, out any) error {
		return w.admin.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, out)
	}
	var pool struct{ UserPool struct{ Id string } }
	if err := idp("CreateUserPool", object{"PoolName": "staff"}, &pool); err != nil {
		return err
	}
	w.poolID = pool.UserPool.Id
	var app struct{ UserPoolClient struct{ ClientId string } }
	if err := idp("CreateUserPoolClient", object{"UserPoolId": w.poolID, "ClientName": "app"}, &app); err != nil {
		return err
	}
	w.appID = app.UserPoolClient.ClientId
	if err := idp("AdminCreateUser", object{"UserPoolId": w.poolID, "Username": user, "MessageAction": "SUPPRESS"}, nil); err != nil {
		return err
	}
	return idp("AdminSetUserPassword", object{"UserPoolId": w.poolID, "Username": user, "Password": password, "Permanent": true}, nil)
}

// claim asks for a claim, as an administrator.
func (w *world) claim(ctx context.Context) (tls.Certificate, error) {
	return w.claimAs(ctx, templateName, w.admin)
}

func (w *world) claimAs(ctx context.Context, template string, who *client.Client) (tls.Certificate, error) {
	var out struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	if err := who.REST(ctx, "iot", http.MethodPost, "/provisioning-templates/"+template+"/provisioning-claim", nil, &out); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair([]byte(out.CertificatePem), []byte(out.KeyPair.PrivateKey))
}

func newCandidate() (candidate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return candidate{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return candidate{}, err
	}
	return candidate{key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}, nil
}
