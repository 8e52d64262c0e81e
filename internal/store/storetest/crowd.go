package storetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Crowd is a registry of N things in a scope of its own: each has a type, three attributes, a group at the bottom of a tree of three
// levels, the billing group that all have, and a certificate with the policy that all have. Every twenty-fifth is of another type. Of
// everything else that is listed there are fewer; crowdRows has it.
type Crowd struct {
	fleet.Scope
	N        int
	Postgres bool // the engine
}

const (
	PerSite   = 100 // things in a group at the bottom
	perRegion = 100 // such groups in a region
	once      = 1 << 40
	document  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
	SoonEnds  = 1893456000000 // when the first of the certificates end, in milliseconds: each minute one
)

func (c Crowd) Thing(i int) string { return fmt.Sprintf("thing-%07d", i) }
func (c Crowd) Site(i int) string  { return fmt.Sprintf("site-%05d", i/PerSite) }
func (c Crowd) Area(i int) string  { return fmt.Sprintf("region-%03d", i/PerSite/perRegion) }

// Cert is an id that has nothing to do with the order of things, as the hash that it is otherwise.
func (c Crowd) Cert(i int) string { return fmt.Sprintf("%08x%056d", int64(i)*2654435761%4294967296, i) }

// crowdRows are the rows that one thing in so many brings, as expressions of its number i.
var crowdRows = []struct {
	table string
	every int
	row   []string // column, expression, …
}{
	{"things", 1, []string{"name", "THING", "id", "'id'", "thing_type", "KIND", "attributes", `'{"colour":"' || COLOUR || '","serial":"' || TEXT || '","site":"' || SITE || '"}'`,
		"billing_group", "'all'", "version", "1", "created", "i"}},
	{"thing_attributes", 1, []string{"name", "'serial'", "value", "TEXT", "thing_type", "KIND", "thing", "THING"}},
	{"thing_attributes", 1, []string{"name", "'site'", "value", "SITE", "thing_type", "KIND", "thing", "THING"}},
	{"thing_attributes", 1, []string{"name", "'colour'", "value", "COLOUR", "thing_type", "KIND", "thing", "THING"}},
	{"thing_group_members", 1, []string{"thing", "THING", "grp", "SITE"}},
	{"thing_principals", 1, []string{"thing", "THING", "principal", "'cert/' || CERT", "type", "'EXCLUSIVE_THING'"}},
	{"thing_principals", 1, []string{"thing", "THING", "principal", "'cert/shared'", "type", "'NON_EXCLUSIVE_THING'"}},
	{"policy_attachments", 1, []string{"target", "'cert/' || CERT", "policy", "'all'"}},
	{"certificates", 1, []string{"id", "CERT", "pem", "'pem'", "status", "'ACTIVE'", "mode", "'DEFAULT'", "ca_id", "CASE i % 10 WHEN 0 THEN 'ca-0000000' ELSE '' END", "not_before", "0",
		"not_after", fmt.Sprint(SoonEnds, " + i * 60000"), "created", "i", "modified", "i", "version", "1", "generation", "''", "origin_claim", "'claim-' || NUMBER || ACCOUNT", "origin_requester", "''",
		"origin_template", "'template-0000000'", "origin_csr", "TEXT", "expires", "0"}},
	{"registrations", 1, []string{"certificate", "CERT", "thing", "THING", "template", "'template-0000000'", "version", "1", "principal", "'claim-' || NUMBER || ACCOUNT", "installer", "''",
		"parameters", "''", "configuration", "''", "created", "i", "replay_until", "0"}},
	{"claims", 1, []string{"id", "'claim-' || NUMBER || ACCOUNT", "subject", "''", "template", "'template-0000000'", "created", "i", "expires", "i", "revoked", "0", "installer", "''"}},
	{"certificate_use", 1, []string{"certificate", "CERT", "first_seen", "i", "last_seen", "i"}},
	{"log_entries", 1, []string{"grp", "'log-0000000'", "at", "i", "id", "NUMBER", "stream", "'stream'", "ingested", "i", "bytes", "100", "message", "TEXT"}},
	{"lookup_keys", 1, []string{"table_id", "'table-0000000'", "key", "NUMBER"}},
	{"thing_groups", PerSite, []string{"name", "SITE", "id", "'id'", "parent", "REGION", "path", "'fleet/' || REGION || '/'", "description", "''", "attributes", "''", "version", "1", "created", "0"}},
	{"thing_groups", PerSite * perRegion, []string{"name", "REGION", "id", "'id'", "parent", "'fleet'", "path", "'fleet/'", "description", "''", "attributes", "''", "version", "1", "created", "0"}},
	{"tags", PerSite, []string{"resource", "'thinggroup/' || SITE", "key", "'of'", "value", "'all'"}},
	{"approvals", 10, []string{"id", "NUMBER", "thing", "THING", "key_hash", "''", "state", "CASE i % 1000 WHEN 0 THEN 'PENDING' ELSE 'DENIED' END", "template", "''", "principal", "''",
		"certificate", "CERT", "client", "''", "address", "''", "trace", "''", "attempts", "1", "replaces", "0", "decided_by", "''", "created", "i", "decided", "i", "expires", "i"}},
	{"certificate_transfers", 100, []string{"certificate", "CERT", "peer", "'999999999999'", "outgoing", "1", "state", "CASE i % 1000 WHEN 0 THEN 'pending' ELSE 'accepted' END", "message", "''",
		"reason", "''", "requested", "i", "ended", "0"}},
	{"policies", 100, []string{"name", "'policy-' || NUMBER", "default_version", "1", "last_version", "1", "created", "i", "modified", "i", "generation", "''"}},
	{"policy_versions", 100, []string{"policy", "'policy-' || NUMBER", "id", "1", "document", "''", "created", "i"}},
	{"thing_types", 100, []string{"name", "'type-' || NUMBER", "id", "'id'", "description", "''", "searchable", "''", "propagating", "''", "deprecated", "0", "created", "i"}},
	{"billing_groups", 100, []string{"name", "'bill-' || NUMBER", "id", "'id'", "description", "''", "version", "1", "created", "i"}},
	{"templates", 100, []string{"name", "'template-' || NUMBER", "description", "''", "type", "''", "role_arn", "''", "enabled", "1", "default_version", "1", "last_version", "1", "hook_version", "''",
		"hook_target", "''", "created", "i", "modified", "i"}},
	{"template_versions", 100, []string{"template", "'template-0000000'", "id", "i + 1", "body", "''", "created", "i"}},
	{"role_aliases", 100, []string{"name", "'role-' || NUMBER", "role", "''", "duration", "900", "created", "i", "modified", "i"}},
	{"domain_configurations", 100, []string{"name", "'domain-' || NUMBER", "domain", "ACCOUNT || NUMBER", "managed", "0", "enabled", "1", "security_policy", "''", "authentication", "''", "protocol", "''",
		"changed", "i"}},
	{"rule_destinations", 100, []string{"id", "NUMBER", "url", "''", "status", "'ENABLED'", "reason", "''", "token", "''", "created", "i", "modified", "i"}},
	{"ca_certificates", 100, []string{"id", "'ca-' || NUMBER", "pem", "''", "subject", "TEXT", "key_hash", "TEXT", "status", "'ACTIVE'", "mode", "'DEFAULT'", "auto", "0",
		"template", "CASE i % 1000 WHEN 0 THEN 'template-0000000' ELSE '' END", "body", "''", "role_arn", "''", "not_before", "0", "not_after", "0", "created", "i", "modified", "i", "version", "1", "generation", "''"}},
	{"functions", 4000, []string{"name", "'function-' || NUMBER", "kind", "'rule'", "url", "''", "remote", "''", "remote_region", "''", "access_key", "''", "secret", "CAST('' AS BYTEA)", "rule", "''",
		"timeout", "0", "modified", "i"}},
	{"log_groups", 100, []string{"id", "'log-' || NUMBER", "name", "'log-' || NUMBER", "created", "i", "keep_days", "0"}},
	{"lookup_tables", 100, []string{"id", "'table-' || NUMBER", "name", "'table-' || NUMBER", "size", "0", "created", "i", "deleted", "0"}},
	{"policies", once, []string{"name", "'all'", "default_version", "1", "last_version", "1", "created", "0", "modified", "0", "generation", "''"}},
	{"policy_versions", once, []string{"policy", "'all'", "id", "1", "document", "'" + document + "'", "created", "0"}},
	{"thing_types", once, []string{"name", "'lamp'", "id", "'id'", "description", "''", "searchable", "''", "propagating", "''", "deprecated", "0", "created", "0"}},
	{"thing_types", once, []string{"name", "'rare'", "id", "'id'", "description", "''", "searchable", "''", "propagating", "''", "deprecated", "0", "created", "0"}},
	{"billing_groups", once, []string{"name", "'all'", "id", "'id'", "description", "''", "version", "1", "created", "0"}},
	{"thing_groups", once, []string{"name", "'fleet'", "id", "'id'", "parent", "''", "path", "''", "description", "''", "attributes", "''", "version", "1", "created", "0"}},
	{"topic_rules", 1000, []string{"name", "'rule_' || NUMBER", "sql", "''", "sql_version", "''", "filter", "'a/' || NUMBER", "description", "''", "disabled", "0", "actions", "''", "error_action", "''", "created", "i"}},
	{"registration_tasks", 1000, []string{"id", "NUMBER", "body", "''", "bucket", "''", "object", "''", "role", "''", "status", "'Completed'", "message", "''", "created", "i", "modified", "i", "ended", "1",
		"etag", "''", "size", "0", "position", "0", "line", "0", "successes", "0", "failures", "0", "results", "0", "errors", "0"}},
}

