package device

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A broker puts a cloud behind TLS and MQTT. Its codecs are not ours, so that it is a witness.
type broker struct {
	t     testing.TB
	cloud *cloud
	roots string
	port  int
	tls   *tls.Config

	mu    sync.Mutex
	seen  []string                                  // one line per packet received
	fault func(event string) fault                  // nil: none. Events are "read CONNECT", "write PUBLISH topic" …
	alter func(topic string, answer map[string]any) // nil: not; may change an answer
	wg    sync.WaitGroup
}

// A fault is what a broker does instead of handling a packet.
type fault int

const (
	obey    fault = iota
	drop          // end the connection, as a broken line does
	deny          // refuse, as the version of MQTT does it
	garble        // answer with nonsense
	silence       // do not answer
)

func newBroker(t testing.TB, c *cloud) *broker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, cloud: c, roots: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	b.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequireAnyClientCert,
		NextProtos: []string{alpn}, SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			id := certificateID(cs.PeerCertificates[0])
			c.mu.Lock()
			defer c.mu.Unlock()
			if cert := c.certificates[id]; c.claims[id] || cert != nil && cert.active {
				return nil
			}
			return errors.New("unknown certificate")
		}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.port = l.Addr().(*net.TCPAddr).Port
	b.wg.Add(1)
	go b.accept(l)
	t.Cleanup(func() { l.Close(); b.wg.Wait() })
	return b
}

func (b *broker) accept(l net.Listener) {
	defer b.wg.Done()
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		b.wg.Add(1)
		go func() {
			defer b.wg.Done()
			defer raw.Close()
			conn := tls.Server(raw, b.tls)
			conn.SetDeadline(time.Now().Add(time.Minute))
			if conn.Handshake() != nil {
				return
			}
			s := &brokerSession{b: b, conn: conn, r: bufio.NewReader(conn), subscribed: map[string]bool{},
				principal: certificateID(conn.ConnectionState().PeerCertificates[0])}
			for s.serve() == nil {
			}
			conn.Close()
		}()
	}
}

// asked returns what to do about an event, and remembers it.
func (b *broker) asked(event string) fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, event)
	if b.fault == nil {
		return obey
	}
	return b.fault(event)
}

func (b *broker) events() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.seen, "\n")
}

// A brokerSession is one connection.
type brokerSession struct {
	b          *broker
	conn       *tls.Conn
	r          *bufio.Reader
	version    byte
	principal  string
	subscribed map[string]bool
}

var errEnd = errors.New("end")

func (s *brokerSession) serve() error {
	pk, err := s.read()
	if err != nil {
		return err
	}
	name := packets.PacketNames[pk.FixedHeader.Type]
	f := s.b.asked(strings.TrimSpace("read " + name + " " + pk.TopicName))
	if f == drop {
		return errEnd
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return s.connect(pk, f)
	case packets.Subscribe:
		return s.subscribe(pk, f)
	case packets.Publish:
		return s.publish(pk, f)
	case packets.Pingreq:
		return s.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}})
	case packets.Disconnect:
		return errEnd
	}
	return nil
}

func (s *brokerSession) connect(pk packets.Packet, f fault) error {
	s.version = pk.ProtocolVersion
	s.b.cloud.mu.Lock()
	s.b.cloud.lastClientID = pk.Connect.ClientIdentifier
	if s.b.cloud.certificates[s.principal] != nil {
		s.b.cloud.confirmed = append(s.b.cloud.confirmed, s.principal)
	}
	s.b.cloud.mu.Unlock()
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: s.version}
	if f == deny {
		ack.ReasonCode = 5
		if s.version == 5 {
			ack.ReasonCode, ack.Properties.ReasonString = 0x87, "the policy says no"
		}
		s.write(ack)
		return errEnd
	}
	return s.write(ack)
}

func (s *brokerSession) subscribe(pk packets.Packet, f fault) error {
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, ProtocolVersion: s.version, PacketID: pk.PacketID}
	for _, filter := range pk.Filters {
		code := min(filter.Qos, 1)
		if f == deny {
			code = 0x80
			if s.version == 5 {
				code = 0x87
			}
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code)
		s.subscribed[filter.Filter] = true
	}
	if err := s.write(ack); err != nil || f == deny && s.version == 4 {
		return errEnd
	}
	return nil
}

func (s *brokerSession) publish(pk packets.Packet, f fault) error {
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: s.version, PacketID: pk.PacketID}
	if f == deny || strings.HasPrefix(pk.TopicName, "foreign/") {
		if s.version == 4 {
			return errEnd
		}
		ack.ReasonCode, ack.Properties.ReasonString = 0x87, "the policy says no"
		return s.write(ack)
	}
	if err := s.write(ack); err != nil {
		return err
	}
	if !strings.HasPrefix(pk.TopicName, "$aws/") {
		if s.subscribed[pk.TopicName] {
			return s.send(pk.TopicName, pk.Payload)
		}
		return nil
	}
	return s.answer(pk, f)
}

