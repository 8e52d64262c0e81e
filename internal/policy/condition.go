package policy

import (
	"encoding/base64"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// comparison is what an operator compares by; ordering says how, for numbers and dates.
type comparison uint8

const (
	compareString comparison = iota
	compareFold
	compareLike
	compareNumber
	compareDate
	compareBool
	compareBinary
	compareIP
	compareARN
	compareNull
)

type ordering uint8

const (
	equal ordering = iota
	less
	lessEqual
	greater
	greaterEqual
)

type operator struct {
	by      comparison
	order   ordering
	negated bool
}

// operators are the condition operators of identity spec 4.3 and iot-core spec 5.5, without prefixes and IfExists.
var operators = map[string]operator{
	"StringEquals":              {by: compareString},
	"StringNotEquals":           {by: compareString, negated: true},
	"StringEqualsIgnoreCase":    {by: compareFold},
	"StringNotEqualsIgnoreCase": {by: compareFold, negated: true},
	"StringLike":                {by: compareLike},
	"StringNotLike":             {by: compareLike, negated: true},
	"NumericEquals":             {by: compareNumber},
	"NumericNotEquals":          {by: compareNumber, negated: true},
	"NumericLessThan":           {by: compareNumber, order: less},
	"NumericLessThanEquals":     {by: compareNumber, order: lessEqual},
	"NumericGreaterThan":        {by: compareNumber, order: greater},
	"NumericGreaterThanEquals":  {by: compareNumber, order: greaterEqual},
	"DateEquals":                {by: compareDate},
	"DateNotEquals":             {by: compareDate, negated: true},
	"DateLessThan":              {by: compareDate, order: less},
	"DateLessThanEquals":        {by: compareDate, order: lessEqual},
	"DateGreaterThan":           {by: compareDate, order: greater},
	"DateGreaterThanEquals":     {by: compareDate, order: greaterEqual},
	"Bool":                      {by: compareBool},
	"BinaryEquals":              {by: compareBinary},
	"IpAddress":                 {by: compareIP},
	"NotIpAddress":              {by: compareIP, negated: true},
	"ArnEquals":                 {by: compareARN},
	"ArnLike":                   {by: compareARN},
	"ArnNotEquals":              {by: compareARN, negated: true},
	"ArnNotLike":                {by: compareARN, negated: true},
	"Null":                      {by: compareNull},
}

// quantifier is the prefix that says how a multi-valued key is tested.
type quantifier uint8

const (
	single quantifier = iota
	forAnyValue
	forAllValues
)

// condition is one operator on one key.
type condition struct {
	operator
	quantifier quantifier
	ifExists   bool
	key        string // as in Context
	values     []operand
}

// operand is a compiled value of a condition; which field counts depends on the comparison.
type operand struct {
	text glob // strings, ARNs and Bool
	arn  arnPattern
	num  float64
	time time.Time
	net  netip.Prefix
	raw  string // decoded binary
	null bool
	vars bool
}

// compileCondition compiles one operator with one key and its values.
func compileCondition(op, key string, values []string, variables bool, kind Kind) (condition, error) {
	c := condition{key: Key(key)}
	if kind == IoT && c.key == legacyThingName {
		c.key = thingNameKey
	}
	name := op
	if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		name, c.quantifier = rest, forAnyValue
	} else if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		name, c.quantifier = rest, forAllValues
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	var ok bool
	if c.operator, ok = operators[name]; !ok {
		return c, fmt.Errorf("Invalid Condition type : %s.", op)
	}
	if c.by == compareNull && (c.ifExists || c.quantifier != single) {
		return c, fmt.Errorf("Invalid Condition type : %s. Null takes neither prefix nor suffix.", op)
	}
	c.values = make([]operand, len(values))
	for i, v := range values {
		if err := c.values[i].compile(c.by, v, variables, kind); err != nil {
			return c, fmt.Errorf("The value %q of %s on %s is not valid: %w.", v, op, key, err)
		}
	}
	return c, nil
}

