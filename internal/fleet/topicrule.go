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
}

// Roles lists the ARNs of the roles that the action is done in.
func (a RuleAction) Roles() []string {
	if a.Republish != nil {
		return []string{a.Republish.Role}
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
