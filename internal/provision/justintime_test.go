package provision

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// A plant is a customer with a CA.
type plant struct {
	*fixture
	key  crypto.Signer
	cert *x509.Certificate
}

func (f *fixture) plant(name string) *plant {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(f.t, err)
	p := &plant{fixture: f, key: key}
	p.cert = p.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return p
}

// sign makes a certificate for a new key, or for that of the CA itself if it has none yet.
func (p *plant) sign(c *x509.Certificate, by *x509.Certificate) *x509.Certificate {
	p.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(p.t, err)
	c.SerialNumber, c.NotBefore, c.NotAfter = serial, p.Clock.Now().Add(-time.Hour), p.Clock.Now().Add(time.Hour)
	public := p.key.Public()
	if by == nil {
		by = c
	} else {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(p.t, err)
		public = key.Public()
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, public, p.key)
	check(p.t, err)
	out, err := x509.ParseCertificate(der)
	check(p.t, err)
	return out
}

func (p *plant) device(subject pkix.Name) *x509.Certificate {
	return p.sign(&x509.Certificate{Subject: subject}, p.cert)
}

// proof has the CA sign the registration code.
func (p *plant) proof() string {
	code := ""
	p.write(func(tx *store.Tx) (err error) {
		code, err = registry.RegistrationCode(tx, here, strings.Repeat("c0de", 16))
		return err
	})
	return pki.CertificatePEM(p.device(pkix.Name{CommonName: code}).Raw)
}

func (p *plant) newCA(change func(*NewCA)) NewCA {
	n := NewCA{PEM: pki.CertificatePEM(p.cert.Raw), Verification: p.proof(), Active: true, Auto: true}
	if change != nil {
		change(&n)
	}
	return n
}

func (p *plant) registered(change func(*NewCA)) fleet.CA {
	p.t.Helper()
	c, err := p.RegisterCA(p.t.Context(), installer, p.newCA(change))
	check(p.t, err)
	return c
}

// connect is what the gateway does with an unknown certificate.
func (p *plant) connect(leaf *x509.Certificate) (c fleet.Certificate, provisioned bool, err error) {
	n, err := p.Newcomer(p.t.Context(), Place{Scope: here}, leaf, trace.New(here, trace.Connect, p.Clock))
	if err == nil {
		c, err = p.Arrive(p.t.Context(), n)
	}
	if err == nil {
		provisioned, err = p.Settle(p.t.Context(), n)
	}
	return c, provisioned, err
}

const plantBody = `{
  "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::SerialNumber": {"Type": "String"},
    "AWS::IoT::Certificate::Country": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"},
      "AttributePayload": {"version": "v1", "serial": {"Ref": "AWS::IoT::Certificate::SerialNumber"}, "country": {"Ref": "AWS::IoT::Certificate::Country"}}}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"},
      "OverrideSettings": {"Status": "DO_NOTHING"}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}]}"}}
  }
}`

func withBody(n *NewCA) { n.Config = &fleet.RegistrationConfig{Body: plantBody, RoleARN: role} }

var lamp1 = pkix.Name{CommonName: "lamp-1", SerialNumber: "4711", Country: []string{"DE"}}

func TestTheFirstConnectionProvisionsADevice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	ca := p.registered(withBody)
	leaf := p.device(lamp1)
	c, provisioned, err := p.connect(leaf)
	check(t, err)
	if !provisioned || c.Status != fleet.PendingActivation || c.CAID != ca.ID || c.Mode != fleet.ModeDefault {
		t.Errorf("registered %+v, provisioned %v", c, provisioned)
	}
	if f.status(c.ID) != fleet.Active {
		t.Error("not active")
	}
	thing := view(f, func(tx *store.Tx) (fleet.Thing, error) { return tx.Thing(here, "lamp-1") })
	if got := fmt.Sprint(thing.Attributes); got != "map[country:DE serial:4711 version:v1]" {
		t.Errorf("attributes %s", got)
	}
	if list := f.principals("lamp-1"); len(list) != 1 || list[0].Principal != here.IoT("cert", c.ID) {
		t.Errorf("principals %v", list)
	}
	if reg, found := registration2(f, c.ID); !found || reg.Principal != ca.ID || reg.Thing != "lamp-1" || !reg.ReplayUntil.IsZero() {
		t.Errorf("recorded %+v", reg)
	}
	if _, err := f.Newcomer(t.Context(), Place{Scope: here}, p.device(lamp1), nil); err != nil {
		t.Errorf("a second certificate of the device: %v", err)
	}
	// The CA vouches for it: as on AWS, the device gets its thing with another certificate, too.
	again, _, err := p.connect(p.device(lamp1))
	check(t, err)
	if list := f.principals("lamp-1"); f.status(again.ID) != fleet.Active || len(list) != 2 {
		t.Errorf("principals %v", list)
	}
}

