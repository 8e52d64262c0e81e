package provision

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/trace"
)

// withSettings is the template lamps with settings, as members of a JSON object.
func withSettings(settings string) string {
	return strings.Replace(lamps, "{", `{"Mappings": {"Imprint": {"Settings": {`+settings+`}}}, `, 1)
}

// asDevice is who speaks with a certificate of its own.
func (f *fixture) asDevice(id string) Requester {
	return Requester{Scope: here, PrincipalID: id, ClientID: "lamp", Trace: trace.New(here, trace.Register, f.Clock)}
}

// device provisions a device and returns who speaks with its certificate.
func (f *fixture) device(template, serial string) Requester {
	f.t.Helper()
	r := f.claim(template)
	c := f.certificate(r)
	_, err := f.register(r, template, c, serial)
	check(f.t, err)
	return f.asDevice(c.ID)
}

// renew has a device get its next certificate.
func (f *fixture) renew(r Requester, template, serial string) Requester {
	f.t.Helper()
	c := f.certificate(r)
	_, err := f.register(r, template, c, serial)
	check(f.t, err)
	return f.asDevice(c.ID)
}

func (f *fixture) connect(r Requester) {
	f.t.Helper()
	check(f.t, f.Connected(f.t.Context(), []Connection{{here, r.PrincipalID, f.Clock.Now()}}))
}

// certificatesOf lists the ids of the certificates of a thing.
func (f *fixture) certificatesOf(thing string) (ids []string) {
	f.t.Helper()
	for _, a := range f.principals(thing) {
		arn, _ := fleet.ParseARN(a.Principal)
		ids = append(ids, arn.Name())
	}
	return ids
}

func TestTheOldCertificateGoesWhenTheNewOneHasConnected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings string
		overlap  time.Duration // less than 0: for ever
	}{
		"as AWS does without settings": {``, -1},
		"where renewal is spoken of":   {`"RenewalWindow": "30d"`, 24 * time.Hour},
		"as the template says":         {`"RenewalOverlap": "10m"`, 10 * time.Minute},
		"at once":                      {`"RenewalOverlap": "0s"`, 0},
		"never":                        {`"RenewalWindow": "30d", "RenewalOverlap": "never"`, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.template("lamps", withSettings(c.settings))
			old := f.device("lamps", "7")
			f.connect(old)
			next := f.renew(old, "lamps", "7")
			f.pass(90 * 24 * time.Hour)
			check(t, f.Sweep(t.Context(), f.Clock.Now()))
			if f.status(old.PrincipalID) != fleet.Active || len(f.certificatesOf("lamp-7")) != 2 {
				t.Fatal("the old certificate is gone before the new one has connected")
			}
			f.connect(next)
			if c.overlap > 0 {
				f.pass(c.overlap - time.Minute)
				f.connect(next)
				check(t, f.Sweep(t.Context(), f.Clock.Now()))
				if f.status(old.PrincipalID) != fleet.Active {
					t.Fatal("the old certificate is gone too early")
				}
			}
			f.pass(2 * time.Minute)
			if c.overlap < 0 {
				f.pass(1000 * time.Hour)
			}
			check(t, f.Sweep(t.Context(), f.Clock.Now()))
			policies := view(f, func(tx *store.Tx) ([]string, error) {
				list, _, err := tx.PoliciesOf(here, here.IoT("cert", old.PrincipalID), fleet.Page{})
				return list, err
			})
			if c.overlap < 0 {
				if f.status(old.PrincipalID) != fleet.Active || len(f.certificatesOf("lamp-7")) != 2 || len(policies) != 1 {
					t.Error("the old certificate is gone")
				}
				return
			}
			if got := f.certificatesOf("lamp-7"); f.status(old.PrincipalID) != fleet.Inactive || !slices.Equal(got, []string{next.PrincipalID}) || len(policies) != 0 {
				t.Errorf("the old certificate is %s with policies %v, the thing has %v", f.status(old.PrincipalID), policies, got)
			}
			if f.status(next.PrincipalID) != fleet.Active {
				t.Error("the new certificate is not active")
			}
		})
	}
}

