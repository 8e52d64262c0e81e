package wire

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Frontend serves any number of services on one origin. Its fields are set before the first request and not changed after.
type Frontend struct {
	Services []*Service

	// Authenticate says who signed r. body is what was received; svc is whose operation is asked for. It is not called for
	// public operations. Errors are *fleet.Error of kind fleet.KindUnauthenticated with a Code of package sigv4.
	Authenticate func(ctx context.Context, r *http.Request, body []byte, svc *Service) (*fleet.Caller, error)

	// Authorize says whether the caller may. A refusal is a *fleet.Error of kind fleet.KindDenied.
	Authorize func(ctx context.Context, caller *fleet.Caller, a Access) error

	// Vouch, if set, says whether a request seems to be of somebody known, before a body is read that is larger than MaxBody. Its errors
	// are those of Authenticate.
	Vouch func(ctx context.Context, r *http.Request) error

	// Observe, if set, is told about every answered request.
	Observe func(Event)

	Scope   fleet.Scope  // of callers of public operations
	MaxBody int64        // bytes; 0: 1 MiB
	CORS    CORS         // which origins browsers may come from
	Clock   fleet.Clock  // nil: the system's
	Log     *slog.Logger // nil: slog.Default()

	once   sync.Once
	target map[string]*Service // X-Amz-Target prefix → service
	query  []*Service
	rest   []*Service
}

var _ http.Handler = (*Frontend)(nil)

// An Event is what is known about a request once it is answered. It holds no secrets.
type Event struct {
	RequestID string
	Service   string // "iot"; empty if no service was found
	Operation string
	Method    string
	Status    int
	Code      string     // error code; empty: success
	Kind      fleet.Kind // of the error
	Err       error      // as the handler returned it; nil: success
	Caller    *fleet.Caller
	Resources []string // that it was about, as ARNs or "*"; nil: not known
	Duration  time.Duration
}

// An exchange is one request on its way through the frontend.
type exchange struct {
	*Frontend
	w     http.ResponseWriter
	m     message
	call  call
	id    string
	event Event
}

// ServeHTTP implements http.Handler.
func (f *Frontend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.once.Do(f.index)
	if r.Method == http.MethodOptions {
		f.CORS.Preflight(w, r)
		return
	}
	start := time.Now() // a duration; f.Clock may be moved
	x := &exchange{Frontend: f, w: w, m: message{http: r}, id: fleet.NewUUID()}
	x.event = Event{RequestID: x.id, Method: r.Method}
	h := w.Header()
	h.Set("X-Amzn-Requestid", x.id)
	h.Set("Date", f.Clock.Now().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-store")
	f.CORS.Headers(h, r)
	defer func() {
		x.event.Duration = time.Since(start)
		x.done()
	}()
	defer x.recover()
	x.serve()
}

// Refuse answers a request with err, in its own protocol and without looking at its body. It is for requests that are refused
// before any work is spent on them, and neither logged nor observed.
func (f *Frontend) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	f.once.Do(f.index)
	x := &exchange{Frontend: f, w: w, m: message{http: r}, id: fleet.NewUUID()}
	w.Header().Set("X-Amzn-Requestid", x.id)
	w.Header().Set("Cache-Control", "no-store")
	f.CORS.Headers(w.Header(), r)
	if x.call = x.dispatch(&x.m); x.call.service == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		x.call.protocol = Query
	}
	x.fail(err)
}

// serve follows the order of iot-core spec 1.6: route, authenticate, parse, check, authorise, act.
func (x *exchange) serve() {
	r := x.m.http
	ctx := fleet.WithRequestID(r.Context(), x.id)
	if err := x.readBody(); err != nil {
		x.call = x.dispatch(&x.m) // to answer in the right protocol
		x.fail(err)
		return
	}
	x.call = x.dispatch(&x.m)
	if x.call.service != nil {
		x.event.Service = x.call.service.Name()
	}
	x.event.Operation = x.call.operation
	if x.call.err != nil {
		x.fail(x.call.err)
		return
	}
	if out, err := x.perform(ctx); err != nil {
		x.fail(err)
	} else {
		x.answer(out)
	}
}

