package rulesql_test

import (
	"fmt"

	"github.com/imprint-iot/imprint/internal/rulesql"
)

func ExampleParse() {
	rule, err := rulesql.Parse("SELECT *, topic(2) AS device FROM 'plant/+/state' WHERE temperature > 50", rulesql.V2016)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := &rulesql.Message{Topic: "plant/pump-1/state", Payload: []byte(`{"temperature": 54.98}`)}
	if rule.Matches(m.Topic) {
		result, err := rule.Run(m, &rulesql.Environment{Account: "123456789012"})
		fmt.Println(result.Matched, string(result.Payload), err)
	}
	// Output: true {"temperature":54.98,"device":"pump-1"} <nil>
}

func ExampleParseExpression() {
	rule, err := rulesql.ParseExpression("in_table('serials', SerialNumber) AND Model IN ['lamp', 'pump']")
	if err != nil {
		fmt.Println(err)
		return
	}
	env := &rulesql.Environment{Table: func(_, key string) (bool, error) { return key == "4711", nil }}
	for _, params := range []map[string]string{{"SerialNumber": "4711", "Model": "pump"}, {"SerialNumber": "4712", "Model": "pump"}, {"SerialNumber": "4711"}} {
		verdict, err := rule.Evaluate(rulesql.Strings(params), env)
		fmt.Println(verdict.Holds, verdict, err)
	}
	// Output:
	// true true; table serials has "4711" <nil>
	// false false; table serials lacks "4712" <nil>
	// false Undefined; table serials has "4711"; without value: Model <nil>
}

func ExampleParseText() {
	field, err := rulesql.ParseText("archive/${topic(2)}/${parse_time('yyyy-MM-dd', at)}.json", rulesql.V2016)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(field.Fill(&rulesql.Message{Topic: "plant/pump-1/state", Payload: []byte(`{"at": 1481825251155}`)}, nil))
	// Output: archive/pump-1/2016-12-15.json true <nil>
}
