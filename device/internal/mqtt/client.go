package mqtt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Options say how to open a connection. The zero value is MQTT 3.1.1 with a client id that the server makes.
type Options struct {
	Version   Version       // 0: V311
	ClientID  string        // at most 65535 bytes
	KeepAlive time.Duration // whole seconds, at most 18 hours; 0: none. An MQTT 5 server may shorten it
	OnMessage func(Message) // called by the reader, one message at a time: it must not block for long, nor call methods of the Client
}

// A Client is one open connection. Its methods may be called from several goroutines.
type Client struct {
	conn      net.Conn
	version   Version
	onMessage func(Message)
	clientID  string
	keepAlive time.Duration
	maxPacket int

	write sync.Mutex // held while a packet is written

	mu       sync.Mutex
	lastID   uint16
	waiting  map[uint16]chan ack
	pongs    []chan struct{} // one per PINGREQ under way, oldest first
	err      error           // why the connection ended
	writeErr error           // a failed write, told if reading finds no better reason

	done chan struct{} // closed when it ended
	wg   sync.WaitGroup
}

// ErrClosed is the reason of a connection that Close ended.
var ErrClosed = errors.New("connection closed by this side")

// A Refused is the server's explicit no to a packet of ours, or its parting word.
type Refused struct {
	Packet  string // CONNECT, PUBLISH, SUBSCRIBE or DISCONNECT (the server ends the connection)
	Topic   string // topic or filter, if the packet has one
	Version Version
	Code    byte   // return code (3.1.1) or reason code (5)
	Reason  string // the server's own words (MQTT 5), often empty
}

func (e *Refused) Error() string {
	s := e.Packet
	if e.Topic != "" {
		s += " " + e.Topic
	}
	s += " refused: " + codeText(e.Packet, e.Version, e.Code)
	if e.Packet == "DISCONNECT" {
		s = "the server ended the connection: " + codeText(e.Packet, e.Version, e.Code)
	}
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	return s
}

// Transient reports whether the same packet may be welcome later.
func (e *Refused) Transient() bool {
	if e.Packet == "CONNECT" && e.Version == V311 {
		return e.Code == 3
	}
	switch e.Code {
	case 0x83, 0x88, 0x89, 0x8b, 0x8d, 0x8e, 0x93, 0x96, 0x97, 0x98, 0x9c, 0x9f:
		return true
	}
	return e.Packet == "DISCONNECT" && e.Code == 0
}

// NotAuthorized reports whether the server knows us and says that we may not.
func (e *Refused) NotAuthorized() bool {
	if e.Packet == "CONNECT" && e.Version == V311 {
		return e.Code == 4 || e.Code == 5
	}
	return e.Code == 0x86 || e.Code == 0x87 || e.Version == V311 && e.Code == 0x80
}

var connackText = map[byte]string{1: "protocol version not supported", 2: "client id not accepted", 3: "server unavailable",
	4: "bad user name or password", 5: "not authorized"}

var reasonText = map[byte]string{0x00: "normal disconnection", 0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error",
	0x83: "implementation specific error", 0x84: "protocol version not supported", 0x85: "client id not valid", 0x86: "bad user name or password",
	0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy", 0x8a: "banned", 0x8b: "server shutting down",
	0x8d: "keep-alive timeout", 0x8e: "another connection took over the client id", 0x8f: "topic filter invalid", 0x90: "topic name invalid",
	0x93: "receive maximum exceeded", 0x95: "packet too large", 0x97: "quota exceeded", 0x98: "administrative action",
	0x99: "payload format invalid", 0x9b: "QoS not supported", 0x9c: "use another server", 0x9f: "connection rate exceeded"}

func codeText(packet string, v Version, code byte) string {
	table := reasonText
	if packet == "CONNECT" && v == V311 {
		table = connackText
	}
	if s, ok := table[code]; ok {
		return s
	}
	return fmt.Sprintf("code 0x%02x", code)
}

// writeTimeout bounds the writing of one packet: a peer that takes nothing for so long is gone.
const writeTimeout = 15 * time.Second

// lastWords is how long a server's reason is waited for after a write has failed.
const lastWords = 500 * time.Millisecond

