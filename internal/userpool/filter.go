package userpool

import (
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/store"
)

// filterable are the names that a filter of ListUsers may begin with (identity spec 1.3).
var filterable = []string{"username", "email", "phone_number", "name", "given_name", "family_name", "preferred_username",
	"cognito:user_status", "status", "sub"}

const maxFilter = 256

// parseFilter reads `attribute = "value"` or `attribute ^= "value"`; the attribute may be quoted, `\"` and `\\` stand for the
// characters behind them. An empty filter passes everybody.
func parseFilter(text string) (store.PoolUserFilter, error) {
	var f store.PoolUserFilter
	bad := invalid("Error while parsing filter: use attribute = \"value\" or attribute ^= \"value\".")
	if len(text) > maxFilter*4 {
		return f, bad
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return f, nil
	}
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return f, bad
	}
	name, f.Prefix = strings.CutSuffix(strings.TrimSpace(name), "^")
	f.Field = strings.Trim(strings.TrimSpace(name), `"`)
	if !slices.Contains(filterable, f.Field) {
		return f, invalid("Invalid search attribute: " + f.Field)
	}
	if f.Value, ok = unquote(strings.TrimSpace(value)); !ok {
		return f, bad
	}
	if f.Field == "cognito:user_status" { // the one whose values have no case
		f.Value = strings.ToUpper(f.Value)
	}
	return f, nil
}

// unquote takes the quotes off a value; nothing may follow them.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' {
		return "", false
	}
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return out.String(), i == len(s)-1
		case c == '\\' && i+1 < len(s):
			i++
			out.WriteByte(s[i])
		default:
			out.WriteByte(c)
		}
	}
	return "", false
}
