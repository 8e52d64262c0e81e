package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	agent "github.com/imprint-iot/imprint/device"
	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/test/compat/cutter"
)

// A storm has many devices provision while their connections are cut anywhere, half of these cuts take the device down with it, and the
// server loses its power: it is killed, and what it had not synced is lost.
type storm struct {
	people
	lives
	seed uint64

	// Claims are asked for between losses of power: nobody says what becomes of an installer who gets no answer.
	power sync.RWMutex
	done  atomic.Int64
	step  chan struct{} // after each device

	cuts, reboots int
	pending       int // certificates that nobody registered, in the end
}

// A stormy device is one of a storm.
type stormy struct {
	serial string
	n      int
	dir    string
	fate   *cutter.Fate
}

// rage returns what is not as it must be when all devices are through.
func rage(binary, dir string, rnd *rand.Rand, devices, cuts int, ways []loss) (s *storm, err error) {
	s = &storm{people: *newPeople(), lives: lives{binary: binary, dir: dir}, seed: rnd.Uint64(), step: make(chan struct{}, devices)}
	defer func() { err = s.over(err) }()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute+time.Duration(devices)*time.Second)
	defer cancel()
	if s.env, err = s.begin(); err != nil {
		return s, err
	}
	c, err := s.admin(s.env)
	if err != nil {
		return s, err
	}
	if err := s.prepare(ctx, c); err != nil {
		return s, err
	}
	var all []*stormy
	for i := range devices {
		all = append(all, &stormy{serial: strconv.Itoa(i), n: i, dir: filepath.Join(dir, "device"+strconv.Itoa(i)), fate: cutter.NewFate(rand.New(rand.NewPCG(s.seed, uint64(i))))})
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { ended <- s.devices(ctx, c, all, stop) }()
	if err = s.losses(ctx, devices, cuts, ways); err != nil {
		stop(err)
	}
	if err = errors.Join(err, <-ended); err != nil {
		return s, err
	}
	for _, d := range all {
		cuts, reboots := d.fate.Suffered()
		s.cuts, s.reboots = s.cuts+cuts, s.reboots+reboots
	}
	if err := s.lose(ways[0]); err != nil { // right behind the last answer
		return s, err
	}
	return s, s.end(all)
}

