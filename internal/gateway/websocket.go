package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// WebSocketSigningNames are the services that a signature for /mqtt may be scoped to: what device SDKs sign, what AWS SDKs sign
// for the data plane, and the legacy name of both (iot-core spec 1.1, identity spec 5.4).
var WebSocketSigningNames = []string{"iotdevicegateway", "iotdata", "execute-api", "iot"}

const (
	webSocketLife    = 24 * time.Hour // at most (iot-core spec 6.5)
	webSocketMessage = 1 << 20        // bytes of one WebSocket message, which may hold many packets
)

// Permissions decides what a signed caller may do (iam.Service). An error of KindUnauthenticated says that the caller's
// credentials have ended, one of KindDenied that they don't suffice.
type Permissions interface {
	Authorize(ctx context.Context, caller *fleet.Caller, action string, resources []string, extra policy.Context) error
	AuthorizeAny(ctx context.Context, caller *fleet.Caller, action string, resources []string, extra policy.Context) error
}

// WebSocketConfig says who may come by WebSocket and from where.
type WebSocketConfig struct {
	// Authenticate finds out who signed the upgrade request, in its query or its Authorization header, for one of
	// WebSocketSigningNames. Refusals are of KindUnauthenticated, with a code of package sigv4.
	Authenticate func(*http.Request) (*fleet.Caller, error)
	Permissions  Permissions
	Origins      []string // that browsers may come from; empty or "*": all
}

// webSockets serves MQTT over WebSocket to callers with AWS credentials.
type webSockets struct {
	WebSocketConfig
	g *Gateway

	mu      sync.Mutex
	live    map[*userAccess]bool
	wake    chan struct{} // holds a token when credentials may have ended
	changes atomic.Uint64 // counts what may have changed somebody's rights
}

// WebSocket returns the handler of GET /mqtt (iot-core spec 6.15). It returns as soon as a connection is upgraded; the
// connection is the gateway's from then on. The gateway must be closed after the http.Server.
func (g *Gateway) WebSocket(c WebSocketConfig) http.Handler {
	ws := &webSockets{WebSocketConfig: c, g: g, live: map[*userAccess]bool{}, wake: make(chan struct{}, 1)}
	g.Store.Listen(ws.changed)
	g.wg.Go(ws.watch)
	return ws
}

