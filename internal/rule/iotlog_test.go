package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestTheLogTellsWhatRulesDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.role(here, "logger", "logs:*", "*")
	level := "DEBUG"
	w.ok(w.Logs.SetOptions(as(t.Context(), here), logs.OptionsChange{Role: new(here.IAM("role/logger")), Level: &level}))
	w.handle(here, "broken", func(string) error { return errors.New("boom") })
	w.rule(here, "again", `SELECT * FROM 'in' WHERE x = 1`, republishTo(here, "out"))
	w.rule(here, "fails", `SELECT * FROM 'bad'`, lambdaTo(here, "broken"))
	w.rule(there, "quiet", `SELECT * FROM 'in'`, republishTo(there, "out"))

	w.publish(here, "in", `{"x":2}`)
	w.publish(here, "in", `{"x":1}`)
	w.publish(there, "in", `{"x":1}`)
	w.publish(here, "bad", `{}`)
	w.publish(here, "$aws/rules/none/in", `{}`)
	w.until("all of it", func() bool { return w.outcomes[Filtered]+w.outcomes[Done]+w.outcomes[Failed] == 4 && w.missing == 1 })
	w.Logs.Flush(t.Context())
	list, _, err := w.Logs.Entries(t.Context(), here, logs.IoTGroup, store.LogQuery{}, fleet.Page{})
	w.ok(err)
	var got []string
	ids := map[string]string{}
	for _, e := range list {
		var m logs.Event
		w.ok(json.Unmarshal([]byte(e.Message), &m))
		if m.Client != "lamp" || m.Principal != strings.Repeat("ab", 32) || ids[m.Topic] != "" && ids[m.Topic] != m.TraceID {
			t.Errorf("%s", e.Message)
		}
		ids[m.Topic] = m.TraceID
		got = append(got, strings.TrimSpace(fmt.Sprint(m.Level, " ", m.Status, " ", m.Type, " ", m.Rule, " ", m.Topic, " ", m.Action, m.Resources)))
	}
	slices.Sort(got) // rules run side by side
	want := []string{
		"DEBUG Success StartingRuleExecution again in RepublishActionmap[]",
		"DEBUG Success StartingRuleExecution fails bad LambdaActionmap[]",
		"ERROR Failure RuleExecution fails bad LambdaActionmap[FunctionArn:arn:aws:lambda:us-east-1:000000000000:function:broken]",
		"ERROR Failure RuleNotFound none $aws/rules/none/in map[]",
		"INFO Success RuleExecution again in RepublishActionmap[RepublishTopic:out]",
		"INFO Success RuleMatch again in map[]",
		"INFO Success RuleMatch fails bad map[]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, _, err := w.Logs.Entries(t.Context(), there, logs.IoTGroup, store.LogQuery{}, fleet.Page{}); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("an account that has not asked: %v", err)
	}
}
