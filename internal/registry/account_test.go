package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.certificate(here, "c", fleet.Active)
	w.do(func(tx *store.Tx) error {
		if _, err := CreatePolicy(tx, here, "p", document, []fleet.Tag{{Key: "team", Value: "red"}}); err != nil {
			return err
		}
		if _, err := CreateThing(tx, here, ThingSpec{Name: "a"}); err != nil {
			return err
		}
		_, err := CreatePolicy(tx, there, "q", document, nil)
		return err
	})
	tag := func(arn string, tags ...fleet.Tag) func(*store.Tx) error {
		return func(tx *store.Tx) error { return Tag(tx, here, arn, tags) }
	}
	var fifty []fleet.Tag
	for i := range 50 {
		fifty = append(fifty, fleet.Tag{Key: fmt.Sprint("k", i)})
	}
	p := here.IoT("policy", "p")
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"setting and changing", func(tx *store.Tx) error {
			if err := Tag(tx, here, p, []fleet.Tag{{Key: "team", Value: "blue"}, {Key: "a b/c", Value: ""}}); err != nil {
				return err
			}
			if err := Untag(tx, here, p, []string{"none"}); err != nil {
				return err
			}
			got, err := Tags(tx, here, p)
			if fmt.Sprint(got) != "[{a b/c } {team blue}]" {
				t.Errorf("tags %v", got)
			}
			return err
		}, ""},
		{"removing", func(tx *store.Tx) error {
			if err := Untag(tx, here, p, []string{"team"}); err != nil {
				return err
			}
			got, err := Tags(tx, here, p)
			if len(got) != 0 {
				t.Errorf("tags %v", got)
			}
			return err
		}, ""},
		{"a 51st tag", tag(p, fifty...), "invalid"},
		{"a reserved key", tag(p, fleet.Tag{Key: "AWS:x"}), "invalid"},
		{"a key with a star", tag(p, fleet.Tag{Key: "*"}), "invalid"},
		{"a value too long", tag(p, fleet.Tag{Key: "k", Value: strings.Repeat("x", 257)}), "invalid"},
		{"a thing", tag(here.IoT("thing", "a")), "invalid"},
		{"a certificate", tag(here.IoT("cert", "c")), "invalid"},
		{"an unknown policy", tag(here.IoT("policy", "none")), "not found"},
		{"a kind that is not there yet", tag(here.IoT("rule", "r")), "not found"},
		{"a policy of another account", tag(there.IoT("policy", "q")), "not found"},
		{"no ARN", tag("p"), "invalid"},
		{"a bucket", tag("arn:aws:s3:::b"), "invalid"},
		{"tags of nothing", func(tx *store.Tx) error { _, err := Tags(tx, here, here.IoT("thinggroup", "none")); return err }, "not found"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ask := func(s fleet.Scope, kind string) string {
		host, err := w.Endpoint(t.Context(), s, kind)
		if err != nil {
			t.Fatal(err)
		}
		return host
	}
	if got := ask(here, "iot:Data-ATS"); got != "iot.lan" {
		t.Errorf("endpoint %q", got)
	}
	prefix, err := w.EndpointPrefix(t.Context(), here)
	if err != nil || len(prefix) != 14 {
		t.Fatalf("prefix %q, %v", prefix, err)
	}
	w.BaseDomain = "iot.lan"
	for kind, want := range map[string]string{
		"": "-ats.iot.us-east-1.iot.lan", "iot:Data": "-ats.iot.us-east-1.iot.lan", "iot:Data-ATS": "-ats.iot.us-east-1.iot.lan",
		"iot:CredentialProvider": ".credentials.iot.us-east-1.iot.lan", "iot:Jobs": ".jobs.iot.us-east-1.iot.lan",
	} {
		if got := ask(here, kind); got != prefix+want {
			t.Errorf("%s: %q, want %q", kind, got, prefix+want)
		}
	}
	if ask(there, "") == ask(here, "") {
		t.Error("two accounts have one endpoint")
	}
	_, err = w.Endpoint(t.Context(), here, "iot:Nothing")
	refused(t, err, "invalid")
	if err.Error() != "Endpoint type iot:Nothing not recognized." {
		t.Errorf("text %q", err)
	}
	w.do(func(tx *store.Tx) error {
		s, found, err := tx.ScopeOfEndpoint(prefix)
		if s != here || !found {
			t.Errorf("prefix %s leads to %s", prefix, s)
		}
		return err
	})
}

