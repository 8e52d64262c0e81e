package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Golden files in testdata hold policies and requests with their decisions. A file has sections, each begun by a line "-- ":
//
//	-- policy NAME KIND --        (KIND: identity, trust, iot) followed by the document
//	-- sentence that names a request --
//	action iot:Publish
//	resource arn:…
//	from aws 123456789012 NAME NAME…      (trust: who asks; also: from service NAME, from federated NAME)
//	set iot:ClientId = lamp | other       (context key and its values)
//	want allowed by policy "P" statement 1
//	partial                               (the context is only partly known)
//	missing iot:ClientId                  (variables without value)
func TestDecisionsInGoldenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			runGolden(t, string(raw))
		})
	}
}

func runGolden(t *testing.T, file string) {
	var docs []Named
	for _, section := range strings.Split("\n"+file, "\n-- ")[1:] {
		head, body, _ := strings.Cut(section, "\n")
		head = strings.TrimSuffix(strings.TrimSpace(head), " --")
		if rest, ok := strings.CutPrefix(head, "policy "); ok {
			docs = append(docs, goldenPolicy(t, rest, body))
			continue
		}
		t.Run(head, func(t *testing.T) {
			r, want := goldenRequest(t, body)
			res := Evaluate(docs, r)
			got := res.String()
			if res.Delegated {
				got += " delegated"
			}
			if len(res.Missing) > 0 {
				got += " missing " + strings.Join(res.Missing, " | ")
			}
			if got != want {
				t.Errorf("\n got %s\nwant %s", got, want)
			}
		})
	}
}

func goldenPolicy(t *testing.T, head, body string) Named {
	t.Helper()
	name, kind, _ := strings.Cut(head, " ")
	d, err := Parse(body, map[string]Kind{"identity": Identity, "trust": Trust, "iot": IoT, "resource": Resource}[kind])
	if err != nil {
		t.Fatalf("policy %s: %v", name, err)
	}
	return Named{Name: name, Doc: d}
}

func goldenRequest(t *testing.T, body string) (r Request, want string) {
	t.Helper()
	r.Context = Context{}
	var missing string
	for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "", "#":
		case "action":
			r.Action = rest
		case "resource":
			r.Resource = rest
		case "from":
			f := strings.Fields(rest)
			switch f[0] {
			case "aws":
				r.Principal = Principal{Account: f[1], Names: f[2:]}
			case "service":
				r.Principal = Principal{Service: f[1]}
			case "federated":
				r.Principal = Principal{Federated: f[1]}
			}
		case "set":
			key, values, _ := strings.Cut(rest, " = ")
			r.Context.Set(key, strings.Split(values, " | ")...)
		case "partial":
			r.Partial = true
		case "want":
			want = rest
		case "missing":
			missing = " missing " + rest
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	return r, want + missing
}

