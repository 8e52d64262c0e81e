// Package metrics counts what the service does and shows it in the Prometheus text format. docs/metrics.md lists every metric; a
// test compares the two.
//
// Begin with New: the parts of the service call the methods of Metrics through function fields of their own configuration, and know
// nothing of this package. Labels are words of ours, never an id, a name that somebody chose, or a secret.
package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Sources are asked at each scrape. All of them must be set and may be called concurrently.
type Sources struct {
	Version      string
	Connections  func() int                     // MQTT connections that are open
	Messages     func() (received, sent uint64) // MQTT messages so far
	Stored       func() (bytes int64, dropped uint64)
	Ruled        func() int64 // bytes of messages that wait for rules
	Traces       func() Traces
	Logs         func() Logs
	KeyPool      func() KeyPool
	Pending      func() int                  // connections of which nothing is known yet
	Bulk         func() int                  // bulk registrations in work
	Circuits     func() map[string]int       // functions that hooks called, by the state of their circuit
	Certificates func() map[string]time.Time // the ends of those that the service lives on, by what they are for
	Ending       func() Ending               // the certificates of devices, as of the last minute
}

// Ending is how many active certificates of devices end, and when the first that has not ended does; zero: none that is known to.
type Ending struct {
	Expired, Week, Month int // in the last 30 days; in the next 7 and 30
	Next                 time.Time
}

// Traces is what became of traces: the bytes that are kept, then counters of what is not.
type Traces struct {
	Bytes                          int64
	Sampled, Dropped, Old, Surplus int64
}

// Logs is the bytes that entries of logs take, then counters of those that were deleted, and of events that could not be written.
type Logs struct{ Bytes, Old, Surplus, Dropped int64 }

// KeyPool is the state of the pool of RSA keys: gauges, then counters.
type KeyPool struct {
	Ready, Waiting      int
	Taken, Missed, Made uint64
	Refused             uint64
}

// Metrics takes observations. Its methods may be called concurrently and return at once.
type Metrics struct {
	registry *prometheus.Registry
	complete func() // registers what a scrape asks for; a start needs none of it

	handshakes    *prometheus.CounterVec
	handshakeTime *prometheus.HistogramVec
	ended         *prometheus.CounterVec
	ruleless      prometheus.Counter
	ruled         *prometheus.CounterVec
	actionTime    *prometheus.HistogramVec
	flows         *prometheus.CounterVec
	flowTime      *prometheus.HistogramVec
	requests      *prometheus.CounterVec
	requestTime   *prometheus.HistogramVec
	writes        *prometheus.CounterVec
	writeTime     prometheus.Histogram
	commits       *prometheus.CounterVec
	commitTime    prometheus.Histogram
	group         prometheus.Histogram
	refused       *prometheus.CounterVec
	slowed        *prometheus.CounterVec
	firstTime     *prometheus.HistogramVec
	hookTime      *prometheus.HistogramVec
	functionTime  *prometheus.HistogramVec
	workers       prometheus.Gauge
	contained     prometheus.Counter
	bulkLines     *prometheus.CounterVec
	bulkEnded     *prometheus.CounterVec
	messages      *prometheus.CounterVec
	triggerTime   *prometheus.HistogramVec
	hosted        *prometheus.CounterVec
	hostedTime    *prometheus.HistogramVec

	codes words
}

// Buckets in seconds: what touches the disk or the processor only, and what may wait for a key or a person's hook.
var (
	quick = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}
	slow  = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// New makes the metrics of one service, in a registry of their own.
