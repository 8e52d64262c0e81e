package rule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/store"
)

func logTo(s fleet.Scope, role, group string, batch bool) fleet.RuleAction {
	return fleet.RuleAction{CloudwatchLogs: &fleet.CloudwatchLogsAction{Role: s.IAM("role/" + role), Group: group, Batch: batch}}
}

// entries are the messages in a log, oldest first, each after its stream.
func (w *world) entries(s fleet.Scope, group string) (lines []string) {
	w.t.Helper()
	list, _, err := w.Logs.Entries(w.t.Context(), s, group, store.LogQuery{}, fleet.Page{})
	w.ok(err)
	for _, e := range list {
		lines = append(lines, e.Stream+" "+e.Message)
	}
	return lines
}

func TestResultsBecomeEntriesOfALog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.role(here, "writer", "logs:*", "arn:aws:logs:us-east-1:000000000000:log-group:/lamps/*")
	w.role(here, "appender", "logs:PutLogEvents", "arn:aws:logs:us-east-1:000000000000:log-group:*")
	w.ok(w.iam.PutInline(t.Context(), here, store.IAMRole, "appender", "streams",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"logs:CreateLogStream","Resource":"*"}}`))
	w.rule(here, "keep", `SELECT t FROM 'in'`, logTo(here, "writer", "/lamps/${get(*, 'log')}", false))
	w.rule(here, "raw", `SELECT * FROM 'raw'`, logTo(here, "writer", "/lamps/raw", false))
	w.rule(here, "batch", `SELECT * FROM 'batch'`, logTo(here, "appender", "/lamps/a", true))
	w.rule(here, "other", `SELECT * FROM 'other'`, logTo(here, "writer", "other", false))
	w.rule(here, "new", `SELECT * FROM 'new'`, logTo(here, "appender", "/lamps/none", false))

	now := time.Now().UnixMilli()
	w.publish(here, "in", `{"log":"a","t":20}`)
	w.publish(here, "raw", "line of text")
	w.until("both entries", func() bool { return w.actions["CloudwatchLogsAction "+OK] == 2 })
	if got := w.entries(here, "/lamps/raw"); len(got) != 1 || got[0] != "raw line of text" {
		t.Errorf("got %q", got)
	}
	w.publish(here, "batch", fmt.Sprintf(`[{"timestamp":%d,"message":"second"},{"timestamp":%d,"message":"first"}]`, now-1000, now-2000))
	w.until("the batch", func() bool { return w.actions["CloudwatchLogsAction "+OK] == 3 })
	if got := strings.Join(w.entries(here, "/lamps/a"), "; "); got != `batch first; batch second; keep {"t":20}` {
		t.Errorf("got %s", got)
	}

	bad := []struct{ topic, message, why string }{
		{"in", `{"t":1}`, "is undefined"},
		{"in", `{"log":"a b","t":1}`, "no valid name"},
		{"raw", "\xff\x00", "encode(*, 'base64')"},
		{"batch", `{"timestamp":1,"message":"x"}`, "batchMode wants"},
		{"batch", `[{"timestamp":"1","message":"x"}]`, "batchMode wants"},
		{"batch", `[{"message":"x"}]`, "batchMode wants"},
		{"batch", fmt.Sprintf(`[{"timestamp":1,"message":"old"},{"timestamp":%d,"message":"third"}]`, now-500), "1 of 2 could not be stored: one is older than 14 days"},
		{"batch", fmt.Sprintf(`[{"timestamp":%d,"message":"early"}]`, now+3*3600_000), "in the future"},
		{"other", `{}`, "logs:CreateLogStream"},
		{"new", `{}`, "logs:CreateLogGroup"},
	}
	for i, row := range bad {
		w.publish(here, row.topic, row.message)
		w.until("its refusal", func() bool { return w.actions["CloudwatchLogsAction "+Failed] == i+1 && len(w.traces) == i+1 })
		w.mu.Lock()
		if text := w.traces[i].Cause; !strings.Contains(text, row.why) {
			t.Errorf("%s: told %s, want %q", row.message, text, row.why)
		}
		w.mu.Unlock()
	}
	if got := strings.Join(w.entries(here, "/lamps/a"), "; "); got != `batch first; batch second; batch third; keep {"t":20}` {
		t.Errorf("what could be stored of a batch: %s", got)
	}
	if _, _, err := w.Logs.Entries(t.Context(), there, "/lamps/a", store.LogQuery{}, fleet.Page{}); fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("another account reads it: %v", err)
	}
	if want := "arn:aws:logs:us-east-1:000000000000:log-group:/lamps/a:log-stream:keep"; logs.ARN(here, "/lamps/a", "keep") != want {
		t.Errorf("the ARN is %s", logs.ARN(here, "/lamps/a", "keep"))
	}
}
