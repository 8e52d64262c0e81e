package fleet

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// patterns are of every kind that the product has, and near ones that are no spans.
var patterns = []string{
	`^[0-9]{12}$`, `^[A-Za-z0-9_.-]{1,64}$`, `^[\w=,@-]{1,128}$`, `^[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}$`, `^[\w+=,.@-]{1,128}$`, `^[a-f0-9]{64}$`,
	`^[a-z]+$`, `^[a-z]{2,}$`, `^[^/]{1,8}$`, `^\d{3}$`, `^(?i)[a-c]{1,4}$`, `(?m)^[a-z]+$`, `(?s)^.{1,5}$`, `^[äö]{1,3}$`, `^[a-z]*$`, `[0-9]{3}`,
	`^[a-z]{2}(-[a-z]+)+-[0-9]$`, `^(arn:)?[a-z]{1,4}$`, `\A[a-z]{1,3}\z`, `^[\p{L}]{1,5}$`, `^a{1,3}$`, `^[a]{2}$`, `^$`,
}

func TestAPatternMatchesWhatItsExpressionDoes(t *testing.T) {
	t.Parallel()
	const letters = "abcxyzABC019_-+=,.@/:#[] \n\x00\x7f\xff\xc3äöÄK\u2028"
	texts := []string{"", "a", "\n", "ab\n", "\nab", "ab\ncd", "us-east-1", "arn:abc", "123456789012", strings.Repeat("0a", 32), strings.Repeat("x", 64),
		strings.Repeat("x", 65), strings.Repeat("x", 128), strings.Repeat("x", 129), strings.Repeat("x", 800), strings.Repeat("x", 801), strings.Repeat("ä", 64)}
	runes := []rune(letters)
	for range 3000 {
		b := make([]rune, rand.N(9))
		for i := range b {
			b[i] = runes[rand.N(len(runes))]
		}
		texts = append(texts, string(b), letters[:rand.N(len(letters))])
	}
	for _, expression := range patterns {
		p, want := NewPattern(expression), regexp.MustCompile(expression)
		for _, text := range texts {
			if got := p.MatchString(text); got != want.MatchString(text) {
				t.Errorf("%s matches %.40q: %v", expression, text, got)
			}
		}
	}
}

// The patterns that are asked most are no regular expressions when it comes to matching.
func TestNamesAreSpans(t *testing.T) {
	t.Parallel()
	for i, expression := range patterns[:8] {
		if _, ok := spanOf(expression); !ok {
			t.Errorf("pattern %d, %s, is compiled", i, expression)
		}
	}
	for _, expression := range patterns[11:] {
		if s, ok := spanOf(expression); ok && !strings.HasPrefix(expression, `\A`) {
			t.Errorf("%s is read as %v", expression, s)
		}
	}
}

func BenchmarkPattern(b *testing.B) {
	const expression = `^[a-zA-Z0-9:_-]{1,128}$`
	for name, match := range map[string]func(string) bool{"span": NewPattern(expression).MatchString, "expression": regexp.MustCompile(expression).MatchString} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !match("lamp-0004711") {
					b.Fatal("it does not match")
				}
			}
		})
	}
}
