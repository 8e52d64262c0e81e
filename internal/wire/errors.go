package wire

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Codes that the protocols share.
const (
	codeSerialization = "SerializationException"
	codeUnknown       = "UnknownOperationException"
	codeMethod        = "MethodNotAllowedException"
	codeTooLarge      = "RequestEntityTooLargeException"
)

// A failure is an error as a client sees it.
type failure struct {
	status  int
	code    string
	message string
	details map[string]string
	kind    fleet.Kind
	retry   time.Duration
}

type codeStatus struct {
	code   string
	status int
}

// signing names the errors of package sigv4 in each protocol (identity spec 5.7).
var signing = map[string][3]codeStatus{ // restJson1, awsJson1_1, awsQuery
	"MissingAuthenticationToken": {{"MissingAuthenticationTokenException", 403}, {"MissingAuthenticationTokenException", 400}, {"MissingAuthenticationToken", 403}},
	"IncompleteSignature":        {{"IncompleteSignatureException", 403}, {"IncompleteSignatureException", 400}, {"IncompleteSignature", 400}},
	"UnrecognizedClient":         {{"UnrecognizedClientException", 403}, {"UnrecognizedClientException", 400}, {"InvalidClientTokenId", 403}},
	"InvalidSignature":           {{"InvalidSignatureException", 403}, {"InvalidSignatureException", 400}, {"SignatureDoesNotMatch", 403}},
	"SignatureExpired":           {{"InvalidSignatureException", 403}, {"InvalidSignatureException", 400}, {"SignatureDoesNotMatch", 403}},
	"ExpiredToken":               {{"ExpiredTokenException", 403}, {"ExpiredTokenException", 400}, {"ExpiredToken", 403}},
}

// common holds the codes of kinds that a service's table does not name.
var common = map[fleet.Kind][3]codeStatus{ // restJson1, awsJson1_1, awsQuery
	fleet.KindInternal:       {{"InternalFailureException", 500}, {"InternalErrorException", 500}, {"InternalFailure", 500}},
	fleet.KindInvalid:        {{"InvalidRequestException", 400}, {"InvalidParameterException", 400}, {"ValidationError", 400}},
	fleet.KindNotFound:       {{"ResourceNotFoundException", 404}, {"ResourceNotFoundException", 400}, {"NoSuchEntity", 404}},
	fleet.KindExists:         {{"ResourceAlreadyExistsException", 409}, {"ResourceConflictException", 400}, {"EntityAlreadyExists", 409}},
	fleet.KindInUse:          {{"DeleteConflictException", 409}, {"ResourceConflictException", 400}, {"DeleteConflict", 409}},
	fleet.KindLimit:          {{"LimitExceededException", 410}, {"LimitExceededException", 400}, {"LimitExceeded", 409}},
	fleet.KindDenied:         {{"AccessDeniedException", 403}, {"AccessDeniedException", 400}, {"AccessDenied", 403}},
	fleet.KindThrottled:      {{"ThrottlingException", 400}, {"TooManyRequestsException", 400}, {"Throttling", 400}},
	fleet.KindConflict:       {{"ConflictException", 409}, {"ConcurrentModificationException", 400}, {"ConcurrentModification", 409}},
	fleet.KindNotImplemented: {{"InvalidRequestException", 400}, {"InvalidParameterException", 400}, {"InvalidAction", 400}},
	fleet.KindUnavailable:    {{"ServiceUnavailableException", 503}, {"ServiceUnavailableException", 503}, {"ServiceUnavailable", 503}},
}

// codes holds statuses of codes that stand in no model, and what a code is called in another protocol.
var codes = map[string][3]codeStatus{
	codeSerialization: {{codeSerialization, 400}, {codeSerialization, 400}, {"MalformedQueryString", 400}},
	codeUnknown:       {{codeUnknown, 404}, {codeUnknown, 400}, {"InvalidAction", 400}},
	codeMethod:        {{codeMethod, 405}, {codeUnknown, 400}, {"InvalidAction", 400}},
	codeTooLarge:      {{codeTooLarge, 413}, {codeTooLarge, 413}, {"RequestEntityTooLarge", 413}},
}

