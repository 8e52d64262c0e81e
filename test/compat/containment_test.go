package compat

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// TestAWebhookThatAllowsWhileItsClaimIsContained is too late.
func TestAWebhookThatAllowsWhileItsClaimIsContained(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "--egress-allow", "127.0.0.1")
	w := newWorld(t, s, "late")
	asked, allow := make(chan bool, 1), make(chan bool)
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- true
		fmt.Fprintf(rw, `{"allowProvisioning":%v}`, <-allow)
	}))
	t.Cleanup(hook.Close)
	s.run(t, t.TempDir(), nil, imprint(), "function", "put", "slow", "--webhook", hook.URL, "--timeout", "10s")
	w.hooked(t, "slow")
	th := &theft{world: w, claims: w.prefix}
	for _, c := range []claim{w.claim(t, w.admin), th.bootstrap(t, "device-")} {
		v := variant{csr: true, format: "json", mqtt5: true}
		d, err := dialMQTT5(t, s.mqttAddr(), s.tlsConfig(t, c.cert, c.key), "device-1")
		check(t, err)
		cert := v.create(t, d)
		topic := registerTopic(w.template, v.format)
		d.subscribe(t, topic+"/accepted", topic+"/rejected")
		d.publish(t, topic, v.encode(t, object{"certificateOwnershipToken": cert.Token, "parameters": object{"SerialNumber": "1"}}))
		<-asked
		s.run(t, t.TempDir(), nil, imprint(), "claim", "contain", c.id, "--revoke-since", "beginning")
		select {
		case code := <-d.lost:
			if code != 0x87 {
				t.Errorf("DISCONNECT %#x", code)
			}
		case <-time.After(5 * time.Second):
			t.Error("the session of the claim lives on")
		}
		allow <- true
		th.explained(t, cert.CertificateID, "the claim was contained at") // the registration ended in refusal
		_, err = w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String(w.thing("1"))})
		refused(t, err, "ResourceNotFoundException")
		_, err = w.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &cert.CertificateID})
		refused(t, err, "ResourceNotFoundException") // it was never registered
	}
}

// TestTheSameRequestsAreAnsweredTheSameAfterARestart: a device that lost power repeats itself, and the server may have, too.
func TestTheSameRequestsAreAnsweredTheSameAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	t.Cleanup(func() { _ = s.stop() })
	w := newWorld(t, s, "again")
	c := w.claim(t, w.admin)
	restart := func() {
		t.Helper()
		check(t, s.stop())
		next, err := start(dir)
		check(t, err)
		*s = *next
	}
	for i, format := range []string{"json", "cbor"} {
		v := variant{csr: true, format: format, mqtt5: true}
		serial := fmt.Sprint(i)
		_, csr := newCSR(t)
		create := func() (out created) {
			t.Helper()
			d := v.dial(t, s, "again", c.cert, c.key)
			defer d.close()
			topic := v.createTopic()
			d.subscribe(t, topic+"/accepted", topic+"/rejected")
			d.publish(t, topic, v.encode(t, object{"certificateSigningRequest": csr}))
			_, answer := d.receive(t, topic+"/accepted", topic+"/rejected")
			v.decode(t, answer, &out)
			return out
		}
		register := func(token, serial string) (registered, rejected, bool) {
			t.Helper()
			d := v.dial(t, s, "again", c.cert, c.key)
			defer d.close()
			return v.register(t, d, w.template, token, object{"SerialNumber": serial})
		}
		first := create()
		restart()
		if again := create(); again.CertificateID == "" || again.CertificateID != first.CertificateID || again.CertificatePEM != first.CertificatePEM {
			t.Errorf("%s: the same request gets %.12s, before %.12s", format, again.CertificateID, first.CertificateID)
		}
		if out, no, ok := register(first.Token, serial); !ok || *out.ThingName != w.thing(serial) {
			t.Fatalf("%s: with the token of before the restart: %+v", format, no)
		}
		restart()
		if out, no, ok := register(first.Token, serial); !ok || *out.ThingName != w.thing(serial) || (*out.DeviceConfiguration)["serial"] != "no "+serial {
			t.Errorf("%s: the answer again: %+v", format, no)
		}
		if _, no, ok := register(first.Token, "other"); ok || no.ErrorCode != "InvalidCertificateOwnershipToken" {
			t.Errorf("%s: the token for another device: %v %+v", format, ok, no)
		}
		if after := create(); after.CertificateID != first.CertificateID {
			t.Errorf("%s: after its registration the same request gets %.12s", format, after.CertificateID)
		}
		w.checkActive(t, serial, 1)
	}
}

func TestADeviceIsRetired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "retire")
	v := variant{csr: true, format: "json", mqtt5: true}
	cert, out := v.provision(t, w, w.claim(t, w.admin), "1")
	name := *out.ThingName
	d, err := dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), name)
	check(t, err)
	if _, err := w.as(t, w.signIn(t, w.installer).ID).iot.DeleteThing(t.Context(), &iot.DeleteThingInput{ThingName: &name}); err == nil {
		t.Fatal("an installer may delete things")
	}
	verb := func() string {
		t.Helper()
		return w.site.run(t, t.TempDir(), nil, imprint(), "thing", "deprovision", name)
	}
	if said := verb(); said != "thing "+name+" is gone\ncertificate deleted  "+cert.CertificateID+"\n" {
		t.Errorf("it says %q", said)
	}
	select {
	case code := <-d.lost:
		if code != 0x87 {
			t.Errorf("DISCONNECT %#x", code)
		}
	case <-time.After(5 * time.Second):
		t.Error("its session lives on")
	}
	if said := verb(); said != "there is no thing "+name+"\n" {
		t.Errorf("the second time it says %q", said)
	}
	_, err = w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: &name})
	refused(t, err, "ResourceNotFoundException")
	// Somebody else gets the name.
	if _, again := v.provision(t, w, w.claim(t, w.admin), "1"); *again.ThingName != name {
		t.Errorf("the next device is %s", *again.ThingName)
	}
	prepared := w.prefix + "-prepared"
	_, err = w.admin.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &prepared})
	check(t, err)
	if said := w.site.run(t, t.TempDir(), nil, imprint(), "orphans", "--older-than", "0s", "--kind", "thingsWithoutPrincipal"); !strings.Contains(said, "thing without certificate  "+prepared+"  made ") {
		t.Errorf("orphans says %q", said)
	}
}