// words gives the expressions of crowdRows their meaning.
func (c Crowd) words() *strings.Replacer {
	pad := func(number string, width int) string {
		if c.Postgres {
			return fmt.Sprintf("lpad(CAST(%s AS TEXT), %d, '0')", number, width)
		}
		return fmt.Sprintf("printf('%%0%dd', %s)", width, number)
	}
	hash, bytea := "i * 2654435761 % 4294967296", "BLOB"
	cert := fmt.Sprintf("printf('%%08x', %s)", hash)
	if c.Postgres {
		cert, bytea = fmt.Sprintf("lpad(to_hex(%s), 8, '0')", hash), "BYTEA"
	}
	return strings.NewReplacer("EXCLUSIVE_THING", "EXCLUSIVE_THING", "THING", "'thing-' || "+pad("i", 7), "SITE", "'site-' || "+pad("i / 100", 5), "REGION", "'region-' || "+pad("i / 10000", 3), "NUMBER", pad("i", 7),
		"CERT", cert+" || "+pad("i", 56), "COLOUR", "CASE i % 2 WHEN 0 THEN 'red' ELSE 'green' END", "KIND", "CASE i % 25 WHEN 0 THEN 'rare' ELSE 'lamp' END",
		"ACCOUNT", "'"+c.Account+"'", "AS TEXT", "AS TEXT", "TEXT", "CAST(i AS TEXT)", "BYTEA", bytea)
}

