package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/bulk"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/federation"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/gateway"
	"github.com/imprint-iot/imprint/internal/hook"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/identitypool"
	"github.com/imprint-iot/imprint/internal/lambda"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/metrics"
	"github.com/imprint-iot/imprint/internal/oidc"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/pki/keyhelper"
	"github.com/imprint-iot/imprint/internal/pki/keymaker"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/rule"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/telemetry"
	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// A Server is a running service.
type Server struct {
	cfg    Config
	site   site
	log    *slog.Logger
	clock  fleet.Clock
	unlock func() error

	db         *store.DB
	masterKey  *pki.MasterKey
	authority  *pki.Authority
	keys       *pki.KeyPool
	makers     []*keymaker.Maker // of the pool
	signing    *pki.FileKeys
	helper     *keyhelper.Keys // nil without one
	trust      sync.Mutex      // one change of keys or roots at a time
	recorder   *trace.Recorder
	metrics    *metrics.Metrics
	strangers  *strangers
	egress     *egress.Client // for every call to others
	issuers    *oidc.Verifier // of other identity providers
	iam        *iam.Service
	userpools  *userpool.Service
	identities *identitypool.Service
	registry   *registry.Service
	runner     *function.Runner
	calls      *functionAPI // of functions
	functions  *lambda.Service
	bulk       *bulk.Service
	folder     *bucket.Folder // of buckets
	objects    bucket.Objects // in folder, or elsewhere
	hooks      *hook.Service
	logs       *logs.Service
	rules      *rule.Service
	provision  *provision.Service
	gateway    *gateway.Gateway
	verifier   *sigv4.Verifier
	requests   atomic.Int64 // HTTP requests in work
	devices    atomic.Int64 // handshakes and provisioning requests of devices in work
	handshakes atomic.Int64 // so far

	ports     listeners
	handled   func() http.Handler // the handler of requests, once it is made
	http      *http.Server
	inner     *http.Server // for functions
	admin     *http.Server
	scrape    *http.Server // metrics for Prometheus; nil: only on the administration socket
	traces    stock
	logged    stock                          // entries of logs
	ending    atomic.Pointer[metrics.Ending] // of the last sweep
	spans     telemetry.Sender               // nil: none are sent
	stopping  atomic.Bool
	readiness readiness
	env       Env
	stop      context.CancelFunc // of background work
	wg        sync.WaitGroup
	failed    chan error
	renamed   chan struct{} // the server's certificate has to have other names
}

// Start opens the data folder, puts the parts together, and returns when the service answers. Close ends it.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	setDefaults(&cfg)
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OutboxDir == "" {
		cfg.OutboxDir = filepath.Join(cfg.Data, "outbox")
	}
	if cfg.KeyPool == 0 {
		cfg.KeyPool = defaultPool
	}
	s := &Server{cfg: cfg, log: cfg.Log, clock: cfg.Clock, failed: make(chan error, 4), renamed: make(chan struct{}, 1)}
	s.traces.table, s.traces.drop = store.BoundedTraces, (*store.Tx).DeleteTracesBefore
	s.logged.table, s.logged.drop = store.BoundedLogs, (*store.Tx).DeleteLogsBefore
	s.metrics = s.newMetrics()
	if s.egress, err = cfg.egress(); err != nil {
		return nil, err
	}
	if s.strangers, err = newStrangers(cfg, s.metrics.Refused, s.metrics.Slowed); err != nil {
		return nil, err
	}
	if s.unlock, err = openData(cfg.Data); err != nil {
		return nil, err
	}
	if err := removeSnapshots(cfg.Data); err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	defer func() {
		if err != nil {
			closing, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			err = errors.Join(err, s.Close(closing))
		}
	}()
	for _, step := range []func(context.Context) error{s.openTelemetry, s.openStore, s.openKeys, s.openRules, s.listen, s.writeEnv} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	// Whoever waits for the service comes first.
	s.work()
	s.keys.Fill()
	return s, nil
}

