package rulesql

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A function is a row of the table of functions (iot-core spec 8.4). With a number of arguments that it does not take, a call
// is Undefined; so it is with arguments of the wrong types.
type function struct {
	name      string
	min, max  int
	since     Version // V2016, if the first version does not have it
	ofMessage bool    // tells about the message; not for hook rules
	ofTables  bool    // for hook rules only
	params    string  // for errors

	// prepare looks at the arguments that are literals when the call is compiled, and refuses what could never work.
	prepare func(c *call) error
	run     func(e *evaluation, c *call, args []Value) Value
}

func (f *function) usage() string { return f.name + "(" + f.params + ") is how it is called" }

// anyNumber of arguments.
const anyNumber = math.MaxInt

// A call is a function with its arguments, and what prepare made of them.
type call struct {
	fn       *function
	args     []node
	prepared any
}

func (x *call) eval(e *evaluation) Value {
	if n := len(x.args); n < x.fn.min || n > x.fn.max {
		return Value{}
	}
	base := len(e.stack)
	for _, a := range x.args {
		v := a.eval(e)
		e.stack = append(e.stack, v)
	}
	if !e.step(0) {
		return Value{}
	}
	v := x.fn.run(e, x, e.stack[base:])
	e.stack = e.stack[:base]
	return v
}

// literalText returns the text of an argument that is written as one.
func (x *call) literalText(i int) (string, bool) {
	if i < len(x.args) {
		if l, ok := x.args[i].(*literal); ok && l.v.kind == text {
			return l.v.s, true
		}
	}
	return "", false
}

// functions is the table, by lower-case name. It is filled once, since rows refer to functions that refer to it.
var functions = func() map[string]*function {
	m := map[string]*function{}
	for _, group := range [][]function{messageFunctions, valueFunctions, textFunctions, numberFunctions, timeFunctions} {
		for _, f := range group {
			m[strings.ToLower(f.name)] = &f
		}
	}
	return m
}()

// notOffered are functions of the real service, with what to do in their place.
var notOffered = map[string]string{
	"aws_lambda":              "let the rule's action call the function",
	"get_dynamodb":            "there is no DynamoDB here; let a lambda action look the value up",
	"get_secret":              "let a lambda action read the secret",
	"get_thing_shadow":        "there are no shadows here",
	"get_registry_data":       "let a lambda action read the registry",
	"machinelearning_predict": "let a lambda action call the model",
	"in":                      "x IN array is an operator",
}

// similar names a function that the author may have meant.
func similar(name string) string {
	if len(name) > 40 {
		return ""
	}
	best := fleet.Nearest(name, slices.Sorted(maps.Keys(functions)))
	if best == "" {
		return ""
	}
	return ": is " + functions[best].name + "() meant?"
}

func textOrUndefined(s string) Value {
	if s == "" {
		return Value{}
	}
	return textValue(s)
}

// messageFunctions tell about the message, the rule and the moment.
var messageFunctions = []function{
	{name: "topic", max: 1, ofMessage: true, params: "[n]", run: topic},
	{name: "clientid", ofMessage: true, run: func(e *evaluation, _ *call, _ []Value) Value {
		if e.message.ClientID == "" {
			return textValue("n/a")
		}
		return textValue(e.message.ClientID)
	}},
	{name: "principal", ofMessage: true, run: func(e *evaluation, _ *call, _ []Value) Value { return textOrUndefined(e.message.Principal) }},
	{name: "traceid", ofMessage: true, run: func(e *evaluation, _ *call, _ []Value) Value { return textOrUndefined(e.message.TraceID) }},
	{name: "sourceip", ofMessage: true, run: func(e *evaluation, _ *call, _ []Value) Value { return textOrUndefined(e.message.SourceIP) }},
	{name: "get_mqtt_property", min: 1, max: 1, since: V2016, ofMessage: true, params: "name", prepare: prepareProperty, run: mqttProperty},
	{name: "get_user_properties", max: 1, since: V2016, ofMessage: true, params: "[key]", run: userProperties},
	{name: "accountid", run: func(e *evaluation, _ *call, _ []Value) Value { return textOrUndefined(e.env.Account) }},
	{name: "timestamp", run: func(e *evaluation, _ *call, _ []Value) Value { return intValue(e.now().UnixMilli()) }},
	{name: "newuuid", run: newUUID},
	{name: "rand", run: randomNumber},
	{name: "sql_version", run: func(e *evaluation, _ *call, _ []Value) Value { return textValue(string(e.version)) }},
	{name: "in_table", min: 2, max: 2, ofTables: true, params: "'table', key", prepare: prepareTable, run: inTable},
}

