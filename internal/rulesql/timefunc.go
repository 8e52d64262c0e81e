package rulesql

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones by name, wherever the program runs
	"unicode/utf8"
)

var timeFunctions = []function{
	{name: "parse_time", min: 2, max: 3, since: V2016, params: "pattern, milliseconds[, zone]", prepare: prepareFormat, run: parseTime},
	{name: "time_to_epoch", min: 2, max: 2, since: V2016, params: "text, pattern", prepare: prepareReading, run: timeToEpoch},
}

const (
	maxTimePattern  = 200  // bytes of a pattern of a date or time
	maxMilliseconds = 1e15 // from 1970 on and back: 31,000 years
	zoneSteps       = 500  // for looking a zone up by its name
)

// A timeField is a letter of a pattern, repeated, or plain text.
type timeField struct {
	letter byte // 0 of plain text
	n      int
	text   string
}

// A format is what parse_time knows before it runs.
type format struct {
	fields []timeField
	zone   *time.Location
}

const (
	formatLetters  = "GCYyxwedEDMaKhHkmsSzZ"    // Joda's DateTimeFormat
	readingLetters = "GuyMLdDEaKhHkmsSAnVzOXxZ" // java.time's DateTimeFormatter
)

// fieldsOf splits a pattern: letters have a meaning, all else is plain; quotes make letters plain, two of them are one.
func fieldsOf(pattern, letters string) (fields []timeField, err error) {
	if len(pattern) > maxTimePattern {
		return nil, fmt.Errorf("the pattern has %d bytes: at most %d are allowed", len(pattern), maxTimePattern)
	}
	plain := func(s string) {
		if k := len(fields); k > 0 && fields[k-1].letter == 0 {
			fields[k-1].text += s
		} else {
			fields = append(fields, timeField{text: s})
		}
	}
	for i := 0; i < len(pattern); {
		switch b := pattern[i]; {
		case b == '\'':
			s, n := quotedPlain(pattern[i:])
			if n == 0 {
				return nil, errors.New("a quote in the pattern is not closed")
			}
			plain(s)
			i += n
		case b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z':
			n := len(pattern[i:]) - len(strings.TrimLeft(pattern[i:], string(b)))
			if strings.IndexByte(letters, b) < 0 {
				return nil, fmt.Errorf("%s in the pattern is not offered: letters with a meaning are %s, others stand in single quotes", pattern[i:i+n], letters)
			}
			fields = append(fields, timeField{letter: b, n: n})
			i += n
		case strings.IndexByte("[]{}#", b) >= 0 && letters == readingLetters:
			return nil, fmt.Errorf("%c in the pattern is not offered", b)
		default:
			plain(string(b))
			i++
		}
	}
	return fields, nil
}

// quotedPlain reads from a quote to the one that closes it and returns the text and the bytes read, 0 if it is not closed.
func quotedPlain(s string) (text string, n int) {
	if strings.HasPrefix(s, "''") {
		return "'", 2
	}
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			text += s[i : i+1]
			continue
		}
		if !strings.HasPrefix(s[i:], "''") {
			return text, i + 1
		}
		text += "'"
		i++
	}
	return "", 0
}

func compileFormat(pattern string) (f format, err error) {
	if f.fields, err = fieldsOf(pattern, formatLetters); err != nil {
		return f, err
	}
	for _, t := range f.fields {
		if t.letter == 'z' && t.n > 3 {
			return f, errors.New("zzzz, the long name of a zone, is not offered: use z")
		}
	}
	return f, nil
}

func zoneOf(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, errors.New("there is no such time zone")
	}
	if z := offsetZone(name); z != nil {
		return z, nil
	}
	return time.LoadLocation(name)
}