func TestATemplateMayGuardThingsOfDevicesThatTheirCAVouchesFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	p.registered(func(n *NewCA) {
		withBody(n)
		n.Config.Body = strings.Replace(plantBody, `"Resources"`, `"Mappings": {"Imprint": {"Settings": {"Reprovision": "deny"}}}, "Resources"`, 1)
	})
	_, _, err := p.connect(p.device(lamp1))
	check(t, err)
	c, _, err := p.connect(p.device(lamp1))
	refused(t, err, CodeConflict)
	if f.status(c.ID) != fleet.PendingActivation || len(f.principals("lamp-1")) != 1 {
		t.Error("the second one got the thing")
	}
}

func TestANamedTemplateProvisionsUnlessItIsDisabled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "plant", Body: plantBody, RoleARN: role, Type: fleet.JITP})
	check(t, err)
	f.template("lamps", lamps)
	for name, want := range map[string]fleet.Kind{"none": fleet.KindNotFound, "lamps": fleet.KindInvalid} {
		if _, err := p.RegisterCA(t.Context(), installer, p.newCA(func(n *NewCA) { n.Config = &fleet.RegistrationConfig{Template: name} })); err == nil || fleet.KindOf(err) != want {
			t.Errorf("the template %s: %v", name, err)
		}
	}
	ca := p.registered(func(n *NewCA) { n.Config = &fleet.RegistrationConfig{Template: "plant"} })
	c, provisioned, err := p.connect(p.device(lamp1)) // nobody has said that it is enabled (provisioning spec 4.2)
	check(t, err)
	if reg, _ := registration2(f, c.ID); !provisioned || reg.Template != "plant" || reg.Version != 1 {
		t.Errorf("recorded %+v", reg)
	}
	check(t, f.UpdateTemplate(t.Context(), installer, "plant", TemplateChange{Enabled: new(false)}))
	_, _, err = p.connect(p.device(pkix.Name{CommonName: "lamp-2", SerialNumber: "1", Country: []string{"DE"}}))
	refused(t, err, CodeAccessDenied)
	if err := f.DeleteTemplate(t.Context(), here, "plant"); err == nil || fleet.KindOf(err) != fleet.KindInUse {
		t.Errorf("deleting a template that a CA needs: %v", err)
	}
	check(t, f.UpdateCA(t.Context(), installer, ca.ID, CAChange{RemoveConfig: true}))
	check(t, f.DeleteTemplate(t.Context(), here, "plant"))
}

// TestWhyACertificateWaitsIsKept tries everything that keeps a device from being provisioned.
func TestWhyACertificateWaitsIsKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body    string
		subject pkix.Name
		refuse  string
		want    string
	}{
		"a declared pseudo parameter that the certificate lacks": {subject: pkix.Name{CommonName: "lamp-1", SerialNumber: "1"}, want: "AWS::IoT::Certificate::Country"},
		"a policy that is not there": {subject: lamp1, body: `{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}},
			"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"none"}}}}`, want: `policy "none"`},
		"a name that is none":           {subject: pkix.Name{CommonName: "lamp 1", SerialNumber: "1", Country: []string{"DE"}}, want: "is no thing name"},
		"a role that trusts nobody":     {subject: lamp1, refuse: "trust", want: "cannot be assumed by iot.amazonaws.com"},
		"a role that lacks an action":   {subject: lamp1, refuse: "iot:CreateThing", want: "lacks iot:CreateThing"},
		"a template with nothing in it": {subject: lamp1, body: `{"Resources":{}}`, want: "nothing activates the certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.plant("Plant CA")
			p.registered(func(n *NewCA) {
				if withBody(n); c.body != "" {
					n.Config.Body = c.body
				}
			})
			f.iam.refuse(c.refuse)
			leaf := p.device(c.subject)
			cert, provisioned, err := p.connect(leaf)
			if err == nil || provisioned || f.status(cert.ID) != fleet.PendingActivation {
				t.Fatalf("provisioned %v, %v", provisioned, err)
			}
			why := func() string {
				return view(f, func(tx *store.Tx) (string, error) { return WhyPending(tx, here, cert) })
			}
			if !strings.Contains(why(), c.want) || !strings.Contains(why(), "(trace ") {
				t.Errorf("it waits since %q, want %q in it", why(), c.want)
			}
			if things := view(f, func(tx *store.Tx) ([]fleet.Thing, error) {
				l, _, err := tx.Things(here, store.ThingFilter{}, fleet.Page{})
				return l, err
			}); len(things) > 0 {
				t.Errorf("half of it was written: %v", things)
			}
			// Asking again at once is told the same; once it is mended, and some time has passed, it works.
			f.iam.refuse()
			asked := len(f.iam.asked)
			if _, _, again := p.connect(leaf); again == nil || again.Error() != err.Error() || len(f.iam.asked) != asked {
				t.Errorf("asked again: %v", again)
			}
			if c.refuse == "" {
				return
			}
			f.pass(2 * time.Second)
			if _, provisioned, err := p.connect(leaf); err != nil || !provisioned {
				t.Errorf("after it was mended: %v", err)
			}
			cert = view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, cert.ID) })
			if why() != "" {
				t.Errorf("it waits no more, and yet: %q", why())
			}
		})
	}
}

