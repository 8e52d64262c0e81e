package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Names that clients offer by ALPN for MQTT (iot-core spec 6.1). Clients without ALPN are welcome on the MQTT port.
const (
	alpnMQTTCert   = "x-amzn-mqtt-ca"
	alpnMQTTCustom = "mqtt"
)

func isMQTT(alpn string) bool { return alpn == alpnMQTTCert || alpn == alpnMQTTCustom }

// An arrival is a connection from its first byte until its CONNECT was decided.
type arrival struct {
	address string
	port    int              // of the peer, while it speaks MQTT
	client  string           // its client id, once it is connected
	visit   *admission.Visit // nil for a WebSocket
	who     identity
	trace   *trace.Trace
	refusal error    // why the handshake was refused
	cause   string   // of the refusal, in a word
	serial  *big.Int // of the certificate, until the handshake is over
	hello   *hello   // until the handshake is over
	mqtt    bool     // it speaks MQTT, on the port that all share
	// unknownName is the server name that the client asked for, if it is none of ours.
	unknownName string
	wrongDoor   string // what is not served where the client came, to the domain that it asked for
	https       bool   // it speaks HTTPS, not MQTT
	thing       string // the thing that the certificate stands for whatever the client id is

	once sync.Once
}

// finish closes the arrival's trace with its outcome; later calls do nothing.
func (a *arrival) finish(g *Gateway, err error) {
	a.once.Do(func() { g.Recorder.Finish(a.trace, err) })
}

// identity is who is at the other end.
type identity struct {
	scope     fleet.Scope
	principal string // certificate id
	sni       string
	facts     *pki.Facts
	claim     *fleet.Claim // nil: a registered certificate
	renews    *renewal     // nil: a claim, or a certificate that has not expired

	newcomer *provision.Newcomer // nil: the certificate is no stranger's
}

func (i identity) arn() string { return i.scope.IoT("cert", i.principal) }

// baseTLS is what all our listeners share: no session tickets (iot-core spec 6.3), the server's certificate as of now.
func (g *Gateway) baseTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: g.Authority.GetCertificate, SessionTicketsDisabled: true, Time: g.Clock.Now}
}

// mqttTLS asks for a client certificate without naming authorities, since any may be registered, and identifies it during the
// handshake, so that a stranger gets a TLS alert and not one MQTT byte.
func (g *Gateway) mqttTLS(a *arrival) *tls.Config {
	c := g.baseTLS()
	c.NextProtos = []string{alpnMQTTCert, alpnMQTTCustom}
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(st tls.ConnectionState) error {
		if a.who, a.refusal = g.identify(a, st); a.refusal != nil {
			g.deter(a)
		}
		return a.refusal
	}
	c.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certificateFor(a, h) }
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		a.greet(h)
		return g.throughDomain(a, doorMQTT, c, h)
	}
	return c
}

// eitherTLS is for the port that HTTPS and MQTT share.
func (g *Gateway) eitherTLS(a *arrival) *tls.Config {
	c := g.baseTLS()
	c.NextProtos = []string{"h2", "http/1.1"}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		a.greet(hello)
		chosen := c
		if slices.ContainsFunc(hello.SupportedProtos, isMQTT) {
			chosen, a.mqtt = g.mqttTLS(a), true
		} else if slices.Contains(hello.SupportedProtos, alpnHTTPCert) || g.forCredentials(serverName(hello.ServerName)) {
			chosen = g.deviceTLS(a)
		}
		if own, err := g.throughDomain(a, doorShared, chosen, hello); own != nil || err != nil {
			return own, err
		}
		return chosen, nil
	}
	return c
}

// certificateFor gives no certificate for a server name that is none of ours, which crypto/tls answers with the alert
// unrecognized_name: a device that names the wrong host should learn so at once (iot-core spec 6.3).
func (g *Gateway) certificateFor(a *arrival, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, err := g.Authority.GetCertificate(hello)
	name := serverName(hello.ServerName)
	if err != nil || name == "" || slices.Contains(g.HostNames, name) || cert.Leaf != nil && cert.Leaf.VerifyHostname(name) == nil {
		return cert, err
	}
	a.unknownName = name
	return nil, nil
}

// serverName is the normal form of a name by SNI.
func serverName(sni string) string { return strings.TrimSuffix(strings.ToLower(sni), ".") }

// Causes of failed handshakes, for OnHandshake. A peer that speaks no acceptable TLS, or wants none of ours, is causeTLS.
const (
	causeUnreadable   = "unreadable"   // the certificate cannot be read
	causeUnregistered = "unregistered" // neither a registered certificate nor a claim
	causeServerName   = "server_name"  // the certificate needs SNI, which names none of its accounts
	causePending      = "pending"      // issued, never registered
	causeRevoked      = "revoked"
	causeInactive     = "inactive"
	causeNotValid     = "not_valid_now" // outside of its validity
	causeClaimExpired = "claim_expired"
	causeClaimRefused = "claim_refused" // withdrawn, or its installer's right has ended
	causeInternal     = "internal"      // our fault
	causeTimeout      = "timeout"
	causeBusy         = "busy"   // too many strangers are here
	causeClosed       = "closed" // by the peer, before the end
	causeTLS          = "tls"
)