func prepareFormat(c *call) error {
	if zone, ok := c.literalText(2); ok {
		if _, err := zoneOf(zone); err != nil {
			return fmt.Errorf("there is no time zone '%s': they are called UTC, Europe/Berlin, +02:00", clip(zone))
		}
	}
	pattern, ok := c.literalText(0)
	if !ok {
		return nil
	}
	f, err := compileFormat(pattern)
	if err != nil {
		return err
	}
	f.zone = time.UTC
	if len(c.args) == 3 {
		f.zone = nil
		if zone, ok := c.literalText(2); ok {
			f.zone, _ = zoneOf(zone)
		}
	}
	c.prepared = f
	return nil
}

// parseTime writes a moment, in milliseconds since 1970, as its pattern says.
func parseTime(e *evaluation, c *call, args []Value) Value {
	f, ok := c.prepared.(format)
	if !ok {
		pattern, known := e.text(args[0])
		if !known || !e.step(len(pattern)) {
			return Value{}
		}
		var err error
		if f, err = compileFormat(pattern); err != nil {
			return Value{}
		}
		if len(args) == 2 {
			f.zone = time.UTC
		}
	}
	if f.zone == nil {
		name, ok := e.text(args[2])
		if !ok || !e.step(zoneSteps) {
			return Value{}
		}
		var err error
		if f.zone, err = zoneOf(name); err != nil {
			return Value{}
		}
	}
	ms := args[1].toIntDown()
	if ms.kind != integer || ms.big != nil || max(ms.n, -ms.n) > maxMilliseconds || !e.step(4*len(f.fields)) {
		return Value{}
	}
	t := time.UnixMilli(ms.n).In(f.zone)
	var b []byte
	for _, field := range f.fields {
		if b = field.append(b, t); len(b) > 64*maxTimePattern {
			break
		}
	}
	return textValue(string(b))
}

// append writes a field as Joda does (org.joda.time.format.DateTimeFormat): numbers with at least n digits, names in English,
// in full from four letters on.
func (f timeField) append(b []byte, t time.Time) []byte {
	name := func(s string) []byte {
		if f.n < 4 && len(s) > 3 {
			s = s[:3]
		}
		return append(b, s...)
	}
	padded := func(v int) []byte {
		if v < 0 {
			b, v = append(b, '-'), -v
		}
		s := strconv.Itoa(v)
		for range f.n - len(s) {
			b = append(b, '0')
		}
		return append(b, s...)
	}
	yearOf := func(y int) []byte {
		if f.n == 2 {
			return padded((y%100 + 100) % 100)
		}
		return padded(y)
	}
	era := t.Year()
	if era < 1 {
		era = 1 - era
	}
	switch f.letter {
	case 0:
		return append(b, f.text...)
	case 'G':
		if t.Year() < 1 {
			return append(b, "BC"...)
		}
		return append(b, "AD"...)
	case 'C':
		return padded(era / 100)
	case 'Y':
		return yearOf(era)
	case 'y':
		return yearOf(t.Year())
	case 'x':
		year, _ := t.ISOWeek()
		return yearOf(year)
	case 'w':
		_, week := t.ISOWeek()
		return padded(week)
	case 'e':
		return padded((int(t.Weekday())+6)%7 + 1)
	case 'E':
		return name(t.Weekday().String())
	case 'D':
		return padded(t.YearDay())
	case 'M':
		if f.n > 2 {
			return name(t.Month().String())
		}
		return padded(int(t.Month()))
	case 'd':
		return padded(t.Day())
	case 'a':
		return append(b, t.Format("PM")...)
	case 'K':
		return padded(t.Hour() % 12)
	case 'h':
		return padded((t.Hour()+11)%12 + 1)
	case 'H':
		return padded(t.Hour())
	case 'k':
		return padded((t.Hour()+23)%24 + 1)
	case 'm':
		return padded(t.Minute())
	case 's':
		return padded(t.Second())
	case 'S':
		s := fmt.Sprintf("%03d", t.Nanosecond()/1e6)
		for range f.n - len(s) {
			s += "0"
		}
		return append(b, s[:f.n]...)
	case 'z':
		s, _ := t.Zone()
		return append(b, s...)
	}
	switch { // Z
	case f.n > 2:
		return append(b, t.Location().String()...)
	case f.n == 2:
		return append(b, t.Format("-07:00")...)
	}
	return append(b, t.Format("-0700")...)
}