func (x *exchange) perform(ctx context.Context) (any, error) {
	s := x.call.service
	row := s.rows[x.call.operation]
	public := s.ops[x.call.operation].Unsigned
	caller, err := x.caller(ctx, public)
	if err != nil {
		return nil, err
	}
	x.event.Caller = caller
	ctx = fleet.WithCaller(ctx, caller)
	if row == nil {
		return nil, &fleet.Error{Kind: fleet.KindNotImplemented, Msg: "Operation " + x.call.operation + " is not implemented"}
	}
	in, err := s.decode(row, &x.m)
	if err != nil {
		return nil, err
	}
	if !public && !row.noPermission {
		access := row.access(caller.Scope, in)
		x.event.Resources = access.Resources
		if err := x.Authorize(ctx, caller, access); err != nil {
			return nil, err
		}
	}
	if err := row.refuse(in); err != nil {
		return nil, err
	}
	if row.lasts > 0 {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(row.lasts + time.Minute))
	}
	return row.call(ctx, in)
}

// caller establishes who calls; of public operations only where the request came from.
func (x *exchange) caller(ctx context.Context, public bool) (*fleet.Caller, error) {
	r := x.m.http
	c := &fleet.Caller{Scope: x.Scope}
	if !public {
		var err error
		if c, err = x.Authenticate(ctx, r, x.m.body, x.call.service); err != nil {
			return nil, err
		}
	}
	if c.SourceIP == "" {
		c.SourceIP, _, _ = net.SplitHostPort(r.RemoteAddr)
	}
	if c.UserAgent == "" {
		c.UserAgent = r.UserAgent()
	}
	return c, nil
}

// RefusedMember says that this version does not offer a member of an operation or, where an edge looks into one, of another member.
func RefusedMember(name, of string) error {
	return &fleet.Error{Kind: fleet.KindNotImplemented, Msg: "Member " + name + " of " + of + " is not implemented: leave it out"}
}

// refuse names a member that the request sets and that this version does not offer.
func (r *row) refuse(in any) error {
	v := reflect.ValueOf(in).Elem()
	for _, name := range r.refused {
		if sets(v, strings.Split(name, ".")) {
			return RefusedMember(name, r.name)
		}
	}
	return nil
}

// sets reports whether a value has the member at the end of a path, in any element of the lists on its way. An empty list or map, which
// Terraform sends of what its configuration does not have, asks for nothing.
func sets(v reflect.Value, path []string) bool {
	switch {
	case len(path) == 0 && (v.Kind() == reflect.Slice || v.Kind() == reflect.Map):
		return v.Len() > 0
	case len(path) == 0:
		return !v.IsZero()
	case v.Kind() == reflect.Pointer:
		return !v.IsNil() && sets(v.Elem(), path)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			if sets(v.Index(i), path) {
				return true
			}
		}
		return false
	}
	return sets(v.FieldByName(path[0]), path[1:])
}

const (
	usualBody  = 1 << 20         // bytes of a body
	uploadTime = 5 * time.Minute // for a body that is larger
)

// Large reports whether a request is of an operation that takes larger bodies than others, and may have one.
func (f *Frontend) Large(r *http.Request) bool {
	f.once.Do(f.index)
	usual := cmp.Or(f.MaxBody, usualBody)
	return (r.ContentLength < 0 || r.ContentLength > usual) && f.largest(r) > usual
}

// largest is how many bytes the body of a request may have. Operations that are found by their body have no bound of their own.
func (f *Frontend) largest(r *http.Request) int64 {
	usual := cmp.Or(f.MaxBody, usualBody)
	if c := f.dispatch(&message{http: r}); c.err == nil && c.service != nil {
		if row := c.service.rows[c.operation]; row != nil {
			return max(usual, row.maxBody)
		}
	}
	return usual
}

// readBody reads the whole body within its bound.
func (x *exchange) readBody() error {
	r := x.m.http
	if r.Body == nil {
		return nil
	}
	limit := cmp.Or(x.MaxBody, usualBody)
	if x.Large(r) {
		if x.Vouch != nil {
			if err := x.Vouch(r.Context(), r); err != nil {
				return err
			}
		}
		limit = x.largest(r)
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(uploadTime)) // one that has no deadlines needs none
	}
	body, err := readAll(http.MaxBytesReader(x.w, r.Body, limit), min(r.ContentLength, limit))
	var tooLarge *http.MaxBytesError
	var refused *fleet.Error // a budget of whoever wrapped the body
	switch {
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &tooLarge):
		return fleet.Invalid("", "", "The body is larger than %d bytes", limit).WithCode(codeTooLarge)
	case err != nil:
		return serialization("The body ended early")
	}
	x.m.body = body
	return nil
}

