package main

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGeneratedFile(t *testing.T) {
	t.Parallel()
	got, err := generate("lamp", read(t, "model.json"), read(t, "overlay.json"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/model.golden", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, "model.golden"); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, _ := generate("lamp", read(t, "model.json"), read(t, "overlay.json"))
	if !bytes.Equal(got, again) {
		t.Error("two runs differ")
	}
}

func TestMistakesInAnOverlayAreNamed(t *testing.T) {
	t.Parallel()
	const metadata = `"metadata":{"signingNames":["lamp"],"validationCode":"X"}`
	for overlay, want := range map[string]string{
		`{`:               "overlay",
		`{"metadata":{}}`: "signingNames",
		`{` + metadata + `,"operations":{"Light":{"input":{"shape":"Nope"}}}}`:         `operation Light names the unknown shape "Nope"`,
		`{` + metadata + `,"shapes":{"Lamp":{"members":{"x":{"shape":"Nope"}}}}}`:      `shape Lamp names the unknown shape "Nope"`,
		`{` + metadata + `,"shapes":{"Lamp":{"required":["nope"]}}}`:                   `requires "nope"`,
		`{` + metadata + `,"shapes":{"Name":{"pattern":"a(?!b)"}}}`:                    "shape Name: pattern",
		`{` + metadata + `,"shapes":{"LightInput":{"type":"structure","members":{}}}}`: "both be named LightInput",
		`{` + metadata + `,"shapes":{"Name":{"type":"string"}}}`:                       "shape Name, which the model has already",
		`{` + metadata + `,"shapes":{"Nome":{"min":1}}}`:                               "shape Nome, which the model has not",
		`{` + metadata + `,"shapes":{"Name":{"pattern":"a(?!b)","re2":"("}}}`:          "shape Name",
	} {
		_, err := generate("lamp", read(t, "model.json"), []byte(overlay))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want an error about %s, got %v", overlay, want, err)
		}
	}
}

func TestJavaPatternsMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{`[\p{Graph}\x20]*`, []string{"", "a b!"}, []string{"ä", "a\tb"}},
		{`[\u0009\u000A\u000D\u0020-\u00FF]+`, []string{"{\n\t}", "ÿ"}, []string{"", "Ā", "\x00"}},
		{`[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+`, []string{"a😀"}, []string{"\x00"}},
		{`(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`, []string{"/", "/a/b/"}, []string{"", "/a", "a/"}},
		{`^[0-9A-Za-z_-]+$`, []string{"a_b"}, []string{"a b", "a\n"}},
		{`\S{36,64}`, []string{strings.Repeat("x", 40)}, []string{strings.Repeat("x", 65), "x"}},
		{`[a-z]{1,2048}`, []string{"abc"}, []string{"", "A"}},
	} {
		re, err := toRE2(c.pattern)
		if err != nil {
			t.Error(err)
			continue
		}
		compiled := regexp.MustCompile(`\A(?:` + re + `)\z`)
		for _, s := range c.yes {
			if !compiled.MatchString(s) {
				t.Errorf("%s should match %q", c.pattern, s)
			}
		}
		for _, s := range c.no {
			if compiled.MatchString(s) {
				t.Errorf("%s should not match %q", c.pattern, s)
			}
		}
	}
}