// prepareReading reads a literal pattern.
func prepareReading(c *call) error {
	pattern, ok := c.literalText(1)
	if !ok {
		return nil
	}
	fields, err := compileReading(pattern)
	if err != nil {
		return err
	}
	c.prepared = fields
	return nil
}

// mostLetters tells how often a letter may be repeated, where that is not as often as one likes.
var mostLetters = map[byte]int{
	'G': 3, 'M': 4, 'L': 4, 'd': 2, 'D': 3, 'E': 4, 'a': 1, 'K': 2, 'h': 2, 'H': 2, 'k': 2, 'm': 2, 's': 2, 'S': 9, 'V': 2, 'z': 3, 'O': 4,
	'X': 3, 'x': 3, 'Z': 5,
}

func compileReading(pattern string) ([]timeField, error) {
	fields, err := fieldsOf(pattern, readingLetters)
	for _, f := range fields {
		if most := mostLetters[f.letter]; err == nil && (most > 0 && f.n > most || f.letter == 'V' && f.n != 2) {
			err = fmt.Errorf("%s in the pattern is not offered", strings.Repeat(string(f.letter), f.n))
		}
	}
	return fields, err
}

// timeToEpoch reads a date or time as its pattern says, in UTC if it names no zone, and gives milliseconds since 1970.
func timeToEpoch(e *evaluation, c *call, args []Value) Value {
	s, ok := e.text(args[0])
	if !ok || len(s) > 4*maxTimePattern {
		return Value{}
	}
	fields, ok := c.prepared.([]timeField)
	if !ok {
		pattern, known := e.text(args[1])
		if !known || !e.step(len(pattern)) {
			return Value{}
		}
		var err error
		if fields, err = compileReading(pattern); err != nil {
			return Value{}
		}
	}
	if !e.step(len(s) + 4*len(fields)) {
		return Value{}
	}
	p := timeParts{zone: time.UTC, half: -1}
	for i, f := range fields {
		if (f.letter == 'V' || f.letter == 'z') && !e.step(zoneSteps) {
			return Value{}
		}
		if s, ok = p.read(f, fields[i+1:], s); !ok {
			return Value{}
		}
	}
	if s != "" {
		return Value{}
	}
	return p.moment()
}

// timeParts are what was read of a moment.
type timeParts struct {
	year, month, day, yearDay  int
	hour, minute, second, nano int
	half                       int // 0 AM, 1 PM, -1 not told
	weekday                    int // 1 is Sunday; 0 not told
	hasYear, before, twelve    bool
	zone                       *time.Location
}

// isNumeric reports whether a field is read as digits.
func (f timeField) isNumeric() bool {
	return strings.IndexByte("uydDKhHkmsSAn", f.letter) >= 0 && f.letter != 0 || (f.letter == 'M' || f.letter == 'L') && f.n < 3
}

// isFixed reports whether a numeric field has as many digits as letters: fractions do, others if they have several.
func (f timeField) isFixed() bool { return f.n > 1 || f.letter == 'S' }

// width tells how many digits a field takes of those that follow: letters n times are n digits, one letter takes what the
// fixed fields right behind it leave (java.time's adjacent value parsing).
func (f timeField) width(s string, rest []timeField) int {
	run := countDigits(s)
	if f.isFixed() {
		return min(run, f.n)
	}
	for _, r := range rest {
		if !r.isNumeric() || !r.isFixed() {
			break
		}
		run -= r.n
	}
	return max(0, min(run, 9))
}