func TestACertificateStaysWhenItsSuccessorIsOutOfService(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "10m"`))
	old := f.device("lamps", "7")
	next := f.renew(old, "lamps", "7")
	f.connect(next)
	f.write(func(tx *store.Tx) error {
		return registry.SetCertificateStatus(tx, here, next.PrincipalID, fleet.Inactive)
	})
	f.pass(time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if f.status(old.PrincipalID) != fleet.Active {
		t.Error("the device has no certificate left")
	}
}

// A device whose answer was lost for good asks again: what it never got must not stay.
func TestASuccessorThatNeverConnectedGoesWithTheNextOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "10m"`))
	old := f.device("lamps", "7")
	lost := f.renew(old, "lamps", "7")
	f.pass(2 * time.Hour)
	next := f.renew(old, "lamps", "7")
	if f.status(lost.PrincipalID) != fleet.Inactive || len(f.certificatesOf("lamp-7")) != 2 {
		t.Errorf("the lost certificate is %s, the thing has %d", f.status(lost.PrincipalID), len(f.certificatesOf("lamp-7")))
	}
	f.connect(next)
	f.pass(time.Hour)
	check(t, f.Sweep(t.Context(), f.Clock.Now()))
	if got := f.certificatesOf("lamp-7"); !slices.Equal(got, []string{next.PrincipalID}) {
		t.Errorf("the thing has %v", got)
	}
	if rest := view(f, func(tx *store.Tx) ([]store.Succession, error) { return tx.Successions(here, old.PrincipalID) }); len(rest) > 0 {
		t.Errorf("successions are left: %v", rest)
	}
}