func New(s Sources) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), codes: words{known: map[string]bool{}}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.handshakes = counter("imprint_handshakes_total", "TLS handshakes by outcome (ok, refused, failed) and cause.", "outcome", "cause")
	m.handshakeTime = histogram("imprint_handshake_duration_seconds", "Time of a TLS handshake, network included.", slow, "outcome")
	m.ended = counter("imprint_mqtt_disconnections_total", "MQTT connections that ended, by reason.", "reason")
	m.ruleless = counter("imprint_rule_not_found_total", "Messages of Basic Ingest that were dropped: there is no rule of that name.").WithLabelValues()
	m.ruled = counter("imprint_rule_messages_total", "Messages that a topic rule has finished with or had no room for, by outcome (done, filtered, failed, dropped).", "outcome")
	m.actionTime = histogram("imprint_rule_action_duration_seconds", "Time of an action of a topic rule, its tries included, by action and outcome (ok, failed).", slow, "action", "outcome")
	m.flows = counter("imprint_flows_total", "Steps of provisioning by kind (claim, create, register), outcome (ok, refused, failed) and error code.", "kind", "outcome", "code")
	m.flowTime = histogram("imprint_flow_duration_seconds", "Time from the request of a step to its answer.", slow, "kind", "outcome")
	m.requests = counter("imprint_api_requests_total", "Requests to AWS services by service, operation and HTTP status.", "service", "operation", "status")
	m.requestTime = histogram("imprint_api_request_duration_seconds", "Time from the request to its answer.", slow, "service", "operation")
	m.writes = counter("imprint_store_writes_total", "Write transactions by outcome (ok, error); a rule that says no is an error here too.", "outcome")
	m.writeTime = histogram("imprint_store_write_duration_seconds", "Time that a caller waits for its write transaction, queue and sync included.", quick).WithLabelValues().(prometheus.Histogram)
	m.commits = counter("imprint_store_commits_total", "Commits of grouped write transactions by outcome (ok, error).", "outcome")
	m.commitTime = histogram("imprint_store_commit_duration_seconds", "Time of a grouped commit, sync included.", quick).WithLabelValues().(prometheus.Histogram)
	m.group = histogram("imprint_store_commit_group_size", "Write transactions that share a commit.", []float64{1, 2, 4, 8, 16, 32, 64}).WithLabelValues().(prometheus.Histogram)
	m.refused = counter("imprint_refusals_total", "Work of strangers that was refused, by budget.", "budget")
	m.slowed = counter("imprint_slowed_total", "Work of strangers that had to wait for everybody else's, by budget.", "budget")
	m.firstTime = histogram("imprint_first_connection_duration_seconds", "Time to register and provision a device whose certificate a customer's CA has signed, by outcome (provisioned, waits, failed).", slow, "outcome")
	m.hookTime = histogram("imprint_hook_duration_seconds", "Time of a pre-provisioning hook by kind (local, webhook, lambda, rule) and outcome (allowed, denied, failed, broken).", slow, "kind", "outcome")
	m.functionTime = histogram("imprint_function_duration_seconds", "Time of the handler of a function that runs here, by outcome (answered, error, timeout, canceled, refused) and start (cold, warm).", slow, "outcome", "start")
	m.workers = prometheus.NewGauge(prometheus.GaugeOpts{Name: "imprint_function_processes", Help: "Processes of functions, those that wait for work included."})
	m.registry.MustRegister(m.workers)
	m.contained = counter("imprint_contained_certificates_total", "Certificates that lost their power with the claim that they came from.").WithLabelValues()
	m.bulkLines = counter("imprint_bulk_lines_total", "Lines of bulk registrations by outcome (ok, refused).", "outcome")
	m.bulkEnded = counter("imprint_bulk_tasks_ended_total", "Bulk registrations that have ended, by status (Completed, Failed, Cancelled).", "status")
	m.messages = counter("imprint_messages_total", "Attempts to send messages to users by medium (EMAIL, SMS) and outcome (sent, failed, refused).", "medium", "outcome")
	m.triggerTime = histogram("imprint_trigger_duration_seconds", "Time of a trigger of a user pool by trigger and outcome (answered, refused, unreadable, failed).", slow, "trigger", "outcome")
	m.hosted = counter("imprint_hosted_requests_total", "Requests to the sign-in pages of user pools and the endpoints of OAuth beside them, by path below the domain and HTTP status.", "path", "status")
	m.hostedTime = histogram("imprint_hosted_request_duration_seconds", "Time from such a request to its answer.", slow, "path")
	m.complete = sync.OnceFunc(func() {
		m.sources(s)
		m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	})
	return m
}

