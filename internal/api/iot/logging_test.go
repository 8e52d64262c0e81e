package iot

import "testing"

func TestLoggingOptions(t *testing.T) {
	t.Parallel()
	const role = `"roleArn":"arn:aws:iam::111111111111:role/r"`
	newWorld(t).play([]step{
		{do: "GET /v2LoggingOptions", want: "NotConfiguredException"},
		{do: "POST /v2LoggingOptions", body: `{"defaultLogLevel":"INFO"}`, want: inv, text: "roleArn"},
		{do: "POST /v2LoggingOptions", body: `{"roleArn":"arn:aws:iam::000000000000:role/forbidden"}`, want: "AccessDeniedException", text: "iam:PassRole"},
		{do: "POST /v2LoggingOptions", body: `{` + role + `,"defaultLogLevel":"LOUD"}`, want: inv},
		{do: "GET /v2LoggingOptions", want: "NotConfiguredException"},
		{do: "POST /v2LoggingOptions", body: `{` + role + `}`},
		{do: "GET /v2LoggingOptions", text: `{"defaultLogLevel":"DISABLED","disableAllLogs":false,` + role + `}`},
		{do: "POST /v2LoggingOptions", body: `{"defaultLogLevel":"WARN","disableAllLogs":true}`},
		{do: "GET /v2LoggingOptions", text: `{"defaultLogLevel":"WARN","disableAllLogs":true,` + role + `}`},
		{do: "POST /v2LoggingOptions", body: `{"eventConfigurations":[{"eventType":"UpdateThingShadow","logLevel":"INFO"}]}`, want: inv, text: "Publish-In"},
		{do: "POST /v2LoggingOptions", body: `{"eventConfigurations":[{"eventType":"Connect","logDestination":"a b"}]}`, want: inv},
		{do: "POST /v2LoggingOptions", body: `{"eventConfigurations":[{"eventType":"Connect","logLevel":"DEBUG","logDestination":"/visits"}],"disableAllLogs":false}`},
		{do: "GET /v2LoggingOptions", text: `"eventConfigurations":[{"eventType":"Connect","logDestination":"/visits","logLevel":"DEBUG"}]`},
		{do: "GET /v2LoggingOptions?verbose=true", text: `{"eventType":"Connect","logDestination":"/visits","logLevel":"DEBUG"},{"eventType":"Disconnect","logDestination":"AWSIotLogsV2","logLevel":"WARN"}`},
		{do: "POST /v2LoggingOptions", body: `{"eventConfigurations":[]}`},
		{do: "GET /v2LoggingOptions", text: `{"defaultLogLevel":"WARN","disableAllLogs":false,` + role + `}`},
	})
}
