package server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/function"
	"github.com/imprint-iot/imprint/internal/iam"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/policy"
)

// functionAPI is the APIs of this server as functions have them: by connections that package function brings from their
// sandboxes, with credentials of their roles (decision 12). It serves what the HTTPS port serves to those who come without a
// certificate, and no MQTT by ALPN.
type functionAPI struct {
	*Server
	standIn func() (*pki.StandIn, error) // made when the first function runs: most servers have none
	seed    maphash.Seed                 // of addresses
	conns   chan net.Conn
	closed  chan struct{}
	end     func()
}

func newFunctionAPI(s *Server) *functionAPI {
	f := &functionAPI{Server: s, seed: maphash.MakeSeed(), conns: make(chan net.Conn), closed: make(chan struct{})}
	f.standIn = sync.OnceValues(func() (*pki.StandIn, error) { return pki.NewStandIn(s.clock) })
	f.end = sync.OnceFunc(func() { close(f.closed) })
	return f
}

const lambdaService = "lambda.amazonaws.com"

// functionSession is how long credentials of a function live. Its process is replaced before (function.Runner).
const functionSession = time.Hour

// scopeOfFunction is where a function belongs.
func scopeOfFunction(arn string) fleet.Scope {
	a, _ := fleet.ParseARN(arn)
	return fleet.Scope{Account: a.Account, Region: a.Region}
}

// Credentials implements function.API.
func (f *functionAPI) Credentials(ctx context.Context, code function.Code) (function.Credentials, error) {
	out, err := f.serviceSession(ctx, scopeOfFunction(code.ARN), code.Role, lambdaService, code.ARN, code.Name, functionSession)
	if err != nil && fleet.KindOf(err) == fleet.KindDenied {
		err = fmt.Errorf("%w: %s cannot be assumed by Lambda: it does not exist in this account, or its trust policy lacks %s", function.ErrRole, code.Role, lambdaService)
	}
	return function.Credentials{AccessKeyID: out.AccessKeyID, Secret: out.Secret, Token: out.Token}, err
}

// Hold implements function.API. Whoever ends sessions of the role ends those of its functions.
func (f *functionAPI) Hold(ctx context.Context, c function.Credentials, d time.Duration) bool {
	found, err := f.iam.Lookup(ctx, f.site.Scope.Region, c.AccessKeyID, c.Token.Reveal())
	return err == nil && found.Caller.Expires.After(f.clock.Now().Add(d))
}

// Address implements function.API.
func (f *functionAPI) Address(code function.Code) (function.Address, error) {
	standIn, err := f.standIn()
	if err != nil {
		return function.Address{}, err
	}
	return function.Address{Host: f.site.Host, Port: f.site.HTTPSPort, Names: functionHosts(scopeOfFunction(code.ARN).Region),
		Roots: []byte(f.authority.RootsPEM() + standIn.RootPEM())}, nil
}

// functionHosts are the host names by which libraries call AWS in a region that read no AWS_ENDPOINT_URL: boto3 before 1.28, SDK for
// JavaScript 2.
func functionHosts(region string) []string {
	names := awsHosts(region)
	for _, service := range []string{"data-ats.iot", "data.iot", "lambda"} {
		names = append(names, service+"."+region+".amazonaws.com")
	}
	return names
}

// Serve implements function.API.
func (f *functionAPI) Serve(c net.Conn, code function.Code) {
	conn := &functionConn{Conn: c, address: f.address(code.ARN), names: functionHosts(scopeOfFunction(code.ARN).Region)}
	select {
	case f.conns <- conn:
	case <-f.closed:
		_ = c.Close()
	}
}

// functionConn is a connection of a function.
type functionConn struct {
	net.Conn
	address net.Addr
	names   []string // of AWS's, that it may ask for
}

// RemoteAddr implements net.Conn.
func (c *functionConn) RemoteAddr() net.Addr { return c.address }

// address is where requests of a function come from, as budgets and traces see it. Not loopback, which may be listed as a proxy
// or as trusted, and not the same for all, or one could use up the budgets of the others: an address of RFC 3849, which nobody
// else has. Without the seed somebody could look for a name of a function with the address of another account's.
func (f *functionAPI) address(arn string) net.Addr {
	ip := net.IP{0x20, 0x01, 0x0d, 0xb8}
	ip = binary.BigEndian.AppendUint32(ip, uint32(maphash.String(f.seed, arn)))
	ip = append(ip, 0, 0, 0, 0, 0, 0, 0, 1)
	return &net.TCPAddr{IP: ip}
}

// certificate picks the certificate for a function: that of this server, or one for a name of AWS.
func (f *functionAPI) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c, ok := hello.Conn.(*functionConn); ok && slices.Contains(c.names, hello.ServerName) {
		standIn, err := f.standIn()
		if err != nil {
			return nil, err
		}
		return standIn.Certificate(hello.ServerName)
	}
	return f.authority.GetCertificate(hello)
}

// serve serves functions until Close.
func (f *functionAPI) serve(h *http.Server) error {
	h.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: f.certificate, SessionTicketsDisabled: true, Time: f.clock.Now}
	err := h.ServeTLS(f, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// Accept implements net.Listener.
func (f *functionAPI) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *functionAPI) Close() error {
	f.end()
	return nil
}

// Addr implements net.Listener.
func (f *functionAPI) Addr() net.Addr { return f.address("") }

// serviceSession makes credentials of a role that trusts a service, which acts for the resource source.
func (s *Server) serviceSession(ctx context.Context, scope fleet.Scope, role, service, source, name string, d time.Duration) (iam.Session, error) {
	return s.iam.IssueSession(ctx, iam.SessionRequest{Scope: scope, RoleARN: role, Name: name, Duration: d, Action: "sts:AssumeRole",
		Principal: policy.Principal{Service: service}, Context: policy.Context{"aws:SourceArn": {source}, "aws:SourceAccount": {scope.Account}}})
}
