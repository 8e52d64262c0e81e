package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A floor is what the operations cost by themselves: CPU microseconds of one thread, medians.
type floor struct {
	Handshake  float64 `json:"handshakeMicros"` // server side, mutual TLS 1.3, all P-256, X25519, chain check
	CSR        float64 `json:"csrMicros"`       // parse and check, P-256
	Sign       float64 `json:"certificateMicros"`
	P256Sign   float64 `json:"p256SignMicros"`
	P256Verify float64 `json:"p256VerifyMicros"`
	RSASign    float64 `json:"rsa2048SignMicros"`
	RSAKey     float64 `json:"rsa2048KeyMicros"` // mean: the time to find primes varies
	Power      float64 `json:"powerMicros"`      // modular, in the group of 3072 bits and with the exponents of SRP
	SRP        float64 `json:"srpMicros"`        // the powers that a server computes for a sign-in
	Flow       float64 `json:"flowMicros"`       // two handshakes, one CSR, one certificate
	SyncP50    float64 `json:"fdatasyncP50Micros"`
	SyncP99    float64 `json:"fdatasyncP99Micros"`
	Cores      int     `json:"cores"`
}

// threadCPU is the CPU time of the thread that calls, who must be locked to it.
func threadCPU() time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	_ = syscall.Getrusage(rusageThread, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cost is the median over rounds of the mean CPU time of f in microseconds.
func cost(rounds, times int, f func() error) (float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var each []float64
	for range rounds {
		begin := threadCPU()
		for range times {
			if err := f(); err != nil {
				return 0, err
			}
		}
		each = append(each, micros(threadCPU()-begin)/float64(times))
	}
	return median(each), nil
}

func measureFloor(dir string, b *bare) (fl floor, err error) {
	fl.Cores = runtime.NumCPU()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fl, err
	}
	digest := sha256.Sum256(b.request)
	signature, err := ecdsa.SignASN1(rand.Reader, b.key, digest[:])
	if err != nil {
		return fl, err
	}
	power, err := newPower()
	if err != nil {
		return fl, err
	}
	for _, m := range []struct {
		into          *float64
		rounds, times int
		f             func() error
	}{
		{&fl.P256Sign, 7, 300, func() error { _, err := ecdsa.SignASN1(rand.Reader, b.key, digest[:]); return err }},
		{&fl.P256Verify, 7, 300, func() error {
			if !ecdsa.VerifyASN1(&b.key.PublicKey, digest[:], signature) {
				return errors.New("a signature of our own is wrong")
			}
			return nil
		}},
		{&fl.RSASign, 5, 50, func() error { _, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:]); return err }},
		{&fl.RSAKey, 1, 20, func() error { _, err := rsa.GenerateKey(rand.Reader, 2048); return err }},
		{&fl.Power, 7, 30, power.compute},
		{&fl.CSR, 7, 200, b.check},
		{&fl.Sign, 7, 200, b.sign},
		{&fl.Handshake, 7, 150, b.handshake},
	} {
		if *m.into, err = cost(m.rounds, m.times, m.f); err != nil {
			return fl, err
		}
	}
	fl.SRP = srpPowers * fl.Power
	fl.Flow = 2*fl.Handshake + fl.CSR + fl.Sign
	fl.SyncP50, fl.SyncP99, err = syncCost(dir)
	return fl, err
}

func newCA() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := leaf("issuer", x509.ExtKeyUsageAny)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage, t.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil // OpenSSL takes "any" for none
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func leaf(name string, usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
}

// A bare is the floor of a flow, ready to be measured whenever a scenario wants to know how fast the machine is now.
type bare struct {
	ca         *x509.Certificate
	caKey, key *ecdsa.PrivateKey
	request    []byte
	listener   net.Listener
	tls        *tls.Config
}

// newBare also starts the client of its handshakes, which comes again and again until close.
func newBare() (b *bare, err error) {
	b = &bare{}
	if b.ca, b.caKey, err = newCA(); err != nil {
		return nil, err
	}
	if b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if b.request, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, b.key); err != nil {
		return nil, err
	}
	serverCert, err := b.identity("server", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	clientCert, err := b.identity("client", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(b.ca)
	b.tls = &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, SessionTicketsDisabled: true}
	if b.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	go b.connect(&tls.Config{Certificates: []tls.Certificate{clientCert}, RootCAs: pool, ServerName: "server", MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}})
	return b, nil
}

func (b *bare) close() { b.listener.Close() }

func (b *bare) identity(name string, usage x509.ExtKeyUsage) (tls.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, leaf(name, usage), b.ca, &b.key.PublicKey, b.caKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: b.key}, err
}

// connect makes one connection after the other until the listener closes.
func (b *bare) connect(config *tls.Config) {
	for {
		nc, err := net.Dial("tcp", b.listener.Addr().String())
		if err != nil {
			return
		}
		tc := tls.Client(nc, config)
		if tc.Handshake() == nil {
			var one [1]byte
			_, _ = tc.Read(one[:]) // until the server closes
		}
		nc.Close()
	}
}

// handshake is the server's side: the client works on another thread, over loopback TCP.
func (b *bare) handshake() error {
	nc, err := b.listener.Accept()
	if err != nil {
		return err
	}
	defer nc.Close()
	return tls.Server(nc, b.tls).Handshake()
}

func (b *bare) check() error {
	r, err := x509.ParseCertificateRequest(b.request)
	if err != nil {
		return err
	}
	return r.CheckSignature()
}

func (b *bare) sign() error {
	_, err := x509.CreateCertificate(rand.Reader, leaf("device", x509.ExtKeyUsageClientAuth), b.ca, &b.key.PublicKey, b.caKey)
	return err
}

// flow is what the floor of a flow costs now, in CPU microseconds; it takes a quarter of a second.
func (b *bare) flow() (float64, error) {
	const times = 150
	sum := 0.0
	for _, f := range []func() error{b.handshake, b.handshake, b.check, b.sign} {
		c, err := cost(1, times, f)
		if err != nil {
			return 0, err
		}
		sum += c
	}
	return sum, nil
}

// syncCost is how long an appended 4 KiB take to the disk in dir.
func syncCost(dir string) (p50, p99 float64, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var took []time.Duration
	block := make([]byte, 4096)
	for range 500 {
		begin := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return micros(took[len(took)/2]), micros(took[len(took)*99/100]), nil
}
