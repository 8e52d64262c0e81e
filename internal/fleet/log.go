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

// A LogStream is who writes to a log.
type LogStream struct {
	Name    string
	Created time.Time
}

var logGroupName = NewPattern(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// ValidLogGroupName reports whether s may name a group, by the rule of CloudWatch Logs.
func ValidLogGroupName(s string) bool { return logGroupName.MatchString(s) }
