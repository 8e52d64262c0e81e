package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// mosquittoPath finds the broker to compare with; Debian keeps it where only root looks.
func mosquittoPath() string {
	for _, name := range []string{"mosquitto", "/usr/sbin/mosquitto"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startMosquitto runs a broker with the same kind of certificates, TCP_NODELAY (without it every answer waits 40 ms) and no files.
func startMosquitto(dir string) (*process, *world, error) {
	ca, caKey, err := newCA()
	if err != nil {
		return nil, nil, err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	issue := func(name string, usage x509.ExtKeyUsage) (tls.Certificate, error) {
		c, err := newCandidate()
		if err != nil {
			return tls.Certificate{}, err
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf(name, usage), ca, &c.key.PublicKey, caKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.key}, err
	}
	server, err := issue("localhost", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return nil, nil, err
	}
	device1, err := issue("device", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		return nil, nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	in := func(name string) string { return filepath.Join(dir, name) }
	conf := fmt.Sprintf("user root\nset_tcp_nodelay true\nlistener %d 127.0.0.1\nallow_anonymous true\nrequire_certificate true\nuse_identity_as_username true\n"+
		"tls_version tlsv1.3\ncafile %s\ncertfile %s\nkeyfile %s\nlog_dest none\n", port, in("ca.pem"), in("server.pem"), in("server.key"))
	if err := errors.Join(write("ca.pem", "CERTIFICATE", ca.Raw), write("server.pem", "CERTIFICATE", server.Certificate[0]),
		write("server.key", "PRIVATE KEY", key), os.WriteFile(in("mosquitto.conf"), []byte(conf), 0o600)); err != nil {
		return nil, nil, err
	}
	p := &process{log: in("mosquitto.log"), exited: make(chan error, 1)}
	p.cmd = exec.Command(mosquittoPath(), "-c", in("mosquitto.conf"))
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	go func() { p.exited <- p.cmd.Wait() }()
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	w := &world{server: p, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), tls: &tls.Config{RootCAs: pool, ServerName: "localhost",
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}}}
	for i := range 64 {
		w.devices = append(w.devices, device{fmt.Sprint("device-", i), device1})
	}
	return p, w, untilReachable(w.addr, p)
}

// untilReachable waits for a process to listen.
func untilReachable(addr string, p *process) error {
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.Close()
		}
		select {
		case err := <-p.exited:
			return fmt.Errorf("it stopped: %v", err)
		default:
		}
	}
	return errors.New("it does not listen")
}

// measureMosquitto is measureCycles of both brokers in turns. ServerMicros is mosquitto's, Share what ours takes of that.
func measureMosquitto(ctx context.Context, o options, w *world) (*figures, error) {
	if mosquittoPath() == "" {
		return nil, errNotInstalled
	}
	dir, err := os.MkdirTemp("", "imprint-bench-mosquitto-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, other, err := startMosquitto(dir)
	if err != nil {
		return nil, fmt.Errorf("mosquitto: %w", err)
	}
	defer p.stop()
	return inTurns(ctx, o, other, w, measureCycles)
}

var errNotInstalled = errors.New("not installed")

// inTurns measures a scenario in a and b in turns, and returns a's figures with b's share of its CPU time.
func inTurns(ctx context.Context, o options, a, b *world, scenario func(context.Context, options, *world) (*figures, error)) (*figures, error) {
	short := o
	short.rounds, short.seconds = 1, o.seconds/float64(o.rounds)
	var shares, micros, rates []float64
	var last *figures
	for range o.rounds {
		fa, err := scenario(ctx, short, a)
		if err != nil {
			return nil, err
		}
		fb, err := scenario(ctx, short, b)
		if err != nil {
			return nil, err
		}
		shares, micros, rates, last = append(shares, fb.ServerMicros/fa.ServerMicros), append(micros, fa.ServerMicros), append(rates, fa.PerSecond), fa
	}
	slices.Sort(shares)
	last.ServerMicros, last.PerSecond, last.Share = median(micros), median(rates), median(shares)
	return last, nil
}
