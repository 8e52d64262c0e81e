package store

import "strings"

// regional are the tables of what an account keeps in a region. Rows of other tables hang on these, or are gone by themselves.
var regional = []string{"things", "thing_types", "thing_groups", "billing_groups", "certificates", "ca_certificates", "policies", "templates", "role_aliases",
	"domain_configurations", "topic_rules", "rule_destinations", "functions", "lambda_functions", "lookup_tables", "user_pools", "identity_pools"}

// InRegion names, as people say it, a sort of thing that some account keeps in a region, "" if no account keeps anything there.
func (tx *Tx) InRegion(region string) (string, error) {
	accounts, err := tx.Accounts()
	if err != nil {
		return "", err
	}
	for _, a := range accounts {
		for _, table := range regional {
			_, found, err := one(tx, scanInt, `SELECT 1 FROM `+table+` WHERE account = ? AND region = ? LIMIT 1`, a.ID, region)
			if err != nil || found {
				return strings.ReplaceAll(table, "_", " ") + " of account " + a.ID, err
			}
		}
	}
	return "", nil
}