// readAll is io.ReadAll for what says how long it is, which may be wrong or -1: a large body is not copied again and again.
func readAll(r io.Reader, length int64) ([]byte, error) {
	if length < usualBody {
		return io.ReadAll(r)
	}
	b := bytes.NewBuffer(make([]byte, 0, length+bytes.MinRead))
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// answer writes a handler's output.
func (x *exchange) answer(out any) {
	s := x.call.service
	row := s.rows[x.call.operation]
	v := reflect.ValueOf(out).Elem()
	status, body := http.StatusOK, []byte(nil)
	switch s.Protocol {
	case RESTJSON:
		status, body = restResponse(x.w.Header(), row.op, row.output(), v)
	case JSON11:
		x.w.Header().Set("Content-Type", jsonType(JSON11))
		body = appendJSON(nil, row.output(), v, nil)
	case Query:
		x.w.Header().Set("Content-Type", "text/xml")
		body = queryResponse(s.Model, row.op, row.output(), v, x.id)
	}
	x.event.Status = status
	respond(x.w, status, body)
}

// fail writes an error, and logs the cause of one that is ours.
func (x *exchange) fail(err error) {
	f := translate(x.call.service, x.call.protocol, err)
	x.event.Status, x.event.Code, x.event.Kind = f.status, f.code, f.kind
	x.event.Err = err
	if ClientGone(x.m.http, err) {
		x.event.Status = StatusClientGone
	} else if f.kind == fleet.KindInternal || f.kind == fleet.KindUnavailable {
		x.log().Error("request failed", "request_id", x.id, "service", x.event.Service, "operation", x.event.Operation, "cause", err)
	}
	namespace := ""
	if x.call.service != nil {
		namespace = x.call.service.Namespace
	}
	f.write(x.w, x.call.protocol, namespace, x.id)
}

// StatusClientGone is the Status of an Event whose client did not wait for the answer, as other servers log it. Nobody can receive it.
const StatusClientGone = 499

// ClientGone reports whether a request failed since its client has gone: nothing that an operator could mend.
func ClientGone(r *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) && r.Context().Err() != nil
}

func respond(w http.ResponseWriter, status int, body []byte) {
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	w.Write(body)
}

// recover makes a panic an internal error: logged, and shown without detail.
func (x *exchange) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	x.log().Error("handler panicked", "request_id", x.id, "operation", x.event.Operation, "panic", p, "stack", string(debug.Stack()))
	f := translate(x.call.service, x.call.protocol, errors.New("panic"))
	x.event.Status, x.event.Code, x.event.Kind = f.status, f.code, f.kind
	f.write(x.w, x.call.protocol, "", x.id)
}

// done writes the request's one log line and tells the observer.
func (x *exchange) done() {
	x.event.LogTo(x.m.http.Context(), x.log())
	if x.Observe != nil {
		x.Observe(x.event)
	}
}

// LogTo writes the one line that a log has of a request.
func (e Event) LogTo(ctx context.Context, log *slog.Logger) {
	attrs := []slog.Attr{slog.String("request_id", e.RequestID), slog.String("method", e.Method), slog.String("service", e.Service),
		slog.String("operation", e.Operation), slog.Int("status", e.Status), slog.Duration("took", e.Duration)}
	if c := e.Caller; c != nil {
		attrs = append(attrs, slog.String("caller", c.ARN), slog.String("scope", c.Scope.String()), slog.String("source", c.SourceIP))
	}
	if e.Code != "" {
		attrs = append(attrs, slog.String("error", e.Code), slog.String("kind", e.Kind.String()))
		// What a refusal comes from is for the operator alone: why another server could not be reached, what a role did not allow.
		var refused *fleet.Error
		if errors.As(e.Err, &refused) && refused.Err != nil {
			attrs = append(attrs, slog.String("cause", refused.Err.Error()))
		}
	}
	log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

func (f *Frontend) log() *slog.Logger {
	if f.Log == nil {
		return slog.Default()
	}
	return f.Log
}
