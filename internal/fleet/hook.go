package fleet

import (
	"time"
)

// FunctionKind says how a function is called.
type FunctionKind string

const (
	Webhook FunctionKind = "webhook" // HTTPS with an HMAC signature
	Lambda  FunctionKind = "lambda"  // the Invoke API of another endpoint
	Rule    FunctionKind = "rule"    // an expression over the parameters, worked out here
	Local   FunctionKind = "local"   // code that this server runs; LocalFunction has the rest of it
)

// A Function is what the ARN of a pre-provisioning hook's target stands for.
type Function struct {
	Name        string
	Kind        FunctionKind
	URL         string // Webhook, or the endpoint of Lambda
	Remote      string // Lambda: the function's name or ARN at the endpoint
	Region      string // Lambda: that requests are signed for
	AccessKeyID string // Lambda
	Sealed      []byte // Webhook and Lambda: the secret, sealed
	Rule        string
	Timeout     time.Duration
	Modified    time.Time
}

// A LookupTable is a set of keys that rules ask, for example the serial numbers that were shipped.
type LookupTable struct {
	Name    string
	Size    int // keys
	Created time.Time
}

var (
	functionName = NewPattern(`^[A-Za-z0-9_-]{1,64}$`)
	tableName    = NewPattern(`^[A-Za-z0-9_.-]{1,64}$`)
)

// ValidFunctionName reports whether s may name a function, as in AWS Lambda.
func ValidFunctionName(s string) bool { return functionName.MatchString(s) }

// ValidTableName reports whether s may name a lookup table.
func ValidTableName(s string) bool { return tableName.MatchString(s) }