func TestACAWithoutTemplateLeavesTheRestToOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	ca := p.registered(nil)
	cert, provisioned, err := p.connect(p.device(lamp1))
	check(t, err)
	if provisioned || f.status(cert.ID) != fleet.PendingActivation {
		t.Error("somebody has activated it")
	}
	waits := func(want string) {
		t.Helper()
		why := view(f, func(tx *store.Tx) (string, error) { return WhyPending(tx, here, cert) })
		if !strings.Contains(why, "whoever listens to $aws/events/certificates/registered/"+ca.ID) || !strings.Contains(why, want) {
			t.Errorf("it waits since %q, want %q", why, want)
		}
	}
	rule := func(name, filter string, disabled bool) {
		f.write(func(tx *store.Tx) error {
			return tx.PutTopicRule(here, fleet.TopicRule{Name: name, Filter: filter, Disabled: disabled, Created: tx.Now()})
		})
	}
	rule("another", "lamps/#", false)
	rule("off", fleet.RegisteredTopic+"#", true)
	waits("No rule of this account does: aws iot create-topic-rule")
	rule("registration", fleet.RegisteredTopic+"+", false)
	waits("The rule registration does, and nothing is known yet of what it made of this one")
	check(t, f.Store.SaveTraces(t.Context(), []trace.Finished{decided(f, cert, "lamp-1 is not on the list")}))
	waits("which has not been done. At 2")
	waits("lamp-1 is not on the list (trace ")
	f.pass(48 * time.Hour) // it does not expire as those do that were asked for over MQTT
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if f.status(cert.ID) != fleet.PendingActivation {
		t.Error("it has gone")
	}
}

// decided is what is kept of a rule that has looked at the event that a certificate waits.
func decided(f *fixture, c fleet.Certificate, says string) trace.Finished {
	tr := trace.New(here, trace.Rule, f.Clock)
	tr.Fact("topic", fleet.RegisteredTopic+c.CAID)
	tr.Fact("certificateId", c.ID)
	tr.Step("lambda", "%s", says)
	record, subjects := tr.Finish(nil)
	return trace.Finished{Scope: here, Record: record, Subjects: subjects}
}

