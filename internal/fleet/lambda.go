package fleet

import "time"

// A LocalFunction is what is known of a function that this server runs itself. Names and meanings are those of AWS Lambda.
type LocalFunction struct {
	Name         string
	Runtime      string // python3.12, nodejs20.x, provided.al2023 …
	Handler      string
	Role         string // ARN: it has credentials of this role
	Description  string
	Architecture string
	Timeout      time.Duration // whole seconds
	Memory       int           // MiB
	Storage      int           // MiB of /tmp
	Code         FunctionCode
	Environment  []byte // sealed
	Permissions  []FunctionPermission
	Revision     string // another one after each change
	Modified     time.Time
}

// FunctionCode names a zip file by its content.
type FunctionCode struct {
	Digest string // hexadecimal SHA-256
	Size   int64  // bytes
}

// A FunctionPermission is a statement of a function's policy: it lets a service do an action.
type FunctionPermission struct {
	ID            string // of the statement
	Service       string // for example iot.amazonaws.com
	Action        string // lambda:InvokeFunction, lambda:* …
	SourceARN     string `json:",omitempty"` // of what the service acts for, with wildcards; "": anything
	SourceAccount string `json:",omitempty"`
}

// MaxFunctions is how many functions a scope may have, of all kinds.
const MaxFunctions = 256
