package main

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/device"
)

// An event is a line that `run` prints for scripts.
type event struct {
	Event         string   `json:"event"` // connected, subscribed, published, message, refused, disconnected, renewed, renewal-failed, stopped
	ThingName     string   `json:"thingName,omitempty"`
	ClientID      string   `json:"clientId,omitempty"`
	Endpoint      string   `json:"endpoint,omitempty"`
	Port          int      `json:"port,omitempty"`
	Topic         string   `json:"topic,omitempty"`
	Operation     string   `json:"operation,omitempty"` // of refused: publish or subscribe
	Payload       string   `json:"payload,omitempty"`
	PayloadBase64 string   `json:"payloadBase64,omitempty"` // instead, if it is no text
	RetryInMs     int64    `json:"retryInMs,omitempty"`
	CertificateID string   `json:"certificateId,omitempty"`
	NotAfter      string   `json:"notAfter,omitempty"`
	Error         *problem `json:"error,omitempty"`
}

type message struct{ topic, payload string }

// A stay is one run of the command `run`.
type stay struct {
	*options
	p       *program
	store   *device.Store
	rc      device.RunConfig
	publish []message
	filters []string
	qos     int
	every   time.Duration
	wait    time.Duration
	timeout time.Duration
	once    bool
	quiet   bool
	renew   string
	begun   *device.Conn // a connection on which subscriptions and first messages have been done

	mu       sync.Mutex // held while a line is printed
	finished bool       // with once: all is done
	last     error      // why there was no connection
}

func (p *program) stayOptions() *stay {
	s := &stay{options: p.options("run", "stay connected with the identity"), p: p}
	s.StringVar(&s.rc.ClientID, "client-id", "", "MQTT client `id`; else the identity's, which is the thing's name")
	s.portsVar(&s.rc.Ports)
	s.StringVar(&s.rc.MQTT, "mqtt", "", "3.1.1 or 5 (default 3.1.1)")
	s.DurationVar(&s.rc.KeepAlive, "keep-alive", time.Minute, "for how long the connection may be idle")
	s.list("publish", "`topic=payload` to publish at each connection; may be given several times; {thingName} is replaced", func(v string) error {
		topic, payload, ok := strings.Cut(v, "=")
		if !ok || topic == "" {
			return errors.New("give TOPIC=PAYLOAD")
		}
		s.publish = append(s.publish, message{topic, payload})
		return nil
	})
	s.list("subscribe", "`filter` to subscribe to; may be given several times; {thingName} is replaced", func(v string) error {
		s.filters = append(s.filters, v)
		return nil
	})
	s.IntVar(&s.qos, "qos", 1, "0 or 1")
	s.DurationVar(&s.every, "every", 0, "publish again after so long; 0: only once per connection")
	s.BoolVar(&s.once, "once", false, "subscribe, publish, then stop; a refusal ends it with status 7")
	s.DurationVar(&s.wait, "wait", 0, "with --once: stay for so long after publishing, for messages to come")
	s.DurationVar(&s.timeout, "timeout", 0, "end after so long; 0: never. With --once it is a failure")
	s.StringVar(&s.renew, "renew", "auto", "renew the certificate in time: auto or off")
	s.BoolVar(&s.quiet, "quiet", false, "no log on standard error")
	return s
}

func (p *program) stay(ctx context.Context, args []string) int {
	s := p.stayOptions()
	if status, done := s.parse(args); done {
		return status
	}
	if err := s.prepare(); err != nil {
		return p.complain(err)
	}
	err := s.run(ctx)
	if err == nil {
		s.print(event{Event: "stopped"})
		return exitDone
	}
	s.print(event{Event: "stopped", Error: problemOf(err)})
	return p.complain(err)
}

// run stays connected until ctx or the time allowed ends, which is an error only if --once has not finished.
func (s *stay) run(ctx context.Context) error {
	limited, cancel := ctx, func() {}
	if s.timeout > 0 {
		limited, cancel = context.WithTimeout(ctx, s.timeout)
	}
	defer cancel()
	err := device.Run(limited, s.store.Identity, s.rc)
	switch {
	case s.finished || err == nil && !s.once:
		return nil
	case err != nil:
		return err
	case ctx.Err() != nil:
		return &device.Error{Kind: device.KindInterrupted, Code: device.CodeInterrupted, Message: "interrupted"}
	case s.last != nil:
		return s.last
	}
	return &device.Error{Kind: device.KindConnect, Code: device.CodeNoAnswer, Message: "time ran out", Cure: "give a longer --timeout"}
}

