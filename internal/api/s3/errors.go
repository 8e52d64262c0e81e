package s3

import (
	"cmp"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// statuses of S3's codes; what is missing is 400.
var statuses = map[string]int{
	"AccessDenied": 403, "BucketAlreadyExists": 409, "BucketAlreadyOwnedByYou": 409, "BucketNotEmpty": 409, "InternalError": 500, "InvalidAccessKeyId": 403,
	"InvalidRange": 416, "InsufficientStorage": 507, "MethodNotAllowed": 405, "MissingContentLength": 411, "NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchUpload": 404,
	"NotImplemented": 501, "NotModified": 304, "PreconditionFailed": 412, "RequestTimeTooSkewed": 403, "ServiceUnavailable": 503, "SignatureDoesNotMatch": 403, "SlowDown": 503,
}

// kinds are the codes of errors that have none of their own.
var kinds = map[fleet.Kind]string{
	fleet.KindInternal: "InternalError", fleet.KindInvalid: "InvalidArgument", fleet.KindNotFound: "NoSuchKey", fleet.KindDenied: "AccessDenied",
	fleet.KindNotImplemented: "NotImplemented", fleet.KindUnavailable: "ServiceUnavailable", fleet.KindThrottled: "SlowDown",
}

// signing are the codes of errors of package sigv4.
var signing = map[string]string{
	sigv4.MissingAuthenticationToken: "AccessDenied", sigv4.IncompleteSignature: "AuthorizationHeaderMalformed", sigv4.UnrecognizedClient: "InvalidAccessKeyId",
	sigv4.InvalidSignature: "SignatureDoesNotMatch", sigv4.ExpiredToken: "ExpiredToken",
}

// An errorDocument is what a client reads.
type errorDocument struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

func notImplemented(format string, args ...any) error {
	e := fleet.Invalid("", "", format+" is not implemented", args...)
	e.Kind = fleet.KindNotImplemented
	return e
}

// codeOf translates an error.
func codeOf(err error) (code, message string, e *fleet.Error) {
	if !errors.As(err, &e) {
		e = &fleet.Error{Kind: fleet.KindInternal, Err: err}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, sigv4.ErrChunks):
			e = fleet.Invalid("", "", "The request body ended early, or is not in the form that was announced").WithCode("IncompleteBody")
		case errors.As(err, new(*http.MaxBytesError)):
			e = tooLarge()
		}
	}
	code, message = cmp.Or(e.Code, kinds[e.Kind], "InvalidRequest"), cmp.Or(e.Msg, e.Kind.String())
	switch {
	case e.Kind == fleet.KindInternal:
		return "InternalError", "We encountered an internal error. Its cause is in the server's log under this request's id.", e
	case e.Kind == fleet.KindUnauthenticated:
		code = cmp.Or(signing[e.Code], e.Code)
		if strings.HasPrefix(message, "Signature expired") || strings.HasPrefix(message, "Signature not yet") {
			code = "RequestTimeTooSkewed"
		}
		if strings.HasPrefix(message, "Credential should be scoped") {
			code = "AuthorizationHeaderMalformed"
		}
	}
	return code, message, e
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	code, message, e := codeOf(err)
	x.event.Code, x.event.Kind, x.event.Err = code, e.Kind, err
	if x.event.Status != 0 { // the answer has begun: all that is left is to end it early
		panic(http.ErrAbortHandler)
	}
	status := cmp.Or(statuses[code], http.StatusBadRequest)
	if status >= 500 && code != "NotImplemented" {
		x.Log.Error("request failed", "request_id", x.event.RequestID, "service", "s3", "operation", x.event.Operation, "cause", err)
	}
	h := x.w.Header()
	for _, name := range []string{"Content-Length", "Etag", "Last-Modified", "Content-Range", "Accept-Ranges"} {
		h.Del(name)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if x.r.ContentLength != 0 { // what was not read of the body is not worth waiting for
		h.Set("Connection", "close")
	}
	if x.r.Method == http.MethodHead || status == http.StatusNotModified {
		_ = x.status(status, nil)
		return
	}
	resource, _, _ := strings.Cut(x.r.RequestURI, "?")
	body, err := xml.Marshal(errorDocument{Code: code, Message: message, Resource: resource, RequestID: x.event.RequestID})
	if err != nil {
		body = nil
	}
	h.Set("Content-Type", "application/xml")
	_ = x.status(status, append([]byte(xml.Header), body...))
}

func tooLarge() *fleet.Error {
	return fleet.Invalid("", "", "Your proposed upload exceeds the maximum allowed size").WithCode("EntityTooLarge")
}

func malformedXML() error {
	return fleet.Invalid("", "", "The XML you provided was not well-formed or did not validate against our published schema").WithCode("MalformedXML")
}
