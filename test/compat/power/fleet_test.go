package power

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server"
)

type object = map[string]any

const (
	template = "lamps"
	policy   = "lamp"
)

func thingName(serial string) string { return "lamp-" + serial }

// A people is everybody who talked to the recorded server, with what they know from it.
type people struct {
	settings object     // of the template
	env      server.Env // of the recorded server
	roots    string     // PEM
	pool     string     // of users
	devices  []*device
	users    []string
	talker   identity // whose certificate publishers and subscribers use

	done, finished int // devices, over all cuts: what a cut left as it was, and what went on behind it
	delivered      int // messages that were answered before a cut and came behind it
}

func newPeople() *people {
	return &people{settings: object{"ClaimDevices": "1"}} // counted twice, a device could not finish
}

// A device in the middle of its flow. What it knows it keeps: it does not lose power.
type device struct {
	serial string
	claim  *identity
	own    *identity
	token  string
	thing  string // what the server called it in the end
}

type identity struct {
	ID, Cert, Key string // Cert and Key are PEM
}

// left is how long the certificate is valid.
func (i *identity) left() (time.Duration, error) {
	block, _ := pem.Decode([]byte(i.Cert))
	if block == nil {
		return 0, errors.New("not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return 0, err
	}
	return time.Until(cert.NotAfter), nil
}

// admin signs as the administrator whose key the recorded server gave out.
func (p *people) admin(env server.Env) (*client.Client, error) {
	return client.New(client.Config{Endpoint: env.Get("AWS_ENDPOINT_URL"), Region: env.Get("AWS_REGION"), CAFile: env.Get("AWS_CA_BUNDLE"),
		Creds: client.Credentials{AccessKeyID: p.env.Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(p.env.Get("AWS_SECRET_ACCESS_KEY"))}})
}

func document(v object) string {
	v["Version"] = "2012-10-17"
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // literals of this file
	}
	return string(b)
}

// prepare makes role, policy, template and user pool.
func (p *people) prepare(ctx context.Context, c *client.Client) error {
	trust := document(object{"Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})
	rights := document(object{"Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})
	body, err := json.Marshal(object{
		"Parameters": object{"SerialNumber": object{"Type": "String"}, "AWS::IoT::Certificate::Id": object{"Type": "String"}},
		"Mappings":   object{"Imprint": object{"Settings": p.settings}},
		"Resources": object{
			"thing": object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Fn::Join": []any{"", []any{"lamp-", object{"Ref": "SerialNumber"}}}},
				"AttributePayload": object{"serial": object{"Ref": "SerialNumber"}}}},
			"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
			"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": policy}},
		}})
	if err != nil {
		return err
	}
	var pool struct{ UserPool struct{ Id string } }
	err = errors.Join(
		c.Query(ctx, "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": "provisioning", "AssumeRolePolicyDocument": trust}, nil),
		c.Query(ctx, "iam", "2010-05-08", "AttachRolePolicy", map[string]string{"RoleName": "provisioning",
			"PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}, nil),
		c.REST(ctx, "iot", http.MethodPost, "/policies/"+policy, object{"policyDocument": rights}, nil),
		c.REST(ctx, "iot", http.MethodPost, "/provisioning-templates", object{"templateName": template, "enabled": true, "templateBody": string(body),
			"provisioningRoleArn": "arn:aws:iam::000000000000:role/provisioning"}, nil),
		c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.CreateUserPool", object{"PoolName": "staff"}, &pool))
	p.pool = pool.UserPool.Id
	return err
}

// invite makes a user, who is sent a password.
func (p *people) invite(ctx context.Context, c *client.Client, user string) error {
	return c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.AdminCreateUser", object{"UserPoolId": p.pool, "Username": user,
		"DesiredDeliveryMediums": []string{"EMAIL"}, "UserAttributes": []object{{"Name": "email", "Value": user + "@example.com"}}}, nil)
}

// live has n devices provisioned, several at a time, and some users invited meanwhile. mark is told what they see.
func (p *people) live(ctx context.Context, n int, mark func(string) error) error {
	c, err := p.admin(p.env)
	if err != nil {
		return err
	}
	if err := errors.Join(p.prepare(ctx, c), mark("prepared")); err != nil {
		return err
	}
	work := make(chan *device, n)
	for i := range n {
		d := &device{serial: strconv.Itoa(i)}
		p.devices = append(p.devices, d)
		work <- d
	}
	close(work)
	const workers = 4
	errs := make([]error, workers+2)
	first := make(chan identity, n)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for d := range work {
				if err := d.provision(ctx, p.env, c, mark); err != nil {
					errs[w] = fmt.Errorf("device %s: %w", d.serial, err)
					return
				}
				first <- *d.own
			}
		})
	}
	wg.Go(func() {
		select {
		case p.talker = <-first:
			errs[workers+1] = p.talk(ctx, p.talker, mark)
		case <-ctx.Done():
			errs[workers+1] = ctx.Err()
		}
	})
	wg.Go(func() {
		for i := range 3 {
			user := "user" + strconv.Itoa(i)
			p.users = append(p.users, user)
			if errs[workers] = errors.Join(p.invite(ctx, c, user), mark("invited "+user)); errs[workers] != nil {
				return
			}
		}
	})
	wg.Wait()
	return errors.Join(errs...)
}

