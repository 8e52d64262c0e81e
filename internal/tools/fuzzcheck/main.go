// Command fuzzcheck shows that the fuzz targets are worth their time. For each target it runs the committed seeds alone and measures
// how many statements of the target's parser they reach (-cover), and it plants a bug in a copy of the parser and sees whether the
// target finds it (-bugs): by its seeds, else by fuzzing for a while.
//
// Begin with targets.go, the table of all targets; a Fuzz function that is not in it is an error. Nothing in the tree is changed: a
// planted bug is an overlay of the build.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// wantCovered is the part of a parser's statements, in percent, that the seeds must reach.
const wantCovered = 80

type tool struct {
	tmp      string        // folder for test binaries and the like
	patience time.Duration // of fuzzing for a planted bug
	verbose  bool
	failed   bool
}

func main() {
	cover := flag.Bool("cover", false, "measure what the seeds cover")
	bugs := flag.Bool("bugs", false, "plant bugs")
	only := flag.String("only", "", "targets that match, as in internal/mqtt.FuzzDecode")
	t := tool{}
	flag.BoolVar(&t.verbose, "v", false, "name the functions below the limit and what found a bug")
	flag.DurationVar(&t.patience, "patience", 2*time.Minute, "how long to fuzz for a bug that the seeds don't find")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err == nil {
		t.tmp, err = os.MkdirTemp("", "fuzzcheck-")
	}
	if err == nil {
		err = t.complete()
	}
	if err == nil && *cover {
		err = t.cover(pattern)
	}
	if err == nil && *bugs {
		err = t.bugs(pattern)
	}
	if err := errors.Join(err, os.RemoveAll(t.tmp)); err != nil {
		fmt.Fprintln(os.Stderr, "fuzzcheck:", err)
		os.Exit(1)
	}
	if t.failed {
		os.Exit(1)
	}
}

func (t *tool) complain(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	t.failed = true
}

// complete finds Fuzz functions that are not in the table, and the other way round.
func (t *tool) complete() error {
	declared := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	known := map[string]bool{}
	for _, x := range targets {
		known[x.String()] = true
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "node_modules") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			name := filepath.Dir(path) + "." + string(m[1])
			if !known[name] {
				t.complain("%s has no row in internal/tools/fuzzcheck/targets.go", name)
			}
			delete(known, name)
		}
		return err
	})
	for name := range known {
		t.complain("%s is in internal/tools/fuzzcheck/targets.go and nowhere else", name)
	}
	return err
}

// run runs a command and returns its output, which is also the text of its error.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// A function is where a function of a parser begins and ends.
type function struct {
	file, name  string
	first, last int // lines
}

// parserFunctions returns the functions that a target's parser consists of.
func (x target) parserFunctions() (list []function, err error) {
	for _, part := range x.parser {
		words := strings.Fields(part)
		path := filepath.Join(x.pkg, words[0])
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		wanted := words[1:]
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name := functionName(f)
			if i := slices.Index(wanted, name); i >= 0 {
				wanted = slices.Delete(wanted, i, i+1)
			} else if len(words) > 1 {
				continue
			}
			list = append(list, function{path, name, set.Position(f.Pos()).Line, set.Position(f.End()).Line})
		}
		if len(wanted) > 0 {
			return nil, fmt.Errorf("%s: %s has no function %s", x, path, strings.Join(wanted, ", "))
		}
	}
	return list, nil
}

// functionName is the function's name, for a method with its type before it.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	kind := f.Recv.List[0].Type
	for {
		switch x := kind.(type) {
		case *ast.StarExpr:
			kind = x.X
			continue
		case *ast.IndexExpr:
			kind = x.X
			continue
		case *ast.Ident:
			return x.Name + "." + f.Name.Name
		}
		return f.Name.Name
	}
}

// cover measures each target. One test binary is built for all targets of a package.
func (t *tool) cover(only *regexp.Regexp) error {
	ctx, built := context.Background(), map[string]string{}
	fmt.Printf("%-44s %10s %s\n", "seeds alone", "statements", "reached")
	for _, x := range targets {
		if !only.MatchString(x.String()) {
			continue
		}
		if built[x.pkg] == "" {
			built[x.pkg] = filepath.Join(t.tmp, strconv.Itoa(len(built))+".test")
			if _, err := run(ctx, ".", "go", "test", "-c", "-cover", "-covermode=set", "-coverpkg="+x.packages(), "-o", built[x.pkg], "./"+x.pkg); err != nil {
				return err
			}
		}
		profile := filepath.Join(t.tmp, "cover.out")
		if _, err := run(ctx, x.pkg, built[x.pkg], "-test.run=^"+x.fuzz+"$", "-test.coverprofile="+profile); err != nil {
			return fmt.Errorf("the seeds of %s fail: %w", x, err)
		}
		if err := t.report(x, profile); err != nil {
			return err
		}
	}
	return nil
}

