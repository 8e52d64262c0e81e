package rulesql

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/imprint-iot/imprint/internal/fleet"
)

func mustParse(t testing.TB, sql string) *Statement {
	t.Helper()
	s, err := Parse(sql, V2016)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func TestTopicsThatAStatementSelects(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "select * from 'plant/+/state'")
	if f, ok := s.Filter(); !ok || f != "plant/+/state" {
		t.Errorf("the filter is %q, %v", f, ok)
	}
	for topic, want := range map[string]bool{"plant/1/state": true, "plant/1": false, "plant/1/2/state": false, "$aws/1/state": false} {
		if s.Matches(topic) != want {
			t.Errorf("%s: %v", topic, !want)
		}
	}
	s = mustParse(t, "select *")
	if _, ok := s.Filter(); ok || s.Matches("") || s.Matches("a") {
		t.Error("a statement without FROM selects topics")
	}
}

func TestErrorsHaveTheirKindAndCode(t *testing.T) {
	t.Parallel()
	_, err := Parse("SELECT", V2016)
	var e *fleet.Error
	if !errors.As(err, &e) || e.Kind != fleet.KindInvalid || e.Code != "SqlParseException" {
		t.Errorf("%#v", err)
	}
	if _, err = Parse("SELECT *", "2020"); !errors.As(err, &e) || e.Kind != fleet.KindInvalid || e.Code != "" {
		t.Errorf("%#v", err)
	}
	if _, err = ParseExpression("("); !errors.As(err, &e) || e.Kind != fleet.KindInvalid || e.Code != "" {
		t.Errorf("%#v", err)
	}
}

// Undefined goes through every operator and every function, save for those that ask for it. IN and the comparisons are in
// operators.txt.
func TestUndefinedGoesThroughFunctions(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{"isNull": true, "isUndefined": true, "nanvl": true, "get_user_properties": true}
	for _, f := range functions {
		n := max(f.min, 1)
		if asked[f.name] || f.ofTables || f.max == 0 || f.max == anyNumber {
			continue
		}
		for missing := range n {
			args := make([]string, n)
			for i := range args {
				args[i] = "'1'"
			}
			if f.name == "encode" || f.name == "decode" {
				args[1] = "'base64'"
				missing = 0
			}
			if f.name == "get_mqtt_property" || f.name == "topic" {
				missing = 0
			}
			args[missing] = "nothing.there"
			expr := f.name + "(" + strings.Join(args, ", ") + ")"
			s, err := Parse("SELECT VALUE "+expr, V2016)
			if err != nil {
				if strings.Contains(err.Error(), "pattern") {
					continue
				}
				t.Fatal(err)
			}
			if r, err := s.Run(testMessage("{}"), testEnvironment()); err != nil || show(r) != "raw " {
				t.Errorf("%s is %s, %v", expr, show(r), err)
			}
		}
	}
}

func TestBoundsOfStatements(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"long":       "SELECT '" + strings.Repeat("x", MaxStatement) + "' AS x",
		"brackets":   "SELECT " + strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000) + " AS x",
		"arrays":     "SELECT " + strings.Repeat("[", 100_000) + " AS x",
		"objects":    "SELECT " + strings.Repeat("{'a':", 10_000) + " AS x",
		"minus":      "SELECT " + strings.Repeat("- ", 100_000) + "1 AS x",
		"not":        "SELECT " + strings.Repeat("NOT ", 50_000) + "a AS x",
		"calls":      "SELECT " + strings.Repeat("abs(", 50_000) + "1",
		"selects":    "SELECT " + strings.Repeat("(SELECT VALUE ", 10_000) + "1",
		"cases":      "SELECT " + strings.Repeat("CASE ", 50_000) + "1",
		"sum":        "SELECT 1" + strings.Repeat("+1", 100_000) + " AS x",
		"path":       "SELECT a" + strings.Repeat(".a", 100_000),
		"members":    "SELECT a()" + strings.Repeat(".a", 100_000),
		"names":      "SELECT 1 AS a" + strings.Repeat(".a", 1000),
		"items":      "SELECT a" + strings.Repeat(",a", 100_000),
		"patterns":   "SELECT " + strings.Repeat("regexp_matches(a,'x{999}'),", 1000) + "1 AS x",
		"null":       "SELECT a\x00",
		"not UTF-8":  "SELECT '\xff' AS x",
		"number":     "SELECT 1E" + strings.Repeat("9", 1000) + " AS x",
		"expression": strings.Repeat("(", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse(sql, V2016); fleetKind(err) != fleet.KindInvalid {
				t.Errorf("Parse: %v", err)
			}
			if _, err := ParseExpression(strings.TrimPrefix(sql, "SELECT ")); fleetKind(err) != fleet.KindInvalid {
				t.Errorf("ParseExpression: %v", err)
			}
		})
	}
	// The longest sum that is allowed still runs.
	s := mustParse(t, "SELECT VALUE 1"+strings.Repeat("+1", (MaxNodes-1)/2-1))
	if r, err := s.Run(testMessage("{}"), nil); err != nil || show(r) != fmt.Sprint((MaxNodes-1)/2) {
		t.Errorf("%s, %v", show(r), err)
	}
}