func (s *Server) openStore(ctx context.Context) (err error) {
	if s.masterKey, err = pki.LoadMasterKey(ctx, pki.MasterKeyConfig{Dir: s.cfg.Data, File: s.cfg.MasterKeyFile,
		CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY"), Command: s.cfg.MasterKeyCmd}); err != nil {
		return err
	}
	if s.db, err = s.cfg.DatabaseURL.open(ctx, s.cfg.Data, store.Config{Clock: s.clock, Log: s.log, OnWrite: s.written, OnCommit: s.commitDone}); err != nil {
		return err
	}
	s.recorder = trace.NewRecorder(trace.RecorderConfig{Save: s.db.SaveTraces, Log: s.log, Clock: s.clock,
		Sampling: trace.Sampling{Connects: time.Duration(s.cfg.TraceConnects), Refusals: s.cfg.TraceRefusals}})
	if s.site, s.ports, err = openSite(ctx, s.db, s.cfg); err != nil || s.cfg.CertPort == 0 {
		return err
	}
	s.ports.devices, s.site.CertPort, err = s.site.listen(strconv.Itoa(int(s.cfg.CertPort)))
	return err
}

// written hears what became of a write.
func (s *Server) written(took time.Duration, err error) {
	s.metrics.Write(took, err)
	if errors.Is(err, store.ErrOvertaken) {
		select {
		case s.failed <- err:
		default: // it is known
		}
	}
}

func (s *Server) openKeys(ctx context.Context) error {
	var err error
	if s.signing, err = pki.NewFileKeys(filepath.Join(s.cfg.Data, pki.KeysDir), s.masterKey.Sealer()); err != nil {
		return err
	}
	keys, err := s.authorityKeys(ctx)
	if err != nil {
		return err
	}
	names, err := s.serverNames(ctx)
	if err != nil {
		return err
	}
	if s.authority, err = pki.OpenAuthority(ctx, pki.Config{Dir: filepath.Join(s.cfg.Data, pki.AuthorityDir), Keys: keys, Leaves: s.signing,
		Clock: s.clock, Names: names, AWSNames: s.awsNames()}); err != nil {
		return err
	}
	s.openKeyPool()
	return s.writeRoots()
}

// openKeyPool lets keys be made with the time that all else leaves. When somebody has waited for long, since nothing is left, a
// second process gets a share.
func (s *Server) openKeyPool() {
	c := pki.PoolConfig{Size: s.cfg.KeyPool, Queue: unbound(s.cfg.KeysWaiting), Patience: s.cfg.KeyWait}
	if s.cfg.KeyProcess {
		c.Parallel = runtime.GOMAXPROCS(0)
		idle := keymaker.New(keymaker.Config{Priority: keymaker.Idle, Workers: c.Parallel, Log: s.log})
		low := keymaker.New(keymaker.Config{Priority: keymaker.Low, Workers: c.Parallel, Log: s.log})
		c.Source, c.Help, s.makers = idle, low, []*keymaker.Maker{idle, low}
	}
	s.keys = pki.NewKeyPool(c)
}

// authorityKeys is where the keys of roots and issuers live: in files, or in a key helper from when on one is named.
func (s *Server) authorityKeys(ctx context.Context) (pki.KeyStore, error) {
	if s.cfg.KeyHelper == "" {
		return s.signing, nil
	}
	var about string
	var err error
	if s.helper, about, err = keyhelper.Dial(ctx, keyhelper.Config{Socket: s.cfg.KeyHelper}); err != nil {
		return nil, err
	}
	s.log.Info("keys of roots and issuers are made in the key helper", "socket", s.cfg.KeyHelper, "helper", about)
	return pki.Succession{New: s.helper, Old: s.signing}, nil
}

// hidden lists what functions must not see, wherever it is: the data folder, by the name that has no links in it.
func hidden(data string) []string {
	if path, err := filepath.EvalSymlinks(data); err == nil {
		data = path
	}
	if path, err := filepath.Abs(data); err == nil {
		data = path
	}
	return []string{data}
}

// functionsDir is the folder, inside the data folder, of the extracted code of functions. What is in it is made again when it is needed.
const functionsDir = "functions"

func (s *Server) openRules(ctx context.Context) error {
	sealer := s.masterKey.Sealer()
	if err := s.openIssuers(); err != nil {
		return err
	}
	s.iam = iam.New(iam.Config{Store: s.db, Sealer: sealer, OIDC: s.issuers, Clock: s.clock, Log: s.log})
	way, err := s.delivery()
	if err != nil {
		return err
	}
	s.calls = newFunctionAPI(s)
	s.runner = function.New(function.Config{API: s.calls, Concurrent: s.cfg.FunctionsAtOnce, Unsafe: s.cfg.UnsafeFunctions, Network: s.cfg.FunctionsNetwork, Hide: hidden(s.cfg.Data),
		OnInvoke: s.metrics.Function, OnWorkers: s.metrics.Processes, Log: s.log})
	if s.functions, err = lambda.New(lambda.Config{Store: s.db, Sealer: sealer, Roles: s.iam, Runner: s.runner, Dir: filepath.Join(s.cfg.Data, functionsDir), Clock: s.clock,
		OnDelete: func(scope fleet.Scope, name string) { s.hooks.Forget(scope, name) }}); err != nil {
		return err
	}
	if err := s.openBuckets(); err != nil {
		return err
	}
	s.hooks = hook.New(hook.Config{Store: s.db, Sealer: sealer, HTTP: s.egress, Local: s.functions, Clock: s.clock, OnCall: func(kind fleet.FunctionKind, outcome string, took time.Duration) {
		s.metrics.Hook(string(kind), outcome, took)
	}})
	if s.userpools, err = userpool.New(userpool.Config{Federation: federation.New(federation.Config{HTTP: s.egress, Tokens: s.issuers, Clock: s.clock}),
		Store: s.db, Sealer: sealer, Keys: s.keys, Roles: s.iam, Delivery: way, OnMessage: s.metrics.Message, Functions: triggerCalls{s}, OnTrigger: s.metrics.Trigger,
		OnSignInRefused: s.signInRefused,
		Issuer:          s.site.baseURL(), OwnName: s.ownName, Clock: s.clock, Log: s.log, Trusted: s.strangers.trusted, OnRefuse: s.metrics.Refused, OnProof: s.strangers.proven,
		Arithmetic: s.cfg.SignIns, Waiting: unbound(s.cfg.SignInsWaiting), FailuresPerMinute: s.cfg.Guesses, SignUpsPerMinute: s.cfg.SignUps}); err != nil {
		return err
	}
	key, err := s.identityKey(ctx)
	if err != nil {
		return err
	}
	s.identities = identitypool.New(identitypool.Config{Store: s.db, Tokens: s.userpools, Sessions: s.iam, Key: key,
		Issuers: s.issuers, RoleIssuers: s.cfg.IdentityRoles, IssuerHost: s.site.baseURL()[len("https://"):], Clock: s.clock})
	s.iam.SetTokens(webIdentities{s})
	s.registry = registry.New(registry.Config{Store: s.db, Authority: s.authority, Keys: s.keys, Names: s.site.names(), Host: s.site.Host, BaseDomain: s.cfg.EndpointDomain, CredentialHost: cmp.Or(gateway.CredentialHost(s.site.Host), s.site.Host),
		TypeDeletionWait: s.cfg.ThingTypeWait})
	s.provision = provision.New(provision.Config{Store: s.db, Authority: s.authority, Keys: s.keys, Sealer: sealer, Permissions: s.iam,
		Hook: s.hooks, Recorder: s.recorder, Regions: s.site.regions(), Clock: s.clock, OnContained: s.metrics.Contained, Rates: s.strangers.provisioning(&s.cfg), OnRefuse: s.metrics.Refused,
		TemplateLint: provision.LintLevel(s.cfg.TemplateLint)})
	s.bulk = bulk.New(bulk.Config{Store: s.db, Provision: s.provision, Permissions: s.iam, Objects: s.objects, Folder: s.folder, Link: s.reportLink, Clock: s.clock, Log: s.log,
		OnLines: s.metrics.BulkLines, OnEnd: func(status store.RegistrationStatus) { s.metrics.BulkEnded(string(status)) }})
	s.logs = logs.New(logs.Config{Store: s.db, Permissions: s.iam, Clock: s.clock, Log: s.log})
	s.rules = s.newRules()
	s.gateway = gateway.New(gateway.Config{Store: s.db, Authority: s.authority, Provision: s.provision, Recorder: s.recorder, Logs: s.logs, Work: &s.devices,
		Door: s.strangers.door, Connections: s.strangers.budgets.Connections, Violations: s.strangers.violations(), Filters: rate(s.strangers.budgets.Subscriptions, 2), OnFull: func() { s.metrics.Refused(budgetConnections) },
		OnHandshake: s.handshakeDone, OnRequest: s.flowDone, OnFirstConnection: s.metrics.FirstConnection, HoldFirstConnect: s.cfg.HoldFirstConnect, OnEnd: s.countEnd, Rules: s.rules, Limits: s.cfg.limits(), Denied: s.cfg.denied(),
		Home: s.site.Scope, OwnNames: s.cfg.EndpointDomain != "", HostNames: s.site.names(), Clock: s.clock, Log: s.log})
	s.verifier = &sigv4.Verifier{Region: s.site.Scope.Region, Regions: s.site.Regions, Clock: s.clock}
	return nil
}

// listen serves both ports and the administration socket.
func (s *Server) listen(context.Context) error {
	s.db.Listen(s.domainsChanged)
	s.handled = sync.OnceValue(s.handler)
	s.wg.Go(func() { s.handled() }) // devices, and handshakes, need not wait for it
	serving := func() *http.Server {
		return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handled().ServeHTTP(w, r) }), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 2 * time.Minute,
			IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 100}, ConnContext: onConnection,
			ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	}
	s.http, s.inner = serving(), serving()
	s.wg.Go(func() { s.report(s.calls.serve(s.inner)) })
	web := s.gateway.ServeHTTPS(s.ports.https)
	s.wg.Go(func() { s.report(s.http.Serve(web)) })
	if s.ports.devices != nil {
		devices := s.gateway.ServeDeviceHTTPS(s.ports.devices)
		s.wg.Go(func() { s.report(s.http.Serve(devices)) })
	}
	s.wg.Go(func() { s.report(s.gateway.ServeMQTT(s.ports.mqtt)) })
	if err := s.listenAdmin(); err != nil {
		return err
	}
	return s.listenMetrics()
}

