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

func measureFloor(dir string) (fl floor, err error) {
	fl.Cores = runtime.NumCPU()
	ca, caKey, err := newCA()
	if err != nil {
		return fl, err
	}
	c, err := newCandidate()
	if err != nil {
		return fl, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, c.key)
	if err != nil {
		return fl, err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fl, err
	}
	digest := sha256.Sum256(request)
	signature, err := ecdsa.SignASN1(rand.Reader, c.key, digest[:])
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
		{&fl.P256Sign, 7, 300, func() error { _, err := ecdsa.SignASN1(rand.Reader, c.key, digest[:]); return err }},
		{&fl.P256Verify, 7, 300, func() error {
			if !ecdsa.VerifyASN1(&c.key.PublicKey, digest[:], signature) {
				return errors.New("a signature of our own is wrong")
			}
			return nil
		}},
		{&fl.RSASign, 5, 50, func() error { _, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:]); return err }},
		{&fl.RSAKey, 1, 20, func() error { _, err := rsa.GenerateKey(rand.Reader, 2048); return err }},
		{&fl.Power, 7, 30, power.compute},
		{&fl.CSR, 7, 200, func() error {
			r, err := x509.ParseCertificateRequest(request)
			if err != nil {
				return err
			}
			return r.CheckSignature()
		}},
		{&fl.Sign, 7, 200, func() error {
			_, err := x509.CreateCertificate(rand.Reader, leaf("device", x509.ExtKeyUsageClientAuth), ca, &c.key.PublicKey, caKey)
			return err
		}},
	} {
		if *m.into, err = cost(m.rounds, m.times, m.f); err != nil {
			return fl, err
		}
	}
	if fl.Handshake, err = handshakeCost(ca, caKey, c.key); err != nil {
		return fl, err
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

// handshakeCost measures the server's thread alone: the client works on another one, over loopback TCP.
func handshakeCost(ca *x509.Certificate, caKey, key *ecdsa.PrivateKey) (float64, error) {
	identity := func(name string, usage x509.ExtKeyUsage) (tls.Certificate, error) {
		der, err := x509.CreateCertificate(rand.Reader, leaf(name, usage), ca, &key.PublicKey, caKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
	}
	serverCert, err := identity("server", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return 0, err
	}
	clientCert, err := identity("client", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return 0, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}, SessionTicketsDisabled: true}
	clientTLS := &tls.Config{Certificates: []tls.Certificate{clientCert}, RootCAs: pool, ServerName: "server", MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	go func() { // the client: one connection after the other until the listener closes
		for {
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return
			}
			tc := tls.Client(nc, clientTLS)
			if tc.Handshake() == nil {
				var b [1]byte
				_, _ = tc.Read(b[:]) // until the server closes
			}
			nc.Close()
		}
	}()
	return cost(7, 150, func() error {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		defer nc.Close()
		return tls.Server(nc, serverTLS).Handshake()
	})
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
