package rule

import (
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/trace"
)

// A function that decides on devices says no by doing nothing: what it wrote is told of the certificate, and of no other message.
func TestWhatARuleMadeOfANewcomerIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.collect(here, "registrar")
	w.rule(here, "all", "SELECT * FROM '#'", lambdaTo(here, "registrar"))
	w.rule(here, "registered", "SELECT * FROM '$aws/events/certificates/registered/#'", lambdaTo(here, "registrar"))
	id := strings.Repeat("a", 64)
	event := `{"certificateId":"` + id + `"}`
	w.publish(here, "elsewhere", event)
	w.ok(w.broker.Publish(t.Context(), here, &mqtt.Message{Topic: fleet.RegisteredTopic + "ca", Payload: []byte(event), QoS: 1}))
	w.until("the trace", func() bool { return len(w.traces) == 1 && w.actions["LambdaAction "+OK] == 2 })
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.traces[0]
	if r.Kind != trace.Rule || r.Outcome != trace.OK || r.Facts["certificateId"] != id || r.Facts["rule"] != "registered" ||
		len(r.Steps) != 1 || !strings.Contains(r.Steps[0].Text, `:function:registrar has handled it; it wrote "registrar"`) {
		t.Errorf("%+v", r)
	}
}