// causeOf words how a handshake ended; "" is success.
func (a *arrival) causeOf(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return ""
	case a.refusal != nil && fleet.KindOf(a.refusal) != fleet.KindDenied:
		return causeInternal
	case a.refusal != nil && a.cause == "":
		return causeClaimRefused
	case a.refusal != nil:
		return a.cause
	case a.visit.Busy():
		return causeBusy
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return causeTimeout
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return causeClosed
	}
	return causeTLS
}

// refuse refuses the handshake for one of the causes above.
func (a *arrival) refuse(cause, text string, args ...any) error {
	a.cause = cause
	return refuse(text, args...)
}

func refuse(cause string, args ...any) error {
	return fleet.Denied(cause, args...).WithCode("CERTIFICATE_REFUSED")
}

// identify says whose certificate the peer has proved to own: a registered one, by its fingerprint, else a claim. Chains are not
// built: what counts is that the certificate is registered (iot-core spec 6.3).
func (g *Gateway) identify(a *arrival, st tls.ConnectionState) (identity, error) {
	leaf := st.PeerCertificates[0]
	i := identity{scope: g.Home, principal: fleet.CertificateID(leaf.Raw), sni: serverName(st.ServerName)}
	a.trace = trace.New(g.Home, trace.Connect, g.Clock)
	a.trace.Fact("sourceIp", a.address)
	a.trace.Fact("certificateId", i.principal)
	a.serial = leaf.SerialNumber
	var err error
	var registered []store.ScopedCertificate
	var claim store.ScopedClaim
	var isClaim bool
	err = g.Store.View(g.ctx, func(tx *store.Tx) error {
		if registered, err = tx.CertificatesByID(i.principal); err != nil || len(registered) > 0 {
			return err
		}
		claim, isClaim, err = tx.ClaimByID(i.principal)
		return err
	})
	switch {
	case err != nil:
		return i, err
	case isClaim: // what is in it is known: it is ours
		return g.admitClaim(a, i, claim)
	}
	if i.facts, err = pki.NewFacts(leaf); err != nil {
		return i, a.refuse(causeUnreadable, "the certificate cannot be read: %v", err)
	}
	if len(registered) > 0 {
		return g.admitCertificate(a, i, leaf, registered)
	}
	return g.admitUnknown(a, i, leaf)
}

func (g *Gateway) admitCertificate(a *arrival, i identity, leaf *x509.Certificate, registered []store.ScopedCertificate) (identity, error) {
	c, found, err := g.choose(i.sni, leaf, registered)
	if err != nil {
		return i, err
	}
	if !found && c.Scope != (fleet.Scope{}) && !a.https { // others have registered it
		as, err := g.admitNewcomer(a, i, provision.Place{Scope: c.Scope}, leaf)
		if err == nil || fleet.KindOf(err) != fleet.KindDenied {
			return as, err
		}
	}
	if !found {
		a.trace.SetCure("connect to the full endpoint name that DescribeEndpoint gives, with SNI")
		return i, a.refuse(causeServerName, "the certificate is registered for use with SNI, and the server name %q names no endpoint of its accounts", i.sni)
	}
	i.scope = c.Scope
	a.trace.Scope = c.Scope
	a.trace.Step("certificate", "registered in account %s, %s", c.Scope.Account, c.Status)
	now := g.Clock.Now()
	switch {
	case c.Status == fleet.PendingActivation && c.CAID != "" && !a.https:
		return g.admitWaiting(a, i, leaf, c)
	case c.Status == fleet.PendingActivation:
		a.trace.SetCure("register the thing with the ownership token that came with the certificate, then reconnect")
		return i, a.refuse(causePending, "the certificate was issued but never registered (PENDING_ACTIVATION)")
	case c.Status == fleet.Revoked:
		a.trace.SetCure("provision the device anew, with a new certificate: a revoked one stays revoked")
		if g.contained(c) {
			return i, a.refuse(causeRevoked, "the certificate is REVOKED: it came from a claim that was contained")
		}
		return i, a.refuse(causeRevoked, "the certificate is REVOKED")
	case c.Status != fleet.Active:
		a.trace.SetCure("aws iot update-certificate --certificate-id %s --new-status ACTIVE, if it may be used again", i.principal)
		return i, a.refuse(causeInactive, "the certificate is %s", c.Status)
	case now.After(leaf.NotAfter):
		return g.admitExpired(a, i, leaf, now)
	case now.Before(leaf.NotBefore):
		return i, a.notValid(leaf, now)
	}
	return i, nil
}

