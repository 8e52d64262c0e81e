package store

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// A crowd is a registry of n things in a scope of its own: each has a type, three attributes, a group at the bottom of a tree of three
// levels, the billing group that all have, and a certificate with the policy that all have. Every twenty-fifth is of another type.
type crowd struct {
	fleet.Scope
	n        int
	postgres bool // the engine
}

const (
	perSite   = 100 // things in a group at the bottom
	perRegion = 100 // such groups in a region
	document  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
)

func (c crowd) thing(i int) string  { return fmt.Sprintf("thing-%07d", i) }
func (c crowd) site(i int) string   { return fmt.Sprintf("site-%05d", i/perSite) }
func (c crowd) region(i int) string { return fmt.Sprintf("region-%03d", i/perSite/perRegion) }

// cert is an id that has nothing to do with the order of things.
func (c crowd) cert(i int) string { return fmt.Sprintf("%064d", int64(i)*2654435761%4294967296) }

// make fills the registry past the rules, by statements that make the rows themselves: many thousand things in a second.
func (c crowd) make(t testing.TB, db *DB) {
	t.Helper()
	const chunk = 10_000
	for from := 0; from < c.n; from += chunk {
		if err := db.Tx(context.Background(), func(tx *Tx) error { return c.fill(tx, from, min(from+chunk, c.n)) }); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Tx(context.Background(), func(tx *Tx) error {
		for _, kind := range []string{"lamp", "rare"} {
			if err := tx.PutThingType(c.Scope, fleet.ThingType{Name: kind}); err != nil {
				return err
			}
		}
		if err := tx.PutBillingGroup(c.Scope, fleet.BillingGroup{Name: "all", Version: 1}); err != nil {
			return err
		}
		if err := tx.CreateGroup(c.Scope, fleet.ThingGroup{Name: "fleet", Version: 1}); err != nil {
			return err
		}
		return tx.CreatePolicy(c.Scope, fleet.Policy{Name: "all", Document: document, Default: 1})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes some things with all that they have. Numbers are written by functions that each engine has of its own.
func (c crowd) fill(tx *Tx, from, to int) error {
	pad := func(number string, width int) string {
		if c.postgres {
			return fmt.Sprintf("lpad(CAST(%s AS TEXT), %d, '0')", number, width)
		}
		return fmt.Sprintf("printf('%%0%dd', %s)", width, number)
	}
	place := fmt.Sprintf("'%s', '%s'", c.Account, c.Region)
	thing, site, region := "'thing-' || "+pad("i", 7), "'site-' || "+pad("i / 100", 5), "'region-' || "+pad("i / 10000", 3)
	cert, colour, text := pad("i * 2654435761 % 4294967296", 64), "CASE i % 2 WHEN 0 THEN 'red' ELSE 'green' END", "CAST(i AS TEXT)"
	kind := "CASE i % 25 WHEN 0 THEN 'rare' ELSE 'lamp' END"
	for table, row := range map[string]string{
		"things (account, region, name, id, thing_type, attributes, billing_group, version, created)": place + ", " + thing + ", 'id', " + kind + ", " +
			`'{"colour":"' || ` + colour + ` || '","serial":"' || ` + text + ` || '","site":"' || ` + site + ` || '"}', 'all', 1, 0`,
		"thing_attributes (account, region, name, value, thing_type, thing) ":   place + ", 'serial', " + text + ", " + kind + ", " + thing,
		"thing_attributes (account, region, name, value, thing_type, thing)  ":  place + ", 'site', " + site + ", " + kind + ", " + thing,
		"thing_attributes (account, region, name, value, thing_type, thing)   ": place + ", 'colour', " + colour + ", " + kind + ", " + thing,
		"thing_group_members (account, region, thing, grp)":                     place + ", " + thing + ", " + site,
		"thing_principals (account, region, thing, principal, type)":            place + ", " + thing + ", 'cert/' || " + cert + ", 'EXCLUSIVE_THING'",
		"policy_attachments (account, region, target, policy)":                  place + ", 'cert/' || " + cert + ", 'all'",
		"certificates (account, region, id, pem, status, mode, ca_id, not_before, not_after, created, modified, version, generation, origin_claim, origin_requester, origin_template, origin_csr, expires)": place + ", " +
			cert + ", 'pem', 'ACTIVE', 'DEFAULT', '', 0, 0, i, i, 1, '', '', '', '', '', 0",
		"thing_groups (account, region, name, id, parent, path, description, attributes, version, created)":  place + ", " + site + ", 'id', " + region + ", 'fleet/' || " + region + " || '/', '', '{}', 1, 0",
		"thing_groups (account, region, name, id, parent, path, description, attributes, version, created) ": place + ", " + region + ", 'id', 'fleet', 'fleet/', '', '{}', 1, 0",
	} {
		step, only := 1, ""
		if strings.HasPrefix(table, "thing_groups") {
			step, only = perSite, " WHERE true ON CONFLICT DO NOTHING"
		}
		_, err := tx.exec(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + %d FROM n WHERE i + %d < %d) INSERT INTO %s SELECT %s FROM n%s`,
			from, step, step, to, table, row, only))
		if err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return nil
}

// A question is something that the control plane asks of a registry. It returns how much it found.
type question struct {
	name string
	ask  func(tx *Tx, c crowd) (int, error)
	more int // statements that it may take in a large registry beyond those in a small one
}

// upTo allows a question some more statements in a large registry: it looks at a bounded number of rows, and goes by what it finds.
func (q question) upTo(more int) question { q.more = more; return q }

// listed makes a question of a list: its first page, or one that begins near its end.
func listed[T any](name, after string, list func(tx *Tx, c crowd, p fleet.Page) ([]T, string, error)) question {
	return question{name: name, ask: func(tx *Tx, c crowd) (int, error) {
		page, _, err := list(tx, c, fleet.Page{Limit: 25, After: strings.NewReplacer("THING", c.thing(c.n-20), "SITE", c.site(c.n-1-perSite), "REGION", c.region(c.n-1),
			"CERT", "cert/"+c.cert(c.n/2), "TIME", fmt.Sprintf("%d/%s", c.n-20, c.cert(c.n-20))).Replace(after)})
		return len(page), err
	}}
}

func described[T any](name string, get func(tx *Tx, c crowd) (T, error)) question {
	return question{name: name, ask: func(tx *Tx, c crowd) (int, error) { _, err := get(tx, c); return 1, err }}
}

// questions are all that lists, searches and describes in the registry, beginnings and ends.
func questions() []question {
	things := func(f func(crowd) ThingFilter) func(*Tx, crowd, fleet.Page) ([]fleet.Thing, string, error) {
		return func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Thing, string, error) { return tx.Things(c.Scope, f(c), p) }
	}
	filter := func(f ThingFilter) func(crowd) ThingFilter { return func(crowd) ThingFilter { return f } }
	groups := func(under string, f GroupFilter) func(*Tx, crowd, fleet.Page) ([]fleet.ThingGroup, string, error) {
		return func(tx *Tx, c crowd, p fleet.Page) ([]fleet.ThingGroup, string, error) {
			if f := f; under != "" {
				g, err := tx.Group(c.Scope, strings.Replace(under, "REGION", c.region(c.n/2), 1))
				if err != nil {
					return nil, "", err
				}
				f.Under = &g
				return tx.Groups(c.Scope, f, p)
			}
			return tx.Groups(c.Scope, f, p)
		}
	}
	members := func(group string) func(*Tx, crowd, fleet.Page) ([]string, string, error) {
		return func(tx *Tx, c crowd, p fleet.Page) ([]string, string, error) {
			g, err := tx.Group(c.Scope, strings.NewReplacer("SITE", c.site(c.n/2), "REGION", c.region(c.n/2)).Replace(group))
			if err != nil {
				return nil, "", err
			}
			return tx.Members(c.Scope, g, true, p)
		}
	}
	certificates := func(f CertificateFilter, desc bool) func(*Tx, crowd, fleet.Page) ([]fleet.Certificate, string, error) {
		return func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Certificate, string, error) {
			p.Desc = desc
			return tx.Certificates(c.Scope, f, p)
		}
	}
	targets := func(tx *Tx, c crowd, p fleet.Page) ([]string, string, error) { return tx.TargetsOf(c.Scope, "all", p) }
	billed := func(tx *Tx, c crowd, p fleet.Page) ([]string, string, error) {
		return tx.BilledThings(c.Scope, "all", p)
	}
	ofThing := func(c crowd) string { return c.thing(c.n / 2) }
	return []question{
		described("describe thing", func(tx *Tx, c crowd) (fleet.Thing, error) { return tx.Thing(c.Scope, ofThing(c)) }),
		described("describe thing type", func(tx *Tx, c crowd) (fleet.ThingType, error) { return tx.ThingType(c.Scope, "rare") }),
		described("describe group", func(tx *Tx, c crowd) (fleet.ThingGroup, error) { return tx.Group(c.Scope, c.site(c.n/2)) }),
		described("describe billing group", func(tx *Tx, c crowd) (fleet.BillingGroup, error) { return tx.BillingGroup(c.Scope, "all") }),
		described("describe certificate", func(tx *Tx, c crowd) (fleet.Certificate, error) { return tx.Certificate(c.Scope, c.cert(c.n/2)) }),
		described("find certificate", func(tx *Tx, c crowd) ([]ScopedCertificate, error) { return tx.CertificatesByID(c.cert(c.n / 2)) }),
		described("associated thing", func(tx *Tx, c crowd) (bool, error) {
			_, found, err := tx.AssociatedThing(c.Scope, c.IoT("cert", c.cert(c.n/2)), ofThing(c))
			return found, err
		}),
		described("effective policies", func(tx *Tx, c crowd) ([]EffectivePolicy, error) {
			return tx.EffectivePolicies(c.Scope, c.IoT("cert", c.cert(c.n/2)), ofThing(c))
		}),
		described("things of a type exist", func(tx *Tx, c crowd) (bool, error) { return tx.ThingsOfTypeExist(c.Scope, "rare") }),
		listed("things", "", things(filter(ThingFilter{}))),
		listed("things, end", "THING", things(filter(ThingFilter{}))),
		listed("things of a type", "", things(filter(ThingFilter{Type: "lamp"}))),
		listed("things of a type, end", "THING", things(filter(ThingFilter{Type: "lamp"}))),
		listed("things of a rare type", "", things(filter(ThingFilter{Type: "rare"}))),
		listed("thing by serial", "", things(func(c crowd) ThingFilter { return ThingFilter{Attribute: "serial", Value: fmt.Sprint(c.n / 2)} })),
		listed("things by site", "", things(func(c crowd) ThingFilter { return ThingFilter{Attribute: "site", Value: c.site(c.n / 2)} })),
		listed("things by colour", "", things(filter(ThingFilter{Attribute: "colour", Value: "red"}))),
		listed("things by colour, end", "\trare\tTHING", things(filter(ThingFilter{Attribute: "colour", Value: "red"}))),
		listed("things by a colour's beginning", "", things(filter(ThingFilter{Attribute: "colour", Value: "r", Prefix: true}))),
		listed("things by a colour's beginning, end", "red\trare\tTHING", things(filter(ThingFilter{Attribute: "colour", Value: "r", Prefix: true}))),
		listed("things with a colour, end", "red\trare\tTHING", things(filter(ThingFilter{Attribute: "colour"}))),
		listed("things by serial and type", "", things(func(c crowd) ThingFilter {
			return ThingFilter{Attribute: "serial", Value: fmt.Sprint(c.n / 2), Type: "lamp"}
		})),
		listed("things by colour and type, end", "\tlamp\tTHING", things(filter(ThingFilter{Attribute: "colour", Value: "red", Type: "lamp"}))),
		listed("things by colour and rare type", "", things(filter(ThingFilter{Attribute: "colour", Value: "red", Type: "rare"}))),
		listed("things of another colour and rare type", "", things(filter(ThingFilter{Attribute: "colour", Value: "green", Type: "rare"}))),
		listed("things by a colour's beginning and type", "", things(filter(ThingFilter{Attribute: "colour", Value: "r", Prefix: true, Type: "lamp"}))).upTo(4),
		listed("things by a colour's beginning and rare type", "", things(filter(ThingFilter{Attribute: "colour", Value: "r", Prefix: true, Type: "rare"}))).upTo(4),
		listed("things by a serial's beginning and rare type", "", things(filter(ThingFilter{Attribute: "serial", Value: "1", Prefix: true, Type: "rare"}))).upTo(4),
		listed("things with a colour and rare type", "", things(filter(ThingFilter{Attribute: "colour", Type: "rare"}))).upTo(4),
		listed("things with a serial and rare type, end", "9\trare\tTHING", things(filter(ThingFilter{Attribute: "serial", Type: "rare"}))).upTo(4),
		listed("thing types", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.ThingType, string, error) {
			return tx.ThingTypes(c.Scope, "", p)
		}),
		listed("groups", "", groups("", GroupFilter{})),
		listed("groups, end", "SITE", groups("", GroupFilter{})),
		listed("groups by beginning, end", "SITE", groups("", GroupFilter{Prefix: "site-"})),
		listed("roots", "", groups("", GroupFilter{Depth1: true})),
		listed("children", "", groups("REGION", GroupFilter{Depth1: true})),
		listed("descendants", "", groups("fleet", GroupFilter{})),
		listed("descendants, end", "fleet/REGION/\tSITE", groups("fleet", GroupFilter{})),
		listed("descendants by beginning", "", groups("fleet", GroupFilter{Prefix: "site-"})),
		listed("groups of a thing", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.ThingGroup, string, error) {
			return tx.GroupsOf(c.Scope, ofThing(c), p)
		}),
		listed("members", "", members("SITE")),
		listed("members below a region", "", members("REGION")),
		listed("members below the root", "", members("fleet")),
		listed("members below the root, end", "fleet/REGION/\tSITE\tTHING", members("fleet")),
		listed("billing groups", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.BillingGroup, string, error) {
			return tx.BillingGroups(c.Scope, "", p)
		}),
		listed("things of a billing group", "", billed),
		listed("things of a billing group, end", "THING", billed),
		listed("principals", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Attachment, string, error) {
			return tx.PrincipalsOf(c.Scope, ofThing(c), "", p)
		}),
		listed("exclusive principals", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Attachment, string, error) {
			return tx.PrincipalsOf(c.Scope, ofThing(c), fleet.Exclusive, p)
		}),
		listed("things of a principal", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Attachment, string, error) {
			return tx.ThingsOf(c.Scope, c.IoT("cert", c.cert(c.n/2)), "", p)
		}),
		listed("certificates, newest", "", certificates(CertificateFilter{}, true)),
		listed("certificates, oldest", "", certificates(CertificateFilter{}, false)),
		listed("certificates, end", "TIME", certificates(CertificateFilter{}, false)),
		listed("certificates of a CA", "", certificates(CertificateFilter{CA: "none"}, true)),
		listed("outgoing certificates", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Transfer, string, error) {
			return tx.OutgoingTransfers(c.Scope, p)
		}),
		listed("policies", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.Policy, string, error) { return tx.Policies(c.Scope, p) }),
		listed("targets of a policy", "", targets),
		listed("targets of a policy, later", "CERT", targets),
		listed("policies of a certificate", "", func(tx *Tx, c crowd, p fleet.Page) ([]string, string, error) {
			return tx.PoliciesOf(c.Scope, c.IoT("cert", c.cert(c.n/2)), p)
		}),
		listed("policies above a group", "", func(tx *Tx, c crowd, p fleet.Page) ([]string, string, error) {
			return tx.PoliciesUnder(c.Scope, c.site(c.n/2), p)
		}),
		listed("role aliases", "", func(tx *Tx, c crowd, p fleet.Page) ([]fleet.RoleAlias, string, error) {
			return tx.RoleAliases(c.Scope, p)
		}),
	}
}

// heard are the statements that a store was asked.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(query string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, query)
}

func (h *heard) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return slices.DeleteFunc(list, func(q string) bool {
		return !strings.HasPrefix(strings.TrimSpace(q), "SELECT") && !strings.HasPrefix(q, "WITH")
	})
}

// TestTheRegistryIsAskedTheSameHoweverManyThingsThereAre: as many statements, of which none goes through a table or sorts it.
func TestTheRegistryIsAskedTheSameHoweverManyThingsThereAre(t *testing.T) {
	t.Parallel()
	amongThings(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")}, 20_000, 0)
}

// TestSoakARegistryOfAMillionThings measures that each question takes at most twice as long as among a thousand.
func TestSoakARegistryOfAMillionThings(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	t.Run("sqlite", func(t *testing.T) {
		amongThings(t, Config{Path: filepath.Join(t.TempDir(), "imprint.db")}, 1_000_000, 2)
	})
	t.Run("postgres", func(t *testing.T) { amongThings(t, Config{URL: storetest.Postgres(t)}, 200_000, 2) })
}

// amongThings compares what questions take in a registry of a thousand things and in one of many, in the same store; limit is of the
// ratio of their times.
func amongThings(t *testing.T, cfg Config, many int, limit float64) {
	var h heard
	cfg.OnStatement = h.add
	db := openWith(t, cfg)
	crowds := [2]crowd{{fleet.Scope{Account: "111111111111", Region: "us-east-1"}, 1000, cfg.URL != ""}, {fleet.Scope{Account: "222222222222", Region: "us-east-1"}, many, cfg.URL != ""}}
	for _, c := range crowds {
		begin := time.Now()
		c.make(t, db)
		t.Logf("%d things made in %v", c.n, time.Since(begin).Round(time.Second))
	}
	if cfg.URL != "" {
		if err := db.Tx(t.Context(), func(tx *Tx) error { _, err := tx.exec(`ANALYZE`); return err }); err != nil {
			t.Fatal(err)
		}
	}
	worst := 0.0
	for _, q := range questions() {
		var statements [2][]string
		var found [2]int
		ask := func(i int) time.Duration {
			begin := time.Now()
			if err := db.View(t.Context(), func(tx *Tx) (err error) { found[i], err = q.ask(tx, crowds[i]); return err }); err != nil {
				t.Fatalf("%s: %v", q.name, err)
			}
			return time.Since(begin)
		}
		for i := range crowds {
			h.take()
			ask(i)
			statements[i] = h.take()
		}
		if more := len(statements[1]) - len(statements[0]); more > q.more {
			t.Errorf("%s: %d statements among a thousand, %d among %d", q.name, len(statements[0]), len(statements[1]), many)
		}
		if cfg.URL == "" {
			wantSearches(t, db, q.name, statements[1])
		}
		if limit == 0 {
			continue
		}
		var took [2][]time.Duration
		for range 101 { // in turns: whatever else the machine does meets both
			for i := range crowds {
				took[i] = append(took[i], ask(i))
			}
		}
		few, lots := middleOf(took[0]), middleOf(took[1])
		ratio := float64(lots) / float64(few)
		worst = max(worst, ratio)
		t.Logf("%-42s %8v among 1000 (%d found), %8v among %d (%d found); ratio %.2f", q.name, few, found[0], lots, many, found[1], ratio)
		if ratio > limit {
			t.Errorf("%s takes %.2f times as long as among a thousand", q.name, ratio)
		}
	}
	t.Logf("the worst ratio is %.2f", worst)
}

func middleOf(all []time.Duration) time.Duration {
	slices.SortFunc(all, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	return all[len(all)/2]
}

// small are the names of what has some rows however large the registry is, as those that a LIMIT leaves, and the questions that sort such: of
// one thing, principal or certificate.
var small = []string{"seen", "few", "up", "targets", "t", "CONSTANT ROW", "find certificate", "associated thing", "effective policies", "policies above a group"}

// wantSearches looks at the plans of statements: nothing goes through a table, or through all of an account and then sorts.
func wantSearches(t *testing.T, db *DB, name string, statements []string) {
	t.Helper()
	raw := direct(t, db)
	for _, query := range statements {
		rows, err := raw.Query(`EXPLAIN QUERY PLAN `+query, make([]any, strings.Count(query, "?"))...)
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, query)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		for _, step := range plan {
			table, scans := strings.CutPrefix(step, "SCAN ")
			sorts := strings.HasPrefix(step, "USE TEMP B-TREE FOR ORDER BY") && !slices.Contains(small, name)
			everything := strings.HasSuffix(step, "(account=? AND region=?)") && slices.Contains(small, name)
			if scans && !slices.Contains(small, table) || sorts || everything {
				t.Errorf("%s: %q in %q of %s", name, step, plan, query)
			}
		}
	}
}

// TestPagesOfALargeRegistryAddUp: also those that may have fewer entries than they have room for.
func TestPagesOfALargeRegistryAddUp(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(*testing.T) Config{
		"sqlite":   func(t *testing.T) Config { return Config{Path: filepath.Join(t.TempDir(), "imprint.db")} },
		"postgres": func(t *testing.T) Config { return Config{URL: storetest.Postgres(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := cfg(t)
			db := openWith(t, cfg)
			c := crowd{fleet.Scope{Account: "111111111111", Region: "us-east-1"}, 4000, cfg.URL != ""}
			c.make(t, db)
			root := fleet.ThingGroup{Name: "fleet"}
			for what, l := range map[string]struct {
				want int
				list func(tx *Tx, p fleet.Page) ([]string, string, error)
			}{
				"members of all groups below": {4000, func(tx *Tx, p fleet.Page) ([]string, string, error) { return tx.Members(c.Scope, root, true, p) }},
				"all groups below": {41, func(tx *Tx, p fleet.Page) ([]string, string, error) {
					groups, next, err := tx.Groups(c.Scope, GroupFilter{Under: &root}, p)
					return names(groups, func(g fleet.ThingGroup) string { return g.Name }), next, err
				}},
				"groups below by their beginning": {40, func(tx *Tx, p fleet.Page) ([]string, string, error) {
					groups, next, err := tx.Groups(c.Scope, GroupFilter{Under: &root, Prefix: "site-"}, p)
					return names(groups, func(g fleet.ThingGroup) string { return g.Name }), next, err
				}},
				"a rare type and a common value":    {80, c.filtered(ThingFilter{Type: "rare", Attribute: "colour", Value: "red"})},
				"a rare type and a rare value":      {80, c.filtered(ThingFilter{Type: "rare", Attribute: "colour", Value: "green"})},
				"a rare type and a beginning":       {160, c.filtered(ThingFilter{Type: "rare", Attribute: "site", Value: "site", Prefix: true})},
				"a rare type and a value's few":     {80, c.filtered(ThingFilter{Type: "rare", Attribute: "colour", Value: "g", Prefix: true})},
				"a rare type and any value":         {160, c.filtered(ThingFilter{Type: "rare", Attribute: "serial"})},
				"a rare type and any of few values": {160, c.filtered(ThingFilter{Type: "rare", Attribute: "colour"})},
				"a common type and a common value":  {1920, c.filtered(ThingFilter{Type: "lamp", Attribute: "colour", Value: "red"})},
				"a common type and a beginning":     {3840, c.filtered(ThingFilter{Type: "lamp", Attribute: "site", Value: "site", Prefix: true})},
				"a common type and any value":       {3840, c.filtered(ThingFilter{Type: "lamp", Attribute: "serial"})},
				"a beginning":                       {4000, c.filtered(ThingFilter{Attribute: "colour", Prefix: true})},
				"a value of all types":              {2000, c.filtered(ThingFilter{Attribute: "colour", Value: "green"})},
			} {
				seen := map[string]bool{}
				for p := (fleet.Page{Limit: 97}); ; {
					var page []string
					var next string
					if err := db.View(t.Context(), func(tx *Tx) (err error) { page, next, err = l.list(tx, p); return err }); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					for _, name := range page {
						if seen[name] {
							t.Fatalf("%s: %s comes twice", what, name)
						}
						seen[name] = true
					}
					if len(page) > p.Limit || next == p.After && next != "" {
						t.Fatalf("%s: a page of %d, and the next begins at %q after %q", what, len(page), next, p.After)
					}
					if p.After = next; next == "" {
						break
					}
				}
				if len(seen) != l.want {
					t.Errorf("%s: %d, want %d", what, len(seen), l.want)
				}
				err := db.View(t.Context(), func(tx *Tx) error {
					all, _, err := l.list(tx, fleet.Page{})
					if err == nil && len(all) != l.want {
						t.Errorf("%s: %d in one page, want %d", what, len(all), l.want)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func names[T any](list []T, name func(T) string) (out []string) {
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

func (c crowd) filtered(f ThingFilter) func(tx *Tx, p fleet.Page) ([]string, string, error) {
	return func(tx *Tx, p fleet.Page) ([]string, string, error) {
		things, next, err := tx.Things(c.Scope, f, p)
		return names(things, func(t fleet.Thing) string { return t.Name }), next, err
	}
}
