//go:debug rsa1024min=0

package compat

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/paho"
)

// loopback is what a device on this machine is known by before it shows a certificate.
const loopback = "127.0.0.1"

func (f *field) claim(t *testing.T) claim {
	t.Helper()
	return f.world.claim(t, f.installer)
}

// shortClaim is a claim for a template whose claims live half a minute.
func (f *field) shortClaim(t *testing.T) claim {
	t.Helper()
	body := f.world.templateBody()
	body["Mappings"].(object)["Imprint"] = object{"Settings": object{"ClaimSeconds": "30"}}
	name := f.template(t, "brief", body)
	_, err := f.world.admin.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &f.world.installerRole, PolicyName: aws.String("brief"), PolicyDocument: text(object{
		"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:CreateProvisioningClaim", "Resource": f.world.iotARN("provisioningtemplate/" + name)}})})
	check(t, err)
	out, err := f.installer.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &name})
	check(t, err)
	return claim{*out.CertificateId, *out.CertificatePem, *out.KeyPair.PrivateKey}
}

// template makes another template of the world's role.
func (f *field) template(t *testing.T, name string, body object, change ...func(*iot.CreateProvisioningTemplateInput)) string {
	t.Helper()
	in := &iot.CreateProvisioningTemplateInput{TemplateName: aws.String(f.world.prefix + "-" + name), Enabled: aws.Bool(true),
		ProvisioningRoleArn: aws.String(f.world.roleARN(f.world.provisioningRole)), TemplateBody: text(body)}
	for _, c := range change {
		c(in)
	}
	_, err := f.world.admin.iot.CreateProvisioningTemplate(t.Context(), in)
	check(t, err)
	return *in.TemplateName
}

// registered makes a certificate by the API, active, with a policy of its own if statements are given.
func (f *field) registered(t *testing.T, statements ...object) claim {
	t.Helper()
	out, err := f.world.admin.iot.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	check(t, err)
	if len(statements) > 0 {
		f.policy(t, *out.CertificateArn, object{"Version": "2012-10-17", "Statement": statements})
	}
	return claim{*out.CertificateId, *out.CertificatePem, *out.KeyPair.PrivateKey}
}

func (f *field) policy(t *testing.T, target string, document any) {
	t.Helper()
	name := f.world.prefix + "-policy-" + f.serial()
	_, err := f.world.admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: text(document)})
	check(t, err)
	_, err = f.world.admin.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: &target})
	check(t, err)
}

// bootstrap is a certificate that devices share, with the policy that `imprint claim policy` prints for the templates.
func (f *field) bootstrap(t *testing.T, templates ...string) claim {
	t.Helper()
	id := f.registered(t)
	doc := must[object](t, f.site.run(t, f.dir, nil, imprint(), append([]string{"claim", "policy", "--format", "json", "--keys", "device"}, templates...)...))
	f.policy(t, f.world.iotARN("cert/"+id.id), doc)
	return id
}

func (f *field) dial(t *testing.T, id claim, clientID string, change ...func(*tls.Config)) (*mqtt5Device, error) {
	t.Helper()
	cfg := f.site.tlsConfig(t, id.cert, id.key)
	for _, c := range change {
		c(cfg)
	}
	return dialMQTT5(t, f.site.mqttAddr(), cfg, clientID)
}

// device is one that was provisioned as the world's template says.
func (f *field) device(t *testing.T) (id claim, thing string) {
	t.Helper()
	v := variant{format: "json", csr: true, mqtt5: true}
	c := f.claim(t)
	cert, out := v.provision(t, f.world, c, f.serial())
	return claim{cert.CertificateID, cert.CertificatePEM, cert.PrivateKey}, *out.ThingName
}

// refusedTLS dials and returns what the client hears. In TLS 1.3 that comes later, and may get lost when the connection is closed.
func (f *field) refusedTLS(t *testing.T, id claim, change ...func(*tls.Config)) string {
	t.Helper()
	d, err := f.dial(t, id, "lamp", append([]func(*tls.Config){func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }}, change...)...)
	if err == nil {
		d.close()
		t.Fatal("the connection was let in")
	}
	return heardIs(err)
}