// translate turns an error into what a client of s sees; s is nil for a request of no service, which speaks protocol p.
func translate(s *Service, p Protocol, err error) failure {
	var e *fleet.Error
	if !errors.As(err, &e) {
		e = &fleet.Error{Kind: fleet.KindInternal, Err: err}
	}
	f := failure{kind: e.Kind, message: sentence(e), details: e.Details, retry: e.RetryAfter}
	if e.Kind == fleet.KindInternal {
		f.message, f.details = "An internal error occurred. Its cause is in the server's log under this request's id.", nil
	}
	known := codeStatus{}
	switch {
	case e.Kind == fleet.KindUnauthenticated && signing[e.Code] != [3]codeStatus{}:
		known = signing[e.Code][p]
	case codes[e.Code] != [3]codeStatus{}:
		known = codes[e.Code][p]
	case e.Code != "" && e.Kind != fleet.KindInternal:
		known.code = e.Code
	case s != nil && s.errors[e.Kind] != "":
		known.code = s.errors[e.Kind]
	case e.Kind == fleet.KindUnauthenticated:
		known = signing["UnrecognizedClient"][p]
	case common[e.Kind] != [3]codeStatus{}:
		known = common[e.Kind][p]
	default: // kinds that only a service's table can name
		known = common[fleet.KindInvalid][p]
	}
	f.code, f.status = known.code, known.status
	if s != nil && s.Errors[f.code] != 0 && (e.Kind != fleet.KindUnauthenticated || known.status == 0) {
		f.status = s.Errors[f.code]
	}
	if f.status == 0 {
		f.status = cmp.Or(common[e.Kind][p].status, http.StatusBadRequest)
	}
	if e.RetryAfter > 0 { // a budget of ours, which AWS does not have
		f.status = http.StatusTooManyRequests
		return f
	}
	if p == JSON11 && f.status < 500 && f.status != http.StatusRequestEntityTooLarge {
		f.status = http.StatusBadRequest // wrappers of Cognito test for 400 (identity spec 0.6)
	}
	return f
}

// sentence is the text for clients. A message that begins with a capital is a whole sentence; any other follows the resource's name.
func sentence(e *fleet.Error) string {
	first, _ := utf8.DecodeRuneInString(e.Msg)
	switch {
	case e.Msg == "":
		return e.Kind.String()
	case e.Resource == "" || unicode.IsUpper(first):
		return e.Msg
	case e.Name == "":
		return "The " + e.Resource + " " + e.Msg
	}
	r, n := utf8.DecodeRuneInString(e.Resource)
	return string(unicode.ToUpper(r)) + e.Resource[n:] + " " + e.Name + " " + e.Msg
}

// write answers with the failure in the form of protocol p. Clients read the header or the body, so both name the code
// (identity spec 0.6, 4 and 5.7; iot-core spec 1.5).
func (f failure) write(w http.ResponseWriter, p Protocol, namespace, requestID string) {
	h := w.Header()
	if f.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((f.retry+time.Second-1)/time.Second)))
	}
	if p == Query {
		var b bytes.Buffer
		kind := "Sender"
		if f.status >= 500 {
			kind = "Receiver"
		}
		b.WriteString("<ErrorResponse")
		if namespace != "" {
			b.WriteString(` xmlns="` + namespace + `"`)
		}
		b.WriteString("><Error>")
		xmlText(&b, "Type", kind)
		xmlText(&b, "Code", f.code)
		xmlText(&b, "Message", f.message)
		b.WriteString("</Error>")
		xmlText(&b, "RequestId", requestID)
		b.WriteString("</ErrorResponse>\n")
		h.Set("Content-Type", "text/xml")
		respond(w, f.status, b.Bytes())
		return
	}
	suffix := ""
	if p == JSON11 {
		suffix = ":"
	}
	h.Set("X-Amzn-Errortype", f.code+suffix)
	h.Set("X-Amzn-Errormessage", headerText(f.message[:min(len(f.message), maxShown)]))
	h.Set("Content-Type", jsonType(p))
	body := appendString([]byte(`{"__type":`), f.code)
	body = appendString(append(body, `,"message":`...), f.message)
	for _, k := range slices.Sorted(maps.Keys(f.details)) {
		if strings.EqualFold(k, "message") || k == "__type" {
			continue
		}
		body = append(appendString(append(body, ','), k), ':')
		body = appendString(body, f.details[k])
	}
	respond(w, f.status, append(body, '}'))
}

func jsonType(p Protocol) string {
	if p == JSON11 {
		return "application/x-amz-json-1.1"
	}
	return "application/json"
}
