package compat

import (
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

func TestAnInstallerProvisionsADeviceInEveryVariant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "sdk")
	ida := w.installerSDK(t)
	for i, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			serial := strconv.Itoa(1000 + i)
			cert, out := v.provision(t, w, w.claim(t, ida), serial)
			if out.ThingName == nil || *out.ThingName != w.thing(serial) {
				t.Errorf("thing %v", out.ThingName)
			}
			if out.DeviceConfiguration == nil || (*out.DeviceConfiguration)["serial"] != "no "+serial {
				t.Errorf("device configuration %v", out.DeviceConfiguration)
			}
			if n := len(cert.Token); n == 0 || n > 512 {
				t.Errorf("ownership token of %d characters; embedded clients hold 512", n)
			}
			w.checkRegistry(t, serial, cert)
			w.checkHeldToPolicy(t, v, serial, cert)
		})
	}
}

// checkRegistry asks the control plane what the flow has made.
func (w *world) checkRegistry(t *testing.T, serial string, cert created) {
	t.Helper()
	name := w.thing(serial)
	thing, err := w.admin.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: &name})
	check(t, err)
	if thing.Attributes["serial"] != serial || thing.Attributes["colour"] != "red" {
		t.Errorf("attributes %v", thing.Attributes)
	}
	principals, err := w.admin.iot.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: &name})
	check(t, err)
	if len(principals.Principals) != 1 || principals.Principals[0] != w.iotARN("cert/"+cert.CertificateID) {
		t.Errorf("principals %v", principals.Principals)
	}
	described, err := w.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &cert.CertificateID})
	check(t, err)
	if d := described.CertificateDescription; d.Status != "ACTIVE" || *d.CertificatePem != cert.CertificatePEM {
		t.Errorf("certificate is %s", d.Status)
	}
	block, _ := pem.Decode([]byte(cert.CertificatePEM))
	leaf, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || leaf.NotAfter.Year() != 2049 {
		t.Errorf("leaf: CA %v, usage %v, until %v", leaf.IsCA, leaf.KeyUsage, leaf.NotAfter)
	}
}

// checkHeldToPolicy reconnects with the new identity: own topics work, nothing else does.
func (w *world) checkHeldToPolicy(t *testing.T, v variant, serial string, cert created) {
	t.Helper()
	name := w.thing(serial)
	d := v.dial(t, w.site, name, cert.CertificatePEM, cert.PrivateKey)
	own := "lamps/" + name + "/state"
	d.subscribe(t, own)
	d.publish(t, own, []byte("on"))
	if _, payload := d.receive(t, own); string(payload) != "on" {
		t.Errorf("heard %q", payload)
	}
	foreign := "lamps/somebody-else/state"
	switch d := d.(type) {
	case *mqtt5Device:
		if err := d.tryPublish(t, foreign, []byte("on")); err == nil {
			t.Error("a publish on a foreign topic was acknowledged")
		}
		if err := d.trySubscribe(t, foreign); err == nil {
			t.Error("a foreign topic could be subscribed")
		}
	case *mqtt3Device: // MQTT 3.1.1 has no way to say no: the connection is closed without PUBACK
		d.client.Publish(foreign, 1, false, "on")
		if err := <-d.lost; err == nil {
			t.Error("the connection was lost without a reason")
		}
	}
	var err error
	if v.mqtt5 {
		_, err = dialMQTT5(t, w.site.mqttAddr(), w.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), "somebody-else")
	} else {
		_, err = dialMQTT3(t, "ssl://"+w.site.mqttAddr(), w.site.tlsConfig(t, cert.CertificatePEM, cert.PrivateKey), "somebody-else")
	}
	if err == nil {
		t.Error("a foreign client id was let in")
	}
}