// sources registers what is asked for at a scrape.
func (m *Metrics) sources(s Sources) {
	gauge := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
	}
	counter := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
	}
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "imprint_build_info", Help: "1, labelled with the version.",
		ConstLabels: prometheus.Labels{"version": s.Version}}, func() float64 { return 1 }))
	m.registry.MustRegister(ending{s.Ending})
	gauge("imprint_mqtt_connections", "Open MQTT connections, those before their CONNECT included.", func() float64 { return float64(s.Connections()) })
	counter("imprint_mqtt_messages_received_total", "Messages that clients published, refused ones included.", func() float64 {
		received, _ := s.Messages()
		return float64(received)
	})
	gauge("imprint_mqtt_stored_bytes", "Messages that wait for their receivers or are retained.", func() float64 {
		bytes, _ := s.Stored()
		return float64(bytes)
	})
	counter("imprint_mqtt_messages_dropped_total", "QoS 1 messages that found no room to wait for a receiver.", func() float64 {
		_, dropped := s.Stored()
		return float64(dropped)
	})
	counter("imprint_mqtt_messages_sent_total", "Messages that were sent to clients, answers included.", func() float64 {
		_, sent := s.Messages()
		return float64(sent)
	})
	gauge("imprint_rule_waiting_bytes", "Messages that wait for topic rules.", func() float64 { return float64(s.Ruled()) })
	gauge("imprint_traces_bytes", "What traces take in the store, as of the last minute.", func() float64 { return float64(s.Traces().Bytes) })
	counter("imprint_traces_sampled_total", "Traces that were left out since like ones were told.", func() float64 { return float64(s.Traces().Sampled) })
	counter("imprint_traces_dropped_total", "Traces that found the queue full.", func() float64 { return float64(s.Traces().Dropped) })
	counter("imprint_traces_expired_total", "Traces that were deleted for their age.", func() float64 { return float64(s.Traces().Old) })
	counter("imprint_traces_evicted_total", "Traces that were deleted since all together were too large.", func() float64 { return float64(s.Traces().Surplus) })
	gauge("imprint_logs_bytes", "What entries of logs take in the store, as of the last minute.", func() float64 { return float64(s.Logs().Bytes) })
	counter("imprint_logs_dropped_total", "Events of devices and rules that could not be logged: there was no room, or the role does not allow it.", func() float64 { return float64(s.Logs().Dropped) })
	counter("imprint_logs_expired_total", "Entries of logs that were deleted for their age, or with their group.", func() float64 { return float64(s.Logs().Old) })
	counter("imprint_logs_evicted_total", "Entries of logs that were deleted since all together were too large.", func() float64 { return float64(s.Logs().Surplus) })
	gauge("imprint_keypool_ready", "RSA keys that are ready.", func() float64 { return float64(s.KeyPool().Ready) })
	gauge("imprint_keypool_waiting", "Requests that wait for an RSA key.", func() float64 { return float64(s.KeyPool().Waiting) })
	counter("imprint_keypool_taken_total", "RSA keys handed out.", func() float64 { return float64(s.KeyPool().Taken) })
	counter("imprint_keypool_missed_total", "RSA keys that their request had to wait for.", func() float64 { return float64(s.KeyPool().Missed) })
	gauge("imprint_pending_connections", "Connections of which nothing is known yet.", func() float64 { return float64(s.Pending()) })
	counter("imprint_keypool_refused_total", "Requests for an RSA key that found too many waiting.", func() float64 { return float64(s.KeyPool().Refused) })
	gauge("imprint_bulk_tasks", "Bulk registrations in work.", func() float64 { return float64(s.Bulk()) })
	counter("imprint_keypool_made_total", "RSA keys made.", func() float64 { return float64(s.KeyPool().Made) })
	m.registry.MustRegister(certificates{s.Certificates}, circuits{s.Circuits})
}

// certificates collects when each certificate ends.
type certificates struct{ ends func() map[string]time.Time }

var certificateEnd = prometheus.NewDesc("imprint_certificate_expiry_timestamp_seconds", "When a certificate of the service ends: the server's own, issuers, roots.", []string{"certificate"}, nil)

