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
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A thinker is a world whose hook decides when the test says so.
type thinker struct {
	*theft
	asked, allow chan bool
}

func newThinker(t *testing.T, prefix string) *thinker {
	t.Helper()
	s := ownServer(t, "--egress-allow", "127.0.0.1")
	w := newWorld(t, s, prefix)
	th := &thinker{&theft{world: w, claims: w.prefix}, make(chan bool, 1), make(chan bool)}
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		th.asked <- true
		fmt.Fprintf(rw, `{"allowProvisioning":%v}`, <-th.allow)
	}))
	t.Cleanup(hook.Close)
	s.run(t, t.TempDir(), nil, imprint(), "function", "put", "slow", "--webhook", hook.URL, "--timeout", "10s")
	w.hooked(t, "slow")
	return th
}

// tooLate registers a device with a claim that loses its power while the hook thinks, which then allows the device. clients is how the names
// of its clients begin, cause what explain says of it.
func (th *thinker) tooLate(t *testing.T, c claim, clients string, end func(), cause string) {
	t.Helper()
	v := variant{csr: true, format: "json", mqtt5: true}
	d, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, c.cert, c.key), clients+"1")
	check(t, err)
	idle, err := dialMQTT5(t, th.site.mqttAddr(), th.site.tlsConfig(t, c.cert, c.key), clients+"2")
	check(t, err)
	cert := v.create(t, d)
	topic := registerTopic(th.template, v.format)
	d.subscribe(t, topic+"/accepted", topic+"/rejected")
	d.publish(t, topic, v.encode(t, object{"certificateOwnershipToken": cert.Token, "parameters": object{"SerialNumber": "1"}}))
	<-th.asked
	end()
	for _, d := range []*mqtt5Device{d, idle} {
		select {
		case code := <-d.lost:
			if code != 0x87 {
				t.Errorf("DISCONNECT %#x", code)
			}
		case <-time.After(answerTimeout):
			t.Error("the session of the claim lives on")
		}
	}
	th.allow <- true
	th.explained(t, cert.CertificateID, cause) // the registration ended in refusal
	_, err = th.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String(th.thing("1"))})
	refused(t, err, "ResourceNotFoundException")
	// It was never registered: it is gone with a containment, or goes when it is an hour old.
	out, err := th.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &cert.CertificateID})
	if err != nil {
		refused(t, err, "ResourceNotFoundException")
	} else if out.CertificateDescription.Status != iottypes.CertificateStatusPendingActivation {
		t.Errorf("the device's certificate is %s", out.CertificateDescription.Status)
	}
}

// TestAWebhookThatAllowsWhileItsClaimIsContained is too late.
func TestAWebhookThatAllowsWhileItsClaimIsContained(t *testing.T) {
	t.Parallel()
	th := newThinker(t, "late")
	for _, c := range []claim{th.world.claim(t, th.admin), th.bootstrap(t, "device-")} {
		th.tooLate(t, c, "device-", func() {
			th.site.run(t, t.TempDir(), nil, imprint(), "claim", "contain", c.id, "--revoke-since", "beginning")
		}, "the claim was contained at")
	}
}

// TestAWebhookThatAllowsWhileItsBootstrapCertificateEnds is too late as well.
func TestAWebhookThatAllowsWhileItsBootstrapCertificateEnds(t *testing.T) {
	t.Parallel()
	th := newThinker(t, "ending")
	set := func(c claim, status iottypes.CertificateStatus) {
		_, err := th.admin.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &c.id, NewStatus: status})
		check(t, err)
	}
	for name, end := range map[string]func(claim){
		"deactivated": func(c claim) { set(c, iottypes.CertificateStatusInactive) },
		"revoked":     func(c claim) { set(c, iottypes.CertificateStatusRevoked) },
		"deleted": func(c claim) {
			set(c, iottypes.CertificateStatusInactive)
			_, err := th.admin.iot.DeleteCertificate(t.Context(), &iot.DeleteCertificateInput{CertificateId: &c.id, ForceDelete: true})
			check(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := th.bootstrap(t, name+"-")
			th.tooLate(t, c, name+"-", func() { end(c) }, "the certificate of this connection is no longer active")
		})
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
	case <-time.After(answerTimeout):
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