// work starts the background work.
func (s *Server) work() {
	background, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.wg.Go(func() { s.sweep(background) })
	s.wg.Go(func() { s.deliver(background) })
	s.wg.Go(func() { s.userpools.RunImports(background) })
	s.wg.Go(func() { s.publishEvents(background) })
	s.wg.Go(func() { s.renew(background) })
	s.wg.Go(func() { s.settle(background) })
	s.wg.Go(func() { s.bulk.Run(background) })
}

// report passes on why a listener ended, unless it was closed.
func (s *Server) report(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		s.failed <- err
	}
}

// Failed tells when a listener has failed, or another server has had the database: this one is of no use any more.
func (s *Server) Failed() <-chan error { return s.failed }

// Env is what clients need to know of the server. It holds a key only on loopback.
func (s *Server) Env() Env { return s.env }

// Scope is the first account in the server's region.
func (s *Server) Scope() fleet.Scope { return s.site.Scope }

// writeEnv writes the environment file. Away from loopback there is none: a key on a disk that nobody asked for would be a gift
// to whoever finds it.
func (s *Server) writeEnv(ctx context.Context) error {
	alpn := strconv.Itoa(s.site.HTTPSPort)
	s.env = Env{{"AWS_ENDPOINT_URL", s.site.baseURL()}, {"AWS_REGION", s.site.Scope.Region}}
	if s.site.loopback() {
		id, secret, err := s.localKey(ctx)
		if err != nil {
			return err
		}
		s.env = append(s.env, Var{"AWS_ACCESS_KEY_ID", id}, Var{"AWS_SECRET_ACCESS_KEY", secret.Reveal()})
	}
	s.env = append(s.env, Var{"AWS_CA_BUNDLE", filepath.Join(s.cfg.Data, RootsFile)}, Var{"IOT_ENDPOINT", s.site.Host},
		Var{"IOT_PORT", strconv.Itoa(s.site.MQTTPort)}, Var{"IOT_ALPN_PORT", alpn}, Var{"IOT_WSS_PORT", alpn})
	if s.site.CertPort != 0 {
		s.env = append(s.env, Var{"IOT_HTTPS_CERT_PORT", strconv.Itoa(s.site.CertPort)})
	}
	if !s.site.loopback() {
		return nil
	}
	for _, path := range []string{filepath.Join(s.cfg.Data, EnvFile), s.cfg.EnvFile} {
		if path != "" {
			if err := s.env.WriteFile(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// localKey returns the administrator's key of this machine: that of the last start if it still works, else a new one.
func (s *Server) localKey(ctx context.Context) (id string, secret fleet.Secret, err error) {
	const setting = "local-administrator-key"
	if err := s.db.View(ctx, func(tx *store.Tx) error {
		id, err = tx.Setting(setting)
		return err
	}); err != nil {
		return "", "", err
	}
	if id != "" {
		if c, err := s.iam.Lookup(ctx, s.site.Scope.Region, id, ""); err == nil {
			return id, c.Secret, nil
		}
	}
	if id, secret, err = s.iam.Bootstrap(ctx, s.site.Scope); err != nil {
		return "", "", err
	}
	return id, secret, s.db.Tx(ctx, func(tx *store.Tx) error { return tx.PutSetting(setting, id) })
}

// Banner says in a few lines where the server is and how to go on.
func (s *Server) Banner() string {
	where := fmt.Sprintf("imprint serves %s (API, MQTT by ALPN) and %s (MQTT over TLS), account %s, region %s\n  data: %s\n  %s\n",
		s.site.baseURL(), net.JoinHostPort(s.site.Host, strconv.Itoa(s.site.MQTTPort)), s.site.Scope.Account, s.site.Scope.Region,
		s.cfg.Data, s.masterKey.Meaning())
	if s.site.loopback() {
		return where + fmt.Sprintf("  use it: eval \"$(imprint env --data %s)\", then imprint aws iot list-things\n", s.cfg.Data)
	}
	return where + fmt.Sprintf("  a key: imprint admin create-key --data %[1]s\n  roots for devices: imprint ca --data %[1]s\n", s.cfg.Data)
}