// topic tells the message's topic without the prefix of Basic Ingest, or one of its levels, counted from 1.
func topic(e *evaluation, _ *call, args []Value) Value {
	name := e.message.Topic
	if rest, ok := strings.CutPrefix(name, "$aws/rules/"); ok {
		_, name, _ = strings.Cut(rest, "/")
	}
	if len(args) == 0 {
		return textValue(name)
	}
	n := args[0].toIntDown()
	if n.kind == undefined {
		return n
	}
	for level := range strings.SplitSeq(name, "/") {
		if n.n--; n.kind == integer && n.big == nil && n.n == 0 {
			return textValue(level)
		}
	}
	return Value{}
}

var propertyNames = []string{"content_type", "format_indicator", "response_topic", "correlation_data"}

func prepareProperty(c *call) error {
	if name, ok := c.literalText(0); ok && !slices.Contains(propertyNames, name) {
		return fmt.Errorf("there is no property '%s': there are %s", clip(name), strings.Join(propertyNames, ", "))
	}
	return nil
}

func mqttProperty(e *evaluation, _ *call, args []Value) Value {
	p := e.message.Properties
	if p == nil || args[0].kind != text {
		return Value{}
	}
	switch args[0].s {
	case "content_type":
		return textOrUndefined(p.ContentType)
	case "response_topic":
		return textOrUndefined(p.ResponseTopic)
	case "format_indicator":
		if p.UTF8 {
			return textValue("UTF8_DATA")
		}
		return textValue("UNSPECIFIED_BYTES")
	case "correlation_data":
		if p.CorrelationData != nil && e.room(2*len(p.CorrelationData)) {
			return textValue(base64.StdEncoding.EncodeToString(p.CorrelationData))
		}
	}
	return Value{}
}

// userProperties gives an array: the values of one key, or an object for each property.
func userProperties(e *evaluation, _ *call, args []Value) Value {
	p := e.message.Properties
	if p == nil || len(args) == 1 && args[0].kind != text || !e.step(len(p.User)) {
		return Value{}
	}
	list := []Value{}
	for _, u := range p.User {
		switch {
		case len(args) == 0:
			list = append(list, Value{kind: object, items: &content{names: []string{u.Name}, values: []Value{textValue(u.Value)}}})
		case args[0].s == u.Name:
			list = append(list, textValue(u.Value))
		}
	}
	if len(args) == 1 && len(list) == 0 {
		return Value{}
	}
	return arrayOf(list)
}

