package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/device/internal/cbor"
	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// Formats of the payloads on the provisioning topics.
const (
	JSON = "json"
	CBOR = "cbor"
)

// Versions of MQTT.
const (
	MQTT311 = "3.1.1"
	MQTT5   = "5"
)

// A service is what the flow needs of the other side. Tests put one in its place that lives in memory.
type service interface {
	// open connects with the claim.
	open(ctx context.Context, c *Claim, s settings) (session, error)
	// openAs connects with the identity in use, to renew it.
	openAs(ctx context.Context, id *Identity, s settings) (session, error)
	// confirm connects with the new identity and proves that the connection is served.
	confirm(ctx context.Context, id *Identity, s settings) error
}

// A session is an open connection of a claim: the three operations of provisioning spec 3.1.
type session interface {
	createFromCSR(ctx context.Context, csr string) (issued, error)
	createKeys(ctx context.Context) (issued, error)
	register(ctx context.Context, template, token string, parameters map[string]string) (registered, error)
	port() int // that the connection was made to
	close()
}

type issued struct{ id, certificate, privateKey, token string }

type registered struct {
	thingName     string
	configuration map[string]string
}

const (
	claimKeepAlive  = 60 * time.Second
	answerTimeout   = 30 * time.Second // for SUBACK, PUBACK and answer together; a hook may take five seconds
	confirmTimeout  = 15 * time.Second
	answersInFlight = 4
)

// An exchange is the session over MQTT.
type exchange struct {
	client     *mqtt.Client
	server     string
	usedPort   int
	format     string
	answers    chan mqtt.Message
	subscribed map[string]bool
}

var _ session = (*exchange)(nil)

func newExchange(server, format string) *exchange {
	return &exchange{server: server, format: format, answers: make(chan mqtt.Message, answersInFlight), subscribed: map[string]bool{}}
}

// receive takes what arrives on the connection.
func (x *exchange) receive(m mqtt.Message) {
	select {
	case x.answers <- m:
	default: // nobody asked for so many
	}
}

func (x *exchange) close()    { x.client.Close() }
func (x *exchange) port() int { return x.usedPort }

func (x *exchange) createFromCSR(ctx context.Context, csr string) (issued, error) {
	return x.create(ctx, "$aws/certificates/create-from-csr/", cbor.Map{"certificateSigningRequest": csr})
}

func (x *exchange) createKeys(ctx context.Context) (issued, error) {
	return x.create(ctx, "$aws/certificates/create/", cbor.Map{})
}

func (x *exchange) create(ctx context.Context, topic string, request cbor.Map) (issued, error) {
	m, err := x.ask(ctx, topic+x.format, request)
	if err != nil {
		return issued{}, err
	}
	out := issued{id: text(m, "certificateId"), certificate: text(m, "certificatePem"), privateKey: text(m, "privateKey"),
		token: text(m, "certificateOwnershipToken")}
	if out.id == "" || out.certificate == "" || out.token == "" {
		return issued{}, badAnswer("it lacks certificateId, certificatePem or certificateOwnershipToken")
	}
	return out, nil
}

func (x *exchange) register(ctx context.Context, template, token string, parameters map[string]string) (registered, error) {
	request := cbor.Map{"certificateOwnershipToken": token}
	if len(parameters) > 0 {
		request["parameters"] = parameters
	}
	m, err := x.ask(ctx, "$aws/provisioning-templates/"+template+"/provision/"+x.format, request)
	if err != nil {
		return registered{}, err
	}
	out := registered{thingName: text(m, "thingName"), configuration: map[string]string{}}
	config, _ := m["deviceConfiguration"].(map[string]any)
	for k := range config {
		out.configuration[k] = text(config, k)
	}
	return out, nil
}

// text returns a member as text: strings as they are, anything else as JSON, "" if it is absent.
func text(m map[string]any, key string) string {
	switch v := m[key].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		b, _ := json.Marshal(v)
		return string(b)
	}
}

