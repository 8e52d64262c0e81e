package template

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

var update = flag.Bool("update", false, "write what came out into testdata as what is wanted")

var kinds = map[string]Kind{"fleet": Fleet, "jitp": JITP, "inline": Inline, "bulk": Bulk}

// A golden case is a file of testdata: sections that begin with "-- name --".
//
//	kind       fleet (default), jitp, inline or bulk
//	template   the body
//	params     what the device sent, JSON (default {})
//	service    pseudo parameters, JSON (default: a certificate id for fleet templates)
//	snapshot   what exists, JSON; without it the case ends with the evaluation
//	error, desired, plan, decisions, needs    what is wanted
//
// Text before the first section says which rule the case is about.
type golden struct {
	head     string
	names    []string
	sections map[string]string
}

func readGolden(t testing.TB, file string) *golden {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g := &golden{sections: map[string]string{}}
	name := ""
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(strings.TrimSpace(n), " --")
			g.names = append(g.names, name)
			g.sections[name] = ""
			continue
		}
		if name == "" {
			g.head += line
		} else {
			g.sections[name] += line
		}
	}
	return g
}

var testID = strings.Repeat("ab", 32)

func (g *golden) kind() Kind { return kinds[strings.TrimSpace(g.sections["kind"])] }

func (g *golden) decode(t testing.TB, section string, into any) {
	t.Helper()
	if s := g.sections[section]; s != "" {
		dec := json.NewDecoder(strings.NewReader(s))
		dec.DisallowUnknownFields()
		if err := dec.Decode(into); err != nil {
			t.Fatalf("section %s: %v", section, err)
		}
	}
}

// run plays the case and returns the sections that came out, in order.
func (g *golden) run(t testing.TB) [][2]string {
	t.Helper()
	fail := func(err error) [][2]string {
		var e *fleet.Error
		if !errors.As(err, &e) {
			t.Fatalf("%v is no domain error", err)
		}
		return [][2]string{{"error", fmt.Sprintf("%v: %v\n", e.Kind, err)}}
	}
	tm, err := Parse(strings.TrimSuffix(g.sections["template"], "\n"), g.kind())
	if err != nil {
		return fail(err)
	}
	params, service := map[string]string{}, map[string]string{}
	if g.kind() == Fleet {
		service[CertificateID] = testID
	}
	g.decode(t, "params", &params)
	g.decode(t, "service", &service)
	d, err := tm.Evaluate(params, service)
	if err != nil {
		return fail(err)
	}
	if _, ok := g.sections["snapshot"]; !ok {
		return [][2]string{{"desired", show(t, d)}}
	}
	var snap Snapshot
	g.decode(t, "snapshot", &snap)
	p, err := Resolve(snap, d)
	decisions := ""
	for _, c := range p.Decisions {
		decisions += fmt.Sprintln(strings.Join([]string{string(c.Verb), c.Resource, c.Name, c.Part, c.Reason}, " | "))
	}
	if err != nil {
		return append(fail(err), [2]string{"decisions", decisions})
	}
	needs := ""
	for _, n := range p.Needs(fleet.Scope{Account: "000000000000", Region: "us-east-1"}) {
		needs += n.Action + " " + n.Resource + "\n"
	}
	p.Decisions = nil
	return [][2]string{{"plan", show(t, p)}, {"decisions", decisions}, {"needs", needs}}
}

// show prints v as JSON without what is empty.
func show(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var any any
	if err := json.Unmarshal(b, &any); err != nil {
		t.Fatal(err)
	}
	var w strings.Builder
	enc := json.NewEncoder(&w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(prune(any)); err != nil {
		t.Fatal(err)
	}
	return w.String()
}

func prune(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	for k, x := range m {
		switch x := prune(x).(type) {
		case nil:
			delete(m, k)
		case string:
			if x == "" || x == "0001-01-01T00:00:00Z" {
				delete(m, k)
			}
		case float64:
			if x == 0 {
				delete(m, k)
			}
		case bool:
			if !x {
				delete(m, k)
			}
		}
	}
	return m
}

func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	sort.Strings(files)
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasPrefix(f, "testdata/lint/") }) // see lint_test.go
	for _, file := range files {
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txt"), func(t *testing.T) {
			t.Parallel()
			g := readGolden(t, file)
			got := g.run(t)
			if *update {
				g.write(t, file, got)
				return
			}
			wanted := map[string]string{}
			for _, name := range []string{"error", "desired", "plan", "decisions", "needs"} {
				if s, ok := g.sections[name]; ok {
					wanted[name] = s
				}
			}
			for _, s := range got {
				if wanted[s[0]] != s[1] {
					t.Errorf("%s:\n%s\nwant:\n%s", s[0], s[1], wanted[s[0]])
				}
				delete(wanted, s[0])
			}
			for name := range wanted {
				t.Errorf("%s was wanted, and did not come", name)
			}
		})
	}
}

func (g *golden) write(t *testing.T, file string, got [][2]string) {
	out := g.head
	for _, name := range g.names {
		switch name {
		case "error", "desired", "plan", "decisions", "needs":
			continue
		}
		out += "-- " + name + " --\n" + g.sections[name]
	}
	for _, s := range got {
		out += "-- " + s[0] + " --\n" + s[1]
	}
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}
