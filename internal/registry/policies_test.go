package registry

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.certificate(here, "c", fleet.Active)
	full := w.certificate(here, "full", fleet.Active)
	foreign := w.certificate(there, "foreign", fleet.Active)
	w.do(func(tx *store.Tx) error {
		for i := range 11 {
			if _, err := CreatePolicy(tx, here, fmt.Sprint("p", i), document, nil); err != nil {
				return err
			}
			if i < 10 {
				if err := AttachPolicy(tx, here, fmt.Sprint("p", i), full); err != nil {
					return err
				}
			}
		}
		for range 4 {
			if _, err := AddPolicyVersion(tx, here, "p10", document, false); err != nil {
				return err
			}
		}
		if _, err := CreateGroup(tx, here, GroupSpec{Name: "g"}); err != nil {
			return err
		}
		for _, p := range []string{"p0", "p1"} {
			if err := AttachPolicy(tx, here, p, here.IoT("thinggroup", "g")); err != nil {
				return err
			}
		}
		_, err := CreatePolicy(tx, here, "free", document, nil)
		return err
	})
	create := func(name, doc string) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := CreatePolicy(tx, here, name, doc, nil); return err }
	}
	version := func(name, doc string) func(*store.Tx) error {
		return func(tx *store.Tx) error { _, err := AddPolicyVersion(tx, here, name, doc, false); return err }
	}
	attach := func(name, target string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return AttachPolicy(tx, here, name, target) }
	}
	detach := func(name, target string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return DetachPolicy(tx, here, name, target) }
	}
	long := strings.Replace(document, "iot:Connect", "iot:"+strings.Repeat("x", 2048), 1)
	blank := document + strings.Repeat(" ", 5000)
	for _, c := range []struct {
		name string
		act  func(*store.Tx) error
		want string
		text string
	}{
		{"the same again exists", create("p0", document), "exists", "Policy cannot be created - name already exists (name=p0)"},
		{"no JSON", create("x", "{"), "malformed policy", ""},
		{"no statement", create("x", `{"Version":"2012-10-17"}`), "malformed policy", ""},
		{"a principal", create("x", strings.Replace(document, `"Effect"`, `"Principal":"*","Effect"`, 1)), "malformed policy", ""},
		{"too long", create("x", long), "malformed policy", ""},
		{"blanks do not count", create("x", blank), "", ""},
		{"a name with a blank", create("a b", document), "invalid", ""},
		{"a name with a plus", create("a+b", document), "", ""},

		{"a sixth version", version("p10", document), "versions limit", "The policy p10 already has the maximum number of versions (5)"},
		{"a version of nothing", version("none", document), "not found", ""},
		{"a malformed version", version("p0", "[]"), "malformed policy", ""},
		{"an unknown default", func(tx *store.Tx) error { return SetDefaultPolicyVersion(tx, here, "p0", "2") }, "not found", ""},
		{"the default again", func(tx *store.Tx) error { return SetDefaultPolicyVersion(tx, here, "p0", "1") }, "", ""},
		{"deleting the default version", func(tx *store.Tx) error { return DeletePolicyVersion(tx, here, "p10", "1") }, "in use", ""},
		{"deleting another version", func(tx *store.Tx) error { return DeletePolicyVersion(tx, here, "p10", "2") }, "", ""},
		{"deleting an unknown version", func(tx *store.Tx) error { return DeletePolicyVersion(tx, here, "p10", "6") }, "not found", ""},
		{"a version written with a zero", func(tx *store.Tx) error { return DeletePolicyVersion(tx, here, "p10", "02") }, "not found", ""},

		{"attaching again", attach("p0", full), "", ""},
		{"an eleventh policy of a certificate", attach("p10", full), "limit", ""},
		{"a third policy of a group", attach("p2", here.IoT("thinggroup", "g")), "limit", ""},
		{"an identity", attach("p0", "us-east-1:01234567-89ab-cdef-0123-456789abcdef"), "", ""},
		{"an unknown policy", attach("none", c), "not found", ""},
		{"an unknown certificate", attach("p0", here.IoT("cert", "none")), "not found", ""},
		{"an unknown group", attach("p0", here.IoT("thinggroup", "none")), "not found", ""},
		{"a certificate of another account", attach("p0", foreign), "not found", ""},
		{"a thing", attach("p0", here.IoT("thing", "a")), "invalid", ""},
		{"detaching", detach("p0", full), "", ""},
		{"detaching what is not attached", detach("p0", c), "", ""},
		{"detaching nothing", detach("none", c), "not found", ""},

		{"deleting an attached policy", func(tx *store.Tx) error { return DeletePolicy(tx, here, "p0") }, "in use",
			"The policy cannot be deleted as the policy is attached to one or more principals (name=p0)"},
		{"deleting one with versions", func(tx *store.Tx) error { return DeletePolicy(tx, here, "p10") }, "in use",
			"Cannot delete the policy because it has one or more policy versions attached to it (name=p10)"},
		{"deleting a free one", func(tx *store.Tx) error { return DeletePolicy(tx, here, "free") }, "", ""},
		{"deleting nothing", func(tx *store.Tx) error { return DeletePolicy(tx, here, "none") }, "not found", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := undone(w, c.act)
			refused(t, err, c.want)
			if c.text != "" && (err == nil || err.Error() != c.text) {
				t.Errorf("text %q, want %q", err, c.text)
			}
		})
	}
}

func TestVersionsOfAPolicyAreNumberedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error {
		if _, err := CreatePolicy(tx, here, "p", document, nil); err != nil {
			return err
		}
		for want := 2; want <= 8; want++ {
			v, err := AddPolicyVersion(tx, here, "p", document+strings.Repeat(" ", want), want%2 == 0)
			if err != nil {
				return err
			}
			if v.ID != want {
				t.Errorf("version %d is numbered %d", want, v.ID)
			}
			p, err := tx.Policy(here, "p")
			if err != nil {
				return err
			}
			if inForce := want - want%2; p.Default != inForce || p.Document != document+strings.Repeat(" ", inForce) {
				t.Errorf("after version %d, %d is in force", want, p.Default)
			}
			old := max(1, want-2) // the default before
			if want%2 == 1 {
				old = want
			}
			if err := DeletePolicyVersion(tx, here, "p", fmt.Sprint(old)); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestAPolicyIsNeverAttachedAndDeletedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.certificate(here, "c", fleet.Inactive)
	for round := range 20 {
		name := fmt.Sprint("p", round)
		w.do(func(tx *store.Tx) error { _, err := CreatePolicy(tx, here, name, document, nil); return err })
		var attach, remove error
		var wg sync.WaitGroup
		wg.Go(func() { attach = w.try(func(tx *store.Tx) error { return AttachPolicy(tx, here, name, c) }) })
		wg.Go(func() { remove = w.try(func(tx *store.Tx) error { return DeletePolicy(tx, here, name) }) })
		wg.Wait()
		switch {
		case attach == nil && fleet.KindOf(orInternal(remove)) == fleet.KindInUse:
			w.do(func(tx *store.Tx) error { return DetachPolicy(tx, here, name, c) })
		case remove == nil && fleet.KindOf(orInternal(attach)) == fleet.KindNotFound:
		default:
			t.Errorf("attach: %v, delete: %v", attach, remove)
		}
	}
}

func orInternal(err error) error {
	if err == nil {
		return fmt.Errorf("none")
	}
	return err
}

func TestACertificateIsNeverAttachedAndDeletedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(func(tx *store.Tx) error { _, err := CreateThing(tx, here, ThingSpec{Name: "a"}); return err })
	for round := range 20 {
		id := fmt.Sprint("c", round)
		arn := w.certificate(here, id, fleet.Inactive)
		var attach, remove error
		var wg sync.WaitGroup
		wg.Go(func() { attach = w.try(func(tx *store.Tx) error { return AttachPrincipal(tx, here, "a", arn, "") }) })
		wg.Go(func() { remove = w.try(func(tx *store.Tx) error { return DeleteCertificate(tx, here, id, true) }) })
		wg.Wait()
		attached := attach == nil && fleet.KindOf(orInternal(remove)) == fleet.KindInUse
		deleted := remove == nil && fleet.KindOf(orInternal(attach)) == fleet.KindNotFound
		if attached == deleted {
			t.Errorf("attach: %v, delete: %v", attach, remove)
		}
	}
}

