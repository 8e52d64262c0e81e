package power

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	agent "github.com/imprint-iot/imprint/device"
	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/server"
)

// Renewers are devices that have a certificate each and renew it while the recording runs. The old certificate goes when the new one
// has connected (docs/renewal.md).
type renewers struct {
	people
	list []*renewer

	before, between, after int // devices over all cuts: that had not been answered, that were in the middle, that were done
}

func newRenewers() *renewers {
	r := &renewers{people: *newPeople()}
	maps.Copy(r.settings, object{"CertificateDays": "90", "RenewalOverlap": "0s"})
	return r
}

// A renewer is a device that runs the library. It does not lose power: after a cut of the server's it goes on from what it had stored
// when it sent the last thing that the recording has.
type renewer struct {
	serial, dir string
	keys        bool   // made by the service
	old         string // id of its first certificate
	mark        func(string) error

	mu     sync.Mutex
	states []files
}

// observeRenewals records devices that renew themselves.
func observeRenewals(binary, dir string) (*recording, *renewers, error) {
	r := newRenewers()
	rec, err := r.watch(binary, dir, func(ctx context.Context, mark func(string) error) error { return r.live(ctx, dir, mark) })
	return rec, r, err
}

// live provisions the devices; then they renew, two at a time.
func (r *renewers) live(ctx context.Context, dir string, mark func(string) error) error {
	c, err := r.admin(r.env)
	if err != nil {
		return err
	}
	if err := r.prepare(ctx, c); err != nil {
		return err
	}
	const renewing = 6
	for i := range renewing {
		d := &renewer{serial: strconv.Itoa(i), dir: filepath.Join(dir, "device"+strconv.Itoa(i)), keys: i%3 == 0, mark: mark}
		if err := d.provision(ctx, r.env, c, i); err != nil {
			return fmt.Errorf("device %s: %w", d.serial, err)
		}
		r.list = append(r.list, d)
	}
	if err := mark("provisioned"); err != nil {
		return err
	}
	work := make(chan *renewer, renewing)
	for _, d := range r.list {
		work <- d
	}
	close(work)
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for d := range work {
				if errs[w] = d.renew(ctx, c); errs[w] != nil {
					errs[w] = fmt.Errorf("device %s: %w", d.serial, errs[w])
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *renewer) provision(ctx context.Context, env server.Env, c *client.Client, n int) error {
	cfg, err := libraryConfig(ctx, env, c, d.serial, n)
	if err != nil {
		return err
	}
	cfg.Dir, cfg.ServerKeys = d.dir, d.keys
	res, err := agent.Provision(ctx, cfg)
	if err != nil {
		return err
	}
	d.old = res.CertificateID
	return d.keep()
}

// libraryConfig is a claim and what else a device of the library needs, the n-th of several kinds.
func libraryConfig(ctx context.Context, env server.Env, c *client.Client, serial string, n int) (cfg agent.Config, err error) {
	got, err := newClaim(ctx, c)
	if err != nil {
		return cfg, err
	}
	text, err := json.Marshal(object{"certificatePem": got.Cert, "keyPair": object{"PrivateKey": got.Key}})
	if err != nil {
		return cfg, err
	}
	claim, err := agent.ParseClaim(text)
	if err != nil {
		return cfg, err
	}
	roots, err := os.ReadFile(env.Get("AWS_CA_BUNDLE"))
	if err != nil {
		return cfg, err
	}
	port, err := strconv.Atoi(env.Get("IOT_PORT"))
	return agent.Config{Claim: claim, Endpoint: env.Get("IOT_ENDPOINT"), Ports: []int{port}, Roots: string(roots), Template: template,
		Parameters: map[string]string{"SerialNumber": serial}, ServerKeys: n%2 == 1,
		Format: []string{agent.JSON, agent.CBOR}[n/2%2], MQTT: []string{agent.MQTT311, agent.MQTT5}[n/4%2]}, err
}

// renew marks each state of the device before it sends anything that may rest on it.
func (d *renewer) renew(ctx context.Context, c *client.Client) error {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return watched{conn, d}, err
	}
	if _, err := agent.Renew(ctx, agent.RenewConfig{Dir: d.dir, Options: agent.Options{Dial: dial}}); err != nil {
		return err
	}
	if err := d.keep(); err != nil {
		return err
	}
	if err := retired(ctx, c, d.old); err != nil {
		return err
	}
	return d.mark("retired " + d.serial)
}

// retired waits until a certificate has gone.
func retired(ctx context.Context, c *client.Client, id string) error {
	tick, late := time.NewTicker(20*time.Millisecond), time.After(answerTimeout)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			var out struct{ CertificateDescription struct{ Status string } }
			if err := c.REST(ctx, "iot", http.MethodGet, "/certificates/"+id, nil, &out); err != nil || out.CertificateDescription.Status == "INACTIVE" {
				return err
			}
		case <-late:
			return fmt.Errorf("certificate %s was not retired within %v", id, answerTimeout)
		}
	}
}

