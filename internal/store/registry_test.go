package store

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"pgregory.net/rapid"
)

var (
	scopeA = fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	scopeB = fleet.Scope{Account: "222222222222", Region: "us-east-1"}
)

// registryFiles hold the queries of the registry, registryTables its tables.
var (
	registryFiles = []string{"things.go", "groups.go", "principals.go", "certificates.go", "policies.go", "tags.go", "endpoints.go", "successions.go", "containments.go",
		"orphans.go", "expiry.go", "cas.go"}
	registryTables = []string{"things", "thing_attributes", "thing_types", "thing_groups", "thing_group_members", "billing_groups", "certificates",
		"thing_principals", "policies", "policy_versions", "policy_attachments", "tags", "endpoints", "event_configurations", "successions", "certificate_use",
		"containments", "registrations", "ca_certificates", "registration_codes", "first_connections"}
)

// marker stands in everything that belongs to the first scope; name is shared by both.
const (
	marker = "belongs-to-A"
	shared = "shared"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// populate gives a scope one of everything, all with the same name.
func populate(tx *Tx, s fleet.Scope) error {
	now := tx.Now()
	attributes := map[string]string{"shared": marker}
	_, err := tx.CreateEndpointPrefix(s, marker)
	steps := []error{
		err,
		tx.PutThingType(s, fleet.ThingType{Name: shared, ID: marker, Created: now}),
		tx.PutBillingGroup(s, fleet.BillingGroup{Name: shared, ID: marker, Version: 1, Created: now}),
		tx.CreateThing(s, fleet.Thing{Name: shared, ID: marker, Type: shared, Attributes: attributes, BillingGroup: shared, Version: 1, Created: now}),
		tx.CreateGroup(s, fleet.ThingGroup{Name: shared, ID: marker, Version: 1, Created: now}),
		tx.CreateGroup(s, fleet.ThingGroup{Name: "child-" + marker, ID: marker, Parent: shared, Path: []string{shared}, Version: 1, Created: now}),
		tx.CreateCertificate(s, fleet.Certificate{ID: shared, PEM: marker, Status: fleet.PendingActivation, CAID: shared, Created: now, Version: 1,
			Origin: fleet.CertificateOrigin{ClaimID: shared, CSRHash: shared, Expires: now.Add(time.Hour)}}),
		tx.CreatePolicy(s, fleet.Policy{Name: shared, Document: marker, Created: now, Generation: marker}),
		tx.AttachThing(s, fleet.Attachment{Thing: shared, Principal: s.IoT("cert", shared), Type: fleet.NonExclusive}),
		tx.PutTags(s, shared, []fleet.Tag{{Key: shared, Value: marker}}),
		tx.PutTags(s, "policy/shared", []fleet.Tag{{Key: shared, Value: marker}}),
		tx.PutContainment(s, Containment{Claim: shared, Root: shared, Actor: marker}),
		tx.PutRegistration(s, Registration{Certificate: shared, Thing: shared, Template: marker, Principal: shared, Created: now}),
		tx.PutEventConfigurations(s, EventConfigurations{Enabled: []string{marker}, Created: now}),
	}
	for _, target := range []string{s.IoT("cert", shared), s.IoT("thinggroup", shared), shared} {
		_, err := tx.AttachPolicy(s, shared, target)
		steps = append(steps, err)
	}
	_, err = tx.CreateRegistrationCode(s, marker)
	steps = append(steps, err, tx.CreateCA(s, fleet.CA{ID: shared, PEM: marker, Subject: shared, Created: now, Version: 1, Config: fleet.RegistrationConfig{Template: shared}}),
		tx.PutFirstConnection(s, shared, FirstConnection{Reason: marker, Tried: now}))
	_, err = tx.AddToGroup(s, shared, shared)
	steps = append(steps, err)
	_, err = tx.CertificateUsed(s, shared, now)
	for _, err := range append(steps, err, tx.AddSuccession(s, Succession{Certificate: shared, Successor: marker, Thing: shared, Overlap: time.Hour})) {
		if err != nil {
			return err
		}
	}
	return nil
}

// dump returns every row of a scope's registry. It fails if a table has none.
func dump(tx *Tx, s fleet.Scope) (string, error) {
	var lines []string
	for _, table := range registryTables {
		rows, err := tx.rows("SELECT * FROM "+table+" WHERE account = ? AND region = ?", s.Account, s.Region)
		if err != nil {
			return "", err
		}
		defer rows.Close()
		columns := rows.Columns()
		before := len(lines)
		for rows.Next() {
			values := make([]any, len(columns))
			for i := range values {
				values[i] = new(string)
			}
			if err := rows.Scan(values...); err != nil {
				return "", err
			}
			line := table + ":"
			for _, v := range values {
				line += " " + *v.(*string)
			}
			lines = append(lines, line)
		}
		if err := rows.Err(); err != nil {
			return "", err
		}
		if len(lines) == before {
			return "", fmt.Errorf("table %s is empty", table)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// scopedMethods are the methods of Tx in registryFiles whose first parameter is a scope.
func scopedMethods(t *testing.T) []string {
	var names []string
	for _, file := range registryFiles {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		must(t, err)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || !fn.Name.IsExported() || len(fn.Type.Params.List) == 0 {
				continue
			}
			if sel, ok := fn.Type.Params.List[0].Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Scope" {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// filled makes a value of type t in which every text is the shared name.
func filled(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch {
	case t == reflect.TypeFor[fleet.Page](), t == reflect.TypeFor[time.Time]():
	case t.Kind() == reflect.String:
		v.SetString(shared)
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		v.SetInt(1)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			v.Field(i).Set(filled(t.Field(i).Type))
		}
	case t.Kind() == reflect.Slice:
		v = reflect.Append(v, filled(t.Elem()))
	case t.Kind() == reflect.Map:
		v = reflect.MakeMap(t)
		v.SetMapIndex(filled(t.Key()), filled(t.Elem()))
	}
	return v
}

func TestNoQueryOfOneScopeSeesOrTouchesAnother(t *testing.T) {
	t.Parallel()
	names := scopedMethods(t)
	if len(names) < 50 {
		t.Fatalf("only %d methods found: %v", len(names), names)
	}
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return populate(tx, scopeA) }))
		undo := errors.New("undo")
		for _, name := range names {
			err := db.Tx(t.Context(), func(tx *Tx) error {
				before, err := dump(tx, scopeA)
				if err != nil {
					return err
				}
				m := reflect.ValueOf(tx).MethodByName(name)
				args := []reflect.Value{reflect.ValueOf(scopeB)}
				for i := 1; i < m.Type().NumIn(); i++ {
					args = append(args, filled(m.Type().In(i)))
				}
				for _, v := range m.Call(args) {
					if text := fmt.Sprintf("%+v", v); strings.Contains(text, marker) {
						t.Errorf("%s: the other scope sees %s", name, text)
					}
				}
				after, err := dump(tx, scopeA)
				if err != nil {
					return err
				}
				if after != before {
					t.Errorf("%s: changed from\n%s\nto\n%s", name, before, after)
				}
				return undo
			})
			if !errors.Is(err, undo) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestAnARNOfAnotherScopeIsNoPrincipalHere(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error { return populate(tx, scopeA) }))
		must(t, db.View(t.Context(), func(tx *Tx) error {
			foreign := scopeB.IoT("cert", shared)
			if things, _, err := tx.ThingsOf(scopeA, foreign, "", fleet.Page{}); len(things) > 0 || err != nil {
				t.Errorf("things of %s: %v, %v", foreign, things, err)
			}
			if policies, err := tx.EffectivePolicies(scopeA, foreign, ""); len(policies) > 0 || err != nil {
				t.Errorf("policies of %s: %v, %v", foreign, policies, err)
			}
			return nil
		}))
	})
}