// read takes a field off s.
func (p *timeParts) read(f timeField, rest []timeField, s string) (string, bool) {
	if f.letter == 0 {
		return strings.CutPrefix(s, f.text)
	}
	if !f.isNumeric() {
		return p.readText(f, s)
	}
	n := f.width(s, rest)
	if n == 0 || f.n > 1 && n < f.n {
		return "", false
	}
	v, _ := strconv.Atoi(s[:n])
	return s[n:], p.set(f, v)
}

// set stores a number and reports whether its field can have it.
func (p *timeParts) set(f timeField, v int) bool {
	switch f.letter {
	case 'y', 'u':
		if f.n == 2 {
			v += 2000
		}
		p.year, p.hasYear = v, true
		return v <= 999_999
	case 'M', 'L':
		p.month = v
		return v >= 1 && v <= 12
	case 'd':
		p.day = v
		return v >= 1 && v <= 31
	case 'D':
		p.yearDay = v
		return v >= 1 && v <= 366
	case 'H':
		p.hour = v
		return v < 24
	case 'k':
		p.hour = v % 24
		return v >= 1 && v <= 24
	case 'K':
		p.hour, p.twelve = v, true
		return v < 12
	case 'h':
		p.hour, p.twelve = v%12, true
		return v >= 1 && v <= 12
	case 'm':
		p.minute = v
		return v < 60
	case 's':
		p.second = v
		return v < 60
	case 'S':
		p.nano = v * int(math.Pow10(9-f.n))
		return true
	case 'n':
		p.nano = v
		return v < 1e9
	}
	p.hour, p.minute, p.second, p.nano = v/3_600_000, v/60_000%60, v/1000%60, v%1000*1e6 // A, milliseconds of the day
	return v < 86_400_000
}

// readText takes a name or a zone off s. Names are English; their case counts.
func (p *timeParts) readText(f timeField, s string) (string, bool) {
	switch f.letter {
	case 'G':
		for i, era := range []string{"BC", "AD"} {
			if rest, ok := strings.CutPrefix(s, era); ok {
				p.before = i == 0
				return rest, true
			}
		}
	case 'M', 'L':
		return readName(s, 12, f.n, func(i int) string { return time.Month(i).String() }, &p.month)
	case 'E':
		return readName(s, 7, f.n, func(i int) string { return time.Weekday(i - 1).String() }, &p.weekday)
	case 'a':
		for i, half := range []string{"AM", "PM"} {
			if rest, ok := strings.CutPrefix(s, half); ok {
				p.half = i
				return rest, true
			}
		}
	case 'X', 'x':
		if rest, ok := strings.CutPrefix(s, "Z"); ok && f.letter == 'X' {
			return rest, true
		}
		return p.readOffset(s, f.n == 3, f.n == 1)
	case 'Z':
		if f.n == 5 {
			if rest, ok := strings.CutPrefix(s, "Z"); ok {
				return rest, true
			}
		}
		if f.n == 4 {
			return p.readLocalized(s)
		}
		return p.readOffset(s, f.n == 5, false)
	case 'O':
		return p.readLocalized(s)
	default: // VV and z
		n := 0
		for n < len(s) && (s[n] < utf8.RuneSelf && strings.IndexByte("/_+-:", s[n]) >= 0 || nameLength("a"+s[n:n+1]) == 2) {
			n++
		}
		return s[n:], p.setZone(s[:n], f.letter == 'z')
	}
	return "", false
}

// readName finds the longest of names 1…last that s begins with; up to three letters of the pattern mean short names.
func readName(s string, last, letters int, name func(int) string, into *int) (string, bool) {
	for i := 1; i <= last; i++ {
		full := name(i)
		if letters < 4 {
			full = full[:3]
		}
		if rest, ok := strings.CutPrefix(s, full); ok {
			*into = i
			return rest, true
		}
	}
	return "", false
}

