package rule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

func TestARuleHasAFunctionHandleWhatItSelects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	events := w.collect(here, "watch")
	w.rule(here, "hot", `SELECT t AS temperature, topic(2) AS device, clientid() AS client, principal() AS who FROM 'plant/+/state' WHERE t > 50`, lambdaTo(here, "watch"))
	w.publish(here, "plant/a/state", `{"t":40}`)
	w.publish(here, "plant/b/state", `{"t":60}`)
	w.publish(here, "plant/state", `{"t":60}`)
	w.publish(there, "plant/b/state", `{"t":60}`)
	w.until("both messages", func() bool { return w.outcomes[Done] == 1 && w.outcomes[Filtered] == 1 })
	if got, want := strings.Join(events(), "\n"), `{"temperature":60,"device":"b","client":"lamp","who":"`+strings.Repeat("ab", 32)+`"}`; got != want {
		t.Errorf("the function got\n%s\nwant\n%s", got, want)
	}
}

func TestRepublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.subscribe(here, "#")
	a := republishTo(here, `alarms/${device.id}/${topic(1)}`)
	a.Republish.QoS = 1
	a.Republish.Headers = &fleet.MessageHeaders{PayloadFormat: new("UTF8_DATA"), ContentType: new("application/${kind}"), ResponseTopic: new("answers/${device.id}"),
		CorrelationData: new("${encode(device.id, 'base64')}"), Expiry: new("60"), User: []fleet.Tag{{Key: "from", Value: "${clientid()}"}, {Key: "from", Value: "${nothing}"}}}
	w.rule(here, "r", `SELECT device.id AS id FROM 'in'`, a)
	w.publish(here, "in", `{"device":{"id":"7"},"kind":"json"}`)
	c.WantMessage("in", `{"device":{"id":"7"},"kind":"json"}`)
	m := c.WantMessage("alarms/7/in", `{"id":"7"}`)
	p := m.Properties
	got := fmt.Sprintf("%d %s %s %s %v", p.PayloadFormat, p.ContentType, p.ResponseTopic, p.CorrelationData, p.User)
	if got != "1 application/json answers/7 7 [{from lamp} {from }]" || p.MessageExpiryInterval < 1 || p.MessageExpiryInterval > 60 {
		t.Errorf("properties: %s, %d seconds", got, p.MessageExpiryInterval)
	}
	w.rule(here, "raw", `SELECT * FROM 'raw'`, republishTo(here, "raw/again"))
	w.publish(here, "raw", "\x00\x01")
	c.WantMessage("raw", "\x00\x01")
	c.WantMessage("raw/again", "\x00\x01")
}

func TestBasicIngestRunsOneRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	events := w.collect(here, "watch")
	w.rule(here, "meters", `SELECT v, topic() AS topic, topic(1) AS first FROM 'elsewhere'`, lambdaTo(here, "watch"))
	w.rule(here, "all", `SELECT * FROM '#'`, lambdaTo(here, "watch"))
	w.publish(here, "$aws/rules/meters/a/b", `{"v":1}`)
	w.publish(here, "$aws/rules/none/a", `{"v":1}`)
	w.ok(w.Enable(as(t.Context(), here), "meters", false))
	w.publish(here, "$aws/rules/meters/a/b", `{"v":2}`)
	w.until("the messages", func() bool { return w.outcomes[Done] == 1 && w.missing == 2 })
	if got := strings.Join(events(), "\n"); got != `{"v":1,"topic":"a/b","first":"a"}` {
		t.Errorf("the function got\n%s", got)
	}
}

