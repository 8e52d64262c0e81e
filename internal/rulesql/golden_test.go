package rulesql

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

// Golden files in testdata come in two forms. In functions.txt, operators.txt and version2015.txt a line is
//
//	expression → value
//
// and is evaluated as SELECT VALUE over the payload that the file's head gives; "-- sentence --" begins a group, # a comment. In
// statements.txt a section has a statement (sql), a message (payload, topic) and what the actions get (result: JSON text, "raw "
// and bytes, or "no match"). errors.txt has a text that does not compile and the error.

// testMessage is the message of all golden files, but for its payload.
func testMessage(payload string) *Message {
	return &Message{
		Payload: []byte(payload), Topic: "plant/b1/state", ClientID: "lamp-1", SourceIP: "192.0.2.1",
		Principal: "ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373", TraceID: "12345678-1234-1234-1234-123456789012",
		Properties: &Properties{ContentType: "text/plain", UTF8: true, ResponseTopic: "answers", CorrelationData: []byte{1, 2},
			User: []UserProperty{{"some key", "some value"}, {"other key", "a different value"}, {"some key", "value with duplicate key"}}},
	}
}

func testEnvironment() *Environment {
	var bytes16 [16]byte
	for i := range bytes16 {
		bytes16[i] = byte(i)
	}
	return &Environment{
		Account: "123456789012",
		Now:     func() time.Time { return time.UnixMilli(1481825251155) },
		Random:  bytes.NewReader(bytes16[:]),
	}
}

// show writes a result as golden files do.
func show(r Result) string {
	switch {
	case !r.Matched:
		return "no match"
	case r.JSON:
		return string(r.Payload)
	}
	return "raw " + string(r.Payload)
}

func readTestdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A goldenLine is an expression and its value.
type goldenLine struct{ expr, want string }

func goldenLines(t testing.TB, file string) (payload string, version Version, lines []goldenLine) {
	t.Helper()
	version = V2016
	for line := range strings.Lines(readTestdata(t, file)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "payload "); ok {
			payload = rest
		} else if rest, ok := strings.CutPrefix(line, "version "); ok {
			version = Version(rest)
		} else if expr, want, ok := strings.Cut(line, " → "); ok {
			lines = append(lines, goldenLine{expr, want})
		} else if line != "" && line[0] != '#' && !strings.HasPrefix(line, "-- ") {
			t.Fatalf("%s: what is %q?", file, line)
		}
	}
	return payload, version, lines
}

var lineFiles = []string{"functions.txt", "operators.txt", "version2015.txt"}

func TestExpressionsInGoldenFiles(t *testing.T) {
	t.Parallel()
	for _, file := range lineFiles {
		payload, version, lines := goldenLines(t, file)
		for _, l := range lines {
			s, err := Parse("SELECT VALUE ("+l.expr+") FROM 'a'", version)
			if strings.HasPrefix(l.expr, "(SELECT") {
				s, err = Parse("SELECT VALUE "+l.expr+" FROM 'a'", version)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", file, l.expr, err)
				continue
			}
			r, err := s.Run(testMessage(payload), testEnvironment())
			got := show(r)
			if err != nil {
				got = err.Error()
			} else if got == "raw " {
				got = "Undefined"
			}
			if got != l.want {
				t.Errorf("%s: %s\n got %s\nwant %s", file, l.expr, got, l.want)
			}
		}
	}
}

func TestEveryFunctionIsInTheGoldenFile(t *testing.T) {
	t.Parallel()
	all := strings.ToLower(readTestdata(t, "functions.txt"))
	for name, f := range functions {
		if !f.ofTables && !strings.Contains(all, "\n"+name+"(") {
			t.Errorf("%s has no line in testdata/functions.txt", f.name)
		}
	}
	for name := range castTypes {
		if !strings.Contains(all, " as "+name+") →") {
			t.Errorf("cast to %s has no line in testdata/functions.txt", name)
		}
	}
}

// A goldenCase is a section of statements.txt or errors.txt.
type goldenCase struct {
	name   string
	fields map[string]string
}

func goldenCases(t testing.TB, file string) (cases []goldenCase) {
	t.Helper()
	for _, section := range strings.Split("\n"+readTestdata(t, file), "\n-- ")[1:] {
		head, body, _ := strings.Cut(section, "\n")
		c := goldenCase{strings.TrimSuffix(head, " --"), map[string]string{}}
		for line := range strings.Lines(body) {
			if word, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
				if old := c.fields[word]; old != "" {
					rest = old + "\n" + rest
				}
				c.fields[word] = rest
			}
		}
		cases = append(cases, c)
	}
	return cases
}

func (c goldenCase) version() Version {
	if v, ok := c.fields["version"]; ok {
		return Version(v)
	}
	return V2016
}

func (c goldenCase) message() *Message {
	m := testMessage(c.fields["payload"])
	if topic := c.fields["topic"]; topic != "" {
		m.Topic = topic
	}
	return m
}

func TestStatementsInGoldenFiles(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t, "statements.txt") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(c.fields["sql"], c.version())
			if err != nil {
				t.Fatal(err)
			}
			m := c.message()
			for range 2 { // a message may be given to many statements
				r, err := s.Run(m, testEnvironment())
				if err != nil {
					t.Fatal(err)
				}
				if got, want := show(r), c.fields["result"]; got != want {
					t.Errorf("%s\n got %s\nwant %s", c.fields["sql"], got, want)
				}
			}
		})
	}
}

func TestErrorsInGoldenFiles(t *testing.T) {
	t.Parallel()
	for _, c := range goldenCases(t, "errors.txt") {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var err error
			source := ""
			for _, word := range []string{"sql", "rule", "text"} {
				if s, ok := c.fields[word]; ok {
					source = s
					switch word {
					case "sql":
						_, err = Parse(s, c.version())
					case "rule":
						_, err = ParseExpression(s)
					case "text":
						_, err = ParseText(s, c.version())
					}
				}
			}
			if err == nil {
				t.Fatalf("%s compiles", source)
			}
			if err.Error() != c.fields["error"] {
				t.Errorf("%s\n got %s\nwant %s", source, err, c.fields["error"])
			}
		})
	}
}
