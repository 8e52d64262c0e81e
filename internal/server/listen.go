package server

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// bind is the address to listen on: loopback stays on loopback, any other host means every interface.
func (s site) bind(port int) string {
	host := ""
	if s.loopback() {
		host = "127.0.0.1"
		if net.ParseIP(s.Host) != nil {
			host = s.Host
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// listen opens a port, any free one if it is 0 or AnyPort, and returns its number, too.
func (s site) listen(port string) (net.Listener, int, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, 0, fmt.Errorf("port %q is not a number", port)
	}
	l, err := s.open(max(n, 0))
	for tries := 0; n <= 0 && errors.Is(err, syscall.EADDRINUSE) && tries < 100; tries++ { // free for IPv4 only
		l, err = s.open(0)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%w (is another server running? --https-port 0 --mqtt-port 0 take any free ports for a new data folder)", err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

func (s site) open(port int) (net.Listener, error) {
	four, err := net.Listen("tcp", s.bind(port))
	if err != nil || !s.loopback() || net.ParseIP(s.Host) != nil {
		return four, err
	}
	six, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(four.Addr().(*net.TCPAddr).Port)))
	switch {
	case errors.Is(err, syscall.EADDRINUSE): // who asks for localhost would meet another server
		return nil, errors.Join(err, four.Close())
	case err != nil: // a machine without IPv6
		return four, nil
	}
	return listenAtBoth(four, six), nil
}

// both listens at the two addresses of localhost. Which of them comes first is the resolver's choice, and some clients try no other
// (Node.js before version 20). Whoever comes to the second is told as 127.0.0.1, so that what names this machine (aws:SourceIp, limits
// of claims, proxies, explain) need not name it twice.
type both struct {
	net.Listener // whose address is told
	six          net.Listener
	arrivals     chan arrival
	closed       chan struct{}
	close        func() error
}

// arrival is what Accept of one of the two has returned.
type arrival struct {
	conn net.Conn
	err  error
}

func listenAtBoth(four, six net.Listener) *both {
	b := &both{Listener: four, six: six, arrivals: make(chan arrival), closed: make(chan struct{})}
	b.close = sync.OnceValue(func() error {
		close(b.closed)
		return errors.Join(four.Close(), six.Close())
	})
	go b.accept(four)
	go b.accept(six)
	return b
}

// accept hands over what comes in, until Close. Errors are handed over, too: whoever accepts decides how long to wait then.
func (b *both) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err == nil && l == b.six {
			conn = fromLoopback{conn}
		}
		select {
		case b.arrivals <- arrival{conn, err}:
		case <-b.closed:
			if conn != nil {
				_ = conn.Close()
			}
			return
		}
	}
}

// fromLoopback is a connection from ::1.
type fromLoopback struct{ net.Conn }

// RemoteAddr implements net.Conn.
func (c fromLoopback) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.Conn.RemoteAddr().(*net.TCPAddr).Port}
}

// Accept implements net.Listener.
func (b *both) Accept() (net.Conn, error) {
	select {
	case a := <-b.arrivals:
		return a.conn, a.err
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (b *both) Close() error { return b.close() }
