package fleet

import (
	"errors"
	"fmt"
	"time"
)

// A Kind says what went wrong in terms of the domain. Each edge has one table from kinds to its protocol's codes.
type Kind int

const (
	KindInternal        Kind = iota // ours; logged, never shown
	KindInvalid                     // the request is malformed or breaks a rule
	KindNotFound                    // the named resource does not exist in this scope
	KindExists                      // the named resource exists already
	KindVersion                     // an expected version did not match
	KindInUse                       // deletion refused: something still depends on the resource
	KindState                       // the resource is in a state that forbids this
	KindLimit                       // a quota is used up
	KindVersionsLimit               // too many versions of one document
	KindMalformedPolicy             // a policy document does not parse
	KindDenied                      // the caller is known and may not do this
	KindUnauthenticated             // the caller could not be identified
	KindThrottled                   // too fast; try again later
	KindConflict                    // concurrent change or contradiction with what exists
	KindNotImplemented              // a known operation or member that this version does not offer
	KindUnavailable                 // a part that we depend on does not answer; try again
)

var kindNames = [...]string{"internal", "invalid", "not found", "exists", "version mismatch", "in use", "wrong state", "limit",
	"versions limit", "malformed policy", "denied", "unauthenticated", "throttled", "conflict", "not implemented", "unavailable"}

func (k Kind) String() string { return kindNames[k] }

// An Error is the one error type of the domain: what kind, about which resource, and a sentence that says what is wrong and
// how to mend it. The text is shown to clients for every kind but KindInternal.
type Error struct {
	Kind     Kind
	Resource string // "thing", "certificate", "user pool client" …
	Name     string // the resource's name or id, as the caller wrote it
	Msg      string // a sentence for the caller
	Code     string // set where the protocol has several codes for one kind, for example "CodeMismatchException"
	Reason   string // a stable word for the rule that refused, for traces and metrics; never sent
	Err      error  // the cause, for the log

	// RetryAfter, if set, is when a budget of ours that is used up may have something left again (package admission).
	RetryAfter time.Duration

	// Details are further members of the protocol's error, for example resourceArn of what exists already.
	Details map[string]string
}

func (e *Error) Error() string {
	s := e.Msg
	if s == "" {
		s = e.Kind.String()
	}
	if e.Resource != "" {
		s = e.Resource + " " + fmt.Sprintf("%q", e.Name) + ": " + s
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Kind: k}) true for every error of kind k.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && (t.Code == "" || t.Code == e.Code)
}

// KindOf returns the kind of err, KindInternal if it is not a domain error. err must not be nil.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// Invalid, NotFound, Exists and the other constructors make an Error of their kind; format and args make its sentence.
func Invalid(resource, name, format string, args ...any) *Error {
	return newError(KindInvalid, resource, name, format, args)
}

func NotFound(resource, name string) *Error {
	return &Error{Kind: KindNotFound, Resource: resource, Name: name, Msg: "does not exist"}
}

func Exists(resource, name, format string, args ...any) *Error {
	return newError(KindExists, resource, name, format, args)
}

func InUse(resource, name, format string, args ...any) *Error {
	return newError(KindInUse, resource, name, format, args)
}

func BadState(resource, name, format string, args ...any) *Error {
	return newError(KindState, resource, name, format, args)
}

func OverLimit(resource, name, format string, args ...any) *Error {
	return newError(KindLimit, resource, name, format, args)
}

func Denied(format string, args ...any) *Error {
	return newError(KindDenied, "", "", format, args)
}

// With returns e with one more member of the protocol's error.
func (e *Error) With(member, value string) *Error {
	if e.Details == nil {
		e.Details = map[string]string{}
	}
	e.Details[member] = value
	return e
}

// WithCode returns e with the protocol's own code.
func (e *Error) WithCode(code string) *Error { e.Code = code; return e }

func newError(k Kind, resource, name, format string, args []any) *Error {
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	return &Error{Kind: k, Resource: resource, Name: name, Msg: msg}
}
