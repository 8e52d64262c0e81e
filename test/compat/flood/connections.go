package flood

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// port takes both ports in turn.
func (w *worker) port() string {
	if w.number%2 == 0 {
		return w.t.MQTT
	}
	return w.t.HTTPS
}

// wait reads until the server closes the connection or the time to hold it is over.
func (w *worker) wait(c net.Conn) outcome {
	if w.t.Hold > 0 {
		_ = c.SetDeadline(time.Now().Add(w.t.Hold))
	}
	_, err := io.Copy(io.Discard, c)
	if err == nil {
		err = io.EOF
	}
	return w.failed(err)
}

// drip sends b byte by byte. Before the next byte the server may have closed.
func (w *worker) drip(c net.Conn, b []byte) outcome {
	for i := range b {
		if _, err := c.Write(b[i : i+1]); err != nil {
			return w.failed(err)
		}
		if !w.pause(200 * time.Millisecond) {
			return stopped
		}
	}
	return served
}

// silent opens a connection and says nothing.
func silent(w *worker) outcome {
	c, done, err := w.dial(w.port())
	if err != nil {
		return w.failed(err)
	}
	defer done()
	return w.wait(c)
}

// slowTLS sends the records of a ClientHello byte by byte.
func slowTLS(w *worker) outcome {
	c, done, err := w.dial(w.port())
	if err != nil {
		return w.failed(err)
	}
	defer done()
	hello := append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 505)...)
	return w.drip(c, hello)
}

// slowHTTP sends a request's header byte by byte.
func slowHTTP(w *worker) outcome {
	c, done, err := w.secure(w.t.HTTPS, nil, "http/1.1")
	if err != nil {
		return w.failed(err)
	}
	defer done()
	return w.drip(c, []byte("GET /things HTTP/1.1\r\nHost: localhost\r\nX-Slow: loris loris loris loris loris loris loris\r\n"))
}

func str(v string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(v))), v...) }

func packet(first byte, body []byte) []byte {
	p := binary.AppendUvarint([]byte{first}, uint64(len(body))) // remaining length is this very coding
	return append(p, body...)
}

func connect(id string) []byte {
	return packet(0x10, append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean */, 4, 176 /* 1200 s */}, str(id)...))
}

// slowConnect is a device that sends its CONNECT byte by byte.
func slowConnect(w *worker) outcome {
	c, done, err := w.secure(w.t.MQTT, &w.t.Device)
	if err != nil {
		return w.failed(err)
	}
	defer done()
	return w.drip(c, connect("a-client-id-that-is-long-enough-to-take-all-the-time-that-there-is"))
}

// handshake is a device that connects and never sends CONNECT; it hangs up at once.
func handshake(w *worker) outcome {
	c, done, err := w.secure(w.t.MQTT, &w.t.Device)
	if err != nil {
		return w.failed(err)
	}
	defer done()
	if w.t.Hold > 0 {
		return w.wait(c)
	}
	return served
}

// strangerHandshake shows a certificate that nobody knows.
func strangerHandshake(w *worker) outcome {
	c, done, err := w.secure(w.t.MQTT, &w.t.Stranger)
	if err != nil {
		return w.failed(err)
	}
	defer done()
	return w.wait(c) // with TLS 1.3 the client hears of it on its first read
}

// session is a device that has connected.
func (w *worker) session(cert *tls.Certificate) (*tls.Conn, func(), outcome) {
	c, done, err := w.secure(w.t.MQTT, cert)
	if err != nil {
		return nil, nil, w.failed(err)
	}
	ack := make([]byte, 4)
	if _, err = c.Write(connect(randomID())); err == nil {
		_, err = io.ReadFull(c, ack)
	}
	if err != nil {
		done()
		return nil, nil, w.failed(err)
	}
	if ack[3] != 0 {
		done()
		return nil, nil, refused
	}
	return c, done, served
}

func randomID() string {
	const hex = "0123456789abcdef"
	b := make([]byte, 16)
	for i := range b {
		b[i] = hex[rand.IntN(16)]
	}
	return "flood-" + string(b)
}

// badPacket is a device that sends what is no MQTT, or too much of it.
func badPacket(w *worker) outcome {
	var bad []byte
	first := w.number%3 == 0 // in place of CONNECT
	switch w.number % 4 {
	case 0: // announces 256 MB
		bad = append([]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 64<<10)...)
	case 1: // the largest packet, malformed at its end
		bad = packet(0x82, append([]byte{0, 1}, make([]byte, 140_000)...))
	case 2: // noise
		bad = make([]byte, 1000)
		for i := range bad {
			bad[i] = byte(rand.IntN(256))
		}
	case 3: // a length without end
		bad = []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	var c net.Conn
	var done func()
	if first {
		tc, d, err := w.secure(w.t.MQTT, &w.t.Device)
		if err != nil {
			return w.failed(err)
		}
		c, done = tc, d
	} else {
		tc, d, o := w.session(&w.t.Device)
		if o != served {
			return o
		}
		c, done = tc, d
	}
	defer done()
	if _, err := c.Write(bad); err != nil {
		return w.failed(err)
	}
	return w.wait(c)
}

// subscribe is a device that subscribes and unsubscribes as fast as it can.
func subscribe(w *worker) outcome {
	c, done, o := w.session(&w.t.Device)
	if o != served {
		return o
	}
	defer done()
	go io.Copy(io.Discard, c)
	body := []byte{0, 1}
	names := []byte{0, 2}
	for range 8 {
		f := str(randomID() + "/+/state/#")
		body = append(append(body, f...), 1)
		names = append(names, f...)
	}
	both := append(packet(0x82, body), packet(0xA2, names)...)
	for {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(both); err != nil {
			return w.failed(err)
		}
	}
}

// keyRequest asks for RSA keys by MQTT, four at a time.
func keyRequest(w *worker) outcome {
	c, done, o := w.session(&w.t.Device)
	if o != served {
		return o
	}
	defer done()
	const topic = "$aws/certificates/create/json"
	ask := packet(0x30, append(str(topic), "{}"...))
	subscribe := packet(0x82, append(append(append(append([]byte{0, 1}, str(topic+"/rejected")...), 0), str(topic+"/accepted")...), 0))
	if _, err := c.Write(append(subscribe, ask...)); err != nil {
		return w.failed(err)
	}
	go func() {
		for w.ctx.Err() == nil {
			if _, err := c.Write(ask); err != nil {
				return
			}
			if !w.pause(100 * time.Millisecond) {
				return
			}
		}
	}()
	return w.wait(c)
}
