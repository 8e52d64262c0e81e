package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"

	"github.com/imprint-iot/imprint/device/internal/mqtt"
)

// A Kind says who has to do something about an Error. The command imprint-device has one exit code for each.
type Kind int

const (
	KindInternal       Kind = iota // a defect of this program
	KindUsage                      // the caller left something out or contradicts itself
	KindClaim                      // the claim is malformed, expired or not accepted: a new one is needed
	KindRejected                   // the service understood the request and refused it
	KindConnect                    // no connection, or no trust in the server, or no time left
	KindStorage                    // the credential store cannot be read or written
	KindRefused                    // the device's own identity, or what it tried to do with it, was refused
	KindNotProvisioned             // there is no identity yet
	KindInterrupted                // the caller's context was cancelled
)

// An Error is the one error type of this package: what failed, and what to do about it.
type Error struct {
	Kind    Kind
	Code    string // short and stable: the service's errorCode, or one of the Code constants
	Message string // a sentence without a full stop

	StatusCode int    // the service's statusCode, if it answered
	TraceID    string // the service's traceId, if it gave one: `imprint explain` reads it
	Cure       string // what to do about it

	Err error // the cause, if there is one

	retry retry
}

// retry says whether the same step may succeed later.
type retry int

const (
	never  retry = iota
	few          // maybe: it looks like a refusal but may be chance. Some attempts in a row, then it counts
	always       // as long as there is time
)

// Codes of errors that do not come from the service.
const (
	CodeClaimMalformed  = "ClaimMalformed"
	CodeClaimExpired    = "ClaimExpired"
	CodeClaimRefused    = "ClaimRefused"
	CodeNoClaim         = "NoClaim"
	CodeUntrustedServer = "UntrustedServer"
	CodeWrongServerName = "WrongServerName"
	CodeClock           = "ClockWrong"
	CodeUnreachable     = "Unreachable"
	CodeLost            = "ConnectionLost"
	CodeNoAnswer        = "NoAnswer"
	CodeClosed          = "ConnectionClosed"
	CodeNotAuthorized   = "NotAuthorized"
	CodeBadAnswer       = "BadAnswer"
	CodeRefused         = "IdentityRefused"
	CodePermissions     = "Permissions"
	CodeBusy            = "Busy"
	CodeStorage         = "Storage"
	CodeNotProvisioned  = "NotProvisioned"
	CodeInterrupted     = "Interrupted"
	CodeUsage           = "Usage"
	CodeInternal        = "Internal"
)

func (e *Error) Error() string {
	s := e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later without anybody's help.
func (e *Error) Temporary() bool { return e.retry == always }

// KindOf returns the kind of err, KindInternal if it does not come from this package.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

func usage(cure, format string, args ...any) *Error {
	return &Error{Kind: KindUsage, Code: CodeUsage, Message: fmt.Sprintf(format, args...), Cure: cure}
}

// asError returns err as an *Error; nil stays nil.
func asError(err error) *Error {
	var e *Error
	if err == nil {
		return nil
	}
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: KindInternal, Code: CodeInternal, Message: "unexpected error", Err: err}
}

// cures has the cure of each errorCode of the provisioning topics (provisioning spec 3.8).
var cures = map[string]string{
	"InvalidParameters":                "give the parameters that the template asks for (--param NAME=VALUE), each once and as text",
	"AccessDenied":                     "the template's hook, role or rules refused this device: the operator finds the reason in the trace",
	"InvalidCertificateSigningRequest": "use a P-256 or RSA-2048 key (--key-type)",
	"InvalidCertificateOwnershipToken": "the certificate was not registered in time: provision again",
	"ResourceNotFound":                 "the template names something that does not exist: the operator must create it",
	"ResourceConflict":                 "the thing exists with other properties, or belongs to another device: the operator decides which is right",
	"Throttled":                        "the service is busy: try again later",
	"InternalFailure":                  "the service failed: try again later, and report the trace",
}

// rejected makes an error from what arrived on a rejected topic. 429 and 5xx may be welcome later (provisioning spec 3.8).
func rejected(status int, code, message, trace string) *Error {
	e := &Error{Kind: KindRejected, Code: code, Message: message, StatusCode: status, TraceID: trace, Cure: cures[code]}
	if e.Code == "" {
		e.Code = "Rejected"
	}
	if e.Message == "" {
		e.Message = "the service rejected the request"
	}
	if e.Cure == "" {
		e.Cure = "ask the operator of the service for the reason"
	}
	if trace != "" {
		e.Cure += " (imprint explain " + trace + ")"
	}
	if status == 429 || status >= 500 {
		e.retry = always
	}
	return e
}

