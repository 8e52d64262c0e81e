// Package layers holds the tests that keep the shape of the code: imports go down only, every package says what it is for.
package layers

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
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
	"internal/egress":       {},
	"internal/bucket":       {"internal/durable", "internal/egress", "internal/sigv4"},
	"internal/delivery":     {"internal/durable", "internal/egress"},
	"internal/delivery/…":   {"internal/delivery"},
	"internal/jwt":          {},
	"internal/oidc":         {"internal/egress", "internal/jwt"},
	"internal/oidc/…":       {},
	"internal/webauthn":     {},
	"internal/webauthn/…":   {}, // webauthntest is for tests
	"internal/federation":   {"internal/egress", "internal/federation/samlsp", "internal/jwt", "internal/oidc"},
	"internal/federation/…": {"internal/oidc/…"}, // of which federationtest is for tests
	"internal/template":     {"internal/policy"},
	"internal/rulesql":      {},
	"internal/function":     {},
	"internal/wire":         {"internal/sigv4"},
	"internal/wire/…":       {"internal/wire"},
	"internal/reserved":     {"internal/wire"},
	"internal/mqtt":         {},
	"internal/mqtt/…":       {"internal/mqtt"},
	"internal/batch":        {},
	"internal/trace":        {"internal/batch"},
	"internal/metrics":      {},
	"internal/telemetry":    {},
	"internal/store":        {"internal/trace"},
	"internal/store/…":      {},
	"internal/userpool":     {"internal/admission", "internal/federation", "internal/delivery", "internal/store", "internal/jwt", "internal/webauthn"},
	"internal/iam":          {"internal/store", "internal/policy", "internal/sigv4", "internal/jwt", "internal/oidc"},
	"internal/identitypool": {"internal/store", "internal/jwt", "internal/policy", "internal/iam", "internal/oidc"},
	"internal/registry":     {"internal/store", "internal/pki", "internal/policy", "internal/template"},
	"internal/provision":    {"internal/admission", "internal/store", "internal/pki", "internal/policy", "internal/template", "internal/trace", "internal/registry", "internal/reserved", "internal/wire"},
	"internal/lambda":       {"internal/store", "internal/pki", "internal/policy", "internal/function"},
	"internal/hook":         {"internal/lambda", "internal/store", "internal/pki", "internal/sigv4", "internal/rulesql", "internal/egress", "internal/provision", "internal/function"},
	"internal/bulk":         {"internal/store", "internal/bucket", "internal/template", "internal/provision"},
	"internal/logs":         {"internal/batch", "internal/policy", "internal/store"},
	"internal/rule":         {"internal/bucket", "internal/logs", "internal/store", "internal/egress", "internal/sigv4", "internal/policy", "internal/trace", "internal/rulesql", "internal/mqtt", "internal/registry"},
	"internal/gateway":      {"internal/admission", "internal/logs", "internal/store", "internal/pki", "internal/policy", "internal/trace", "internal/mqtt", "internal/wire", "internal/reserved", "internal/provision"},
	"internal/api/…": {"internal/bucket", "internal/bulk", "internal/federation", "internal/wire", "internal/sigv4", "internal/store", "internal/policy", "internal/pki", "internal/template", "internal/trace", "internal/mqtt",
		"internal/iam", "internal/oidc", "internal/userpool", "internal/identitypool", "internal/registry", "internal/reserved", "internal/provision", "internal/hook", "internal/lambda", "internal/function", "internal/logs", "internal/rule"},
	"internal/api/apitest": {"internal/wire", "internal/sigv4", "internal/store", "internal/store/…", "internal/policy", "internal/pki", "internal/iam"},
	"internal/web/…":       {"internal/federation", "internal/wire", "internal/userpool"},
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

// goesOut names what reaches into the network, by package and name.
var goesOut = map[string][]string{
	"net":        {"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "DialUnix", "Dialer"},
	"net/http":   {"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport", "Client", "Transport"},
	"crypto/tls": {"Dial", "DialWithDialer", "Dialer"},
}

// mayGoOut are the packages that use these themselves, and why.
var mayGoOut = map[string]string{
	"internal/egress":        "it is the way out",
	"internal/client":        "the operator's verbs call the server that the operator names",
	"internal/mqtt/mqtttest": "for tests",
	"internal/fakecloud":     "for tests",
	"device":                 "the device's side",
	"device/…":               "the device's side",
	"cmd/imprint-device":     "the device's side",
}

// mayGoOutIn are single files that do, and why.
var mayGoOutIn = map[string]string{
	"internal/server/admin.go":       "the administration socket",
	"internal/pki/keyhelper/keys.go": "the socket of the helper that holds keys",
	"cmd/imprint/systemd.go":         "systemd's socket",
}

func TestCallsToOthersGoThroughEgress(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		free := false
		for pattern := range mayGoOut {
			free = free || matches(pattern, name)
		}
		if free || strings.HasPrefix(name, "test/") {
			continue
		}
		for _, f := range p.GoFiles {
			if _, ok := mayGoOutIn[name+"/"+f]; ok {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, f), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, use := range uses(file) {
				t.Errorf("%s: %s reaches into the network: take the client of internal/egress, or say in mayGoOut why not", set.Position(use.Pos()), use.Sel.Name)
			}
		}
	}
}

// uses returns where a file names something in goesOut.
func uses(file *ast.File) (found []*ast.SelectorExpr) {
	names := map[string]string{} // of imports in this file
	for _, imp := range file.Imports {
		path := strings.Trim(imp.Path.Value, `"`)
		local := path[strings.LastIndexByte(path, '/')+1:]
		if imp.Name != nil {
			local = imp.Name.Name
		}
		names[local] = path
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(goesOut[names[x.Name]], sel.Sel.Name) {
				found = append(found, sel)
			}
		}
		return true
	})
	return found
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
