package mqtt

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// split takes a packet apart with our own reader, whose header the other codec does not read.
func split(t *testing.T, p []byte) (packets.FixedHeader, []byte) {
	t.Helper()
	first, body, err := readPacket(bufio.NewReader(bytes.NewReader(p)))
	if err != nil {
		t.Fatal(err)
	}
	h := packets.FixedHeader{Remaining: len(body)}
	if err := h.Decode(first); err != nil {
		t.Fatal(err)
	}
	return h, body
}

func TestOurPacketsAreReadByAnotherCodec(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{V311, V5} {
		pk := packets.Packet{ProtocolVersion: byte(v)}
		var body []byte
		pk.FixedHeader, body = split(t, connectPacket(v, "lamp", 60))
		if err := pk.ConnectDecode(body); err != nil || pk.Connect.ClientIdentifier != "lamp" || pk.Connect.Keepalive != 60 || !pk.Connect.Clean ||
			pk.ProtocolVersion != byte(v) || pk.ConnectValidate() != packets.CodeSuccess || v == V5 && pk.Properties.MaximumPacketSize != MaxPacket {
			t.Errorf("version %s: %+v, %v", v, pk.Connect, err)
		}
		long := strings.Repeat("x", 20000)
		pk = packets.Packet{ProtocolVersion: byte(v)}
		pk.FixedHeader, body = split(t, publishPacket(v, 7, Message{Topic: "a/b", Payload: []byte(long), QoS: 1}))
		if err := pk.PublishDecode(body); err != nil || pk.TopicName != "a/b" || string(pk.Payload) != long || pk.PacketID != 7 || pk.FixedHeader.Qos != 1 {
			t.Errorf("version %s: PUBLISH %s, %v", v, pk.TopicName, err)
		}
		pk = packets.Packet{ProtocolVersion: byte(v)}
		pk.FixedHeader, body = split(t, subscribePacket(v, 8, 1, []string{"a", "b/#"}))
		if err := pk.SubscribeDecode(body); err != nil || len(pk.Filters) != 2 || pk.Filters[1].Filter != "b/#" || pk.Filters[1].Qos != 1 || pk.PacketID != 8 {
			t.Errorf("version %s: SUBSCRIBE %+v, %v", v, pk.Filters, err)
		}
	}
}

func TestAConnackWithEveryPropertyIsRead(t *testing.T) {
	t.Parallel()
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ProtocolVersion: 5, Properties: packets.Properties{
		AssignedClientID: "auto-1", ServerKeepAlive: 30, ServerKeepAliveFlag: true, ReasonString: "welcome", MaximumPacketSize: 1000,
		SessionExpiryInterval: 3600, SessionExpiryIntervalFlag: true, ReceiveMaximum: 100, TopicAliasMaximum: 8, MaximumQos: 1, MaximumQosFlag: true,
		RetainAvailable: 1, RetainAvailableFlag: true, ServerReference: "b", ResponseInfo: "r", WildcardSubAvailable: 1, WildcardSubAvailableFlag: true,
		SubIDAvailable: 0, SubIDAvailableFlag: true, SharedSubAvailable: 1, SharedSubAvailableFlag: true,
		User: []packets.UserProperty{{Key: "k", Val: "v"}}}}
	buf := new(bytes.Buffer)
	if err := pk.ConnackEncode(buf); err != nil {
		t.Fatal(err)
	}
	_, body := split(t, buf.Bytes())
	c, err := parseConnack(V5, body)
	if err != nil || c.props != (properties{reason: "welcome", keepAlive: 30, clientID: "auto-1", maxPacket: 1000}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestARefusalNamesItsReason(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		r             Refused
		text          string
		transient, no bool
	}{
		{Refused{Packet: "CONNECT", Version: V311, Code: 5}, "CONNECT refused: not authorized", false, true},
		{Refused{Packet: "CONNECT", Version: V311, Code: 3}, "CONNECT refused: server unavailable", true, false},
		{Refused{Packet: "CONNECT", Version: V5, Code: 0x87, Reason: "why"}, "CONNECT refused: not authorized (why)", false, true},
		{Refused{Packet: "PUBLISH", Topic: "a", Version: V5, Code: 0x97}, "PUBLISH a refused: quota exceeded", true, false},
		{Refused{Packet: "SUBSCRIBE", Topic: "a", Version: V311, Code: 0x80}, "SUBSCRIBE a refused: unspecified error", false, true},
		{Refused{Packet: "DISCONNECT", Version: V5, Code: 0x8e}, "the server ended the connection: another connection took over the client id", true, false},
		{Refused{Packet: "PUBLISH", Topic: "a", Version: V5, Code: 0xee}, "PUBLISH a refused: code 0xee", false, false},
	} {
		if tt.r.Error() != tt.text || tt.r.Transient() != tt.transient || tt.r.NotAuthorized() != tt.no {
			t.Errorf("%q, transient %v, not authorized %v", tt.r.Error(), tt.r.Transient(), tt.r.NotAuthorized())
		}
	}
}

// A peer plays the server on the other end of a pipe.
type peer struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// connected returns a client with its peer, CONNECT and CONNACK done.
func connected(t *testing.T, o Options, connack string) (*Client, *peer) {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{t, theirs, bufio.NewReader(theirs)}
	go func() {
		readPacket(p.r)
		theirs.Write([]byte(connack))
	}()
	c, err := Connect(t.Context(), ours, o)
	if err != nil {
		t.Fatal(err)
	}
	return c, p
}

func (p *peer) expect(first byte) []byte {
	p.t.Helper()
	got, body, err := readPacket(p.r)
	if err != nil || got != first {
		p.t.Errorf("got packet %#x, %v; want %#x", got, err, first)
	}
	return body
}

func TestAnIdleConnectionIsKeptAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := connected(t, Options{KeepAlive: time.Minute}, "\x20\x02\x00\x00")
		began := time.Now()
		for range 3 {
			p.expect(typePingreq)
			p.Write([]byte{typePingresp, 0})
		}
		if d := time.Since(began); d != 135*time.Second {
			t.Errorf("three pings took %v", d)
		}
		go p.expect(typeDisconnect)
		c.Close()
		if c.Err() != ErrClosed {
			t.Errorf("%v", c.Err())
		}
	})
}

func TestAServerThatDoesNotAnswerPingsIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, p := connected(t, Options{Version: V5, KeepAlive: time.Hour}, "\x20\x06\x00\x00\x03\x13\x00\x1e") // the server shortens it to 30 s
		go io.Copy(io.Discard, p)
		began := time.Now()
		<-c.Done()
		if d := time.Since(began); d != 37500*time.Millisecond || !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("after %v: %v", d, c.Err())
		}
		c.Close()
	})
}

func TestAnUnansweredConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := Connect(ctx, ours, Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestAnswersFindTheirQuestions(t *testing.T) {
	t.Parallel()
	c, p := connected(t, Options{}, "\x20\x02\x00\x00")
	errs := make(chan error, 2)
	for _, topic := range []string{"a", "b"} {
		go func() { errs <- c.Publish(t.Context(), topic, nil, 1) }()
	}
	first, second := p.expect(typePublish|2), p.expect(typePublish|2)
	p.Write(append([]byte{typePuback, 2}, second[3:5]...)) // in another order
	p.Write(append([]byte{typePuback, 2}, first[3:5]...))
	p.Write([]byte{typePuback, 2, 0x33, 0x33}) // and one that nobody asked for
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	go p.expect(typeDisconnect)
	c.Close()
	if err := c.Publish(t.Context(), "c", nil, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAServersGoodbyeIsToldToWhoeverWaits(t *testing.T) {
	t.Parallel()
	c, p := connected(t, Options{Version: V5}, "\x20\x03\x00\x00\x00")
	go func() {
		p.expect(typePublish | 2)
		p.Write([]byte("\xe0\x07\x87\x05\x1f\x00\x02no"))
	}()
	var r *Refused
	if err := c.Publish(t.Context(), "a", nil, 1); !errors.As(err, &r) || r.Code != 0x87 || r.Reason != "no" {
		t.Errorf("%v", err)
	}
	c.Close()
}

// A held connection gives a SUBSCRIBE back to its writer when the connection has ended.
type held struct {
	net.Conn
	until chan struct{}
}

func (h held) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if p[0] == typeSubscribe {
		<-h.until
	}
	return n, err
}

// With MQTT 3.1.1 a server answers a SUBSCRIBE that it refuses and then closes the connection. Who was not waiting yet learns of both
// at once.
func TestAnAnswerBeforeTheEndIsTheAnswer(t *testing.T) {
	t.Parallel()
	for range 20 {
		ours, theirs := net.Pipe()
		h := held{ours, make(chan struct{})}
		go func() {
			r := bufio.NewReader(theirs)
			readPacket(r)
			theirs.Write([]byte("\x20\x02\x00\x00"))
			readPacket(r)
			theirs.Write([]byte{typeSuback, 3, 0, 1, 0x80})
			theirs.Close()
		}()
		c, err := Connect(t.Context(), h, Options{})
		if err != nil {
			t.Fatal(err)
		}
		go func() { <-c.Done(); close(h.until) }()
		var r *Refused
		if err := c.Subscribe(t.Context(), 1, "a"); !errors.As(err, &r) || r.Code != 0x80 {
			t.Fatalf("%v", err)
		}
		c.Close()
	}
}

// A SUBACK without a code is malformed, also where a PUBACK is waited for.
func TestAnAcknowledgementWithoutACodeEndsTheConnection(t *testing.T) {
	t.Parallel()
	c, p := connected(t, Options{}, "\x20\x02\x00\x00")
	go func() {
		body := p.expect(typePublish | 2)
		p.Write([]byte{typeSuback, 2, body[3], body[4]})
	}()
	if err := c.Publish(t.Context(), "a", nil, 1); !errors.Is(err, errMalformed) {
		t.Errorf("%v", err)
	}
	c.Close()
}

func TestAPacketLargerThanTheServerTakesIsNotSent(t *testing.T) {
	t.Parallel()
	c, p := connected(t, Options{Version: V5}, "\x20\x08\x00\x00\x05\x27\x00\x00\x00\x10")
	if err := c.Publish(t.Context(), "a", make([]byte, 100), 0); err == nil || !strings.Contains(err.Error(), "at most 16") {
		t.Errorf("%v", err)
	}
	go p.expect(typeDisconnect)
	c.Close()
}

// Whatever a server sends, the client ends in good order.
func FuzzServer(f *testing.F) {
	f.Add(byte(4), []byte("\x20\x02\x00\x00\x32\x07\x00\x01a\x00\x07hi\x40\x02\x00\x01\x90\x03\x00\x02\x01\xd0\x00"))
	f.Add(byte(5), []byte("\x20\x06\x00\x00\x03\x13\x00\x1e\x30\x05\x00\x01a\x00x\xe0\x07\x87\x05\x1f\x00\x02no"))
	f.Add(byte(5), []byte("\x20\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, version byte, answer []byte) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs)
		go func() {
			theirs.Write(answer)
			theirs.Close()
		}()
		v := V311
		if version == 5 {
			v = V5
		}
		c, err := Connect(t.Context(), ours, Options{Version: v, ClientID: "x"})
		if err != nil {
			return
		}
		c.Subscribe(t.Context(), 1, "a")
		<-c.Done()
		c.Close()
	})
}
