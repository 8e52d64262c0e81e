package store

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// A question is something that the control plane asks of a registry. It returns how much it found.
type question struct {
	name    string
	ask     func(tx *Tx, c storetest.Crowd) (int, error)
	more    int  // statements that it may take in a large registry beyond those in a small one
	passing bool // it passes over rows that are not asked for: a large registry may take three times as many steps for a result
}

// upTo is for questions that go by what they find.
func (q question) upTo(more int) question { q.more = more; return q }

// past is for questions that look through a range for the rows of a type: at some hundreds for a page, where a small registry has
// 40 things of the type in all, which are looked at instead. Each row takes few steps. Their time is held to twice, as that of
// all others is.
func (q question) past(more int) question { q.more, q.passing = more, true; return q }

// listed makes a question of a list: its first page, or one that begins near its end.
func listed[T any](name, after string, list func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]T, string, error)) question {
	return question{name: name, ask: func(tx *Tx, c storetest.Crowd) (int, error) {
		page, _, err := list(tx, c, fleet.Page{Limit: 25, After: strings.NewReplacer("THING", c.Thing(c.N-20), "SITE", c.Site(c.N-1-storetest.PerSite), "REGION", c.Area(c.N-1),
			"CERT", "cert/"+c.Cert(c.N/2), "TIME", fmt.Sprintf("%d/%s", c.N-20, c.Cert(c.N-20)), "LATE", fmt.Sprint(c.N-200), "NUMBER", fmt.Sprintf("%07d", c.N-200),
			"ENDS", fmt.Sprintf("%d/", storetest.SoonEnds+(c.N-20)*60000)).Replace(after)})
		return len(page), err
	}}
}

func described[T any](name string, get func(tx *Tx, c storetest.Crowd) (T, error)) question {
	return question{name: name, ask: func(tx *Tx, c storetest.Crowd) (int, error) { _, err := get(tx, c); return 1, err }}
}

// scoped and with make questions of the store's lists.
func scoped[T any](list func(*Tx, fleet.Scope, fleet.Page) ([]T, string, error)) func(*Tx, storetest.Crowd, fleet.Page) ([]T, string, error) {
	return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]T, string, error) { return list(tx, c.Scope, p) }
}

func with[K, T any](list func(*Tx, fleet.Scope, K, fleet.Page) ([]T, string, error), key K) func(*Tx, storetest.Crowd, fleet.Page) ([]T, string, error) {
	return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]T, string, error) { return list(tx, c.Scope, key, p) }
}

// backwards asks for the newest first.
func backwards[T any](list func(*Tx, storetest.Crowd, fleet.Page) ([]T, string, error)) func(*Tx, storetest.Crowd, fleet.Page) ([]T, string, error) {
	return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]T, string, error) {
		p.Desc = true
		return list(tx, c, p)
	}
}

// questions are all that lists, searches and describes in the registry, beginnings and ends.
func questions() []question {
	return slices.Concat(questionsOfThings(), questionsOfGroups(), questionsOfPrincipals(), questionsOfTheRest())
}