func (a *arrival) notValid(leaf *x509.Certificate, now time.Time) error {
	a.trace.SetCure("provision the device anew, with a new certificate, unless it is the server's clock that is wrong")
	return a.refuse(causeNotValid, "the certificate is valid from %s to %s, and it is %s", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339), now.Format(time.RFC3339))
}

// contained reports whether a certificate lost its power with the claim that it came from.
func (g *Gateway) contained(c store.ScopedCertificate) (yes bool) {
	_ = g.Store.View(g.ctx, func(tx *store.Tx) error { // it is refused in any case
		reg, found, err := tx.Registration(c.Scope, c.ID)
		yes = found && !reg.Contained.IsZero()
		return err
	})
	return yes
}

func (g *Gateway) admitClaim(a *arrival, i identity, c store.ScopedClaim) (identity, error) {
	i.scope, i.claim = c.Scope, &c.Claim
	a.trace.Scope = c.Scope
	a.trace.Fact("claimId", c.ID)
	a.trace.Fact("template", c.Template)
	a.trace.Fact("installer", c.Installer.Who())
	if now := g.Clock.Now(); now.After(c.Expires) {
		a.trace.SetCure("ask for a new claim: it is good for five minutes")
		return i, a.refuse(causeClaimExpired, "the claim expired at %s", c.Expires.Format(time.RFC3339))
	}
	a.who = i
	if err := g.checkClaim(g.ctx, a); err != nil {
		return i, err
	}
	a.trace.Step("claim", "for template %s, until %v", c.Template, c.Expires)
	return i, nil
}

// choose finds the registration that a connection is for (provisioning spec 7.5). One that needs no server name has it, unless
// the server name is another account's: whoever registers a stranger's certificate in an account of their own must not get its
// device, nor keep it away. Of those that do need a name the server name decides. scope is set, and found not, where the
// certificate belongs to an account that has not registered it yet.
func (g *Gateway) choose(sni string, leaf *x509.Certificate, registered []store.ScopedCertificate) (c store.ScopedCertificate, found bool, err error) {
	if len(registered) == 1 && registered[0].Mode != fleet.ModeSNIOnly {
		return registered[0], true, nil
	}
	in := func(scope fleet.Scope) (store.ScopedCertificate, bool) {
		at := slices.IndexFunc(registered, func(r store.ScopedCertificate) bool { return r.Scope == scope })
		if at < 0 {
			return store.ScopedCertificate{Scope: scope}, false
		}
		return registered[at], true
	}
	if sni != "" && !g.isHost(sni) {
		scope, known, err := g.scopeOf(sni)
		if err != nil || !known {
			return c, false, err
		}
		c, found = in(scope)
		return c, found, nil
	}
	if at := slices.IndexFunc(registered, func(r store.ScopedCertificate) bool { return r.Mode != fleet.ModeSNIOnly }); at >= 0 {
		return registered[at], true, nil
	}
	if !g.isHost(sni) {
		return c, false, nil
	}
	// The name is one that all accounts have (registry.Service.Endpoint). Anybody can register anybody's certificate with
	// SNI_ONLY, so who has proven to hold the key of its CA comes first, then the account that the name belongs to. Where
	// accounts have names of their own, that is all; else whoever came first has the device.
	owners, err := g.Provision.Owners(g.ctx, leaf)
	if err != nil {
		return c, false, err
	}
	for _, owner := range owners {
		if c, found = in(owner); found {
			return c, true, nil
		}
	}
	if len(owners) > 0 {
		return store.ScopedCertificate{Scope: owners[0]}, false, nil
	}
	if c, found = in(g.Home); found || g.OwnNames {
		return c, found, nil
	}
	return slices.MinFunc(registered, func(a, b store.ScopedCertificate) int { return a.Created.Compare(b.Created) }), true, nil
}

// scopeOf finds the account that an endpoint name belongs to: its own domain, or one whose first label is the account's prefix,
// with or without "-ats".
func (g *Gateway) scopeOf(sni string) (scope fleet.Scope, found bool, err error) {
	if d, found, err := g.domainOf(sni); found || err != nil {
		return d.Scope, found, err
	}
	prefix, _, _ := strings.Cut(sni, ".")
	if prefix = strings.TrimSuffix(prefix, "-ats"); prefix == "" {
		return scope, false, nil
	}
	err = g.Store.View(g.ctx, func(tx *store.Tx) error {
		scope, found, err = tx.ScopeOfEndpoint(prefix)
		return err
	})
	return scope, found, err
}

// isHost reports whether a client that sent this server name means the host as a whole. To an address clients send no name.
func (g *Gateway) isHost(sni string) bool {
	if sni == "" {
		return slices.ContainsFunc(g.HostNames, func(n string) bool { return net.ParseIP(n) != nil })
	}
	return slices.Contains(g.HostNames, sni)
}