// ServeHTTP implements http.Handler. Whoever is refused is so before the upgrade, with status 403.
func (ws *webSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", fleet.NewUUID())
	a := ws.arrival(r)
	if origin := r.Header.Get("Origin"); !ws.welcome(origin) {
		a.trace.SetCure("allow the origin %s in the server's configuration if the page is yours", origin)
		ws.forbid(w, a, fleet.Denied("pages of the origin %s may not connect", origin).WithCode("Forbidden"))
		return
	}
	caller, err := ws.Authenticate(r)
	if err != nil {
		a.trace.SetCure("sign GET /mqtt for the service %s with a key that is active; a session token is appended to the signed query", WebSocketSigningNames[0])
		ws.forbid(w, a, err)
		return
	}
	a.who.scope, a.who.principal, a.trace.Scope = caller.Scope, principalOf(caller), caller.Scope
	a.trace.Fact("principal", caller.ARN)
	hijack := &hijack{ResponseWriter: w}
	// Origins were checked above, by full origin as for all other requests.
	c, err := websocket.Accept(hijack, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt", "mqttv3.1"}, InsecureSkipVerify: true})
	if err != nil { // it has been answered
		ws.g.Log.Debug("upgrading to a WebSocket", "address", a.address, "error", err)
		return
	}
	c.SetReadLimit(webSocketMessage)
	ws.g.wg.Go(func() { ws.serve(&socket{Conn: hijack.conn, ws: c}, a, caller) })
}

func (ws *webSockets) arrival(r *http.Request) *arrival {
	a := &arrival{who: identity{scope: ws.g.Home}, trace: trace.New(ws.g.Home, trace.Connect, ws.g.Clock)}
	a.address, _, _ = net.SplitHostPort(r.RemoteAddr)
	if r.TLS != nil {
		a.who.sni = serverName(r.TLS.ServerName)
	}
	a.trace.Fact("sourceIp", a.address)
	return a
}

// welcome reports whether a page of this origin may connect. Programs that are no browsers send none.
func (ws *webSockets) welcome(origin string) bool {
	return origin == "" || len(ws.Origins) == 0 || slices.Contains(ws.Origins, "*") || slices.Contains(ws.Origins, origin)
}

// forbid answers a refusal in the shape of AWS's JSON errors (identity spec 5.7).
func (ws *webSockets) forbid(w http.ResponseWriter, a *arrival, err error) {
	a.finish(ws.g, err)
	status, code, message := http.StatusInternalServerError, "InternalFailureException", "an internal error occurred"
	var e *fleet.Error
	if errors.As(err, &e) && (e.Kind == fleet.KindUnauthenticated || e.Kind == fleet.KindDenied) {
		status, code, message = http.StatusForbidden, strings.TrimSuffix(e.Code, "Exception")+"Exception", e.Msg
	} else {
		ws.g.Log.Error("authenticating a WebSocket", "error", err)
	}
	body, _ := json.Marshal(map[string]string{"__type": code, "message": message})
	w.Header().Set("X-Amzn-Errortype", code)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

// principalOf names a caller in lifecycle events (iot-core spec 7.1).
func principalOf(c *fleet.Caller) string {
	if c.Kind == fleet.RoleSession {
		return c.Scope.Account + "/" + c.UserID + "/" + c.UserID
	}
	return c.Scope.Account + "/" + c.UserID
}

// serve speaks MQTT on an upgraded connection. The access is on file before anything is decided, so that a cut-off finds it.
func (ws *webSockets) serve(nc net.Conn, a *arrival, caller *fleet.Caller) {
	g := ws.g
	u := newUserAccess(ws, a, caller)
	ws.mu.Lock()
	ws.live[u] = true
	ws.mu.Unlock()
	defer func() {
		ws.mu.Lock()
		delete(ws.live, u)
		ws.mu.Unlock()
	}()
	end := g.speak(nc, a, u, false)
	if g.OnEnd != nil {
		g.OnEnd(end.Reason)
	}
	if end.Reason != mqtt.ClientInitiated {
		a.finish(g, fleet.Invalid("", "", "the connection ended before an MQTT CONNECT was accepted: %v", end).WithCode(fmt.Sprint(end.Reason)))
	}
	g.Log.Debug("WebSocket ended", "address", a.address, "principal", caller.ARN, "reason", end.Reason, "text", end.Text)
}

// changed hears of every committed write.
func (ws *webSockets) changed(changes []store.Change) {
	for _, c := range changes {
		switch c.Kind {
		case store.ChangedIAM, store.ChangedCutoff:
			ws.changes.Add(1)
			select {
			case ws.wake <- struct{}{}:
			default: // a look is due already
			}
		case store.ChangedPolicy:
			ws.changes.Add(1)
		case store.ChangedAttachment:
			if !strings.Contains(c.Key, ":cert/") { // certificates don't come by WebSocket
				ws.changes.Add(1)
			}
		case store.ChangedThing:
			ws.thingChanged(c)
		}
	}
}

// thingChanged has the rights read again of those who stand for a thing. Things change with every provisioning, so others keep theirs.
func (ws *webSockets) thingChanged(c store.Change) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for u := range ws.live {
		if u.concerns(c) {
			u.changes.Add(1)
		}
	}
}

// watch ends connections whose credentials have ended or whose time is over.
func (ws *webSockets) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed := false
		select {
		case <-tick.C:
		case <-ws.wake:
			changed = true
		case <-ws.g.ctx.Done():
			return
		}
		for _, u := range ws.accesses() {
			if how, over := u.over(ws.g.Clock.Now(), changed); over {
				ws.g.broker.Disconnect(func(id *mqtt.Identity, _ *mqtt.Client) bool { return id.Access == mqtt.Access(u) }, how)
			}
		}
	}
}

func (ws *webSockets) accesses() (live []*userAccess) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for u := range ws.live {
		live = append(live, u)
	}
	return live
}

// hijack remembers the connection below the WebSocket, whose deadlines we set.
type hijack struct {
	http.ResponseWriter
	conn net.Conn
}

// Unwrap is for http.ResponseController.
func (h *hijack) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// Hijack implements http.Hijacker. The server's own read and write deadlines end here: they are for requests.
func (h *hijack) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	c, rw, err = http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	h.conn = c
	return c, rw, err
}

// A socket is a stream of MQTT packets in binary messages: packets may share and span them (iot-core spec 6.15). Deadlines and
// addresses are those of the connection below.
type socket struct {
	net.Conn
	ws  *websocket.Conn
	msg io.Reader // the rest of the message that is being read
}

// Read implements net.Conn. A client that sends a close frame has ended the connection in order (iot-core spec 6.9).
func (s *socket) Read(p []byte) (int, error) {
	for {
		if s.msg == nil {
			kind, r, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, socketEnd(err)
			}
			if kind != websocket.MessageBinary {
				s.ws.Close(websocket.StatusUnsupportedData, "MQTT comes in binary messages")
				return 0, mqtt.End{Reason: mqtt.ClientError, Text: "a WebSocket message that is not binary"}
			}
			s.msg = r
		}
		n, err := s.msg.Read(p)
		if err == io.EOF {
			s.msg, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, socketEnd(err)
		}
	}
}

func socketEnd(err error) error {
	switch {
	case err == nil:
		return nil
	case websocket.CloseStatus(err) >= 0:
		return mqtt.End{Reason: mqtt.ClientInitiated, NoWill: true, Text: "the client closed the WebSocket"}
	case errors.Is(err, websocket.ErrMessageTooBig):
		return mqtt.End{Reason: mqtt.ClientError, Text: err.Error()}
	}
	return err
}

// Write implements net.Conn.
func (s *socket) Write(p []byte) (int, error) {
	if err := s.ws.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends the WebSocket in order, which takes as long as the peer does, up to seconds.
func (s *socket) Close() error { return s.ws.Close(websocket.StatusNormalClosure, "") }
