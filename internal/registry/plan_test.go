package registry

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

const body = `{
  "Parameters": {"Serial": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
  "Resources": {
    "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}, "ThingTypeName": "lamp", "ThingGroups": ["left"],
        "BillingGroup": "cash", "AttributePayload": {"serial": {"Ref": "Serial"}}},
      "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "REPLACE"}},
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
    "named": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "named"}},
    "own": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ` + document + `}}
  }
}`

// register does what provisioning does in its transaction.
func register(tx *store.Tx, s fleet.Scope, requester, serial, certificate string) (*template.Plan, error) {
	tmpl, err := template.Parse(body, template.Fleet)
	if err != nil {
		return nil, err
	}
	d, err := tmpl.Evaluate(map[string]string{"Serial": serial}, map[string]string{template.CertificateID: certificate})
	if err != nil {
		return nil, err
	}
	snap, err := Snapshot(tx, s, d)
	if err != nil {
		return nil, err
	}
	snap.Requester = requester
	plan, err := template.Resolve(snap, d)
	if err != nil {
		return plan, err
	}
	return plan, Apply(tx, s, plan)
}

func hexID(n int) string { return fmt.Sprintf("%064x", n) }

func planWorld(t *testing.T) *world {
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		for _, err := range []error{
			second(CreateThingType(tx, here, "lamp", ThingTypeSpec{})), second(CreateBillingGroup(tx, here, "cash", "", nil)),
			second(CreateGroup(tx, here, GroupSpec{Name: "root"})), second(CreateGroup(tx, here, GroupSpec{Name: "left", Parent: "root"})),
			second(CreateGroup(tx, here, GroupSpec{Name: "right", Parent: "root"})), second(CreatePolicy(tx, here, "named", document, nil)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

func TestAPlanIsWrittenWhole(t *testing.T) {
	t.Parallel()
	w := planWorld(t)
	arn := w.certificate(here, hexID(1), fleet.PendingActivation)
	w.do(func(tx *store.Tx) error { return second(register(tx, here, arn, "a", hexID(1))) })
	describe := func() (out string) {
		w.do(func(tx *store.Tx) error {
			thing, err := tx.Thing(here, "a")
			if err != nil {
				return err
			}
			cert, err := tx.Certificate(here, hexID(1))
			if err != nil {
				return err
			}
			groups, _, err := tx.GroupsOf(here, "a", fleet.Page{})
			if err != nil {
				return err
			}
			policies, _, err := tx.PoliciesOf(here, arn, fleet.Page{})
			if err != nil {
				return err
			}
			principals, _, err := tx.PrincipalsOf(here, "a", "", fleet.Page{})
			out = fmt.Sprint(thing.Type, thing.Attributes, thing.BillingGroup, thing.Version, cert.Status, cert.Version, len(groups), groups[0].Name,
				len(policies), policies[len(policies)-1], principals)
			return err
		})
		return out
	}
	first := describe()
	for _, part := range []string{"lamp", "map[serial:a]", "cash", "ACTIVE", "left", "named", arn, "NON_EXCLUSIVE_THING"} {
		if !strings.Contains(first, part) {
			t.Errorf("%q is missing in %s", part, first)
		}
	}
	w.do(func(tx *store.Tx) error { return second(register(tx, here, arn, "a", hexID(1))) })
	if again := describe(); again != first {
		t.Errorf("the same again changed\n%s\nto\n%s", first, again)
	}
}

func TestAPlanChangesAThingAsItsTemplateSays(t *testing.T) {
	t.Parallel()
	w := planWorld(t)
	w.certificate(here, hexID(1), fleet.Inactive)
	w.do(func(tx *store.Tx) error {
		if _, err := CreateThing(tx, here, ThingSpec{Name: "a", Attributes: map[string]string{"old": "1"}}); err != nil {
			return err
		}
		return AddToGroup(tx, here, "a", "right")
	})
	w.do(func(tx *store.Tx) error { return second(register(tx, here, "", "a", hexID(1))) })
	w.do(func(tx *store.Tx) error {
		thing, err := tx.Thing(here, "a")
		if err != nil {
			return err
		}
		groups, _, err := tx.GroupsOf(here, "a", fleet.Page{})
		if fmt.Sprint(thing.Attributes) != "map[old:1 serial:a]" || thing.Type != "lamp" || thing.Version != 2 || thing.BillingGroup != "cash" ||
			len(groups) != 1 || groups[0].Name != "left" {
			t.Errorf("thing %+v in %v", thing, groups)
		}
		return err
	})
}

func TestASnapshotKnowsWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := w.try(func(tx *store.Tx) error {
		_, err := register(tx, here, "", "a", hexID(1))
		return err
	})
	refused(t, err, "not found")
	w.do(func(tx *store.Tx) error { // nothing of the refused attempt is there
		if _, err := tx.Thing(here, "a"); err == nil {
			t.Error("a refused registration left a thing")
		}
		return nil
	})
}

func TestOfManyCertificatesThatRaceForOneThingOneWins(t *testing.T) {
	t.Parallel()
	w := planWorld(t)
	const racers = 64
	for i := range racers {
		w.certificate(here, hexID(i), fleet.PendingActivation)
	}
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			errs[i] = w.try(func(tx *store.Tx) error { return second(register(tx, here, here.IoT("cert", "claim"), "a", hexID(i))) })
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			refused(t, err, "conflict")
		}
	}
	active := 0
	w.do(func(tx *store.Tx) error {
		all, _, err := tx.Certificates(here, store.CertificateFilter{}, fleet.Page{})
		active = 0
		for _, c := range all {
			if c.Status == fleet.Active {
				active++
			}
		}
		return err
	})
	if won != 1 || active != 1 {
		t.Errorf("%d won, %d certificates are active", won, active)
	}
}