func questionsOfThings() []question {
	ofThing := func(c storetest.Crowd) string { return c.Thing(c.N / 2) }
	by := func(f func(storetest.Crowd) ThingFilter) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.Thing, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.Thing, string, error) {
			return tx.Things(c.Scope, f(c), p)
		}
	}
	things := func(f ThingFilter) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.Thing, string, error) {
		return with((*Tx).Things, f)
	}
	return []question{
		described("describe thing", func(tx *Tx, c storetest.Crowd) (fleet.Thing, error) { return tx.Thing(c.Scope, ofThing(c)) }),
		described("describe thing type", func(tx *Tx, c storetest.Crowd) (fleet.ThingType, error) { return tx.ThingType(c.Scope, "rare") }),
		described("things of a type exist", func(tx *Tx, c storetest.Crowd) (bool, error) { return tx.ThingsOfTypeExist(c.Scope, "rare") }),
		listed("things", "", things(ThingFilter{})),
		listed("things, end", "THING", things(ThingFilter{})),
		listed("things of a type", "", things(ThingFilter{Type: "lamp"})),
		listed("things of a type, end", "THING", things(ThingFilter{Type: "lamp"})),
		listed("things of a rare type", "", things(ThingFilter{Type: "rare"})),
		listed("thing by serial", "", by(func(c storetest.Crowd) ThingFilter {
			return ThingFilter{Attribute: "serial", Value: fmt.Sprint(c.N / 2)}
		})),
		listed("things by site", "", by(func(c storetest.Crowd) ThingFilter { return ThingFilter{Attribute: "site", Value: c.Site(c.N / 2)} })),
		listed("things by colour", "", things(ThingFilter{Attribute: "colour", Value: "red"})),
		listed("things by colour, end", "\trare\tTHING", things(ThingFilter{Attribute: "colour", Value: "red"})),
		listed("things by a colour's beginning", "", things(ThingFilter{Attribute: "colour", Value: "r", Prefix: true})),
		listed("things by a colour's beginning, end", "red\trare\tTHING", things(ThingFilter{Attribute: "colour", Value: "r", Prefix: true})),
		listed("things with a colour, end", "red\trare\tTHING", things(ThingFilter{Attribute: "colour"})),
		listed("things by serial and type", "", by(func(c storetest.Crowd) ThingFilter {
			return ThingFilter{Attribute: "serial", Value: fmt.Sprint(c.N / 2), Type: "lamp"}
		})),
		listed("things by colour and type", "", things(ThingFilter{Attribute: "colour", Value: "red", Type: "lamp"})),
		listed("things by colour and type, end", "\tlamp\tTHING", things(ThingFilter{Attribute: "colour", Value: "red", Type: "lamp"})),
		listed("things by colour and rare type", "", things(ThingFilter{Attribute: "colour", Value: "red", Type: "rare"})),
		listed("things of another colour and rare type", "", things(ThingFilter{Attribute: "colour", Value: "green", Type: "rare"})),
		listed("things by a colour's beginning and type", "", things(ThingFilter{Attribute: "colour", Value: "r", Prefix: true, Type: "lamp"})),
		listed("things by a colour's beginning and rare type", "", things(ThingFilter{Attribute: "colour", Value: "r", Prefix: true, Type: "rare"})).upTo(1),
		listed("things by a serial's beginning and rare type", "", things(ThingFilter{Attribute: "serial", Value: "1", Prefix: true, Type: "rare"})).past(10), // 24 of 25 things
		listed("things with a colour and rare type", "", things(ThingFilter{Attribute: "colour", Type: "rare"})).upTo(1),
		listed("things with a serial and rare type, end", "9\trare\tTHING", things(ThingFilter{Attribute: "serial", Type: "rare"})).past(10),
		listed("thing types", "", with((*Tx).ThingTypes, "")),
		listed("thing types, end", "type-NUMBER", with((*Tx).ThingTypes, "type-")),
		described("tags", func(tx *Tx, c storetest.Crowd) ([]fleet.Tag, error) {
			return tx.Tags(c.Scope, "thinggroup/"+c.Site(c.N/2))
		}),
	}
}

