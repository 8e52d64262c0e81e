package compat

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// A person who signed in at a user pool speaks MQTT from a browser's clients, and needs the IAM role's leave and that of an IoT
// policy attached to the identity.
func TestJavaScriptClientsSpeakMQTTOverWebSocket(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	w := newWorld(t, s, "ws")
	ctx := t.Context()
	may := text(object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": w.iotARN("client/" + w.prefix + "-*")},
		{"Effect": "Allow", "Action": []string{"iot:Publish", "iot:Receive"}, "Resource": w.iotARN("topic/web/" + w.prefix + "-*")},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": w.iotARN("topicfilter/web/" + w.prefix + "-*")}}})
	_, err := w.admin.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &w.installerRole, PolicyName: aws.String("mqtt"), PolicyDocument: may})
	check(t, err)
	name := w.prefix + "-web"
	_, err = w.admin.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: may})
	check(t, err)
	anonymous := w.site.sdk(t, aws.AnonymousCredentials{})
	logins := map[string]string{w.provider(): w.signIn(t, w.installer).ID.Reveal()}
	id, err := anonymous.identity.GetId(ctx, &cognitoidentity.GetIdInput{IdentityPoolId: &w.identityPool, Logins: logins})
	check(t, err)
	_, err = w.admin.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: id.IdentityId})
	check(t, err)
	got, err := anonymous.identity.GetCredentialsForIdentity(ctx, &cognitoidentity.GetCredentialsForIdentityInput{IdentityId: id.IdentityId, Logins: logins})
	check(t, err)
	k := got.Credentials
	out := s.run(t, "node", []string{"PREFIX=" + w.prefix, "KEY_ID=" + *k.AccessKeyId, "KEY_SECRET=" + *k.SecretKey, "KEY_TOKEN=" + *k.SessionToken}, "node", "websocket.mjs")
	var said map[string]any
	check(t, json.Unmarshal([]byte(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]), &said))
	for _, client := range []string{"mqttjs3", "mqttjs5", "sdk1", "sdk3", "sdk5"} {
		if said[client] != 60000.0 {
			t.Errorf("%s heard %v", client, said[client])
		}
	}
	if said["stranger"] != "CONNACK 135" {
		t.Errorf("a client id that is not allowed: %v", said["stranger"])
	}
	for who, code := range map[string]string{"forged": "InvalidSignatureException", "tokenless": "UnrecognizedClientException"} {
		if said[who] != "closed 403 "+code {
			t.Errorf("%s: %v", who, said[who])
		}
	}
}
