package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/trace"
)

// alpnHTTPCert asks for HTTPS with the client's certificate on the port that all share (iot-core spec 6.1).
const alpnHTTPCert = "x-amzn-http-ca"

// An HTTPSDevice is a device that speaks HTTPS with its certificate: it publishes, reads what is retained, and gets credentials.
type HTTPSDevice struct {
	g    *Gateway
	a    *arrival
	told atomic.Int32 // refusals that left a trace
}

// deviceTLS is for HTTPS with a certificate, which is looked at during the handshake as for MQTT.
func (g *Gateway) deviceTLS(a *arrival) *tls.Config {
	a.https = true
	c := g.mqttTLS(a)
	c.NextProtos = []string{alpnHTTPCert, "http/1.1"}
	c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		a.greet(h)
		return g.throughDomain(a, doorHTTPS, c, h)
	}
	return c
}

// ServeDeviceHTTPS is a port for HTTPS with certificates alone, for devices that cannot ask for x-amzn-http-ca. Connections come
// out of the returned listener with their handshake done.
func (g *Gateway) ServeDeviceHTTPS(l net.Listener) net.Listener {
	return g.hand(l, func(v *admission.Visit, out *handed) {
		a := &arrival{address: host(v.RemoteAddr()), visit: v}
		tc := tls.Server(v, g.deviceTLS(a))
		if g.handshake(tc, a) {
			out.give(g, g.httpsDevice(tc, a))
		}
	})
}

// A deviceConn tells an http.Server whose connection it is. It is no *tls.Conn: the server would end what has an ALPN name that it
// does not know.
type deviceConn struct {
	net.Conn
	device *HTTPSDevice
}

// httpsDevice is the connection of a device that has proven who it is.
func (g *Gateway) httpsDevice(tc *tls.Conn, a *arrival) net.Conn {
	a.visit.Welcome()
	return deviceConn{tc, &HTTPSDevice{g: g, a: a}}
}

type deviceKey struct{}

// WithDevice is for http.Server.ConnContext: it notes whose connection it is.
func WithDevice(ctx context.Context, c net.Conn) context.Context {
	if d, ok := c.(deviceConn); ok {
		return context.WithValue(ctx, deviceKey{}, d.device)
	}
	return ctx
}

// DeviceFrom returns the device that makes a request, nil if it came without a certificate.
func DeviceFrom(ctx context.Context) *HTTPSDevice {
	d, _ := ctx.Value(deviceKey{}).(*HTTPSDevice)
	return d
}

// Caller is the device as whoever makes a request.
func (d *HTTPSDevice) Caller() *fleet.Caller {
	return &fleet.Caller{Scope: d.a.who.scope, Kind: fleet.Device, ARN: d.a.who.arn(), UserID: d.a.who.principal, SourceIP: d.a.address}
}

// what devices may ask for over HTTPS, if their policies allow it (iot-core spec 5.2).
var deviceActions = []string{"iot:Publish", "iot:RetainPublish", "iot:GetRetainedMessage", "iot:ListRetainedMessages"}

// Authorize asks the policies of the certificate, as they are now. There is no client id, and so no thing (iot-core spec 5.4, 9.1).
// Why it refuses is in the trace that the answer names.
func (d *HTTPSDevice) Authorize(ctx context.Context, action string, resources []string) error {
	if !slices.Contains(deviceActions, action) || d.a.who.claim != nil || d.a.who.renews != nil {
		return d.refuse(action, resources, "claims and expired certificates are good for the provisioning topics over MQTT; devices publish and read retained messages",
			fleet.Denied("%s is not for devices over HTTPS", action))
	}
	r, err := d.rights("")
	if fleet.KindOf(err) == fleet.KindDenied {
		return d.refuse(action, resources, "", err)
	}
	if err != nil {
		return err
	}
	for _, resource := range resources {
		res := policy.Evaluate(r.policies, policy.Request{Action: action, Resource: resource, Context: r.facts})
		if !res.Allowed() {
			return d.refuse(action, resources, cure(action, resource, res), fleet.Denied("%s on %s is not allowed: %v", action, resource, res))
		}
	}
	return nil
}

// rights are those of a request that names a thing, or none (""). A connection may be kept open for as long as there are requests, so a
// certificate that has expired since is refused here.
func (d *HTTPSDevice) rights(thing string) (rights, error) {
	r, err := d.g.rightsAs(d.a, "", thing)
	if err == nil && d.g.Clock.Now().After(r.ends) {
		err = fleet.Denied("the certificate expired at %s", r.ends.Format(time.RFC3339)).WithCode("CERTIFICATE_REFUSED")
	}
	return r, err
}

// refuse is AWS's answer (iot-core spec 5.9), with a trace that says more.
func (d *HTTPSDevice) refuse(action string, resources []string, cure string, err error) error {
	id := ""
	if d.told.Add(1) <= toldPerConnection {
		t := trace.New(d.a.who.scope, trace.Connect, d.g.Clock)
		t.Fact("certificateId", d.a.who.principal)
		t.Fact("sourceIp", d.a.address)
		t.Step("policy", "%s on %s over HTTPS: %v", action, strings.Join(resources, ", "), err)
		if cure != "" {
			t.SetCure("%s", cure)
		}
		id = t.ID()
		d.g.Recorder.Finish(t, fleet.Denied("%v", err).WithCode("AUTHORIZATION_FAILED"))
	}
	denied := &fleet.Error{Kind: fleet.KindDenied, Msg: "Forbidden", Err: err}
	if id != "" {
		denied.Details = map[string]string{"traceId": id}
	}
	return denied
}
