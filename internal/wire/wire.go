// Package wire speaks the AWS protocols, so that the services behind it see Go structs only: restJson1, awsJson1_1,
// awsQuery, and the JSON and CBOR of the reserved MQTT topics.
//
// Begin with Do in table.go: a service is its generated Model and a table of rows, each an operation's name, its handler and
// the resources that IAM decides on. Frontend (frontend.go) is the http.Handler that finds the operation, reads the request,
// asks who calls and whether they may, and writes the answer or the error in the protocol's own form. Below lie plan.go (what
// the struct tags mean), bind.go (input and its validation), json.go, query.go and rest.go (the protocols), topic.go (MQTT).
//
// # Generated structs
//
// One convention holds in every generated struct, so that absent and zero can be told apart:
//
//   - A scalar that the model requires is a plain value (string, bool, int, int64, float64, time.Time); an input without it
//     never reaches the handler, and an output always shows it.
//   - Any other scalar is a pointer; nil is absent. Use new(value) to fill one and Value to read one.
//   - Lists, maps and blobs are slices and maps; nil is absent, an empty one is present and empty.
//   - A structure is a pointer as a member and a value inside a list or a map.
//   - Model type integer is int, long is int64. Enumerations are strings; inputs are checked against the model's values.
//   - A document, whose form the model leaves open, is a Document: any JSON.
//   - What must never be printed (passwords, tokens, keys) has type fleet.Secret.
//
// A field is named like the member in the model with its first letter in upper case (UserPoolId, ThingArn).
package wire

// A Document is a JSON value. An input is as plain as can be: what the request had in it, checked by the parser and written again.
type Document []byte

// A Protocol is one of the AWS protocols.
type Protocol int

const (
	RESTJSON Protocol = iota // restJson1: iot, iot-data, lambda
	JSON11                   // awsJson1_1: cognito-idp, cognito-identity
	Query                    // awsQuery: sts, iam
)

// A Model is what the generator knows about a service beyond its structs.
type Model struct {
	ID             string // as in the SDKs, for example "Cognito Identity Provider"
	Version        string // API version, "2015-05-28"
	Protocol       Protocol
	TargetPrefix   string   // awsJson1_1: what X-Amz-Target begins with
	Namespace      string   // awsQuery: XML namespace of answers
	SigningNames   []string // service names that a signature's scope may carry; the first is the service's own
	ActionPrefix   string   // of IAM actions; empty: the first signing name
	ValidationCode string   // error code of a violated constraint
	Operations     []Operation
	Errors         map[string]int   // error code → HTTP status
	Shapes         map[string]Shape // constraints that the struct tags refer to
}

// Name is the service's short name, for logs and configuration: "iot", "cognito-idp", "sts".
func (m *Model) Name() string { return m.SigningNames[0] }

// An Operation is one call of a service.
type Operation struct {
	Name     string
	Method   string // restJson1
	URI      string // restJson1: path template with {label} and {greedy+}, perhaps with a fixed query
	Status   int    // of success; 0 is 200
	Unsigned bool   // no signature wanted
	NoOutput bool   // the model gives it no output shape (identity spec 4: no Result element)
}

// A Shape constrains values. Struct tags name shapes; the table holds those that have something to say.
type Shape struct {
	Range     string // "min..max" of a length, a number of entries or a number; either side may be empty
	Pattern   string // as in the model: a Java regular expression for the whole value
	RE2       string // the same for Go, where it differs
	Enum      []string
	Sensitive bool   // the value never appears in messages and logs
	Escape    bool   // percent-encoded in answers (IAM's policy documents)
	Flat      bool   // awsQuery: a list without its member elements
	Time      string // timestamp format where it is not the protocol's own: unixTimestamp, iso8601 or rfc822
	Elem, Key string // shapes of a list's or map's elements and of a map's keys
}

// Value returns what p points to, the zero value if p is nil.
func Value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// Optional returns a pointer to s; nil if it is empty, for members that are absent then.
func Optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
