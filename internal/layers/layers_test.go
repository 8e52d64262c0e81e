// Package layers holds the tests that keep the shape of the code: imports go down only, every package says what it is for.
package layers

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/imprint-iot/imprint/"

// layer lists what a package of ours may import of ours, beside packages listed for everybody below. A name that ends in
// "/…" stands for all packages below it. Edges never import each other; rules never import edges; cores know no SQL.
var layer = map[string][]string{
	"internal/fleet":        {},
	"internal/policy":       {},
	"internal/durable":      {},
	"internal/pki":          {"internal/durable"},
	"internal/pki/…":        {"internal/pki"},
	"internal/sigv4":        {},
	"internal/admission":    {},
	"internal/jwt":          {},
	"internal/template":     {"internal/policy"},
	"internal/rulesql":      {},
	"internal/wire":         {"internal/sigv4"},
	"internal/wire/…":       {"internal/wire"},
	"internal/mqtt":         {},
	"internal/mqtt/…":       {"internal/mqtt"},
	"internal/trace":        {},
	"internal/metrics":      {},
	"internal/telemetry":    {},
	"internal/store":        {"internal/trace"},
	"internal/store/…":      {},
	"internal/iam":          {"internal/store", "internal/policy", "internal/sigv4"},
	"internal/userpool":     {"internal/admission", "internal/store", "internal/jwt", "internal/durable"},
	"internal/identitypool": {"internal/store", "internal/jwt", "internal/policy", "internal/iam"},
	"internal/registry":     {"internal/store", "internal/pki", "internal/policy", "internal/template"},
	"internal/provision":    {"internal/store", "internal/pki", "internal/policy", "internal/template", "internal/trace", "internal/registry"},
	"internal/gateway":      {"internal/admission", "internal/store", "internal/pki", "internal/policy", "internal/trace", "internal/mqtt", "internal/wire", "internal/provision"},
	"internal/api/…": {"internal/wire", "internal/sigv4", "internal/store", "internal/policy", "internal/pki", "internal/template", "internal/trace", "internal/mqtt",
		"internal/iam", "internal/userpool", "internal/identitypool", "internal/registry", "internal/provision"},
	"internal/api/apitest": {"internal/wire", "internal/sigv4", "internal/store", "internal/store/…", "internal/policy", "internal/pki", "internal/iam"},
	"internal/client":      {"internal/sigv4"},
	"internal/server":      {"internal/…"},
	"internal/server/…":    {"internal/…"},
	"internal/tools/…":     {},
	"internal/layers":      {},
	"internal/fakecloud":   {}, // for the tests of device and its command
	"device":               {"device/…"},
	"device/…":             {"device/…"},
	"cmd/imprint":          {"internal/…"},
	"cmd/imprint-device":   {"device", "device/…"},
}

// device must run on small machines and may be imported by others: nothing of the server comes with it.
var everybody = []string{"internal/fleet"}

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func matches(pattern, name string) bool {
	if root, ok := strings.CutSuffix(pattern, "…"); ok {
		return strings.HasPrefix(name, root)
	}
	return pattern == name
}

// allowed returns the row of the most exact pattern that names the package.
func allowed(name string) (list []string, known bool) {
	if l, ok := layer[name]; ok {
		return l, true
	}
	best := ""
	for pattern := range layer {
		if strings.HasSuffix(pattern, "…") && matches(pattern, name) && len(pattern) > len(best) {
			best = pattern
		}
	}
	return layer[best], best != ""
}

func TestImportsGoDownOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		list, known := allowed(name)
		if !known {
			t.Errorf("%s stands in no layer: give it a row in layers_test.go", name)
			continue
		}
		if name == "device" || strings.HasPrefix(name, "device/") {
			list = append([]string{}, list...)
		} else {
			list = append(append([]string{}, list...), everybody...)
		}
	imports:
		for _, imp := range p.Imports {
			ours, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			for _, pattern := range list {
				if matches(pattern, ours) {
					continue imports
				}
			}
			t.Errorf("%s may not import %s: imports go down only", name, ours)
		}
	}
}

func TestOnlyTheStoreSpeaksSQL(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if strings.HasSuffix(p.ImportPath, "/internal/store") {
			continue
		}
		for _, imp := range p.Imports {
			if imp == "database/sql" || strings.HasPrefix(imp, "modernc.org/") || strings.HasPrefix(imp, "github.com/jackc/") {
				t.Errorf("%s imports %s: all SQL lives in internal/store", p.ImportPath, imp)
			}
		}
	}
}

func TestTheVocabularyNeedsTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !strings.HasSuffix(p.ImportPath, "/internal/fleet") {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(imp, ".") || imp == "encoding/json" {
				t.Errorf("internal/fleet imports %s", imp)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		documented := len(p.GoFiles) == 0
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || file.Doc != nil && len(file.Doc.Text()) > 60
		}
		if !documented {
			t.Errorf("%s has no package comment that says what it is for", p.ImportPath)
		}
	}
}

func TestOpenTelemetryIsInBuildsThatAskForItOnly(t *testing.T) {
	t.Parallel()
	for tags, want := range map[string]bool{"": false, "otel": true} {
		out, err := exec.Command("go", "list", "-deps", "-tags", tags, module+"cmd/imprint", module+"cmd/imprint-device").Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if got := strings.Contains(string(out), "go.opentelemetry.io/"); got != want {
			t.Errorf("with the tags %q OpenTelemetry is linked: %v", tags, got)
		}
	}
}
