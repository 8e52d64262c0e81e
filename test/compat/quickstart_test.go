package compat

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// codeBlocks returns the shell blocks of a Markdown page, in order.
func codeBlocks(page string) string {
	var b strings.Builder
	in := false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, "```sh"):
			in = true
		case strings.HasPrefix(line, "```"):
			in = false
		case in:
			b.WriteString(line)
		}
	}
	return b.String()
}

// fileBlocks returns the blocks of a Markdown page that are files, by name: those with a name after the language.
func fileBlocks(page string) map[string]string {
	files := map[string]string{}
	name := ""
	for line := range strings.Lines(page) {
		fence, isFence := strings.CutPrefix(line, "```")
		switch words := strings.Fields(fence); {
		case isFence && len(words) == 2:
			name = words[1]
			files[name] = ""
		case isFence:
			name = ""
		case name != "":
			files[name] += line
		}
	}
	return files
}

// document reads a page of docs.
func document(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", filepath.FromSlash(name)))
	check(t, err)
	return string(page)
}

func TestTheQuickStartWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	// The page's server keeps its data in ./imprint-data: the shell runs beside ours.
	dir := filepath.Dir(s.data)
	script := "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n" + codeBlocks(document(t, "quickstart.md"))
	out := s.run(t, dir, nil, "bash", "-c", script)
	for _, want := range []string{`"thingName": "lamp-4711"`, `"deviceConfiguration":{"reportEverySeconds":"60"}`, "another lamp's topic is refused", "register succeeded"} {
		if !strings.Contains(out, want) {
			t.Errorf("the page's commands never printed %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
