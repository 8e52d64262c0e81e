package template

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
)

// FuzzEvaluate feeds bodies and values that a stranger made up: nothing may panic, run long or fail with anything but a domain
// error, and what comes out must keep its promises.
func FuzzEvaluate(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		g := readGolden(f, file)
		f.Add(strings.TrimSuffix(g.sections["template"], "\n"), "Serial", "l7*${x}", int(g.kind()))
	}
	f.Fuzz(func(t *testing.T, body, name, value string, kind int) {
		tm, err := Parse(body, Kind(kind&3))
		for _, f := range Lint(body, Kind(kind&3), LintFacts{Scope: here, SharedClaim: []string{"p"}, WideClaim: []string{"p"}}) {
			if f.Line < 1 || f.Line > 1+strings.Count(body, "\n") || f.Cause == "" || f.Cure == "" {
				t.Errorf("%+v", f)
			}
			if f.Rule == "syntax" && err == nil {
				t.Errorf("lint refuses what is accepted: %+v", f)
			}
		}
		if err != nil {
			wantDomain(t, err)
			return
		}
		d, err := tm.Evaluate(map[string]string{name: value, "A": value}, map[string]string{CertificateID: testID})
		if err != nil {
			wantDomain(t, err)
			return
		}
		if d.Thing != nil && !fleet.ValidRegistryName(d.Thing.Name) {
			t.Errorf("thing name %q", d.Thing.Name)
		}
		for _, p := range d.Policies {
			if !fleet.ValidPolicyName(p.Name) {
				t.Errorf("policy name %q", p.Name)
			}
			if _, err := policy.Parse(p.Document, policy.IoT); p.Document != "" && err != nil {
				t.Errorf("policy document %s: %v", p.Document, err)
			}
		}
		if p, err := Resolve(Snapshot{}, d); err != nil {
			wantDomain(t, err)
		} else if p == nil {
			t.Error("no plan")
		}
	})
}

func wantDomain(t *testing.T, err error) {
	t.Helper()
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind == fleet.KindInternal || e.Msg == "" {
		t.Errorf("%#v is no domain error with a sentence", err)
	}
}

// nasty draws values that try to be more than text.
func nasty() *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"*", "?", "$", "{", "}", "${", "${*}", "${iot:ClientId}", "iot:ClientId}", "\"", "\\", "/", "//", ":", ",", "+", "#",
			`","Resource":"*`, "\u2028", "\uFDD0", "\uFDD1", "\uFDD00\uFDD1", "'", "a", "b", "dt", "", "é"}),
		rapid.StringN(0, 3, -1),
	)
	return rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(piece, 1, 6).Draw(t, "pieces"), "") })
}

const topicARN = "arn:aws:iot:us-east-1:000000000000:topic/"

// documents lets a parameter P into a policy in every way that the language has.
var documents = []string{
	`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Join":["",["` + topicARN + `dt/",{"Ref":"P"},"/*"]]}}}`,
	`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":[{"Fn::Sub":"` + topicARN + `dt/${P}/*"}]}]}`,
	`{"Fn::Sub":"{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\",\"Resource\":\"` + topicARN + `dt/${P}/*\"}}"}`,
	`{"Fn::Join":["",["{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"iot:Publish\",\"Resource\":\"` + topicARN + `dt/",{"Ref":"P"},"/*\"}}"]]}`,
	`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Join":["/",["` + topicARN + `dt",{"Fn::Join":["q",{"Fn::Split":["q",{"Ref":"P"}]}]},"*"]]}}}`,
	`{"Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Sub":"` + topicARN + `dt/${P}/*"}}}`,
}

// Whatever a device sends, its policy allows what begins with the value, letter by letter, and nothing else.
func TestNoValueWidensAPolicy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		doc := rapid.SampledFrom(documents).Draw(t, "document")
		value := nasty().Draw(t, "value")
		body := `{"Parameters":{"P":{"Type":"String"}},"Resources":{"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":` + doc + `}}}}`
		tm, err := Parse(body, Fleet)
		if err != nil {
			t.Fatal(err)
		}
		d, err := tm.Evaluate(map[string]string{"P": value}, nil)
		if err != nil {
			if fleet.KindOf(err) != fleet.KindInvalid {
				t.Fatal(err)
			}
			return
		}
		parsed, err := policy.Parse(d.Policies[0].Document, policy.IoT)
		if err != nil {
			t.Fatal(err)
		}
		topic := rapid.OneOf(
			rapid.Just("dt/"+value+"/x"),
			rapid.Custom(func(t *rapid.T) string { // near the value
				r := strings.NewReplacer("*", nasty().Draw(t, "star"), "?", "z", "${iot:ClientId}", "lamp", "$", "", "{", "", "}", "")
				return "dt/" + r.Replace(value) + "/x"
			}),
			rapid.Map(nasty(), func(s string) string { return "dt/" + s }),
			nasty(),
		).Draw(t, "topic")
		ctx := policy.Context{}
		ctx.Set(policy.KeyClientID, "lamp")
		got := policy.Evaluate([]policy.Named{{Name: "p", Doc: parsed}}, policy.Request{Action: "iot:Publish", Resource: topicARN + topic, Context: ctx})
		if want := strings.HasPrefix(topic, "dt/"+value+"/"); got.Allowed() != want {
			t.Fatalf("topic %q: allowed %v, want %v; document %s", topic, got.Allowed(), want, d.Policies[0].Document)
		}
	})
}