func TestChangesOfRulesAreImmediate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := as(t.Context(), here)
	events := w.collect(here, "watch")
	n := 0
	publish := func(want ...string) {
		t.Helper()
		n++
		w.publish(here, "a", fmt.Sprintf(`{"n":%d}`, n))
		w.until("the message", func() bool { return w.outcomes[Done] >= len(want) })
		if got := events(); !slices.Equal(got, want) {
			t.Errorf("%d: the function got %q, want %q", n, got, want)
		}
	}
	publish()
	w.rule(here, "r", `SELECT n FROM 'a'`, lambdaTo(here, "watch"))
	publish(`{"n":2}`)
	w.ok(w.Enable(ctx, "r", false))
	publish(`{"n":2}`)
	w.ok(w.Enable(ctx, "r", true))
	w.ok(w.Replace(ctx, fleet.TopicRule{Name: "r", SQL: `SELECT n * 10 AS ten FROM 'a'`, SQLVersion: "2016-03-23", Actions: []fleet.RuleAction{lambdaTo(here, "watch")}}))
	publish(`{"n":2}`, `{"ten":40}`)
	w.ok(w.Delete(ctx, "r"))
	publish(`{"n":2}`, `{"ten":40}`)
}

func TestTheErrorActionLearnsOfAllFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tries := 0
	w.handle(here, "broken", func(string) error {
		w.note(func() { tries++ })
		return errors.New("out of order")
	})
	reports := w.collect(here, "reports")
	w.ok(w.Create(as(t.Context(), here), fleet.TopicRule{Name: "r", SQL: `SELECT * FROM 'a'`, Actions: []fleet.RuleAction{lambdaTo(here, "broken"), republishTo(here, "b/${none}"),
		republishTo(here, "c")}, ErrorAction: new(lambdaTo(here, "reports"))}, nil))
	c := w.subscribe(here, "c")
	w.publish(here, "a", `{"x":1}`)
	c.WantMessage("c", `{"x":1}`)
	w.until("the failure", func() bool { return w.outcomes[Failed] == 1 })
	r := fields(t, reports()[0])
	if r["ruleName"] != "r" || r["topic"] != "a" || r["clientId"] != "lamp" || r["base64OriginalPayload"] != "eyJ4IjoxfQ==" || len(r["cloudwatchTraceId"].(string)) != 36 {
		t.Errorf("the report is %v", r)
	}
	want := []any{map[string]any{"failedAction": "LambdaAction", "failedResource": here.ARN("lambda", "function:broken"), "errorMessage": "out of order"},
		map[string]any{"failedAction": "RepublishAction", "failedResource": "b/", "errorMessage": "a value of the topic b/${none} is undefined"}}
	if fmt.Sprint(r["failures"]) != fmt.Sprint(want) {
		t.Errorf("failures %v\nwant     %v", r["failures"], want)
	}
	if tries != 3 {
		t.Errorf("the function was called %d times, want 3", tries)
	}
	got := w.trace("r")
	if !strings.Contains(got.Cause, "rule r: LambdaAction on "+here.ARN("lambda", "function:broken")+": out of order") || got.Facts["clientId"] != "lamp" || got.Facts["topic"] != "a" {
		t.Errorf("the trace says\n%s", got.Text())
	}
}

func TestARefusalSaysHowToMendIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.role(here, "narrow", "iot:Publish", here.IoT("topic", "b"))
	a := republishTo(here, "c")
	a.Republish.Role = here.IAM("role/narrow")
	w.rule(here, "narrow", `SELECT * FROM 'a'`, a)
	a.Republish = new(*a.Republish)
	a.Republish.Topic = "b"
	w.rule(here, "wide", `SELECT * FROM 'a'`, a)
	w.handle(here, "shut", func(string) error { return fmt.Errorf("%w: no statement", ErrNotPermitted) })
	w.rule(here, "shut", `SELECT * FROM 'a'`, lambdaTo(here, "shut"))
	w.publish(here, "a", `{}`)
	w.until("the outcomes", func() bool { return w.outcomes[Failed] == 2 && w.outcomes[Done] == 1 })
	for rule, cure := range map[string]string{
		"narrow": "allow iot:Publish on " + here.IoT("topic", "c") + " in a policy of the role " + here.IAM("role/narrow"),
		"shut": "aws lambda add-permission --function-name shut --statement-id shut --action lambda:InvokeFunction --principal iot.amazonaws.com --source-arn " +
			here.IoT("rule", "shut"),
	} {
		if got := w.trace(rule); got.Cure != cure {
			t.Errorf("%s", got.Text())
		}
	}
	if w.actions["LambdaAction failed"] != 1 {
		t.Errorf("actions %v: what is not permitted is tried once", w.actions)
	}
}