func fleetKind(err error) fleet.Kind {
	if err == nil {
		return -1
	}
	return fleet.KindOf(err)
}

func TestBoundsOfEvaluations(t *testing.T) {
	t.Parallel()
	many := "[" + strings.TrimSuffix(strings.Repeat("1,", 20_000), ",") + "]"
	few := "[" + strings.TrimSuffix(strings.Repeat("1,", 1000), ",") + "]"
	long := `"` + strings.Repeat("a", 100_000) + `"`
	for name, c := range map[string]struct{ sql, payload string }{
		"nested selects add up":      {"SELECT [" + strings.Repeat("(SELECT VALUE 1 FROM a),", 50) + "1] AS x", `{"a":` + many + `}`},
		"texts grow":                 {"SELECT VALUE replace(replace(replace(a,'a','aaaaaaaaaa'),'a','aaaaaaaaaa'),'a','aaaaaaaaaa')", `{"a":` + long + `}`},
		"sums grow":                  {"SELECT VALUE a + a + a", `{"a":` + long + `}`},
		"the result grows":           {"SELECT a AS b, a AS c, a AS d", `{"a":` + long + `}`},
		"arrays turn to text":        {"SELECT length([a, a, a])", `{"a":` + long + `}`},
		"patterns match at length":   {"SELECT regexp_matches(a, '(a{1,50}b){1,10}')", `{"a":` + long + `}`},
		"patterns match often":       {"SELECT regexp_replace(a, 'a.*b|a', 'x')", `{"a":` + long + `}`},
		"memberships add up":         {"SELECT * WHERE [" + strings.Repeat("2 IN a,", 50) + "1] = 1", `{"a":` + many + `}`},
		"transform grows":            {"SELECT transform('enrichArray', {'x': a}, [{}, {}])", `{"a":` + long + `}`},
		"a message nests":            {"SELECT *", strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)},
		"a message is large":         {"SELECT *", `{"a":"` + strings.Repeat("x", MaxMessage) + `"}`},
		"zones are looked up often":  {"SELECT (SELECT VALUE time_to_epoch(concat('3 12 2007 Asia/', 'Tokyo'), 'd M y VV') FROM a) AS x", `{"a":` + few + `}`},
		"hashes of hashes of a text": {"SELECT " + strings.Repeat("md2(a),", 200) + "1 AS x", `{"a":` + long + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mustParse(t, c.sql).Run(&Message{Payload: []byte(c.payload)}, nil)
			if fleetKind(err) != fleet.KindLimit {
				t.Errorf("%v", err)
			}
		})
	}
}

