package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
	"unsafe"

	"github.com/imprint-iot/imprint/test/compat/flood"
)

// Floods are measured by what they do to others: devices are provisioned at a steady rate, in turn without a flood and under a few
// of them, and what counts is the ratio of their latencies within the run. The flood comes from a process that gets processor time
// when nobody else wants it, since its own work would be another machine's: `attempts/s` tells how much of a flood it was.

// floodFigures are what a flood did.
type floodFigures struct {
	P50Millis float64 `json:"p50Millis"`
	P99Millis float64 `json:"p99Millis"`
	P50Ratio  float64 `json:"p50Ratio,omitempty"` // of that to the quiet latency
	P99Ratio  float64 `json:"p99Ratio,omitempty"`
	Flows     int     `json:"flows"`
	Failed    int     `json:"failed"`
	RSSKiB    int     `json:"rssKiB"`
	Flood     float64 `json:"attemptsPerSecond,omitempty"`
	Refused   float64 `json:"refusedPerSecond,omitempty"`
	Closed    float64 `json:"closedPerSecond,omitempty"`
}

// scenes are the floods that are measured: kinds, and where they come from.
func scenes(only string) (all []floodScene) {
	for i, k := range flood.Kinds {
		// Each from an address of its own: the server remembers how a party behaved before.
		all = append(all, floodScene{k.Name, k.Name, []string{fmt.Sprintf("127.0.0.%d", 66+i)}})
	}
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("127.1.%d.%d", i/250, i%250+1))
	}
	all = append(all, floodScene{"strangers, 1000 addresses", "strangers", many}, floodScene{"strangers, the devices' address", "strangers", []string{"127.0.0.1"}},
		floodScene{"logins, 1000 addresses", "logins", many})
	if only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(s floodScene) bool { return !slices.Contains(strings.Split(only, ";"), s.name) })
}

type floodScene struct {
	name, kind string
	from       []string
}

const (
	floodFlows     = 40 // flows a second beside the floods
	floodsPerQuiet = 4  // floods between two times of quiet

	// floodMiB is what the server may take: its own 100, the bodies that are being received, and connections of which nothing is known.
	floodMiB = 400
)

// measureFloods plays every scene in turn, several times over.
func measureFloods(ctx context.Context, o options, w *world) (map[string]*floodFigures, error) {
	target, err := w.floodTarget(ctx)
	if err != nil {
		return nil, err
	}
	length := time.Duration(o.seconds) * time.Second / 2
	took := map[string][]time.Duration{}
	p99 := map[string][]float64{} // of each round: their median does not mind a round in which the machine was busy elsewhere
	out := map[string]*floodFigures{}
	sums := map[string]flood.Tally{}
	play := func(s floodScene) error {
		f := out[s.name]
		if f == nil {
			f = &floodFigures{}
			out[s.name] = f
		}
		var running *floodProcess
		if s.kind != "" {
			t := target
			t.Kind, t.From = s.kind, s.from
			if running, err = startFlood(t); err != nil {
				return err
			}
			time.Sleep(length / 4)
		}
		each, failed := w.steady(length)
		took[s.name] = append(took[s.name], each...)
		if slices.Sort(each); len(each) > 0 {
			p99[s.name] = append(p99[s.name], micros(each[len(each)*99/100])/1000)
		}
		f.Failed += failed
		f.RSSKiB = max(f.RSSKiB, w.server.rss())
		if running != nil {
			tally, err := running.stop()
			if err != nil {
				return err
			}
			sum := sums[s.name]
			sum.Tried, sum.Refused, sum.Closed = sum.Tried+tally.Tried, sum.Refused+tally.Refused, sum.Closed+tally.Closed
			sums[s.name] = sum
		}
		w.server.settle()
		return nil
	}
	for range o.rounds {
		if err := w.renewClaims(ctx, 8); err != nil {
			return nil, err
		}
		w.server.settle()
		for i, s := range scenes(o.floods) {
			turn := []floodScene{s}
			if i%floodsPerQuiet == 0 {
				turn = []floodScene{{name: "quiet"}, s}
			}
			for _, s := range turn {
				progress("floods: %s", s.name)
				if err := play(s); err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
	}
	seconds := (length + length/4).Seconds() * float64(o.rounds)
	for name, f := range out {
		all := took[name]
		if f.Flows = len(all); len(all) == 0 {
			continue
		}
		slices.Sort(all)
		f.P50Millis, f.P99Millis = micros(all[len(all)/2])/1000, median(p99[name])
		t := sums[name]
		f.Flood, f.Refused, f.Closed = float64(t.Tried)/seconds, float64(t.Refused)/seconds, float64(t.Closed)/seconds
	}
	quiet := out["quiet"]
	for name, f := range out {
		if name != "quiet" && quiet.P50Millis > 0 {
			f.P50Ratio, f.P99Ratio = f.P50Millis/quiet.P50Millis, f.P99Millis/quiet.P99Millis
		}
	}
	return out, nil
}

// steady begins flows at a steady rate, however long they take, and returns how long each took.
func (w *world) steady(d time.Duration) (took []time.Duration, failed int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	tick := time.NewTicker(time.Second / floodFlows)
	defer tick.Stop()
	for i, end := 0, time.Now().Add(d); time.Now().Before(end); i++ {
		<-tick.C
		wg.Go(func() {
			c, err := newCandidate()
			begin := time.Now()
			if err == nil {
				err = w.flow(w.claims[i%len(w.claims)], c)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				progress("a flow failed: %v", err)
				return
			}
			took = append(took, time.Since(begin))
		})
	}
	wg.Wait()
	return took, failed
}

// A floodOrder tells a process of its own which flood to make.
type floodOrder struct {
	Kind, MQTT, HTTPS, Host, Roots string
	Device, Stranger               [2]string // certificate and key, PEM
	AppID                          string
	From                           []string
}

// floodTarget makes what floods need: a device that may do everything, a stranger, and a user pool that lets people sign up.
func (w *world) floodTarget(ctx context.Context) (floodOrder, error) {
	env := w.server.env
	roots, err := os.ReadFile(env.Get("AWS_CA_BUNDLE"))
	if err != nil {
		return floodOrder{}, err
	}
	o := floodOrder{MQTT: w.addr, HTTPS: net.JoinHostPort(env.Get("IOT_ENDPOINT"), env.Get("IOT_ALPN_PORT")), Host: env.Get("IOT_ENDPOINT"), Roots: string(roots)}
	var cert struct {
		CertificateArn, CertificatePem string
		KeyPair                        struct{ PrivateKey string }
	}
	var pool struct{ UserPool struct{ Id string } }
	var app struct{ UserPoolClient struct{ ClientId string } }
	idp := func(operation string, in object, out any) error {
		return w.admin.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, out)
	}
	allow := document(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}})
	if err := errors.Join(
		w.admin.REST(ctx, "iot", http.MethodPost, "/keys-and-certificate?setAsActive=true", nil, &cert),
		w.admin.REST(ctx, "iot", http.MethodPost, "/policies/flood", object{"policyDocument": allow}, nil),
		idp("CreateUserPool", object{"PoolName": "flood", "AdminCreateUserConfig": object{"AllowAdminCreateUserOnly": false}}, &pool)); err != nil {
		return o, err
	}
	if err := errors.Join(
		w.admin.REST(ctx, "iot", http.MethodPut, "/target-policies/flood", object{"target": cert.CertificateArn}, nil),
		idp("CreateUserPoolClient", object{"UserPoolId": pool.UserPool.Id, "ClientName": "flood"}, &app)); err != nil {
		return o, err
	}
	o.AppID, o.Device = app.UserPoolClient.ClientId, [2]string{cert.CertificatePem, cert.KeyPair.PrivateKey}
	o.Stranger, err = selfSigned()
	return o, err
}

