package compat

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentity"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"github.com/eclipse/paho.golang/paho"

	"github.com/imprint-iot/imprint/internal/client"
)

// refused checks that err is the service's error of that code and that its text holds the given words.
func refused(t *testing.T, err error, code string, words ...string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("want %s, got %v", code, err)
	}
	for _, w := range words {
		if !strings.Contains(api.ErrorMessage(), w) {
			t.Errorf("%s says %q, without %q", code, api.ErrorMessage(), w)
		}
	}
}

func TestPeopleAreRefusedWithAWSErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "ref")
	anon := w.site.sdk(t, aws.AnonymousCredentials{})

	t.Run("a wrong password", func(t *testing.T) {
		t.Parallel()
		_, err := w.site.anonymous(t).SignIn(t.Context(), w.poolID, w.clientID, w.installer, "wrong")
		var e *client.Error
		if !errors.As(err, &e) || e.Code != "NotAuthorizedException" || e.Message != "Incorrect username or password." || e.Status != 400 {
			t.Errorf("got %+v", err)
		}
	})
	t.Run("a visitor's role", func(t *testing.T) {
		t.Parallel()
		_, err := w.as(t, w.signIn(t, w.visitor).ID).iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
		refused(t, err, "AccessDeniedException", "assumed-role/"+w.visitorRole, "iot:CreateProvisioningClaim", "provisioningtemplate/"+w.template)
	})
	t.Run("an installer on another template", func(t *testing.T) {
		t.Parallel()
		_, err := w.installerSDK(t).iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: aws.String("other")})
		refused(t, err, "AccessDeniedException", "provisioningtemplate/other")
	})
	t.Run("a tampered token", func(t *testing.T) {
		t.Parallel()
		id := w.signIn(t, w.installer).ID.Reveal()
		parts := strings.Split(id, ".")
		forged := parts[0] + "." + strings.Replace(parts[1], parts[1][10:12], "AA", 1) + "." + parts[2]
		_, err := anon.identity.GetId(t.Context(), &cognitoidentity.GetIdInput{IdentityPoolId: &w.identityPool, Logins: map[string]string{w.provider(): forged}})
		refused(t, err, "NotAuthorizedException")
	})
	t.Run("an access token in place of the Id token", func(t *testing.T) {
		t.Parallel()
		access := w.signIn(t, w.installer).Access.Reveal()
		_, err := anon.identity.GetId(t.Context(), &cognitoidentity.GetIdInput{IdentityPoolId: &w.identityPool, Logins: map[string]string{w.provider(): access}})
		refused(t, err, "NotAuthorizedException")
	})
	t.Run("a tampered signature", func(t *testing.T) {
		t.Parallel()
		s := w.site.sdk(t, credentials.NewStaticCredentialsProvider(w.site.get("AWS_ACCESS_KEY_ID"), "not-the-secret", ""))
		_, err := s.iot.ListThings(t.Context(), &iot.ListThingsInput{})
		refused(t, err, "InvalidSignatureException")
	})
	t.Run("an unknown key", func(t *testing.T) {
		t.Parallel()
		s := w.site.sdk(t, credentials.NewStaticCredentialsProvider("AKIAAAAAAAAAAAAAAAAA", "x", ""))
		_, err := s.iot.ListThings(t.Context(), &iot.ListThingsInput{})
		refused(t, err, "UnrecognizedClientException")
	})
}

func TestAFiredInstallerLosesCredentialsAndUnusedClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "fired")
	ida := w.installerSDK(t)
	unused := w.claim(t, ida)
	_, err := w.admin.pools.AdminDisableUser(t.Context(), &cognitoidentityprovider.AdminDisableUserInput{UserPoolId: &w.poolID, Username: &w.installer})
	check(t, err)
	_, err = ida.iot.CreateProvisioningClaim(t.Context(), &iot.CreateProvisioningClaimInput{TemplateName: &w.template})
	refused(t, err, "ExpiredTokenException")
	if _, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, unused.cert, unused.key), "x"); err == nil {
		t.Error("the claim of a disabled installer still connects")
	}
}

func TestDevicesAreRefusedWithAWSErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "devref")
	ida := w.installerSDK(t)
	for _, format := range []string{"json", "cbor"} {
		v := variant{format: format, csr: true, mqtt5: true}
		t.Run("a foreign ownership token, "+format, func(t *testing.T) {
			t.Parallel()
			first, second := w.claim(t, ida), w.claim(t, ida)
			d := v.dial(t, w.site, "a-"+format, first.cert, first.key)
			stolen := v.create(t, d).Token
			thief := v.dial(t, w.site, "b-"+format, second.cert, second.key)
			_, no, ok := v.register(t, thief, w.template, stolen, object{"SerialNumber": "stolen"})
			if ok || no.StatusCode != 400 || no.ErrorCode != "InvalidCertificateOwnershipToken" || no.TraceID == "" {
				t.Errorf("got %v %+v", ok, no)
			}
		})
		t.Run("a token used for a second thing, "+format, func(t *testing.T) {
			t.Parallel()
			c := w.claim(t, ida)
			d := v.dial(t, w.site, "c-"+format, c.cert, c.key)
			token := v.create(t, d).Token
			if _, no, ok := v.register(t, d, w.template, token, object{"SerialNumber": "first-" + format}); !ok {
				t.Fatalf("rejected: %+v", no)
			}
			if again, no, ok := v.register(t, d, w.template, token, object{"SerialNumber": "first-" + format}); !ok || *again.ThingName != w.thing("first-"+format) {
				t.Errorf("the same request again is not answered again: %+v", no)
			}
			if _, no, ok := v.register(t, d, w.template, token, object{"SerialNumber": "second-" + format}); ok || no.ErrorCode != "InvalidCertificateOwnershipToken" {
				t.Errorf("got %v %+v", ok, no)
			}
		})
		t.Run("a parameter that is missing, "+format, func(t *testing.T) {
			t.Parallel()
			c := w.claim(t, ida)
			d := v.dial(t, w.site, "d-"+format, c.cert, c.key)
			_, no, ok := v.register(t, d, w.template, v.create(t, d).Token, object{})
			if ok || no.StatusCode != 400 || no.ErrorCode != "InvalidParameters" || no.ErrorMessage != "Cannot resolve reference value: SerialNumber" {
				t.Errorf("got %v %+v", ok, no)
			}
		})
	}
	t.Run("told why by MQTT 5", func(t *testing.T) {
		t.Parallel()
		c := w.claim(t, ida)
		d, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, c.cert, c.key), "why")
		check(t, err)
		out, err := d.client.Publish(t.Context(), &paho.Publish{Topic: "lamps/x/state", QoS: 1, Payload: []byte("{}")})
		if err == nil || out.ReasonCode != 0x87 || out.Properties.ReasonString != "a claim for template "+w.template+" may not publish to lamps/x/state" {
			t.Errorf("PUBACK %+v, %v", out, err)
		}
		topic := registerTopic(w.template, "json")
		d.subscribe(t, topic+"/rejected")
		d.publish(t, topic, []byte(`{"certificateOwnershipToken":"x"}`))
		m := <-d.inbox
		if no := must[rejected](t, string(m.payload)); m.trace == "" || no.TraceID != m.trace || no.ErrorMessage != "Certificate ownership token is malformed." {
			t.Errorf("user property %q, %+v", m.trace, no)
		}
	})
	t.Run("a claim on other topics", func(t *testing.T) {
		t.Parallel()
		c := w.claim(t, ida)
		d, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, c.cert, c.key), "e")
		check(t, err)
		for _, topic := range []string{registerTopic("another", "json"), "lamps/x/state", "$aws/certificates/create/xml"} {
			if err := d.trySubscribe(t, topic+"/accepted"); err == nil {
				t.Errorf("a claim may subscribe to %s/accepted", topic)
			}
			d, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, c.cert, c.key), "e-"+topic[len(topic)-4:])
			check(t, err)
			if err := d.tryPublish(t, topic, []byte("{}")); err == nil {
				t.Errorf("a claim may publish to %s", topic)
			}
		}
	})
}

func TestAProvisioningRoleWithoutANeededActionIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "role")
	_, err := w.admin.iam.DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: &w.provisioningRole,
		PolicyArn: aws.String("arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration")})
	check(t, err)
	_, err = w.admin.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &w.provisioningRole, PolicyName: aws.String("most"),
		PolicyDocument: text(object{"Version": "2012-10-17", "Statement": []object{{"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
			{"Effect": "Deny", "Action": "iot:AttachPolicy", "Resource": "*"}}})})
	check(t, err)
	v := variant{format: "json", csr: true, mqtt5: true}
	c := w.claim(t, w.installerSDK(t))
	d := v.dial(t, w.site, "role-device", c.cert, c.key)
	_, no, ok := v.register(t, d, w.template, v.create(t, d).Token, object{"SerialNumber": "1"})
	if ok || no.StatusCode != 403 || !strings.Contains(no.ErrorMessage, "iot:AttachPolicy") {
		t.Errorf("got %v %+v", ok, no)
	}
	name := w.thing("1")
	_, err = w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: &name})
	refused(t, err, "ResourceNotFoundException")
}

func TestALiveConnectionEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "live")
	ida := w.installerSDK(t)
	for _, end := range []string{"INACTIVE", "REVOKED", "deleted"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			v := variant{format: "json", csr: true, mqtt5: true}
			cert, out := v.provision(t, w, w.claim(t, ida), end)
			d, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), *out.ThingName)
			check(t, err)
			status := end
			if end == "deleted" {
				status = "INACTIVE"
			}
			_, err = w.admin.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &cert.CertificateID, NewStatus: iottypes.CertificateStatus(status)})
			check(t, err)
			select {
			case code := <-d.lost:
				if code != 0x87 {
					t.Errorf("DISCONNECT 0x%02x", code)
				}
			case <-time.After(answerTimeout):
				t.Error("the connection lives on")
			}
			if end == "deleted" {
				arn := w.iotARN("cert/" + cert.CertificateID)
				_, err = w.admin.iot.DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{ThingName: out.ThingName, Principal: &arn})
				check(t, err)
				_, err = w.admin.iot.DeleteCertificate(t.Context(), &iot.DeleteCertificateInput{CertificateId: &cert.CertificateID, ForceDelete: true})
				check(t, err)
			}
			if _, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), *out.ThingName); err == nil {
				t.Error("the certificate still connects")
			}
		})
	}
}
