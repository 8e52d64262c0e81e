package userpool

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// This file reads the files of user import jobs, and says whom a line stands for. It knows no store. The form is Cognito's ("Creating the
// user import CSV file" in its developer guide) and not RFC 4180: quotation marks are characters like others, and only a comma in a value
// is written with a backslash in front.

// Bounds of a file.
const (
	maxImportSize  = 100 << 20
	maxImportUsers = 500_000
	maxImportRow   = 16_000 // characters
)

// Columns of a file that are no attributes.
const (
	importUsername = "cognito:username"
	importMFA      = "cognito:mfa_enabled"
)

// importColumns lists the columns that a file for the pool must have, in any order.
func (p *Pool) importColumns() []string {
	var columns []string
	for _, a := range p.Schema {
		if a.Name != "sub" {
			columns = append(columns, a.Name)
		}
	}
	return append(columns, importMFA, importUsername)
}

// An importLine is a line of a file.
type importLine struct {
	Number int64  // the header's is 1
	End    int64  // offset in the file of what follows it
	Text   string // without the line break
	Long   bool   // it has more than maxImportRow characters, and no Text
}

// blank lines stand for nobody.
func (l importLine) blank() bool { return !l.Long && strings.Trim(l.Text, blanks) == "" }

const blanks = " \t\r"

// An importReader reads lines with bounded memory.
type importReader struct {
	r    *bufio.Reader
	last importLine
}

// newImportReader reads what follows a line that was read before; the zero line is the beginning of the file.
func newImportReader(r io.Reader, last importLine) *importReader {
	return &importReader{bufio.NewReaderSize(r, maxImportRow*utf8.UTFMax+2), last} // a longer line has too many characters, whatever they are
}

// next returns the next line. It fails with io.EOF behind the last one.
func (r *importReader) next() (importLine, error) {
	text, err := r.r.ReadSlice('\n')
	length := int64(len(text))
	long := errors.Is(err, bufio.ErrBufferFull)
	for errors.Is(err, bufio.ErrBufferFull) {
		text, err = r.r.ReadSlice('\n')
		length += int64(len(text))
	}
	if err != nil && (!errors.Is(err, io.EOF) || length == 0) {
		return importLine{}, err
	}
	line := importLine{Number: r.last.Number + 1, End: r.last.End + length}
	if text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")); long || utf8.RuneCount(text) > maxImportRow {
		line.Long = true
	} else {
		line.Text = string(text)
	}
	r.last = line
	return line, nil
}

// cells splits a line at its commas. A value has none of the white space around it.
func (l importLine) cells() []string {
	var cells []string
	rest := l.Text
	for from := 0; ; {
		i := strings.IndexByte(rest[from:], ',')
		if i < 0 {
			return append(cells, cell(rest))
		}
		if i += from; i > 0 && rest[i-1] == '\\' {
			from = i + 1
			continue
		}
		cells, rest, from = append(cells, cell(rest[:i])), rest[i+1:], 0
	}
}

func cell(raw string) string { return strings.ReplaceAll(strings.TrimSpace(raw), `\,`, ",") }

// refusal is why nobody can be made of a line, or no sense of a file. It tells nothing of what is in it: logs of imports are for others.
type refusal string

func (r refusal) Error() string { return string(r) }

// importHeader reads the first line of a file. It fails with a refusal unless the columns are those of the pool.
func importHeader(l importLine, p *Pool) ([]string, error) {
	if l.Long || !utf8.ValidString(l.Text) || strings.HasPrefix(l.Text, "\ufeff") {
		return nil, refusal("The file must be UTF-8 without a byte order mark, and its first line the header from GetCSVHeader.")
	}
	want := p.importColumns()
	columns := l.cells()
	for i, name := range columns {
		if !slices.Contains(want, name) {
			return nil, refusal(fmt.Sprintf("Column %d of the header is none of this user pool: compare it with GetCSVHeader.", i+1))
		}
		if slices.Contains(columns[:i], name) {
			return nil, refusal("The header has the column " + name + " twice.")
		}
	}
	for _, name := range want {
		if !slices.Contains(columns, name) {
			return nil, refusal("The header lacks the column " + name + ": all columns of GetCSVHeader must be there.")
		}
	}
	return columns, nil
}