func selfSigned() (pair [2]string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stranger"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return pair, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair, err
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return [2]string{encode("CERTIFICATE", der), encode("PRIVATE KEY", private)}, nil
}

// A floodProcess floods until it is stopped.
type floodProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out bytes.Buffer
}

func startFlood(o floodOrder) (*floodProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &floodProcess{cmd: exec.Command(self, "-flood")}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, json.NewEncoder(p.in).Encode(o)
}

// stop ends the flood and returns what came of it.
func (p *floodProcess) stop() (t flood.Tally, err error) {
	if err := errors.Join(p.in.Close(), p.cmd.Wait()); err != nil {
		return t, err
	}
	return t, json.Unmarshal(p.out.Bytes(), &t)
}

// runFlood is the flood's process: it reads its order and floods until its input ends.
func runFlood() error {
	if err := giveWay(); err != nil {
		return err
	}
	in := json.NewDecoder(os.Stdin)
	var o floodOrder
	if err := in.Decode(&o); err != nil {
		return err
	}
	kind, ok := flood.Named(o.Kind)
	if !ok {
		return fmt.Errorf("there is no flood %q", o.Kind)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(o.Roots))
	t := flood.Target{MQTT: o.MQTT, HTTPS: o.HTTPS, AppID: o.AppID, From: o.From,
		TLS: &tls.Config{RootCAs: pool, ServerName: o.Host, CurvePreferences: []tls.CurveID{tls.X25519}}}
	var err, err2 error
	t.Device, err = tls.X509KeyPair([]byte(o.Device[0]), []byte(o.Device[1]))
	t.Stranger, err2 = tls.X509KeyPair([]byte(o.Stranger[0]), []byte(o.Stranger[1]))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return json.NewEncoder(os.Stdout).Encode(kind.Run(ctx, t, 0))
}

// giveWay makes this process one that gets time when no other wants it (SCHED_IDLE, sched(7)). A priority is a thread's: those that
// are made later inherit it, those that the runtime has made already do not. Hence the program begins anew on one that has it.
func giveWay() error {
	const idle = 5
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if e != 0 {
		return fmt.Errorf("the priority of the flood: %w", e)
	}
	if now == idle {
		return nil
	}
	var none int32 // sched_param: no real-time priority
	if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, idle, uintptr(unsafe.Pointer(&none))); e != 0 {
		return fmt.Errorf("the priority of the flood: %w", e)
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// printFloods prints a row for each flood, the worst first.
func printFloods(out io.Writer, all map[string]*floodFigures) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%d provisioning flows a second beside a flood:\n\n", floodFlows)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "flood\tp50 ms\tp99 ms\tp50 ratio\tp99 ratio\tfailed\tattempts/s\trefused/s\tclosed/s\tRSS MiB\t")
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if all[a].P99Ratio != all[b].P99Ratio {
			return int(1000 * (all[b].P99Ratio - all[a].P99Ratio))
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		f := all[name]
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.2f\t%.2f\t%d/%d\t%.0f\t%.0f\t%.0f\t%.0f\t\n", name, f.P50Millis, f.P99Millis, f.P50Ratio, f.P99Ratio, f.Failed, f.Flows+f.Failed,
			f.Flood, f.Refused, f.Closed, float64(f.RSSKiB)/1024)
	}
	t.Flush()
}