// A watched connection marks the state of its device before each write.
type watched struct {
	net.Conn
	d *renewer
}

func (w watched) Write(b []byte) (int, error) {
	if err := w.d.keep(); err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

// Files are what a device has stored: content by name.
type files map[string]string

// keep marks what the device has stored, if it is new.
func (d *renewer) keep() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := files{}
	for _, pattern := range []string{"*", "[ab]/*"} {
		names, err := filepath.Glob(filepath.Join(d.dir, pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			now[strings.TrimPrefix(name, d.dir+"/")] = string(b)
		}
	}
	n := len(d.states)
	if n > 0 && maps.Equal(d.states[n-1], now) {
		return nil
	}
	d.states = append(d.states, now)
	return d.mark(fmt.Sprint("state ", d.serial, " ", n))
}

// at is the last state that the recording has before the cut; nil if there is none.
func (d *renewer) at(rec *recording, cut int) (f files) {
	for n, s := range d.states {
		if rec.seen(fmt.Sprint("state ", d.serial, " ", n), cut) {
			f = s
		}
	}
	return f
}

func (f files) restore(dir string) error {
	for _, folder := range []string{"", "a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return err
		}
	}
	for name, text := range f {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// inUse is the id of the certificate that the device connects with.
func (f files) inUse() (string, error) {
	block, _ := pem.Decode([]byte(f[filepath.Join(strings.TrimSpace(f["slot"]), "certificate.pem")]))
	if block == nil {
		return "", errors.New("the device has no certificate")
	}
	id := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(id[:]), nil
}

// pending is the certificate that a renewal has come to, and how far; empty if there is none.
func (f files) pending() (step, id string, err error) {
	var j struct {
		Step string
		ID   string `json:"certificateId"`
	}
	if text, ok := f["journal.json"]; ok {
		err = json.Unmarshal([]byte(text), &j)
	}
	return j.Step, j.ID, err
}

// check looks at what the cut left of each device's renewal, has all of them go on, and looks at the end.
func (r *renewers) check(ctx context.Context, s *site, rec *recording, cut int) error {
	c, err := r.admin(s.env)
	if err != nil {
		return err
	}
	had, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	if err := had.inService(); err != nil {
		return err
	}
	spare := 0 // certificates that nobody may have got
	for _, d := range r.list {
		f := d.at(rec, cut)
		if err := r.left(d, f, had, rec.seen("retired "+d.serial, cut)); err != nil {
			return fmt.Errorf("%s: %w", thingName(d.serial), err)
		}
		if step, id, _ := f.pending(); d.keys && step != "" && id == "" {
			spare++
		}
	}
	now := map[string]string{} // certificate by thing
	for _, d := range r.list {
		id, err := d.goOn(ctx, d.at(rec, cut), filepath.Join(s.data, "..", "device"+d.serial))
		if err != nil {
			return fmt.Errorf("device %s does not renew: %w", d.serial, err)
		}
		now[thingName(d.serial)] = id
	}
	for _, d := range r.list {
		if err := retired(ctx, c, d.old); err != nil {
			return fmt.Errorf("device %s: %w", d.serial, err)
		}
	}
	return r.checkEnd(ctx, c, now, spare)
}

// left checks the state of one device against what the server has.
func (r *renewers) left(d *renewer, f files, had registry, wasRetired bool) error {
	current, err := f.inUse()
	if err != nil {
		return err
	}
	step, next, err := f.pending()
	if err != nil {
		return err
	}
	tied := had.things[thingName(d.serial)]
	knows := current != d.old || step == "registered"
	if current != d.old {
		next = current
	}
	switch {
	case knows && !slices.Contains(tied, next):
		return fmt.Errorf("it was told that certificate %s is registered, and has %v", next, tied)
	case next != "" && had.status[next] == "":
		return fmt.Errorf("certificate %s, which it was given, is lost", next)
	case !knows && !slices.Contains(tied, d.old):
		return fmt.Errorf("its certificate was retired before the next one can have connected; it has %v", tied)
	case wasRetired && (slices.Contains(tied, d.old) || had.status[d.old] != "INACTIVE"):
		return fmt.Errorf("its old certificate was retired, and is %s", had.status[d.old])
	}
	switch {
	case next == "":
		r.before++
	case current == d.old:
		r.between++
	default:
		r.after++
	}
	return nil
}

// inService reports what is there in part: each thing has a certificate, each of its certificates is active and has the policy, all
// others have none and are not active.
func (r registry) inService() error {
	owner := map[string]string{}
	for thing, certs := range r.things {
		if len(certs) == 0 || len(certs) > 2 {
			return fmt.Errorf("%s has the certificates %v", thing, certs)
		}
		for _, id := range certs {
			owner[id] = thing
		}
	}
	for id, status := range r.status {
		if tied := owner[id] != ""; tied != (status == "ACTIVE") || tied != (len(r.policies[id]) == 1) || len(r.policies[id]) > 1 {
			return fmt.Errorf("certificate %s is %s, with thing %q and policies %v", id, status, owner[id], r.policies[id])
		}
	}
	for id, thing := range owner {
		if r.status[id] == "" {
			return fmt.Errorf("certificate %s of %s is none", id, thing)
		}
	}
	return nil
}

// goOn has the device renew as far as it has not, and connect. It returns its certificate's id.
func (d *renewer) goOn(ctx context.Context, f files, dir string) (string, error) {
	if err := f.restore(dir); err != nil {
		return "", err
	}
	st, err := agent.OpenStore(dir)
	if err != nil {
		return "", err
	}
	id, err := st.Identity()
	if err != nil {
		return "", err
	}
	if step, _, _ := f.pending(); step != "registered" || id.CertificateID != d.old { // then the old one may have gone
		if err := works(ctx, id, id.Ports...); err != nil {
			return "", fmt.Errorf("the certificate in use: %w", err)
		}
	}
	if id.CertificateID == d.old {
		res, err := agent.Renew(ctx, agent.RenewConfig{Dir: dir})
		if err != nil {
			return "", err
		}
		id = res.Identity
	}
	if id.ThingName != thingName(d.serial) || id.CertificateID == d.old {
		return "", fmt.Errorf("it ends as %s with certificate %s", id.ThingName, id.CertificateID)
	}
	return id.CertificateID, works(ctx, id, id.Ports...)
}

// works connects with an identity.
func works(ctx context.Context, id *agent.Identity, ports ...int) error {
	conn, err := agent.Connect(ctx, id, agent.Options{Ports: ports})
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Ping(ctx)
}

// checkEnd looks for one thing and one active certificate of each device. Of certificates that nobody registered there may be spare.
func (r *renewers) checkEnd(ctx context.Context, c *client.Client, now map[string]string, spare int) error {
	has, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	if err := has.whole(); err != nil {
		return fmt.Errorf("after devices went on: %w", err)
	}
	for thing, id := range now {
		if got := has.things[thing]; !slices.Equal(got, []string{id}) {
			return fmt.Errorf("after devices went on: %s must have certificate %s alone, and has %v", thing, id, got)
		}
	}
	count := map[string]int{}
	for _, status := range has.status {
		count[status]++
	}
	if n := len(r.list); len(has.things) != n || count["ACTIVE"] != n || count["INACTIVE"] != n || count["PENDING_ACTIVATION"] > spare {
		return fmt.Errorf("%d devices end with %d things, certificates %v, and %d may be pending", n, len(has.things), count, spare)
	}
	return nil
}

// cutRenewals takes the power away at each of the cuts.
func (r *renewers) cutRenewals(rec *recording, cuts []int, ways []loss, left string) error {
	var errs []error
	for i, cut := range cuts {
		errs = append(errs, rec.survive(cut, ways[i/2%len(ways)], lie{}, left, func(s *site) error { return r.check(context.Background(), s, rec, cut) }))
	}
	return errors.Join(errs...)
}

func TestARenewalSurvivesAPowerCutOfTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rec, r, err := observeRenewals(bin, dir)
	if err != nil {
		t.Fatal(err)
	}
	rnd := newRand(t)
	if err := r.cutRenewals(rec, append(rec.pick(rnd, cuts, "provisioned"), rec.last()), losses(rnd), filepath.Join(dir, "left")); err != nil {
		t.Error(err)
	}
	t.Logf("%d operations and %d moments; over all cuts %d devices had nothing of their new certificate, %d were in the middle, %d were done",
		len(rec.disk.at), len(rec.order), r.before, r.between, r.after)
	if r.before == 0 || r.between == 0 || r.after == 0 {
		t.Error("the cuts show nothing")
	}
	deaf := lie{deaf: func(name string) bool { return name == "data/imprint.db-wal" }}
	err = rec.missed(func(cut int) error {
		return rec.survive(cut, losses(rnd)[0], deaf, filepath.Join(dir, "left"), func(s *site) error { return r.check(context.Background(), s, rec, cut) })
	})
	if err == nil {
		t.Error("nobody missed the syncs of the write-ahead log")
	}
	t.Logf("without syncs of the write-ahead log: %.200v", err)
}

// TestSoakPowerCutsOfRenewals is that at length.
func TestSoakPowerCutsOfRenewals(t *testing.T) {
	total := manyCuts(t, 500)
	rnd := newRand(t)
	before, between, after := 0, 0, 0
	for done := 0; done < total; done += 50 {
		dir := t.TempDir()
		rec, r, err := observeRenewals(bin, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.cutRenewals(rec, rec.pick(rnd, min(50, total-done), "provisioned"), losses(rnd), filepath.Join(dir, "left")); err != nil {
			t.Error(err)
		}
		before, between, after = before+r.before, between+r.between, after+r.after
	}
	t.Logf("%d cuts: over all of them %d devices had nothing of their new certificate, %d were in the middle, %d were done", total, before, between, after)
}
