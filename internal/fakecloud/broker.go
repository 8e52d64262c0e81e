package fakecloud

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
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

// A Broker puts a Cloud behind TLS and MQTT on localhost. Topics that begin with "foreign/" are refused to everybody.
type Broker struct {
	Roots string // PEM
	Port  int

	t     testing.TB
	cloud *Cloud
	tls   *tls.Config
	wg    sync.WaitGroup

	mu    sync.Mutex
	fault func(n int, event string) Fault
	alter func(topic string, answer map[string]any)
	seen  []string
}

// A Fault is what a broker does instead of handling a packet.
type Fault int

const (
	Obey   Fault = iota
	Drop         // end the connection, as a broken line does
	Deny         // refuse, as the version of MQTT does it
	Garble       // answer with nonsense
)

// NewBroker starts a broker that ends with the test.
func NewBroker(t testing.TB, c *Cloud) *Broker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: c.Now().Add(-time.Hour), NotAfter: c.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	b := &Broker{t: t, cloud: c, Roots: pemText("CERTIFICATE", der)}
	b.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequireAnyClientCert,
		NextProtos: []string{"x-amzn-mqtt-ca"}, SessionTicketsDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if id := ID(cs.PeerCertificates[0].Raw); !c.Alive(id) && !c.Accepts(id) {
				return errors.New("unknown certificate")
			}
			return nil
		}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.Port = l.Addr().(*net.TCPAddr).Port
	b.wg.Add(1)
	go b.accept(l)
	t.Cleanup(func() { l.Close(); b.wg.Wait() })
	return b
}

// SetFault says what the broker does instead of its work from now on, by the number of the event, from 0, and its name, such
// as "read Connect" or "write Publish TOPIC". nil: it does its work.
func (b *Broker) SetFault(f func(n int, event string) Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault, b.seen = f, nil
}

// SetAlter has every answer changed before it is sent.
func (b *Broker) SetAlter(f func(topic string, answer map[string]any)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alter = f
}

// Events returns what happened since the start or the last SetFault.
func (b *Broker) Events() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen
}

func (b *Broker) accept(l net.Listener) {
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
			s := &session{b: b, conn: conn, r: bufio.NewReader(conn), subscribed: map[string]bool{},
				principal: ID(conn.ConnectionState().PeerCertificates[0].Raw)}
			for s.serve() == nil {
			}
			conn.Close()
		}()
	}
}

// ask returns what to do about an event, and remembers it.
func (b *Broker) ask(event string) Fault {
	event = strings.TrimSpace(event)
	b.mu.Lock()
	n, fault := len(b.seen), b.fault
	b.seen = append(b.seen, event)
	b.mu.Unlock()
	if fault == nil {
		return Obey
	}
	return fault(n, event)
}

// A session is one connection.
type session struct {
	b          *Broker
	conn       *tls.Conn
	r          *bufio.Reader
	version    byte
	principal  string
	subscribed map[string]bool
}

var errEnd = errors.New("end")

func (s *session) serve() error {
	pk, err := s.read()
	if err != nil {
		return err
	}
	f := s.b.ask("read " + packets.PacketNames[pk.FixedHeader.Type] + " " + pk.TopicName)
	if f == Drop {
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

func (s *session) connect(pk packets.Packet, f Fault) error {
	s.version = pk.ProtocolVersion
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: s.version}
	if f == Deny {
		ack.ReasonCode = 5
		if s.version == 5 {
			ack.ReasonCode, ack.Properties.ReasonString = 0x87, "the policy says no"
		}
		s.write(ack)
		return errEnd
	}
	s.b.cloud.Connect(s.principal, pk.Connect.ClientIdentifier)
	return s.write(ack)
}

func (s *session) subscribe(pk packets.Packet, f Fault) error {
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, ProtocolVersion: s.version, PacketID: pk.PacketID}
	for _, filter := range pk.Filters {
		code := min(filter.Qos, 1)
		if f == Deny {
			code = 0x80
			if s.version == 5 {
				code = 0x87
			}
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code)
		s.subscribed[filter.Filter] = true
	}
	if err := s.write(ack); err != nil || f == Deny && s.version == 4 {
		return errEnd
	}
	return nil
}

