// Package wiretest proves that handlers obey what they are asked: Unread lists the input members of a service's implemented
// operations that its code neither reads nor refuses. A request that sets such a member would be obeyed in part, in silence.
//
// internal/server/conformity calls Unread for every service and holds the result against docs/compatibility.md.
package wiretest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/wire"
)

// Unread returns the unread input members of package dir as "Operation.Member" or "Operation.Member.Nested", sorted, in the
// model's Go names. A member counts as read where hand-written code selects its field on any value of its struct's type; inside
// a structure whose own member is unread nothing more is listed. It needs the go command, which every test run has.
func Unread(dir string, c wire.Coverage) ([]string, error) {
	r, err := scan(dir)
	if err != nil {
		return nil, err
	}
	var unread []string
	for _, op := range c.Implemented {
		refused := func(path string) bool {
			_, member, _ := strings.Cut(path, ".")
			return slices.Contains(op.Refused, member)
		}
		unread = append(unread, r.unread(op.Operation, op.Input, refused, map[reflect.Type]bool{})...)
	}
	slices.Sort(unread)
	return slices.Compact(unread), nil
}

// reads is what the code of a package reads: fields by "Type.Field", and whole structs by "Type".
type reads struct {
	fields map[string]bool
	whole  map[string]bool
}

func (r *reads) unread(path string, t reflect.Type, refused func(string) bool, seen map[reflect.Type]bool) (list []string) {
	if seen[t] || r.whole[t.Name()] {
		return nil
	}
	seen[t] = true
	defer delete(seen, t)
	for i := range t.NumField() {
		f := t.Field(i)
		if _, ok := f.Tag.Lookup("wire"); !ok || refused(path+"."+f.Name) {
			continue
		}
		if !r.fields[t.Name()+"."+f.Name] {
			list = append(list, path+"."+f.Name)
			continue
		}
		if s := structOf(f.Type); s != nil {
			list = append(list, r.unread(path+"."+f.Name, s, refused, seen)...)
		}
	}
	return list
}

// structOf finds the generated struct in a member's type, nil for scalars.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return nil
	}
	return t
}

// scan type-checks the package in dir and walks its hand-written files.
func scan(dir string) (*reads, error) {
	files, exports, err := list(dir)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, f)
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", open)}
	info := &types.Info{Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	pkg, err := conf.Check("scanned", fset, parsed, info)
	if err != nil {
		return nil, err
	}
	w := &walker{reads: reads{map[string]bool{}, map[string]bool{}}, info: info, pkg: pkg}
	for i, f := range parsed {
		if !strings.HasSuffix(files[i], ".gen.go") {
			ast.Inspect(f, w.visit)
		}
	}
	return &w.reads, nil
}

// list asks the go command for a package's files and for the compiled forms of what it imports.
func list(dir string) (files []string, exports map[string]string, err error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export,GoFiles,DepOnly", ".")
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list in %s: %w: %s", dir, err, stderr.String())
	}
	exports = map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Export string
			GoFiles            []string
			DepOnly            bool
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return files, exports, nil
		} else if err != nil {
			return nil, nil, err
		}
		if !p.DepOnly {
			files = p.GoFiles
		}
		exports[p.ImportPath] = p.Export
	}
}

type walker struct {
	reads
	info    *types.Info
	pkg     *types.Package
	written map[*ast.SelectorExpr]bool
}

func (w *walker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok == token.ASSIGN {
			for _, l := range n.Lhs {
				if sel, ok := l.(*ast.SelectorExpr); ok { // x.F = v writes F and reads whatever x is
					if w.written == nil {
						w.written = map[*ast.SelectorExpr]bool{}
					}
					w.written[sel] = true
				}
			}
		}
	case *ast.SelectorExpr:
		if s := w.info.Selections[n]; s != nil && s.Kind() == types.FieldVal && !w.written[n] {
			if t := w.named(s.Recv()); t != "" {
				w.fields[t+"."+s.Obj().Name()] = true
			}
		}
	case *ast.CallExpr:
		w.call(n)
	case *ast.BinaryExpr:
		if n.Op == token.EQL || n.Op == token.NEQ {
			w.wholeIf(n.X, false)
			w.wholeIf(n.Y, false)
		}
	}
	return true
}

// call finds what takes a struct as a whole: conversions to another type, encoding/json and reflect.
func (w *walker) call(n *ast.CallExpr) {
	if w.info.Types[n.Fun].IsType() {
		for _, a := range n.Args {
			w.wholeIf(a, true)
		}
		return
	}
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	if f := w.info.Uses[sel.Sel]; f != nil && f.Pkg() != nil && (f.Pkg().Path() == "encoding/json" || f.Pkg().Path() == "reflect") {
		for _, a := range n.Args {
			w.wholeIf(a, true)
		}
	}
}

func (w *walker) wholeIf(e ast.Expr, pointers bool) {
	t := w.info.Types[e].Type
	if t == nil {
		return
	}
	if _, isPointer := t.Underlying().(*types.Pointer); isPointer && !pointers {
		return // compares addresses
	}
	if name := w.named(t); name != "" {
		w.whole[name] = true
	}
}

// named is the name of the package's own type behind t, "" if there is none.
func (w *walker) named(t types.Type) string {
	for {
		switch x := types.Unalias(t).(type) {
		case *types.Pointer:
			t = x.Elem()
		case *types.Slice:
			t = x.Elem()
		case *types.Map:
			t = x.Elem()
		case *types.Named:
			if x.Obj().Pkg() == w.pkg {
				return x.Obj().Name()
			}
			return ""
		default:
			return ""
		}
	}
}