func noCertificate(c *tls.Config) { c.Certificates = nil }

var tlsFailures = []failure{
	{"The device shows no certificate", func(t *testing.T, f *field) (string, string) {
		return loopback, f.refusedTLS(t, f.claim(t), noCertificate)
	}, "showed no certificate", "its claim"},
	{"The device does not trust the server", func(t *testing.T, f *field) (string, string) {
		return loopback, f.refusedTLS(t, f.claim(t), func(c *tls.Config) { c.RootCAs = x509.NewCertPool() })
	}, "refused the server's certificate", "imprint ca"},
	{"The device asks for another server name", func(t *testing.T, f *field) (string, string) {
		return loopback, f.refusedTLS(t, f.claim(t), func(c *tls.Config) { c.ServerName = "iot.example.com" })
	}, `server name "iot.example.com"`, "DescribeEndpoint"},
	{"The device offers another protocol by ALPN", func(t *testing.T, f *field) (string, string) {
		return loopback, f.refusedTLS(t, f.claim(t), func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	}, "offers by ALPN http/1.1", "x-amzn-mqtt-ca"},
	{"The device speaks an old version of TLS", func(t *testing.T, f *field) (string, string) {
		return loopback, f.refusedTLS(t, f.claim(t), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	}, "old version of TLS", "TLS 1.2"},
	{"The device speaks MQTT without TLS", func(t *testing.T, f *field) (string, string) {
		_, err := dialMQTT3(t, "tcp://"+f.site.mqttAddr(), nil, "lamp")
		return loopback, heardIs(err)
	}, "MQTT without TLS", "turn TLS on"},
	{"The client speaks HTTP to the port of MQTT", func(t *testing.T, f *field) (string, string) {
		res, err := http.Get("http://" + f.site.mqttAddr())
		if err == nil {
			res.Body.Close()
			return loopback, res.Status
		}
		return loopback, ""
	}, "HTTP without TLS", "https://"},
	{"The device uses certificate and key of different pairs", func(t *testing.T, f *field) (string, string) {
		a, b := f.claim(t), f.claim(t)
		pair, err := tls.X509KeyPair([]byte(a.cert), []byte(a.key))
		check(t, err)
		other, err := tls.X509KeyPair([]byte(b.cert), []byte(b.key))
		check(t, err)
		pair.PrivateKey = other.PrivateKey
		return loopback, f.refusedTLS(t, a, func(c *tls.Config) { c.Certificates = []tls.Certificate{pair} })
	}, "does not hold the key", "one pair"},
	{"Another CA has signed the device's certificate, by its id", func(t *testing.T, f *field) (string, string) {
		id, _ := unregistered(t)
		heard := f.refusedTLS(t, id)
		block, _ := pem.Decode([]byte(id.cert))
		return certificateID(block.Bytes), heard
	}, "is not registered", "register the certificate"},
	{"Another CA has signed the device's certificate, by its serial number", func(t *testing.T, f *field) (string, string) {
		id, serial := unregistered(t)
		heard := f.refusedTLS(t, id)
		colons := strings.ToUpper(serial)
		for i := len(colons) - 2; i > 0; i -= 2 {
			colons = colons[:i] + ":" + colons[i:]
		}
		f.names[colons] = "4A:0F:…"
		return colons, heard
	}, "is not registered", "register the certificate"},
	{"The certificate is revoked", func(t *testing.T, f *field) (string, string) { return f.withStatus(t, types.CertificateStatusRevoked) }, "is REVOKED", "a new certificate"},
	{"The certificate is inactive", func(t *testing.T, f *field) (string, string) { return f.withStatus(t, types.CertificateStatusInactive) }, "is INACTIVE", "--new-status ACTIVE"},
	{"The certificate was never registered", func(t *testing.T, f *field) (string, string) {
		v := variant{format: "json", csr: true, mqtt5: true}
		d, err := f.dial(t, f.claim(t), "lamp")
		check(t, err)
		defer d.close()
		c := v.create(t, d)
		return c.CertificateID, f.refusedTLS(t, claim{c.CertificateID, c.CertificatePEM, c.PrivateKey})
	}, "PENDING_ACTIVATION", "register the thing"},
	{"The template of the claim is disabled", func(t *testing.T, f *field) (string, string) {
		c := f.claim(t)
		f.enable(t, f.world.template, false)
		defer f.enable(t, f.world.template, true)
		return c.id, f.refusedTLS(t, c)
	}, "is disabled", "enable the template"},
	{"The claim has expired", func(t *testing.T, f *field) (string, string) {
		id := f.oldClaim
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for range 100 { // it lives half a minute, and was made at the beginning
			d, err := f.dial(t, id, "lamp", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
			if err != nil {
				return id.id, heardIs(err)
			}
			d.close()
			<-tick.C
		}
		t.Fatal("the claim does not expire")
		return "", ""
	}, "the claim expired", "ask for a new claim"},
}

// absent is an address of this machine where nobody listens. It is taken: a port that is merely free may be somebody's by the time of the call.
func absent(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { check(t, syscall.Close(fd)) })
	check(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(fd)
	check(t, err)
	return net.JoinHostPort(loopback, strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
}

// unregistered is a certificate that nobody has registered, and its serial number in hexadecimal.
func unregistered(t *testing.T) (claim, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	check(t, err)
	serial.SetBit(serial, 126, 1)
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "stranger"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	check(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(t, err)
	return claim{"", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}))}, fmt.Sprintf("%032x", serial)
}

func (f *field) withStatus(t *testing.T, status types.CertificateStatus) (string, string) {
	t.Helper()
	id := f.registered(t)
	_, err := f.world.admin.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &id.id, NewStatus: status})
	check(t, err)
	return id.id, f.refusedTLS(t, id)
}