// Describe implements prometheus.Collector.
func (certificates) Describe(out chan<- *prometheus.Desc) { out <- certificateEnd }

// Collect implements prometheus.Collector.
func (c certificates) Collect(out chan<- prometheus.Metric) {
	for name, end := range c.ends() {
		out <- prometheus.MustNewConstMetric(certificateEnd, prometheus.GaugeValue, float64(end.Unix()), name)
	}
}

// ending collects what ends of the certificates of devices.
type ending struct{ now func() Ending }

var (
	endingCount = prometheus.NewDesc("imprint_device_certificates_ending", "Active certificates of devices that have ended in the last 30 days (expired) or end in the next 7 or 30 days (7d, 30d).", []string{"within"}, nil)
	endingNext  = prometheus.NewDesc("imprint_device_certificates_next_expiry_timestamp_seconds", "When the next active certificate of a device ends, of those that end within 400 days.", nil, nil)
)

// Describe implements prometheus.Collector.
func (ending) Describe(out chan<- *prometheus.Desc) { out <- endingCount; out <- endingNext }

// Collect implements prometheus.Collector.
func (e ending) Collect(out chan<- prometheus.Metric) {
	now := e.now()
	for within, n := range map[string]int{"expired": now.Expired, "7d": now.Week, "30d": now.Month} {
		out <- prometheus.MustNewConstMetric(endingCount, prometheus.GaugeValue, float64(n), within)
	}
	if !now.Next.IsZero() {
		out <- prometheus.MustNewConstMetric(endingNext, prometheus.GaugeValue, float64(now.Next.Unix()))
	}
}

// circuits collects the states of circuits.
type circuits struct{ states func() map[string]int }

var circuitStates = prometheus.NewDesc("imprint_hook_circuits", "Functions that hooks called, by the state of their circuit (closed, open, half_open).", []string{"state"}, nil)

// Describe implements prometheus.Collector.
func (circuits) Describe(out chan<- *prometheus.Desc) { out <- circuitStates }

// Collect implements prometheus.Collector.
func (c circuits) Collect(out chan<- prometheus.Metric) {
	for state, n := range c.states() {
		out <- prometheus.MustNewConstMetric(circuitStates, prometheus.GaugeValue, float64(n), state)
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	shown := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.complete()
		shown.ServeHTTP(w, r)
	})
}

// Outcomes.
const (
	ok      = "ok"
	refused = "refused" // the other side can mend it
	failed  = "failed"  // it is nobody's decision: our fault, or the network's
)

// handshakeFailures are the causes that are no refusal of ours.
var handshakeFailures = map[string]bool{"internal": true, "timeout": true, "busy": true, "closed": true, "tls": true}

// Handshake counts a TLS handshake; an empty cause is success.
func (m *Metrics) Handshake(cause string, took time.Duration) {
	outcome := refused
	switch {
	case cause == "":
		outcome = ok
	case handshakeFailures[cause]:
		outcome = failed
	}
	m.handshakes.WithLabelValues(outcome, m.codes.bound(cause)).Inc()
	m.handshakeTime.WithLabelValues(outcome).Observe(took.Seconds())
}

// Hosted counts a request to the sign-in pages. path is one of theirs, or a word of ours.
func (m *Metrics) Hosted(path string, status int, took time.Duration) {
	m.hosted.WithLabelValues(path, strconv.Itoa(status)).Inc()
	m.hostedTime.WithLabelValues(path).Observe(took.Seconds())
}

// RuleNotFound counts a message of Basic Ingest that no rule takes.
func (m *Metrics) RuleNotFound() { m.ruleless.Inc() }

// RuleMessage counts a message that a rule has finished with, or had no room for. outcome is a word of package rule.
func (m *Metrics) RuleMessage(outcome string) { m.ruled.WithLabelValues(outcome).Inc() }

// RuleAction counts an action of a rule. action and outcome are words of package rule.
func (m *Metrics) RuleAction(action, outcome string, took time.Duration) {
	m.actionTime.WithLabelValues(action, outcome).Observe(took.Seconds())
}