func (s *stay) prepare() (err error) {
	if s.qos != 0 && s.qos != 1 {
		return usage("--qos 0 or 1", "there is no QoS %d here", s.qos)
	}
	if s.rc.KeepAlive < time.Second || s.rc.KeepAlive > 18*time.Hour {
		return usage("1s to 18h", "--keep-alive %v", s.rc.KeepAlive)
	}
	if s.renew != "auto" && s.renew != "off" {
		return usage("--renew auto or off", "%q is neither", s.renew)
	}
	if s.store, err = device.OpenStore(s.dir); err != nil {
		return err
	}
	if _, err := s.store.Identity(); err != nil {
		return err
	}
	s.rc.Log = s.p.log(s.quiet)
	s.rc.OnMessage, s.rc.Connected, s.rc.Lost, s.rc.Stop = s.received, s.connected, s.lost, s.stop
	if s.renew == "auto" && !s.once {
		s.rc.Renewal = &device.Renewal{Store: s.store, Prove: s.begin, Renewed: s.renewed, Failed: s.renewalFailed}
	}
	return nil
}

func (s *stay) print(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.p.print(e)
}

// connected does with a new connection what the options ask for.
func (s *stay) connected(ctx context.Context, c *device.Conn) error {
	if c != s.begun { // a renewed certificate has proven itself by this
		if err := s.begin(ctx, c); err != nil {
			return err
		}
	}
	for {
		if s.once {
			return s.finish(ctx, c)
		}
		if s.every <= 0 || !pauseFor(ctx, s.every) {
			return nil
		}
		if err := s.send(ctx, c); err != nil {
			return err
		}
	}
}

// begin subscribes and publishes for the first time on a connection.
func (s *stay) begin(ctx context.Context, c *device.Conn) error {
	id := c.Identity()
	s.print(event{Event: "connected", ThingName: id.ThingName, ClientID: c.ClientID(), Endpoint: id.Endpoint, Port: c.Port()})
	for _, filter := range s.filters {
		filter = strings.ReplaceAll(filter, "{thingName}", id.ThingName)
		if err := c.Subscribe(ctx, filter, byte(s.qos)); err != nil {
			return s.refused("subscribe", filter, err)
		}
		s.print(event{Event: "subscribed", Topic: filter})
	}
	if err := s.send(ctx, c); err != nil {
		return err
	}
	s.begun = c
	return nil
}

// send publishes each message once.
func (s *stay) send(ctx context.Context, c *device.Conn) error {
	names := strings.NewReplacer("{thingName}", c.Identity().ThingName)
	for _, m := range s.publish {
		topic, payload := names.Replace(m.topic), names.Replace(m.payload)
		if err := c.Publish(ctx, topic, []byte(payload), byte(s.qos)); err != nil {
			return s.refused("publish", topic, err)
		}
		s.print(event{Event: "published", Topic: topic})
	}
	return nil
}

// errFinished ends Run when --once has nothing left to do.
var errFinished = errors.New("finished")

// finish proves that the service did not mind (a publish of QoS 0 is not acknowledged), and waits for messages.
func (s *stay) finish(ctx context.Context, c *device.Conn) error {
	if err := c.Ping(ctx); err != nil {
		return s.refused("publish", "", err)
	}
	pauseFor(ctx, s.wait)
	s.finished = true
	return errFinished
}

// pauseFor reports false if ctx ended first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *stay) refused(operation, topic string, err error) error {
	if device.KindOf(err) == device.KindRefused {
		s.print(event{Event: "refused", Operation: operation, Topic: topic, Error: problemOf(err)})
	}
	return err
}

func (s *stay) received(m device.Message) {
	e := event{Event: "message", Topic: m.Topic, Payload: string(m.Payload)}
	if !utf8.Valid(m.Payload) {
		e.Payload, e.PayloadBase64 = "", base64.StdEncoding.EncodeToString(m.Payload)
	}
	s.print(e)
}

func (s *stay) renewed(id *device.Identity) {
	s.print(event{Event: "renewed", ThingName: id.ThingName, CertificateID: id.CertificateID, NotAfter: id.Certificate().Leaf.NotAfter.UTC().Format(time.RFC3339)})
}

func (s *stay) renewalFailed(err error, next time.Duration) {
	s.print(event{Event: "renewal-failed", RetryInMs: next.Milliseconds(), Error: problemOf(err)})
}

func (s *stay) lost(err error, next time.Duration) {
	s.last = err
	s.print(event{Event: "disconnected", RetryInMs: next.Milliseconds(), Error: problemOf(err)})
}

// stop ends Run when it has finished, when --once was refused, and when there is no identity to go on with.
func (s *stay) stop(err error) bool {
	var e *device.Error
	if !errors.As(err, &e) {
		return true
	}
	return s.once && !e.Temporary() || e.Kind == device.KindUsage || e.Kind == device.KindStorage || e.Kind == device.KindNotProvisioned
}