// TestARuleThatThrowsHarmsNobody: neither who publishes, nor other actions of it, nor other rules, nor other accounts.
func TestARuleThatThrowsHarmsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(here, "panics", func(string) error { panic("thrown") })
	w.rule(here, "panics", `SELECT * FROM 'a'`, lambdaTo(here, "panics"), republishTo(here, "b"))
	w.rule(here, "steps", `SELECT VALUE [`+strings.Repeat(`(SELECT VALUE x FROM x), `, 20)+`1] FROM 'a'`, republishTo(here, "never"))
	release := make(chan struct{})
	defer close(release)
	w.handle(here, "blocks", func(string) error { <-release; return nil })
	w.rule(here, "blocks", `SELECT * FROM 'a'`, lambdaTo(here, "blocks"))
	w.rule(there, "fine", `SELECT * FROM 'a'`, republishTo(there, "b"))
	c, other := w.subscribe(here, "b"), w.subscribe(there, "b")
	heavy := `{"x":[` + strings.Repeat(`{"x":[0]},`, 10_000) + `{}]}`
	for range 2 * ruleWorkers {
		w.publish(here, "a", heavy)
		c.Message()
		w.publish(there, "a", `{}`)
		other.WantMessage("b", `{}`)
	}
	w.until("what throws", func() bool { return w.actions["LambdaAction failed"] == 2*ruleWorkers })
	if got := w.trace("panics"); !strings.Contains(got.Cause, "the service's log tells more") {
		t.Errorf("%s", got.Text())
	}
	if got := w.trace("steps"); !strings.Contains(got.Cause, "Statement") {
		t.Errorf("%s", got.Text())
	}
}

// TestARuleThatHasTooMuchToDoMissesMessages: its publishers and others do not notice.
func TestARuleThatHasTooMuchToDoMissesMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release, entered := make(chan struct{}), 0
	w.handle(here, "blocks", func(string) error { w.note(func() { entered++ }); <-release; return nil })
	w.rule(here, "blocks", `SELECT * FROM 'a'`, lambdaTo(here, "blocks"))
	for range ruleWorkers {
		w.publish(here, "a", `{}`)
	}
	w.until("all workers", func() bool { return entered == ruleWorkers }) // from now on nobody makes room
	const more = 5
	for range ruleWaiting + more {
		w.publish(here, "a", `{}`)
	}
	w.until("the surplus", func() bool { return w.outcomes[Dropped] == more })
	if err := w.broker.Publish(t.Context(), here, &mqtt.Message{Topic: "$aws/rules/blocks"}); err == nil || fleet.KindOf(err) != fleet.KindLimit {
		t.Errorf("a message for a rule without room: %v", err)
	}
	close(release)
	w.until("the rest", func() bool { return w.outcomes[Done]+w.outcomes[Dropped] == ruleWorkers+ruleWaiting+more+1 })
	if n := w.Waiting(); n != 0 {
		t.Errorf("%d bytes wait", n)
	}
}

// TestPropertiesTakeTheirPlaceInQueues: empty pairs are nothing in a packet, and much in memory.
func TestPropertiesTakeTheirPlaceInQueues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	w.handle(here, "blocks", func(string) error { <-release; return nil })
	w.rule(here, "blocks", `SELECT * FROM 'a'`, lambdaTo(here, "blocks"))
	m := &mqtt.Message{Topic: "a", Payload: []byte(`{}`), Props: &mqtt.Properties{User: make([]mqtt.UserProperty, 20_000)}}
	const messages = ruleWorkers + scopeBytes/(64*20_000) + 2
	for range messages {
		w.ok(w.broker.Publish(t.Context(), here, m))
	}
	close(release)
	w.until("all of them", func() bool { return w.outcomes[Done]+w.outcomes[Dropped] == messages })
	if w.outcomes[Dropped] == 0 || w.Waiting() != 0 {
		t.Errorf("%v, %d bytes wait", w.outcomes, w.Waiting())
	}
}

