package rulesql

import (
	"strings"
	"testing"
)

const benchPayload = `{"deviceid":"iot123","temp":54.98,"humidity":32.43,"coords":{"latitude":47.615694,"longitude":-122.3359976},` +
	`"readings":[{"n":"temperature","v":22.5},{"n":"light","v":135},{"n":"acidity","v":7}],"status":"ok","count":17}`

// A message that is new to the statement is read first: that is the larger part.
func BenchmarkRun(b *testing.B) {
	for _, bench := range []struct{ name, sql string }{
		{"all", "SELECT * FROM 'a/b'"},
		{"more", "SELECT *, topic(2) AS device, timestamp() AS ts FROM 'a/b'"},
		{"refused", "SELECT * FROM 'a/b' WHERE temp > 60 AND status = 'ok'"},
		{"arithmetic", "SELECT (temp - 32) * 5 / 9 AS celsius, upper(deviceid) AS id FROM 'a/b' WHERE temp > 50"},
		{"nested", "SELECT get((SELECT v FROM readings WHERE n = 'temperature'), 0).v AS temperature FROM 'a/b'"},
		{"pattern", "SELECT * FROM 'a/b' WHERE regexp_matches(deviceid, '^iot[0-9]+$')"},
	} {
		s := mustParse(b, bench.sql)
		env := testEnvironment()
		b.Run(bench.name+"/new", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Run(&Message{Payload: []byte(benchPayload), Topic: "plant/b1/state"}, env); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/seen", func(b *testing.B) {
			m := &Message{Payload: []byte(benchPayload), Topic: "plant/b1/state"}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Run(m, env); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExpression(b *testing.B) {
	x, err := ParseExpression("in_table('serials', SerialNumber) AND startswith(SerialNumber, 'L-')")
	if err != nil {
		b.Fatal(err)
	}
	env := &Environment{Table: func(_, key string) (bool, error) { return key == "L-4711", nil }}
	over := Strings(map[string]string{"SerialNumber": "L-4711", "Model": "lamp"})
	b.ReportAllocs()
	for b.Loop() {
		if v, err := x.Evaluate(over, env); err != nil || !v.Holds {
			b.Fatal(v, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("SELECT *, topic(2) AS device FROM 'plant/+/state' WHERE temperature > 50 AND color <> 'red'", V2016); err != nil {
			b.Fatal(err)
		}
	}
}

// What evaluations take that come close to a bound, or fail at it.
func BenchmarkWorst(b *testing.B) {
	text := `{"a":"` + strings.Repeat("x", 100_000) + `"}`
	numbers := `{"a":[` + strings.Repeat("1E-990,", 20_000) + `1]}`
	for _, bench := range []struct{ name, sql, payload string }{
		{"pattern", "SELECT * WHERE regexp_matches(a, '(x+x+)+y')", text},
		{"replacement", "SELECT regexp_replace(a, 'x.*y|x', 'z')", text},
		{"texts", "SELECT " + strings.Repeat("sha512(a),", 100) + "1 AS x", text},
		{"replace", "SELECT " + strings.Repeat("length(replace(a, 'x', 'yy')),", 100) + "1 AS x", text},
		{"sums", "SELECT (SELECT VALUE v + 1E990 FROM a AS v) AS x", numbers},
		{"quotients", "SELECT (SELECT VALUE v / 7 FROM a AS v) AS x", numbers},
		{"floors", "SELECT (SELECT VALUE floor(v) FROM a AS v) AS x", numbers},
		{"times", "SELECT (SELECT VALUE parse_time('EEEE MMMM', v) FROM a AS v) AS x", numbers},
		{"zones", "SELECT (SELECT VALUE parse_time('z', 0, concat('Europe/', 'Berlin')) FROM a AS v) AS x", numbers},
		{"zones read", "SELECT (SELECT VALUE time_to_epoch('3 12 2007" + strings.Repeat(" Asia/Tokyo", 60) + "', 'd M y" + strings.Repeat(" VV", 60) + "') FROM a) AS x", numbers},
	} {
		s := mustParse(b, bench.sql)
		m := &Message{Payload: []byte(bench.payload)}
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				_, _ = s.Run(m, nil) // most fail at the bound
			}
		})
	}
}