func TestEvaluationIsDeterministic(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		g := readGoldenRapid(t, rapid.SampledFrom(files).Draw(t, "file"))
		params := rapid.MapOfN(rapid.SampledFrom([]string{"Serial", "A", "B", "N", "P"}), nasty(), 0, 5).Draw(t, "params")
		run := func() (*Desired, string) {
			tm, err := Parse(g.sections["template"], g.kind())
			if err == nil {
				var d *Desired
				if d, err = tm.Evaluate(params, map[string]string{CertificateID: testID}); err == nil {
					return d, ""
				}
			}
			return nil, err.Error()
		}
		first, firstErr := run()
		for range 3 {
			if d, err := run(); !reflect.DeepEqual(d, first) || err != firstErr {
				t.Fatalf("%v %q, then %v %q", first, firstErr, d, err)
			}
		}
	})
}

func readGoldenRapid(t *rapid.T, file string) *golden {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{sections: map[string]string{}}
	for _, part := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		name, text, _ := strings.Cut(part, " --\n")
		g.sections[name] = text
	}
	return g
}

// What a device does not send, or sends under another name, changes nothing.
func TestUndeclaredParametersChangeNothing(t *testing.T) {
	t.Parallel()
	tm, err := Parse(`{"Parameters":{"S":{"Type":"String"}},"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"S"}}}}}`, Fleet)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := tm.Evaluate(map[string]string{"S": "lamp"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	more, err := tm.Evaluate(map[string]string{"S": "lamp", "T": "torch", "AWS::IoT::Certificate::Id": "x"}, nil)
	if err != nil || !reflect.DeepEqual(plain, more) {
		t.Errorf("%v, %v", more, err)
	}
}

func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	if len(settings) != reflect.TypeFor[Settings]().NumField() {
		t.Error("a field of Settings has no row in the table, or the other way round")
	}
	for _, s := range settings {
		if _, ok := reflect.TypeFor[Settings]().FieldByName(s.Name); !ok || s.Values == "" || s.Default == "" || s.Meaning == "" {
			t.Errorf("setting %+v", s)
		}
	}
}

func BenchmarkParseAndEvaluate(b *testing.B) {
	g := readGolden(b, "testdata/evaluate/everything_together.txt")
	body := g.sections["template"]
	var params map[string]string
	if err := json.Unmarshal([]byte(g.sections["params"]), &params); err != nil {
		b.Fatal(err)
	}
	tm, err := Parse(body, Fleet)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			_, _ = Parse(body, Fleet)
		}
	})
	b.Run("evaluate", func(b *testing.B) {
		for b.Loop() {
			_, _ = tm.Evaluate(params, map[string]string{CertificateID: testID})
		}
	})
}

// TestTheGuardsPageShowsEverySetting compares docs/guards.md with the table of settings; -update writes it.
func TestTheGuardsPageShowsEverySetting(t *testing.T) {
	t.Parallel()
	var rows strings.Builder
	for _, s := range slices.SortedFunc(slices.Values(settings), func(a, b setting) int { return strings.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s |\n", s.Name, s.Values, s.Default, s.Meaning)
	}
	showsTable(t, "../../docs/guards.md", "| setting | values | default | meaning |\n|---|---|---|---|\n", rows.String(), "<!-- end of settings -->")
}

// TestThePageOfLintShowsEveryRule compares docs/lint.md with the table of rules; -update writes it.
func TestThePageOfLintShowsEveryRule(t *testing.T) {
	t.Parallel()
	var rows strings.Builder
	for _, r := range lintRules {
		fmt.Fprintf(&rows, "| `%s` | %s | %s |\n", r.ID, r.Severity, r.Text)
	}
	showsTable(t, "../../docs/lint.md", "| rule | severity | what holds |\n|---|---|---|\n", rows.String(), "<!-- end of rules -->")
}

// showsTable compares the rows between head and end of a page; -update writes them.
func showsTable(t *testing.T, file, head, rows, end string) {
	t.Helper()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), head)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no such table", file)
	}
	want := before + head + rows + end + after
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the table as it is: run go test ./internal/template -run %s -update", file, t.Name())
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