func (s *session) publish(pk packets.Packet, f Fault) error {
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: s.version, PacketID: pk.PacketID}
	if f == Deny || strings.HasPrefix(pk.TopicName, "foreign/") {
		if s.version == 4 || pk.FixedHeader.Qos == 0 {
			return errEnd
		}
		ack.ReasonCode, ack.Properties.ReasonString = 0x87, "the policy says no"
		return s.write(ack)
	}
	if pk.FixedHeader.Qos == 1 {
		if err := s.write(ack); err != nil {
			return err
		}
	}
	if strings.HasPrefix(pk.TopicName, "$aws/") {
		return s.answer(pk, f)
	}
	if s.subscribed[pk.TopicName] {
		return s.send(pk.TopicName, pk.Payload)
	}
	return nil
}

// A request has the members of all requests on the provisioning topics.
type request struct {
	CSR        string            `json:"certificateSigningRequest" cbor:"certificateSigningRequest"`
	Token      string            `json:"certificateOwnershipToken" cbor:"certificateOwnershipToken"`
	Parameters map[string]string `json:"parameters" cbor:"parameters"`
}

// answer does what was asked for on a provisioning topic.
func (s *session) answer(pk packets.Packet, f Fault) error {
	cut := strings.LastIndex(pk.TopicName, "/")
	operation, format := pk.TopicName[:cut], pk.TopicName[cut+1:]
	unmarshal, marshal := json.Unmarshal, json.Marshal
	if format == "cbor" {
		unmarshal, marshal = cbor.Unmarshal, cbor.Marshal
	}
	var in request
	if err := unmarshal(pk.Payload, &in); err != nil {
		s.b.t.Errorf("request on %s: %v", pk.TopicName, err)
	}
	topic := pk.TopicName + "/accepted"
	out, err := s.do(operation, in)
	var r *Rejection
	if errors.As(err, &r) {
		topic = pk.TopicName + "/rejected"
		out = map[string]any{"statusCode": r.Status, "errorCode": r.Code, "errorMessage": r.Message, "traceId": r.Trace}
	} else if err != nil {
		return err
	}
	s.b.mu.Lock()
	alter := s.b.alter
	s.b.mu.Unlock()
	if alter != nil {
		alter(topic, out)
	}
	payload, err := marshal(out)
	if err != nil {
		return err
	}
	if f == Garble {
		payload = []byte("nonsense")
	}
	return s.send(topic, payload)
}

func (s *session) do(operation string, in request) (out map[string]any, err error) {
	var is Issued
	switch operation {
	case "$aws/certificates/create-from-csr":
		is, err = s.b.cloud.CreateFromCSR(s.principal, in.CSR)
	case "$aws/certificates/create":
		is, err = s.b.cloud.CreateKeys(s.principal)
	case "$aws/provisioning-templates/" + Template + "/provision":
		thing, configuration, err := s.b.cloud.Register(s.principal, in.Token, in.Parameters)
		return map[string]any{"thingName": thing, "deviceConfiguration": configuration}, err
	default: // not this claim's template
		return nil, errEnd
	}
	out = map[string]any{"certificateId": is.ID, "certificatePem": is.Certificate, "certificateOwnershipToken": is.Token}
	if is.PrivateKey != "" {
		out["privateKey"] = is.PrivateKey
	}
	return out, err
}

func (s *session) send(topic string, payload []byte) error {
	if !s.subscribed[topic] {
		s.b.t.Errorf("nobody subscribed to %s", topic)
	}
	return s.write(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, ProtocolVersion: s.version, PacketID: 77,
		TopicName: topic, Payload: payload})
}

func (s *session) read() (pk packets.Packet, err error) {
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

func (s *session) write(pk packets.Packet) error {
	if s.b.ask("write "+packets.PacketNames[pk.FixedHeader.Type]+" "+pk.TopicName) == Drop {
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