// wideObject has members m0 … and is JSON text.
func wideObject(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestMembersOfLargeObjects(t *testing.T) {
	t.Parallel()
	doc := strings.TrimSuffix(wideObject(200), "}") + `,"m7":"again"}`
	m := &Message{Payload: []byte(doc)}
	r, err := mustParse(t, "SELECT m0, m31, m32, m199, m7, m200").Run(m, nil)
	if want := `{"m0":0,"m31":31,"m32":32,"m199":199,"m7":"again"}`; err != nil || show(r) != want {
		t.Errorf("%s, %v", show(r), err)
	}
	if r, err = mustParse(t, "SELECT *, 'x' AS m5, 'y' AS n").Run(m, nil); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(strings.Replace(strings.TrimSuffix(wideObject(200), "}"), `"m7":7`, `"m7":"again"`, 1), `"m5":5`, `"m5":"x"`, 1) + `,"n":"y"}`
	if show(r) != want {
		t.Errorf("%s", show(r))
	}
	if r, err = mustParse(t, "SELECT VALUE m5").Run(m, nil); err != nil || show(r) != "5" {
		t.Errorf("the message was changed: %s, %v", show(r), err)
	}
}

// Statements and messages are shared by goroutines; the race detector looks on.
func TestStatementsRunAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "SELECT *, upper(a) AS u, (SELECT VALUE v FROM l AS v WHERE v > 1) AS big FROM 'a' WHERE regexp_matches(a, 'x+')")
	m := testMessage(`{"a":"xx","l":[1,2,3]}`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if r, err := s.Run(m, nil); err != nil || show(r) != `{"a":"xx","l":[1,2,3],"u":"XX","big":[2,3]}` {
					t.Errorf("%s, %v", show(r), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRulesOfHooks(t *testing.T) {
	t.Parallel()
	env := &Environment{Account: "123456789012", Table: func(table, key string) (bool, error) {
		switch table {
		case "serials":
			return key == "L-4711" || key == "7", nil
		case "blocked":
			return false, nil
		}
		return false, errors.New("there is no such table")
	}}
	tests := []struct{ rule, params, want string }{
		{"in_table('serials', SerialNumber)", `{"SerialNumber":"L-4711"}`, `holds: true; table serials has "L-4711"`},
		{"in_table('serials', SerialNumber)", `{"SerialNumber":"L-4712"}`, `refused: false; table serials lacks "L-4712"`},
		{"in_table('serials', SerialNumber)", `{}`, `refused: Undefined; without value: SerialNumber`},
		{"in_table('serials', SerialNumber)", `{"SerialNumber":null}`, `refused: Undefined`},
		{"in_table('serials', 7)", `{}`, `holds: true; table serials has "7"`},
		{"in_table('serials', S) AND NOT in_table('blocked', S)", `{"S":"L-4711"}`, `holds: true; table serials has "L-4711"; table blocked lacks "L-4711"`},
		{"startswith(SerialNumber, 'L-') AND Model IN ['a', 'b']", `{"SerialNumber":"L-1","Model":"b"}`, `holds: true`},
		{"Admin = 'yes' OR Model = 'a'", `{"Model":"a"}`, `refused: Undefined; without value: Admin`},
		{"isUndefined(Admin) AND Model = 'a'", `{"Model":"a"}`, `holds: true; without value: Admin`},
		{"get(*, 'AWS::IoT::Certificate::CommonName') = 'x'", `{"AWS::IoT::Certificate::CommonName":"x"}`, `holds: true`},
		{"parameters.SerialNumber", `{"parameters":{"SerialNumber":"true"}}`, `refused: "true"`},
		{"1", `{}`, `refused: 1`},
		{"accountid() = '123456789012'", `{}`, `holds: true`},
		{"in_table('none', 'x')", `{}`, `error: in_table('none'): there is no such table`},
		{"TRUE OR in_table('none', 'x')", `{}`, `error: in_table('none'): there is no such table`},
	}
	for _, tt := range tests {
		x, err := ParseExpression(tt.rule)
		if err != nil {
			t.Errorf("%s: %v", tt.rule, err)
			continue
		}
		over, err := JSON([]byte(tt.params))
		if err != nil {
			t.Fatal(err)
		}
		v, err := x.Evaluate(over, env)
		got := map[bool]string{true: "holds: ", false: "refused: "}[v.Holds] + v.String()
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("%s over %s\n got %s\nwant %s", tt.rule, tt.params, got, tt.want)
		}
	}
	x, err := ParseExpression("in_table('b', a) OR in_table('a', a) OR in_table('b', c)")
	if err != nil || strings.Join(x.Tables(), " ") != "b a" {
		t.Errorf("tables %q, %v", x.Tables(), err)
	}
	if v, err := x.Evaluate(Strings(map[string]string{"a": "1", "c": "2"}), nil); err == nil || v.Holds {
		t.Errorf("without tables: %v", v)
	}
}

func TestTextsOfActions(t *testing.T) {
	t.Parallel()
	const payload = `{"id":"d1","n":null,"o":{"a":1.0},"t":true,"brace":"}"}`
	tests := []struct {
		text, want string
		complete   bool
	}{
		{"", "", true},
		{"plain $ {text}", "plain $ {text}", true},
		{"${topic()}/republish", "plant/b1/state/republish", true},
		{"$$aws/things/${id}/shadow/update", "$$aws/things/d1/shadow/update", true},
		{"a${ id }b${id}c", "ad1bd1c", true},
		{"${o}", `{"a":1}`, true},
		{"${t}", "true", true},
		{"${missing}", "", false},
		{"x${n}y", "xy", false},
		{"${concat('}', brace)}", "}}", true},
		{"${get({'a': '}'}, 'a')}", "}", true},
		{"${parse_time('yyyy', timestamp(), 'UTC')}/${cast(1.5 AS Int) + 1}", "2016/2", true},
	}
	for _, tt := range tests {
		x, err := ParseText(tt.text, V2016)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		got, complete, err := x.Fill(testMessage(payload), testEnvironment())
		if err != nil || got != tt.want || complete != tt.complete {
			t.Errorf("%s is %q, %v, %v", tt.text, got, complete, err)
		}
	}
}

// A large message is no reason to fail: every function takes a text of a full payload once.
func TestFunctionsTakeLongTexts(t *testing.T) {
	t.Parallel()
	m := testMessage(`{"a":"` + strings.Repeat("a", 120<<10) + `"}`)
	for _, f := range functions {
		if f.min < 1 || f.ofTables {
			continue
		}
		args := []string{"a", "'1'", "'1'"}[:f.min]
		switch f.name {
		case "encode", "decode":
			args[1] = "'base64'"
		case "parse_time", "regexp_replace", "time_to_epoch", "transform":
			continue // their arguments are something else
		}
		expr := f.name + "(" + strings.Join(args, ", ") + ")"
		if _, err := mustParse(t, "SELECT VALUE "+expr).Run(m, testEnvironment()); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
	if r, err := mustParse(t, "SELECT VALUE regexp_replace(a, '^a', 'b') = replace(concat('x', a), 'xa', 'b')").Run(m, nil); err != nil || show(r) != "true" {
		t.Errorf("%s, %v", show(r), err)
	}
}

func TestRandomnessThatFailsEndsTheEvaluation(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{"SELECT newuuid()", "SELECT rand()", "SELECT * WHERE rand() >= 0"} {
		if r, err := mustParse(t, sql).Run(testMessage("{}"), &Environment{Random: strings.NewReader("")}); err == nil {
			t.Errorf("%s: %s", sql, show(r))
		}
	}
	r, err := mustParse(t, "SELECT newuuid() AS a, newuuid() AS b, timestamp() AS t, rand() AS r").Run(testMessage("{}"), nil)
	var out struct {
		A, B string
		T    int64
		R    float64
	}
	if err != nil || json.Unmarshal(r.Payload, &out) != nil || out.A == out.B || len(out.A) != 36 || out.T < 1e12 || out.R < 0 || out.R >= 1 {
		t.Errorf("%s, %v", show(r), err)
	}
}

// Arithmetic agrees with exact fractions, as far as 34 digits go.
func TestArithmeticIsExact(t *testing.T) {
	t.Parallel()
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,12})?([eE]-?[0-9]{1,2})?`)
	rapid.Check(t, func(t *rapid.T) {
		x, y := number.Draw(t, "x"), number.Draw(t, "y")
		a, b := parseNumber(x), parseNumber(y)
		ra, rb := rat(t, x), rat(t, y)
		if rat(t, a.String()).Cmp(ra) != 0 {
			t.Fatalf("%s became %s", x, a)
		}
		if compare(a, b) != ra.Cmp(rb) && compare(a, b)*ra.Cmp(rb) <= 0 {
			t.Fatalf("%s against %s: %d", x, y, compare(a, b))
		}
		near(t, x+" + "+y, add(a, b), new(big.Rat).Add(ra, rb))
		near(t, x+" - "+y, add(a, negate(b)), new(big.Rat).Sub(ra, rb))
		near(t, x+" * "+y, multiply(a, b), new(big.Rat).Mul(ra, rb))
		if rb.Sign() == 0 {
			if q := divide(a, b); q.kind != undefined {
				t.Fatalf("%s / 0 is %s", x, q)
			}
			return
		}
		q := new(big.Rat).Quo(ra, rb)
		whole := new(big.Int).Quo(q.Num(), q.Denom())
		if kindOf(a, b) == decimal {
			near(t, x+" / "+y, divide(a, b), q)
		} else if got := divide(a, b).String(); got != whole.String() {
			t.Fatalf("%s / %s is %s", x, y, got)
		}
		near(t, x+" % "+y, remainder(a, b), new(big.Rat).Sub(ra, new(big.Rat).Mul(rb, new(big.Rat).SetInt(whole))))
		if w := a.whole(); compare(a, w) != 0 || (w.kind == integer) != (ra.IsInt() && len(strings.TrimLeft(ra.Num().String(), "-")) <= maxDigits) {
			t.Fatalf("%s as a whole is %s, an Int: %v", x, w, w.kind == integer)
		}
	})
}

func rat(t *rapid.T, s string) *big.Rat {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r
}

// near checks that v is want but for the 35th digit.
func near(t *rapid.T, what string, v Value, want *big.Rat) {
	t.Helper()
	if !v.isNumber() {
		t.Fatalf("%s is %s", what, v)
	}
	diff := new(big.Rat).Sub(rat(t, v.String()), want)
	bound := new(big.Rat).Mul(want, big.NewRat(1, 2))
	bound.Quo(bound, new(big.Rat).SetInt(pow10(maxDigits-1)))
	if diff.Abs(diff).Cmp(bound.Abs(bound)) > 0 {
		t.Fatalf("%s is %s, want %s", what, v, want.FloatString(50))
	}
}

func TestRoundingOfNumbers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, down, up, cut, nearest string }{
		{"2.5", "2", "3", "2", "3"}, {"-2.5", "-3", "-2", "-2", "-3"}, {"2.4", "2", "3", "2", "2"}, {"-2.4", "-3", "-2", "-2", "-2"},
		{"-0.5", "-1", "0", "0", "-1"}, {"3.0", "3", "3", "3", "3"}, {"1e3", "1000", "1000", "1000", "1000"},
		{"0.05", "0", "1", "0", "0"}, {"-0.05", "-1", "0", "0", "0"}, {"0.099", "0", "1", "0", "0"}, {"1e-999", "0", "1", "0", "0"}, {"0.50", "0", "1", "0", "1"},
	} {
		v := parseNumber(tt.text)
		for how, want := range map[rounding]string{down: tt.down, up: tt.up, cut: tt.cut, nearest: tt.nearest} {
			if got := v.round(how); got.String() != want || got.kind != integer {
				t.Errorf("%s rounded (%d) is %s", tt.text, how, got)
			}
		}
	}
	for in, want := range map[string]string{ // half to even at 34 digits
		"10000000000000000000000000000000005":  "1.000000000000000000000000000000000E+34",
		"10000000000000000000000000000000015":  "1.000000000000000000000000000000002E+34",
		"99999999999999999999999999999999995":  "1.000000000000000000000000000000000E+35",
		"-99999999999999999999999999999999994": "-9.999999999999999999999999999999999E+34",
		"1" + strings.Repeat("0", 100) + "1":   "1.000000000000000000000000000000000E+101",
	} {
		if got := parseNumber(in).String(); got != want {
			t.Errorf("%s is %s", in, got)
		}
	}
}

func TestMD2(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{ // RFC 1319 appendix A.5
		"":                           "8350e5a3e24c153df2275c9f80692773",
		"a":                          "32ec01ec4a6dac72c0ab96fb34c0b5d1",
		"abc":                        "da853b0d3f88d99b30283a69e6ded6bb",
		"message digest":             "ab4f496bfb2a530b219ff33031fe06b0",
		"abcdefghijklmnopqrstuvwxyz": "4e8ddff3650292ab5a4108c3aa47940b",
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789": "da33def2a42df13975352846c30338cd",
	} {
		if got := fmt.Sprintf("%x", md2([]byte(in))); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestTheDocumentNamesWhatIsNotOffered(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range notOffered {
		if name != "in" && !strings.Contains(string(b), "`"+name+"`") {
			t.Errorf("DESIGN.md does not name %s", name)
		}
	}
}