// pages walks a list to its end and checks that no page is too long or empty in the middle.
func pages[T any](t *rapid.T, size int, get func(fleet.Page) ([]T, string, error)) []T {
	var out []T
	for p := (fleet.Page{Limit: size}); ; {
		items, next, err := get(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) > size || next != "" && len(items) < size {
			t.Fatalf("a page of %d with limit %d", len(items), size)
		}
		out = append(out, items...)
		if next == "" {
			return out
		}
		if next == p.After {
			t.Fatalf("key %q comes twice", next)
		}
		p.After = next
	}
}

func TestPagesOfThingsAddUpToTheWholeList(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		rapid.Check(t, func(rt *rapid.T) {
			s := fleet.Scope{Account: fleet.RandomString(12, fleet.AlphaDigits), Region: "us-east-1"}
			things := rapid.SliceOfNDistinct(rapid.Custom(func(rt *rapid.T) fleet.Thing {
				value := rapid.SampledFrom([]string{"a", "ab", "abc", "b", "=", "]"}).Draw(rt, "value")
				return fleet.Thing{Name: rapid.StringMatching(`[a-z:_-]{1,3}`).Draw(rt, "name"), Type: rapid.SampledFrom([]string{"", "lamp"}).Draw(rt, "type"),
					Attributes: map[string]string{"k": value}, Version: 1}
			}), 0, 20, func(t fleet.Thing) string { return t.Name }).Draw(rt, "things")
			err := db.Tx(t.Context(), func(tx *Tx) error {
				for _, th := range things {
					if err := tx.CreateThing(s, th); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
			f := ThingFilter{Type: rapid.SampledFrom([]string{"", "lamp"}).Draw(rt, "want type"), Attribute: rapid.SampledFrom([]string{"", "k", "other"}).Draw(rt, "attribute"),
				Prefix: rapid.Bool().Draw(rt, "prefix")}
			if f.Attribute != "" {
				f.Value = rapid.SampledFrom([]string{"", "a", "ab", "=", "z"}).Draw(rt, "want value")
			}
			size := rapid.IntRange(1, 7).Draw(rt, "size")
			var got, want []string
			_ = db.View(t.Context(), func(tx *Tx) error {
				for _, th := range pages(rt, size, func(p fleet.Page) ([]fleet.Thing, string, error) { return tx.Things(s, f, p) }) {
					got = append(got, th.Name)
				}
				return nil
			})
			for _, th := range things {
				v, has := th.Attributes[f.Attribute]
				matches := f.Value == "" || v == f.Value || f.Prefix && strings.HasPrefix(v, f.Value)
				if (f.Type == "" || th.Type == f.Type) && (f.Attribute == "" || has && matches) {
					want = append(want, th.Name)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				rt.Fatalf("filter %+v: got %v, want %v", f, got, want)
			}
		})
	})
}

func TestPagesOfCertificatesFollowTheirCreationBothWays(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		rapid.Check(t, func(rt *rapid.T) {
			s := fleet.Scope{Account: fleet.RandomString(12, fleet.AlphaDigits), Region: "us-east-1"}
			times := rapid.SliceOfN(rapid.IntRange(1, 4), 0, 12).Draw(rt, "creation times")
			var want []string
			err := db.Tx(t.Context(), func(tx *Tx) error {
				want = nil
				for i, at := range times {
					c := fleet.Certificate{ID: fmt.Sprintf("%02d", i), Status: fleet.Active, Created: time.UnixMilli(int64(at))}
					want = append(want, fmt.Sprintf("%d/%s", at, c.ID))
					if err := tx.CreateCertificate(s, c); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				rt.Fatal(err)
			}
			slices.Sort(want)
			desc := rapid.Bool().Draw(rt, "desc")
			if desc {
				slices.Reverse(want)
			}
			var got []string
			_ = db.View(t.Context(), func(tx *Tx) error {
				for _, c := range pages(rt, rapid.IntRange(1, 5).Draw(rt, "size"), func(p fleet.Page) ([]fleet.Certificate, string, error) {
					p.Desc = desc
					return tx.Certificates(s, CertificateFilter{}, p)
				}) {
					got = append(got, timeKey(c.Created, c.ID))
				}
				return nil
			})
			if !slices.Equal(got, want) {
				rt.Fatalf("got %v, want %v", got, want)
			}
		})
	})
}

func TestEffectivePoliciesReachUpToTheRootOfEveryGroup(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			s := scopeA
			for _, g := range []fleet.ThingGroup{{Name: "root"}, {Name: "mid", Parent: "root", Path: []string{"root"}},
				{Name: "leaf", Parent: "mid", Path: []string{"root", "mid"}}, {Name: "aside", Parent: "root", Path: []string{"root"}}} {
				must(t, tx.CreateGroup(s, g))
			}
			for policy, target := range map[string]string{"of-cert": s.IoT("cert", "c"), "of-root": s.IoT("thinggroup", "root"), "of-leaf": s.IoT("thinggroup", "leaf"),
				"of-aside": s.IoT("thinggroup", "aside"), "of-nobody": ""} {
				must(t, tx.CreatePolicy(s, fleet.Policy{Name: policy, Document: "{" + policy + "}"}))
				if target != "" {
					_, err := tx.AttachPolicy(s, policy, target)
					must(t, err)
				}
			}
			_, err := tx.AttachPolicy(s, "of-root", s.IoT("cert", "c")) // twice over: counted once
			must(t, err)
			_, err = tx.AddToGroup(s, "lamp", "leaf")
			must(t, err)
			for _, c := range []struct {
				principal, thing string
				want             string
			}{
				{s.IoT("cert", "c"), "lamp", "[of-cert of-leaf of-root]"},
				{s.IoT("cert", "c"), "", "[of-cert of-root]"},
				{"", "lamp", "[of-leaf of-root]"},
				{"us-east-1:x", "other", "[]"},
			} {
				got, err := tx.EffectivePolicies(s, c.principal, c.thing)
				must(t, err)
				names := []string{}
				for _, e := range got {
					names = append(names, e.Name)
					if e.Document != "{"+e.Name+"}" {
						t.Errorf("document of %s: %s", e.Name, e.Document)
					}
				}
				if fmt.Sprint(names) != c.want {
					t.Errorf("%q with %q: %v, want %s", c.principal, c.thing, names, c.want)
				}
			}
			return nil
		}))
	})
}