// newClaim asks until there is one: on a machine that is busy elsewhere RSA keys are made slowly, and who asks for one too many hears so.
func newClaim(ctx context.Context, c *client.Client) (*identity, error) {
	var out struct {
		CertificateID  string `json:"certificateId"`
		CertificatePEM string `json:"certificatePem"`
		KeyPair        struct{ PrivateKey string }
	}
	for {
		err := c.REST(ctx, "iot", http.MethodPost, "/provisioning-templates/"+template+"/provisioning-claim", nil, &out)
		if client.Code(err) != "ThrottlingException" {
			return &identity{out.CertificateID, out.CertificatePEM, out.KeyPair.PrivateKey}, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second): // the least that the server asks for
		}
	}
}

// provision takes a device from wherever it is to its end.
func (d *device) provision(ctx context.Context, env server.Env, c *client.Client, mark func(string) error) (err error) {
	if d.claim == nil {
		if d.claim, err = newClaim(ctx, c); err != nil {
			return err
		}
		if err := mark("claim " + d.serial); err != nil {
			return err
		}
	}
	conn, err := connect(env, *d.claim, "device-"+d.serial)
	if err != nil {
		return fmt.Errorf("with the claim: %w", err)
	}
	defer conn.Disconnect(0)
	if d.own == nil {
		if err := d.create(conn); err != nil {
			return err
		}
		if err := mark("created " + d.serial); err != nil {
			return err
		}
	}
	var out struct{ ThingName string }
	if err := ask(conn, "$aws/provisioning-templates/"+template+"/provision/"+d.format(),
		object{"certificateOwnershipToken": d.token, "parameters": object{"SerialNumber": d.serial}}, &out); err != nil {
		return err
	}
	if d.thing = out.ThingName; d.thing != thingName(d.serial) {
		return fmt.Errorf("registered as %q", d.thing)
	}
	return mark("registered " + d.serial)
}

// create asks for a certificate: every third device has its key made by the service.
func (d *device) create(conn mqtt.Client) error {
	var out struct{ CertificateID, CertificatePEM, PrivateKey, CertificateOwnershipToken string }
	topic, request, key := "$aws/certificates/create/", object{}, ""
	if n, _ := strconv.Atoi(d.serial); n%3 > 0 {
		var csr string
		var err error
		if key, csr, err = newKey(); err != nil {
			return err
		}
		topic, request = "$aws/certificates/create-from-csr/", object{"certificateSigningRequest": csr}
	}
	if err := ask(conn, topic+d.format(), request, &out); err != nil {
		return err
	}
	d.own, d.token = &identity{out.CertificateID, out.CertificatePEM, cmp.Or(key, out.PrivateKey)}, out.CertificateOwnershipToken
	return nil
}

// format is that of every other device.
func (d *device) format() string {
	if n, _ := strconv.Atoi(d.serial); n%2 > 0 {
		return "cbor"
	}
	return "json"
}

func newKey() (keyPEM, csrPEM string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), err
}

const answerTimeout = 2 * time.Minute

// connect opens an MQTT connection with a certificate.
func connect(env server.Env, id identity, clientID string) (mqtt.Client, error) {
	return connectWith(env, id, clientID, nil, nil)
}

// connectWith is connect with other options; it shows the token of the CONNECT.
func connectWith(env server.Env, id identity, clientID string, change func(*mqtt.ClientOptions), token **mqtt.ConnectToken) (mqtt.Client, error) {
	pair, err := tls.X509KeyPair([]byte(id.Cert), []byte(id.Key))
	if err != nil {
		return nil, err
	}
	roots, err := os.ReadFile(env.Get("AWS_CA_BUNDLE"))
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(roots)
	o := mqtt.NewClientOptions().AddBroker("ssl://" + net.JoinHostPort(env.Get("IOT_ENDPOINT"), env.Get("IOT_PORT"))).
		SetTLSConfig(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{pair}, ServerName: env.Get("IOT_ENDPOINT")}).
		SetClientID(clientID).SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(answerTimeout)
	if change != nil {
		change(o)
	}
	c := mqtt.NewClient(o)
	t := c.Connect()
	if token != nil {
		*token = t.(*mqtt.ConnectToken)
	}
	return c, wait(t)
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(answerTimeout) {
		return fmt.Errorf("no acknowledgement within %v", answerTimeout)
	}
	return t.Error()
}

// ask publishes a request to a reserved topic and reads the answer.
func ask(c mqtt.Client, topic string, in, out any) error {
	answers := make(chan mqtt.Message, 2)
	for _, end := range []string{"/accepted", "/rejected"} {
		if err := wait(c.Subscribe(topic+end, 1, func(_ mqtt.Client, m mqtt.Message) { answers <- m })); err != nil {
			return err
		}
	}
	encode, decode := json.Marshal, json.Unmarshal
	if strings.HasSuffix(topic, "/cbor") {
		encode, decode = cbor.Marshal, cbor.Unmarshal
	}
	body, err := encode(in)
	if err != nil {
		return err
	}
	if err := wait(c.Publish(topic, 1, false, body)); err != nil {
		return err
	}
	select {
	case m := <-answers:
		if m.Topic() != topic+"/accepted" {
			return fmt.Errorf("%s: %s", m.Topic(), m.Payload())
		}
		return decode(m.Payload(), out)
	case <-time.After(answerTimeout):
		return fmt.Errorf("%s: no answer within %v", topic, answerTimeout)
	}
}

// outbox returns who was sent a message.
func outbox(data string) (map[string]bool, error) {
	names, err := filepath.Glob(filepath.Join(data, "outbox", "*.json"))
	if err != nil {
		return nil, err
	}
	sent := map[string]bool{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var m struct{ Username, Body string }
		if err := json.Unmarshal(b, &m); err != nil || m.Body == "" {
			return nil, fmt.Errorf("%s is not whole: %v: %q", name, err, b)
		}
		sent[m.Username] = true
	}
	return sent, nil
}
