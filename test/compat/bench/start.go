package main

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// emptyServer makes this program a TLS server that does nothing: what a start takes at least.
const emptyServer = "IMPRINT_BENCH_EMPTY_SERVER"

func serveNothing(addr string) error {
	ca, key, err := newCA()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{ca.Raw}, PrivateKey: key}}})
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { _ = c.(*tls.Conn).Handshake(); c.Close() }()
	}
}

// measureStart starts the server anew on a folder of its own that it has used before, and an empty server, in turns. P50Millis is the empty
// one's time from the start to a handshake, Share how many times that ours takes.
func measureStart(ctx context.Context, o options, w *world) (*figures, error) {
	dir, err := os.MkdirTemp("", "imprint-bench-start-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := startServer(ctx, o.bin, dir)
	if err != nil {
		return nil, err
	}
	ours := net.JoinHostPort(s.env.Get("IOT_ENDPOINT"), s.env.Get("IOT_ALPN_PORT"))
	s.stop()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	nothing := "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	const rounds = 21
	var empty, shares []float64
	for range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), emptyServer+"="+nothing)
		took, err := untilHandshake(cmd, nothing)
		if err != nil {
			return nil, err
		}
		empty = append(empty, took)
		if took, err = untilHandshake(serveCommand(o.bin, s.data), ours); err != nil {
			return nil, err
		}
		shares = append(shares, took/empty[len(empty)-1])
	}
	return &figures{Count: rounds, P50Millis: median(empty), Share: median(shares)}, nil
}

// untilHandshake is how many milliseconds a server takes from its start to its first handshake. It is stopped after.
func untilHandshake(cmd *exec.Cmd, addr string) (millis float64, err error) {
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	p := &process{cmd: cmd, exited: make(chan error, 1)}
	go func() { p.exited <- cmd.Wait() }()
	defer p.stop()
	for {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}) // who it is does not matter here
		if err == nil {
			millis = micros(time.Since(begin)) / 1000
			return millis, c.Close()
		}
		if time.Since(begin) > startTimeout {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
}