// readOffset reads +hhmm, with colon +hh:mm, and +hh alone where that is allowed.
func (p *timeParts) readOffset(s string, colon, short bool) (string, bool) {
	n := 5
	switch {
	case colon:
		n = 6
	case short && len(s) >= 3 && countDigits(s[1:]) < 4:
		n = 3
	}
	if len(s) < n {
		return "", false
	}
	if p.zone = offsetZone(s[:n]); p.zone == nil || colon != (strings.IndexByte(s[:n], ':') == 3) {
		return "", false
	}
	return s[n:], true
}

// readLocalized reads GMT, GMT+8 or GMT+08:00.
func (p *timeParts) readLocalized(s string) (string, bool) {
	rest, ok := strings.CutPrefix(s, "GMT")
	n := 0
	for n < len(rest) && strings.IndexByte("+-:0123456789", rest[n]) >= 0 {
		n++
	}
	if n > 0 {
		if p.zone = offsetZone(rest[:n]); p.zone == nil {
			return "", false
		}
	}
	return rest[n:], ok
}

// abbreviated zones that java.time reads for z, as far as they are not ambiguous.
var abbreviated = map[string]string{
	"PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "MST": "America/Denver", "MDT": "America/Denver",
	"CST": "America/Chicago", "CDT": "America/Chicago", "EST": "America/New_York", "EDT": "America/New_York",
	"CET": "Europe/Paris", "CEST": "Europe/Paris", "WET": "WET", "EET": "EET", "JST": "Asia/Tokyo", "Z": "UTC", "GMT": "UTC", "UT": "UTC",
}

// setZone takes the name of a zone, UTC, GMT or UT with an offset, or an offset.
func (p *timeParts) setZone(name string, short bool) bool {
	if full := abbreviated[name]; full != "" && (short || full == "UTC") {
		name = full
	}
	for _, prefix := range []string{"UTC", "GMT", "UT"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && (rest[0] == '+' || rest[0] == '-') {
			name = rest
			break
		}
	}
	z, err := zoneOf(name)
	if err == nil {
		p.zone = z
	}
	return err == nil
}

// offsetZone reads +h, +hh, +hhmm or +hh:mm, up to 18 hours.
func offsetZone(s string) *time.Location {
	if len(s) < 2 || s[0] != '+' && s[0] != '-' {
		return nil
	}
	digits := s[1:]
	if len(digits) == 5 && digits[2] == ':' {
		digits = digits[:2] + digits[3:]
	}
	if countDigits(digits) != len(digits) || len(digits) == 3 || len(digits) > 4 {
		return nil
	}
	n, _ := strconv.Atoi(digits)
	if len(digits) < 3 {
		n *= 100
	}
	if n%100 > 59 || n > 1800 {
		return nil
	}
	seconds := n/100*3600 + n%100*60
	if s[0] == '-' {
		seconds = -seconds
	}
	return time.FixedZone(s, seconds)
}

// moment puts the parts together as java.time does: a day that the month has not is the month's last, what is not told of the
// time is zero; a date must be told.
func (p *timeParts) moment() Value {
	if p.before {
		p.year = 1 - p.year
	}
	if p.twelve {
		if p.half < 0 {
			return Value{}
		}
		p.hour += 12 * p.half
	}
	month, day := time.Month(p.month), p.day
	switch {
	case !p.hasYear:
		return Value{}
	case p.month > 0 && p.day > 0:
		if last := time.Date(p.year, month+1, 0, 0, 0, 0, 0, time.UTC).Day(); day > last {
			day = last
		}
	case p.yearDay > 0:
		month, day = time.January, p.yearDay
	default:
		return Value{}
	}
	t := time.Date(p.year, month, day, p.hour, p.minute, p.second, p.nano, p.zone)
	if p.weekday > 0 && int(t.Weekday()) != p.weekday-1 || p.yearDay > 0 && t.YearDay() != p.yearDay {
		return Value{}
	}
	return intValue(t.UnixMilli())
}
