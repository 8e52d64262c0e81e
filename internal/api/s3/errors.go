package s3

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

// kinds are the codes of errors that have none of their own.
var kinds = map[fleet.Kind]string{
	fleet.KindInternal: wire.S3Internal, fleet.KindInvalid: "InvalidArgument", fleet.KindNotFound: "NoSuchKey", fleet.KindDenied: "AccessDenied",
	fleet.KindNotImplemented: "NotImplemented", fleet.KindUnavailable: "ServiceUnavailable", fleet.KindThrottled: "SlowDown",
}

// signing are the codes of errors of package sigv4.
var signing = map[string]string{
	sigv4.MissingAuthenticationToken: "AccessDenied", sigv4.IncompleteSignature: "AuthorizationHeaderMalformed", sigv4.UnrecognizedClient: "InvalidAccessKeyId",
	sigv4.InvalidSignature: "SignatureDoesNotMatch", sigv4.ExpiredToken: "ExpiredToken",
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
		return wire.S3Internal, "We encountered an internal error. Its cause is in the server's log under this request's id.", e
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
	failed := func() {
		x.Log.Error("request failed", "request_id", x.event.RequestID, "service", "s3", "operation", x.event.Operation, "cause", err)
	}
	if x.event.Status != 0 { // the answer has begun: all that is left is to end it early
		failed()
		panic(http.ErrAbortHandler)
	}
	resource, _, _ := strings.Cut(x.r.RequestURI, "?")
	answer := wire.S3Error{Code: code, Message: message, Resource: resource, RequestID: x.event.RequestID}
	status := answer.Status()
	if wire.ClientGone(x.r, err) {
		status = wire.StatusClientGone
	} else if status >= 500 && code != "NotImplemented" {
		failed()
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
	h.Set("Content-Type", "application/xml")
	_ = x.status(status, answer.Document())
}

func tooLarge() *fleet.Error {
	return fleet.Invalid("", "", "Your proposed upload exceeds the maximum allowed size").WithCode("EntityTooLarge")
}

func malformedXML() error {
	return fleet.Invalid("", "", "The XML you provided was not well-formed or did not validate against our published schema").WithCode("MalformedXML")
}
