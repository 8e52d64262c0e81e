package hook

import "testing"

func TestWhatAFunctionWroteIsShownWithoutValues(t *testing.T) {
	t.Parallel()
	q := request{hide: map[string]string{"Serial": "4711-secret", "Note": " two\nlines ", "Short": "ok"}}
	for log, want := range map[string]string{
		"": "",
		"START RequestId: 1 Version: $LATEST\n \nEND RequestId: 1\n":                "",
		"START RequestId: 1\nlooking\n\n  for 4711-secret\nok\nREPORT RequestId: 1": `"looking | for … | ok"`,
		"the note:  two\nlines .\n":                                                 `"the note: …."`,
		`{"Note": " two\nlines "}` + "\nthe end":                                    `"{\"Note\": \"…\"} | the end"`,
	} {
		if got := q.tail([]byte(log)); got != want {
			t.Errorf("%q is shown as %s, want %s", log, got, want)
		}
	}
}
