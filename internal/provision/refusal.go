package provision

import (
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/template"
)

// Codes of rejected requests on MQTT (provisioning spec 3.8).
const (
	CodeInvalidToken      = "InvalidCertificateOwnershipToken"
	CodeInvalidParameters = "InvalidParameters"
	CodeInvalidCSR        = "InvalidCertificateSigningRequest"
	CodeAccessDenied      = "AccessDenied"
	CodeNotFound          = "ResourceNotFound"
	CodeConflict          = "ResourceConflict"
	CodeThrottled         = "Throttled"
	CodeInternal          = "InternalFailure"
)

var statusOf = map[string]int{CodeInvalidToken: 400, CodeInvalidParameters: 400, CodeInvalidCSR: 400, CodeAccessDenied: 403,
	CodeNotFound: 404, CodeConflict: 409, CodeApprovalPending: 409, CodeThrottled: 429, CodeInternal: 500}

var codeOf = map[fleet.Kind]string{
	fleet.KindInvalid: CodeInvalidParameters, fleet.KindMalformedPolicy: CodeInvalidParameters, fleet.KindNotImplemented: CodeInvalidParameters,
	fleet.KindNotFound: CodeNotFound,
	fleet.KindExists:   CodeConflict, fleet.KindVersion: CodeConflict, fleet.KindInUse: CodeConflict, fleet.KindState: CodeConflict,
	fleet.KindConflict: CodeConflict, fleet.KindLimit: CodeConflict, fleet.KindVersionsLimit: CodeConflict,
	fleet.KindDenied: CodeAccessDenied, fleet.KindUnauthenticated: CodeAccessDenied,
	fleet.KindThrottled: CodeThrottled,
}

// Refusal words err as the payload of a rejected MQTT request: all three parts are always there, since clients read them
// unasked. Errors of ours are not shown.
func Refusal(err error) (status int, code, message string) {
	var e *fleet.Error
	if !errors.As(err, &e) {
		return 500, CodeInternal, "Internal failure"
	}
	code = e.Code
	if _, known := statusOf[code]; !known {
		code = codeOf[e.Kind]
	}
	if code == "" || code == CodeInternal {
		return 500, CodeInternal, "Internal failure"
	}
	shown := *e
	shown.Err = nil // the cause is for the log
	return statusOf[code], code, shown.Error()
}

// refusal counts a refusal by a limit and gives it its code.
func (p *Service) refusal(err error) error {
	p.refused(err)
	return onMQTT(err)
}

// refused counts a refusal by a limit.
func (p *Service) refused(err error) {
	var e *fleet.Error
	if p.OnRefuse != nil && errors.As(err, &e) && (budgets[e.Reason] || e.Reason == template.ReasonSerial) {
		p.OnRefuse(e.Reason)
	}
}

// onMQTT gives a domain error the code that its refusal will have, for the trace.
func onMQTT(err error) error {
	var e *fleet.Error
	if err == nil || !errors.As(err, &e) || e.Kind == fleet.KindInternal {
		return err
	}
	coded := *e
	_, coded.Code, _ = Refusal(e)
	return &coded
}

func invalidToken(format string, args ...any) error {
	return fleet.Invalid("", "", format, args...).WithCode(CodeInvalidToken)
}

// denied wraps err, a denial by IAM or a hook, in a sentence of ours. Other errors pass.
func denied(err error, format string, args ...any) error {
	if err == nil || fleet.KindOf(err) == fleet.KindInternal || fleet.KindOf(err) == fleet.KindUnavailable {
		return err
	}
	e := fleet.Denied(format, args...)
	e.Err = err
	return e
}