func TestExclusiveAttachmentsThatRaceLeaveOneWinner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := w.certificate(here, "c", fleet.Active)
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		w.do(func(tx *store.Tx) error {
			_, err := CreateThing(tx, here, ThingSpec{Name: fmt.Sprint("t", i)})
			return err
		})
	}
	for i := range errs {
		wg.Go(func() {
			errs[i] = w.try(func(tx *store.Tx) error { return AttachPrincipal(tx, here, fmt.Sprint("t", i), arn, fleet.Exclusive) })
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			refused(t, err, "invalid")
		}
	}
	if won != 1 {
		t.Errorf("%d attachments won", won)
	}
}

func TestRehearsalDecidesAsAConnectionWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arn := w.certificate(here, "c", fleet.Active)
	allow := func(action, resource string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:` + action + `","Resource":"arn:aws:iot:us-east-1:111111111111:` + resource + `"}}`
	}
	w.do(func(tx *store.Tx) error {
		for name, doc := range map[string]string{
			"own":  allow("Publish", "topic/t/${iot:Connection.Thing.ThingName}/*"),
			"site": allow("Publish", "topic/${iot:Connection.Thing.Attributes[site]}"),
			"deny": strings.Replace(allow("*", "topic/t/a/secret"), "Allow", "Deny", 1),
			"free": allow("Connect", "client/*"),
		} {
			if _, err := CreatePolicy(tx, here, name, doc, nil); err != nil {
				return err
			}
		}
		if _, err := CreateThing(tx, here, ThingSpec{Name: "a", Attributes: map[string]string{"site": "oslo"}}); err != nil {
			return err
		}
		if _, err := CreateGroup(tx, here, GroupSpec{Name: "g"}); err != nil {
			return err
		}
		for _, err := range []error{AttachPrincipal(tx, here, "a", arn, ""), AttachPolicy(tx, here, "own", arn), AttachPolicy(tx, here, "deny", arn),
			AddToGroup(tx, here, "a", "g"), AttachPolicy(tx, here, "site", here.IoT("thinggroup", "g"))} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	topic := func(names ...string) []string {
		var out []string
		for _, n := range names {
			out = append(out, here.IoT("topic", n))
		}
		return out
	}
	for _, c := range []struct {
		name     string
		q        Rehearsal
		decision policy.Decision
		detail   string
	}{
		{"its own topic", Rehearsal{ClientID: "a", Actions: []RehearsedAction{{"PUBLISH", topic("t/a/x")}}}, policy.Allowed, "[own] [] [deny site] []"},
		{"a topic that its group allows", Rehearsal{ClientID: "a", Actions: []RehearsedAction{{"PUBLISH", topic("oslo")}}}, policy.Allowed, "[site] [] [deny own] []"},
		{"an explicit denial", Rehearsal{ClientID: "a", Actions: []RehearsedAction{{"PUBLISH", topic("t/a/secret")}}}, policy.ExplicitDeny, "[own] [deny] [site] []"},
		{"one of two topics", Rehearsal{ClientID: "a", Actions: []RehearsedAction{{"PUBLISH", topic("t/a/x", "t/b/x")}}}, policy.ImplicitDeny, "[own] [] [deny site own] []"},
		{"another client id is no thing", Rehearsal{ClientID: "b", Actions: []RehearsedAction{{"PUBLISH", topic("t/a/x")}}}, policy.ImplicitDeny,
			"[] [] [deny own] [iot:Connection.Thing.ThingName]"},
		{"a policy left out", Rehearsal{ClientID: "a", Skip: []string{"own"}, Actions: []RehearsedAction{{"PUBLISH", topic("t/a/x")}}}, policy.ImplicitDeny, "[] [] [deny site] []"},
		{"a policy added", Rehearsal{ClientID: "a", Add: []string{"free"}, Actions: []RehearsedAction{{"CONNECT", []string{here.IoT("client", "a")}}}}, policy.Allowed,
			"[free] [] [deny own site] []"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.Principal = arn
			w.do(func(tx *store.Tx) error {
				got, err := Rehearse(tx, here, c.q)
				if err != nil {
					return err
				}
				o := got[0]
				if detail := fmt.Sprint(o.Allowing, o.Denying, o.Silent, o.Missing); o.Decision != c.decision || detail != c.detail {
					t.Errorf("%v %s, want %v %s", o.Decision, detail, c.decision, c.detail)
				}
				return nil
			})
		})
	}
	for name, q := range map[string]Rehearsal{"invalid": {Principal: arn, Actions: []RehearsedAction{{"FLY", topic("a")}}},
		"not found": {Principal: arn, Add: []string{"none"}}} {
		refused(t, undone(w, func(tx *store.Tx) error { _, err := Rehearse(tx, here, q); return err }), name)
	}
	refused(t, undone(w, func(tx *store.Tx) error { _, err := EffectivePolicies(tx, here, "", "", ""); return err }), "invalid")
	refused(t, undone(w, func(tx *store.Tx) error { _, err := EffectivePolicies(tx, here, arn, "", "none"); return err }), "not found")
}