func (o *operand) compile(by comparison, v string, variables bool, kind Kind) (err error) {
	switch by {
	case compareNumber:
		if o.num, err = parseNumber(v); err != nil {
			return fmt.Errorf("it must be a number")
		}
	case compareDate:
		if o.time, err = parseDate(v); err != nil {
			return fmt.Errorf("it must be an ISO 8601 date or seconds since 1970")
		}
	case compareBinary:
		raw, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return fmt.Errorf("it must be base64")
		}
		o.raw = string(raw)
	case compareIP:
		if o.net, err = parseNet(v); err != nil {
			return fmt.Errorf("it must be an address or a range such as 192.0.2.0/24")
		}
	case compareNull:
		if o.null = strings.EqualFold(v, "true"); !o.null && !strings.EqualFold(v, "false") {
			return fmt.Errorf("it must be true or false")
		}
	default:
		if o.text, err = compileGlob(v, by == compareLike || by == compareARN, variables, kind); err != nil {
			return err
		}
		o.vars = o.text.hasVariables()
		if by == compareARN {
			o.arn = newARNPattern(o.text, true)
		}
		if by == compareBool && !o.vars && !strings.EqualFold(v, "true") && !strings.EqualFold(v, "false") {
			return fmt.Errorf("it must be true or false")
		}
	}
	return nil
}

// holds tests the condition (identity spec 4.3). A key without values is missing: then a negated operator and ForAllValues
// hold, others do not.
func (c *condition) holds(e *evaluation) bool {
	values := e.values(c.key)
	if len(values) == 0 && e.request.Partial {
		return e.lenient()
	}
	if c.by == compareNull {
		for i := range c.values {
			if c.values[i].null == (len(values) == 0) {
				return true
			}
		}
		return false
	}
	if len(values) == 0 {
		return c.ifExists || c.quantifier == forAllValues || (c.negated && c.quantifier == single)
	}
	if !c.resolved(e) {
		if e.request.Partial {
			return e.lenient()
		}
		if c.negated && e.kind == IoT && e.effect == Allow {
			return false
		}
	}
	for _, v := range values {
		hit := c.matchesAny(v, e)
		switch c.quantifier {
		case single: // several values of a key that should have one: any may match, and for a negated operator none may
			if hit {
				return !c.negated
			}
		case forAnyValue:
			if hit != c.negated {
				return true
			}
		case forAllValues:
			if hit == c.negated {
				return false
			}
		}
	}
	switch c.quantifier {
	case forAnyValue:
		return false
	case forAllValues:
		return true
	default:
		return c.negated
	}
}

// resolved reports whether all variables of the condition have values, and notes those that have not. An operand without value
// matches nothing, so positive operators fail and negated ones hold (identity spec 4.3); but in an Allow of an IoT policy an
// unresolved variable grants nothing, whatever the operator (iot-core spec 5.4).
func (c *condition) resolved(e *evaluation) bool {
	ok := true
	for i := range c.values {
		if c.values[i].vars && !e.resolved(c.values[i].text) {
			ok = false
		}
	}
	return ok
}

func (c *condition) matchesAny(v string, e *evaluation) bool {
	for i := range c.values {
		if c.matchesOne(&c.values[i], v, e) {
			return true
		}
	}
	return false
}

func (c *condition) matchesOne(o *operand, v string, e *evaluation) bool {
	switch c.by {
	case compareNumber:
		n, err := parseNumber(v)
		return err == nil && c.order.holds(compareFloat(n, o.num))
	case compareDate:
		t, err := parseDate(v)
		return err == nil && c.order.holds(t.Compare(o.time))
	case compareBinary:
		raw, err := base64.StdEncoding.DecodeString(v)
		return err == nil && string(raw) == o.raw
	case compareIP:
		ip, err := netip.ParseAddr(v)
		return err == nil && o.net.Contains(ip.WithZone("").Unmap())
	case compareARN:
		return o.arn.match(v, e)
	default:
		return o.text.match(v, e, c.by == compareFold || c.by == compareBool)
	}
}

func (o ordering) holds(cmp int) bool {
	switch o {
	case less:
		return cmp < 0
	case lessEqual:
		return cmp <= 0
	case greater:
		return cmp > 0
	case greaterEqual:
		return cmp >= 0
	default:
		return cmp == 0
	}
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func parseNumber(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err == nil && (math.IsNaN(n) || math.IsInf(n, 0)) {
		err = strconv.ErrSyntax
	}
	return n, err
}

var dateLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02", "2006-01", "20060102T150405Z"}

// parseDate reads the W3C profile of ISO 8601, or seconds since 1970.
func parseDate(s string) (time.Time, error) {
	if len(s) > 0 && s[0] >= '0' && s[0] <= '9' {
		for _, l := range dateLayouts {
			if t, err := time.Parse(l, s); err == nil {
				return t, nil
			}
		}
	}
	n, err := parseNumber(s)
	if err != nil || math.Abs(n) > 1e12 {
		return time.Time{}, strconv.ErrSyntax
	}
	whole, frac := math.Modf(n)
	return time.Unix(int64(whole), int64(frac*1e9)).UTC(), nil
}

func parseNet(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, strconv.ErrSyntax
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}
