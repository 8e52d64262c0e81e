package compat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	maker "github.com/imprint-iot/imprint/device"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/test/compat/cutter"
)

// TestChaos has many devices provision while their connections are cut anywhere, some lose power with it, and the server is killed.
// Each must end with one thing and one active certificate, and nothing may be left over. IMPRINT_SOAK makes it ten times as many.
func TestChaos(t *testing.T) {
	t.Parallel()
	chaos(t, 100, 1)
}

func TestSoakChaos(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	chaos(t, 1000, 8)
}

func chaos(t *testing.T, devices, kills int) {
	seed := rand.Uint64()
	if s := os.Getenv("IMPRINT_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	t.Logf("IMPRINT_SEED=%d", seed)
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	defer func() { _ = s.stop() }()
	w := newWorld(t, s, "chaos")
	th := &theft{world: w, claims: w.prefix}
	shared := th.bootstrap(t, "factory-")
	begin := time.Now()
	work := make(chan *chaosDevice, devices)
	var all []*chaosDevice
	for i := range devices {
		d := &chaosDevice{w: w, dir: filepath.Join(dir, "device"+strconv.Itoa(i)), serial: strconv.Itoa(i), n: i, fate: cutter.NewFate(rand.New(rand.NewPCG(seed, uint64(i))))}
		if i%5 < 4 { // else a claim of its own
			d.claim = &shared
		}
		all = append(all, d)
		work <- d
	}
	close(work)
	var done atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for d := range work {
				if err := d.provision(ctx); err != nil {
					t.Errorf("device %s: %v", d.serial, err)
				}
				done.Add(1)
			}
		})
	}
	for k := range kills { // whenever so many devices are done
		tick := time.NewTicker(10 * time.Millisecond)
		for done.Load() < int64((k+1)*devices/(kills+1)) {
			<-tick.C
		}
		tick.Stop()
		check(t, s.cmd.Process.Signal(syscall.SIGKILL))
		<-s.exited
		next, err := start(dir)
		check(t, err)
		s.cmd, s.exited = next.cmd, next.exited
	}
	wg.Wait()
	cuts, reboots := 0, 0
	for _, d := range all {
		c, r := d.fate.Suffered()
		cuts, reboots = cuts+c, reboots+r
	}
	t.Logf("%d devices in %v: %d connections cut, %d losses of power, %d kills of the server", devices, time.Since(begin).Round(time.Millisecond), cuts, reboots, kills)
	for _, d := range all {
		cert := d.identity(t)
		w.checkActive(t, d.serial, 1)
		w.checkRegistry(t, d.serial, cert)
		conn, err := dialMQTT5(t, s.mqttAddr(), s.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), w.thing(d.serial))
		check(t, err)
		conn.close()
	}
	th.nothingLeft(t, dir, s, devices, shared.id)
}

type chaosDevice struct {
	w           *world
	dir, serial string
	n           int
	claim       *claim
	fate        *cutter.Fate
	got         *maker.Identity
}

// identity reads what the device has stored.
func (d *chaosDevice) identity(t *testing.T) created {
	t.Helper()
	st, err := maker.OpenStore(d.dir)
	check(t, err)
	id, err := st.Identity()
	check(t, err)
	cert, err := os.ReadFile(id.Files.Certificate)
	check(t, err)
	key, err := os.ReadFile(id.Files.PrivateKey)
	check(t, err)
	return created{CertificateID: id.CertificateID, CertificatePEM: string(cert), PrivateKey: string(key)}
}

// provision goes on until the device is through. Its first connections are cut, and with half of these cuts it loses power.
func (d *chaosDevice) provision(ctx context.Context) error {
	bundle, err := os.ReadFile(d.w.site.get("AWS_CA_BUNDLE"))
	if err != nil {
		return err
	}
	if d.claim == nil { // not before: it lives for five minutes
		if d.claim, err = d.w.newClaim(ctx); err != nil {
			return err
		}
	}
	b, err := json.Marshal(object{"certificatePem": d.claim.cert, "keyPair": object{"PrivateKey": d.claim.key}})
	if err != nil {
		return err
	}
	c, err := maker.ParseClaim(b)
	if err != nil {
		return err
	}
	proxy, err := cutter.New(d.w.site.mqttAddr, d.fate.Next)
	if err != nil {
		return err
	}
	defer proxy.Stop()
	cfg := maker.Config{Dir: d.dir, Claim: c, Endpoint: d.w.site.get("IOT_ENDPOINT"), Ports: []int{proxy.Port()}, Roots: string(bundle), Template: d.w.template,
		Parameters: map[string]string{"SerialNumber": d.serial}, ClientID: "factory-" + d.serial, ServerKeys: d.n%2 == 1,
		Format: []string{maker.JSON, maker.CBOR}[d.n/2%2], MQTT: []string{maker.MQTT311, maker.MQTT5}[d.n/4%2]}
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Minute)
		d.fate.Attempt(cancel)
		res, err := maker.Provision(attempt, cfg)
		cancel()
		var e *maker.Error
		switch {
		case err == nil:
			if d.got = res.Identity; d.got.ThingName != d.w.thing(d.serial) && !d.got.AnswerLost {
				return fmt.Errorf("it is thing %q", d.got.ThingName)
			}
			return nil
		case ctx.Err() != nil:
			return err
		case errors.As(err, &e) && (e.Temporary() || attempt.Err() != nil):
		default:
			return err
		}
	}
}

// newClaim asks for a claim until there is one: the server may have been killed.
func (w *world) newClaim(ctx context.Context) (*claim, error) {
	for {
		out, err := w.admin.iot.CreateProvisioningClaim(ctx, &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
		if err == nil {
			return &claim{*out.CertificateId, *out.CertificatePem, *out.KeyPair.PrivateKey}, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// nothingLeft checks that beside the devices there are only certificates that nobody registered, and that upkeep takes those when
// their time has come: two hours later, with the server stopped for it.
func (th *theft) nothingLeft(t *testing.T, dir string, s *site, devices int, bootstrap string) {
	t.Helper()
	status := map[string]int{}
	c, err := s.adminClient()
	check(t, err)
	for marker := ""; ; {
		var page struct {
			Certificates []struct{ CertificateID, Status string }
			NextMarker   string
		}
		check(t, c.REST(t.Context(), "iot", http.MethodGet, "/certificates?pageSize=250"+marker, nil, &page))
		for _, cert := range page.Certificates {
			if cert.CertificateID != bootstrap {
				status[cert.Status]++
			}
		}
		if page.NextMarker == "" {
			break
		}
		marker = "&marker=" + page.NextMarker
	}
	t.Logf("certificates: %v", status)
	if status["ACTIVE"] != devices || len(status) > 2 || len(status) == 2 && status["PENDING_ACTIVATION"] == 0 {
		t.Errorf("certificates: %v, of %d devices", status, devices)
	}
	check(t, s.stop())
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(s.data, "imprint.db"), Clock: later})
	check(t, err)
	check(t, provision.New(provision.Config{Store: db, Clock: later}).Sweep(t.Context(), later()))
	check(t, db.Close())
	next, err := start(dir)
	check(t, err)
	s.cmd, s.exited = next.cmd, next.exited
	out := s.run(t, t.TempDir(), nil, imprint(), "orphans", "--older-than", "0s", "--json")
	if orphans := must[[]object](t, out); len(orphans) > 0 {
		t.Errorf("left over: %s", out)
	}
}