// packages is what is measured with a package: itself, and those that the targets' parsers reach into by "../".
func (x target) packages() string {
	dirs := []string{"./" + x.pkg}
	for _, y := range targets {
		for _, part := range y.parser {
			if dir := "./" + filepath.Dir(filepath.Join(y.pkg, strings.Fields(part)[0])); y.pkg == x.pkg && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return strings.Join(dirs, ",")
}

// A block is a line of a coverage profile: FILE:LINE.COLUMN,LINE.COLUMN STATEMENTS COUNT.
var block = regexp.MustCompile(`^(\S+):(\d+)\.\d+,(\d+)\.\d+ (\d+) (\d+)$`)

func (t *tool) report(x target, profile string) error {
	functions, err := x.parserFunctions()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	type tally struct{ all, reached int }
	by := make([]tally, len(functions))
	var sum tally
	for line := range strings.Lines(string(text)) {
		m := block.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		first, _ := strconv.Atoi(m[2])
		last, _ := strconv.Atoi(m[3])
		n, _ := strconv.Atoi(m[4])
		for i, f := range functions {
			if strings.HasSuffix(m[1], "/"+f.file) && f.first <= first && last <= f.last {
				by[i].all, sum.all = by[i].all+n, sum.all+n
				if m[5] != "0" {
					by[i].reached, sum.reached = by[i].reached+n, sum.reached+n
				}
			}
		}
	}
	if sum.all == 0 {
		return fmt.Errorf("%s: the profile knows nothing of its parser", x)
	}
	percent := 100 * float64(sum.reached) / float64(sum.all)
	verdict := ""
	if percent < wantCovered {
		verdict, t.failed = fmt.Sprintf("  less than %d %%: add seeds in testdata/fuzz/%s", wantCovered, x.fuzz), true
	}
	fmt.Printf("%-44s %10d %6.1f %%%s\n", x, sum.all, percent, verdict)
	for i, f := range functions {
		if t.verbose && by[i].reached < by[i].all {
			fmt.Printf("    %-60s %d of %d\n", f.file+" "+f.name, by[i].reached, by[i].all)
		}
	}
	return nil
}

// bugs plants each target's bug and looks who finds it.
func (t *tool) bugs(only *regexp.Regexp) error {
	fmt.Printf("%-44s %s\n", "planted bug", "found by")
	for _, x := range targets {
		if !only.MatchString(x.String()) {
			continue
		}
		found, err := t.plant(x)
		if err != nil {
			return err
		}
		if found == "" {
			t.complain("%-44s nobody within %v: %s", x, t.patience, x.bug.now)
			continue
		}
		fmt.Printf("%-44s %s\n", x, found)
	}
	return nil
}

// plant returns what finds the bug of a target: its seeds or fuzzing; "" if neither does.
func (t *tool) plant(x target) (string, error) {
	overlay, err := t.overlay(x)
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	binary := filepath.Join(t.tmp, "planted.test")
	if _, err := run(ctx, ".", "go", "test", "-c", "-overlay="+overlay, "-o", binary, "./"+x.pkg); err != nil {
		return "", fmt.Errorf("%s: the planted bug does not compile: %w", x, err)
	}
	begin := time.Now()
	out, err := run(ctx, x.pkg, binary, "-test.run=^"+x.fuzz+"$", "-test.timeout=2m")
	if err != nil {
		t.tell(out)
		return fmt.Sprintf("the seeds, %v", time.Since(begin).Round(time.Millisecond)), nil
	}
	// Fuzzing writes what it finds below testdata: that belongs to a copy of the package's tests, not to the tree.
	dir := filepath.Join(t.tmp, "work")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(dir, "testdata"), os.DirFS(filepath.Join(x.pkg, "testdata"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if _, err := run(ctx, ".", "go", "test", "-c", "-fuzz=^"+x.fuzz+"$", "-overlay="+overlay, "-o", binary, "./"+x.pkg); err != nil {
		return "", err
	}
	begin = time.Now()
	out, err = run(ctx, dir, binary, "-test.run=^$", "-test.fuzz=^"+x.fuzz+"$", "-test.fuzztime="+t.patience.String(), "-test.fuzzcachedir="+filepath.Join(dir, "cache"))
	if err == nil {
		return "", nil
	}
	t.tell(out)
	return fmt.Sprintf("fuzzing, %v", time.Since(begin).Round(time.Millisecond)), nil
}

func (t *tool) tell(out string) {
	if t.verbose {
		fmt.Println(out[:min(len(out), 1200)])
	}
}

// overlay writes the file with the bug and tells the build to take it in place of the right one.
func (t *tool) overlay(x target) (string, error) {
	right := filepath.Join(x.pkg, x.bug.file)
	text, err := os.ReadFile(right)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), x.bug.was); n != 1 {
		return "", fmt.Errorf("%s: %s has %d times what the bug replaces, not once: %q", x, right, n, x.bug.was)
	}
	wrong := filepath.Join(t.tmp, "wrong.go")
	if err := os.WriteFile(wrong, []byte(strings.Replace(string(text), x.bug.was, x.bug.now, 1)), 0o600); err != nil {
		return "", err
	}
	if right, err = filepath.Abs(right); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{right: wrong}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(t.tmp, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}
