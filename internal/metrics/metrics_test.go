package metrics

import (
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// used returns metrics of which every one has been observed.
func used() *Metrics {
	m := New(Sources{
		Version:      "v1",
		Connections:  func() int { return 3 },
		Messages:     func() (received, sent uint64) { return 5, 7 },
		Stored:       func() (bytes int64, dropped uint64) { return 13, 17 },
		Ruled:        func() int64 { return 19 },
		Traces:       func() Traces { return Traces{Bytes: 10, Dropped: 11, Sampled: 12, Old: 13, Surplus: 14} },
		Logs:         func() Logs { return Logs{Bytes: 15, Old: 16, Surplus: 17, Dropped: 18} },
		KeyPool:      func() KeyPool { return KeyPool{Ready: 1, Waiting: 2, Taken: 3, Missed: 4, Made: 5, Refused: 6} },
		Pending:      func() int { return 9 },
		Bulk:         func() int { return 21 },
		Circuits:     func() map[string]int { return map[string]int{"open": 15} },
		Ending:       func() Ending { return Ending{Expired: 1, Week: 2, Month: 3, Next: time.Unix(2e9, 0)} },
		Certificates: func() map[string]time.Time { return map[string]time.Time{"server": time.Unix(1e9, 0)} },
	})
	m.Handshake("", time.Millisecond)
	m.Refused("requests")
	m.FirstConnection("provisioned", time.Millisecond)
	m.Hook("webhook", "allowed", 2*time.Millisecond)
	m.Message("EMAIL", "sent")
	m.Trigger("PreSignUp", "answered", time.Millisecond)
	m.Function("answered", true, 2*time.Millisecond)
	m.Processes(3)
	m.Hosted("/login", 200, time.Millisecond)
	m.Slowed("handshakes")
	m.Handshake("revoked", time.Millisecond)
	m.Handshake("timeout", 10*time.Second)
	m.BulkLines(22, 23)
	m.BulkEnded("Completed")
	m.Ended("CLIENT_INITIATED_DISCONNECT")
	m.RuleNotFound()
	m.RuleMessage("filtered")
	m.RuleAction("LambdaAction", "failed", time.Millisecond)
	m.Flow("register", "", false, time.Millisecond)
	m.Flow("register", "AccessDenied", false, time.Millisecond)
	m.Flow("claim", "InternalFailureException", true, time.Millisecond)
	m.Request("iot", "CreateThing", 200, time.Millisecond)
	m.Write(time.Millisecond, nil)
	m.Commit(4, time.Millisecond, errors.New("disk full"))
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestWhatIsObservedIsShown(t *testing.T) {
	t.Parallel()
	page := scrape(t, used())
	for _, line := range []string{
		`imprint_handshakes_total{cause="",outcome="ok"} 1`,
		`imprint_handshakes_total{cause="revoked",outcome="refused"} 1`,
		`imprint_handshakes_total{cause="timeout",outcome="failed"} 1`,
		`imprint_flows_total{code="",kind="register",outcome="ok"} 1`,
		`imprint_flows_total{code="AccessDenied",kind="register",outcome="refused"} 1`,
		`imprint_flows_total{code="InternalFailureException",kind="claim",outcome="failed"} 1`,
		`imprint_api_requests_total{operation="CreateThing",service="iot",status="200"} 1`,
		`imprint_mqtt_disconnections_total{reason="CLIENT_INITIATED_DISCONNECT"} 1`,
		`imprint_mqtt_connections 3`,
		`imprint_rule_not_found_total 1`,
		`imprint_rule_messages_total{outcome="filtered"} 1`,
		`imprint_rule_action_duration_seconds_count{action="LambdaAction",outcome="failed"} 1`,
		`imprint_rule_waiting_bytes 19`,
		`imprint_bulk_tasks 21`,
		`imprint_bulk_lines_total{outcome="ok"} 22`,
		`imprint_bulk_lines_total{outcome="refused"} 23`,
		`imprint_bulk_tasks_ended_total{status="Completed"} 1`,
		`imprint_mqtt_messages_received_total 5`,
		`imprint_mqtt_messages_sent_total 7`,
		`imprint_mqtt_stored_bytes 13`,
		`imprint_mqtt_messages_dropped_total 17`,
		`imprint_traces_bytes 10`,
		`imprint_traces_dropped_total 11`,
		`imprint_traces_sampled_total 12`,
		`imprint_traces_expired_total 13`,
		`imprint_traces_evicted_total 14`,
		`imprint_keypool_missed_total 4`,
		`imprint_keypool_refused_total 6`,
		`imprint_pending_connections 9`,
		`imprint_refusals_total{budget="requests"} 1`,
		`imprint_slowed_total{budget="handshakes"} 1`,
		`imprint_store_writes_total{outcome="ok"} 1`,
		`imprint_store_commits_total{outcome="error"} 1`,
		`imprint_store_commit_group_size_sum 4`,
		`imprint_certificate_expiry_timestamp_seconds{certificate="server"} 1e+09`,
		`imprint_build_info{version="v1"} 1`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("not shown: %s", line)
		}
	}
	for _, prefix := range []string{"go_goroutines ", "process_open_fds "} {
		if !strings.Contains(page, "\n"+prefix) {
			t.Errorf("not shown: %s", prefix)
		}
	}
}

func TestLabelsTakeFewValues(t *testing.T) {
	t.Parallel()
	m := used()
	for i := range 10 * maxWords {
		m.Flow("register", fmt.Sprint("Code", i), false, time.Millisecond)
	}
	page := scrape(t, m)
	if n := strings.Count(page, "imprint_flows_total{"); n > maxWords+2 {
		t.Errorf("%d series of one metric", n)
	}
	if !strings.Contains(page, `code="other"`) {
		t.Error("codes beyond the bound are not counted together")
	}
}

func TestThePageListsEveryMetric(t *testing.T) {
	t.Parallel()
	registered := map[string]string{}
	types := regexp.MustCompile(`(?m)^# TYPE (imprint_\S+) (\S+)$`)
	for _, found := range types.FindAllStringSubmatch(scrape(t, used()), -1) {
		registered[found[1]] = found[2]
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]string{}
	for _, found := range regexp.MustCompile("(?m)^\\| `(imprint_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(text), -1) {
		page[found[1]] = found[2]
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		if page[name] != registered[name] {
			t.Errorf("docs/metrics.md has %q for %s, a %s", page[name], name, registered[name])
		}
		delete(page, name)
	}
	for name := range page {
		t.Errorf("docs/metrics.md lists %s, which does not exist", name)
	}
}

func TestAlertsAskForMetricsThatExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../packaging/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	page := scrape(t, used())
	asked := regexp.MustCompile(`imprint_\w+`).FindAllString(string(text), -1)
	for _, name := range asked {
		if !strings.Contains(page, "# TYPE "+name+" ") {
			t.Errorf("an alert asks for %s, which does not exist", name)
		}
	}
	if len(asked) < 5 {
		t.Errorf("alerts ask for %v", asked)
	}
}