// TLS alerts by which a server refuses the certificate of a client (RFC 8446 section 6.2), and others that have a cure.
const (
	alertBadCertificate      = 42
	alertUnsupportedCert     = 43
	alertCertRevoked         = 44
	alertCertExpired         = 45
	alertCertUnknown         = 46
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertUnrecognizedName    = 112
	alertCertificateRequired = 116
	alertNoALPN              = 120
)

// remoteAlert returns the TLS alert that the other side sent, if err comes from one. crypto/tls does not export its type.
func remoteAlert(err error) (alert int, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		return int(v.Uint()), true
	}
	return 0, true
}

// connectError explains why no connection came about, or why it ended. refused is what to say if the server does not like our
// certificate: it differs between a claim and an identity.
func connectError(ctx context.Context, server string, err error, refused func(code string, err error) *Error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	if cancelled(ctx) {
		return interrupted(err)
	}
	e := &Error{Kind: KindConnect, Code: CodeUnreachable, Message: "cannot connect to " + server, Err: err, retry: always,
		Cure: "check network, endpoint and port"}
	if alert, ok := remoteAlert(err); ok {
		return alertError(e, alert, refused)
	}
	if verify := verifyError(server, err); verify != nil {
		return verify
	}
	var r *mqtt.Refused
	switch {
	case errors.As(err, &r) && r.NotAuthorized():
		return refused(CodeNotAuthorized, err)
	case errors.As(err, &r) && !r.Transient():
		e.Message, e.Cure, e.retry = "the server does not accept the connection", "check the client id and the MQTT version", never
	case mqtt.IsClosedByPeer(err):
		e = refused(CodeClosed, err)
		e.retry = few
	}
	return e
}

func alertError(e *Error, alert int, refused func(string, error) *Error) *Error {
	switch alert {
	case alertCertExpired, alertBadCertificate, alertUnsupportedCert, alertCertRevoked, alertCertUnknown, alertUnknownCA, alertAccessDenied,
		alertCertificateRequired:
		return refused("", e.Err)
	case alertUnrecognizedName:
		e.Code, e.retry = CodeWrongServerName, never
		e.Cure = "the server does not go by this name: take the endpoint from `aws iot describe-endpoint`"
	case alertNoALPN:
		e.retry = never
		e.Cure = "this port does not speak MQTT: use 8883, or 443 of the device endpoint"
	}
	return e
}

// verifyError explains why we do not trust the server; nil if that is not the trouble.
func verifyError(server string, err error) *Error {
	e := &Error{Kind: KindConnect, Err: err, Message: "the server at " + server + " is not trusted"}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown), errors.As(err, new(x509.SystemRootsError)):
		e.Code = CodeUntrustedServer
		e.Cure = "give the roots of the service (--ca FILE; `imprint ca` prints them), and check that nothing stands between device and service"
	case errors.As(err, &name):
		e.Code = CodeWrongServerName
		e.Cure = "use an endpoint that the server's certificate names"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Code, e.retry = CodeClock, always // until the clock has been set
		e.Cure = "set this device's clock; if it is right, the server's certificate must be renewed"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		e.Code, e.retry = CodeUntrustedServer, always // until the server has another one
		e.Cure = "the server's certificate cannot be used for this: its operator must replace it"
	default:
		return nil
	}
	return e
}

// cancelled reports whether the caller gave up, which is something else than time running out.
func cancelled(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

func interrupted(err error) *Error {
	return &Error{Kind: KindInterrupted, Code: CodeInterrupted, Message: "interrupted", Err: err, Cure: "run again: what was done so far is kept"}
}

// claimRefused is what it means when the server does not like the certificate of a claim.
func claimRefused(code string, err error) *Error {
	if code == "" {
		code = CodeClaimRefused
	}
	return &Error{Kind: KindClaim, Code: code, Message: "the service does not accept the claim", Err: err,
		Cure: "ask for a new claim; a bootstrap certificate must be ACTIVE and its policy allow iot:Connect"}
}

// identityRefused is what it means when the server does not like the device's own certificate.
func identityRefused(code string, err error) *Error {
	if code == "" {
		code = CodeRefused
	}
	return &Error{Kind: KindRefused, Code: code, Message: "the service does not accept this device's certificate", Err: err,
		Cure: "the certificate must be ACTIVE, and its policy must allow iot:Connect with this client id (by default the thing's name)"}
}

// storage explains a failed file operation.
func storage(err error, format string, args ...any) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	e := &Error{Kind: KindStorage, Code: CodeStorage, Message: fmt.Sprintf(format, args...), Err: err,
		Cure: "check that the folder is on a writable file system with space, and belongs to this user"}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		e.Cure = "the file is damaged: remove it, or reset the store and provision again"
	}
	return e
}
