package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A setting is a field of settings and server.Config, and has one name everywhere: the flag --https-port, the variable
// IMPRINT_HTTPS_PORT and the key https-port of a file. A flag counts more than a variable, that more than a file, that more than
// the default; what was fixed at the first start stands before the default (server.openSite).

const (
	systemConfig = "/etc/imprint/imprint.yaml"
	folderConfig = "imprint.yaml"
	envPrefix    = "IMPRINT_"
)

// shared are the settings that other verbs than serve have too, so that they find the server that serve runs.
var shared = []string{"data", "env-file", "master-key-file", "master-key-command"}

// notSettings are flags of serve that say where settings are.
var notSettings = []string{"config", "help"}

// sources tells kong what environment and files say of flags that the command line doesn't give, and remembers where each value
// came from.
type sources struct {
	environ []string
	system  string // path of the configuration of the machine

	table    []*kong.Flag // the settings: flags of serve
	loaded   bool
	files    []*configFile // those that count more come last
	origin   map[string]string
	warnings []string
	errs     []error
}

// options makes kong ask s, and gives commands s as an argument of Run.
func (s *sources) options() []kong.Option {
	s.origin = map[string]string{}
	return []kong.Option{kong.Resolvers(s), kong.Bind(s), kong.ValueFormatter(help)}
}

// help is the text of a flag with its default, which the tags first and default give.
func help(v *kong.Value) string {
	text := strings.TrimSuffix(v.Help, ".")
	switch first := v.Tag.Get("first"); {
	case first != "":
		return text + " (fixed at first start; default " + first + ")."
	case v.Default != "":
		return text + " (default " + v.Default + ")."
	}
	return v.Help
}

// Validate implements kong.Resolver.
func (s *sources) Validate(*kong.Application) error { return nil }

// tableOf returns the settings: the flags of serve.
func tableOf(app *kong.Application) []*kong.Flag {
	for _, node := range app.Children {
		if node.Name == "serve" {
			return slices.DeleteFunc(slices.Clone(node.Flags), func(f *kong.Flag) bool { return slices.Contains(notSettings, f.Name) })
		}
	}
	return nil
}

// Resolve implements kong.Resolver. It is asked for each flag that the command line doesn't give. Errors are gathered, so that all
// are told at once: err.
func (s *sources) Resolve(k *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if s.table == nil {
		s.table = tableOf(k.Model)
	}
	if !s.isSetting(flag.Name) || !whole(k) && !slices.Contains(shared, flag.Name) {
		return nil, nil
	}
	if !s.loaded {
		if err := s.load(k); err != nil {
			s.errs = append(s.errs, err)
		}
	}
	v, ok := s.find(flag.Name)
	if !ok {
		return nil, nil
	}
	if err := v.check(flag); err != nil {
		s.errs = append(s.errs, err)
		return nil, nil
	}
	s.origin[flag.Name] = v.origin
	return v.of(flag), nil
}

// whole reports whether a command takes all settings.
func whole(k *kong.Context) bool {
	return strings.HasPrefix(k.Command(), "serve") || strings.HasPrefix(k.Command(), "config")
}

// err says what is wrong in environment and files.
func (s *sources) err() error { return errors.Join(s.errs...) }

// find returns what environment and files say of a setting.
func (s *sources) find(name string) (v given, found bool) {
	if text := s.env(name); text != "" {
		return given{value: text, origin: envName(name)}, true
	}
	for _, f := range slices.Backward(s.files) {
		if v, ok := f.values[name]; ok {
			return v, true
		}
	}
	return v, false
}