// Fill makes the rows past the store, which nobody may write to meanwhile. exec runs a statement, each on the same connection.
func (c Crowd) Fill(t testing.TB, exec func(statement string) error) {
	t.Helper()
	do := func(statement string) {
		t.Helper()
		if err := exec(statement); err != nil {
			_ = exec("ROLLBACK") // there may be nothing to undo
			t.Fatalf("%s: %v", statement, err)
		}
	}
	settings := []string{"PRAGMA synchronous = OFF", "PRAGMA cache_size = -1000000"}
	if c.Postgres {
		settings = []string{"SET synchronous_commit = off", "SET statement_timeout = 0", "SET idle_in_transaction_session_timeout = 0"}
	}
	for _, setting := range settings {
		do(setting)
	}
	const chunk = 50_000
	for from := 0; from < c.N; from += chunk {
		do("BEGIN")
		for _, statement := range c.statements(from, min(from+chunk, c.N)) {
			do(statement)
		}
		do("COMMIT")
	}
	if !c.Postgres { // a long log slows down whoever reads
		do("PRAGMA wal_checkpoint(TRUNCATE)")
	}
}

// statements make the rows of some things.
func (c Crowd) statements(from, to int) (list []string) {
	words := c.words()
	for _, r := range crowdRows {
		columns, values := "account, region", "'"+c.Account+"', '"+c.Scope.Region+"'"
		for i := 0; i < len(r.row); i += 2 {
			columns, values = columns+", "+r.row[i], values+", "+words.Replace(r.row[i+1])
		}
		first := (from + r.every - 1) / r.every * r.every
		if first < to {
			list = append(list, fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + %d FROM n WHERE i + %d < %d) INSERT INTO %s (%s) SELECT %s FROM n`,
				first, r.every, r.every, to, r.table, columns, values))
		}
	}
	return list
}
