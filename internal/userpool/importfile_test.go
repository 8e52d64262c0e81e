package userpool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readLines reads all lines that follow one.
func readLines(t testing.TB, file io.Reader, last importLine) (lines []importLine) {
	t.Helper()
	r := newImportReader(file, last)
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		ok(t, err)
		lines = append(lines, l)
	}
}

func TestLinesOfAnImportAreReadWithBoundedMemory(t *testing.T) {
	t.Parallel()
	file := "header\r\n\none\\, two\n" + strings.Repeat("x", 16_000) + "\n" + strings.Repeat("x", 16_001) + "\n" + strings.Repeat("é", 16_000) + "\n" +
		strings.Repeat("y", 200_000) + "\r\nlast"
	want := []importLine{{Number: 1, End: 8, Text: "header"}, {Number: 2, End: 9}, {Number: 3, End: 19, Text: "one\\, two"}, {Number: 4, End: 16_020, Text: strings.Repeat("x", 16_000)},
		{Number: 5, End: 32_022, Long: true}, {Number: 6, End: 64_023, Text: strings.Repeat("é", 16_000)}, {Number: 7, End: 264_025, Long: true}, {Number: 8, End: 264_029, Text: "last"}}
	for name, r := range map[string]io.Reader{"at once": strings.NewReader(file), "byte by byte": iotest.OneByteReader(strings.NewReader(file))} {
		if got := readLines(t, r, importLine{}); !slices.Equal(got, want) {
			t.Errorf("%s: %d lines", name, len(got))
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					t.Errorf("line %d: %d, %d, %t and %d bytes, want %d, %d, %t and %d", i, got[i].Number, got[i].End, got[i].Long, len(got[i].Text),
						want[i].Number, want[i].End, want[i].Long, len(want[i].Text))
				}
			}
		}
	}
	for i, l := range want { // from any line on
		if got := readLines(t, strings.NewReader(file[l.End:]), l); !slices.Equal(got, want[i+1:]) {
			t.Errorf("behind line %d there are %d others", l.Number, len(got))
		}
	}
	broken := errors.New("broken")
	if _, err := newImportReader(iotest.ErrReader(broken), importLine{}).next(); !errors.Is(err, broken) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}