func TestRulesThatFeedThemselvesEnd(t *testing.T) {
	t.Parallel()
	t.Run("one after the other", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.rule(here, "ring", `SELECT * FROM 'a'`, republishTo(here, "a"))
		w.publish(here, "a", `{}`)
		// A message is delivered before the run that republished it is told: the last hop may fail before others are done.
		w.until("the end", func() bool { return w.outcomes[Failed] == 1 && w.outcomes[Done] == maxHops })
		if got := w.trace("ring"); !strings.Contains(got.Cause, "goes round in a circle") {
			t.Errorf("%s", got.Text())
		}
	})
	t.Run("more each time", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		for _, name := range []string{"one", "two", "three"} {
			w.rule(here, name, `SELECT * FROM 'a'`, republishTo(here, "a"))
		}
		w.publish(here, "a", `{}`)
		w.until("the end", func() bool {
			return w.outcomes[Done] == maxKin && w.outcomes[Done]+w.outcomes[Failed]+w.outcomes[Dropped] == 3*(maxKin+1)
		})
	})
}

// TestWhatARuleHasNotFinishedWithItFinishesAfterTheNextStart: a message at QoS 1 is not lost when the service ends.
func TestWhatARuleHasNotFinishedWithItFinishesAfterTheNextStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	entered := make(chan struct{}, 10)
	release := make(chan struct{})
	w.handle(here, "slow", func(string) error {
		entered <- struct{}{}
		<-release
		return context.Canceled
	})
	w.rule(here, "r", `SELECT * FROM 'a'`, lambdaTo(here, "slow"))
	finished := 0
	m := &mqtt.Message{Topic: "a", Payload: []byte(`{}`), QoS: 1}
	begin := func(s *Service) {
		t.Helper()
		work, err := s.Select(t.Context(), here, m)
		w.ok(err)
		w.ok(work.Begin(true, func() { w.note(func() { finished++ }) }))
	}
	begin(w.Service)
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	go func() { <-w.ctx.Done(); close(release) }()
	w.Service.Close(ctx)
	begin(w.Service) // after the end: kept for the next start
	if finished != 0 {
		t.Fatalf("%d messages are finished with", finished)
	}
	w.handle(here, "slow", func(string) error { return nil })
	next := New(w.Config)
	begin(next)
	w.until("the message", func() bool { return finished == 1 })
	ctx, cancel = context.WithTimeout(context.Background(), mqtttest.Patience())
	defer cancel()
	next.Close(ctx)
}

