package gateway

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (g *Gateway) handlers() map[string]mqtt.Handler {
	return map[string]mqtt.Handler{
		reserved.PrefixCreate:        g.handle(trace.Create, reserved.PrefixCreate, "", g.create),
		reserved.PrefixCreateFromCSR: g.handle(trace.Create, reserved.PrefixCreateFromCSR, "", g.createFromCSR),
		reserved.PrefixTemplates:     g.handle(trace.Register, reserved.PrefixTemplates, reserved.InfixProvision, g.register),
	}
}

// A handler serves one kind of request; the answer is encoded by the caller. template is what the topic names, "" for topics
// that name none.
type handler func(ctx context.Context, r provision.Requester, template string, f wire.Format, payload []byte) (answer any, err error)

// handle wraps what all requests share: topic, format, requester, trace, and the answer to the connection that asked. Topics are
// prefix + template + infix + format; without an infix there is no template.
func (g *Gateway) handle(kind, prefix, infix string, serve handler) mqtt.Handler {
	return func(ctx context.Context, r *mqtt.Request) {
		makeRoom()
		g.Work.Add(1)
		defer g.Work.Add(-1)
		topic := r.Message.Topic
		who, ok := g.requester(r)
		var template string
		f := wire.Format(strings.TrimPrefix(topic, prefix))
		if infix != "" {
			before, after, _ := strings.Cut(string(f), infix)
			template, f = before, wire.Format(after)
		}
		if !ok || f != wire.JSON && f != wire.CBOR {
			g.unsupported(r)
			return
		}
		who.Trace = trace.New(who.Scope, kind, g.Clock)
		who.Trace.Fact("clientId", who.ClientID)
		who.Trace.Fact("sourceIp", who.SourceIP)
		if who.IsClaim {
			who.Trace.Fact("claimId", who.PrincipalID)
		}
		if prefix == reserved.PrefixCreate { // a private key is of use to nobody else
			if ctx = r.Present(); ctx.Err() != nil {
				return
			}
		}
		start := time.Now() // a duration; the clock may be moved
		g.flows.begin(r.Client)
		answer, err := serve(ctx, who, template, f, r.Message.Payload)
		refusal, suffix := "", reserved.Accepted
		if err != nil {
			status, code, message := provision.Refusal(err)
			refusal = code
			if k := fleet.KindOf(err); (k == fleet.KindInternal || k == fleet.KindUnavailable) && ctx.Err() == nil {
				g.Log.Error("provisioning", "topic", topic, "trace", who.Trace.ID(), "error", err)
			}
			who.Trace.DefaultCure(provision.Cure(err))
			g.Recorder.Finish(who.Trace, err)
			suffix, answer = reserved.Rejected, &reserved.Refused{StatusCode: status, ErrorCode: code, ErrorMessage: message, TraceID: new(who.Trace.ID()), RetryAfter: retryAfter(err)}
		}
		if g.OnRequest != nil {
			g.OnRequest(kind, refusal, who.Trace.ID(), time.Since(start))
		}
		unheard := g.reply(r, topic+suffix, f, answer, who.Trace.ID())
		if large := (*mqtt.TooLarge)(nil); errors.As(unheard, &large) {
			g.tooLarge(who, kind, prefix, large)
		}
		g.flows.done(r.Client, kind, unheard == nil && err == nil)
	}
}

// retryAfter is when a device may ask again, nil if that is of no use.
func retryAfter(err error) *int {
	var e *fleet.Error
	if !errors.As(err, &e) || e.RetryAfter <= 0 {
		return nil
	}
	return new(provision.RetryAfter(e))
}

// reply answers a request. Errors are those of mqtt.Request.Reply: the client does not hear it.
func (g *Gateway) reply(r *mqtt.Request, topic string, f wire.Format, answer any, traceID string) error {
	payload, err := wire.EncodeTopic(f, answer)
	if err != nil {
		g.Log.Error("encoding an answer", "topic", topic, "error", err)
		return err
	}
	props := &mqtt.Properties{ContentType: reserved.ContentTypePrefix + string(f), User: []mqtt.UserProperty{{Key: reserved.TraceProperty, Value: traceID}}}
	if p := r.Message.Props; p != nil { // harmless for clients that did not ask, welcome to those that did
		props.CorrelationData = p.CorrelationData
	}
	return r.Reply(&mqtt.Message{Topic: topic, Payload: payload, QoS: 1, Props: props})
}