func questionsOfGroups() []question {
	groups := func(under string, f GroupFilter) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.ThingGroup, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.ThingGroup, string, error) {
			f := f
			if under != "" {
				g, err := tx.Group(c.Scope, strings.Replace(under, "REGION", c.Area(c.N/2), 1))
				if err != nil {
					return nil, "", err
				}
				f.Under = &g
			}
			return tx.Groups(c.Scope, f, p)
		}
	}
	members := func(group string) func(*Tx, storetest.Crowd, fleet.Page) ([]string, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]string, string, error) {
			g, err := tx.Group(c.Scope, strings.NewReplacer("SITE", c.Site(c.N/2), "REGION", c.Area(c.N/2)).Replace(group))
			if err != nil {
				return nil, "", err
			}
			return tx.Members(c.Scope, g, true, p)
		}
	}
	return []question{
		described("describe group", func(tx *Tx, c storetest.Crowd) (fleet.ThingGroup, error) { return tx.Group(c.Scope, c.Site(c.N/2)) }),
		described("describe billing group", func(tx *Tx, c storetest.Crowd) (fleet.BillingGroup, error) { return tx.BillingGroup(c.Scope, "all") }),
		listed("groups", "", groups("", GroupFilter{})),
		listed("groups, end", "SITE", groups("", GroupFilter{})),
		listed("groups by beginning, end", "SITE", groups("", GroupFilter{Prefix: "site-"})),
		listed("roots", "", groups("", GroupFilter{Depth1: true})),
		listed("roots by beginning", "", groups("", GroupFilter{Depth1: true, Prefix: "site-"})),
		listed("children", "", groups("REGION", GroupFilter{Depth1: true})),
		listed("children by beginning", "", groups("REGION", GroupFilter{Depth1: true, Prefix: "site-"})),
		listed("descendants", "", groups("fleet", GroupFilter{})),
		listed("descendants, end", "fleet/REGION/\tSITE", groups("fleet", GroupFilter{})),
		listed("descendants by beginning", "", groups("fleet", GroupFilter{Prefix: "site-"})),
		listed("descendants by a rare beginning", "", groups("fleet", GroupFilter{Prefix: "region-"})),
		listed("descendants of a region by beginning", "", groups("REGION", GroupFilter{Prefix: "site-"})),
		listed("groups of a thing", "", func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.ThingGroup, string, error) {
			return tx.GroupsOf(c.Scope, c.Thing(c.N/2), p)
		}),
		listed("members", "", members("SITE")),
		listed("members below a region", "", members("REGION")),
		listed("members below the root", "", members("fleet")),
		listed("members below the root, end", "fleet/REGION/\tSITE\tTHING", members("fleet")),
		listed("billing groups", "", with((*Tx).BillingGroups, "")),
		listed("billing groups, end", "bill-NUMBER", with((*Tx).BillingGroups, "bill-")),
		listed("things of a billing group", "", with((*Tx).BilledThings, "all")),
		listed("things of a billing group, end", "THING", with((*Tx).BilledThings, "all")),
	}
}

