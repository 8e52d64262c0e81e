package mqtt

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testdata/statements.txt names each normative statement of both standards once, and what it names exists.
func TestEveryStatementOfTheStandardsHasItsTestOrItsReason(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	rules, used := map[string]bool{}, map[string]bool{}
	for _, c := range conformance {
		rules[c.rule] = true
	}
	tests := testNames(t, ".", filepath.Join("..", "gateway"))
	part, seen := "", map[string]bool{}
	counts := map[string]int{}
	for _, line := range strings.Split(string(page), "\n") {
		number, proof, _ := strings.Cut(line, " ")
		proof = strings.TrimSpace(proof)
		switch {
		case line == "" || line[0] == '#':
			continue
		case number == "MQTT":
			part = proof
			continue
		case !regexp.MustCompile(`^\d+\.\d+\.\d+-\d+$`).MatchString(number) || seen[part+number]:
			t.Errorf("%q is no statement, or comes twice", line)
		}
		seen[part+number] = true
		counts[part]++
		reason := strings.HasPrefix(proof, "- ") && len(proof) > 10
		if strings.HasPrefix(proof, "! ") {
			_, proof, _ = strings.Cut(proof, ": ")
		}
		rule, isRule := strings.CutPrefix(proof, "=")
		used[rule] = used[rule] || isRule
		if !reason && proof != "client" && !(isRule && rules[rule]) && !tests[proof] {
			t.Errorf("MQTT %s, %s: there is no %q", part, number, proof)
		}
	}
	// What the standards have: a line that is lost is missed.
	want(t, "statements of MQTT 5.0", counts["5.0"], 251)
	want(t, "statements of MQTT 3.1.1", counts["3.1.1"], 138)
	for rule := range rules {
		if !strings.HasPrefix(rule, "§") && !used[rule] {
			t.Errorf("rule %s of the table is no statement's proof", rule)
		}
	}
}

// testNames are the tests of some folders.
func testNames(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "Test") {
					names[fn.Name.Name] = true
				}
			}
		}
	}
	return names
}