// importUser makes the user whom a line stands for. It fails with a refusal, or with one of the errors that AdminCreateUser has.
func (p *Pool) importUser(columns []string, l importLine, now time.Time) (store.PoolUser, error) {
	switch {
	case l.Long:
		return store.PoolUser{}, refusal("The line has more than 16000 characters.")
	case !utf8.ValidString(l.Text) || strings.ContainsRune(l.Text, 0):
		return store.PoolUser{}, refusal("The line is not UTF-8 text.")
	}
	cells := l.cells()
	if len(cells) != len(columns) {
		return store.PoolUser{}, refusal(fmt.Sprintf("The line has %d fields, the header has %d. A comma in a value is written as \\,", len(cells), len(columns)))
	}
	var name, mfa string
	attributes := map[string]string{}
	for i, value := range cells {
		a, _ := p.attribute(columns[i])
		if a.Type == "Boolean" { // the sample of AWS's page has TRUE
			value = strings.ToLower(value)
		}
		switch columns[i] {
		case importUsername:
			name = value
		case importMFA:
			mfa = strings.ToLower(value)
		default:
			attributes[columns[i]] = value
		}
	}
	if err := p.importName(name, attributes); err != nil {
		return store.PoolUser{}, err
	}
	u, err := p.newIdentity(name, attributes, now)
	for _, check := range []func() error{func() error { return p.checkRequired(u.Attributes) }, func() error { return p.importAddresses(u.Attributes) },
		func() error { return p.importFactor(mfa) }} {
		if err == nil {
			err = check()
		}
	}
	u.Status = ResetRequired
	u.PasswordSet = now // there is none; what a sign-in carries of it must not look different
	return u, err
}

// importName has the rules for names that hold for lines of a file alone.
func (p *Pool) importName(name string, attributes map[string]string) error {
	switch {
	case name == "":
		return refusal("The line lacks " + importUsername + ".")
	case strings.ContainsAny(name, " \t"):
		return refusal("The username must not contain spaces or tabs.")
	case !usernameForm.MatchString(name):
		return refusal("The username has more than 128 characters, or some that are not printed.")
	}
	for kind, is := range map[string]func(string) bool{"email": isEmail, "phone_number": isPhone} {
		if other := attributes[kind]; slices.Contains(p.UsernameAttributes, kind) && is(name) && other != "" && other != name {
			return refusal("The username is the " + kind + " in this user pool, but the line has another one in that column.")
		}
	}
	return nil
}

// importAddresses has the rules for addresses, which people need to choose a password, and for days.
func (p *Pool) importAddresses(attributes map[string]string) error {
	if !slices.ContainsFunc(p.AutoVerified, func(kind string) bool { return attributes[kind+"_verified"] == "true" }) {
		return refusal("The User Record does not set any of the auto verified attributes to true. (Example: email_verified to true).")
	}
	for _, kind := range []string{"email", "phone_number"} {
		if attributes[kind+"_verified"] == "true" && attributes[kind] == "" {
			return refusal(kind + "_verified is true, but there is no " + kind + ".")
		}
	}
	if day := attributes["birthdate"]; day != "" {
		if _, err := time.Parse("01/02/2006", day); err != nil {
			return refusal("birthdate must be a date in the form mm/dd/yyyy.")
		}
	}
	return nil
}

// importFactor holds what a line says of the second factor against the pool's mode. Blank is what the pool needs.
func (p *Pool) importFactor(mfa string) error {
	mode := p.MFAMode()
	switch {
	case mfa != "" && mfa != "true" && mfa != "false":
		return refusal(importMFA + " must be true, false or blank.")
	case mfa == "true" && mode == MFAOff:
		return refusal(importMFA + " must be false or blank: the user pool has MFA off.")
	case mfa == "false" && mode == MFAOn:
		return refusal(importMFA + " must be true or blank: the user pool requires MFA.")
	case mfa == "true" && mode == MFAOptional:
		return refusal(importMFA + " cannot be true: it stands for SMS, which is not offered. People enable software tokens themselves.")
	}
	return nil
}

// An importCount counts the users of a file that is written to it: its lines without blank ones, and without the header.
type importCount struct {
	lines int64
	text  bool // the line that has begun is not blank
}

// Write implements io.Writer.
func (c *importCount) Write(p []byte) (int, error) {
	for rest := p; ; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		c.text = c.text || len(bytes.Trim(line, blanks)) > 0
		if !ended {
			break
		}
		c.end()
		rest = after
	}
	return len(p), nil
}

func (c *importCount) end() {
	if c.text {
		c.lines++
	}
	c.text = false
}

// close counts the last line, which need not end with a line break, and returns the users.
func (c *importCount) close() int64 {
	c.end()
	return max(c.lines-1, 0)
}

// importWhy is what the log of a job says of an error with a line; mine is false if the line is not to blame.
func importWhy(err error) (why string, mine bool) {
	var r refusal
	var e *fleet.Error
	switch {
	case errors.As(err, &r):
		return string(r), true
	case errors.As(err, &e) && e.Kind != fleet.KindInternal && e.Kind != fleet.KindUnavailable && e.Kind != fleet.KindConflict:
		return e.Msg, true
	}
	return "", false
}