func questionsOfPrincipals() []question {
	arn := func(c storetest.Crowd) string { return c.IoT("cert", c.Cert(c.N/2)) }
	of := func(only fleet.PrincipalType) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.Attachment, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.Attachment, string, error) {
			return tx.PrincipalsOf(c.Scope, c.Thing(c.N/2), only, p)
		}
	}
	thingsOf := func(principal string, only fleet.PrincipalType) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.Attachment, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.Attachment, string, error) {
			return tx.ThingsOf(c.Scope, c.IoT("cert", strings.Replace(principal, "CERT", c.Cert(c.N/2), 1)), only, p)
		}
	}
	certificates := func(f CertificateFilter) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.Certificate, string, error) {
		return with((*Tx).Certificates, f)
	}
	return []question{
		described("describe certificate", func(tx *Tx, c storetest.Crowd) (fleet.Certificate, error) {
			return tx.Certificate(c.Scope, c.Cert(c.N/2))
		}),
		described("find certificate", func(tx *Tx, c storetest.Crowd) ([]ScopedCertificate, error) {
			return tx.CertificatesByID(c.Cert(c.N / 2))
		}),
		described("describe transfer", func(tx *Tx, c storetest.Crowd) (bool, error) {
			_, found, err := tx.Transfer(c.Scope, c.Cert(c.N/2))
			return found, err
		}),
		described("first connection", func(tx *Tx, c storetest.Crowd) (bool, error) {
			_, found, err := tx.FirstConnection(c.Scope, c.Cert(c.N/2))
			return found, err
		}),
		described("associated thing", func(tx *Tx, c storetest.Crowd) (bool, error) {
			_, found, err := tx.AssociatedThing(c.Scope, arn(c), c.Thing(c.N/2))
			return found, err
		}),
		described("effective policies", func(tx *Tx, c storetest.Crowd) ([]EffectivePolicy, error) {
			return tx.EffectivePolicies(c.Scope, arn(c), c.Thing(c.N/2))
		}),
		listed("principals", "", of("")),
		listed("exclusive principals", "", of(fleet.Exclusive)),
		listed("things of a principal", "", thingsOf("CERT", "")),
		listed("exclusive things of a principal", "", thingsOf("CERT", fleet.Exclusive)),
		listed("things of a principal that many share, end", "THING", thingsOf("shared", "")),
		listed("exclusive things of a principal that many share", "", thingsOf("shared", fleet.Exclusive)),
		listed("certificates, newest", "", backwards(certificates(CertificateFilter{}))),
		listed("certificates, oldest", "", certificates(CertificateFilter{})),
		listed("certificates, end", "TIME", certificates(CertificateFilter{})),
		listed("certificates of a CA", "", backwards(certificates(CertificateFilter{CA: "ca-0000000"}))),
		listed("certificates of a CA, end", "TIME", certificates(CertificateFilter{CA: "ca-0000000"})),
		listed("certificates of no CA", "", certificates(CertificateFilter{CA: "none"})),
		listed("outgoing certificates", "", scoped((*Tx).OutgoingTransfers)),
		listed("outgoing certificates, newest", "", backwards(scoped((*Tx).OutgoingTransfers))),
		listed("policies", "", scoped((*Tx).Policies)),
		listed("policies, end", "LATE/", scoped((*Tx).Policies)),
		described("describe policy", func(tx *Tx, c storetest.Crowd) (fleet.Policy, error) { return tx.Policy(c.Scope, "all") }),
		described("policy versions", func(tx *Tx, c storetest.Crowd) ([]fleet.PolicyVersion, error) {
			return tx.PolicyVersions(c.Scope, "all")
		}),
		listed("targets of a policy", "", with((*Tx).TargetsOf, "all")),
		listed("targets of a policy, later", "CERT", with((*Tx).TargetsOf, "all")),
		listed("targets of a policy, backwards", "", backwards(with((*Tx).TargetsOf, "all"))),
		listed("policies of a certificate", "", func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]string, string, error) {
			return tx.PoliciesOf(c.Scope, arn(c), p)
		}),
		listed("policies above a group", "", func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]string, string, error) {
			return tx.PoliciesUnder(c.Scope, c.Site(c.N/2), p)
		}),
	}
}

