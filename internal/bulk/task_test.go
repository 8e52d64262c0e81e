package bulk

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
)

// lampLine is a line for lamps.
func lampLine(t testing.TB, name, csr string) string {
	return line(t, map[string]string{"ThingName": name, "SerialNumber": "4711", "CSR": csr})
}

func TestALineTakesFewStatements(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := 0
	p := newPlant(t, func(c *store.Config) { c.OnStatement = func(string) { mu.Lock(); asked++; mu.Unlock() } })
	count := func(from, to int) int {
		var lines []string
		for i := from; i < to; i++ {
			lines = append(lines, lampLine(t, fmt.Sprintf("lamp-%d", i), newCSR(t)))
		}
		id := p.start(lamps, lines...)
		mu.Lock()
		asked = 0
		mu.Unlock()
		if task := p.finish(id); task.Status != store.RegistrationDone || task.Good != int64(to-from) {
			t.Fatalf("%+v", task)
		}
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
	few, more := count(0, 4), count(4, 12)
	// Is the thing there? Then thing, attribute, certificate, policy, attachment. PostgreSQL asks for policies, too.
	most := 6
	if p.postgres {
		most = 8
	}
	if more-few > 4*most {
		t.Errorf("four lines more take %d statements more", more-few)
	}
}

// What a line makes of a certificate that is there already, or that somebody else has signed.
func TestLinesBringTheirCertificates(t *testing.T) {
	t.Parallel()
	p := newPlant(t, nil)
	known, err := p.registry.CreateCertificateFromCSR(t.Context(), here, newCSR(t), false)
	check(t, err)
	ca := newCA(t)
	_, err = p.Provision.RegisterCA(t.Context(), admin, provision.NewCA{PEM: ca.pem, Mode: fleet.ModeSNIOnly, Active: true})
	check(t, err)
	signed := ca.sign(t)

	template := func(certificate string) string {
		return `{"Parameters": {"ThingName": {"Type": "String"}, "It": {"Type": "String"}}, "Resources": {
			"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
			"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {` + certificate + `, "Status": "ACTIVE"}}}}`
	}
	for _, row := range []struct {
		name, template, it, id, trouble string
	}{
		{"id", `"CertificateId": {"Ref": "It"}`, known.ID, known.ID, ""},
		{"unknown-id", `"CertificateId": {"Ref": "It"}`, strings.Repeat("0", 64), "", "ResourceRegistrationFailureException"},
		{"signed", `"CertificatePem": {"Ref": "It"}`, signed.pem, signed.id, ""},
		{"signed-again", `"CertificatePem": {"Ref": "It"}`, signed.pem, signed.id, ""},
		{"stranger", `"CertificatePem": {"Ref": "It"}`, newCA(t).sign(t).pem, "", "ResourceRegistrationFailureException"},
		{"nonsense", `"CertificatePem": {"Ref": "It"}`, "PEM", "", "ResourceRegistrationFailureException"},
	} {
		id := p.start(template(row.template), line(t, map[string]string{"ThingName": row.name, "It": row.it}))
		task := p.finish(id)
		if task.Status != store.RegistrationDone || task.Good+task.Bad != 1 {
			t.Fatalf("%s: %+v", row.name, task)
		}
		if row.trouble != "" {
			if l := p.reported(id, "ERRORS"); len(l) != 1 || l[0].Response.Error.Code != row.trouble || l[0].Response.Error.Message == "" {
				t.Errorf("%s: %+v", row.name, l)
			}
			continue
		}
		l := p.reported(id, "RESULTS")
		if len(l) != 1 || l[0].Response.ResourceArns["certificate"] != here.IoT("cert", row.id) || !strings.HasPrefix(l[0].Response.CertificatePem, "-----BEGIN CERTIFICATE") {
			t.Fatalf("%s: %+v, errors %+v", row.name, l, p.reported(id, "ERRORS"))
		}
		if got := p.certificate(row.id).Status; got != fleet.Active {
			t.Errorf("%s: the certificate is %s", row.name, got)
		}
	}
}

// A line that the registry refuses leaves nothing, and takes nothing of the others with it.
func TestALineThatTheRegistryRefusesLeavesTheOthersWhole(t *testing.T) {
	t.Parallel()
	p := newPlant(t, nil)
	const body = `{"Parameters": {"ThingName": {"Type": "String"}, "It": {"Type": "String"}}, "Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "ThingName"}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "It"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "lamp"}}}}`
	var lines []string
	for i := range 6 {
		c, err := p.registry.CreateCertificateFromCSR(t.Context(), here, newCSR(t), true)
		check(t, err)
		if i == 3 { // it has as many policies as it may have, which comes to light when the line is to be written
			check(t, p.Store.Tx(t.Context(), func(tx *store.Tx) error {
				for n := range 10 {
					name := fmt.Sprintf("policy-%d", n)
					if _, err := registry.CreatePolicy(tx, here, name, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}`, nil); err != nil {
						return err
					}
					if err := registry.AttachPolicy(tx, here, name, here.IoT("cert", c.ID)); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		lines = append(lines, line(t, map[string]string{"ThingName": fmt.Sprintf("lamp-%d", i), "It": c.ID}))
	}
	var good, bad int64
	var ends []store.RegistrationStatus
	p.OnLines = func(g, b int64) { good, bad = good+g, bad+b }
	p.OnEnd = func(status store.RegistrationStatus) { ends = append(ends, status) }
	id := p.start(body, lines...)
	if task := p.finish(id); task.Status != store.RegistrationDone || task.Good != 5 || task.Bad != 1 {
		t.Fatalf("%+v", task)
	}
	if good != 5 || bad != 1 || len(ends) != 1 || ends[0] != store.RegistrationDone {
		t.Errorf("counted %d good, %d bad, ends %v", good, bad, ends)
	}
	if l := p.reported(id, "ERRORS"); len(l) != 1 || l[0].LineNumber != 4 || !strings.Contains(l[0].Response.Error.Message, "11 policies") {
		t.Errorf("%+v", l)
	}
	for i := range 6 {
		err := p.Store.View(t.Context(), func(tx *store.Tx) error { _, err := tx.Thing(here, fmt.Sprintf("lamp-%d", i)); return err })
		if gone := fleet.KindOf(err) == fleet.KindNotFound; gone != (i == 3) || err != nil && !gone {
			t.Errorf("thing %d: %v", i, err)
		}
	}
}
