// Package cutter cuts the connections of devices, for tests of what devices and server make of that.
package cutter

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// flowBytes is about what a whole flow takes, both directions and connections together.
const flowBytes = 12_000

const dialTimeout = 30 * time.Second

// A Proxy stands before an MQTT port and cuts connections after so many bytes. Make one with New.
type Proxy struct {
	listener net.Listener
	to       func() string
	next     func() (bytes int64, cut func())
	wg       sync.WaitGroup
}

// New starts a proxy on a free port, to the address that to returns. next says for each connection after how many bytes it is cut, less
// than 0 for never, and what to call then.
func New(to func() string, next func() (bytes int64, cut func())) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &Proxy{listener: l, to: to, next: next}
	c.wg.Go(c.run)
	return c, nil
}

// Port is where it listens.
func (c *Proxy) Port() int { return c.listener.Addr().(*net.TCPAddr).Port }

// Stop takes no more connections and returns when those that there are have ended.
func (c *Proxy) Stop() {
	_ = c.listener.Close()
	c.wg.Wait()
}

func (c *Proxy) run() {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.wg.Go(func() { c.serve(in) })
	}
}

func (c *Proxy) serve(in net.Conn) {
	limit, cut := c.next()
	defer in.Close()
	out, err := net.DialTimeout("tcp", c.to(), dialTimeout)
	if err != nil {
		return // the server is being started again
	}
	defer out.Close()
	var passed atomic.Int64
	var once sync.Once
	end := func() { once.Do(func() { in.Close(); out.Close() }) }
	pass := func(to, from net.Conn) {
		defer end()
		b := make([]byte, 4096)
		for {
			n, err := from.Read(b)
			if now := passed.Add(int64(n)); limit >= 0 && now > limit {
				keep := max(int64(n)-(now-limit), 0)
				_, _ = to.Write(b[:keep]) // the last bytes before the cut
				end()
				cut()
				return
			}
			if n > 0 {
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { pass(out, in) })
	pass(in, out)
	wg.Wait()
}
