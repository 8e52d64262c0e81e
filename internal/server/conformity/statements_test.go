package conformity

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestStatementsAboutEventsAndDataHaveTheirTests: testdata/events-and-data.txt names tests that exist.
func TestStatementsAboutEventsAndDataHaveTheirTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("testdata/events-and-data.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "..", "..")
	sources, seen, proven := map[string]string{}, map[string]bool{}, 0
	for line := range strings.Lines(string(page)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		statement, proof, ok := strings.Cut(line, " | ")
		if !ok || !regexp.MustCompile(`^[79](\.\d)? .+`).MatchString(statement) || seen[statement] {
			t.Errorf("%q is no statement with its proof, or comes twice", line)
		}
		seen[statement] = true
		if strings.HasPrefix(proof, "- ") {
			continue
		}
		proven++
		folder, what, _ := strings.Cut(proof, " ")
		pattern := "*_test.go"
		if file, text, ok := strings.Cut(strings.TrimPrefix(what, "@"), " "); ok { // a file, and what stands there
			pattern, what = file, text
		} else {
			what = "func " + what + "("
		}
		where := filepath.Join(root, folder, pattern)
		if sources[where] == "" {
			files, err := filepath.Glob(where)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				text, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				sources[where] += string(text)
			}
		}
		if !strings.Contains(sources[where], what) {
			t.Errorf("%s: there is no %q in %s", statement, what, where)
		}
	}
	if proven < 45 {
		t.Errorf("%d statements are proven: lines were lost", proven)
	}
}