func (f *field) enable(t *testing.T, template string, enabled bool) {
	t.Helper()
	_, err := f.world.admin.iot.UpdateProvisioningTemplate(t.Context(), &iot.UpdateProvisioningTemplateInput{TemplateName: &template, Enabled: &enabled})
	check(t, err)
}

var connectFailures = []failure{
	{"The client id is not the name of the thing", func(t *testing.T, f *field) (string, string) {
		id, _ := f.device(t)
		_, err := f.dial(t, id, "another-name")
		return id.id, heardIs(err)
	}, "iot:Connect on client/another-name is not allowed", "whose name is the client id"},
	{"The certificate has no policy", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t)
		_, err := f.dial(t, id, "lamp")
		return id.id, heardIs(err)
	}, "no statement matches", "in a policy that is attached"},
	{"A policy denies the connection", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t, object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, object{"Effect": "Deny", "Action": "iot:Connect", "Resource": f.world.iotARN("client/old-*")})
		_, err := f.dial(t, id, "old-lamp")
		return id.id, heardIs(err)
	}, "explicit deny by policy", "change that statement"},
	{"Two devices share a client id", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t, object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
		a, err := f.dial(t, id, "twin")
		check(t, err)
		_, err = f.dial(t, id, "twin")
		check(t, err)
		return "twin", fmt.Sprintf("DISCONNECT 0x%02x", <-a.lost)
	}, "the client id connected again", "a client id of its own"},
	{"The device may not subscribe", func(t *testing.T, f *field) (string, string) {
		id, thing := f.device(t)
		d, err := f.dial(t, id, thing)
		check(t, err)
		err = d.trySubscribe(t, "lamps/+/state")
		return thing, heardIs(err)
	}, "iot:Subscribe on topicfilter/lamps/+/state is not allowed", "allow iot:Subscribe"},
	{"The device may not publish", func(t *testing.T, f *field) (string, string) {
		id, thing := f.device(t)
		d, err := f.dial(t, id, thing)
		check(t, err)
		return thing, heardIs(d.tryPublish(t, "lamps/another/state", []byte("{}")))
	}, "iot:Publish on topic/lamps/another/state is not allowed", "allow iot:Publish"},
	{"A claim publishes to the topic of another template", func(t *testing.T, f *field) (string, string) {
		c := f.claim(t)
		d, err := f.dial(t, c, "lamp-"+f.serial())
		check(t, err)
		return c.id, heardIs(d.tryPublish(t, registerTopic("pumps", "json"), []byte("{}")))
	}, "may not publish to $aws/provisioning-templates/pumps", "its own template only"},
	{"A reserved topic is misspelt", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t, object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
		d, err := f.dial(t, id, "speller")
		check(t, err)
		_ = d.tryPublish(t, "$aws/certificates/create/jsn", []byte("{}"))
		return id.id, fmt.Sprintf("DISCONNECT 0x%02x", <-d.lost)
	}, "nothing is served on $aws/certificates/create/jsn", "look at the topic's spelling"},
	{"A message is too large", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t, object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
		d, err := f.dial(t, id, "talker")
		check(t, err)
		go func() {
			_, _ = d.client.Publish(context.Background(), &paho.Publish{Topic: "a/b", QoS: 0, Payload: make([]byte, 200<<10)})
		}()
		return id.id, fmt.Sprintf("DISCONNECT 0x%02x", <-d.lost)
	}, "", "at once"},
}