func TestEventConfigurationsAreMerged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, step := range []struct {
		set  map[string]bool
		want []string
	}{
		{map[string]bool{"THING": true, "JOB": true}, []string{"THING", "JOB"}},
		{map[string]bool{"JOB": false, "POLICY": true}, []string{"THING", "POLICY"}},
		{nil, []string{"THING", "POLICY"}},
		{map[string]bool{"THING": false, "POLICY": false}, nil},
	} {
		w.do(func(tx *store.Tx) error {
			if err := UpdateEvents(tx, here, step.set); err != nil {
				return err
			}
			got, err := tx.EventConfigurations(here)
			if !slices.Equal(got.Enabled, step.want) || got.Created.IsZero() {
				t.Errorf("after %v: %+v", step.set, got)
			}
			return err
		})
	}
	refused(t, w.try(func(tx *store.Tx) error { return UpdateEvents(tx, here, map[string]bool{"THINGS": true}) }), "invalid")
}

// TestNamesOfAnotherAccountFindNothing tries every rule with names that only another account has.
func TestNamesOfAnotherAccountFindNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := w.certificate(there, "c", fleet.Active)
	w.do(func(tx *store.Tx) error {
		for _, err := range []error{
			second(CreateThingType(tx, there, "x", ThingTypeSpec{})), second(CreateBillingGroup(tx, there, "x", "", nil)),
			second(CreateGroup(tx, there, GroupSpec{Name: "x"})), second(CreatePolicy(tx, there, "x", document, nil)),
			second(CreateThing(tx, there, ThingSpec{Name: "x"})), AddToGroup(tx, there, "x", "x"), AttachPrincipal(tx, there, "x", arn, ""),
			AttachPolicy(tx, there, "x", arn), second(CreateThing(tx, here, ThingSpec{Name: "mine"})), second(CreatePolicy(tx, here, "mine", document, nil)),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	const none, done = "not found", ""
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
	}{
		{"UpdateThing", func(tx *store.Tx) error { return second(UpdateThing(tx, here, "x", ThingChange{})) }, none},
		{"UpdateThing with its type", func(tx *store.Tx) error { return second(UpdateThing(tx, here, "mine", ThingChange{Type: sp("x")})) }, none},
		{"DeleteThing", func(tx *store.Tx) error { return DeleteThing(tx, here, "x", nil) }, done},
		{"CreateThing with its type", func(tx *store.Tx) error { return second(CreateThing(tx, here, ThingSpec{Name: "y", Type: "x"})) }, none},
		{"CreateThing in its billing group", func(tx *store.Tx) error {
			return second(CreateThing(tx, here, ThingSpec{Name: "y", BillingGroup: "x"}))
		}, none},
		{"AttachPrincipal", func(tx *store.Tx) error { return AttachPrincipal(tx, here, "mine", arn, "") }, none},
		{"AttachPrincipal under our name", func(tx *store.Tx) error { return AttachPrincipal(tx, here, "mine", here.IoT("cert", "c"), "") }, none},
		{"AttachPrincipal to its thing", func(tx *store.Tx) error { return AttachPrincipal(tx, here, "x", arn, "") }, none},
		{"DetachPrincipal", func(tx *store.Tx) error { return DetachPrincipal(tx, here, "x", arn) }, none},
		{"UpdateThingType", func(tx *store.Tx) error { return UpdateThingType(tx, here, "x", ThingTypeSpec{}) }, none},
		{"DeprecateThingType", func(tx *store.Tx) error { return DeprecateThingType(tx, here, "x", false) }, none},
		{"CreateGroup below its group", func(tx *store.Tx) error { return second(CreateGroup(tx, here, GroupSpec{Name: "y", Parent: "x"})) }, none},
		{"UpdateGroup", func(tx *store.Tx) error { return second(UpdateGroup(tx, here, "x", GroupChange{})) }, none},
		{"AddToGroup", func(tx *store.Tx) error { return AddToGroup(tx, here, "mine", "x") }, none},
		{"RemoveFromGroup", func(tx *store.Tx) error { return RemoveFromGroup(tx, here, "mine", "x") }, none},
		{"UpdateBillingGroup", func(tx *store.Tx) error { return second(UpdateBillingGroup(tx, here, "x", nil, nil)) }, none},
		{"AddToBillingGroup", func(tx *store.Tx) error { return AddToBillingGroup(tx, here, "mine", "x") }, none},
		{"RemoveFromBillingGroup", func(tx *store.Tx) error { return RemoveFromBillingGroup(tx, here, "mine", "x") }, none},
		{"SetCertificateStatus", func(tx *store.Tx) error { return SetCertificateStatus(tx, here, "c", fleet.Inactive) }, none},
		{"DeleteCertificate", func(tx *store.Tx) error { return DeleteCertificate(tx, here, "c", true) }, none},
		{"AddPolicyVersion", func(tx *store.Tx) error { return second(AddPolicyVersion(tx, here, "x", document, true)) }, none},
		{"PolicyVersion", func(tx *store.Tx) error { return second(PolicyVersion(tx, here, "x", "1")) }, none},
		{"SetDefaultPolicyVersion", func(tx *store.Tx) error { return SetDefaultPolicyVersion(tx, here, "x", "1") }, none},
		{"DeletePolicyVersion", func(tx *store.Tx) error { return DeletePolicyVersion(tx, here, "x", "1") }, none},
		{"DeletePolicy", func(tx *store.Tx) error { return DeletePolicy(tx, here, "x") }, none},
		{"AttachPolicy", func(tx *store.Tx) error { return AttachPolicy(tx, here, "x", arn) }, none},
		{"AttachPolicy to its certificate", func(tx *store.Tx) error { return AttachPolicy(tx, here, "mine", arn) }, none},
		{"AttachPolicy to its group", func(tx *store.Tx) error { return AttachPolicy(tx, here, "mine", there.IoT("thinggroup", "x")) }, none},
		{"DetachPolicy", func(tx *store.Tx) error { return DetachPolicy(tx, here, "x", arn) }, none},
		{"EffectivePolicies", func(tx *store.Tx) error { return second(EffectivePolicies(tx, here, arn, "", "")) }, none},
		{"EffectivePolicies of its thing", func(tx *store.Tx) error { return second(EffectivePolicies(tx, here, "", "", "x")) }, none},
		{"Rehearse", func(tx *store.Tx) error { return second(Rehearse(tx, here, Rehearsal{Principal: arn})) }, none},
		{"Tag", func(tx *store.Tx) error { return Tag(tx, here, there.IoT("policy", "x"), nil) }, none},
		{"Tag under our name", func(tx *store.Tx) error { return Tag(tx, here, here.IoT("policy", "x"), nil) }, none},
		{"Untag", func(tx *store.Tx) error { return Untag(tx, here, there.IoT("policy", "x"), nil) }, none},
		{"Tags", func(tx *store.Tx) error { return second(Tags(tx, here, there.IoT("policy", "x"))) }, none},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, undone(w, c.act), c.want) })
	}
	refused(t, w.DeleteThingType(t.Context(), here, "x"), none)
	refused(t, w.DeleteGroup(t.Context(), here, "x", nil), done)
	refused(t, w.DeleteBillingGroup(t.Context(), here, "x", nil), done)
	w.do(func(tx *store.Tx) error { // and everything is where it was
		for _, err := range []error{second(tx.ThingType(there, "x")), second(tx.BillingGroup(there, "x")), second(tx.Group(there, "x")), second(tx.Thing(there, "x"))} {
			if err != nil {
				t.Error(err)
			}
		}
		return nil
	})
}

func second[T any](_ T, err error) error { return err }