// tooLarge leaves a trace of an answer that the client does not take: it waits in vain, and is told nothing (MQTT 5 section
// 3.1.2.11.4). The request itself has a trace of its own, which may be of a success.
func (g *Gateway) tooLarge(who provision.Requester, kind, prefix string, large *mqtt.TooLarge) {
	t := trace.New(who.Scope, kind, g.Clock)
	t.Fact("clientId", who.ClientID)
	t.Fact("sourceIp", who.SourceIP)
	if who.IsClaim {
		t.Fact("claimId", who.PrincipalID)
	} else {
		t.Fact("requester", who.PrincipalID)
	}
	t.Step("answer", "to %s: %v", who.Trace.ID(), large)
	less := "with CBOR the answer is smaller"
	if prefix == reserved.PrefixCreate {
		less = "an answer to a CSR is smaller, since no key is in it"
	}
	t.SetCure("announce a Maximum Packet Size of %d bytes or more, or none, in CONNECT, and give the client a buffer of that size; %s. "+
		"Say ReplyBudget in Mappings.Imprint.Settings of the template, and imprint template lint tells which answers fit", large.Size, less)
	g.Recorder.Finish(t, fleet.Invalid("", "", "%v: it was not sent", large))
}

// unsupported ends a connection that publishes where nothing listens (iot-core spec 5.9).
func (g *Gateway) unsupported(r *mqtt.Request) {
	g.broker.Disconnect(func(_ *mqtt.Identity, c *mqtt.Client) bool { return c == r.Client },
		mqtt.End{Reason: mqtt.ClientError, Code: 0x90, Text: "nothing is served on " + r.Message.Topic})
}

// requester says who asks. Principals that are neither claims nor certificates have no provisioning.
func (g *Gateway) requester(r *mqtt.Request) (provision.Requester, bool) {
	out := provision.Requester{Scope: r.Client.Scope, PrincipalID: r.Client.Principal, ClientID: r.Client.ID, SourceIP: r.Client.Address, Protocol: "mqtt3.1.1"}
	if r.Client.Version == 5 {
		out.Protocol = "mqtt5"
	}
	switch a := r.Access.(type) {
	case *claimAccess:
		out.IsClaim, out.Template, out.Installer = true, a.a.who.claim.Template, a.a.who.claim.Installer
		return out, true
	case *deviceAccess:
		return out, true
	}
	return out, false
}

// decode reads a request.
func decode(r provision.Requester, f wire.Format, payload []byte, into any) error {
	err := wire.DecodeTopic(f, payload, into)
	if err != nil {
		r.Trace.SetCure("send one %s map with the members of the request, as text", strings.ToUpper(string(f)))
	}
	return err
}

func (g *Gateway) create(ctx context.Context, r provision.Requester, _ string, f wire.Format, payload []byte) (any, error) {
	if len(payload) > 0 { // junk members are ignored, malformed payloads are not
		if err := decode(r, f, payload, &reserved.CreateRequest{}); err != nil {
			return nil, err
		}
	}
	c, err := g.Provision.CreateKeysAndCertificate(ctx, r)
	if err != nil {
		return nil, err
	}
	return &reserved.CreateAccepted{ID: c.ID, PEM: c.PEM, PrivateKey: &c.PrivateKeyPEM, Token: c.Token}, nil
}

func (g *Gateway) createFromCSR(ctx context.Context, r provision.Requester, _ string, f wire.Format, payload []byte) (any, error) {
	var in reserved.CSRRequest
	if err := decode(r, f, payload, &in); err != nil {
		return nil, err
	}
	c, err := g.Provision.CreateCertificateFromCSR(ctx, r, in.CertificateSigningRequest)
	if err != nil {
		return nil, err
	}
	return &reserved.CreateAccepted{ID: c.ID, PEM: c.PEM, Token: c.Token}, nil
}

func (g *Gateway) register(ctx context.Context, r provision.Requester, template string, f wire.Format, payload []byte) (any, error) {
	if !fleet.ValidTemplateName(template) {
		return nil, fleet.NotFound("template", template).WithCode("ResourceNotFound")
	}
	r.Trace.Fact("template", template)
	var in reserved.RegisterRequest
	if err := decode(r, f, payload, &in); err != nil {
		return nil, err
	}
	out, err := g.Provision.Register(ctx, r, template, wire.Value(in.Token), in.Parameters)
	if err != nil {
		return nil, err
	}
	answer := &reserved.RegisterAccepted{Configuration: out.DeviceConfiguration}
	if out.ThingName != "" {
		answer.ThingName = &out.ThingName
	}
	return answer, nil
}