// asks publishes a request on a reserved topic and returns the trace id and the text of the rejection.
func (f *field) asks(t *testing.T, id claim, topic string, payload any) (string, string) {
	t.Helper()
	d, err := f.dial(t, id, "lamp-"+f.serial())
	check(t, err)
	defer d.close()
	return f.asksOn(t, d, topic, payload)
}

func (f *field) asksOn(t *testing.T, d device, topic string, payload any) (string, string) {
	t.Helper()
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, []byte(*text(payload)))
	from, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
	if from != topic+"/rejected" {
		t.Fatalf("accepted: %s", answer)
	}
	no := must[rejected](t, string(answer))
	return no.TraceID, fmt.Sprintf("%d %s: %s", no.StatusCode, no.ErrorCode, no.ErrorMessage)
}

const csrTopic, keysTopic = "$aws/certificates/create-from-csr/json", "$aws/certificates/create/json"

// csrOf is a request of the key.
func csrOf(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "lamp"}}, key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

var createFailures = []failure{
	{"The request for a certificate cannot be read", func(t *testing.T, f *field) (string, string) {
		_, csr := newCSR(t)
		return f.asks(t, f.claim(t), csrTopic, object{"certificateSigningRequest": strings.Replace(csr, "\n", " ", 3)})
	}, "certificate signing request", "PEM"},
	{"The request for a certificate was changed", func(t *testing.T, f *field) (string, string) {
		_, csr := newCSR(t)
		block, _ := pem.Decode([]byte(csr))
		block.Bytes[len(block.Bytes)-1] ^= 1
		return f.asks(t, f.claim(t), csrTopic, object{"certificateSigningRequest": string(pem.EncodeToMemory(block))})
	}, "signature", "sign the request"},
	{"The device's key is weak", func(t *testing.T, f *field) (string, string) {
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		check(t, err)
		return f.asks(t, f.claim(t), csrTopic, object{"certificateSigningRequest": csrOf(t, key)})
	}, "has 1024 bits", "2048 bits or more"},
	{"The device's key is on another curve", func(t *testing.T, f *field) (string, string) {
		key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		check(t, err)
		return f.asks(t, f.claim(t), csrTopic, object{"certificateSigningRequest": csrOf(t, key)})
	}, "curve P-224", "P-256 or P-384"},
	{"The payload is no JSON", func(t *testing.T, f *field) (string, string) {
		c := f.claim(t)
		d, err := f.dial(t, c, "lamp-"+f.serial())
		check(t, err)
		defer d.close()
		d.subscribe(t, csrTopic+"/rejected")
		d.publish(t, csrTopic, []byte("certificateSigningRequest=…"))
		_, answer := d.receive(t, csrTopic+"/rejected")
		no := must[rejected](t, string(answer))
		return no.TraceID, fmt.Sprintf("%d %s: %s", no.StatusCode, no.ErrorCode, no.ErrorMessage)
	}, "The payload cannot be read", "one JSON map"},
	{"The answer is larger than what the device takes", func(t *testing.T, f *field) (string, string) {
		c := f.claim(t)
		most := uint32(1024)
		d, err := dialMQTT5(t, f.world.site.mqttAddr(), f.world.site.tlsConfig(t, c.cert, c.key), "lamp-"+f.serial(), func(c *paho.Connect) {
			c.Properties = &paho.ConnectProperties{MaximumPacketSize: &most}
		})
		check(t, err)
		d.subscribe(t, keysTopic+"/accepted", keysTopic+"/rejected")
		d.publish(t, keysTopic, []byte("{}"))
		return c.id, "" // nothing
	}, "takes 1024 (Maximum Packet Size): it was not sent", "a buffer of that size"},
}