// Connect sends CONNECT on conn and waits for the answer until ctx ends. The connection belongs to the Client from then on;
// if Connect fails it is closed. The error is a *Refused if the server said no; io.EOF (wrapped) if it closed without an answer.
func Connect(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	if o.Version == 0 {
		o.Version = V311
	}
	if o.OnMessage == nil {
		o.OnMessage = func(Message) {}
	}
	c := &Client{conn: conn, version: o.Version, onMessage: o.OnMessage, clientID: o.ClientID, keepAlive: o.KeepAlive,
		waiting: map[uint16]chan ack{}, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	r := bufio.NewReader(conn)
	err := c.handshake(r)
	if !stop() {
		err = fmt.Errorf("no CONNACK: %w", ctx.Err())
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.wg.Add(1)
	go c.read(r)
	if c.keepAlive > 0 {
		c.wg.Add(1)
		go c.ping()
	}
	return c, nil
}

func (c *Client) handshake(r *bufio.Reader) error {
	sent := c.send(connectPacket(c.version, c.clientID, uint16(c.keepAlive/time.Second)))
	if sent != nil {
		c.conn.SetReadDeadline(time.Now().Add(lastWords)) // as in sendBounded
	}
	first, body, err := readPacket(r)
	if err != nil && sent != nil {
		return fmt.Errorf("CONNECT: %w (%w)", err, sent)
	}
	if err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if first != typeConnack {
		return fmt.Errorf("waiting for CONNACK: %w of type %d", errMalformed, first>>4)
	}
	a, err := parseConnack(c.version, body)
	if err != nil {
		return fmt.Errorf("CONNACK: %w", err)
	}
	if a.code != 0 {
		return &Refused{Packet: "CONNECT", Version: c.version, Code: a.code, Reason: a.props.reason}
	}
	if c.version == V5 {
		if a.props.keepAlive >= 0 {
			c.keepAlive = time.Duration(a.props.keepAlive) * time.Second
		}
		if a.props.clientID != "" {
			c.clientID = a.props.clientID
		}
		c.maxPacket = a.props.maxPacket
	}
	return nil
}

// ClientID returns the id that the connection goes by: the server's choice if we gave none.
func (c *Client) ClientID() string { return c.clientID }

// Done is closed when the connection has ended, for whatever reason; Err then tells it.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it is open.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Publish sends a message. At QoS 1 it returns when the server has acknowledged it: nil, or a *Refused.
func (c *Client) Publish(ctx context.Context, topic string, payload []byte, qos byte) error {
	m := Message{Topic: topic, Payload: payload, QoS: min(qos, 1)}
	if len(topic) > 0xffff {
		return fmt.Errorf("PUBLISH: topic of %d bytes", len(topic))
	}
	if m.QoS == 0 {
		return c.sendBounded(publishPacket(c.version, 0, m))
	}
	a, err := c.ask(ctx, "PUBLISH", func(id uint16) []byte { return publishPacket(c.version, id, m) })
	if err != nil {
		return err
	}
	if code := a.codes[0]; code >= 0x80 {
		return &Refused{Packet: "PUBLISH", Topic: topic, Version: c.version, Code: code, Reason: a.reason}
	}
	return nil
}

// Subscribe asks for messages on the filters and waits for the answer. A refused filter is a *Refused.
func (c *Client) Subscribe(ctx context.Context, qos byte, filters ...string) error {
	a, err := c.ask(ctx, "SUBSCRIBE", func(id uint16) []byte { return subscribePacket(c.version, id, min(qos, 1), filters) })
	if err != nil {
		return err
	}
	if len(a.codes) != len(filters) {
		return fmt.Errorf("SUBACK: %w", errMalformed)
	}
	for i, code := range a.codes {
		if code >= 0x80 {
			return &Refused{Packet: "SUBSCRIBE", Topic: filters[i], Version: c.version, Code: code, Reason: a.reason}
		}
	}
	return nil
}

// Ping sends a PINGREQ and waits for its answer: proof that the server still serves this connection.
func (c *Client) Ping(ctx context.Context) error {
	pong := make(chan struct{})
	c.mu.Lock()
	c.pongs = append(c.pongs, pong)
	c.mu.Unlock()
	if err := c.sendBounded(pingreqPacket()); err != nil {
		return err
	}
	select {
	case <-pong:
	case <-c.done:
	case <-ctx.Done():
	}
	select {
	case <-pong: // it came before the end
		return nil
	default:
		return fmt.Errorf("PINGREQ: %w", c.silence(ctx))
	}
}

// Close says goodbye and ends the connection. It returns when nothing of it runs any more.
func (c *Client) Close() {
	if c.Err() == nil {
		c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		c.write.Lock()
		c.conn.Write(disconnectPacket())
		c.write.Unlock()
	}
	c.fail(ErrClosed)
	c.wg.Wait()
}

// ask sends a packet that carries a fresh packet id and waits for its acknowledgement.
func (c *Client) ask(ctx context.Context, what string, build func(id uint16) []byte) (ack, error) {
	answer := make(chan ack, 1)
	c.mu.Lock()
	for c.lastID++; c.lastID == 0 || c.waiting[c.lastID] != nil; c.lastID++ {
	}
	id := c.lastID
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.sendBounded(build(id)); err != nil {
		return ack{}, fmt.Errorf("%s: %w", what, err)
	}
	select {
	case a := <-answer:
		return a, nil
	case <-c.done:
	case <-ctx.Done():
	}
	select {
	case a := <-answer: // it came before the end: a server may refuse and close at once
		return a, nil
	default:
		return ack{}, fmt.Errorf("%s: %w", what, c.silence(ctx))
	}
}

// silence tells why no answer came before ctx ended: the end of the connection is the better reason, if both happened.
func (c *Client) silence(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	return fmt.Errorf("no answer: %w", ctx.Err())
}

func (c *Client) sendBounded(p []byte) error {
	if c.maxPacket > 0 && len(p) > c.maxPacket {
		return fmt.Errorf("packet of %d bytes, the server takes at most %d", len(p), c.maxPacket)
	}
	select {
	case <-c.done:
		return c.Err()
	default:
	}
	if err := c.send(p); err != nil {
		// The server may have told its reason before the line broke: the reader gets a moment to find it.
		c.mu.Lock()
		c.writeErr = err
		c.mu.Unlock()
		c.conn.SetReadDeadline(time.Now().Add(lastWords))
		<-c.done
		return c.Err()
	}
	return nil
}

func (c *Client) send(p []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.conn.Write(p)
	return err
}

// read takes packets off the connection until it ends.
func (c *Client) read(r *bufio.Reader) {
	defer c.wg.Done()
	for {
		first, body, err := readPacket(r)
		if err == nil {
			err = c.handle(first, body)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *Client) handle(first byte, body []byte) error {
	switch first & 0xf0 {
	case typePublish:
		m, id, err := parsePublish(c.version, first, body)
		if err != nil {
			return err
		}
		c.onMessage(m)
		if m.QoS == 1 {
			return c.send(pubackPacket(id))
		}
		return nil
	case typePuback:
		id, a, err := parsePuback(c.version, body)
		if err == nil {
			c.deliver(id, a)
		}
		return err
	case typeSuback & 0xf0:
		id, a, err := parseSuback(c.version, body)
		if err == nil {
			c.deliver(id, a)
		}
		return err
	case typePingresp:
		c.mu.Lock()
		if len(c.pongs) > 0 {
			close(c.pongs[0])
			c.pongs = c.pongs[1:]
		}
		c.mu.Unlock()
		return nil
	case typeDisconnect:
		code, reason, err := parseDisconnect(c.version, body)
		if err != nil {
			return err
		}
		return &Refused{Packet: "DISCONNECT", Version: c.version, Code: code, Reason: reason}
	}
	return fmt.Errorf("%w of type %d", errMalformed, first>>4)
}

func (c *Client) deliver(id uint16, a ack) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.waiting[id]; ch != nil {
		ch <- a // has room for one, and is removed before a second can come
		delete(c.waiting, id)
	}
}

// ping keeps the connection alive: a PINGREQ after three quarters of the interval; one that stays without an answer for half
// of the interval ends the connection.
func (c *Client) ping() {
	defer c.wg.Done()
	tick := time.NewTicker(c.keepAlive * 3 / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.keepAlive/2)
		err := c.Ping(ctx)
		cancel()
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// fail ends the connection for the first reason that is given.
func (c *Client) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		var timeout net.Error
		if c.writeErr != nil && errors.As(err, &timeout) && timeout.Timeout() {
			err = c.writeErr
		}
		c.err = err
	}
	c.mu.Unlock()
	if first {
		close(c.done)
		c.conn.Close()
	}
}

// IsClosedByPeer reports whether err says that the server closed the connection without a word.
func IsClosedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