func TestWhoIsNoNewcomer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, other := f.plant("Plant CA"), f.plant("Other CA")
	other.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, other.cert)
	ca := p.registered(withBody)
	leaf := p.device(lamp1)
	ask := func(at Place, leaf *x509.Certificate) string {
		_, err := f.Newcomer(t.Context(), at, leaf, nil)
		if err != nil && fleet.KindOf(err) != fleet.KindDenied {
			t.Fatal(err)
		}
		return fmt.Sprint(err)
	}
	own, elsewhere := Place{Scope: here}, Place{Scope: fleet.Scope{Account: "111111111111", Region: here.Region}}
	change := func(c CAChange) { check(t, f.UpdateCA(t.Context(), installer, ca.ID, c)) }
	for _, c := range []struct {
		name string
		at   Place
		leaf *x509.Certificate
		do   func()
		want string
	}{
		{"a device of the CA", own, leaf, nil, "<nil>"},
		{"under the server's own name", Place{Scope: elsewhere.Scope, Shared: true}, leaf, nil, "<nil>"},
		{"in another account", elsewhere, leaf, nil, NotSigned},
		{"of an unknown CA", own, other.device(lamp1), nil, NotSigned},
		{"of a CA of the same name", own, f.plant("Plant CA").device(lamp1), nil, NotSigned},
		{"a CA", own, p.sign(&x509.Certificate{Subject: lamp1, IsCA: true, BasicConstraintsValid: true}, p.cert), nil, "is a CA itself"},
		{"with auto-registration off", own, leaf, func() { change(CAChange{Auto: new(false)}) }, "does not register certificates by themselves"},
		{"with the CA inactive", own, leaf, func() { change(CAChange{Status: fleet.Inactive, Auto: new(true)}) }, "is registered and INACTIVE"},
		{"after its end", own, leaf, func() { change(CAChange{Status: fleet.Active}); f.pass(2 * time.Hour) }, "expired at"},
	} {
		if c.do != nil {
			c.do()
		}
		if got := ask(c.at, c.leaf); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestASNIOnlyCAIsAskedUnderTheNameOfItsAccountAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	there := fleet.Scope{Account: "111111111111", Region: here.Region}
	sniOnly := func(n *NewCA) { n.Mode, n.Verification = fleet.ModeSNIOnly, "" }
	p.registered(sniOnly)
	tenant := *installer
	tenant.Scope = there
	_, err := f.RegisterCA(t.Context(), &tenant, p.newCA(sniOnly)) // the same CA in several accounts
	check(t, err)
	leaf := p.device(lamp1)
	for at, want := range map[Place]fleet.Scope{{Scope: here}: here, {Scope: there}: there, {Scope: here, Shared: true}: here, {Scope: there, Shared: true}: there} {
		n, err := f.Newcomer(t.Context(), at, leaf, nil)
		check(t, err)
		if n.Scope != want {
			t.Errorf("%+v: account %s", at, n.Scope)
		}
	}
	_, err = f.Newcomer(t.Context(), Place{Scope: fleet.Scope{Account: "222222222222", Region: here.Region}, Shared: true}, leaf, nil)
	if err == nil || !strings.Contains(err.Error(), "SNI_ONLY") {
		t.Errorf("under a name that is neither's: %v", err)
	}
}

func TestNewcomersHaveRatesAndLimits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Limits.PendingPerCA = 2
	p := f.plant("Plant CA")
	p.registered(nil)
	for range 2 {
		_, _, err := p.connect(p.device(lamp1))
		check(t, err)
	}
	if _, _, err := p.connect(p.device(lamp1)); err == nil || fleet.KindOf(err) != fleet.KindLimit {
		t.Errorf("a third that waits: %v", err)
	}
	f.rates.Claim = admission.Rate{PerSecond: 1, Burst: 1}
	leaf := p.device(lamp1)
	p.connect(leaf)
	if _, _, err := p.connect(leaf); err == nil || fleet.KindOf(err) != fleet.KindThrottled {
		t.Errorf("beyond the rate: %v", err)
	}
}

// A device that nobody lets in comes again and again, as fast as it likes.
func TestADeviceThatWaitsKeepsNoOtherOfItsCAAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	p.registered(nil)
	f.rates.Claim = admission.Rate{PerSecond: 1, Burst: 2}
	waits := p.device(lamp1)
	_, _, err := p.connect(waits)
	check(t, err)
	for range 5 {
		_, _, err = p.connect(waits)
	}
	if fleet.KindOf(err) != fleet.KindThrottled {
		t.Errorf("again and again: %v", err)
	}
	if _, _, err := p.connect(p.device(lamp1)); err != nil {
		t.Errorf("another device: %v", err)
	}
}