func TestEffectivePoliciesAreFoundFromTheirTargets(t *testing.T) {
	t.Parallel()
	db := open(t)
	must(t, db.View(t.Context(), func(tx *Tx) error {
		plan, err := all(tx, func(s scanner) (string, error) {
			var id, parent, unused int
			var detail string
			err := s.Scan(&id, &parent, &unused, &detail)
			return detail, err
		}, "EXPLAIN QUERY PLAN "+effectivePolicies, "a", "r", "t", "a", "r", "p", "a", "r")
		text := strings.Join(plan, "\n")
		for _, step := range []string{"SEARCH a USING PRIMARY KEY (account=? AND region=? AND target=?)", "SEARCH p", "SEARCH v"} {
			if !strings.Contains(text, step) {
				t.Errorf("no step %q in\n%s", step, text)
			}
		}
		return err
	}))
}

func TestAConnectionStandsForItsExclusiveThingElseForTheOneOfItsName(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			s := scopeA
			for _, name := range []string{"only", "one", "two", "stranger"} {
				must(t, tx.CreateThing(s, fleet.Thing{Name: name, Version: 1}))
			}
			must(t, tx.AttachThing(s, fleet.Attachment{Thing: "only", Principal: s.IoT("cert", "x"), Type: fleet.Exclusive}))
			must(t, tx.AttachThing(s, fleet.Attachment{Thing: "one", Principal: s.IoT("cert", "y"), Type: fleet.NonExclusive}))
			must(t, tx.AttachThing(s, fleet.Attachment{Thing: "two", Principal: s.IoT("cert", "y"), Type: fleet.NonExclusive}))
			for _, c := range []struct{ certificate, client, want string }{
				{"x", "whatever", "only"}, {"x", "one", "only"}, {"y", "two", "two"}, {"y", "stranger", ""}, {"z", "one", ""},
			} {
				got, found, err := tx.AssociatedThing(s, s.IoT("cert", c.certificate), c.client)
				must(t, err)
				if got.Name != c.want || found != (c.want != "") {
					t.Errorf("certificate %s, client %s: %q, want %q", c.certificate, c.client, got.Name, c.want)
				}
			}
			return nil
		}))
	})
}