// Contained counts certificates that lost their power with the claim that they came from.
func (m *Metrics) Contained(certificates int) { m.contained.Add(float64(certificates)) }

// BulkLines counts lines of bulk registrations.
func (m *Metrics) BulkLines(registered, others int64) {
	m.bulkLines.WithLabelValues(ok).Add(float64(registered))
	m.bulkLines.WithLabelValues(refused).Add(float64(others))
}

// BulkEnded counts a bulk registration that has ended. status is a word of AWS.
func (m *Metrics) BulkEnded(status string) { m.bulkEnded.WithLabelValues(status).Inc() }

// Ended counts an MQTT connection that ended.
func (m *Metrics) Ended(reason string) { m.ended.WithLabelValues(m.codes.bound(reason)).Inc() }

// Flow counts a step of provisioning; an empty code is success, ours says that the fault is.
func (m *Metrics) Flow(kind, code string, ours bool, took time.Duration) {
	outcome := refused
	switch {
	case code == "":
		outcome = ok
	case ours:
		outcome = failed
	}
	m.flows.WithLabelValues(kind, outcome, m.codes.bound(code)).Inc()
	m.flowTime.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

// Request counts a request to an AWS service. service and operation must be ones that we serve, or empty.
func (m *Metrics) Request(service, operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(service, operation, strconv.Itoa(status)).Inc()
	m.requestTime.WithLabelValues(service, operation).Observe(took.Seconds())
}

// Write counts a write transaction of the store.
func (m *Metrics) Write(took time.Duration, err error) {
	m.writes.WithLabelValues(okOrError(err)).Inc()
	m.writeTime.Observe(took.Seconds())
}

// Commit counts a commit of the store that group transactions shared.
func (m *Metrics) Commit(group int, took time.Duration, err error) {
	m.commits.WithLabelValues(okOrError(err)).Inc()
	m.commitTime.Observe(took.Seconds())
	m.group.Observe(float64(group))
}

// FirstConnection counts a connection with a certificate that a customer's CA has signed and that waited for its activation.
func (m *Metrics) FirstConnection(outcome string, took time.Duration) {
	m.firstTime.WithLabelValues(outcome).Observe(took.Seconds())
}

// Hook counts a call of a pre-provisioning hook. kind and outcome are words of package hook.
func (m *Metrics) Hook(kind, outcome string, took time.Duration) {
	m.hookTime.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

// Message counts an attempt to send a message to a user.
func (m *Metrics) Message(medium, outcome string) { m.messages.WithLabelValues(medium, outcome).Inc() }

// Trigger counts a call of a user pool's trigger.
func (m *Metrics) Trigger(trigger, outcome string, took time.Duration) {
	m.triggerTime.WithLabelValues(trigger, outcome).Observe(took.Seconds())
}

// Function counts an invocation of a function that runs here. outcome is a word of package function; cold: its code had to be loaded first,
// which took does not count.
func (m *Metrics) Function(outcome string, cold bool, took time.Duration) {
	start := "warm"
	if cold {
		start = "cold"
	}
	m.functionTime.WithLabelValues(outcome, start).Observe(took.Seconds())
}

// Processes says how many processes of functions there are.
func (m *Metrics) Processes(n int) { m.workers.Set(float64(n)) }

// Refused counts work that was refused because a budget is used up; the budget is a word of ours.
func (m *Metrics) Refused(budget string) { m.refused.WithLabelValues(budget).Inc() }

// Slowed counts work of an address that had to wait until nobody else did.
func (m *Metrics) Slowed(budget string) { m.slowed.WithLabelValues(budget).Inc() }

func okOrError(err error) string {
	if err != nil {
		return "error"
	}
	return ok
}

// words keeps the values of a label few, whatever becomes an error code some day: those beyond maxWords are "other".
type words struct {
	mu    sync.Mutex
	known map[string]bool
}

const maxWords = 100

func (w *words) bound(s string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known[s] {
		if len(w.known) >= maxWords {
			return "other"
		}
		w.known[s] = true
	}
	return s
}