func TestAnIdentityOfAPoolIsTriedAsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const pool, ida, bob = "us-east-1:pool", "us-east-1:01234567-89ab-cdef-0123-456789abcdef", "us-east-1:11234567-89ab-cdef-0123-456789abcdef"
	w.do(func(tx *store.Tx) error {
		for s, id := range map[fleet.Scope]string{here: ida, there: bob} {
			if err := errors.Join(tx.CreateIdentityPool(store.IdentityPool{Scope: s, ID: pool + s.Account}), tx.CreateIdentity(s, pool+s.Account, id)); err != nil {
				return err
			}
		}
		document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"*","Condition":{"StringEquals":{"cognito-identity.amazonaws.com:aud":"` + pool + here.Account + `"}}}]}`
		if _, err := CreatePolicy(tx, here, "own", document, nil); err != nil {
			return err
		}
		return AttachPolicy(tx, here, "own", ida)
	})
	publish := []RehearsedAction{{"PUBLISH", []string{here.IoT("topic", "a")}}}
	w.do(func(tx *store.Tx) error {
		for _, c := range []struct {
			pool string
			want policy.Decision
		}{{pool + here.Account, policy.Allowed}, {"", policy.ImplicitDeny}} {
			got, err := Rehearse(tx, here, Rehearsal{Principal: ida, Pool: c.pool, Actions: publish})
			if err != nil || got[0].Decision != c.want {
				t.Errorf("with the pool %q: %+v, %v", c.pool, got, err)
			}
		}
		list, err := EffectivePolicies(tx, here, ida, pool+here.Account, "")
		if len(list) != 1 || list[0].Name != "own" {
			t.Errorf("effective: %v", list)
		}
		return err
	})
	for principal, kind := range map[string]string{bob: "not found", here.IoT("cert", "x"): "invalid", "": "invalid"} {
		refused(t, undone(w, func(tx *store.Tx) error {
			_, err := EffectivePolicies(tx, here, principal, pool+here.Account, "")
			return err
		}), kind)
	}
	for _, other := range []string{pool + there.Account, "us-east-1:none"} {
		refused(t, undone(w, func(tx *store.Tx) error {
			_, err := Rehearse(tx, here, Rehearsal{Principal: ida, Pool: other, Actions: publish})
			return err
		}), "not found")
	}
}