func TestWhatCannotBeARule(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := as(t.Context(), here)
	good := fleet.TopicRule{Name: "good", SQL: `SELECT * FROM 'a'`, Actions: []fleet.RuleAction{lambdaTo(here, "f")}}
	w.ok(w.Create(ctx, good, []fleet.Tag{{Key: "k", Value: "v"}}))
	refused(t, w.Create(ctx, good, nil), fleet.KindExists, "", "Rule with name good already exists")
	for _, c := range []struct {
		name   string
		change func(*fleet.TopicRule)
		kind   fleet.Kind
		code   string
		text   string
	}{
		{"a statement with a fault", func(r *fleet.TopicRule) { r.SQL = "SELECT FROM 'a'" }, fleet.KindInvalid, "SqlParseException", ""},
		{"a shadow", func(r *fleet.TopicRule) { r.SQL = "SELECT get_thing_shadow('a', 'b') AS s FROM 'a'" }, fleet.KindInvalid, "SqlParseException", "there are no shadows here"},
		{"a version that does not exist", func(r *fleet.TopicRule) { r.SQLVersion = "2020-01-01" }, fleet.KindInvalid, "", "2020-01-01"},
		{"a name with a hyphen", func(r *fleet.TopicRule) { r.Name = "a-b" }, fleet.KindInvalid, "", "has no valid name"},
		{"too many actions", func(r *fleet.TopicRule) { r.Actions = slices.Repeat(r.Actions, 11) }, fleet.KindInvalid, "", "at most 10"},
		{"too large", func(r *fleet.TopicRule) { r.Description = strings.Repeat("x", 256<<10) }, fleet.KindInvalid, "", "larger than"},
		{"a function of another account", func(r *fleet.TopicRule) { r.Actions[0] = lambdaTo(there, "f") }, fleet.KindInvalid, "", "of this account and region"},
		{"no function", func(r *fleet.TopicRule) { r.Actions[0].Lambda.Function = "f" }, fleet.KindInvalid, "", "is not the ARN of a function"},
		{"a role that does not exist", func(r *fleet.TopicRule) {
			r.Actions[0] = republishTo(here, "b")
			r.Actions[0].Republish.Role = here.IAM("role/none")
		}, fleet.KindInvalid, "", "cannot be assumed by iot.amazonaws.com"},
		{"a template with a fault", func(r *fleet.TopicRule) { r.Actions[0] = republishTo(here, "b/${") }, fleet.KindInvalid, "", "the topic of an action"},
		{"a topic of events", func(r *fleet.TopicRule) { r.ErrorAction = new(republishTo(here, "$$aws/events/x")) }, fleet.KindInvalid, "", "reserved topic"},
		{"a topic with a wildcard", func(r *fleet.TopicRule) { r.Actions[0] = republishTo(here, "b/#") }, fleet.KindInvalid, "", "+ and #"},
		{"an empty action", func(r *fleet.TopicRule) { r.Actions[0] = fleet.RuleAction{} }, fleet.KindInvalid, "", "has no content"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fleet.TopicRule{Name: "bad", SQL: good.SQL, Actions: []fleet.RuleAction{lambdaTo(here, "f")}}
			c.change(&r)
			refused(t, w.Create(ctx, r, nil), c.kind, c.code, c.text)
			if r.Name == "bad" {
				r.Name = "good"
				refused(t, w.Replace(ctx, r), c.kind, c.code, c.text)
			}
		})
	}
	for what, err := range map[string]error{"Replace": w.Replace(ctx, fleet.TopicRule{Name: "none", SQL: good.SQL}), "Enable": w.Enable(ctx, "none", true)} {
		t.Run(what, func(t *testing.T) {
			refused(t, err, fleet.KindDenied, "UnauthorizedException", "Access to topic rule 'none' was denied")
		})
	}
	_, err := w.Get(as(t.Context(), there), "good")
	refused(t, err, fleet.KindDenied, "UnauthorizedException", "Access to topic rule 'good' was denied")
	w.ok(w.Delete(ctx, "none"))
	got, err := w.Get(ctx, "good")
	w.ok(err)
	if got.SQLVersion != "2015-10-08" || got.Filter != "a" || got.Created.IsZero() || got.Disabled {
		t.Errorf("the rule is kept as %+v", got)
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := as(t.Context(), here)
	for name, from := range map[string]string{"a": " FROM 'x/+'", "b": " FROM '#'", "c": " FROM 'y'", "d": "", "e": " FROM '+/1'"} {
		w.rule(here, name, "SELECT *"+from, lambdaTo(here, "f"))
	}
	w.rule(there, "f", "SELECT * FROM '#'", lambdaTo(there, "f"))
	w.ok(w.Enable(ctx, "b", false))
	names := func(topic string, disabled *bool, p fleet.Page) string {
		t.Helper()
		list, next, err := w.List(ctx, topic, disabled, p)
		w.ok(err)
		out := ""
		for _, r := range list {
			out += r.Name
		}
		return out + " " + next
	}
	for _, c := range []struct {
		topic    string
		disabled *bool
		page     fleet.Page
		want     string
	}{
		{"", nil, fleet.Page{}, "abcde "}, {"", new(true), fleet.Page{}, "b "}, {"", new(false), fleet.Page{}, "acde "},
		{"x/1", nil, fleet.Page{}, "abe "}, {"x/1", new(false), fleet.Page{}, "ae "}, {"x/1", nil, fleet.Page{Limit: 2}, "ab b"},
		{"x/1", nil, fleet.Page{Limit: 2, After: "b"}, "e "}, {"", nil, fleet.Page{Limit: 3, After: "a"}, "bcd d"},
	} {
		if got := names(c.topic, c.disabled, c.page); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