// answer does what was asked for on a provisioning topic.
func (s *brokerSession) answer(pk packets.Packet, f fault) error {
	operation, format := pk.TopicName[:strings.LastIndex(pk.TopicName, "/")], pk.TopicName[strings.LastIndex(pk.TopicName, "/")+1:]
	var in struct {
		CSR        string            `json:"certificateSigningRequest" cbor:"certificateSigningRequest"`
		Token      string            `json:"certificateOwnershipToken" cbor:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters" cbor:"parameters"`
	}
	unmarshal := json.Unmarshal
	if format == "cbor" {
		unmarshal = cbor.Unmarshal
	}
	if err := unmarshal(pk.Payload, &in); err != nil {
		s.b.t.Errorf("request on %s: %v", pk.TopicName, err)
	}
	var out map[string]any
	var err error
	var is issued
	switch operation {
	case "$aws/certificates/create-from-csr":
		is, err = s.b.cloud.createFromCSR(s.principal, in.CSR)
	case "$aws/certificates/create":
		is, err = s.b.cloud.createKeys(s.principal)
	case "$aws/provisioning-templates/" + testTemplate + "/provision":
		var r registered
		r, err = s.b.cloud.register(s.principal, testTemplate, in.Token, in.Parameters)
		out = map[string]any{"thingName": r.thingName, "deviceConfiguration": r.configuration}
	default: // not this claim's template
		return errEnd
	}
	if is.id != "" {
		out = map[string]any{"certificateId": is.id, "certificatePem": is.certificate, "certificateOwnershipToken": is.token}
		if is.privateKey != "" {
			out["privateKey"] = is.privateKey
		}
	}
	topic := pk.TopicName + accepted
	if err != nil {
		e := asError(err)
		topic = pk.TopicName + rejectedTopic
		out = map[string]any{"statusCode": e.StatusCode, "errorCode": e.Code, "errorMessage": e.Message, "traceId": e.TraceID}
	}
	if s.b.alter != nil {
		s.b.alter(topic, out)
	}
	marshal := json.Marshal
	if format == "cbor" {
		marshal = cbor.Marshal
	}
	payload, err := marshal(out)
	if err != nil {
		return err
	}
	switch f {
	case garble:
		payload = []byte("nonsense")
	case silence:
		return nil
	}
	return s.send(topic, payload)
}

func (s *brokerSession) send(topic string, payload []byte) error {
	if !s.subscribed[topic] {
		s.b.t.Errorf("nobody subscribed to %s", topic)
	}
	return s.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: s.version, PacketID: 77,
		TopicName: topic, Payload: payload})
}

func (s *brokerSession) read() (pk packets.Packet, err error) {
	first, err := s.r.ReadByte()
	if err != nil {
		return pk, err
	}
	if err = pk.FixedHeader.Decode(first); err != nil {
		s.b.t.Errorf("fixed header: %v", err)
		return pk, err
	}
	if pk.FixedHeader.Remaining, _, err = packets.DecodeLength(s.r); err != nil {
		return pk, err
	}
	body := make([]byte, pk.FixedHeader.Remaining)
	if _, err = io.ReadFull(s.r, body); err != nil {
		return pk, err
	}
	pk.ProtocolVersion = s.version
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectDecode(body)
	case packets.Subscribe:
		err = pk.SubscribeDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	case packets.Pingreq:
	default:
		err = fmt.Errorf("packet of type %d", pk.FixedHeader.Type)
	}
	if err != nil {
		s.b.t.Errorf("packet of type %d: %v", pk.FixedHeader.Type, err)
	}
	return pk, err
}

func (s *brokerSession) write(pk packets.Packet) error {
	if s.b.asked(strings.TrimSpace("write "+packets.PacketNames[pk.FixedHeader.Type]+" "+pk.TopicName)) == drop {
		return errEnd
	}
	buf := new(bytes.Buffer)
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackEncode(buf)
	case packets.Suback:
		err = pk.SubackEncode(buf)
	case packets.Puback:
		err = pk.PubackEncode(buf)
	case packets.Publish:
		err = pk.PublishEncode(buf)
	case packets.Pingresp:
		err = pk.PingrespEncode(buf)
	}
	if err != nil {
		s.b.t.Errorf("writing: %v", err)
		return err
	}
	_, err = s.conn.Write(buf.Bytes())
	return err
}

// config is a Config for the broker, with a store in a folder of its own.
func (b *broker) config(claim *Claim) Config {
	return Config{Dir: b.t.TempDir() + "/store", Claim: claim, Endpoint: "localhost", Ports: []int{b.port}, Roots: b.roots,
		Template: testTemplate, Parameters: testParameters, Now: func() time.Time { return epoch },
		sleep: func(ctx context.Context, _ time.Duration) bool { return ctx.Err() != nil }}
}
