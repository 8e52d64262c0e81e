package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// parsed is what a command line, an environment and files make of the settings.
func parsed(t testing.TB, from *sources, args ...string) (*cli, error) {
	t.Helper()
	c, _, err := parsedContext(t, from, args...)
	return c, err
}

func parsedContext(t testing.TB, from *sources, args ...string) (*cli, *kong.Context, error) {
	t.Helper()
	var c cli
	p, err := kong.New(&c, append(from.options(), kong.Name("imprint"))...)
	noError(t, err)
	k, err := p.Parse(args)
	if from.err() != nil {
		err = from.err()
	}
	return &c, k, err
}

// write makes a file that its owner alone can write.
func write(t testing.TB, path, text string) string {
	t.Helper()
	noError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	noError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAFlagCountsMoreThanAVariableAndThatMoreThanAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	system := write(t, filepath.Join(dir, "etc", "imprint.yaml"), "data: ../data\nhost: of-the-machine\nregion: of-the-machine\noutbox: mail\naccount: 000000000012\n")
	write(t, filepath.Join(data, folderConfig), "# of this folder\nhost: of-the-folder\nregion: of-the-folder\nmqtt-port: 0\ncors-origins: [https://a, 'https://b']\n")
	from := &sources{system: system, environ: []string{"IMPRINT_REGION=of-the-environment", "IMPRINT_HTTPS_PORT=1111", "IMPRINT_HOST=", "IMPRINT_HSOT=x", "PATH=/bin"}}
	c, err := parsed(t, from, "serve", "--https-port", "2222")
	noError(t, err)
	got := c.Serve
	if got.HTTPSPort != 2222 || got.Region != "of-the-environment" || got.Host != "of-the-folder" || got.Account != "000000000012" || got.MQTTPort != -1 || got.LogLevel != "info" {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(got.CORSOrigins, []string{"https://a", "https://b"}) {
		t.Errorf("a list became %q", got.CORSOrigins)
	}
	if got.Data != data || got.OutboxDir != filepath.Join(dir, "etc", "mail") {
		t.Errorf("paths %s and %s are not relative to their file", got.Data, got.OutboxDir)
	}
	want := map[string]string{"https-port": "--https-port", "region": "IMPRINT_REGION", "host": filepath.Join(data, folderConfig) + ":2", "account": system + ":5"}
	for name, origin := range want {
		if from.origin[name] != origin {
			t.Errorf("%s comes from %q, want %q", name, from.origin[name], origin)
		}
	}
	if len(from.warnings) != 1 || !strings.Contains(from.warnings[0], "IMPRINT_HSOT, which is no setting: did you mean IMPRINT_HOST?") {
		t.Errorf("warnings %q", from.warnings)
	}
}

func TestAFileThatIsNamedIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	system := write(t, filepath.Join(dir, "etc.yaml"), "host: of-the-machine\nregion: of-the-machine\n")
	mine := write(t, filepath.Join(dir, "mine.yaml"), "host: mine\n")
	for _, from := range []*sources{{system: system, environ: []string{"IMPRINT_CONFIG=" + mine}}, {system: system}} {
		args := []string{"serve"}
		if from.environ == nil {
			args = append(args, "--config", mine)
		}
		c, err := parsed(t, from, args...)
		noError(t, err)
		if c.Serve.Host != "mine" || c.Serve.Region != "" || from.warnings != nil {
			t.Errorf("%+v %v", c.Serve, from.warnings)
		}
	}
	if _, err := parsed(t, &sources{}, "serve", "--config", filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a file that is named and missing: %v", err)
	}
}

func TestOtherVerbsFindTheServerAsServeDoes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	system := write(t, filepath.Join(dir, "etc.yaml"), "data: data\naccount: 000000000012\nmaster-key-file: key\n")
	c, err := parsed(t, &sources{system: system}, "rekey")
	noError(t, err)
	if c.Rekey.Data != filepath.Join(dir, "data") || c.Rekey.MasterKeyFile != filepath.Join(dir, "key") {
		t.Errorf("%+v", c.Rekey)
	}
	if c, err = parsed(t, &sources{system: system}, "admin", "create-key"); err != nil || c.Admin.CreateKey.Account != "" {
		t.Errorf("--account of another verb is another flag: %+v %v", c.Admin.CreateKey, err)
	}
}

func TestWhatIsWrongIsNamedWithItsPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, want := range map[string][]string{
		"host: a\nhttps-prot: 1\nwhatever: 2\n": {"f.yaml:2: there is no setting https-prot: did you mean https-port?", "f.yaml:3: there is no setting whatever"},
		"https-port: many\n":                    {`f.yaml:1: https-port: "many" is no port`},
		"\nlog-level: loud\n":                   {"f.yaml:2: log-level: loud is none of debug, info, warn, error"},
		"host: [a, b]\n":                        {"f.yaml:1: host takes one value, not a list"},
		"host:\n  name: a\n":                    {"host: a value is expected, not a mapping"},
		"host:\n":                               {"host: a value is expected, not nothing"},
		"host: a\nhost: b\n":                    {"f.yaml:2", "host", "already defined"},
		"- host\n":                              {"`setting: value` are expected, not a list"},
		"host: 'a\n":                            {"f.yaml:1"},
		"host: a\n---\nhost: b\n":               {"one YAML document is expected, there are 2"},
		"host: &x a\nregion: *x\n":              {"f.yaml:1", "not a anchor"},
		"config: f.yaml\n":                      {"there is no setting config"},
	} {
		path := write(t, filepath.Join(dir, "f.yaml"), text)
		_, err := parsed(t, &sources{}, "serve", "--config", path)
		_, k, parseErr := parsedContext(t, &sources{}, "config", "check", path)
		noError(t, parseErr)
		for _, err := range []error{err, k.Run()} {
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%q: %v, want %q", text, err, w)
				}
			}
		}
	}
	path := write(t, filepath.Join(dir, "data", folderConfig), "data: elsewhere\n")
	if _, err := parsed(t, &sources{}, "serve", "--data", filepath.Dir(path)); err == nil || !strings.Contains(err.Error(), "can't say where the data folder is") {
		t.Errorf("a data folder that leads elsewhere: %v", err)
	}
	path = write(t, filepath.Join(dir, "open.yaml"), "host: a\n")
	noError(t, os.Chmod(path, 0o666))
	if _, err := parsed(t, &sources{}, "serve", "--config", path); err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Errorf("a file that everybody may write: %v", err)
	}
	if _, err := parsed(t, &sources{environ: []string{"IMPRINT_MQTT_PORT=70000"}}, "serve"); err == nil || !strings.Contains(err.Error(), `IMPRINT_MQTT_PORT: mqtt-port: "70000" is no port`) {
		t.Errorf("a bad variable: %v", err)
	}
}