func TestADeviceRenewsItselfAndNobodyElse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "10m"`))
	f.template("open", withSettings(`"Reprovision": "aws"`))
	mine, other := f.device("lamps", "7"), f.device("lamps", "8")
	for serial, code := range map[string]string{"8": CodeConflict, "9": CodeAccessDenied} { // another device's, and a free one
		c := f.certificate(mine)
		_, err := f.register(mine, "lamps", c, serial)
		refused(t, err, code)
		if f.status(c.ID) != fleet.PendingActivation {
			t.Errorf("%s: the certificate is %s", serial, f.status(c.ID))
		}
	}
	if got := f.certificatesOf("lamp-8"); !slices.Equal(got, []string{other.PrincipalID}) {
		t.Errorf("the other device has %v", got)
	}
	c := f.certificate(mine)
	if _, err := f.register(mine, "open", c, "9"); err != nil {
		t.Errorf("with a template that leaves its things open: %v", err)
	}
	// The thing is gone, its certificate is not: it makes no other.
	f.write(func(tx *store.Tx) error {
		for _, id := range f.idsOf(tx, "lamp-8") {
			if err := registry.DetachPrincipal(tx, here, "lamp-8", here.IoT("cert", id)); err != nil {
				return err
			}
		}
		return registry.DeleteThing(tx, here, "lamp-8", nil)
	})
	_, err := f.register(other, "lamps", f.certificate(other), "10")
	refused(t, err, CodeAccessDenied)
}

func (f *fixture) idsOf(tx *store.Tx, thing string) (ids []string) {
	list, _, err := tx.PrincipalsOf(here, thing, "", fleet.Page{})
	check(f.t, err)
	for _, a := range list {
		arn, _ := fleet.ParseARN(a.Principal)
		ids = append(ids, arn.Name())
	}
	return ids
}

func TestARenewalTakesTheParametersOfTheRegistration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	body := strings.Replace(lamps, `"Serial": {"Type": "String"},`, `"Serial": {"Type": "String"}, "Site": {"Type": "String", "Default": "north"},`, 1)
	body = strings.ReplaceAll(body, "topic/lamps/${Serial}", "topic/${Site}/lamps/${Serial}")
	f.template("lamps", body)
	f.template("free", strings.Replace(body, "{", `{"Mappings": {"Imprint": {"Settings": {"RenewalParameters": "any"}}}, `, 1))
	for template, want := range map[string]string{"lamps": CodeInvalidParameters, "free": ""} {
		r := f.claim(template)
		c := f.certificate(r)
		params := map[string]string{"Serial": template, "Site": "south"}
		_, err := f.Register(t.Context(), r, template, c.Token.Reveal(), params)
		check(t, err)
		device := f.asDevice(c.ID)
		next := f.certificate(device)
		params["Site"] = "everywhere"
		_, err = f.Register(t.Context(), f.again(device), template, next.Token.Reveal(), params)
		if want == "" {
			check(t, err)
			continue
		}
		refused(t, err, want)
		params["Site"] = "south"
		_, err = f.Register(t.Context(), f.again(device), template, next.Token.Reveal(), params)
		check(t, err)
	}
}

func TestAStolenCertificateRenewsNothingOnceItIsOutOfService(t *testing.T) {
	t.Parallel()
	for _, status := range []fleet.CertificateStatus{fleet.Inactive, fleet.Revoked} {
		t.Run(string(status), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.template("lamps", lamps)
			thief := f.device("lamps", "7")
			c := f.certificate(thief)
			f.write(func(tx *store.Tx) error { return registry.SetCertificateStatus(tx, here, thief.PrincipalID, status) })
			_, err := f.register(thief, "lamps", c, "7")
			refused(t, err, CodeAccessDenied)
			_, err = f.CreateCertificateFromCSR(t.Context(), f.again(thief), newCSR(t))
			refused(t, err, CodeAccessDenied)
			if f.status(c.ID) != fleet.PendingActivation {
				t.Errorf("the thief's certificate is %s", f.status(c.ID))
			}
		})
	}
}

// expire lets a certificate's end pass.
func (f *fixture) expire(r Requester) {
	f.t.Helper()
	c := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, r.PrincipalID) })
	f.pass(c.NotAfter.Sub(f.Clock.Now()) + time.Minute)
}

func TestAnExpiredCertificateRenewsItselfWithinItsGrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("strict", lamps)
	f.template("kind", withSettings(`"ExpiredGrace": "14d"`))
	strict, kind, late := f.device("strict", "1"), f.device("kind", "2"), f.device("kind", "3")
	f.expire(kind)
	_, err := f.CreateCertificateFromCSR(t.Context(), f.again(strict), newCSR(t))
	if message := refused(t, err, CodeAccessDenied); !strings.Contains(message, "expired") {
		t.Errorf("refused with %q", message)
	}
	name, until, found, err := f.Grace(t.Context(), here, kind.PrincipalID)
	if err != nil || !found || name != "kind" || until.Sub(f.Clock.Now()) > 14*24*time.Hour {
		t.Errorf("grace %q %v %v %v", name, until, found, err)
	}
	if _, _, found, err := f.Grace(t.Context(), here, strict.PrincipalID); found || err != nil {
		t.Errorf("grace without a setting: %v", err)
	}
	c := f.certificate(kind)
	_, err = f.register(kind, "strict", c, "2")
	refused(t, err, CodeAccessDenied)
	_, err = f.register(kind, "kind", c, "2")
	check(t, err)
	check(t, f.UpdateTemplate(t.Context(), installer, "kind", TemplateChange{Enabled: new(false)}))
	_, err = f.CreateCertificateFromCSR(t.Context(), f.again(late), newCSR(t))
	refused(t, err, CodeAccessDenied)
	check(t, f.UpdateTemplate(t.Context(), installer, "kind", TemplateChange{Enabled: new(true)}))
	f.pass(14 * 24 * time.Hour)
	_, err = f.CreateCertificateFromCSR(t.Context(), f.again(late), newCSR(t))
	refused(t, err, CodeAccessDenied)
}

func TestTheRoleMustAllowTheOldCertificateToGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "1h"`))
	r := f.device("lamps", "7")
	f.iam.refuse("iot:DetachThingPrincipal")
	_, err := f.register(r, "lamps", f.certificate(r), "7")
	if message := refused(t, err, CodeAccessDenied); !strings.Contains(message, "iot:DetachThingPrincipal") {
		t.Errorf("refused with %q", message)
	}
}

