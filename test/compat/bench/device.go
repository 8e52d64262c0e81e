package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// A session is an MQTT 3.1.1 connection that does as little as a device can (OASIS MQTT 3.1.1): what is measured is the server.
type session struct {
	conn *tls.Conn
	r    *bufio.Reader
	id   uint16
}

const deviceTimeout = 30 * time.Second

// dial connects over mutual TLS 1.3 and sends CONNECT.
func dial(addr string, config *tls.Config, cert tls.Certificate, clientID string) (*session, error) {
	c := config.Clone()
	c.Certificates = []tls.Certificate{cert}
	nc, err := net.DialTimeout("tcp", addr, deviceTimeout)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(deviceTimeout))
	s := &session{conn: tls.Client(nc, c)}
	s.r = bufio.NewReaderSize(s.conn, 4096)
	connect := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean */, 4, 176 /* 1200 s */}, str(clientID)...)
	if err := s.send(0x10, connect); err != nil {
		return nil, s.fail(err)
	}
	body, err := s.expect(0x20)
	if err == nil && body[1] != 0 {
		err = fmt.Errorf("CONNECT was refused with code %d", body[1])
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return s, nil
}

func (s *session) fail(err error) error {
	s.conn.NetConn().Close()
	return err
}

func str(v string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(v))), v...) }

func (s *session) send(first byte, body []byte) error {
	p := append(make([]byte, 0, len(body)+5), first)
	p = binary.AppendUvarint(p, uint64(len(body))) // remaining length is this very coding
	_, err := s.conn.Write(append(p, body...))
	return err
}

func (s *session) read() (first byte, body []byte, err error) {
	if first, err = s.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(s.r)
	if err != nil || n > 1<<18 {
		return 0, nil, fmt.Errorf("a packet of %d bytes: %v", n, err)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(s.r, body)
	return first, body, err
}

// expect reads the next packet, which must be of the type.
func (s *session) expect(first byte) ([]byte, error) {
	got, body, err := s.read()
	if err == nil && (got&0xF0 != first || len(body) < 2) {
		err = fmt.Errorf("packet %#x came in place of %#x", got, first)
	}
	return body, err
}

// subscribe asks for filters at QoS 1.
func (s *session) subscribe(filters ...string) error {
	s.id++
	body := binary.BigEndian.AppendUint16(nil, s.id)
	for _, f := range filters {
		body = append(append(body, str(f)...), 1)
	}
	if err := s.send(0x82, body); err != nil {
		return err
	}
	ack, err := s.expect(0x90)
	if err != nil {
		return err
	}
	for i, code := range ack[2:] {
		if code > 1 {
			return fmt.Errorf("subscribing to %s was refused", filters[i])
		}
	}
	return nil
}

// publish publishes at QoS 1 and waits for the PUBACK. Nothing else may come.
func (s *session) publish(topic string, payload []byte) error {
	_ = s.conn.SetDeadline(time.Now().Add(deviceTimeout)) // of a session that lasts
	if s.id++; s.id == 0 {                                // no packet has this one
		s.id = 1
	}
	if err := s.send(0x32, append(binary.BigEndian.AppendUint16(str(topic), s.id), payload...)); err != nil {
		return err
	}
	_, err := s.expect(0x40)
	return err
}

// exchange publishes at QoS 1 and returns the topic and payload of the next message, both acknowledged.
func (s *session) exchange(topic string, payload []byte) (string, []byte, error) {
	s.id++
	if err := s.send(0x32, append(binary.BigEndian.AppendUint16(str(topic), s.id), payload...)); err != nil {
		return "", nil, err
	}
	var gotTopic string
	var got []byte
	for acked := false; !acked || gotTopic == ""; {
		first, body, err := s.read()
		if err != nil {
			return "", nil, err
		}
		switch first & 0xF0 {
		case 0x40:
			acked = true
		case 0x30:
			n := 2 + int(binary.BigEndian.Uint16(body))
			gotTopic, got = string(body[2:n]), body[n:]
			if first&0x06 != 0 {
				if err := s.send(0x40, got[:2]); err != nil {
					return "", nil, err
				}
				got = got[2:]
			}
		default:
			return "", nil, fmt.Errorf("unexpected packet %#x", first)
		}
	}
	return gotTopic, got, nil
}

func (s *session) close() {
	_ = s.send(0xE0, nil)
	s.conn.Close()
}
