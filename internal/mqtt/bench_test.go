package mqtt

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The benchmarks have their clients in a second process, so that memory and CPU time of this one are the server's alone: the test
// binary calls itself with benchClient set to "MODE ADDRESS COUNT".
const benchClient = "IMPRINT_MQTT_BENCH_CLIENT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(benchClient); spec != "" {
		if err := runBenchClient(strings.Fields(spec)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// open lets everybody do everything.
type open struct{}

func (open) Connect(context.Context, *Connect) error { return nil }
func (open) Publish(string, bool) error              { return nil }
func (open) Subscribe(string) error                  { return nil }
func (open) Receive(string) error                    { return nil }

func benchCertificate(b testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// benchServer serves TLS connections without a word about who they are.
func benchServer(b *testing.B, broker *Broker) net.Listener {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{benchCertificate(b)},
		ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true, CurvePreferences: []tls.CurveID{tls.X25519}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if err := nc.(*tls.Conn).Handshake(); err != nil {
					nc.Close()
					return
				}
				broker.Serve(context.Background(), nc, Identity{Scope: testScope, Access: open{}})
			}()
		}
	}()
	return l
}

// startClient starts the other process; finish ends it and waits for it.
func startClient(b *testing.B, mode string, l net.Listener, n int) (out *bufio.Reader, finish func()) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", benchClient, mode, l.Addr(), n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return bufio.NewReader(stdout), func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Fatalf("client: %v", err)
		}
	}
}

// The memory of a connection that has connected and says nothing. It is measured once, whatever b.N.
func BenchmarkIdleConnection(b *testing.B) {
	const n = 4000
	broker := New(Config{})
	l := benchServer(b, broker)
	runtime.GC()
	before := resident(b)
	out, finish := startClient(b, "idle", l, n)
	if _, err := out.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	after := resident(b)
	runtime.GC() // shrinks stacks
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(after-before)/n, "KiB/conn-rss")
	b.ReportMetric(float64(m.HeapAlloc)/1024/n, "KiB/conn-heap")
	b.ReportMetric(float64(m.StackInuse)/1024/n, "KiB/conn-stack")
	finish()
	broker.Close(context.Background())
}

func BenchmarkConnectSubscribePublishReceiveDisconnect(b *testing.B) {
	broker := New(Config{})
	l := benchServer(b, broker)
	n := max(b.N, 1)
	start := cpu()
	b.ResetTimer()
	out, finish := startClient(b, "cycle", l, n)
	if _, err := out.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpu()-start).Microseconds())/float64(n), "server-µs/op")
	finish()
	broker.Close(context.Background())
}

// What a message costs from the publisher's read to the subscriber's write, without a network.
func BenchmarkRoute(b *testing.B) {
	for _, fan := range []int{1, 100} {
		b.Run(fmt.Sprintf("to %d", fan), func(b *testing.B) {
			broker := New(Config{})
			defer broker.Close(context.Background())
			var got atomic.Int64
			for i := range fan {
				benchSubscriber(b, broker, i, &got)
			}
			sp := broker.space(testScope)
			m := &Message{Topic: "t/a", Payload: make([]byte, 100)}
			b.ReportAllocs()
			for b.Loop() {
				sp.publish(m, nil, nil)
			}
		})
	}
}

// sink is the network of a subscriber: it swallows what it gets.
type sink struct {
	net.Conn
	got *atomic.Int64
}

func (s sink) Write(b []byte) (int, error)      { s.got.Add(int64(len(b))); return len(b), nil }
func (s sink) SetWriteDeadline(time.Time) error { return nil }

func benchSubscriber(b *testing.B, broker *Broker, i int, got *atomic.Int64) {
	here, there := net.Pipe()
	subscribed := make(chan bool, 1)
	go broker.Serve(context.Background(), sink{there, got}, Identity{Scope: testScope, Access: open{}, Notify: func(e Event) {
		if e.Kind == Subscribed {
			subscribed <- true
		}
	}})
	here.Write(encodeConnect(b, strconv.Itoa(i), 4))
	here.Write([]byte{0x82, 8, 0, 1, 0, 3, 't', '/', 'a', 0})
	<-subscribed
	b.Cleanup(func() { here.Close() })
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the process's resident memory in KiB.
func resident(b *testing.B) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("needs /proc")
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kib
}

// runBenchClient is the other process.
func runBenchClient(spec []string) error {
	if len(spec) != 3 {
		return fmt.Errorf("want MODE ADDRESS COUNT, got %q", spec)
	}
	n, err := strconv.Atoi(spec[2])
	if err != nil {
		return err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{benchCertificate(&testing.B{})}, InsecureSkipVerify: true}
	var next atomic.Int64
	errs := make(chan error, 8)
	var keep sync.Map
	for range 8 {
		go func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				nc, err := tls.Dial("tcp", spec[1], cfg)
				if err == nil && spec[0] == "idle" {
					keep.Store(i, nc)
					err = say(nc, connectBytes(i), 4)
				} else if err == nil {
					err = cycle(nc, i)
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			return err
		}
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until the server has measured
	return nil
}

func connectBytes(i int64) []byte {
	id := fmt.Sprintf("%08d", i)
	return append([]byte{0x10, 20, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 4, 176, 0, 8}, id...)
}

// say sends b and reads an answer of n bytes.
func say(nc net.Conn, b []byte, n int) error {
	if _, err := nc.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(nc, make([]byte, n))
	return err
}

func cycle(nc net.Conn, i int64) error {
	defer nc.Close()
	id := fmt.Sprintf("%08d", i)
	topic := append([]byte{0, 8}, id...)
	if err := say(nc, connectBytes(i), 4); err != nil {
		return err
	}
	if err := say(nc, append(append([]byte{0x82, 13, 0, 1}, topic...), 1), 5); err != nil {
		return err
	}
	publish := append(append([]byte{0x32, 16}, topic...), 0, 2, 'h', 'e', 'y', '!')
	if err := say(nc, publish, 18+4); err != nil { // the message and the PUBACK
		return err
	}
	_, err := nc.Write([]byte{0x40, 2, 0, 1, 0xe0, 0})
	return err
}
