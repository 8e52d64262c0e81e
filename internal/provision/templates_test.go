package provision

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const empty = `{"Resources":{}}`

func TestTemplatesAreCheckedWhenMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hook := &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check"}
	for name, c := range map[string]struct {
		change func(*NewTemplate)
		kind   fleet.Kind
	}{
		"a name with a dot":            {func(n *NewTemplate) { n.Name = "a.b" }, fleet.KindInvalid},
		"a long name":                  {func(n *NewTemplate) { n.Name = strings.Repeat("a", 37) }, fleet.KindInvalid},
		"an unknown type":              {func(n *NewTemplate) { n.Type = "BULK" }, fleet.KindInvalid},
		"a bad body":                   {func(n *NewTemplate) { n.Body = "{}" }, fleet.KindInvalid},
		"no role":                      {func(n *NewTemplate) { n.RoleARN = "arn:aws:iam::000000000000:user/x" }, fleet.KindInvalid},
		"a role of others":             {func(n *NewTemplate) { n.RoleARN = "arn:aws:iam::111111111111:role/x" }, fleet.KindInvalid},
		"a long description":           {func(n *NewTemplate) { n.Description = strings.Repeat("x", 501) }, fleet.KindInvalid},
		"a description of control":     {func(n *NewTemplate) { n.Description = "a\x00" }, fleet.KindInvalid},
		"a hook for JITP":              {func(n *NewTemplate) { n.Type, n.Hook = fleet.JITP, hook }, fleet.KindInvalid},
		"a hook that is no function":   {func(n *NewTemplate) { n.Hook = &fleet.Hook{TargetARN: "arn:aws:sns:us-east-1:000000000000:x"} }, fleet.KindInvalid},
		"a hook of a strange contract": {func(n *NewTemplate) { n.Hook = &fleet.Hook{PayloadVersion: "x", TargetARN: hook.TargetARN} }, fleet.KindInvalid},
		"too many tags":                {func(n *NewTemplate) { n.Tags = make([]fleet.Tag, 60) }, fleet.KindInvalid},
		"a name that is taken":         {func(n *NewTemplate) { n.Name = "taken" }, fleet.KindExists},
	} {
		if c.kind == fleet.KindExists {
			f.template("taken", empty)
		}
		n := NewTemplate{Name: "x", Body: empty, RoleARN: role}
		c.change(&n)
		_, err := f.CreateTemplate(t.Context(), installer, n)
		if err == nil || fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if c.kind == fleet.KindExists && err.Error() != "Template with name taken already exists" {
			t.Errorf("AWS says something else than %q", err)
		}
	}
	f.iam.refuse("pass")
	if _, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "x", Body: empty, RoleARN: role}); err == nil || fleet.KindOf(err) != fleet.KindDenied {
		t.Errorf("without iam:PassRole: %v", err)
	}
	if list := view(f, func(tx *store.Tx) ([]fleet.Template, error) {
		l, _, err := tx.Templates(here, fleet.Page{})
		return l, err
	}); len(list) != 1 {
		t.Errorf("%d templates, one was made well", len(list))
	}
}

func TestATemplateReadsBackAsItWasMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "x", Description: "d", Body: empty, RoleARN: role,
		Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check:1"}, Tags: []fleet.Tag{{Key: "k", Value: "v"}}})
	check(t, err)
	got := view(f, func(tx *store.Tx) (fleet.Template, error) { return tx.Template(here, "x") })
	if got.Enabled != nil || got.Type != fleet.FleetProvisioning || got.Default != 1 || got.Body != empty || got.Hook.PayloadVersion != "2020-04-01" || got.Description != "d" || got.Created.IsZero() {
		t.Errorf("%+v", got)
	}
	if tags := view(f, func(tx *store.Tx) ([]fleet.Tag, error) { return tx.Tags(here, "provisioningtemplate/x") }); len(tags) != 1 {
		t.Errorf("tags %v", tags)
	}
	check(t, f.UpdateTemplate(t.Context(), installer, "x", TemplateChange{Enabled: new(true), RemoveHook: true, Description: new(""), RoleARN: new(role + "2")}))
	got = view(f, func(tx *store.Tx) (fleet.Template, error) { return tx.Template(here, "x") })
	if got.Enabled == nil || !*got.Enabled || got.Hook != nil || got.Description != "" || got.RoleARN != role+"2" {
		t.Errorf("%+v", got)
	}
	check(t, f.UpdateTemplate(t.Context(), installer, "x", TemplateChange{Enabled: new(false)}))
	if got = view(f, func(tx *store.Tx) (fleet.Template, error) { return tx.Template(here, "x") }); got.Enabled == nil || *got.Enabled {
		t.Errorf("%+v", got)
	}
}

func TestBadUpdatesChangeNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("x", empty)
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "j", Body: empty, RoleARN: role, Type: fleet.JITP})
	check(t, err)
	hook := &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check"}
	for name, c := range map[string]struct {
		template string
		change   TemplateChange
		kind     fleet.Kind
	}{
		"an unknown template":     {"nope", TemplateChange{}, fleet.KindNotFound},
		"an unknown version":      {"x", TemplateChange{Default: new(2)}, fleet.KindNotFound},
		"a hook set and removed":  {"x", TemplateChange{Hook: hook, RemoveHook: true}, fleet.KindInvalid},
		"a hook for JITP":         {"j", TemplateChange{Hook: hook}, fleet.KindInvalid},
		"no role":                 {"x", TemplateChange{RoleARN: new("x")}, fleet.KindInvalid},
		"a description too long":  {"x", TemplateChange{Description: new(strings.Repeat("x", 501))}, fleet.KindInvalid},
		"a role of other account": {"x", TemplateChange{RoleARN: new("arn:aws:iam::111111111111:role/x")}, fleet.KindInvalid},
	} {
		if err := f.UpdateTemplate(t.Context(), installer, c.template, c.change); err == nil || fleet.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("x", empty)
	for i := 2; i <= 5; i++ {
		v, err := f.CreateTemplateVersion(t.Context(), here, "x", fmt.Sprintf(`{"Resources":{},"Parameters":{"P%d":{"Type":"String"}}}`, i), i == 3)
		check(t, err)
		if v.ID != i || v.Default != (i == 3) {
			t.Errorf("version %+v", v)
		}
	}
	kind := func(err error) fleet.Kind {
		if err == nil {
			t.Error("allowed")
			return 0
		}
		return fleet.KindOf(err)
	}
	_, err := f.CreateTemplateVersion(t.Context(), here, "x", empty, false)
	if kind(err) != fleet.KindVersionsLimit {
		t.Errorf("a sixth version: %v", err)
	}
	if err := f.DeleteTemplateVersion(t.Context(), here, "x", 3); kind(err) != fleet.KindInUse {
		t.Errorf("the default: %v", err)
	}
	if err := f.DeleteTemplateVersion(t.Context(), here, "x", 9); kind(err) != fleet.KindNotFound {
		t.Errorf("an unknown version: %v", err)
	}
	if err := f.DeleteTemplateVersion(t.Context(), here, "nope", 1); kind(err) != fleet.KindNotFound {
		t.Errorf("an unknown template: %v", err)
	}
	check(t, f.DeleteTemplateVersion(t.Context(), here, "x", 5))
	v, err := f.CreateTemplateVersion(t.Context(), here, "x", empty, false)
	check(t, err)
	if v.ID != 6 {
		t.Errorf("id %d was used before", v.ID)
	}
	_, err = f.CreateTemplateVersion(t.Context(), here, "x", "{}", false)
	if kind(err) != fleet.KindInvalid {
		t.Errorf("a bad body: %v", err)
	}
	_, err = f.CreateTemplateVersion(t.Context(), here, "nope", empty, false)
	if kind(err) != fleet.KindNotFound {
		t.Errorf("an unknown template: %v", err)
	}
	var ids []int
	page := fleet.Page{Limit: 2}
	for {
		var next string
		list := view(f, func(tx *store.Tx) (l []fleet.TemplateVersion, err error) {
			l, next, err = tx.TemplateVersions(here, "x", page)
			return l, err
		})
		for _, v := range list {
			ids = append(ids, v.ID)
			if v.Default != (v.ID == 3) {
				t.Errorf("version %+v", v)
			}
		}
		if page.After = next; next == "" {
			break
		}
	}
	if fmt.Sprint(ids) != "[1 2 3 4 6]" {
		t.Errorf("versions %v", ids)
	}
	check(t, f.UpdateTemplate(t.Context(), installer, "x", TemplateChange{Default: new(2)}))
	if got := view(f, func(tx *store.Tx) (fleet.Template, error) { return tx.Template(here, "x") }); got.Default != 2 || !strings.Contains(got.Body, "P2") {
		t.Errorf("%+v", got)
	}
}

// lookedUp is a hook that somebody asks for.
type lookedUp func()

func (lookedUp) Invoke(context.Context, HookEvent) (HookAnswer, error) { return HookAnswer{}, nil }

func (l lookedUp) Known(*store.Tx, fleet.Scope, string) error { l(); return nil }

func TestAVersionIsForTheTemplateThatItWasCheckedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const body = `{"Parameters": {"Serial": {"Type": "String"}}, "Resources": {"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "Serial"}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:us-east-1:000000000000:client/${iot:Connection.Thing.ThingName}"}]}}}}}`
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "x", Body: empty, RoleARN: role, Hook: &fleet.Hook{TargetARN: "arn:aws:lambda:us-east-1:000000000000:function:check"}})
	check(t, err)
	f.TemplateLint = LintErrors
	f.Hook = lookedUp(func() { // while the body is checked
		f.TemplateLint = LintAWS
		check(t, f.DeleteTemplate(t.Context(), here, "x"))
		_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "x", Body: empty, RoleARN: role, Type: fleet.JITP})
		check(t, err)
	})
	if v, err := f.CreateTemplateVersion(t.Context(), here, "x", body, true); fleet.KindOf(err) != fleet.KindConflict {
		t.Errorf("the body of a fleet template became %+v of one of type JITP, %v", v, err)
	}
}

func TestDeletingATemplateTakesAllOfIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.template("x", empty)
	check(t, f.DeleteTemplate(t.Context(), here, "x"))
	if err := f.DeleteTemplate(t.Context(), here, "x"); err == nil || fleet.KindOf(err) != fleet.KindNotFound {
		t.Errorf("again: %v", err)
	}
	f.template("x", empty)
	if l := view(f, func(tx *store.Tx) ([]fleet.TemplateVersion, error) {
		l, _, err := tx.TemplateVersions(here, "x", fleet.Page{})
		return l, err
	}); len(l) != 1 || l[0].ID != 1 {
		t.Errorf("versions %+v", l)
	}
}

func TestAScopeHasOnlySoManyTemplates(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Limits.Templates = 2
	f.template("a", empty)
	f.template("b", empty)
	_, err := f.CreateTemplate(t.Context(), installer, NewTemplate{Name: "c", Body: empty, RoleARN: role})
	if err == nil || fleet.KindOf(err) != fleet.KindLimit {
		t.Errorf("got %v", err)
	}
	other := *installer
	other.Scope.Region = "eu-west-1"
	_, err = f.CreateTemplate(t.Context(), &other, NewTemplate{Name: "c", Body: empty, RoleARN: role})
	check(t, err)
}
