package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/api/cognitoidp"
	"github.com/imprint-iot/imprint/internal/api/s3"
	"github.com/imprint-iot/imprint/internal/gateway"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Budgets bound what strangers may cost, so that everything else stays within twice its latency under a flood. Negative numbers
// are no bound. docs/operating.md says what happens to those who find a budget used up.
type Budgets struct {
	PendingConnections int `name:"limit-pending" help:"Connections of which nothing is known yet (default: an eighth of the open files allowed, at most 4096)." placeholder:"N"`
	Connections        int `name:"limit-connections" help:"MQTT connections (default: 512 less than the open files allowed)." placeholder:"N"`

	HandshakesPerAddress int `name:"limit-handshakes" help:"Handshakes in vain a second for each address, ten times as many at once; others wait." default:"50" placeholder:"N"`
	HandshakesTotal      int `name:"limit-handshakes-total" help:"The same for all addresses together that are not known, four times as many at once (default: 100 for each processor)." placeholder:"N"`
	HandshakesSlow       int `name:"limit-handshakes-slow" help:"Percent of one processor for the handshakes of those who have to wait." default:"25" placeholder:"N"`

	RequestsPerAddress int `name:"limit-requests" help:"Requests in vain a second for each address, ten times as many at once." default:"50" placeholder:"N"`
	RequestsTotal      int `name:"limit-requests-total" help:"The same for all addresses together that are not known, four times as many at once." default:"500" placeholder:"N"`
	UploadMemory       int `name:"limit-upload-memory" help:"MiB of code of functions that is being received." default:"80" placeholder:"N"`
	BodyMemory         int `name:"limit-body-memory" help:"MiB of large requests that are being received or answered." default:"64" placeholder:"N"`

	SignIns        int `name:"limit-sign-ins" help:"Sign-ins that are computed at a time (default: half of the processors)." placeholder:"N"`
	SignInsWaiting int `name:"limit-sign-ins-waiting" help:"Sign-ins that wait for their turn." default:"256" placeholder:"N"`
	Guesses        int `name:"limit-guesses" help:"Wrong passwords and codes a minute for each address." default:"20" placeholder:"N"`
	SignUps        int `name:"limit-sign-ups" help:"Accounts and codes asked for a minute for each address, thirty times as many in all." default:"20" placeholder:"N"`

	Provisioning        int `name:"limit-provisioning" help:"Provisioning requests a second for each address, two for each device, ten times as many at once." default:"200" placeholder:"N"`
	ProvisioningClaim   int `name:"limit-provisioning-claim" help:"The same for each claim or bootstrap certificate." default:"200" placeholder:"N"`
	ProvisioningAccount int `name:"limit-provisioning-account" help:"The same for each account." default:"2000" placeholder:"N"`

	Violations    int `name:"limit-violations" help:"Connections a minute that end for what the client did, for each certificate and address, a sixth as many at once; more wait before their CONNECT is read." default:"60" placeholder:"N"`
	Subscriptions int `name:"limit-subscriptions" help:"Filters to subscribe to and unsubscribe from a second for each certificate or user and address, twice as many at once; more wait." default:"500" placeholder:"N"`

	KeysWaiting int `name:"limit-keys-waiting" help:"Requests that wait for an RSA key." default:"128" placeholder:"N"`
}

// Names of budgets in the metrics, beside those of userpool.
const (
	budgetPending     = "pending_connections"
	budgetConnections = "connections"
	budgetHandshakes  = "handshakes"
	budgetRequests    = "requests"
	budgetBodies      = "bodies"
	budgetUploads     = "uploads"
)

// withDefaults fills in what depends on the machine.
func (b Budgets) withDefaults() Budgets {
	const reserve = 512 // for requests, the store and the rest
	files := openFiles()
	if b.PendingConnections == 0 {
		b.PendingConnections = min(max(files/8, 64), 4096)
	}
	if b.HandshakesTotal == 0 {
		b.HandshakesTotal = 100 * runtime.GOMAXPROCS(0)
	}
	if b.Connections == 0 {
		b.Connections = max(files-reserve, files/2)
	}
	return b
}

// handshakesAtOnce on each processor: few, so that others need not wait behind them, and more than one, since a turn lasts while its
// owner waits for a processor or for the store.
const handshakesAtOnce = 4

// openFiles is how many files and sockets this process may have.
func openFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<20 {
		return 1 << 20
	}
	return int(l.Cur)
}

// strangers is the admission of a server.
type strangers struct {
	budgets  Budgets
	trusted  []netip.Prefix
	proxies  []netip.Prefix
	door     *admission.Door
	requests *admission.Meter
	bodies   *admission.Bytes
	uploads  *admission.Bytes
	refused  func(budget string)
}