// table is the settings as serve has them.
func table(t testing.TB) []*kong.Flag {
	t.Helper()
	p, err := kong.New(&cli{}, append((&sources{}).options(), kong.Name("imprint"))...)
	noError(t, err)
	return tableOf(p.Model)
}

func TestThePageListsEverySetting(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/operating.md")
	noError(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Settings\n")
	section, _, _ = strings.Cut(section, "\n## ")
	page := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|([^|]*)\\|").FindAllStringSubmatch(section, -1) {
		page[row[1]] = strings.Trim(row[2], "` ")
	}
	for _, f := range table(t) {
		want := f.Default
		if first := f.Tag.Get("first"); first != "" {
			want = first
		}
		if got, ok := page[f.Name]; !ok || got != want {
			t.Errorf("docs/operating.md, Settings: %s has the default %q, want %q (listed: %v)", f.Name, got, want, ok)
		}
		if f.Help == "" {
			t.Errorf("%s has no help", f.Name)
		}
		delete(page, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(page)) {
		t.Errorf("docs/operating.md lists the setting %s, which does not exist", name)
	}
}

func TestASecretIsNotShown(t *testing.T) {
	t.Parallel()
	var c struct {
		Database string `secret:""`
		Empty    string `secret:""`
	}
	for given, want := range map[string]string{
		"postgres://imprint:hunter2@db/imprint?sslmode=require":             "postgres://imprint:xxxxx@db/imprint?sslmode=require",
		"postgres://db/imprint?user=imprint&password=hunter2&sslmode=allow": "postgres://db/imprint?password=xxxxx&sslmode=allow&user=xxxxx",
		"postgres://a,b/imprint?sslpassword=hunter2":                        "postgres://a,b/imprint?sslpassword=xxxxx",
		"https://hooks.example/services/hunter2?token=hunter2#hunter2":      "https://hooks.example/xxxxx?token=xxxxx",
		"https://hooks.example:8443":                                        "https://hooks.example:8443",
		"host=db password=hunter2":                                          "xxxxx",
		"hunter2":                                                           "xxxxx",
	} {
		p, err := kong.New(&c)
		noError(t, err)
		_, err = p.Parse([]string{"--database", given})
		noError(t, err)
		if got := []string{show(p.Model.Flags[1]), show(p.Model.Flags[2])}; !slices.Equal(got, []string{want, ""}) {
			t.Errorf("%s is shown as %q, want %q", given, got, want)
		}
	}
}

func FuzzConfigFile(f *testing.F) {
	known := names(table(f))
	f.Add("host: a\ncors-origins:\n- https://a\n- 'b'\nhttps-port: 0x1F\n# end\n")
	f.Add("? host\n: |\n  a\n  b\n---\n{host: a, region: [a, {b: c}]}\n")
	f.Add("host: a\nhost: b\nhots: c\n")
	f.Add("htps-port: 1\ncors-origins: [a, [b], {c: d}, null]\nregion: {a: b}\naccount:\noutbox: |\n  a\n  b\n")
	f.Add("- host\n")
	f.Add("just words")
	f.Add("# a comment\n")
	f.Add("host: 'a\n")
	f.Add("host: a\n---\nhost: b\n")
	f.Add("[a]: b\n1.5: .inf\ntrue: .nan\nlimits: 0x1f\n")
	f.Add("host: &a b\nregion: *a\n<<: {account: !!str 12}\n")
	f.Fuzz(func(t *testing.T, text string) {
		values, err := parseConfig("f.yaml", []byte(text), known)
		if err != nil {
			return
		}
		for name, v := range values {
			if !slices.Contains(known, name) || v.value == nil || v.origin == "" {
				t.Errorf("%q: %+v", name, v)
			}
		}
	})
}

// Serve is parsed by a grammar of its own; nobody may notice.
func TestServeIsUnderstoodWithoutTheOtherVerbs(t *testing.T) {
	t.Parallel()
	usage := func(c any) string {
		var out strings.Builder
		p, err := kong.New(c, append((&sources{}).options(), kong.Name("imprint"), kong.Writers(&out, &out), kong.Exit(func(int) { panic(true) }))...)
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() { _ = recover() }() // help ends the program
			_, _ = p.Parse([]string{"serve", "--help"})
		}()
		return out.String()
	}
	alone, whole := usage(grammar([]string{"serve", "--help"})), usage(grammar(nil))
	if alone != whole || !strings.Contains(alone, "--https-port") {
		t.Errorf("serve alone says\n%s\nwith the others\n%s", alone, whole)
	}
}
