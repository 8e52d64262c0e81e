package compat

import (
	"path/filepath"
	"testing"
)

func TestThePageOfRulesWorksAsItIsWritten(t *testing.T) {
	t.Parallel()
	s := functionServer(t)
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", "set -euo pipefail\nset -x\nexport PATH=/usr/bin:$PATH\n"+codeBlocks(document(t, "rules.md")))
	wantOutput(t, out, `(?m)^\{"temperature":60,"device":"probe"\}$`, `(?m)^heard connected probe$`, `(?m)^heard THING_EVENT lamp$`, `(?m)^\{"temperature":70,"device":"probe"\}$`,
		`(?m)note \{"temperature":17,"room":"loft"\}$`, `(?m)^/rooms/states `,
		`(?m)imprint \{"timestamp":"[^"]+","logLevel":"INFO","traceId":"[^"]+","accountId":"000000000000","status":"Success","eventType":"RuleExecution","topicName":"rooms/porch/state","clientId":"probe","principalId":"[0-9a-f]{64}","sourceIp":"127.0.0.1","ruleName":"hot","ruleAction":"RepublishAction","resources":\{"RepublishTopic":"alarms/porch"\}\}$`,
		`(?m)^\{"entryId":.*"event":\{.*"eventType":"Publish-In","protocol":"MQTT","topicName":"rooms/porch/state"`,
		`"ruleName":"lost","topic":"rooms/hall/state",.*"failedAction":"RepublishAction","failedResource":"elsewhere"`,
		`(?m)rule: rule lost: RepublishAction on elsewhere: .*not authorized`,
		`(?m)what to do: allow iot:Publish on arn:aws:iot:us-east-1:000000000000:topic/elsewhere in a policy of the role arn:aws:iam::000000000000:role/alarms`)
}