// losses takes the server's power away whenever another share of the devices is done.
func (s *storm) losses(ctx context.Context, devices, cuts int, ways []loss) error {
	for k := range cuts {
		for s.done.Load() < int64((k+1)*devices/(cuts+1)) {
			select {
			case <-s.step:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := s.blackout(ways[k%len(ways)]); err != nil {
			return fmt.Errorf("loss %d of the server's power, %s: %w", k+1, ways[k%len(ways)].name, err)
		}
	}
	return nil
}

// blackout takes the power away, and gives it back.
func (s *storm) blackout(l loss) error {
	s.power.Lock()
	defer s.power.Unlock()
	if err := s.lose(l); err != nil {
		return err
	}
	_, err := s.again()
	return err
}

// devices has all of them provision, some at a time.
func (s *storm) devices(ctx context.Context, c *client.Client, all []*stormy, stop context.CancelCauseFunc) error {
	work := make(chan *stormy, len(all))
	for _, d := range all {
		work <- d
	}
	close(work)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 12 {
		wg.Go(func() {
			for d := range work {
				if err := s.provision(ctx, c, d); err != nil {
					err = fmt.Errorf("device %s: %w", d.serial, err)
					failed.CompareAndSwap(nil, &err)
					stop(err)
					return
				}
				s.done.Add(1)
				s.step <- struct{}{}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *storm) claim(ctx context.Context, c *client.Client, d *stormy) (agent.Config, error) {
	s.power.RLock()
	defer s.power.RUnlock()
	return libraryConfig(ctx, s.env, c, d.serial, d.n)
}

// provision goes on until the device is through.
func (s *storm) provision(ctx context.Context, c *client.Client, d *stormy) error {
	cfg, err := s.claim(ctx, c, d)
	if err != nil {
		return err
	}
	to := net.JoinHostPort(cfg.Endpoint, strconv.Itoa(cfg.Ports[0]))
	proxy, err := cutter.New(func() string { return to }, d.fate.Next)
	if err != nil {
		return err
	}
	defer proxy.Stop()
	cfg.Dir, cfg.Ports = d.dir, []int{proxy.Port()}
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Minute)
		d.fate.Attempt(cancel)
		_, err := agent.Provision(attempt, cfg)
		over := attempt.Err() != nil
		cancel()
		var e *agent.Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &e) && (e.Temporary() || over):
		case errors.As(err, &e) && e.Code == agent.CodeClosed: // several cuts in a row look like a claim that is refused in silence
		default:
			return err
		}
	}
}

// end starts the server a last time: each device must have one thing and one active certificate, which works, and upkeep must take
// what else is left.
func (s *storm) end(all []*stormy) error {
	data := s.disk()
	if err := s.served(data, func(ctx context.Context, c *client.Client) error { return s.whole(ctx, c, all) }); err != nil {
		return err
	}
	if err := integrity(filepath.Join(data, "data", "imprint.db")); err != nil {
		return err
	}
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	db, err := store.Open(context.Background(), store.Config{Path: filepath.Join(data, "data", "imprint.db"), Clock: later})
	if err != nil {
		return err
	}
	if err := errors.Join(provision.New(provision.Config{Store: db, Clock: later}).Sweep(context.Background(), later()), db.Close()); err != nil {
		return err
	}
	return s.served(data, func(ctx context.Context, c *client.Client) error {
		has, err := readRegistry(ctx, c)
		if err == nil && len(has.status) != len(all) {
			err = fmt.Errorf("upkeep leaves %d certificates, of %d devices", len(has.status), len(all))
		}
		return errors.Join(err, has.whole())
	})
}

func (s *storm) served(dir string, look func(context.Context, *client.Client) error) error {
	on, err := start(dir, s.ports)
	if err != nil {
		return err
	}
	defer on.kill()
	c, err := s.admin(on.env)
	if err != nil {
		return err
	}
	return look(context.Background(), c)
}

func (s *storm) whole(ctx context.Context, c *client.Client, all []*stormy) error {
	has, err := readRegistry(ctx, c)
	if err != nil {
		return err
	}
	if err := has.whole(); err != nil {
		return err
	}
	for _, d := range all {
		st, err := agent.OpenStore(d.dir)
		if err != nil {
			return err
		}
		id, err := st.Identity()
		if err != nil {
			return fmt.Errorf("device %s: %w", d.serial, err)
		}
		if got := has.things[thingName(d.serial)]; len(got) != 1 || got[0] != id.CertificateID {
			return fmt.Errorf("device %s has certificate %s, and its thing has %v", d.serial, id.CertificateID, got)
		}
		if err := works(ctx, id, s.ports.mqtt); err != nil {
			return fmt.Errorf("device %s: %w", d.serial, err)
		}
	}
	if s.pending = len(has.status) - len(all); len(has.things) != len(all) {
		return fmt.Errorf("%d devices have %d things", len(all), len(has.things))
	}
	return nil
}

// TestChaosWithLossesOfPower has connections cut, devices go down and the server lose what it has not synced, all at the same time.
func TestChaosWithLossesOfPower(t *testing.T) {
	t.Parallel()
	chaos(t, 100, 3)
}

func TestSoakChaosWithLossesOfPower(t *testing.T) {
	long(t)
	chaos(t, 1000, 20)
}

func chaos(t *testing.T, devices, cuts int) {
	t.Helper()
	rnd := newRand(t)
	begin := time.Now()
	s, err := rage(bin, t.TempDir(), rnd, devices, cuts, losses(rnd))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d devices in %v: %d connections cut, %d devices lost power with it, the server %d times; upkeep took %d certificates", devices,
		time.Since(begin).Round(time.Millisecond), s.cuts, s.reboots, s.lost, s.pending)
}