func TestExpiredPendingCertificatesGoUnlessSomethingHangsOnThem(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db *DB) {
		must(t, db.Tx(t.Context(), func(tx *Tx) error {
			s, now := scopeA, tx.Now()
			for _, id := range []string{"gone", "attached", "later"} {
				expires := now.Add(-time.Minute)
				if id == "later" {
					expires = now.Add(time.Minute)
				}
				must(t, tx.CreateCertificate(s, fleet.Certificate{ID: id, Status: fleet.PendingActivation, Created: now,
					Origin: fleet.CertificateOrigin{ClaimID: "claim", CSRHash: id, Expires: expires}}))
			}
			must(t, tx.CreatePolicy(s, fleet.Policy{Name: "p"}))
			_, err := tx.AttachPolicy(s, "p", s.IoT("cert", "attached"))
			must(t, err)
			if n, err := tx.DeleteExpired(now, 10); n != 2 || err != nil {
				t.Errorf("looked at %d, %v", n, err)
			}
			if n, err := tx.DeleteExpired(now, 10); n != 0 || err != nil {
				t.Errorf("looked at %d again, %v", n, err)
			}
			for id, want := range map[string]bool{"gone": false, "attached": true, "later": true} {
				if _, err := tx.Certificate(s, id); (err == nil) != want {
					t.Errorf("%s: %v", id, err)
				}
			}
			return nil
		}))
	})
}
