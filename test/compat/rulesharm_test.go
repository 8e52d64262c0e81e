package compat

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ruleScene is a device that may do everything ($device for mosquitto's programs), and the role alarms, which rules may be done in and
// which may write logs.
const ruleScene = `set -euo pipefail
export PATH=/usr/bin:$PATH
eval "$(imprint env)"
imprint aws iam create-role --role-name alarms --assume-role-policy-document '{"Version": "2012-10-17",
  "Statement": {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}}' >/dev/null
imprint aws iam put-role-policy --role-name alarms --policy-name log --policy-document '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}}'
imprint aws iot create-keys-and-certificate --set-as-active --certificate-pem-outfile device.pem --private-key-outfile device.key --query certificateArn --output text > device.arn
imprint aws iot create-policy --policy-name everything --policy-document '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}' >/dev/null
imprint aws iot attach-policy --policy-name everything --target "$(cat device.arn)"
device="--cafile $AWS_CA_BUNDLE --cert device.pem --key device.key -h $IOT_ENDPOINT -p $IOT_PORT -q 1"
role=arn:aws:iam::000000000000:role/alarms
`

// TestARuleThatThrowsHarmsNoPublisher: of each way in which a rule can fail there is one, and each message goes through all of them. Its publisher
// and its subscribers notice nothing, and each failure is told.
func TestARuleThatThrowsHarmsNoPublisher(t *testing.T) {
	t.Parallel()
	s := functionServer(t)
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", ruleScene+`
mkdir -p thrower
cat > thrower/app.py <<'END'
def lambda_handler(event, context):
    raise RuntimeError("thrown")
END
imprint function create thrower --folder thrower --runtime python3.12 --handler app.lambda_handler >/dev/null
rule() { # name, SQL, action
  python3 -c 'import json, sys; print(json.dumps({"awsIotSqlVersion": "2016-03-23", "sql": sys.argv[1], "actions": [json.loads(sys.argv[2])],
    "errorAction": {"cloudwatchLogs": {"roleArn": sys.argv[3], "logGroupName": "/failures"}}}))' "$2" "$3" $role > rule.json
  imprint aws iot create-topic-rule --rule-name "$1" --topic-rule-payload file://rule.json
}
note="{\"cloudwatchLogs\": {\"roleArn\": \"$role\", \"logGroupName\": \"/never\"}}"
rule throws "SELECT n FROM 'work/#'" '{"lambda": {"functionArn": "arn:aws:lambda:us-east-1:000000000000:function:thrower"}}'
rule endless "SELECT VALUE [$(printf "(SELECT VALUE x FROM x), %.0s" {1..40})1] FROM 'work/#'" "$note"
rule huge "SELECT concat(encode(*, 'base64'), encode(*, 'base64'), encode(*, 'base64')) AS x FROM 'work/#'" "$note"
rule refused "SELECT n FROM 'work/#'" "{\"republish\": {\"roleArn\": \"$role\", \"topic\": \"never\"}}"
rule undefined "SELECT n FROM 'work/#'" "{\"republish\": {\"roleArn\": \"$role\", \"topic\": \"a/\${missing}\"}}"
rule nowhere "SELECT n FROM 'work/#'" "{\"s3\": {\"roleArn\": \"$role\", \"bucketName\": \"nowhere\", \"key\": \"k\"}}"
python3 -c 'import json
for n in range(8): print(json.dumps({"n": n, "x": [{"x": [0]}] * 8000}))' > messages
mosquitto_sub $device -i listener -c -t work/a -E
mosquitto_pub $device -i publisher -t work/a -l < messages
mosquitto_sub $device -i listener -c -t work/a -C 8 -W 300 > heard
cmp <(sort messages) <(sort heard) && echo all were heard
for name in throws endless huge refused undefined nowhere; do
  for try in {1..600}; do
    imprint log show /failures > failures || true
    [ "$(grep -c "\"ruleName\":\"$name\"" failures)" = 8 ] && break
    sleep 0.2
  done
  echo "$name $(grep -c "\"ruleName\":\"$name\"" failures)"
  grep "\"ruleName\":\"$name\"" failures | sed 's/"base64OriginalPayload":"[^"]*",//' | sed -n 1p