func newStrangers(c Config, refused, slowed func(budget string)) (*strangers, error) {
	s := &strangers{budgets: c.Budgets.withDefaults(), refused: refused}
	var err error
	if s.trusted, err = admission.ParseTrusted(c.TrustedAddresses); err != nil {
		return nil, fmt.Errorf("trusted addresses: %w", err)
	}
	if s.proxies, err = admission.ParseTrusted(c.TrustedProxies); err != nil {
		return nil, fmt.Errorf("trusted proxies: %w", err)
	}
	b := s.budgets
	count := func(budget string) func() { return func() { refused(budget) } }
	rates := func(per, all int) (admission.Rate, admission.Rate) { return rate(per, 10), rate(all, 4) }
	// A proxy's connections are not one address's.
	direct := append(append([]netip.Prefix{}, s.trusted...), s.proxies...)
	per, all := rates(b.HandshakesPerAddress, b.HandshakesTotal)
	s.door = &admission.Door{
		Room: admission.NewRoom(unbound(b.PendingConnections), count(budgetPending)),
		Queue: admission.NewQueue(admission.QueueConfig{Running: handshakesAtOnce * runtime.GOMAXPROCS(0), Meter: admission.NewMeter(per, all, direct, nil),
			Slow: float64(b.HandshakesSlow) / 100, OnRefuse: count(budgetHandshakes), OnSlow: func() { slowed(budgetHandshakes) }}),
	}
	per, all = rates(b.RequestsPerAddress, b.RequestsTotal)
	s.requests = admission.NewMeter(per, all, s.trusted, nil)
	s.bodies = &admission.Bytes{Max: int64(unbound(b.BodyMemory)) << 20, OnRefuse: count(budgetBodies)}
	s.uploads = &admission.Bytes{Max: int64(unbound(b.UploadMemory)) << 20, OnRefuse: count(budgetUploads)}
	return s, nil
}

// provisioning is how fast devices may be provisioned.
func (s *strangers) provisioning(c *Config) provision.Rates {
	r := provision.Rates{Claim: rate(s.budgets.ProvisioningClaim, 10), Address: rate(s.budgets.Provisioning, 10), Account: rate(s.budgets.ProvisioningAccount, 10),
		Trusted: s.trusted}
	if c.Limits == "aws" {
		r.AWS = provision.AWSRates()
	}
	return r
}

// violations is how often a certificate may be disconnected for what it did.
func (s *strangers) violations() admission.Rate {
	r := rate(s.budgets.Violations, 10) // a sixth of a minute's
	r.PerSecond, r.Burst = r.PerSecond/60, r.Burst/60
	return r
}

func rate(n int, burst float64) admission.Rate {
	if n < 0 {
		return admission.Rate{}
	}
	return admission.Rate{PerSecond: float64(n), Burst: burst * float64(n)}
}

// unbound makes a number of what is no bound.
func unbound(n int) int {
	if n < 0 {
		return 1 << 30
	}
	return n
}

// A stranger is a request whose sender is counted as a stranger until they have proven who they are.
type stranger struct {
	of      *strangers
	address admission.Address
	visit   *admission.Visit // the connection
}

type strangerKey struct{}
type visitKey struct{}

// onConnection remembers the visit below a connection of the HTTPS port, or the device that it is of.
func onConnection(ctx context.Context, c net.Conn) context.Context {
	ctx = gateway.WithDevice(ctx, c)
	if tc, ok := c.(*tls.Conn); ok {
		if v, ok := tc.NetConn().(*admission.Visit); ok {
			return context.WithValue(ctx, visitKey{}, v)
		}
	}
	return ctx
}

// A sign-in at a user pool and an identity pool is five requests, of which only the last ones prove something.
const worthOfProof = 5

// proven says that the sender of the request that ctx belongs to has proven who they are.
func (s *strangers) proven(ctx context.Context) {
	st, ok := ctx.Value(strangerKey{}).(*stranger)
	if !ok {
		return
	}
	s.requests.Worth(st.address, worthOfProof)
	st.visit.Welcome()
}

// admit lets requests in within the budgets.
func (s *strangers) admit(front *wire.Frontend, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.forwarded(r)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		st := &stranger{of: s, address: admission.AddressOf(host)}
		st.visit, _ = r.Context().Value(visitKey{}).(*admission.Visit)
		if standing, after := s.requests.Standing(st.address); standing == admission.Bad {
			s.refused(budgetRequests)
			after = max(after, time.Second)
			st.visit.Hold(r.Context(), after)     // whoever does not wait before the next one waits for this
			w.Header().Set("Connection", "close") // the next one begins with a handshake, which has a budget, too
			if r.Method == http.MethodOptions {   // a browser tells its page why a request was refused, never why a preflight was
				front.ServeHTTP(w, r)
				return
			}
			front.Refuse(w, r, admission.Refused("too many requests from this address have come to nothing. Try again later", after))
			return
		}
		s.requests.Charge(st.address)
		r = r.WithContext(context.WithValue(r.Context(), strangerKey{}, st))
		// Uploads go to the store part by part, and few are let in at a time; objects go to the disk, whose room is looked at.
		if cognitoidp.IsUpload(r) || s3.Serves(r) {
			next.ServeHTTP(w, r)
			return
		}
		budget := s.bodies
		if front.Large(r) {
			budget = s.uploads
		}
		body := budget.Body(r.Body)
		defer body.Release()
		r.Body = body
		next.ServeHTTP(w, r)
		if body.Taken() > uploadToFree { // before the next one is let in: the collector would wait until the heap has doubled
			runtime.GC() // takes what it was from the pools that hold it, such as that of archive/zip
			debug.FreeOSMemory()
		}
	})
}

// uploadToFree is how many bytes a request must have had for its memory to be given back at once.
const uploadToFree = 8 << 20

// forwarded takes the address of a request that came through a proxy that we trust: the last one that the proxies did not add
// for themselves.
func (s *strangers) forwarded(r *http.Request) {
	host, port, _ := net.SplitHostPort(r.RemoteAddr)
	if len(s.proxies) == 0 || !listed(s.proxies, host) {
		return
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop := strings.TrimSpace(hops[i])
		ip, err := netip.ParseAddr(hop)
		if err != nil || ip.Zone() != "" {
			return
		}
		if !listed(s.proxies, hop) {
			r.RemoteAddr = net.JoinHostPort(ip.Unmap().String(), port)
			return
		}
	}
}

func listed(list []netip.Prefix, host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, p := range list {
		if p.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}