// A renewal that is cut off at any step ends, when it is asked again, with the same certificate.
func TestARenewalThatIsAskedAgainIsTheSame(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "1h"`))
	r := f.device("lamps", "7")
	csr := newCSR(t)
	var ids []string
	for range 2 {
		c, err := f.CreateCertificateFromCSR(t.Context(), f.again(r), csr)
		check(t, err)
		for range 2 {
			ids = append(ids, c.ID)
			got, err := f.register(r, "lamps", c, "7")
			if err != nil || got.ThingName != "lamp-7" {
				t.Fatal(got, err)
			}
		}
	}
	if ids = slices.Compact(ids); len(ids) != 1 || len(f.certificatesOf("lamp-7")) != 2 {
		t.Errorf("certificates %v, the thing has %d", ids, len(f.certificatesOf("lamp-7")))
	}
}

var errUndone = errors.New("undone")

// Marking who connected is one transaction: what fails leaves nothing behind.
func TestConnectionsAreNotedTogether(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"RenewalOverlap": "1h"`))
	r := f.device("lamps", "7")
	next := f.renew(r, "lamps", "7")
	err := f.Store.Tx(t.Context(), func(tx *store.Tx) error {
		if due, err := tx.CertificateUsed(here, next.PrincipalID, f.Clock.Now()); err != nil || due.IsZero() {
			t.Errorf("due %v, %v", due, err)
		}
		return errUndone
	})
	if !errors.Is(err, errUndone) {
		t.Fatal(err)
	}
	first := f.Clock.Now()
	f.connect(next)
	f.pass(time.Minute)
	f.connect(next)
	use := view(f, func(tx *store.Tx) (store.CertificateUse, error) {
		u, _, err := tx.CertificateUse(here, next.PrincipalID)
		return u, err
	})
	if !use.First.Equal(first.Truncate(time.Millisecond)) || !use.Last.Equal(f.Clock.Now().Truncate(time.Millisecond)) {
		t.Errorf("first %v, last %v", use.First, use.Last)
	}
}

func TestCertificatesLiveAsLongAsTheirTemplateSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("short", withSettings(`"CertificateDays": "0.5"`))
	f.template("lamps", withSettings(`"CertificateDays": "90"`))
	f.template("aws", lamps)
	for name, want := range map[string]time.Duration{"short": 12 * time.Hour, "lamps": 90 * 24 * time.Hour, "aws": 0} {
		r := f.claim(name)
		keys, err := f.CreateKeysAndCertificate(t.Context(), f.again(r))
		check(t, err)
		first := f.device(name, "of-"+name)
		for what, id := range map[string]string{"keys": keys.ID, "csr": first.PrincipalID, "renewed": f.renew(first, name, "of-"+name).PrincipalID} {
			c := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, id) })
			life := c.NotAfter.Sub(f.Clock.Now())
			if want == 0 && life < 365*24*time.Hour || want != 0 && (life > want || life < want-time.Minute) {
				t.Errorf("%s, %s: lives %v, want %v", name, what, life, want)
			}
		}
	}
	// What the template says now counts for the next one.
	d := f.device("lamps", "7")
	body := withSettings(`"CertificateDays": "30"`)
	_, err := f.CreateTemplateVersion(t.Context(), here, "lamps", body, true)
	check(t, err)
	next := f.renew(d, "lamps", "7")
	c := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, next.PrincipalID) })
	if life := c.NotAfter.Sub(f.Clock.Now()); life > 30*24*time.Hour {
		t.Errorf("renewed for %v", life)
	}
}

