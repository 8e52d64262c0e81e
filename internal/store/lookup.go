package store

import (
	"github.com/imprint-iot/imprint/internal/fleet"
)

// Lookup tables: sets of keys that rules ask.

// tableID returns the id of a table. It fails with KindNotFound.
func (tx *Tx) tableID(s fleet.Scope, name string) (string, error) {
	return find(tx, "table", name, scanString,
		`SELECT id FROM lookup_tables WHERE account = ? AND region = ? AND name = ? AND deleted = 0`, s.Account, s.Region, name)
}

// CreateTable makes an empty table, if there is none of that name, and reports whether it did.
func (tx *Tx) CreateTable(s fleet.Scope, name string) (created bool, err error) {
	return tx.insert(`INSERT INTO lookup_tables (account, region, id, name, size, created, deleted) VALUES (?, ?, ?, ?, 0, ?, 0)`,
		s.Account, s.Region, fleet.NewUUID(), name, millis(tx.Now()))
}

// Tables lists tables by name.
func (tx *Tx) Tables(s fleet.Scope, p fleet.Page) ([]fleet.LookupTable, string, error) {
	list, err := all(tx, func(r scanner) (t fleet.LookupTable, err error) {
		var created int64
		err = r.Scan(&t.Name, &t.Size, &created)
		t.Created = fromMillis(created)
		return t, err
	}, `SELECT name, size, created FROM lookup_tables WHERE account = ? AND region = ? AND deleted = 0 AND name > ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(t fleet.LookupTable) string { return t.Name })
	return list, next, err
}

// CountTables returns how many tables the scope has.
func (tx *Tx) CountTables(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM lookup_tables WHERE account = ? AND region = ? AND deleted = 0`, s.Account, s.Region).Scan(&n)
	return n, err
}

// TableHas reports whether a table has a key. It fails with KindNotFound if there is no such table.
func (tx *Tx) TableHas(s fleet.Scope, table, key string) (bool, error) {
	id, err := tx.tableID(s, table)
	if err != nil {
		return false, err
	}
	_, found, err := one(tx, scanString, `SELECT key FROM lookup_keys WHERE account = ? AND region = ? AND table_id = ? AND key = ?`, s.Account, s.Region, id, key)
	return found, err
}

// TableKeys lists the keys of a table in the order of their bytes. It fails with KindNotFound.
func (tx *Tx) TableKeys(s fleet.Scope, table string, p fleet.Page) ([]string, string, error) {
	id, err := tx.tableID(s, table)
	if err != nil {
		return nil, "", err
	}
	list, err := all(tx, scanString, `SELECT key FROM lookup_keys WHERE account = ? AND region = ? AND table_id = ? AND key > ? ORDER BY key LIMIT ?`,
		s.Account, s.Region, id, p.After, pageLimit(p))
	list, next := cutPage(p, list, self)
	return list, next, err
}

// AddKeys puts keys into a table and returns how many it lacked. It fails with KindNotFound.
func (tx *Tx) AddKeys(s fleet.Scope, table string, keys []string) (int, error) {
	return tx.eachKey(s, table, 1, keys, func(id, key string) (bool, error) {
		return tx.insert(`INSERT INTO lookup_keys (account, region, table_id, key) VALUES (?, ?, ?, ?)`, s.Account, s.Region, id, key)
	})
}

// RemoveKeys takes keys out of a table and returns how many it had. It fails with KindNotFound.
func (tx *Tx) RemoveKeys(s fleet.Scope, table string, keys []string) (int, error) {
	return tx.eachKey(s, table, -1, keys, func(id, key string) (bool, error) {
		return changedRows(tx.exec(`DELETE FROM lookup_keys WHERE account = ? AND region = ? AND table_id = ? AND key = ?`, s.Account, s.Region, id, key))
	})
}

// eachKey does one thing to each key and counts the size of the table by sign for each that changed something.
func (tx *Tx) eachKey(s fleet.Scope, table string, sign int, keys []string, do func(id, key string) (bool, error)) (n int, err error) {
	id, err := tx.tableID(s, table)
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		changed, err := do(id, key)
		if err != nil {
			return 0, err
		}
		if changed {
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	_, err = tx.exec(`UPDATE lookup_tables SET size = size + ? WHERE account = ? AND region = ? AND id = ?`, sign*n, s.Account, s.Region, id)
	return n, err
}

// DeleteTable takes a table away at once; SweepTables removes its keys. It fails with KindNotFound.
func (tx *Tx) DeleteTable(s fleet.Scope, name string) error {
	found, err := changedRows(tx.exec(`UPDATE lookup_tables SET deleted = 1 WHERE account = ? AND region = ? AND name = ? AND deleted = 0`,
		s.Account, s.Region, name))
	if err == nil && !found {
		err = fleet.NotFound("table", name)
	}
	return err
}

// SweepTables removes at most limit keys of a deleted table, and the table with its last one. It reports whether there is more to do.
func (tx *Tx) SweepTables(limit int) (more bool, err error) {
	var account, region, id string
	_, found, err := one(tx, func(r scanner) (struct{}, error) { return struct{}{}, r.Scan(&account, &region, &id) },
		`SELECT account, region, id FROM lookup_tables WHERE deleted = 1 ORDER BY id LIMIT 1`)
	if err != nil || !found {
		return false, err
	}
	removed, err := tx.exec(`DELETE FROM lookup_keys WHERE account = ? AND region = ? AND table_id = ? AND key IN
		(SELECT key FROM lookup_keys WHERE account = ? AND region = ? AND table_id = ? ORDER BY key LIMIT ?)`,
		account, region, id, account, region, id, limit)
	if err != nil {
		return false, err
	}
	if n, err := removed.RowsAffected(); err != nil || n > 0 {
		return n > 0, err
	}
	_, err = tx.exec(`DELETE FROM lookup_tables WHERE account = ? AND region = ? AND id = ?`, account, region, id)
	return err == nil, err
}
