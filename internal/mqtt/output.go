package mqtt

import (
	"bytes"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// buffers holds unsent output; an idle connection has none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const pooledBuffer = 32 << 10 // larger ones are left to the garbage collector

func recycle(b *bytes.Buffer) {
	if b.Cap() > pooledBuffer {
		return
	}
	clear(b.Bytes()) // an answer may hold a private key
	b.Reset()
	buffers.Put(b)
}

// An output is the unsent bytes of a connection. Whoever has something to say appends it; a goroutine that writes to the
// network exists only while there is something to write, and takes all there is at once.
type output struct {
	mu      sync.Mutex
	enc     encoder
	buf     *bytes.Buffer // waiting for the writer
	writing int           // bytes that the writer is busy with
	active  bool          // a writer goroutine exists
	closing bool          // nothing is appended any more
	full    bool          // more than softOutput was unsent: when all is written, waiting messages go on
	flushed chan struct{} // set with closing; closed when all is written
}

// send appends a packet. It reports false if the connection is ending or the packet does not fit the client. A client that
// takes nothing while we have a megabyte for it loses its connection.
func (c *conn) send(kind byte, fill func(*packets.Packet)) bool {
	c.out.mu.Lock()
	ok := !c.out.closing && c.out.enc.put(c.buffer(), kind, fill)
	over := c.wrote()
	c.out.mu.Unlock()
	if over {
		go c.end(End{Reason: Throttled, Code: codeQuota, Text: "the client does not read what it is sent"})
	}
	return ok
}

// sendMessage appends a PUBLISH. It reports false if the message is not for this client, which takes no packets of that size. On a
// connection that is ending nothing is appended: that is a message lost on its way, which its session has again when it is put aside.
func (c *conn) sendMessage(o *outgoing, now time.Time) bool {
	c.out.mu.Lock()
	ok := c.out.closing
	if !ok && c.out.enc.publish(c.buffer(), o, now) {
		ok = true
		c.b.sent.Add(1)
	}
	over := c.wrote()
	c.out.mu.Unlock()
	if over {
		go c.end(End{Reason: Throttled, Code: codeQuota, Text: "the client does not read what it is sent"})
	}
	return ok
}

// clogged reports whether so much is unsent that messages had better wait or be dropped.
func (c *conn) clogged() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	over := c.out.pending() > softOutput
	c.out.full = c.out.full || over
	return over
}

func (o *output) pending() int {
	n := o.writing
	if o.buf != nil {
		n += o.buf.Len()
	}
	return n
}

func (c *conn) buffer() *bytes.Buffer {
	if c.out.buf == nil {
		c.out.buf = buffers.Get().(*bytes.Buffer)
	}
	return c.out.buf
}

// wrote sees to it that somebody writes what is pending, and reports whether there is too much of it.
func (c *conn) wrote() (over bool) {
	if !c.out.active && !c.out.closing {
		c.out.active = true
		go c.write()
	}
	return !c.out.closing && c.out.pending() > hardOutput
}

// write is the writer: it runs until nothing is pending.
func (c *conn) write() {
	for {
		c.out.mu.Lock()
		b := c.out.buf
		c.out.buf, c.out.writing = nil, 0
		if b == nil || b.Len() == 0 {
			c.out.active = false
			closing, resume := c.out.closing, c.out.full
			c.out.full = false
			c.out.mu.Unlock()
			switch {
			case closing:
				c.hangUp()
			case resume:
				c.resume()
			}
			return
		}
		c.out.writing = b.Len()
		if !c.out.closing {
			c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		c.out.mu.Unlock()
		c.paceOut(b.Len())
		_, err := c.nc.Write(b.Bytes())
		recycle(b)
		if err != nil {
			c.nc.Close()
			go c.end(End{Reason: ConnectionLost, Text: err.Error()}) // the reader may be busy for long
		}
	}
}

// closeAfter lets the writer send what is pending and last, then hang up. It returns at once.
func (c *conn) closeAfter(last func()) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if last != nil {
		last()
	}
	c.out.closing = true
	c.out.flushed = make(chan struct{})
	c.nc.SetWriteDeadline(time.Now().Add(byeTimeout))
	if !c.out.active {
		c.out.active = true
		go c.write()
	}
}

// hangUp says that we are done. The peer closes first if it can be made to: closing with its bytes unread would reset the
// connection, and the peer would lose our last packets.
func (c *conn) hangUp() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.nc.SetReadDeadline(time.Now().Add(lingerFor))
	} else {
		c.nc.Close()
	}
	close(c.out.flushed)
}
