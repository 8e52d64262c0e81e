package function

import "testing"

// sample is the handler of AWS's blog post on fleet provisioning, with its serial check filled in. It keeps its answer in a global.
const sample = `
import json

provision_response = {'allowProvisioning': False}

def isWhitelisted(serial_number):
    #check serial against database of approved serials
    return serial_number in ("4711", "4712")

def lambda_handler(event, context):
    print("Received event: " + json.dumps(event, indent=2))
    # Assume Device has sent a device_serial attribute
    device_serial = event["parameters"]["SerialNumber"]
    # Check serial against an isWhitelisted() function
    if isWhitelisted(device_serial):
        provision_response["allowProvisioning"] = True
    return provision_response
`

func TestTheSampleHandlerLetsNoUnlistedSerialInAfterAListedOne(t *testing.T) {
	t.Parallel()
	r := world(t, Config{})
	code := Code{Name: "check", Dir: write(t, map[string]string{"app.py": sample}), Runtime: "python3.11", Handler: "app.lambda_handler"}
	for _, step := range []struct{ serial, want string }{
		{"4711", `{"allowProvisioning": true}`}, {"666", `{"allowProvisioning": false}`}, {"4712", `{"allowProvisioning": true}`},
	} {
		res := ask(t, r, code, `{"parameters": {"SerialNumber": "`+step.serial+`"}}`)
		if string(res.Payload) != step.want || res.FunctionError != "" {
			t.Errorf("serial %s: %s %s\n%s", step.serial, res.FunctionError, res.Payload, res.Log)
		}
	}
	// AWS's own behaviour can be had, and is what one would expect.
	code.Reuse = true
	ask(t, r, code, `{"parameters": {"SerialNumber": "4711"}}`)
	if res := ask(t, r, code, `{"parameters": {"SerialNumber": "666"}}`); string(res.Payload) != `{"allowProvisioning": true}` {
		t.Errorf("a process that is used again: %s", res.Payload)
	}
}