func badAnswer(format string, args ...any) *Error {
	return &Error{Kind: KindRejected, Code: CodeBadAnswer, Message: "the service's answer makes no sense: " + fmt.Sprintf(format, args...),
		Cure: "check that the endpoint is a device endpoint of the service", retry: few}
}

// ask publishes a request and waits for its answer. There is one request at a time, so the answer is known by its topic
// (provisioning spec 3.2: no correlation). Both answer topics are subscribed first.
func (x *exchange) ask(ctx context.Context, topic string, request cbor.Map) (map[string]any, error) {
	all := ctx
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	payload, err := x.encode(request)
	if err != nil {
		return nil, err
	}
	if !x.subscribed[topic] {
		if err := x.client.Subscribe(ctx, 1, topic+accepted, topic+rejectedTopic); err != nil {
			return nil, x.explain(all, topic, err)
		}
		x.subscribed[topic] = true
	}
	// The answer may overtake the acknowledgement, and some services never acknowledge a request that they answer.
	acked := make(chan error, 1)
	go func() { acked <- x.client.Publish(ctx, topic, payload, 1) }()
	for {
		select {
		case m := <-x.answers:
			if isAnswer(m, topic) {
				return x.answer(m)
			}
			continue
		case err = <-acked:
			if err == nil {
				continue // nothing more will come of it
			}
		case <-x.client.Done():
			err = x.client.Err()
		case <-ctx.Done():
			err = fmt.Errorf("no answer: %w", ctx.Err())
		}
		select {
		case m := <-x.answers: // it came before the end
			if isAnswer(m, topic) {
				return x.answer(m)
			}
		default:
		}
		return nil, x.explain(all, topic, err)
	}
}

const (
	accepted      = "/accepted"
	rejectedTopic = "/rejected"
)

// provisioningTopic reports whether a topic is one of those that are reserved for provisioning.
func provisioningTopic(topic string) bool {
	return strings.HasPrefix(topic, "$aws/certificates/") || strings.HasPrefix(topic, "$aws/provisioning-templates/")
}

func isAnswer(m mqtt.Message, topic string) bool {
	return m.Topic == topic+accepted || m.Topic == topic+rejectedTopic
}

func (x *exchange) encode(request cbor.Map) ([]byte, error) {
	if x.format == CBOR {
		return cbor.AppendMap(nil, request), nil
	}
	return json.Marshal(request)
}

func (x *exchange) answer(m mqtt.Message) (map[string]any, error) {
	var out map[string]any
	var err error
	if x.format == CBOR {
		out, err = cbor.Decode(m.Payload)
	} else {
		err = json.Unmarshal(m.Payload, &out)
	}
	if err != nil {
		return nil, badAnswer("it is no %s map", x.format)
	}
	if strings.HasSuffix(m.Topic, accepted) {
		return out, nil
	}
	var status int
	fmt.Sscan(text(out, "statusCode"), &status)
	return nil, rejected(status, text(out, "errorCode"), text(out, "errorMessage"), text(out, "traceId"))
}

// explain turns a failure of a request into an error. A server may refuse by closing the connection without a word
// (iot-core spec 5.9, MQTT 3.1.1): after some times in a row that is what it means.
func (x *exchange) explain(ctx context.Context, topic string, err error) *Error {
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &Error{Kind: KindConnect, Code: CodeNoAnswer, Message: "the service does not answer on " + topic, Err: err, retry: always,
			Cure: "the operator finds in the trace what became of the request"}
	}
	var r *mqtt.Refused
	silent := mqtt.IsClosedByPeer(err)
	if !silent && !(errors.As(err, &r) && r.NotAuthorized()) {
		return connectError(ctx, x.server, err, claimRefused)
	}
	if cancelled(ctx) {
		return interrupted(err)
	}
	e := &Error{Kind: KindRejected, Code: CodeNotAuthorized, Message: "the certificate may not use " + topic, Err: err,
		Cure: "check the template's name: a claim is bound to one template; a bootstrap certificate, and one that renews itself, needs a policy that allows the provisioning topics"}
	if silent {
		e.Code, e.retry = CodeClosed, few
		e.Message = "the service closes the connection when asked on " + topic
	}
	return e
}
