package compat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A variant is one way through the provisioning topics: gate to gate, every combination must work.
type variant struct {
	format string // json or cbor
	csr    bool   // the device's own key, else keys made by the service
	mqtt5  bool
}

func (v variant) String() string {
	return fmt.Sprintf("%s/%s/%s", v.format, map[bool]string{true: "csr", false: "keys"}[v.csr], map[bool]string{true: "mqtt5", false: "mqtt3.1.1"}[v.mqtt5])
}

func variants() (all []variant) {
	for _, format := range []string{"json", "cbor"} {
		for _, csr := range []bool{true, false} {
			for _, mqtt5 := range []bool{false, true} {
				all = append(all, variant{format, csr, mqtt5})
			}
		}
	}
	return all
}

func (v variant) encode(t *testing.T, m any) []byte {
	t.Helper()
	f := json.Marshal
	if v.format == "cbor" {
		f = cbor.Marshal
	}
	b, err := f(m)
	check(t, err)
	return b
}

func (v variant) decode(t *testing.T, b []byte, out any) {
	t.Helper()
	f := json.Unmarshal
	if v.format == "cbor" {
		f = cbor.Unmarshal
	}
	if err := f(b, out); err != nil {
		t.Fatalf("%v: answer %q: %v", v, b, err)
	}
}

func (v variant) createTopic() string {
	if v.csr {
		return "$aws/certificates/create-from-csr/" + v.format
	}
	return "$aws/certificates/create/" + v.format
}

func registerTopic(template, format string) string {
	return "$aws/provisioning-templates/" + template + "/provision/" + format
}

// Answers of the provisioning topics (provisioning spec 3.3–3.8).
type (
	created struct {
		CertificateID  string `json:"certificateId"`
		CertificatePEM string `json:"certificatePem"`
		PrivateKey     string `json:"privateKey"`
		Token          string `json:"certificateOwnershipToken"`
	}
	registered struct {
		ThingName           *string            `json:"thingName"`
		DeviceConfiguration *map[string]string `json:"deviceConfiguration"`
	}
	rejected struct {
		StatusCode   int    `json:"statusCode"`
		ErrorCode    string `json:"errorCode"`
		ErrorMessage string `json:"errorMessage"`
		TraceID      string `json:"traceId"`
		RetryAfter   int    `json:"retryAfter"`
	}
)

// newCSR makes a P-256 key and a request for it, both PEM.
func newCSR(t *testing.T) (keyPEM, csrPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a lamp"}}, key)
	check(t, err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// A device speaks MQTT by some client.
type device interface {
	subscribe(t *testing.T, filters ...string)
	publish(t *testing.T, topic string, payload []byte)
	// receive waits for a message on one of the topics.
	receive(t *testing.T, topics ...string) (topic string, payload []byte)
	close()
}

const answerTimeout = 2 * time.Minute // of a machine that is busy elsewhere; who waits for it in vain fails

func (s *site) mqttAddr() string { return net.JoinHostPort(s.get("IOT_ENDPOINT"), s.get("IOT_PORT")) }

func (s *site) tlsConfig(t *testing.T, cert, key string, alpn ...string) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	check(t, err)
	return &tls.Config{RootCAs: s.roots(t), Certificates: []tls.Certificate{pair}, ServerName: s.get("IOT_ENDPOINT"), NextProtos: alpn}
}

// dial connects with the client library of the variant's MQTT version.
func (v variant) dial(t *testing.T, s *site, clientID, cert, key string) device {
	t.Helper()
	if v.mqtt5 {
		d, err := dialMQTT5(t, s.mqttAddr(), s.tlsConfig(t, cert, key), clientID)
		check(t, err)
		return d
	}
	d, err := dialMQTT3(t, "ssl://"+s.mqttAddr(), s.tlsConfig(t, cert, key), clientID)
	check(t, err)
	return d
}

// create asks for a certificate and returns it with the private key that goes with it.
func (v variant) create(t *testing.T, d device) (c created) {
	t.Helper()
	topic := v.createTopic()
	d.subscribe(t, topic+"/accepted")
	d.subscribe(t, topic+"/rejected")
	request, key := object{}, ""
	if v.csr {
		var csr string
		key, csr = newCSR(t)
		request["certificateSigningRequest"] = csr
	}
	d.publish(t, topic, v.encode(t, request))
	from, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
	if from != topic+"/accepted" {
		var r rejected
		v.decode(t, answer, &r)
		t.Fatalf("%v: certificate rejected: %+v", v, r)
	}
	v.decode(t, answer, &c)
	if v.csr {
		if c.PrivateKey != "" {
			t.Errorf("%v: the answer to a CSR holds a private key", v)
		}
		c.PrivateKey = key
	}
	return c
}

// register trades the token; on rejection ok is false.
func (v variant) register(t *testing.T, d device, template, token string, parameters object) (out registered, no rejected, ok bool) {
	t.Helper()
	topic := registerTopic(template, v.format)
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, v.encode(t, object{"certificateOwnershipToken": token, "parameters": parameters}))
	from, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
	if from == topic+"/accepted" {
		v.decode(t, answer, &out)
		return out, no, true
	}
	v.decode(t, answer, &no)
	return out, no, false
}

// provision plays the whole device side with a claim and returns the new identity.
func (v variant) provision(t *testing.T, w *world, c claim, serial string) (created, registered) {
	t.Helper()
	d := v.dial(t, w.site, "device-"+w.prefix+serial, c.cert, c.key)
	defer d.close()
	cert := v.create(t, d)
	out, no, ok := v.register(t, d, w.template, cert.Token, object{"SerialNumber": serial})
	if !ok {
		t.Fatalf("%v: registration rejected: %+v", v, no)
	}
	return cert, out
}
