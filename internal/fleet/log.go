package fleet

import "time"

// A LogGroup is a log that people read.
type LogGroup struct {
	ID      string // of its own even if another one had the name
	Name    string
	Created time.Time
	Days    int // that entries are kept; 0: as long as the server keeps logs
}

// A LogEntry is a line of a log.
type LogEntry struct {
	ID       string // sorts by Ingested
	Stream   string // who wrote it
	Time     time.Time
	Ingested time.Time // when it was stored
	Message  string
}

var logGroupName = NewPattern(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// ValidLogGroupName reports whether s may name a group, by the rule of CloudWatch Logs.
func ValidLogGroupName(s string) bool { return logGroupName.MatchString(s) }

// LoggingOptions say what of an account's devices and rules is logged, as SetV2LoggingOptions has them.
type LoggingOptions struct {
	Role   string // that logs are written in
	Level  string // the default one, a name of LogLevels; "": none was given
	Off    bool   // nothing is logged, whatever the levels say
	Events []LogEventOptions
}

// LogEventOptions say it for one type of event.
type LogEventOptions struct {
	Type  string
	Level string // "": the default one
	Group string // "": the usual one
}

// LogLevels, each of which has what stands before it logged too.
var LogLevels = []string{"DISABLED", "ERROR", "WARN", "INFO", "DEBUG"}