func TestOfManyFirstConnectionsOneRegisters(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	p.registered(withBody)
	leaf := p.device(lamp1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, _, err := p.connect(leaf); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if f.status(fleet.CertificateID(leaf.Raw)) != fleet.Active || len(f.principals("lamp-1")) != 1 {
		t.Error("not registered once")
	}
}

func TestWhatMayBeRegisteredAsACA(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	p.proof()
	const validation = "CertificateValidationException"
	ours := f.Authority.DeviceRootsPEM()
	ours = ours[:strings.Index(ours, "-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
	for name, c := range map[string]struct {
		change func(*NewCA)
		kind   fleet.Kind
		code   string
	}{
		"no proof":                  {func(n *NewCA) { n.Verification = "" }, fleet.KindInvalid, ""},
		"a proof where none is due": {func(n *NewCA) { n.Mode = fleet.ModeSNIOnly }, fleet.KindInvalid, ""},
		"another code": {func(n *NewCA) { n.Verification = pki.CertificatePEM(p.device(pkix.Name{CommonName: "x"}).Raw) }, fleet.KindInvalid,
			"RegistrationCodeValidationException"},
		"a device's certificate": {func(n *NewCA) { n.PEM = pki.CertificatePEM(p.device(lamp1).Raw) }, fleet.KindInvalid, validation},
		"another CA's proof":     {func(n *NewCA) { n.PEM = pki.CertificatePEM(f.plant("Plant CA").cert.Raw) }, fleet.KindInvalid, validation},
		"nonsense":               {func(n *NewCA) { n.PEM = "x" }, fleet.KindInvalid, validation},
		"the service's own":      {func(n *NewCA) { n.PEM, n.Mode, n.Verification = ours, fleet.ModeSNIOnly, "" }, fleet.KindInvalid, validation},
		"two templates":          {func(n *NewCA) { withBody(n); n.Config.Template = "t" }, fleet.KindInvalid, ""},
		"a body without role":    {func(n *NewCA) { withBody(n); n.Config.RoleARN = "" }, fleet.KindInvalid, ""},
		"a role without body":    {func(n *NewCA) { withBody(n); n.Config.Body = "" }, fleet.KindInvalid, ""},
		"a bad template":         {func(n *NewCA) { withBody(n); n.Config.Body = "{" }, fleet.KindInvalid, ""},
		"another account's role": {func(n *NewCA) { withBody(n); n.Config.RoleARN = "arn:aws:iam::111111111111:role/x" }, fleet.KindInvalid, ""},
	} {
		_, err := f.RegisterCA(t.Context(), installer, p.newCA(c.change))
		t.Run(name, func(t *testing.T) { wantCode(t, err, c.kind, c.code) })
	}
	f.iam.refuse("pass")
	_, err := f.RegisterCA(t.Context(), installer, p.newCA(withBody))
	wantCode(t, err, fleet.KindDenied, "")
	f.iam.refuse()
	p.registered(nil)
	_, err = f.RegisterCA(t.Context(), installer, p.newCA(nil))
	wantCode(t, err, fleet.KindExists, "")
	tenant := *installer
	tenant.Scope = fleet.Scope{Account: "111111111111", Region: here.Region}
	_, err = f.RegisterCA(t.Context(), &tenant, p.newCA(func(n *NewCA) { n.Mode, n.Verification = fleet.ModeSNIOnly, "" }))
	wantCode(t, err, fleet.KindExists, "") // who has proven to hold the key has it alone
	tenant.Scope.Region = "eu-west-1"
	_, err = f.RegisterCA(t.Context(), &tenant, p.newCA(func(n *NewCA) { n.Mode, n.Verification = fleet.ModeSNIOnly, "" }))
	check(t, err)
}

// Of one certificate many can be made that the CA's signature holds for, and each has a fingerprint of its own.
func TestARevokedCertificateStaysOutInEveryForm(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.plant("Plant CA")
	p.registered(withBody)
	leaf := p.device(lamp1)
	c, _, err := p.connect(leaf)
	check(t, err)
	f.write(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, c.ID, fleet.Revoked) })
	var parts struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.RawValue
		More           asn1.RawValue `asn1:"optional"`
	}
	_, err = asn1.Unmarshal(leaf.Raw, &parts)
	check(t, err)
	plain := parts
	bits := func(unused byte, bytes []byte) asn1.RawValue {
		return asn1.RawValue{Tag: asn1.TagBitString, Bytes: append([]byte{unused}, bytes...)}
	}
	mirrored := func() []byte {
		var sig struct{ R, S *big.Int }
		_, err := asn1.Unmarshal(leaf.Signature, &sig)
		check(t, err)
		sig.S.Sub(elliptic.P256().Params().N, sig.S)
		out, err := asn1.Marshal(sig)
		check(t, err)
		return out
	}
	for name, change := range map[string]func(){
		"something after the signature": func() { parts.More = asn1.NullRawValue },
		"unused bits":                   func() { parts.Signature = bits(1, new(big.Int).Lsh(new(big.Int).SetBytes(leaf.Signature), 1).Bytes()) },
		"the other signature":           func() { parts.Signature = bits(0, mirrored()) },
	} {
		parts = plain
		change()
		der, err := asn1.Marshal(parts)
		check(t, err)
		other, err := x509.ParseCertificate(der)
		check(t, err)
		check(t, pki.CheckSignedBy(other, p.cert))
		if _, _, err := p.connect(other); fleet.KindOf(err) != fleet.KindDenied {
			t.Errorf("%s: %v", name, err)
		}
		err = f.Store.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Certificate(here, fleet.CertificateID(der)); return err })
		if fleet.KindOf(err) != fleet.KindNotFound {
			t.Errorf("%s: it is on file: %v", name, err)
		}
	}
}