func envName(setting string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// env returns the value of a setting's variable. An empty variable is none.
func (s *sources) env(setting string) string {
	prefix := envName(setting) + "="
	for _, v := range slices.Backward(s.environ) {
		if text, ok := strings.CutPrefix(v, prefix); ok {
			return text
		}
	}
	return ""
}

// load reads the files: that of --config or IMPRINT_CONFIG alone, else that of the machine and that in the data folder.
func (s *sources) load(k *kong.Context) error {
	s.loaded = true
	s.table = tableOf(k.Model)
	given := onCommandLine(k)
	for name := range given {
		s.origin[name] = "--" + name
	}
	s.warnings = unknownVariables(s.environ, s.table)
	if path := cmp.Or(given["config"], s.env("config")); path != "" {
		return s.read(path)
	}
	// A file need not be there; and who may not read the machine's can still be a client of a server of their own.
	missing := func(err error) bool {
		return errors.Is(err, fs.ErrNotExist) || !whole(k) && errors.Is(err, fs.ErrPermission)
	}
	if err := s.read(s.system); err != nil && !missing(err) {
		return err
	}
	path := filepath.Join(cmp.Or(given["data"], s.data()), folderConfig)
	if err := s.read(path); err != nil && !missing(err) {
		return err
	}
	for _, f := range s.files {
		if v, ok := f.values["data"]; ok && f.path != s.system {
			return fmt.Errorf("%s: data: a file in the data folder can't say where the data folder is: put it into %s, or name the file with --config", v.origin, s.system)
		}
	}
	return nil
}

// data is the data folder as far as the command line doesn't say.
func (s *sources) data() string {
	v, _ := s.find("data")
	return cmp.Or(v.path(), flagNamed(s.table, "data").Default)
}

func (s *sources) read(path string) error {
	if path == "" {
		return nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := readConfig(path, names(s.table))
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	return nil
}

// onCommandLine returns the flags that the command line gives.
func onCommandLine(k *kong.Context) map[string]string {
	out := map[string]string{}
	for _, p := range k.Path {
		if p.Flag != nil && !p.Resolved {
			out[p.Flag.Name] = fmt.Sprint(k.FlagValue(p.Flag))
		}
	}
	return out
}

func names(table []*kong.Flag) []string {
	var out []string
	for _, f := range table {
		out = append(out, f.Name)
	}
	return out
}

// unknownVariables warns of variables that look like settings and are none. They may be somebody else's: it is no error.
func unknownVariables(environ []string, table []*kong.Flag) (warnings []string) {
	known := []string{envName("config")}
	for _, name := range names(table) {
		known = append(known, envName(name))
	}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) {
			warnings = append(warnings, fmt.Sprintf("the environment has %s, which is no setting%s", name, fleet.DidYouMean(name, known)))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// A given value is text or, in a file, also a list of texts.
type given struct {
	value  any    // string or []any of string
	origin string // variable, or file and line
	dir    string // of the file, for relative paths
}

// of is the value for a flag: paths in a file are relative to the file.
func (v given) of(flag *kong.Flag) any {
	if flag.Tag.Type == "path" {
		return v.path()
	}
	return v.value
}

func (v given) path() string {
	text, _ := v.value.(string)
	if v.dir == "" || text == "" || filepath.IsAbs(text) || strings.HasPrefix(text, "~") {
		return text
	}
	return filepath.Join(v.dir, text)
}

// check says what is wrong with a value, and where it stands.
func (v given) check(flag *kong.Flag) error {
	_, list := v.value.([]any)
	if list && !flag.IsSlice() {
		return fmt.Errorf("%s: %s takes one value, not a list", v.origin, flag.Name)
	}
	target := reflect.New(flag.Target.Type()).Elem()
	probe := *flag.Value
	err := probe.Parse(kong.Scan().PushTyped(v.of(flag), kong.FlagValueToken), target)
	if err == nil && flag.Enum != "" && !flag.EnumMap()[fmt.Sprint(target)] {
		err = fmt.Errorf("%v is none of %s", target, strings.Join(flag.EnumSlice(), ", "))
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %s", v.origin, flag.Name, strings.TrimPrefix(err.Error(), "--"+flag.Name+": "))
	}
	return nil
}

// A configFile is a file's settings by name.
type configFile struct {
	path   string
	values map[string]given
}

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 64 << 10

// readConfig reads a file that may set the named settings. A file that others may write is refused: it can name a command.
func readConfig(path string, known []string) (*configFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("everybody may write %s (mode %04o): chmod o-w it", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	values, err := parseConfig(path, text, known)
	return &configFile{path, values}, err
}

// parseConfig reads a YAML mapping of settings to scalars or lists of scalars. Values are the text as written, so that 012 stays
// 012 whatever YAML makes of it. Errors name the line.
func parseConfig(path string, text []byte, known []string) (map[string]given, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxConfig)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, yamlError(path, err)
	}
	out := map[string]given{}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("%s: one YAML document is expected, there are %d", path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return out, nil
	}
	var errs []error
	fail := func(n ast.Node, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: %s", path, line(n), fmt.Sprintf(format, args...)))
	}
	for _, pair := range pairs(file.Docs[0].Body, fail) {
		key, ok := scalar(pair.Key)
		origin := fmt.Sprintf("%s:%d", path, line(pair.Key))
		switch { // the parser has refused names that stand there twice
		case !ok:
			fail(pair.Key, "a setting's name is expected, not %s", kindOf(pair.Key))
			continue
		case !slices.Contains(known, key):
			fail(pair.Key, "there is no setting %s%s", key, fleet.DidYouMean(key, known))
			continue
		}
		v := given{origin: origin, dir: filepath.Dir(path)}
		switch n := pair.Value.(type) {
		case *ast.SequenceNode:
			list := []any{}
			for _, item := range n.Values {
				text, ok := scalar(item)
				if !ok {
					fail(item, "%s: a value is expected, not %s", key, kindOf(item))
				}
				list = append(list, text)
			}
			v.value = list
		default:
			text, ok := scalar(n)
			if !ok {
				fail(pair.Key, "%s: a value is expected, not %s; leave the line out for the default", key, kindOf(n))
			}
			v.value = text
		}
		out[key] = v
	}
	return out, errors.Join(errs...)
}

// yamlError says in one line what the parser found.
func yamlError(path string, err error) error {
	var e interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &e) && e.GetToken() != nil && e.GetToken().Position != nil {
		return fmt.Errorf("%s:%d: %s", path, e.GetToken().Position.Line, e.GetMessage())
	}
	return fmt.Errorf("%s: %w", path, err)
}

func pairs(body ast.Node, fail func(ast.Node, string, ...any)) []*ast.MappingValueNode {
	switch n := body.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	case *ast.CommentGroupNode:
		return nil
	}
	fail(body, "lines of the form `setting: value` are expected, not %s", kindOf(body))
	return nil
}

// scalar returns the text of a plain or quoted value.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.SequenceNode:
		return "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	}
	return "a " + strings.ToLower(n.Type().String())
}

func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}
