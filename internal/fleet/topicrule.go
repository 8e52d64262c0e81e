package fleet

import "time"

// A TopicRule selects messages and has something done with what it makes of them (iot-core spec 8). Names of actions and members are
// AWS's.
type TopicRule struct {
	Name        string
	SQL         string
	SQLVersion  string // as it was given, or the first one
	Filter      string // of its FROM; "": it runs by Basic Ingest alone
	Description string
	Disabled    bool
	Actions     []RuleAction
	ErrorAction *RuleAction
	Created     time.Time
}

// A RuleAction is one of its members; the others are nil. Texts may hold substitution templates, but for ARNs.
type RuleAction struct {
	Lambda    *LambdaAction    `json:",omitempty"`
	Republish *RepublishAction `json:",omitempty"`
	HTTP      *HTTPAction      `json:",omitempty"`
	S3        *S3Action        `json:",omitempty"`

	CloudwatchLogs *CloudwatchLogsAction `json:",omitempty"`
}

// Roles lists the ARNs of the roles that the action is done in.
func (a RuleAction) Roles() []string {
	switch {
	case a.Republish != nil:
		return []string{a.Republish.Role}
	case a.HTTP != nil && a.HTTP.Sign != nil:
		return []string{a.HTTP.Sign.Role}
	case a.S3 != nil:
		return []string{a.S3.Role}
	case a.CloudwatchLogs != nil:
		return []string{a.CloudwatchLogs.Role}
	}
	return nil
}

// A LambdaAction has a function run.
type LambdaAction struct {
	Function string // ARN
}

// A RepublishAction publishes to another topic.
type RepublishAction struct {
	Role    string
	Topic   string
	QoS     int
	Headers *MessageHeaders `json:",omitempty"`
}

// An HTTPAction posts to a URL.
type HTTPAction struct {
	URL             string
	ConfirmationURL string // "": the URL itself
	Headers         []Tag
	Sign            *SignatureV4 `json:",omitempty"`
}

// An S3Action stores an object in a bucket.
type S3Action struct {
	Role, Bucket, Key string
	ACL               string `json:",omitempty"` // as it was given: "private", which holds anyway, or ""
}

// A CloudwatchLogsAction writes to a log: the result, or each entry of the batch that it is.
type CloudwatchLogsAction struct {
	Role, Group string
	Batch       bool
}

// SignatureV4 says in which role, for which service and region a request is signed.
type SignatureV4 struct{ Role, Service, Region string }

// A RuleDestination is a URL that http actions may send to once it was confirmed.
type RuleDestination struct {
	ID        string
	URL       string // for the confirmation; URLs of actions begin with it
	Status    string // DestinationInProgress …
	Reason    string // of DestinationError
	TokenHash string // of what confirms it
	Created   time.Time
	Modified  time.Time
}

// States of a destination, as AWS names them.
const (
	DestinationInProgress = "IN_PROGRESS"
	DestinationEnabled    = "ENABLED"
	DestinationDisabled   = "DISABLED"
	DestinationError      = "ERROR"
)

// MessageHeaders are the properties of a message of MQTT 5, as texts. Nil: not set.
type MessageHeaders struct {
	PayloadFormat   *string `json:",omitempty"` // UTF8_DATA, UNSPECIFIED_BYTES
	ContentType     *string `json:",omitempty"`
	ResponseTopic   *string `json:",omitempty"`
	CorrelationData *string `json:",omitempty"` // base64
	Expiry          *string `json:",omitempty"` // seconds
	User            []Tag   `json:",omitempty"`
}

var topicRuleName = NewPattern(`^[a-zA-Z0-9_]{1,128}$`)

// ValidTopicRuleName reports whether s may name a rule (iot-core spec 2.2).
func ValidTopicRuleName(s string) bool { return topicRuleName.MatchString(s) }