// A bootstrap certificate is good for many templates, unless its policies say for which.
func TestBootstrapCertificatesAreShapedByTheOnlyTemplateThatTheyMayUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("lamps", withSettings(`"CertificateDays": "90", "CertificateKeyType": "P-256"`))
	f.template("pumps", lamps)
	statement := func(effect, action string, topics ...string) string {
		for i, topic := range topics {
			topics[i] = `"` + here.IoT("topic", topic) + `"`
		}
		return `{"Effect": "` + effect + `", "Action": "` + action + `", "Resource": [` + strings.Join(topics, ",") + `]}`
	}
	allow := func(topics ...string) string {
		return `{"Version": "2012-10-17", "Statement": [` + statement("Allow", "iot:Publish", topics...) + `]}`
	}
	printed := func(templates ...string) string {
		doc, err := ClaimPolicy(here, ClaimUse{Templates: templates})
		check(t, err)
		return doc
	}
	policies := 0
	for name, c := range map[string]struct {
		bound     bool
		documents []string
	}{
		"what imprint claim policy prints": {true, []string{printed("lamps")}},
		"for two templates":                {false, []string{printed("lamps", "pumps")}},
		"two policies":                     {false, []string{printed("lamps"), printed("pumps")}},
		"the same twice":                   {true, []string{printed("lamps"), allow("$aws/provisioning-templates/lamps/provision/json")}},
		"all topics":                       {false, []string{`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}}`}},
		"one, and all topics":              {false, []string{printed("lamps"), allow("*")}},
		"a pattern":                        {false, []string{allow("$aws/provisioning-templates/lamp?/provision/json")}},
		"a beginning":                      {false, []string{allow("$aws/provisioning-templates/lamps*")}},
		"any format":                       {true, []string{allow("$aws/provisioning-templates/lamps/provision/*")}},
		"a variable":                       {false, []string{allow("$aws/provisioning-templates/${iot:ClientId}/provision/json")}},
		"one that is not there":            {false, []string{printed("lamp")}},
		"denied": {false, []string{`{"Version": "2012-10-17", "Statement": [` + statement("Allow", "iot:Publish", "$aws/provisioning-templates/lamps/*") + `,` +
			statement("Deny", "iot:Publish", "$aws/provisioning-templates/lamps/*") + `]}`}},
		"none": {false, nil},
	} {
		r := f.bootstrap()
		f.write(func(tx *store.Tx) error {
			for _, doc := range c.documents {
				policies++
				p := fmt.Sprint("claims-", policies)
				_, err := registry.CreatePolicy(tx, here, p, doc, nil)
				check(t, err)
				check(t, registry.AttachPolicy(tx, here, p, here.IoT("cert", r.PrincipalID)))
			}
			return nil
		})
		keys, err := f.CreateKeysAndCertificate(t.Context(), r)
		check(t, err)
		for what, id := range map[string]string{"keys": keys.ID, "csr": f.certificate(r).ID} {
			made := view(f, func(tx *store.Tx) (fleet.Certificate, error) { return tx.Certificate(here, id) })
			if life := made.NotAfter.Sub(f.Clock.Now()); c.bound != (life <= 90*24*time.Hour) {
				t.Errorf("%s: by %s it lives %v", name, what, life)
			}
		}
		if ec := strings.HasPrefix(keys.PrivateKeyPEM.Reveal(), "-----BEGIN EC"); ec != c.bound {
			t.Errorf("%s: P-256 %v", name, ec)
		}
	}
}

func TestKeysAreOfTheTypeThatTheTemplateSays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for name, c := range map[string]struct {
		settings       string
		claim, private string // what their PEM begins with
		size           int    // of the key of the device
	}{
		"aws":    {"", "RSA PRIVATE KEY", "RSA PRIVATE KEY", 2048},
		"claims": {`"ClaimKeyType": "P-256"`, "EC PRIVATE KEY", "RSA PRIVATE KEY", 2048},
		"p256":   {`"ClaimKeyType": "P-256", "CertificateKeyType": "P-256"`, "EC PRIVATE KEY", "EC PRIVATE KEY", 256},
		"p384":   {`"CertificateKeyType": "P-384"`, "RSA PRIVATE KEY", "EC PRIVATE KEY", 384},
	} {
		f.template(name, withSettings(c.settings))
		claim, err := f.CreateClaim(t.Context(), installer, name)
		check(t, err)
		if _, err := tls.X509KeyPair([]byte(claim.CertificatePEM), []byte(claim.PrivateKeyPEM.Reveal())); err != nil || !strings.HasPrefix(claim.PrivateKeyPEM.Reveal(), "-----BEGIN "+c.claim) {
			t.Errorf("%s: a claim's key: %v", name, err)
		}
		keys, err := f.CreateKeysAndCertificate(t.Context(), f.claim(name))
		check(t, err)
		pair, err := tls.X509KeyPair([]byte(keys.PEM), []byte(keys.PrivateKeyPEM.Reveal()))
		if err != nil || !strings.HasPrefix(keys.PrivateKeyPEM.Reveal(), "-----BEGIN "+c.private) {
			t.Errorf("%s: a device's key: %v", name, err)
			continue
		}
		switch k := pair.PrivateKey.(type) {
		case *rsa.PrivateKey:
			if k.N.BitLen() != c.size {
				t.Errorf("%s: %d bits", name, k.N.BitLen())
			}
		case *ecdsa.PrivateKey:
			if k.Curve.Params().BitSize != c.size {
				t.Errorf("%s: %s", name, k.Curve.Params().Name)
			}
		}
	}
	if _, err := template.Parse(withSettings(`"ClaimKeyType": "P-384"`), template.Fleet); err == nil || !strings.Contains(err.Error(), "RSA-2048, P-256") {
		t.Errorf("a key type that there is not: %v", err)
	}
}
