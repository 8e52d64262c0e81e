package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
)

// admitNewcomer looks whether an unknown certificate may be registered, or one that waits be activated, by its connection. Nothing is
// written before the handshake is over: until then the peer has not proven to hold the key.
func (g *Gateway) admitNewcomer(a *arrival, i identity, at provision.Place, leaf *x509.Certificate) (identity, error) {
	n, err := g.Provision.Newcomer(g.ctx, at, leaf, a.trace)
	if err != nil {
		return i, err
	}
	n.SourceIP = a.address
	i.scope, i.newcomer = n.Scope, &n
	a.trace.Scope = n.Scope
	a.trace.Fact("caCertificateId", n.CA.ID)
	a.trace.Step("certificate", "signed by the registered CA %s", n.CA.ID)
	return i, nil
}

// admitUnknown is about a certificate that nobody has registered.
func (g *Gateway) admitUnknown(a *arrival, i identity, leaf *x509.Certificate) (identity, error) {
	at, found, err := g.placeOf(i.sni)
	why := "the connection names no account by SNI"
	switch {
	case err != nil:
		return i, err
	case !found:
		a.trace.SetCure("let the device send the full endpoint name that DescribeEndpoint gives by SNI: its first connection needs it")
	case a.https:
		why = "and only a connection over MQTT registers one"
	default:
		as, err := g.admitNewcomer(a, i, at, leaf)
		if err == nil || fleet.KindOf(err) != fleet.KindDenied {
			return as, err
		}
		why = err.Error()
	}
	v := g.Authority.VerifyLeaf(leaf.Raw, g.Clock.Now())
	a.trace.Step("certificate", "%s", v.Reason)
	a.trace.Step("registered CAs", "%s", why)
	a.trace.DefaultCure("register the certificate, or its CA with auto-registration, or provision the device anew: this service knows a certificate by its fingerprint, and this one was never registered or has been deleted")
	if why == provision.NotSigned {
		why = v.Reason
	}
	return i, a.refuse(causeUnregistered, "the certificate is not registered (%s)", why)
}

// admitWaiting is about a certificate that its first connection has registered: whoever shows it tells so again.
func (g *Gateway) admitWaiting(a *arrival, i identity, leaf *x509.Certificate, c store.ScopedCertificate) (identity, error) {
	as, err := g.admitNewcomer(a, i, provision.Place{Scope: c.Scope}, leaf)
	if err != nil && fleet.KindOf(err) == fleet.KindDenied {
		a.trace.SetCure("activate the certificate: aws iot update-certificate --certificate-id %s --new-status ACTIVE", i.principal)
		return i, a.refuse(causePending, "the certificate waits for its activation (PENDING_ACTIVATION), and its CA provisions no devices: %v", err)
	}
	return as, err
}

// placeOf finds out which accounts a server name stands for.
func (g *Gateway) placeOf(sni string) (at provision.Place, found bool, err error) {
	if g.isHost(sni) {
		return provision.Place{Scope: g.Home, Shared: true}, true, nil
	}
	at.Scope, found, err = g.scopeOf(sni)
	return at, found, err
}

// serveNewcomer registers the certificate of a device that has proven to hold its key, tells the fleet, and provisions the device
// if its CA has a template. By default the connection then ends without a CONNACK, as on AWS, where all that happens meanwhile
// (provisioning spec
// 7.2): the device connects again. With HoldFirstConnect a device that has been provisioned goes on.
func (g *Gateway) serveNewcomer(tc *tls.Conn, a *arrival) mqtt.End {
	welcome, err := g.settle(a)
	if welcome && g.HoldFirstConnect {
		return g.serveCertificate(tc, a)
	}
	a.finish(g, err)
	return g.broker.Serve(g.ctx, tc, mqtt.Identity{Scope: a.who.scope, Principal: a.who.principal, Access: leaveAgain{}})
}

// settle reports whether the device may connect now.
func (g *Gateway) settle(a *arrival) (welcome bool, err error) {
	g.Work.Add(1)
	defer g.Work.Add(-1)
	start := time.Now() // a duration; the clock may be moved
	n := *a.who.newcomer
	c, err := g.Provision.Arrive(g.ctx, n)
	if err != nil {
		return false, err
	}
	if c.Status == fleet.PendingActivation {
		g.announceRegistration(n, c)
		welcome, err = g.Provision.Settle(g.ctx, n)
		if g.OnFirstConnection != nil {
			g.OnFirstConnection(outcomeOf(welcome, err), time.Since(start))
		}
	} else {
		welcome = c.Status == fleet.Active
	}
	if err == nil {
		a.visit.Welcome()
	}
	switch {
	case err != nil:
	case welcome && g.HoldFirstConnect:
		a.trace.Step("first connection", "the certificate was registered and the device provisioned")
	case welcome:
		a.trace.Step("first connection", "the certificate was registered and the device provisioned; the connection ends without CONNACK, as on AWS, and the device connects again")
	default:
		a.trace.Step("first connection", "the certificate waits for its activation (PENDING_ACTIVATION); the CA has no template, so it is for whoever listens to %s to do that",
			fleet.RegisteredTopic+n.CA.ID)
	}
	return welcome, err
}

// Outcomes of first connections, for OnFirstConnection.
const (
	firstProvisioned = "provisioned" // by the template of the CA
	firstWaits       = "waits"       // the CA has no template
	firstFailed      = "failed"
)

func outcomeOf(provisioned bool, err error) string {
	switch {
	case err != nil:
		return firstFailed
	case provisioned:
		return firstProvisioned
	}
	return firstWaits
}

// registered is the event of a certificate that waits for its activation (iot-core spec 7.3).
type registered struct {
	CertificateID string `json:"certificateId"`
	CAID          string `json:"caCertificateId"`
	Timestamp     int64  `json:"timestamp"` // of this event, milliseconds
	Status        string `json:"certificateStatus"`
	Account       string `json:"awsAccountId"`
	Registered    string `json:"certificateRegistrationTimestamp"` // milliseconds, as text
}

// announceRegistration tells the fleet that a certificate waits for its activation, each time that its device connects. The event
// is safe when it returns, before the device hears that it has to come again: a rule that is to let it in will have it, whatever
// happens to this process.
func (g *Gateway) announceRegistration(n provision.Newcomer, c fleet.Certificate) {
	topic := fleet.RegisteredTopic + n.CA.ID
	if !g.broker.Heard(n.Scope, topic) {
		return
	}
	payload, err := json.Marshal(registered{CertificateID: c.ID, CAID: n.CA.ID, Timestamp: g.Clock.Now().UnixMilli(), Status: string(c.Status), Account: n.Scope.Account,
		Registered: strconv.FormatInt(c.Created.UnixMilli(), 10)})
	if err == nil {
		err = g.broker.Publish(g.ctx, n.Scope, &mqtt.Message{Topic: topic, Payload: payload, QoS: 1})
	}
	if err != nil {
		g.Log.Error("publishing the registration of a certificate", "certificate", c.ID, "error", err)
	}
}

// leaveAgain ends a connection at its CONNECT, without an answer.
type leaveAgain struct{}

// Connect implements mqtt.Access.
func (leaveAgain) Connect(context.Context, *mqtt.Connect) error {
	return mqtt.End{Reason: mqtt.ServerInitiated, Text: "the certificate has been registered; connect again"}
}

func (leaveAgain) Publish(string, bool) error { return errLeave }
func (leaveAgain) Subscribe(string) error     { return errLeave }
func (leaveAgain) Receive(string) error       { return errLeave }

var errLeave = fleet.Denied("the connection has not begun")