done
imprint log list
imprint log delete /failures
imprint log show /failures 2>&1 || true
`)
	wantOutput(t, out, `(?m)^all were heard$`, `(?m)^throws 8$`, `"ruleName":"throws","topic":"work/a",.*"clientId":"publisher",.*"failedAction":"LambdaAction".*thrown`,
		`(?m)^endless 8$`, `"ruleName":"endless",.*"failedAction":"Statement"`, `(?m)^huge 8$`, `"ruleName":"huge",.*"failedAction":"Statement"`,
		`(?m)^refused 8$`, `"ruleName":"refused",.*"failedAction":"RepublishAction","failedResource":"never".*iot:Publish`, `(?m)^undefined 8$`, `"ruleName":"undefined",.*is undefined`,
		`(?m)^nowhere 8$`, `"ruleName":"nowhere",.*"failedAction":"S3Action","failedResource":"nowhere"`, `(?m)^/failures `, `Log group /failures does not exist`)
	if strings.Contains(out, "\n/never ") {
		t.Errorf("an action was done: %s", out)
	}
}

// TestAKilledServerFinishesWhatItAcknowledged: the server dies after the PUBACK and in the middle of a rule's action, which is done after the next
// start.
func TestAKilledServerFinishesWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	tokens, messages, release := make(chan string, 10), make(chan string, 100), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m struct{ ConfirmationToken, N string }
		_ = json.Unmarshal(body, &m)
		if m.ConfirmationToken != "" {
			tokens <- m.ConfirmationToken
			return
		}
		messages <- m.N
		select {
		case <-release:
		case <-r.Context().Done(): // whoever asked is dead
		}
	}))
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	s, err := start(dir, "--egress-allow", "127.0.0.1")
	check(t, err)
	defer func() { _ = s.stop() }()
	s.run(t, dir, nil, "bash", "-c", ruleScene+`
imprint aws iot create-topic-rule-destination --destination-configuration httpUrlConfiguration={confirmationUrl=`+receiver.URL+`/} >/dev/null
imprint aws iot create-topic-rule --rule-name call --topic-rule-payload '{"awsIotSqlVersion": "2016-03-23", "sql": "SELECT n FROM '\''work'\''", "actions": [
  {"http": {"url": "`+receiver.URL+`/message", "confirmationUrl": "`+receiver.URL+`/"}}, {"cloudwatchLogs": {"roleArn": "'$role'", "logGroupName": "/done"}}]}'
`)
	s.run(t, dir, nil, filepath.Join(bin, "imprint"), "aws", "iot", "confirm-topic-rule-destination", "--confirmation-token", next(t, tokens))
	s.run(t, dir, nil, "bash", "-c", `eval "$(imprint env)"; for n in 1 2 3; do
  mosquitto_pub --cafile $AWS_CA_BUNDLE --cert device.pem --key device.key -h $IOT_ENDPOINT -p $IOT_PORT -q 1 -i d -t work -m "{\"n\":\"$n\"}" || exit 1; done`)
	three := func() {
		t.Helper()
		for seen := map[string]bool{}; len(seen) < 3; {
			seen[next(t, messages)] = true
		}
	}
	three()
	check(t, s.cmd.Process.Kill())
	<-s.exited
	for len(messages) > 0 { // tries of before
		<-messages
	}
	close(release)
	s, err = start(dir, "--egress-allow", "127.0.0.1")
	check(t, err)
	three()
	eventually(t, func() bool { // the actions of a rule are done beside each other
		out, err := s.try(t, dir, nil, filepath.Join(bin, "imprint"), "log", "show", "/done")
		return err == nil && strings.Contains(out, `call {"n":"1"}`) && strings.Contains(out, `call {"n":"2"}`) && strings.Contains(out, `call {"n":"3"}`)
	})
}

// next is the next of what comes within a while.
func next(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(answerTimeout):
		t.Fatalf("nothing came within %v", answerTimeout)
		return ""
	}
}
