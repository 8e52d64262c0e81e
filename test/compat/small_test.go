package compat

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A smallDevice is what a microcontroller's client is: MQTT 3.1.1, one fixed buffer that a whole packet has to fit into, and a reader of CBOR
// that knows definite lengths and texts, and finds members by their key, as tinycbor is used in the C demos.
type smallDevice struct {
	conn   net.Conn
	buffer [2048]byte
	packet uint16
}

var errBufferTooSmall = errors.New("the packet is larger than the buffer")

func dialSmall(t *testing.T, s *site, id claim, client string) *smallDevice {
	t.Helper()
	c, err := tls.Dial("tcp", s.mqttAddr(), s.tlsConfig(t, id.cert, id.key))
	check(t, err)
	t.Cleanup(func() { c.Close() })
	check(t, c.SetDeadline(time.Now().Add(answerTimeout)))
	d := &smallDevice{conn: c}
	d.send(t, 0x10, []byte("\x00\x04MQTT\x04\x02\x00\x3c"), counted(client)) // clean session, a minute
	if kind, body, err := d.read(); err != nil || kind != 0x20 || body[1] != 0 {
		t.Fatalf("CONNACK %x %x, %v", kind, body, err)
	}
	return d
}

func counted(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (d *smallDevice) send(t *testing.T, kind byte, parts ...[]byte) {
	t.Helper()
	body := bytes.Join(parts, nil)
	_, err := d.conn.Write(append(binary.AppendUvarint([]byte{kind}, uint64(len(body))), body...))
	check(t, err)
}

func (d *smallDevice) id() []byte { d.packet++; return binary.BigEndian.AppendUint16(nil, d.packet) }

// read takes the next packet into the buffer: its fixed header and the rest.
func (d *smallDevice) read() (kind byte, body []byte, err error) {
	if _, err := io.ReadFull(d.conn, d.buffer[:1]); err != nil {
		return 0, nil, err
	}
	length, n := 0, 1
	for more := true; more; n++ {
		if _, err := io.ReadFull(d.conn, d.buffer[n:n+1]); err != nil {
			return 0, nil, err
		}
		length |= int(d.buffer[n]&0x7f) << (7 * (n - 1))
		more = d.buffer[n]&0x80 != 0
	}
	if n+length > len(d.buffer) {
		return d.buffer[0], nil, fmt.Errorf("%w: %d bytes", errBufferTooSmall, n+length)
	}
	_, err = io.ReadFull(d.conn, d.buffer[n:n+length])
	return d.buffer[0], d.buffer[n : n+length], err
}

// ask publishes a request and returns the CBOR of the answer and whether it was accepted.
func (d *smallDevice) ask(t *testing.T, topic string, request []byte) (answer []byte, accepted bool, err error) {
	t.Helper()
	for _, suffix := range []string{"/accepted", "/rejected"} {
		d.send(t, 0x82, d.id(), counted(topic+suffix), []byte{1})
	}
	d.send(t, 0x32, counted(topic), d.id(), request)
	for {
		kind, body, err := d.read()
		if err != nil {
			return nil, false, err
		}
		if kind&0xf0 != 0x30 {
			continue // SUBACK, PUBACK
		}
		n := int(binary.BigEndian.Uint16(body))
		from, rest := string(body[2:2+n]), body[2+n:]
		if kind&0x06 != 0 {
			d.send(t, 0x40, rest[:2])
			rest = rest[2:]
		}
		return rest, strings.HasSuffix(from, "/accepted"), nil
	}
}

// member finds a text in a CBOR map by its key.
func member(t *testing.T, b []byte, key string) string {
	t.Helper()
	head := func() (major byte, n int) {
		major, n = b[0]>>5, int(b[0]&0x1f)
		b = b[1:]
		switch n {
		case 24:
			n, b = int(b[0]), b[1:]
		case 25:
			n, b = int(binary.BigEndian.Uint16(b)), b[2:]
		}
		if n > 65535 || n == 31 {
			t.Fatal("no definite length")
		}
		return major, n
	}
	text := func() string {
		major, n := head()
		if major != 3 {
			t.Fatalf("major type %d in place of a text", major)
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	major, pairs := head()
	if major != 5 {
		t.Fatalf("major type %d in place of a map", major)
	}
	for range pairs {
		name := text()
		switch b[0] >> 5 {
		case 3:
			if v := text(); name == key {
				return v
			}
		case 5: // of texts
			_, n := head()
			for range 2 * n {
				text()
			}
		default:
			head()
		}
	}
	t.Fatalf("there is no member %s", key)
	return ""
}

func TestAClientWithTwoKilobytesProvisionsWithItsOwnKey(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "small")
	f := &field{site: s, world: w, dir: t.TempDir()}
	body := w.templateBody()
	body["Mappings"].(object)["Imprint"] = object{"Settings": object{"ReplyBudget": "2048"}}
	name := f.template(t, "2k", body)
	id := f.registered(t)
	f.policy(t, w.iotARN("cert/"+id.id), must[object](t, s.run(t, f.dir, nil, imprint(), "claim", "policy", "--format", "cbor", name)))

	v := variant{format: "cbor"}
	d := dialSmall(t, s, id, "small-1")
	key, csr := newCSR(t)
	answer, ok, err := d.ask(t, "$aws/certificates/create-from-csr/cbor", v.encode(t, object{"certificateSigningRequest": csr}))
	check(t, err)
	if !ok {
		t.Fatalf("no certificate: %s", answer)
	}
	cert, token := member(t, answer, "certificatePem"), member(t, answer, "certificateOwnershipToken")
	if len(token) > 512 || len(member(t, answer, "certificateId")) != 64 {
		t.Errorf("a token of %d characters", len(token))
	}
	answer, ok, err = d.ask(t, registerTopic(name, "cbor"), v.encode(t, object{"certificateOwnershipToken": token, "parameters": object{"SerialNumber": "1"}}))
	check(t, err)
	if !ok || member(t, answer, "thingName") != w.thing("1") {
		t.Fatalf("not registered: %q", answer)
	}
	dialSmall(t, s, claim{"", cert, key}, w.thing("1")) // with what it has now

	// A key made by the service comes with its certificate, and that is too much; lint says so beforehand.
	d = dialSmall(t, s, id, "small-2")
	if _, _, err := d.ask(t, "$aws/certificates/create/cbor", v.encode(t, object{})); !errors.Is(err, errBufferTooSmall) {
		t.Errorf("a key made by the service fits: %v", err)
	}
	out, _ := s.try(t, f.dir, nil, imprint(), "template", "lint", name)
	if !strings.Contains(out, "CreateKeysAndCertificate in CBOR with a key of RSA-2048") || !strings.Contains(out, "the devices receive 2048") || !strings.Contains(out, "CreateCertificateFromCsr") {
		t.Errorf("lint says\n%s", out)
	}
	out, err = s.try(t, f.dir, nil, imprint(), "template", "try", name, "--param", "SerialNumber=2")
	if err != nil || !strings.Contains(out, "would be registered as thing "+w.thing("2")) || !strings.Contains(out, "does not fit") {
		t.Errorf("try says %v\n%s", err, out)
	}
}
