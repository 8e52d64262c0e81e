package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Who fails before a certificate was shown is known by address alone. What the first message asked for often tells the mistake, so it is
// kept until the handshake is over.

// A hello is what a client asked for in its first message.
type hello struct {
	name string // by SNI
	alpn []string
}

// greet keeps what a client asks for. It is what GetConfigForClient calls.
func (a *arrival) greet(h *tls.ClientHelloInfo) {
	a.hello = &hello{name: serverName(h.ServerName), alpn: h.SupportedProtos}
}

// finishStranger leaves a trace of a handshake that ended before anybody was known. One that says nothing about a device leaves
// none: a peer that sent nothing, or went before it said hello, as probes of load balancers do.
func (g *Gateway) finishStranger(a *arrival, err error) {
	cause, cure := a.mistake(err)
	if cause == "" {
		return
	}
	t := trace.New(g.Home, trace.Connect, g.Clock)
	t.Fact("sourceIp", a.address)
	if h := a.hello; h != nil {
		t.Step("tls", "server name %q, ALPN %q", h.name, h.alpn)
	}
	t.SetCure("%s", cure)
	g.Recorder.Finish(t, fleet.Denied("%s", cause).WithCode("TLS_REFUSED"))
}

const rootsCure = "give the client the roots that `imprint ca` prints, as its CA file, and a host name that the server's certificate has (`imprint config` shows them)"

// mistake tells what a client did wrong and how to mend it, "" where nothing can be told.
func (a *arrival) mistake(err error) (cause, cure string) {
	var record tls.RecordHeaderError
	switch text := err.Error(); {
	case errors.As(err, &record):
		return wrongProtocol(record.RecordHeader)
	case a.unknownName != "":
		return fmt.Sprintf("the client asked for the server name %q, which is not one of this server's", a.unknownName),
			"connect to a name of the server: one that DescribeEndpoint gives or that its setting host lists"
	case a.wrongDoor != "":
		return a.wrongDoor, "connect where that is served, or change the domain: aws iot update-domain-configuration --authentication-type DEFAULT --application-protocol DEFAULT"
	case strings.Contains(text, alertPrefix):
		_, alert, _ := strings.Cut(text, alertPrefix)
		return alertOf(alert)
	case strings.Contains(text, "didn't provide a certificate"):
		return "the client showed no certificate", "give the client certificate and key of its claim, or its own: MQTT on this port is for devices that prove who they are"
	case strings.Contains(text, "unsupported application protocols"):
		return fmt.Sprintf("the client offers by ALPN %s, which this port does not speak", strings.Join(a.hello.alpn, ", ")),
			"offer x-amzn-mqtt-ca (or mqtt) for MQTT; on the MQTT port ALPN may be left out"
	case strings.Contains(text, "unsupported versions"):
		return "the client speaks an old version of TLS", "let the client use TLS 1.2 or 1.3"
	case strings.Contains(text, "no cipher suite"), strings.Contains(text, "no supported elliptic curves"), strings.Contains(text, "peer doesn't support any of the certificate's signature algorithms"):
		return "client and server have no cipher, curve or signature in common", "let the client use ECDHE with AES-GCM, P-256 and ECDSA or RSA with SHA-256"
	case strings.Contains(text, "invalid signature by the client certificate"):
		return "the client does not hold the key of the certificate that it showed", "give the client certificate and key of one pair: both come in the same answer"
	case strings.Contains(text, "failed to parse client certificate"):
		return "the certificate that the client showed cannot be read", "give the client the certificate as it was issued"
	case a.hello != nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return "the client went away during the TLS handshake without saying why, as some do that don't trust the server's certificate", rootsCure
	}
	return "", ""
}

// alertPrefix begins what crypto/tls says of an alert that came from the peer; it has no type for it.
const alertPrefix = "remote error: tls: "

// alertOf words what a client told about its refusal (RFC 8446 section 6.2).
func alertOf(alert string) (cause, cure string) {
	switch alert {
	case "expired certificate":
		return "the client refused the server's certificate as out of date", "set the client's clock; if it is right, restart or repair the server, which renews its certificate in time"
	case "bad certificate", "unsupported certificate", "unknown certificate", "unknown certificate authority", "access denied":
		return "the client refused the server's certificate (" + alert + ")", rootsCure
	}
	return "the client ended the TLS handshake (" + alert + ")", "look for the reason in the client's log; " + rootsCure
}

// wrongProtocol tells what speaks to a TLS port in plain text.
func wrongProtocol(first [5]byte) (cause, cure string) {
	switch {
	case first[0] == 0x10:
		return "the client speaks MQTT without TLS", "turn TLS on in the client, with a certificate: this server has no port without it"
	case strings.Contains("GET POST PUT HEAD OPTIONS DELETE PATCH", strings.TrimSpace(strings.SplitN(string(first[:]), " ", 2)[0])) && first[0] >= 'A':
		return "the client speaks HTTP without TLS", "write https:// in the client's endpoint"
	}
	return "the client speaks no TLS", "connect to the right port, with TLS: 8883 for MQTT, 443 for HTTPS, unless the server was told other ones"
}

// toldEnd leaves a trace of the end of a connection that had been accepted, where it tells of a mistake: the client's own, or two that
// share a client id. What policies refuse has left its trace already.
func (g *Gateway) toldEnd(a *arrival, c *mqtt.Client, end mqtt.End) {
	cure := endCure(end)
	if cure == "" {
		return
	}
	t := trace.New(a.who.scope, trace.Disconnect, g.Clock)
	t.Fact("clientId", c.ID)
	t.Fact("sourceIp", a.address)
	if a.who.claim != nil {
		t.Fact("claimId", a.who.principal)
	} else {
		t.Fact("certificateId", a.who.principal)
	}
	t.SetCure("%s", cure)
	g.Recorder.Finish(t, fleet.Invalid("", "", "%s", end.Text).WithCode(end.Reason.String()))
}

// endCure says what to do about an end, "" for ends that need no telling.
func endCure(end mqtt.End) string {
	const tooLarge, topicInvalid = 0x95, 0x90
	switch {
	case end.Reason == mqtt.DuplicateClient:
		return "give each device a client id of its own, best the name of its thing; a device that reconnects should close its old connection first"
	case end.Code == tooLarge:
		return fmt.Sprintf("send at most %d KiB at once; larger things go in parts, or over HTTPS to a store of your own", mqtt.MaxPayload>>10)
	case end.Code == topicInvalid:
		return "look at the topic's spelling: provisioning listens on " + reserved.PrefixCreate + "json, " + reserved.PrefixCreateFromCSR + "json and " + reserved.PrefixTemplates +
			"TEMPLATE/provision/json, or cbor in place of json, and answers on the same with /accepted or /rejected behind"
	case end.Reason == mqtt.ClientError:
		return "mend the client: it broke a rule of MQTT or a limit of the service"
	case end.Reason == mqtt.Throttled:
		return "let the client send less, or read faster what it is sent"
	}
	return ""
}
