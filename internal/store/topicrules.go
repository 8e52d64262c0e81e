package store

import "github.com/imprint-iot/imprint/internal/fleet"

// ChangedTopicRule is the kind of Change of rules: its key is "", since the rules of a scope are read together.
const ChangedTopicRule = "topicrule"

const topicRuleColumns = `name, sql, sql_version, filter, description, disabled, actions, error_action, created`

func scanTopicRule(s scanner) (r fleet.TopicRule, err error) {
	var disabled int
	var actions, onError string
	var created int64
	if err = s.Scan(&r.Name, &r.SQL, &r.SQLVersion, &r.Filter, &r.Description, &disabled, &actions, &onError, &created); err != nil {
		return r, err
	}
	r.Disabled, r.Created = disabled != 0, fromMillis(created)
	if err = fromJSON(actions, &r.Actions); err == nil {
		err = fromJSON(onError, &r.ErrorAction)
	}
	return r, err
}

// TopicRule returns a rule. It fails with KindNotFound.
func (tx *Tx) TopicRule(s fleet.Scope, name string) (fleet.TopicRule, error) {
	r, found, err := one(tx, scanTopicRule, `SELECT `+topicRuleColumns+` FROM topic_rules WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
	if err == nil && !found {
		err = fleet.NotFound("topic rule", name)
	}
	return r, err
}

// TopicRules lists rules by name. disabled, if not nil, says which.
func (tx *Tx) TopicRules(s fleet.Scope, disabled *bool, p fleet.Page) ([]fleet.TopicRule, string, error) {
	where, args := `account = ? AND region = ? AND name > ?`, []any{s.Account, s.Region, p.After}
	if disabled != nil {
		where, args = where+` AND disabled = ?`, append(args, flag(*disabled))
	}
	list, err := all(tx, scanTopicRule, `SELECT `+topicRuleColumns+` FROM topic_rules WHERE `+where+` ORDER BY name LIMIT ?`, append(args, pageLimit(p))...)
	list, next := cutPage(p, list, func(r fleet.TopicRule) string { return r.Name })
	return list, next, err
}

// CountTopicRules returns how many rules the scope has.
func (tx *Tx) CountTopicRules(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM topic_rules WHERE account = ? AND region = ?`, s.Account, s.Region).Scan(&n)
	return n, err
}

func scanScope(r scanner) (s fleet.Scope, err error) {
	err = r.Scan(&s.Account, &s.Region)
	return s, err
}

// PutTopicRule stores r in place of the rule of its name, if there is one.
func (tx *Tx) PutTopicRule(s fleet.Scope, r fleet.TopicRule) error {
	_, err := tx.exec(`INSERT INTO topic_rules (account, region, `+topicRuleColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, name) DO UPDATE SET sql = excluded.sql, sql_version = excluded.sql_version, description = excluded.description,
		disabled = excluded.disabled, actions = excluded.actions, error_action = excluded.error_action, filter = excluded.filter`,
		s.Account, s.Region, r.Name, r.SQL, r.SQLVersion, r.Filter, r.Description, flag(r.Disabled), toJSON(r.Actions), toJSON(r.ErrorAction), millis(r.Created))
	tx.Changed(s, ChangedTopicRule, "")
	return err
}

// DeleteTopicRule removes a rule with its tags. found is false if there was none.
func (tx *Tx) DeleteTopicRule(s fleet.Scope, name string) (found bool, err error) {
	found, err = changedRows(tx.exec(`DELETE FROM topic_rules WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name))
	if err != nil || !found {
		return false, err
	}
	tx.Changed(s, ChangedTopicRule, "")
	return true, tx.deleteTags(s, "rule/"+name)
}
