package main

import (
	"fmt"
	"regexp"
	"strings"
)

var javaClass = strings.NewReplacer(
	`\u10000-\u10FFFF`, `\x{10000}-\x{10FFFF}`, // the models mean U+10000; Java would read U+1000 and a zero
	`\p{Graph}`, `[:graph:]`, `\p{Upper}`, `[:upper:]`, `\p{Lower}`, `[:lower:]`, `\p{Alpha}`, `[:alpha:]`,
	`\p{Alnum}`, `[:alnum:]`, `\p{Digit}`, `[:digit:]`, `\p{Punct}`, `[:punct:]`, `\p{Cntrl}`, `[:cntrl:]`,
	`\p{Print}`, `[:print:]`, `\p{Space}`, `[:space:]`, `\p{XDigit}`, `[:xdigit:]`, `\p{Blank}`, `[:blank:]`,
)

var (
	unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)
	longRepeat    = regexp.MustCompile(`\{(\d+),(\d{4,})\}$`)
)

// toRE2 translates a model's pattern, a Java regular expression that must match the whole value, to Go's syntax. It fails
// if the pattern needs what RE2 lacks: such a shape needs "re2" in the overlay.
func toRE2(pattern string) (string, error) {
	p := javaClass.Replace(pattern)
	p = unicodeEscape.ReplaceAllString(p, `\x{$1}`)
	if _, err := regexp.Compile(p); err != nil && longRepeat.MatchString(p) {
		// Go repeats at most 1000 times. Every such shape has the same bound as its length, which is checked by itself.
		p = longRepeat.ReplaceAllString(p, `{$1,}`)
	}
	if _, err := regexp.Compile(`\A(?:` + p + `)\z`); err != nil {
		return "", fmt.Errorf("pattern %s: %w", pattern, err)
	}
	return p, nil
}