func TestALineOfAnImportIsSplitAtCommas(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                            {""},
		",":                           {"", ""},
		" a ,\tb":                     {"a", "b"},
		`a\,b,c`:                      {"a,b", "c"},
		`"a,b"`:                       {`"a`, `b"`},
		`12 Any Street\, Any Town, x`: {"12 Any Street, Any Town", "x"},
		`\,\,`:                        {",,"},
		`C:\dir,x\y`:                  {`C:\dir`, `x\y`},
		`a\`:                          {`a\`},
	} {
		if got := (importLine{Text: text}).cells(); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestUsersOfAFileAreCountedWhileItArrives(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]int64{"": 0, "h": 0, "h\n": 0, "h\na": 1, "h\na\n": 1, "h\r\n\r\na\r\n \t\nb": 2, "\n\nh\n\na\n": 1} {
		for _, piece := range []int{1, 2, 100} {
			var c importCount
			for part := range slices.Chunk([]byte(file), piece) {
				must(c.Write(part))(t)
			}
			if got := c.close(); got != want {
				t.Errorf("%q in pieces of %d: %d users, want %d", file, piece, got, want)
			}
		}
	}
}

// importLineOf is a line that has some columns.
func importLineOf(columns []string, values map[string]string) string {
	cells := make([]string, len(columns))
	for i, name := range columns {
		cells[i] = strings.ReplaceAll(values[name], ",", `\,`)
	}
	return strings.Join(cells, ",")
}

func TestTheHeaderOfAnImportIsThatOfThePool(t *testing.T) {
	t.Parallel()
	p := must(poolOfSettings(Settings{}, SchemaAttribute{Name: "site"}, SchemaAttribute{Name: "score", Type: "Number", DeveloperOnly: true}))(t)
	columns := p.importColumns()
	if got := strings.Join(columns, ","); got != "name,given_name,family_name,middle_name,nickname,preferred_username,profile,picture,website,email,email_verified,"+
		"gender,birthdate,zoneinfo,locale,phone_number,phone_number_verified,address,updated_at,custom:site,dev:custom:score,cognito:mfa_enabled,cognito:username" {
		t.Errorf("columns %s", got)
	}
	turned := slices.Clone(columns)
	slices.Reverse(turned)
	if got, err := importHeader(importLine{Text: strings.Join(turned, " , ")}, p); err != nil || !slices.Equal(got, turned) {
		t.Errorf("another order: %v, %v", got, err)
	}
	all := strings.Join(columns, ",")
	for text, want := range map[string]string{
		"":                                     "Column 1 of the header is none of this user pool: compare it with GetCSVHeader.",
		all + ",sub":                           "Column 24 of the header is none of this user pool: compare it with GetCSVHeader.",
		all + ",name":                          "The header has the column name twice.",
		strings.Replace(all, "gender,", "", 1): "The header lacks the column gender: all columns of GetCSVHeader must be there.",
		"\ufeff" + all:                         "The file must be UTF-8 without a byte order mark, and its first line the header from GetCSVHeader.",
		all + "\xff":                           "The file must be UTF-8 without a byte order mark, and its first line the header from GetCSVHeader.",
	} {
		_, err := importHeader(importLine{Text: text}, p)
		var r refusal
		if !errors.As(err, &r) || string(r) != want || len(want) > 128 {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// poolOfSettings is a pool that is in no store.
func poolOfSettings(s Settings, custom ...SchemaAttribute) (*Pool, error) {
	var err error
	if s.Schema, err = newSchema(custom); err == nil {
		err = checkSettings(&s)
	}
	return &Pool{Scope: scope, ID: "us-east-1_test", Settings: s}, err
}

func TestEachKindOfLineOfAnImport(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	settings := map[string]Settings{
		"plain":    {AutoVerified: []string{"email"}},
		"both":     {AutoVerified: []string{"email", "phone_number"}},
		"by email": {AutoVerified: []string{"email"}, UsernameAttributes: []string{"email"}},
		"alias":    {AutoVerified: []string{"email"}, AliasAttributes: []string{"email"}},
		"mfa":      {AutoVerified: []string{"email"}, MFA: MFAOn},
		"optional": {AutoVerified: []string{"email"}, MFA: MFAOptional},
	}
	custom := []SchemaAttribute{{Name: "score", Type: "Number", Range: &Bounds{Max: "9"}}, {Name: "flag", Type: "Boolean"}, {Name: "given_name", Type: "String", Required: true, Mutable: true}}
	base := map[string]string{importUsername: "ada", "email": "ada@example.com", "email_verified": "TRUE", "given_name": "Ada"}
	const verified = "The User Record does not set any of the auto verified attributes to true. (Example: email_verified to true)."
	for _, c := range []struct {
		pool   string
		change map[string]string
		want   string // why not; empty: it is somebody
	}{
		{"plain", nil, ""},
		{"plain", map[string]string{importMFA: "FALSE", "birthdate": "02/01/1985", "updated_at": "1471453471", "address": "1 Street, Town", "custom:score": "7", "custom:flag": "True"}, ""},
		{"plain", map[string]string{importUsername: ""}, "The line lacks cognito:username."},
		{"plain", map[string]string{importUsername: "ada l"}, "The username must not contain spaces or tabs."},
		{"plain", map[string]string{importUsername: "a\tl"}, "The username must not contain spaces or tabs."},
		{"plain", map[string]string{importUsername: strings.Repeat("é", 129)}, "The username has more than 128 characters, or some that are not printed."},
		{"plain", map[string]string{importUsername: "a\u200bl"}, "The username has more than 128 characters, or some that are not printed."},
		{"plain", map[string]string{"email_verified": ""}, verified},
		{"plain", map[string]string{"email_verified": "false"}, verified},
		{"plain", map[string]string{"email_verified": "false", "phone_number": "+123", "phone_number_verified": "true"}, verified},
		{"both", map[string]string{"email_verified": "false", "phone_number": "+123", "phone_number_verified": "true"}, ""},
		{"plain", map[string]string{"email": ""}, "email_verified is true, but there is no email."},
		{"plain", map[string]string{"phone_number_verified": "true"}, "phone_number_verified is true, but there is no phone_number."},
		{"plain", map[string]string{"email": "nonsense"}, "Invalid email address format."},
		{"plain", map[string]string{"phone_number": "123"}, "Invalid phone number format."},
		{"plain", map[string]string{"email_verified": "yes"}, "Attributes did not conform to the schema: email_verified: The attribute must be true or false"},
		{"plain", map[string]string{"birthdate": "1985-02-01"}, "birthdate must be a date in the form mm/dd/yyyy."},
		{"plain", map[string]string{"birthdate": "02/30/1985"}, "birthdate must be a date in the form mm/dd/yyyy."},
		{"plain", map[string]string{"updated_at": "yesterday"}, "Attributes did not conform to the schema: updated_at: The attribute must be a whole number"},
		{"plain", map[string]string{"custom:score": "10"}, "Attributes did not conform to the schema: custom:score: Number must be at most 9"},
		{"plain", map[string]string{"name": strings.Repeat("x", 2049)}, "Attributes did not conform to the schema: name: String must be no longer than 2048 characters"},
		{"plain", map[string]string{"given_name": ""}, "Attributes did not conform to the schema: given_name: The attribute is required"},
		{"plain", map[string]string{importMFA: "maybe"}, "cognito:mfa_enabled must be true, false or blank."},
		{"plain", map[string]string{importMFA: "true"}, "cognito:mfa_enabled must be false or blank: the user pool has MFA off."},
		{"mfa", map[string]string{importMFA: "false"}, "cognito:mfa_enabled must be true or blank: the user pool requires MFA."},
		{"mfa", map[string]string{importMFA: "true"}, ""},
		{"mfa", nil, ""},
		{"optional", map[string]string{importMFA: "false"}, ""},
		{"optional", map[string]string{importMFA: "true"}, "cognito:mfa_enabled cannot be true: it stands for SMS, which is not offered. People enable software tokens themselves."},
		{"by email", nil, "Username should be an email."},
		{"by email", map[string]string{importUsername: "ada@example.com"}, ""},
		{"by email", map[string]string{importUsername: "ada@example.com", "email": ""}, ""},
		{"by email", map[string]string{importUsername: "eve@example.com"}, "The username is the email in this user pool, but the line has another one in that column."},
		{"alias", map[string]string{importUsername: "ada@example.com"}, "Username cannot be of email format, since user pool is configured for email alias."},
	} {
		p := must(poolOfSettings(settings[c.pool], custom...))(t)
		columns := p.importColumns()
		values := map[string]string{}
		for _, m := range []map[string]string{base, c.change} {
			for k, v := range m {
				values[k] = v
			}
		}
		u, err := p.importUser(columns, importLine{Number: 2, Text: importLineOf(columns, values)}, at)
		why, mine := importWhy(err)
		if why != c.want || err != nil && !mine {
			t.Errorf("%s, %v: %q (%v), want %q", c.pool, c.change, why, err, c.want)
		}
		for name, value := range values {
			if err != nil && len(value) > 5 && strings.Contains(why, value) {
				t.Errorf("%s, %v: the log has the value of %s: %s", c.pool, c.change, name, why)
			}
		}
		if err != nil {
			continue
		}
		if u.Status != ResetRequired || !u.Enabled || len(u.Verifier) > 0 || u.Attributes["email"] != "ada@example.com" {
			t.Errorf("%s, %v: %+v", c.pool, c.change, u)
		}
		if values["address"] != "" && fmt.Sprint(u.Attributes) != "map[address:1 Street, Town birthdate:02/01/1985 custom:flag:true custom:score:7 email:ada@example.com email_verified:true given_name:Ada updated_at:1471453471]" {
			t.Errorf("attributes %v", u.Attributes)
		}
	}
	p := must(poolOfSettings(settings["plain"]))(t)
	columns := p.importColumns()
	for want, l := range map[string]importLine{
		"The line has more than 16000 characters.":                                       {Long: true},
		"The line is not UTF-8 text.":                                                    {Text: importLineOf(columns, map[string]string{"name": "\xff"})},
		"The line has 2 fields, the header has 21. A comma in a value is written as \\,": {Text: "a,b"},
	} {
		if _, err := p.importUser(columns, l, at); err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := p.importUser(columns, importLine{Text: importLineOf(columns, map[string]string{"name": "a\x00b"})}, at); err == nil || err.Error() != "The line is not UTF-8 text." {
		t.Errorf("a zero byte: %v", err)
	}
}

// FuzzImport: whatever a file holds, each of its bytes belongs to one line, the users are those that were counted while it arrived, and who
// comes of a line is somebody whom the pool could have.
func FuzzImport(f *testing.F) {
	p, err := poolOfSettings(Settings{AutoVerified: []string{"email", "phone_number"}, AliasAttributes: []string{"email"}}, SchemaAttribute{Name: "n", Type: "Number"}, SchemaAttribute{Name: "flag", Type: "Boolean"})
	if err != nil {
		f.Fatal(err)
	}
	byEmail, err := poolOfSettings(Settings{AutoVerified: []string{"email"}, UsernameAttributes: []string{"email", "phone_number"}, MFA: MFAOn})
	if err != nil {
		f.Fatal(err)
	}
	columns := p.importColumns()
	header := strings.Join(columns, ",")
	line := func(pairs ...string) string {
		values := map[string]string{importUsername: "ada", "email": "a@b", "email_verified": "true"}
		for i := 0; i < len(pairs); i += 2 {
			values[pairs[i]] = pairs[i+1]
		}
		return "\n" + importLineOf(columns, values)
	}
	f.Add([]byte(header + line() + "\r" + line("address", `1, Street`, "birthdate", "02/01/1985") + "\n \t\n" + line("custom:n", "7", "custom:flag", "TRUE")))
	f.Add([]byte(header + line(importUsername, "a b") + line(importUsername, "") + line("email", "") + line("email_verified", "") + line("phone_number_verified", "true") + line("name", "\x00") + line(importMFA, "true") + line(importMFA, "x") + line(importUsername, "\u200b") + line("birthdate", "1") + "\na,b"))
	f.Add([]byte(strings.Join(byEmail.importColumns(), ",") + "\n" + importLineOf(byEmail.importColumns(), map[string]string{importUsername: "a@b", "email_verified": "true", importMFA: "false"}) + "\n" +
		importLineOf(byEmail.importColumns(), map[string]string{importUsername: "+1", "email": "a@b", "email_verified": "true", "phone_number": "+2"})))
	f.Add([]byte("\ufeff" + header))
	f.Add([]byte("name,name"))
	f.Add([]byte("name"))
	f.Add([]byte(header + "\n" + strings.Repeat("x", 70_000) + "\n" + strings.Repeat("x", 16_001) + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		lines := readLines(t, bytes.NewReader(file), importLine{})
		var count importCount
		for part := range slices.Chunk(file, 7) {
			must(count.Write(part))(t)
		}
		at, users := int64(0), int64(0)
		for i, l := range lines {
			if l.Number != int64(i+1) || l.End <= at || l.Long && l.Text != "" || strings.ContainsRune(l.Text, '\n') || len([]rune(l.Text)) > maxImportRow {
				t.Fatalf("line %d begins at %d: %+v", i, at, l)
			}
			if raw := strings.TrimSuffix(strings.TrimSuffix(string(file[at:l.End]), "\n"), "\r"); !l.Long && raw != l.Text {
				t.Fatalf("line %d is %q, want %q", i, l.Text, raw)
			}
			if at = l.End; !l.blank() {
				users++
			}
		}
		if at != int64(len(file)) {
			t.Fatalf("the lines end at %d of %d", at, len(file))
		}
		if got := count.close(); got != max(users-1, 0) {
			t.Fatalf("%d users were counted, %d are there", got, users-1)
		}
		if len(lines) == 0 {
			return
		}
		for _, p := range []*Pool{p, byEmail} {
			columns, err := importHeader(lines[0], p)
			if err != nil {
				if why, mine := importWhy(err); !mine || why == "" || len(why) > 128 {
					t.Fatalf("the header is refused with %v", err)
				}
				continue
			}
			for _, l := range lines[1:] {
				u, err := p.importUser(columns, l, time.Unix(1, 0))
				if err != nil {
					if why, mine := importWhy(err); !mine || why == "" {
						t.Fatalf("the line %q is refused with %v", l.Text, err)
					}
					continue
				}
				if err := p.checkAttributes(u.Attributes); err != nil {
					t.Fatalf("%q: %v", l.Text, err)
				}
				if u.Username == "" || strings.ContainsAny(u.Username, " \t\x00") || u.Status != ResetRequired || u.Attributes["sub"] != "" ||
					u.Attributes["email_verified"] != "true" && u.Attributes["phone_number_verified"] != "true" || l.blank() {
					t.Fatalf("%q makes %+v", l.Text, u)
				}
			}
		}
	})
}
