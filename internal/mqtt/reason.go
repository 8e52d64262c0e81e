package mqtt

import "fmt"

// A Reason is why a connection ended, as lifecycle events name it (iot-core spec 6.9).
type Reason int

const (
	ClientInitiated  Reason = iota // DISCONNECT, or a WebSocket close frame
	ClientError                    // protocol violation, oversize, second CONNECT
	ConnectionLost                 // TCP or TLS broke
	DuplicateClient                // the same client id connected elsewhere
	AuthError                      // authorisation failed on a live connection, or its certificate lost its power
	ForbiddenAccess                // blocked peer
	KeepAliveTimeout               // nothing heard for one and a half keep-alives
	ServerError                    // ours
	ServerInitiated                // shutdown, drain
	APIInitiated                   // DeleteConnection
	Throttled                      // a limit
	WebSocketExpired               // 24 hours are over
)

var reasonNames = [...]string{"CLIENT_INITIATED_DISCONNECT", "CLIENT_ERROR", "CONNECTION_LOST", "DUPLICATE_CLIENTID", "AUTH_ERROR",
	"FORBIDDEN_ACCESS", "MQTT_KEEP_ALIVE_TIMEOUT", "SERVER_ERROR", "SERVER_INITIATED_DISCONNECT", "API_INITIATED_DISCONNECT",
	"THROTTLED", "WEBSOCKET_TTL_EXPIRATION"}

func (r Reason) String() string { return reasonNames[r] }

// MQTT 5 reason codes that we send (MQTT 5.0 section 2.4; the subset of iot-core spec 6.9).
const (
	codeSuccess          byte = 0x00
	codeNoSubscription   byte = 0x11
	codeUnspecified      byte = 0x80
	codeMalformed        byte = 0x81
	codeProtocolError    byte = 0x82
	codeUnsupportedLevel byte = 0x84
	codeClientID         byte = 0x85
	codeNotAuthorized    byte = 0x87
	codeShuttingDown     byte = 0x8B
	codeAuthMethod       byte = 0x8C
	codeKeepAlive        byte = 0x8D
	codeTakenOver        byte = 0x8E
	codeFilterInvalid    byte = 0x8F
	codeTopicInvalid     byte = 0x90
	codeReceiveMaximum   byte = 0x93
	codeAliasInvalid     byte = 0x94
	codeTooLarge         byte = 0x95
	codeQuota            byte = 0x97
	codeAdministrative   byte = 0x98
	codeQoS              byte = 0x9B
	codeSubscriptionID   byte = 0xA1
)

// An End is how a connection ended, or is to end. As an error it ends the connection whose packet caused it.
type End struct {
	Reason Reason
	Code   byte   // of the DISCONNECT or CONNACK that an MQTT 5 client gets; 0: none is sent
	Text   string // a sentence for the log, the trace and the MQTT 5 reason string
	NoWill bool   // keep the will unsent whatever the reason
}

func (e End) Error() string {
	if e.Text == "" {
		return e.Reason.String()
	}
	return e.Reason.String() + ": " + e.Text
}

// Unauthorized and Administrative are the ends that others ask for most.
func Unauthorized(format string, args ...any) End {
	return End{Reason: AuthError, Code: codeNotAuthorized, Text: fmt.Sprintf(format, args...)}
}

func Administrative(format string, args ...any) End {
	return End{Reason: APIInitiated, Code: codeAdministrative, Text: fmt.Sprintf(format, args...)}
}

func clientError(code byte, format string, args ...any) End {
	return End{Reason: ClientError, Code: code, Text: fmt.Sprintf(format, args...)}
}

func malformed(format string, args ...any) End { return clientError(codeMalformed, format, args...) }

func protocolError(format string, args ...any) End {
	return clientError(codeProtocolError, format, args...)
}
