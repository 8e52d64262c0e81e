package provision

import (
	"errors"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// cures says how to mend refusals whose error says what is wrong and no more. It is read from above; the first row that fits is taken:
// its code, and words in the text.
var cures = []struct{ code, words, cure string }{
	{CodeInvalidToken, "cannot be empty", "send certificateOwnershipToken as it came in the accepted answer to the request for a certificate"},
	{CodeInvalidToken, "expired", "ask for a certificate again: a token is good for an hour"},
	{CodeInvalidToken, "another claim", "register on the connection that asked for the certificate, or on one with the same claim"},
	{CodeInvalidToken, "another template", "register with the template that the claim was made for"},
	{CodeInvalidToken, "another registration", "repeat a registration with the same parameters, or ask for a certificate again"},
	{CodeInvalidToken, "not valid here", "send the token unchanged, to the account that gave it; clients often cut it off at the size of a buffer: it has up to 512 characters"},
	{CodeInvalidToken, "malformed", "send the token unchanged, as text: it has up to 512 characters"},
	{CodeInvalidToken, "", "ask for a certificate again, and register that"},

	{CodeInvalidCSR, "signature", "sign the request with the key that is in it, as openssl req does"},
	{CodeInvalidCSR, "bits", "make a key of RSA with 2048 bits or more, or of P-256 or P-384"},
	{CodeInvalidCSR, "curve", "make a key of P-256 or P-384"},
	{CodeInvalidCSR, "", "send one PEM block CERTIFICATE REQUEST, line breaks written as \\n in JSON"},

	{CodeInvalidParameters, "Cannot resolve reference value: AWS::", "take it out of the template: only AWS::IoT::Certificate::Id has a value in a fleet template"},
	{CodeInvalidParameters, "Cannot resolve reference value", "let the device send this parameter, give it a Default in the template, or declare it there"},
	{CodeInvalidParameters, "may not choose", "add the name to the setting that the message names, if devices may choose it"},
	{CodeInvalidParameters, "is not enabled", "enable the template: aws iot update-provisioning-template --enabled"},
	{CodeInvalidParameters, "cannot be read", "send one map with the members of the request, as the last level of the topic says: JSON or CBOR"},
	{CodeInvalidParameters, "", "look at what the device sends, and play it through: imprint template try NAME --param NAME=VALUE"},

	{CodeAccessDenied, "is not enabled", "enable the template: aws iot update-provisioning-template --enabled"},
	{CodeAccessDenied, "is for template", "publish to the topic of the template that the claim was made for, or ask for a claim for this one"},
	{CodeAccessDenied, "claim expired", "ask for a new claim: it is good for five minutes"},
	{CodeAccessDenied, "installer", "have somebody make a new claim who may: the right of whoever made this one has ended"},
	{CodeAccessDenied, "hook", "look at what the function says of this device; imprint template try --call-hook asks it again"},

	{CodeNotFound, "template", "look at the template's name in the topic, and whether it exists in this account and region"},
	{CodeNotFound, "", "create what the template names, or correct the name: imprint template lint NAME finds them all"},

	{CodeConflict, "belongs to another device", "if it is the same device with a new key, let it renew with its own certificate, choose another Reprovision in the template's settings, or free the name: imprint thing deprovision NAME"},
	{CodeConflict, "FAIL", "choose another OverrideSettings in the template if devices may come again"},
	{CodeConflict, "", "try again; if it comes back, play it through: imprint template try NAME --param NAME=VALUE"},
}

// Cure says how to mend a refusal, "" where nothing is known.
func Cure(err error) string {
	var e *fleet.Error
	if !errors.As(err, &e) {
		return ""
	}
	_, code, message := Refusal(e)
	for _, c := range cures {
		if c.code == code && strings.Contains(message, c.words) {
			return c.cure
		}
	}
	return ""
}
