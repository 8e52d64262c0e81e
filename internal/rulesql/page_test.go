package rulesql

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/rulesql.md anew")

// page is where the golden files can be read by whoever writes rules.
const page = "../../docs/rulesql.md"

// TestThePageOfTheLanguage: docs/rulesql.md has what the golden files have, which other tests run.
func TestThePageOfTheLanguage(t *testing.T) {
	t.Parallel()
	want := writePage(t)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/rulesql.md is not what the golden files say: go test ./internal/rulesql -run TestThePage -update")
	}
}

// TestThePageHasARowForAllThatIsServed: each function, operator, clause and type, and what is refused by name.
func TestThePageHasARowForAllThatIsServed(t *testing.T) {
	t.Parallel()
	text := strings.ToLower(writePage(t))
	for name, f := range functions {
		if !f.ofTables && !strings.Contains(text, "| `"+name+"(") {
			t.Errorf("there is no row for %s()", f.name)
		}
	}
	for name := range castTypes {
		if !strings.Contains(text, " as "+name+")` |") {
			t.Errorf("there is no row for a cast to %s", name)
		}
	}
	for name := range notOffered {
		if !strings.Contains(text, "\n| `"+name) {
			t.Errorf("%s is not named among what is refused", name)
		}
	}
	for _, part := range []string{" = ", " <> ", " < ", " <= ", " > ", " >= ", " + ", " - ", " * ", " / ", " % ", "| `-", " and ", " or ", "| `not ", " in ", "case ", " when ", " else ", " end",
		"exists (select", "select *", "select value", " as ", " from '", " where ", "get(*", "[1, ", `{"`} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no row with %q", part)
		}
	}
}

func writePage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	m := testMessage("")
	fmt.Fprintf(&b, `# The language of rules

<!-- generated from internal/rulesql/testdata, which tests run; go test ./internal/rulesql -run TestThePage -update -->

AWS IoT SQL as topic [rules](rules.md) have it here: each function, operator and clause with a statement, a message and the result. Each row was run. Where AWS's
developer guide leaves a choice, [DESIGN.md](../internal/rulesql/DESIGN.md) says what was chosen.

## Statements

`)
	table(&b, "statement", "message", "result")
	for _, c := range goldenCases(t, "statements.txt") {
		message := c.fields["payload"]
		if topic := c.fields["topic"]; topic != "" {
			message += " to " + topic
		}
		row(&b, c.titled(), message, strings.TrimPrefix(c.fields["result"], "raw "))
	}
	fmt.Fprintf(&b, `
## Functions

The statement is `+"`SELECT VALUE … FROM '#'`"+`, its message was published by the client %s with topic %s over MQTT 5. `+"`Undefined`"+` is left out of an object, and is no value in a condition.
A call with a wrong number of arguments, or with some of a wrong type, is Undefined.

`, code(m.ClientID), code(m.Topic))
	lines(t, &b, "functions.txt")
	b.WriteString("\n## Operators, conversions and literals\n\n")
	lines(t, &b, "operators.txt")
	b.WriteString("\n## What version 2015-10-08 does otherwise\n\n")
	lines(t, &b, "version2015.txt")
	b.WriteString("\n## What is refused\n\nFunctions that are not offered: a rule with one is refused.\n\n")
	table(&b, "function", "in its place")
	for _, name := range slices.Sorted(maps.Keys(notOffered)) {
		fmt.Fprintf(&b, "| %s | %s |\n", code(name+"()"), notOffered[name])
	}
	b.WriteString("\nStatements that do not compile are refused with `SqlParseException` and the place:\n\n")
	table(&b, "statement", "error")
	for _, c := range goldenCases(t, "errors.txt") {
		if c.fields["sql"] != "" {
			row(&b, c.titled(), c.fields["error"])
		}
	}
	return b.String()
}

// titled is the statement, with its version if that is not the usual one.
func (c goldenCase) titled() string {
	if v := c.fields["version"]; v != "" {
		return c.fields["sql"] + " (version " + v + ")"
	}
	return c.fields["sql"]
}

// lines writes a golden file of expressions: a table for each of its groups.
func lines(t *testing.T, b *strings.Builder, file string) {
	t.Helper()
	payload, _, _ := goldenLines(t, file)
	fmt.Fprintf(b, "The message: %s\n", code(payload))
	for line := range strings.Lines(readTestdata(t, file)) {
		line = strings.TrimSuffix(line, "\n")
		if group, ok := strings.CutPrefix(line, "-- "); ok {
			group = strings.TrimSuffix(group, " --")
			fmt.Fprintf(b, "\n### %s\n\n", strings.ToUpper(group[:1])+group[1:])
			table(b, "expression", "value")
		} else if expr, want, ok := strings.Cut(line, " → "); ok {
			row(b, expr, want)
		}
	}
}

func table(b *strings.Builder, heads ...string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
}

func row(b *strings.Builder, cells ...string) {
	for i, c := range cells {
		cells[i] = code(c)
	}
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

// code is a text as Markdown shows it unchanged, in a table too.
func code(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "|", `\|`)
	switch {
	case s == "":
		return ""
	case strings.Contains(s, "`"):
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}