func newUUID(e *evaluation, _ *call, _ []Value) Value {
	var b [16]byte
	if !e.random(b[:]) {
		return Value{}
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4, RFC 9562
	h := hex.EncodeToString(b[:])
	return textValue(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}

func randomNumber(e *evaluation, _ *call, _ []Value) Value {
	var b [8]byte
	if !e.random(b[:]) {
		return Value{}
	}
	return e.number(fromFloat(float64(binary.LittleEndian.Uint64(b[:])>>11) / (1 << 53)))
}

// prepareTable wants the table's name as a literal, so that whoever stores the rule can tell that the table is missing.
func prepareTable(c *call) error {
	name, ok := c.literalText(0)
	if !ok || name == "" {
		return errors.New("the first argument is the name of a table, in quotes: in_table('serials', SerialNumber)")
	}
	c.prepared = name
	return nil
}

func inTable(e *evaluation, c *call, args []Value) Value {
	key, ok := e.text(args[1])
	if !ok {
		return Value{}
	}
	table := c.prepared.(string)
	if e.env.Table == nil {
		e.err = fmt.Errorf("in_table('%s'): there are no tables here", table)
		return Value{}
	}
	found, err := e.env.Table(table, key)
	if err != nil {
		e.err = fmt.Errorf("in_table('%s'): %w", table, err)
		return Value{}
	}
	if e.step(100); e.explain && len(e.lookups) < maxNotes {
		e.lookups = append(e.lookups, Lookup{table, key, found})
	}
	return boolValue(found)
}

// valueFunctions work on values of several types.
var valueFunctions = []function{
	{name: "isNull", min: 1, max: 1, params: "value", run: func(_ *evaluation, _ *call, args []Value) Value {
		return boolValue(args[0].kind == null)
	}},
	{name: "isUndefined", min: 1, max: 1, since: V2016, params: "value", run: func(_ *evaluation, _ *call, args []Value) Value {
		return boolValue(args[0].kind == undefined)
	}},
	{name: "nanvl", min: 2, max: 2, params: "value, otherwise", run: func(_ *evaluation, _ *call, args []Value) Value {
		if args[0].kind == undefined || args[0].kind == null {
			return args[1]
		}
		return args[0]
	}},
	{name: "get", min: 2, max: 2, params: "array, object or text; index or name", run: get},
	{name: "concat", max: anyNumber, params: "value, …", run: concat},
	{name: "transform", min: 3, max: 3, since: V2016, params: "'enrichArray', object, array", run: transform},
	{name: "encode", min: 2, max: 2, since: V2016, params: "value, 'base64'", prepare: onlyBase64, run: encode},
	{name: "decode", min: 2, max: 2, since: V2016, params: "value, 'base64'", prepare: onlyBase64, run: decode},
}

func get(e *evaluation, _ *call, args []Value) Value {
	from, key := args[0], args[1]
	switch from.kind {
	case object:
		if key.kind != text || !e.step(len(from.items.names)/8) {
			return Value{}
		}
		return e.number(from.member(key.s))
	case array, text:
	default:
		return Value{}
	}
	i := key.toInt()
	if i.kind != integer || i.sign() < 0 {
		return Value{}
	}
	n := i.clamped(0, MaxMessage*2)
	if from.kind == array {
		if n < len(from.items.values) {
			return e.number(from.items.values[n])
		}
		return Value{}
	}
	if !e.step(n/64) || n >= len(from.s) {
		return Value{}
	}
	return textOrUndefined(slice(from.s, n, n+1))
}

// concat joins: one argument is itself; with an array among several they are one array; else, with a text among them, a text.
func concat(e *evaluation, _ *call, args []Value) Value {
	if len(args) == 1 {
		return args[0]
	}
	kinds := map[kind]bool{}
	for _, a := range args {
		kinds[a.kind] = true
	}
	switch {
	case kinds[undefined]:
		return Value{}
	case kinds[array]:
		var out []Value
		for _, a := range args {
			if a.kind == array {
				out = append(out, a.items.values...)
			} else {
				out = append(out, a)
			}
			if !e.step(len(out)) || !e.room(len(out)) {
				return Value{}
			}
		}
		return arrayOf(out)
	case !kinds[text]:
		return Value{}
	}
	var out []byte
	for _, a := range args {
		s, ok := e.text(a)
		if !ok || !e.room(len(out)+len(s)) {
			return Value{}
		}
		out = append(out, s...)
	}
	return textValue(string(out))
}

// transform puts the members of an object into each object of an array.
func transform(e *evaluation, _ *call, args []Value) Value {
	const largest = 128 << 10 // bytes of the result as JSON text
	if args[0].kind != text || args[0].s != "enrichArray" || args[1].kind != object || args[2].kind != array {
		return Value{}
	}
	added := args[1].items
	out := make([]Value, 0, len(args[2].items.values))
	for _, v := range args[2].items.values {
		if v.kind != object || !e.step(len(v.items.names)+len(added.names)*(1+len(v.items.names)/16)) {
			return Value{}
		}
		c := v.items.copy()
		for i, name := range added.names {
			c.put(name, added.values[i])
		}
		out = append(out, Value{kind: object, items: c})
	}
	v := arrayOf(out)
	w := writer{whole: e.whole, limit: largest}
	if n := len(w.value(nil, v)); !e.room(n) || w.over || n > largest {
		if e.err == nil {
			e.err = limit("transform makes more than %d bytes", largest)
		}
		return Value{}
	}
	return v
}

func onlyBase64(c *call) error {
	if scheme, ok := c.literalText(1); !ok || scheme != "base64" {
		return errors.New("the second argument is 'base64'; other encodings are not offered")
	}
	return nil
}

// encode takes the payload itself where its argument is *, else the text of the value.
func encode(e *evaluation, c *call, args []Value) Value {
	if _, all := c.args[0].(star); all && e.isPayload {
		if !e.room(len(e.message.Payload) * 4 / 3) {
			return Value{}
		}
		return textValue(base64.StdEncoding.EncodeToString(e.message.Payload))
	}
	s, ok := e.text(args[0])
	if !ok || !e.room(len(s)*4/3) {
		return Value{}
	}
	return textValue(base64.StdEncoding.EncodeToString([]byte(s)))
}

// decode gives the value of JSON text, else the text; what is not base64 or no text in UTF-8 is Null.
func decode(e *evaluation, _ *call, args []Value) Value {
	s, ok := e.text(args[0])
	if !ok || !e.room(len(s)) {
		return Value{}
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(s)
	}
	if err != nil || !utf8.Valid(b) {
		return Value{kind: null}
	}
	if v, err := parseJSON(string(b)); err == nil {
		e.step(len(b) / 16)
		return e.number(v)
	}
	return textValue(string(b))
}