func questionsOfTheRest() []question {
	const first = "template-0000000"
	no := false
	expiries := func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]Expiry, string, error) {
		return tx.Expiries(c.Scope, fromMillis(storetest.SoonEnds), fromMillis(storetest.SoonEnds+int64(c.N)*60000), p)
	}
	logged := func(q LogQuery) func(*Tx, storetest.Crowd, fleet.Page) ([]fleet.LogEntry, string, error) {
		return func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]fleet.LogEntry, string, error) {
			return tx.LogEntries(c.Scope, "log-0000000", q, p)
		}
	}
	list := []question{
		listed("log groups", "", with((*Tx).LogGroups, "")),
		listed("log groups, end", "log-NUMBER", with((*Tx).LogGroups, "log-")),
		listed("entries of a log", "", logged(LogQuery{From: fromMillis(10)})),
		listed("entries of a log, end", "LATE 0", logged(LogQuery{From: fromMillis(10)})),
		listed("entries of a log, newest", "", logged(LogQuery{Newest: true})),
		listed("entries of a log, newest, then", "LATE 0", logged(LogQuery{Newest: true, Until: fromMillis(1 << 40)})),
		described("describe CA", func(tx *Tx, c storetest.Crowd) (fleet.CA, error) { return tx.CA(c.Scope, "ca-0000000") }),
		listed("CAs", "", with((*Tx).CAs, "")),
		listed("CAs, end", "LATE/", with((*Tx).CAs, "")),
		listed("CAs of a template", "", with((*Tx).CAs, first)),
		described("describe role alias", func(tx *Tx, c storetest.Crowd) (fleet.RoleAlias, error) { return tx.RoleAlias(c.Scope, "role-0000000") }),
		listed("role aliases", "", scoped((*Tx).RoleAliases)),
		listed("role aliases, end", "role-NUMBER", scoped((*Tx).RoleAliases)),
		described("describe domain", func(tx *Tx, c storetest.Crowd) (fleet.DomainConfiguration, error) {
			return tx.Domain(c.Scope, "domain-0000000")
		}),
		listed("domains", "", scoped((*Tx).Domains)),
		listed("domains, end", "domain-NUMBER", scoped((*Tx).Domains)),
		described("describe template", func(tx *Tx, c storetest.Crowd) (fleet.Template, error) { return tx.Template(c.Scope, first) }),
		described("describe template version", func(tx *Tx, c storetest.Crowd) (fleet.TemplateVersion, error) {
			return tx.TemplateVersion(c.Scope, first, 1)
		}),
		listed("templates", "", scoped((*Tx).Templates)),
		listed("templates, end", "template-NUMBER", scoped((*Tx).Templates)),
		listed("template versions", "", with((*Tx).TemplateVersions, first)),
		listed("template versions, end", "LATE", with((*Tx).TemplateVersions, first)),
		listed("claims", "", with((*Tx).Claims, first)),
		listed("claims, end", "LATE/", with((*Tx).Claims, first)),
		described("find claim", func(tx *Tx, c storetest.Crowd) (bool, error) {
			_, found, err := tx.ClaimByID("claim-0000001" + c.Account)
			return found, err
		}),
		described("describe rule", func(tx *Tx, c storetest.Crowd) (fleet.TopicRule, error) { return tx.TopicRule(c.Scope, "rule_0000000") }),
		listed("rules", "", with((*Tx).TopicRules, (*bool)(nil))),
		listed("rules that are enabled", "", with((*Tx).TopicRules, &no)),
		described("describe destination", func(tx *Tx, c storetest.Crowd) (fleet.RuleDestination, error) {
			return tx.RuleDestination(c.Scope, "0000000")
		}),
		listed("destinations", "", scoped((*Tx).RuleDestinations)),
		listed("destinations, end", "NUMBER", scoped((*Tx).RuleDestinations)),
		described("describe task", func(tx *Tx, c storetest.Crowd) (RegistrationTask, error) {
			return tx.RegistrationTask(c.Scope, "0000000")
		}),
		listed("tasks", "", with((*Tx).RegistrationTasks, RegistrationStatus(""))),
		listed("tasks that are done", "", with((*Tx).RegistrationTasks, RegistrationDone)),
		listed("approvals", "", with((*Tx).Approvals, fleet.ApprovalState(""))),
		listed("approvals, end", "NUMBER", with((*Tx).Approvals, fleet.ApprovalState(""))),
		listed("approvals that wait", "", with((*Tx).Approvals, fleet.ApprovalPending)),
		listed("approvals that were used", "", with((*Tx).Approvals, fleet.ApprovalUsed)),
		listed("functions", "", scoped((*Tx).Functions)),
		listed("functions, end", "function-NUMBER", scoped((*Tx).Functions)),
		listed("tables", "", scoped((*Tx).Tables)),
		listed("tables, end", "table-NUMBER", scoped((*Tx).Tables)),
		listed("keys of a table", "", with((*Tx).TableKeys, "table-0000000")),
		listed("keys of a table, end", "NUMBER", with((*Tx).TableKeys, "table-0000000")),
		described("key of a table", func(tx *Tx, c storetest.Crowd) (bool, error) { return tx.TableHas(c.Scope, "table-0000000", "0000500") }),
		listed("certificates that end", "", expiries),
		listed("certificates that end, end", "ENDS", expiries),
	}
	for _, kind := range OrphanKinds {
		list = append(list, listed("orphans: "+string(kind), "", func(tx *Tx, c storetest.Crowd, p fleet.Page) ([]Orphan, string, error) {
			return tx.Orphans(c.Scope, kind, time.Now(), p)
		}))
	}
	return list
}
