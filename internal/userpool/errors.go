package userpool

import (
	"errors"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// The errors of user pools have exact texts: sign-in screens use them as dictionary keys (identity spec 1.10). Each carries its
// code, so that the edge needs no table for them.

func fail(kind fleet.Kind, code, msg string) *fleet.Error {
	return &fleet.Error{Kind: kind, Code: code, Msg: msg}
}

func notAuthorized(msg string) *fleet.Error {
	return fail(fleet.KindDenied, "NotAuthorizedException", msg)
}
func invalid(msg string) *fleet.Error {
	return fail(fleet.KindInvalid, "InvalidParameterException", msg)
}
func missing(parameter string) *fleet.Error {
	return invalid("Missing required parameter " + parameter)
}
func poolNotFound(id string) *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "User pool "+id+" does not exist.")
}
func clientNotFound(id string) *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "User pool client "+id+" does not exist.")
}
func groupNotFound() *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "Group not found.")
}
func userNotFound() *fleet.Error {
	return fail(fleet.KindNotFound, "UserNotFoundException", "User does not exist.")
}

// userNotInClient is what the operations of sign-up and recovery say for an unknown user.
func userNotInClient() *fleet.Error {
	return fail(fleet.KindNotFound, "UserNotFoundException", "Username/client id combination not found.")
}
func wrongPassword() *fleet.Error  { return notAuthorized("Incorrect username or password.") }
func lockedOut() *fleet.Error      { return notAuthorized("Password attempts exceeded") }
func userDisabled() *fleet.Error   { return notAuthorized("User is disabled.") }
func sessionUsed() *fleet.Error    { return sessionError("session can only be used once.") }
func sessionExpired() *fleet.Error { return sessionError("session is expired.") }
func sessionInvalid() *fleet.Error {
	return notAuthorized("Invalid session for the user.")
}
func sessionError(why string) *fleet.Error {
	return notAuthorized("Invalid session for the user, " + why)
}
func userNotConfirmed() *fleet.Error {
	return fail(fleet.KindState, "UserNotConfirmedException", "User is not confirmed.")
}
func resetRequired() *fleet.Error {
	return fail(fleet.KindState, "PasswordResetRequiredException", "Password reset required for the user")
}
func weakPassword(why string) *fleet.Error {
	return fail(fleet.KindInvalid, "InvalidPasswordException", "Password did not conform with policy: "+why)
}
func reusedPassword() *fleet.Error {
	return fail(fleet.KindInvalid, "PasswordHistoryPolicyViolationException", "Password has previously been used.")
}
func codeMismatch() *fleet.Error {
	return fail(fleet.KindInvalid, "CodeMismatchException", "Invalid verification code provided, please try again.")
}
func codeExpired() *fleet.Error {
	return fail(fleet.KindInvalid, "ExpiredCodeException", "Invalid code provided, please request a code again.")
}

// softwareTokensOff, noSoftwareToken and the next three are what the operations of software tokens say.
func softwareTokensOff() *fleet.Error {
	return fail(fleet.KindState, "SoftwareTokenMFANotFoundException", "Software Token MFA has not been enabled by the userPool")
}
func noSoftwareToken() *fleet.Error {
	return fail(fleet.KindNotFound, "SoftwareTokenMFANotFoundException", "Software Token MFA does not exist for the user.")
}
func tokenMismatchAtSetUp() *fleet.Error {
	return fail(fleet.KindInvalid, "EnableSoftwareTokenMFAException", "Code mismatch and fail enable Software Token MFA")
}
func tokenMismatch() *fleet.Error {
	return fail(fleet.KindInvalid, "CodeMismatchException", "Invalid code received for user")
}
func tokenUsed() *fleet.Error {
	return fail(fleet.KindInvalid, "ExpiredCodeException", "Your software token has already been used once.")
}
func attemptLimit() *fleet.Error {
	return fail(fleet.KindThrottled, "LimitExceededException", "Attempt limit exceeded, please try after some time.")
}
func tooManyFailures() *fleet.Error {
	return fail(fleet.KindThrottled, "TooManyFailedAttemptsException", "Attempt limit exceeded, please try after some time.")
}
func tooManyRequests() *fleet.Error {
	return fail(fleet.KindThrottled, "TooManyRequestsException", "Rate exceeded")
}
func usernameExists(msg string) *fleet.Error {
	return fail(fleet.KindExists, "UsernameExistsException", msg)
}
func aliasExists(kind string) *fleet.Error {
	return fail(fleet.KindExists, "AliasExistsException", "An account with the "+kind+" already exists.")
}
func schemaError(attribute, why string) *fleet.Error {
	return invalid("Attributes did not conform to the schema: " + attribute + ": " + why)
}
func notOffered(what string) *fleet.Error {
	return invalid(what + " is not offered by this version.")
}
func overLimit(msg string) *fleet.Error {
	return fail(fleet.KindLimit, "LimitExceededException", msg)
}

func isNotFound(err error) bool { return errors.Is(err, &fleet.Error{Kind: fleet.KindNotFound}) }
func isExists(err error) bool   { return errors.Is(err, &fleet.Error{Kind: fleet.KindExists}) }

// asNotFound replaces the store's word for an absent row with ours.
func asNotFound(err error, ours *fleet.Error) error {
	if isNotFound(err) {
		return ours
	}
	return err
}