// registers asks for a registration with a token of id's own and returns trace id and rejection.
func (f *field) registers(t *testing.T, id claim, template string, parameters any) (string, string) {
	t.Helper()
	d, err := f.dial(t, id, "lamp-"+f.serial())
	check(t, err)
	defer d.close()
	token := variant{format: "json", csr: true, mqtt5: true}.create(t, d).Token
	return f.asksOn(t, d, registerTopic(template, "json"), object{"certificateOwnershipToken": token, "parameters": parameters})
}

// hooked is a template with a hook, and a bootstrap certificate for it.
func (f *field) hooked(t *testing.T, name string, put ...string) (claim, string) {
	t.Helper()
	function := f.world.prefix + "-" + name
	f.site.run(t, f.dir, nil, imprint(), append([]string{"function", "put", function}, put...)...)
	template := f.template(t, name, f.world.templateBody(), func(in *iot.CreateProvisioningTemplateInput) {
		in.PreProvisioningHook = &types.ProvisioningHook{PayloadVersion: aws.String("2020-04-01"), TargetArn: aws.String(functionARN(f.world.region, function))}
	})
	return f.bootstrap(t, template), template
}

var registerFailures = []failure{
	{"The ownership token is missing", func(t *testing.T, f *field) (string, string) {
		return f.asks(t, f.claim(t), registerTopic(f.world.template, "json"), object{"parameters": object{"SerialNumber": f.serial()}})
	}, "token cannot be empty", "send certificateOwnershipToken"},
	{"The ownership token was cut off", func(t *testing.T, f *field) (string, string) {
		v := variant{format: "json", csr: true, mqtt5: true}
		d, err := f.dial(t, f.claim(t), "lamp-"+f.serial())
		check(t, err)
		defer d.close()
		token := v.create(t, d).Token
		return f.asksOn(t, d, registerTopic(f.world.template, "json"), object{"certificateOwnershipToken": token[:len(token)/8*4]})
	}, "token is not valid here", "unchanged"},
	{"The ownership token is another device's", func(t *testing.T, f *field) (string, string) {
		v := variant{format: "json", csr: true, mqtt5: true}
		a, err := f.dial(t, f.claim(t), "lamp-"+f.serial())
		check(t, err)
		token := v.create(t, a).Token
		a.close()
		return f.asks(t, f.claim(t), registerTopic(f.world.template, "json"), object{"certificateOwnershipToken": token})
	}, "belongs to another claim", "that asked for the certificate"},
	{"The ownership token is more than an hour old", func(t *testing.T, f *field) (string, string) {
		later, pass := f.elsewhere(t)
		d, err := later.dial(t, later.bootstrap(t, later.world.template), "lamp-"+f.serial())
		check(t, err)
		defer d.close()
		token := variant{format: "json", csr: true, mqtt5: true}.create(t, d).Token
		pass(61 * time.Minute)
		defer pass(-61 * time.Minute) // explain signs with the clock of this machine
		return later.asksOn(t, d, registerTopic(later.world.template, "json"), object{"certificateOwnershipToken": token, "parameters": object{"SerialNumber": f.serial()}})
	}, "ownership token has expired", "a token is good for an hour"},
	{"A parameter is missing", func(t *testing.T, f *field) (string, string) {
		return f.registers(t, f.claim(t), f.world.template, object{"Colour": "red"})
	}, "Cannot resolve reference value: SerialNumber", "let the device send this parameter"},
	{"A parameter is no text", func(t *testing.T, f *field) (string, string) {
		return f.registers(t, f.claim(t), f.world.template, object{"SerialNumber": 4711})
	}, "", "as text"},
	{"A parameter makes no valid name, by the serial number", func(t *testing.T, f *field) (string, string) {
		_, heard := f.registers(t, f.claim(t), f.world.template, object{"SerialNumber": "no 47/11"})
		return "no 47/11", heard
	}, "is no thing name", "what the device sends"},
	{"The template does not exist", func(t *testing.T, f *field) (string, string) {
		id := f.registered(t, object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"})
		return f.registers(t, id, "no-such-template", object{})
	}, `"no-such-template": does not exist`, "template's name"},
	{"The template is disabled", func(t *testing.T, f *field) (string, string) {
		name := f.template(t, "off", f.world.templateBody())
		id := f.bootstrap(t, name)
		f.enable(t, name, false)
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "is not enabled", "--enabled"},
	{"The hook says no", func(t *testing.T, f *field) (string, string) {
		id, name := f.hooked(t, "listed", "--rule", "SerialNumber = 'the one'")
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "did not allow this device", ""},
	{"The hook is too slow", func(t *testing.T, f *field) (string, string) {
		release := make(chan struct{})
		slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		defer slow.Close()
		defer close(release)
		f.names[slow.URL] = "https://hooks.example.com"
		id, name := f.hooked(t, "slow", "--webhook", slow.URL, "--timeout", "200ms")
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "gave no answer in time", "--timeout"},
	{"The hook answers with an error", func(t *testing.T, f *field) (string, string) {
		broken := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "out of order", 500) }))
		defer broken.Close()
		f.names[broken.URL] = "https://hooks.example.com"
		id, name := f.hooked(t, "broken", "--webhook", broken.URL)
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "hook failed", "mend the function: webhook"},
	{"The hook cannot be reached", func(t *testing.T, f *field) (string, string) {
		id, name := f.hooked(t, "absent", "--webhook", "http://"+absent(t))
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "hook failed", ""},
	{"The hook's function was deleted", func(t *testing.T, f *field) (string, string) {
		id, name := f.hooked(t, "gone", "--rule", "true")
		f.site.run(t, f.dir, nil, imprint(), "function", "delete", f.world.prefix+"-gone")
		return f.registers(t, id, name, object{"SerialNumber": f.serial()})
	}, "hook failed", "imprint function put"},
	{"The thing belongs to another device", func(t *testing.T, f *field) (string, string) {
		_, thing := f.device(t)
		_, heard := f.registers(t, f.claim(t), f.world.template, object{"SerialNumber": strings.TrimPrefix(thing, f.world.prefix+"-lamp-")})
		return strings.TrimPrefix(thing, f.world.prefix+"-lamp-"), heard
	}, "belongs to another device", ""},
	{"The device chooses a policy that is not listed", func(t *testing.T, f *field) (string, string) {
		body := f.world.templateBody()
		body["Resources"].(object)["policy"] = object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": object{"Ref": "SerialNumber"}}}
		name := f.template(t, "choice", body)
		return f.registers(t, f.bootstrap(t, name), name, object{"SerialNumber": "administrator"})
	}, "may not choose the policy", "setting that the message names"},
	{"The template names a policy that does not exist", func(t *testing.T, f *field) (string, string) {
		body := f.world.templateBody()
		body["Resources"].(object)["policy"] = object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": "nothing"}}
		name := f.template(t, "nothing", body)
		return f.registers(t, f.bootstrap(t, name), name, object{"SerialNumber": f.serial()})
	}, `policy "nothing": does not exist`, "imprint template lint"},
	{"The role of the template lacks an action", func(t *testing.T, f *field) (string, string) {
		trust := object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}
		role := f.world.prefix + "-weak"
		_, err := f.world.admin.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: text(trust)})
		check(t, err)
		name := f.template(t, "weak", f.world.templateBody(), func(in *iot.CreateProvisioningTemplateInput) {
			in.ProvisioningRoleArn = aws.String(f.world.roleARN(role))
		})
		return f.registers(t, f.bootstrap(t, name), name, object{"SerialNumber": f.serial()})
	}, "lacks iot:CreateThing", "AWSIoTThingsRegistration"},
	{"The claim has been used up", func(t *testing.T, f *field) (string, string) {
		body := f.world.templateBody()
		body["Mappings"].(object)["Imprint"] = object{"Settings": object{"BootstrapDevices": "1"}}
		name := f.template(t, "single", body)
		id := f.bootstrap(t, name)
		v := variant{format: "json", csr: true, mqtt5: true}
		first, err := f.dial(t, id, "lamp-"+f.serial())
		check(t, err)
		defer first.close()
		second, err := f.dial(t, id, "lamp-"+f.serial())
		check(t, err)
		defer second.close()
		a, b := v.create(t, first), v.create(t, second)
		if _, no, ok := v.register(t, first, name, a.Token, object{"SerialNumber": f.serial()}); !ok {
			t.Fatalf("the first device: %+v", no)
		}
		return f.asksOn(t, second, registerTopic(name, "json"), object{"certificateOwnershipToken": b.Token, "parameters": object{"SerialNumber": f.serial()}})
	}, "registered the 1 devices", "imprint claim limits"},
	{"The claim is used too fast", func(t *testing.T, f *field) (string, string) {
		name := f.template(t, "fast", f.world.templateBody())
		id := f.bootstrap(t, name)
		f.site.run(t, f.dir, nil, imprint(), "claim", "limits", id.id, "--per-minute", "1")
		v := variant{format: "json", csr: true, mqtt5: true}
		d, err := f.dial(t, id, "lamp-"+f.serial())
		check(t, err)
		defer d.close()
		v.create(t, d)
		_, csr := newCSR(t)
		return f.asksOn(t, d, csrTopic, object{"certificateSigningRequest": csr})
	}, "this claim is used too fast", "--per-minute"},
	{"An operator has to approve the device", func(t *testing.T, f *field) (string, string) {
		body := f.world.templateBody()
		body["Mappings"].(object)["Imprint"] = object{"Settings": object{"Reprovision": "approve"}}
		name := f.template(t, "approve", body)
		id, serial := f.bootstrap(t, name), f.serial()
		v := variant{format: "json", csr: true, mqtt5: true}
		d, err := f.dial(t, id, "lamp-"+f.serial())
		check(t, err)
		defer d.close()
		if _, no, ok := v.register(t, d, name, v.create(t, d).Token, object{"SerialNumber": serial}); !ok {
			t.Fatalf("the first device: %+v", no)
		}
		return f.asksOn(t, d, registerTopic(name, "json"), object{"certificateOwnershipToken": v.create(t, d).Token, "parameters": object{"SerialNumber": serial}})
	}, "operator", "imprint approval approve"},
	{"The claim was contained", func(t *testing.T, f *field) (string, string) {
		c := f.claim(t)
		f.site.run(t, f.dir, nil, imprint(), "claim", "contain", c.id, "--revoke-since", "1h")
		return c.id, f.refusedTLS(t, c)
	}, "claim was", "new claim"},
}
