package function

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An API is what functions may call beside their Runtime API: that of the server that they run on, with credentials of their role.
// DESIGN.md, "The way to the API", says how they come there, and that they come nowhere else.
type API interface {
	// Credentials makes temporary credentials of the role of a function. It fails with ErrRole if the role does not let functions
	// have any.
	Credentials(ctx context.Context, code Code) (Credentials, error)
	// Hold reports whether credentials are good, and will be in d as far as that is known now.
	Hold(ctx context.Context, c Credentials, d time.Duration) bool
	// Address says where a function finds the API.
	Address(code Code) (Address, error)
	// Serve takes over a connection of a function that runs code.
	Serve(c net.Conn, code Code)
}

// ErrRole says that a function cannot have its role.
var ErrRole = errors.New("role")

// Credentials are what a function signs its calls with. A process keeps those that it was started with, as in AWS.
type Credentials struct {
	AccessKeyID   string
	Secret, Token fleet.Secret
}

// An Address is where an API is.
type Address struct {
	Host  string   // by which everybody calls it: a name or an address
	Port  int      // of HTTPS
	Names []string // by which clients call AWS, on port 443, that do not ask for another place; in a network of the function's own only
	Roots []byte   // PEM, to know it by
}

// Credentials of a process that is to wait for another event must last for its timeout and for reserve, so that it does not begin
// what they do not last for; the process is replaced in good time, so that no event waits for that.
const (
	reserve    = time.Minute
	renewAhead = 10 * time.Minute
)

// credentials makes those of a process that is about to start.
func (r *Runner) credentials(ctx context.Context, code Code) (Credentials, error) {
	if r.API == nil {
		return Credentials{}, nil
	}
	return r.API.Credentials(ctx, code)
}

// hold reports whether a worker may be given another event, as far as its credentials go.
func (r *Runner) hold(ctx context.Context, w *worker, ahead time.Duration) bool {
	return r.API == nil || r.API.Hold(ctx, w.credentials, w.code.Timeout+ahead)
}

const (
	awsPort   = 443 // by which AWS is called
	rootsFile = "ca.pem"
	maxCalls  = 64 // connections of a process to an API at a time; others wait
)

// doors are the listeners through which a function comes to the API. They are there once its process has opened them.
type doors interface {
	open() []net.Listener
	Close() error
}

// ownNetwork reports whether a function has a network of its own, with nothing in it but what we put there.
func (s *spec) ownNetwork() bool { return s.Layers&namespaces != 0 && !s.Network }

// lead makes the way to an API: the ports that are opened for the function in its own network, the names that lead there, and the roots.
func (s *spec) lead(a Address) {
	s.Files[rootsFile] = a.Roots
	s.Connect = []int{a.Port}
	if !s.ownNetwork() {
		return
	}
	s.Hosts = slices.Clone(a.Names)
	if net.ParseIP(a.Host) == nil && a.Host != "localhost" {
		s.Hosts = append(s.Hosts, a.Host)
	}
	if len(a.Names) > 0 && a.Port != awsPort {
		s.Connect = append(s.Connect, awsPort)
	}
	s.Doors = s.Connect
}

// origin is the URL by which a function calls the API. The name that everybody uses can be led to its own network; an address cannot, and
// without any network names that only a name server knows lead nowhere. The API is always localhost, too.
func (s *spec) origin(a Address) string {
	host, address := a.Host, net.ParseIP(a.Host) != nil
	if !s.Network && s.ownNetwork() == address {
		host = "localhost"
	}
	if a.Port == awsPort {
		if address && host == a.Host && net.ParseIP(host).To4() == nil {
			host = "[" + host + "]"
		}
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(a.Port))
}

// variables are those by which AWS's SDKs find the API, and know it.
func (s *spec) variables(a Address) map[string]string {
	roots := s.runtimeFile(rootsFile)
	v := map[string]string{"AWS_ENDPOINT_URL": s.origin(a), "AWS_CA_BUNDLE": roots, "NODE_EXTRA_CA_CERTS": roots}
	if !s.Network { // else there are others to be known
		v["SSL_CERT_FILE"] = roots
	}
	return v
}

// secrets are the variables that make a function its role.
func (c Credentials) secrets() map[string]string {
	if c.AccessKeyID == "" {
		return nil
	}
	return map[string]string{"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.Secret.Reveal(), "AWS_SESSION_TOKEN": c.Token.Reveal()}
}

// usher hands the connections that the function opens over to api, until its process has ended.
func (w *worker) usher(d doors, api API) {
	room := make(chan struct{}, maxCalls)
	for _, l := range d.open() {
		go w.pass(l, api, room)
	}
}

func (w *worker) pass(door net.Listener, api API, room chan struct{}) {
	for {
		c, err := door.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, most likely
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-w.gone:
				return
			}
		}
		select {
		case room <- struct{}{}:
			api.Serve(&call{Conn: c, leave: sync.OnceFunc(func() { <-room })}, w.code)
		case <-w.gone:
			_ = c.Close()
			return
		}
	}
}

// call is a connection of a function.
type call struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *call) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite is what net/http ends an answer with to a client that still sends.
func (c *call) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
