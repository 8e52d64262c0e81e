// Package rulesql is the language of topic rules: it compiles a statement such as
//
//	SELECT *, topic(2) AS device FROM 'plant/+/state' WHERE temperature > 50
//
// and evaluates it on messages. Rules of pre-provisioning hooks are written in the same expressions, and so are the ${…} parts
// of a rule action's fields. The package is pure: no SQL of a database, no network; clock, randomness and allow-list tables are
// handed in by Environment. The language is iot-core spec 8; DESIGN.md tells what the spec leaves open and how it is decided.
//
// Begin with Parse (a statement), ParseExpression (a hook's rule) and ParseText (a field of an action): each checks its text
// once and gives an immutable program that any number of goroutines may run. Then parse.go has the grammar, eval.go what
// operators do, value.go the types and their conversions, number.go exact arithmetic, function.go the table of functions.
package rulesql

import (
	"io"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Version is a rule's awsIotSqlVersion (iot-core spec 8.1).
type Version string

const (
	V2015 Version = "2015-10-08" // what a rule without version has
	V2016 Version = "2016-03-23"
	Beta  Version = "beta" // the same as V2016
)

// Bounds. A statement that goes beyond one of the first three does not compile; a message that makes an evaluation go beyond
// one of the others makes it fail with an error of kind KindLimit.
const (
	MaxStatement = 256 << 10 // bytes of a statement: no rule is larger (iot-core spec 8.1)
	MaxNesting   = 100       // levels of brackets, functions and nested selects
	MaxNodes     = 10_000    // names, values, operators and calls, and a tenth of the instructions of patterns

	MaxSteps   = 200_000   // of one evaluation: about one for each name, value, operator, call, array element or 64 bytes of text
	MaxResult  = 256 << 10 // bytes of a text or a list of values that an evaluation makes, and of its result
	MaxMessage = 256 << 10 // bytes of a payload
	MaxDepth   = 100       // nesting of a payload
)

// A Message is what a statement runs on. Its fields must not change once it has run; one message may be given to many
// statements, at the same time too, and is read once.
type Message struct {
	Payload   []byte
	Topic     string // as published; the prefix of Basic Ingest is left out where statements see it
	ClientID  string // empty for what did not come by MQTT: clientid() is then "n/a"
	Principal string // certificate ID, or roleid:session or user ID (iot-core spec 8.4); empty makes principal() Undefined
	TraceID   string // UUID; empty for what did not come by MQTT: traceid() is then Undefined
	SourceIP  string // empty makes sourceip() Undefined

	Properties *Properties // of a message that came by MQTT 5; nil otherwise

	once  sync.Once
	value Value
	err   error
}

// Properties are what get_mqtt_property and get_user_properties tell. Empty texts stand for absent properties.
type Properties struct {
	ContentType     string
	UTF8            bool // the payload format indicator
	ResponseTopic   string
	CorrelationData []byte // nil if absent
	User            []UserProperty
}

type UserProperty struct{ Name, Value string }

// An Environment is what the world outside adds to an evaluation. It may be used by many evaluations at the same time.
type Environment struct {
	Account string           // that owns the rule; empty makes accountid() Undefined
	Now     func() time.Time // nil is the system's clock
	Random  io.Reader        // for newuuid() and rand(); nil is the system's

	// Table tells whether an allow-list table has the key: what in_table asks for. A table that does not exist is an error, and
	// an error ends the evaluation.
	Table func(table, key string) (bool, error)
}

// A Statement is a compiled rule, immutable and safe for concurrent use.
type Statement struct {
	version Version
	sel     selection
	filter  string
	hasFrom bool
}

// A Result is what a statement makes of a message.
type Result struct {
	Matched bool   // the WHERE clause is true, or there is none
	Payload []byte // what the actions get; nil if not Matched. It may be the message's own Payload: do not change it
	JSON    bool   // Payload is JSON text that the statement made; otherwise raw bytes, or nothing for an Undefined VALUE
}

// Parse compiles a statement for a version, "" being the first one. Errors have kind KindInvalid and say where the fault is and
// how to mend it; those about the statement have Code "SqlParseException".
func Parse(sql string, version Version) (*Statement, error) {
	p, err := newParser(sql, version, statements)
	if err != nil {
		return nil, err
	}
	s := &Statement{version: p.version}
	if err := p.statement(s); err != nil {
		return nil, p.wrap(err)
	}
	return s, nil
}

// Filter returns the topic filter of the FROM clause; without one the rule runs by Basic Ingest only, and ok is false.
func (s *Statement) Filter() (filter string, ok bool) { return s.filter, s.hasFrom }

// Matches reports whether the FROM clause selects topic.
func (s *Statement) Matches(topic string) bool {
	return s.hasFrom && fleet.TopicMatches(s.filter, topic)
}

// Run evaluates the statement on a message, whether or not its topic matches. It fails where a bound is exceeded or env fails;
// then no action may run.
func (s *Statement) Run(m *Message, env *Environment) (Result, error) {
	e := newEvaluation(s.version, m, env)
	defer e.done()
	if s.sel.where != nil {
		w := s.sel.where.eval(e)
		if e.err != nil || !w.isTrue() {
			return Result{}, e.err
		}
	}
	v := s.sel.result(e)
	if e.err != nil {
		return Result{}, e.err
	}
	switch v.kind {
	case undefined:
		return Result{Matched: true, Payload: []byte{}}, nil
	case raw:
		return Result{Matched: true, Payload: m.Payload}, nil
	}
	out, err := e.encode(v)
	if err != nil {
		return Result{}, err
	}
	return Result{Matched: true, Payload: out, JSON: true}, nil
}

// content reads the payload: an object or an array as such, anything else as raw bytes (iot-core spec 8.3).
func (m *Message) content() (Value, error) {
	m.once.Do(func() {
		if len(m.Payload) > MaxMessage {
			m.err = limit("the payload has %d bytes: rules see at most %d", len(m.Payload), MaxMessage)
			return
		}
		text := string(m.Payload)
		v, err := parseJSON(text)
		switch {
		case err == errTooDeep:
			m.err = limit("the payload nests more than %d levels deep", MaxDepth)
		case err != nil || v.kind != array && v.kind != object:
			m.value = Value{kind: raw, s: text}
		default:
			m.value = v
		}
	})
	return m.value, m.err
}

func limit(format string, args ...any) error {
	return fleet.OverLimit("", "", format, args...)
}
