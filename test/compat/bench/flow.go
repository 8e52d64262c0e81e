package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A task is one operation; worker numbers who does it.
type task func(worker int) error

// measure lets workers repeat a task for the scenario's time, in rounds of which the medians count. Before and after each it measures
// the floor of a flow anew: how fast the machine is changes from minute to minute.
func measure(o options, w *world, workers int, do task) (*figures, error) {
	f := &figures{}
	var rate, server, own, floors []float64
	var took []time.Duration
	length := o.round()
	for round := range o.rounds + 1 {
		if round == 0 { // warms up
			if _, err := repeat(length/2, workers, do); err != nil {
				return nil, err
			}
			continue
		}
		before, err := o.bare.flow()
		if err != nil {
			return nil, err
		}
		serverCPU, clientCPU, begin := w.server.cpu(), ownCPU(), time.Now()
		each, err := repeat(length, workers, do)
		if err != nil {
			return nil, err
		}
		wall, n := time.Since(begin), float64(len(each))
		if n == 0 {
			continue
		}
		rate = append(rate, n/wall.Seconds())
		server = append(server, micros(w.server.cpu()-serverCPU)/n)
		own = append(own, micros(ownCPU()-clientCPU)/n)
		took = append(took, each...)
		after, err := o.bare.flow()
		if err != nil {
			return nil, err
		}
		floors = append(floors, (before+after)/2)
	}
	if len(took) == 0 {
		return nil, errors.New("nothing was done in time: give it more -seconds")
	}
	f.PerSecond, f.ServerMicros, f.ClientMicros, f.FloorMicros = median(rate), median(server), median(own), median(floors)
	f.tell(took, w)
	return f, nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// repeat runs a task until the time is over and returns how long each took.
func repeat(d time.Duration, workers int, do task) (took []time.Duration, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed atomic.Bool
	end := time.Now().Add(d)
	for i := range workers {
		wg.Go(func() {
			var mine []time.Duration
			for begin := time.Now(); begin.Before(end) && !failed.Load(); begin = time.Now() {
				if e := do(i); e != nil {
					failed.Store(true)
					mu.Lock()
					err = errors.Join(err, e)
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(begin))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return took, err
}

// measureFlows provisions devices: claim, certificate from a CSR, registration, and back with the new certificate. The keys of
// devices are made before.
func measureFlows(ctx context.Context, o options, w *world) (*figures, error) {
	// Twice what two cores could do; whoever comes later makes a key on the way.
	ready := make(chan candidate, 1500*int(o.seconds+1))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range cap(ready) / 4 {
				if c, err := newCandidate(); err == nil {
					ready <- c
				}
			}
		})
	}
	wg.Wait()
	var flows atomic.Int64 // those of the warming up too
	commits, transactions, err := w.server.grouped(ctx)
	if err != nil {
		return nil, err
	}
	f, err := measure(o, w, o.workers, func(worker int) (err error) {
		var c candidate
		select {
		case c = <-ready:
		default:
			if c, err = newCandidate(); err != nil {
				return err
			}
		}
		flows.Add(1)
		return w.flow(w.claims[worker], c)
	})
	if err != nil {
		return nil, err
	}
	after, all, err := w.server.grouped(ctx)
	f.Commits, f.Group = (after-commits)/float64(flows.Load()), (all-transactions)/max(after-commits, 1)
	return f, err
}

const (
	topicCSR  = "$aws/certificates/create-from-csr/json"
	topicKeys = "$aws/certificates/create/json"
)

// flow provisions a device; one without a key of its own asks the server for keys.
func (w *world) flow(claim tls.Certificate, c candidate) error {
	return w.flowOf(templateName, claim, c)
}

func (w *world) flowOf(template string, claim tls.Certificate, c candidate) error {
	return w.flowTimed(template, claim, c, func(time.Duration) {})
}

// flowTimed tells how long the registration took.
func (w *world) flowTimed(template string, claim tls.Certificate, c candidate, took func(time.Duration)) error {
	topicRegister := "$aws/provisioning-templates/" + template + "/provision/json"
	create, request := topicCSR, object{"certificateSigningRequest": c.csr}
	if c.key == nil {
		create, request = topicKeys, object{}
	}
	serial := fmt.Sprintf("%07d", w.serial.Add(1))
	s, err := dial(w.addr, w.tls, claim, "new-"+serial)
	if err != nil {
		return err
	}
	if err := s.subscribe(create+"/accepted", create+"/rejected", topicRegister+"/accepted", topicRegister+"/rejected"); err != nil {
		return s.fail(err)
	}
	var issued struct{ CertificatePem, PrivateKey, CertificateOwnershipToken string }
	if err := s.request(create, request, &issued); err != nil {
		return s.fail(err)
	}
	var registered struct{ ThingName string }
	begin := time.Now()
	if err := s.request(topicRegister, object{"certificateOwnershipToken": issued.CertificateOwnershipToken,
		"parameters": object{"SerialNumber": serial}}, &registered); err != nil {
		return s.fail(err)
	}
	took(time.Since(begin))
	s.close()
	d, err := deviceOf(registered.ThingName, issued.CertificatePem, c.key)
	if c.key == nil {
		d.cert, err = tls.X509KeyPair([]byte(issued.CertificatePem), []byte(issued.PrivateKey))
	}
	if err != nil {
		return err
	}
	if s, err = dial(w.addr, w.tls, d.cert, d.thing); err != nil {
		return err
	}
	if err := s.subscribe(d.topic()); err != nil {
		return s.fail(err)
	}
	s.close()
	w.mu.Lock()
	w.devices = append(w.devices, d)
	w.mu.Unlock()
	return nil
}

func deviceOf(thing, certificate string, key *ecdsa.PrivateKey) (device, error) {
	block, _ := pem.Decode([]byte(certificate))
	if block == nil {
		return device{}, errors.New("the answer holds no certificate")
	}
	return device{thing, tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}, nil
}

func (d device) topic() string { return "lamps/" + d.thing + "/state" }

// request publishes to a reserved topic and reads the answer.
func (s *session) request(topic string, in, out any) error {
	payload, err := json.Marshal(in)
	if err != nil {
		return err
	}
	got, answer, err := s.exchange(topic, payload)
	if err != nil {
		return err
	}
	if got != topic+"/accepted" {
		return fmt.Errorf("%s: %s", got, answer)
	}
	return json.Unmarshal(answer, out)
}

// measureCycles connects, subscribes, publishes, receives and disconnects, each worker as a device of its own.
func measureCycles(_ context.Context, o options, w *world) (*figures, error) {
	if len(w.devices) < o.workers {
		return nil, fmt.Errorf("only %d devices were provisioned", len(w.devices))
	}
	return measure(o, w, o.workers, func(worker int) error {
		d := w.devices[worker]
		s, err := dial(w.addr, w.tls, d.cert, d.thing)
		if err != nil {
			return err
		}
		if err := s.subscribe(d.topic()); err != nil {
			return s.fail(err)
		}
		if got, _, err := s.exchange(d.topic(), []byte(`{"on":true}`)); err != nil || got != d.topic() {
			return s.fail(fmt.Errorf("message on %q: %w", got, err))
		}
		s.close()
		return nil
	})
}

// measureIdle opens connections that do nothing, and says what each adds to the server's memory after a while.
func measureIdle(ctx context.Context, o options, w *world) (*figures, error) {
	d, err := w.anyDevice(ctx)
	if err != nil {
		return nil, err
	}
	w.server.settle()
	before := w.server.rss()
	open := make(chan *session, o.idle)
	_, err = times(o.idle, o.workers, func(int) error {
		s, err := dial(w.addr, w.tls, d.cert, fmt.Sprint("idle-", w.serial.Add(1)))
		if err == nil {
			_ = s.conn.SetDeadline(time.Time{})
			open <- s
		}
		return err
	})
	if err == nil {
		time.Sleep(o.idleWait)
	}
	after := w.server.rss()
	close(open)
	for s := range open {
		s.close()
	}
	return &figures{Count: o.idle, RSSKiB: after, KiBEach: float64(after-before) / float64(max(o.idle, 1))}, err
}