// TestConditionOperators has one row per rule of identity spec 4.3. The key is k:x; "-" is a missing key, "|" parts values.
func TestConditionOperators(t *testing.T) {
	tests := []struct{ op, policy, values, want string }{
		{"StringEquals", `"a"`, "a", "yes"},
		{"StringEquals", `"a"`, "A", "no"},
		{"StringEquals", `["b","a"]`, "a", "yes"},
		{"StringEquals", `"a*"`, "ab", "no"},
		{"StringEquals", `"a"`, "-", "no"},
		{"StringEquals", `[]`, "a", "no"},
		{"StringEqualsIfExists", `"a"`, "-", "yes"},
		{"StringEqualsIfExists", `"a"`, "b", "no"},
		{"StringNotEquals", `"a"`, "b", "yes"},
		{"StringNotEquals", `["a","b"]`, "b", "no"},
		{"StringNotEquals", `"a"`, "-", "yes"},
		{"StringNotEquals", `"a"`, "b|a", "no"},
		{"StringEqualsIgnoreCase", `"aB"`, "Ab", "yes"},
		{"StringEqualsIgnoreCase", `"é"`, "É", "yes"},
		{"StringNotEqualsIgnoreCase", `"aB"`, "Ab", "no"},
		{"StringLike", `"a?c*"`, "abc", "yes"},
		{"StringLike", `"a?c*"`, "ac", "no"},
		{"StringLike", `"*??"`, "€", "no"},
		{"StringLike", `"?"`, "€", "yes"},
		{"StringNotLike", `"a*"`, "ab", "no"},
		{"StringNotLike", `"a*"`, "b", "yes"},
		{"NumericEquals", `10`, "10.0", "yes"},
		{"NumericEquals", `"10"`, "ten", "no"},
		{"NumericNotEquals", `10`, "11", "yes"},
		{"NumericLessThan", `10`, "9", "yes"},
		{"NumericLessThan", `10`, "10", "no"},
		{"NumericLessThanEquals", `10`, "10", "yes"},
		{"NumericGreaterThan", `10`, "10", "no"},
		{"NumericGreaterThanEquals", `["100","10"]`, "10", "yes"},
		{"DateLessThan", `"2026-01-01T00:00:00Z"`, "2025-12-31T23:59:59Z", "yes"},
		{"DateLessThan", `"2026-01-01"`, "1767225600", "no"},
		{"DateEquals", `"1767225600"`, "2026-01-01T00:00:00Z", "yes"},
		{"DateNotEquals", `"2026-01-01"`, "2026-01-02", "yes"},
		{"DateGreaterThan", `"2026-01-01T01:00:00+01:00"`, "2026-01-01T00:00:01Z", "yes"},
		{"DateGreaterThanEquals", `"2026-01-01"`, "not a date", "no"},
		{"DateLessThanEquals", `"2026-01-01"`, "2026-01-01T00:00:00Z", "yes"},
		{"Bool", `true`, "true", "yes"},
		{"Bool", `"TRUE"`, "true", "yes"},
		{"Bool", `"false"`, "true", "no"},
		{"Bool", `["true","false"]`, "false", "yes"},
		{"Bool", `"false"`, "-", "no"},
		{"BoolIfExists", `"false"`, "-", "yes"},
		{"BinaryEquals", `"AQID"`, "AQID", "yes"},
		{"BinaryEquals", `"AQID"`, "AQIE", "no"},
		{"IpAddress", `"192.0.2.0/24"`, "192.0.2.7", "yes"},
		{"IpAddress", `"192.0.2.0/24"`, "::ffff:192.0.2.7", "yes"},
		{"IpAddress", `"192.0.2.7"`, "192.0.2.8", "no"},
		{"IpAddress", `["10.0.0.0/8","2001:db8::/32"]`, "2001:db8::1", "yes"},
		{"IpAddress", `"0.0.0.0/0"`, "nonsense", "no"},
		{"NotIpAddress", `"192.0.2.0/24"`, "198.51.100.1", "yes"},
		{"NotIpAddress", `"192.0.2.0/24"`, "192.0.2.1", "no"},
		{"ArnEquals", `"arn:aws:iot:*:1:topic/a*"`, "arn:aws:iot:eu-west-1:1:topic/abc/d", "yes"},
		{"ArnLike", `"arn:aws:*:topic/a"`, "arn:aws:iot:r:1:topic/a", "yes"},
		{"ArnLike", `"arn:aws:iot:*:*:a"`, "arn:aws:iot:x:y:z:a", "no"},
		{"ArnLike", `"arn:aws:iam::1:role/*"`, "role", "no"},
		{"ArnNotEquals", `"arn:aws:iam::1:role/a"`, "arn:aws:iam::1:role/b", "yes"},
		{"ArnNotLike", `"arn:aws:iam::1:role/*"`, "arn:aws:iam::1:role/b", "no"},
		{"Null", `true`, "-", "yes"},
		{"Null", `"true"`, "a", "no"},
		{"Null", `"false"`, "a", "yes"},
		{"Null", `"false"`, "-", "no"},
		{"ForAnyValue:StringEquals", `["a","b"]`, "x|b", "yes"},
		{"ForAnyValue:StringEquals", `["a","b"]`, "x|y", "no"},
		{"ForAnyValue:StringEquals", `["a"]`, "-", "no"},
		{"ForAnyValue:StringNotEquals", `["a"]`, "a|b", "yes"},
		{"ForAnyValue:StringNotEquals", `["a"]`, "a", "no"},
		{"ForAnyValue:StringNotEquals", `["a"]`, "-", "no"},
		{"ForAllValues:StringEquals", `["a","b"]`, "a|b|a", "yes"},
		{"ForAllValues:StringEquals", `["a","b"]`, "a|c", "no"},
		{"ForAllValues:StringEquals", `["a"]`, "-", "yes"},
		{"ForAllValues:StringEquals", `[]`, "-", "yes"},
		{"ForAllValues:StringEquals", `[]`, "a", "no"},
		{"ForAllValues:StringNotLike", `["a*"]`, "b|c", "yes"},
		{"ForAllValues:StringNotLike", `["a*"]`, "b|ab", "no"},
		{"ForAnyValue:StringEqualsIfExists", `["a"]`, "-", "yes"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s %s with %s", tt.op, tt.policy, tt.values), func(t *testing.T) {
			t.Parallel()
			doc := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"` + tt.op + `":{"K:X":` + tt.policy + `}}}}`
			c := Context{}
			if tt.values != "-" {
				c.Set("k:x", strings.Split(tt.values, "|")...)
			}
			for _, kind := range []Kind{Identity, IoT} {
				d, err := Parse(doc, kind)
				if err != nil {
					t.Fatal(err)
				}
				res := Evaluate([]Named{{Name: "p", Doc: d}}, Request{Action: "a:b", Resource: "*", Context: c})
				if got := map[bool]string{true: "yes", false: "no"}[res.Allowed()]; got != tt.want {
					t.Errorf("kind %d: got %s, want %s", kind, got, tt.want)
				}
			}
		})
	}
}
