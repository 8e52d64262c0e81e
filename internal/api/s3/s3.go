// Package s3 is the edge of buckets: as much of S3's API as `aws s3`, SDKs and the links of reports need, beside the other services on
// the same origin. What it does not have it refuses by name, with NotImplemented.
//
// It is no table of package wire: S3 speaks XML, names what it is asked for in paths and queries of its own, and its bodies are
// too large to be held in memory. The order is the same: route (route.go), authenticate, authorise, act (buckets.go, list.go,
// objects.go, uploads.go). body.go holds what comes in to its hashes and checksums, errors.go says what goes wrong.
//
// Begin with API.ServeHTTP.
package s3

import (
	"context"
	"encoding/xml"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Config says what the API stands on. All fields but Observe and Log must be set.
type Config struct {
	Folder *bucket.Folder
	Region string
	Host   string // of the server: a bucket may stand before it, BUCKET.HOST

	// Authenticate says who signed a request, and what the signature says of its body. Its errors have sigv4's codes.
	Authenticate func(ctx context.Context, r *http.Request) (*fleet.Caller, *sigv4.Payload, error)
	// Authorize says whether the caller may. A refusal is a *fleet.Error of KindDenied.
	Authorize func(ctx context.Context, caller *fleet.Caller, a wire.Access) error
	// Observe, if set, is told about every answered request.
	Observe func(wire.Event)

	CORS  wire.CORS
	Clock fleet.Clock
	Log   *slog.Logger // nil: slog.Default()
}

// API answers S3's operations.
type API struct{ Config }

var _ http.Handler = (*API)(nil)

// New returns an API.
func New(c Config) *API {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &API{c}
}

// Serves reports whether a request is for S3: its signature says so.
func Serves(r *http.Request) bool {
	if a := r.Header.Get("Authorization"); a != "" {
		return strings.Contains(a, "/s3/aws4_request")
	}
	q := r.URL.RawQuery
	return strings.Contains(q, "%2Fs3%2Faws4_request") || strings.Contains(q, "/s3/aws4_request") || strings.Contains(q, "AWSAccessKeyId=") && strings.Contains(q, "Signature=")
}

// An exchange is one request on its way.
type exchange struct {
	*API
	w       http.ResponseWriter
	r       *http.Request
	req     request
	ctx     context.Context
	caller  *fleet.Caller
	payload *sigv4.Payload
	event   wire.Event
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now() // a duration; the clock may be moved
	x := &exchange{API: a, w: w, r: r, event: wire.Event{RequestID: fleet.NewUUID(), Service: sigv4.S3, Method: r.Method}}
	x.ctx = fleet.WithRequestID(r.Context(), x.event.RequestID)
	h := w.Header()
	h.Set("X-Amz-Request-Id", x.event.RequestID)
	h.Set("Date", a.Clock.Now().Format(http.TimeFormat))
	a.CORS.Headers(h, r)
	defer func() { // also of an answer that is cut
		x.event.Duration = time.Since(start)
		x.event.LogTo(r.Context(), a.Log)
		if a.Observe != nil {
			a.Observe(x.event)
		}
	}()
	if err := x.serve(); err != nil {
		x.fail(err)
	}
}

func (x *exchange) serve() (err error) {
	op, err := x.route()
	if err != nil {
		return err
	}
	x.event.Operation = op.name
	if x.caller, x.payload, err = x.Authenticate(x.ctx, x.r); err != nil {
		return err
	}
	x.event.Caller = x.caller
	x.ctx = fleet.WithCaller(x.ctx, x.caller)
	if op.action != "" {
		if err := x.authorize(op.action, op.resource(&x.req), op.conditions(&x.req)); err != nil {
			return err
		}
	}
	if !op.reads {
		if err := bucket.CheckWrite(x.req.bucket); err != nil {
			return err
		}
	}
	if err := x.refuseHeaders(); err != nil {
		return err
	}
	err = op.do(x)
	if x.req.key != "" {
		err = x.untold(err, x.req.bucket)
	}
	return err
}

// untold is an error about an object of a bucket: who may not list the bucket is not told what is not in it.
func (x *exchange) untold(err error, name string) error {
	if err == nil || fleet.KindOf(err) != fleet.KindNotFound || x.authorize("ListBucket", bucket.ARN(name, ""), nil) == nil {
		return err
	}
	return fleet.Denied("%s is not authorized to perform: s3:ListBucket on resource: %s, so what is missing is not told", x.caller.ARN, bucket.ARN(name, ""))
}

func (x *exchange) authorize(action, resource string, conditions map[string][]string) error {
	return x.Authorize(x.ctx, x.caller, wire.Access{Action: "s3:" + action, Resources: []string{resource}, Conditions: conditions})
}

// refusedHeaders ask for what is not there. A request that has one is refused, instead of being obeyed in part.
var refusedHeaders = []string{"X-Amz-Acl", "X-Amz-Grant-Read", "X-Amz-Grant-Write", "X-Amz-Grant-Full-Control", "X-Amz-Grant-Read-Acp", "X-Amz-Grant-Write-Acp",
	"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Tagging", "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Legal-Hold",
	"X-Amz-Object-Lock-Retain-Until-Date", "X-Amz-Bucket-Object-Lock-Enabled", "X-Amz-Website-Redirect-Location", "X-Amz-Write-Offset-Bytes", "X-Amz-Storage-Class"}

// harmless are values that ask for what holds anyway.
var harmless = map[string]string{"X-Amz-Acl": "private", "X-Amz-Storage-Class": "STANDARD", "X-Amz-Bucket-Object-Lock-Enabled": "false"}

func (x *exchange) refuseHeaders() error {
	for _, name := range refusedHeaders {
		if v := x.r.Header.Get(name); v != "" && !strings.EqualFold(v, harmless[name]) {
			return notImplemented("The header %s", strings.ToLower(name))
		}
	}
	return nil
}

// answer writes a document.
func (x *exchange) answer(v any) error {
	body, err := xml.Marshal(v)
	if err != nil {
		return err
	}
	body = append([]byte(xml.Header), body...)
	x.w.Header().Set("Content-Type", "application/xml")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	return x.status(http.StatusOK, body)
}

// status ends the exchange. That a client has gone is nobody's fault.
func (x *exchange) status(status int, body []byte) error {
	x.event.Status = status
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body)
	return nil
}

// quoted is an ETag as it stands in headers and documents.
func quoted(etag string) string { return `"` + etag + `"` }

func unquoted(etag string) string { return strings.Trim(strings.TrimSpace(etag), `"`) }
