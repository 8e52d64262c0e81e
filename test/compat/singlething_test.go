package compat

import (
	"path/filepath"
	"strings"
	"testing"
)

// singleThing is the guide's order of commands for one thing (provisioning spec 6.7), and the same in one call.
const singleThing = `
eval "$(imprint env)"
imprint aws iot create-thing --thing-name single
imprint aws iot create-keys-and-certificate --set-as-active --certificate-pem-outfile single.pem --private-key-outfile single.key --output json > made.json
arn=$(jq -r .certificateArn made.json)
imprint aws iot create-policy --policy-name single --policy-document '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":"*"}}'
imprint aws iot attach-policy --policy-name single --target "$arn"
imprint aws iot attach-thing-principal --thing-name single --principal "$arn"
endpoint=$(imprint aws iot describe-endpoint --endpoint-type iot:Data-ATS --query endpointAddress --output text)
mosquitto_pub --cafile "$AWS_CA_BUNDLE" --cert single.pem --key single.key -h "$endpoint" -p "$IOT_PORT" -i single -q 1 -t a -m b && echo "single is in"

openssl ecparam -name prime256v1 -genkey -noout -out second.key
openssl req -new -key second.key -subj /CN=second -out second.csr
jq -n --rawfile csr second.csr '{ThingName: "second", CSR: $csr}' > parameters.json
imprint aws iot register-thing --parameters file://parameters.json --output json --template-body '{
  "Parameters": {"ThingName": {"Type": "String"}, "CSR": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateSigningRequest": {"Ref": "CSR"}, "Status": "ACTIVE"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "single"}}}}' > registered.json
jq -c .resourceArns registered.json
jq -r .certificatePem registered.json > second.pem
mosquitto_pub --cafile "$AWS_CA_BUNDLE" --cert second.pem --key second.key -h "$endpoint" -p "$IOT_PORT" -i second -q 1 -t a -m b && echo "second is in"
`

func TestSingleThingsWithTheCommandLineAndMosquitto(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	out := s.run(t, filepath.Dir(s.data), nil, "bash", "-c", "set -euo pipefail\nexport PATH=/usr/bin:$PATH\n"+singleThing)
	for _, want := range []string{"single is in", "second is in", `"thing":"arn:aws:iot:us-east-1:000000000000:thing/second"`, `"certificate":"arn:aws:iot:us-east-1:000000000000:cert/`} {
		if !strings.Contains(out, want) {
			t.Errorf("the commands never printed %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
