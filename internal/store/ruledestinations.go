package store

import "github.com/imprint-iot/imprint/internal/fleet"

const destinationColumns = `id, url, status, reason, token, created, modified`

func scanDestination(s scanner) (d fleet.RuleDestination, err error) {
	var created, modified int64
	err = s.Scan(&d.ID, &d.URL, &d.Status, &d.Reason, &d.TokenHash, &created, &modified)
	d.Created, d.Modified = fromMillis(created), fromMillis(modified)
	return d, err
}

// RuleDestination returns a destination of rules. It fails with KindNotFound.
func (tx *Tx) RuleDestination(s fleet.Scope, id string) (fleet.RuleDestination, error) {
	d, found, err := one(tx, scanDestination, `SELECT `+destinationColumns+` FROM rule_destinations WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
	if err == nil && !found {
		err = fleet.NotFound("rule destination", id)
	}
	return d, err
}

// RuleDestinations lists the destinations of rules by id.
func (tx *Tx) RuleDestinations(s fleet.Scope, p fleet.Page) ([]fleet.RuleDestination, string, error) {
	list, err := all(tx, scanDestination, `SELECT `+destinationColumns+` FROM rule_destinations WHERE account = ? AND region = ? AND id > ? ORDER BY id LIMIT ?`,
		s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(d fleet.RuleDestination) string { return d.ID })
	return list, next, err
}

// DestinationOfToken returns the destination that a token, by its hash, confirms, and whose it is. found is false if there is none.
func (tx *Tx) DestinationOfToken(hash string) (s fleet.Scope, id string, found bool, err error) {
	type owner struct {
		scope fleet.Scope
		id    string
	}
	o, found, err := one(tx, func(r scanner) (o owner, err error) {
		err = r.Scan(&o.scope.Account, &o.scope.Region, &o.id)
		return o, err
	}, `SELECT account, region, id FROM rule_destinations WHERE token = ? AND token <> ''`, hash)
	return o.scope, o.id, found, err
}

// PutRuleDestination stores d in place of the destination of its id, if there is one.
func (tx *Tx) PutRuleDestination(s fleet.Scope, d fleet.RuleDestination) error {
	_, err := tx.exec(`INSERT INTO rule_destinations (account, region, `+destinationColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, id) DO UPDATE SET url = excluded.url, status = excluded.status, reason = excluded.reason, token = excluded.token,
		modified = excluded.modified`,
		s.Account, s.Region, d.ID, d.URL, d.Status, d.Reason, d.TokenHash, millis(d.Created), millis(d.Modified))
	tx.Changed(s, ChangedTopicRule, "")
	return err
}

// DeleteRuleDestination removes a destination. It fails with KindNotFound.
func (tx *Tx) DeleteRuleDestination(s fleet.Scope, id string) error {
	found, err := changedRows(tx.exec(`DELETE FROM rule_destinations WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id))
	if err == nil && !found {
		err = fleet.NotFound("rule destination", id)
	}
	tx.Changed(s, ChangedTopicRule, "")
	return err
}
