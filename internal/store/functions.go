package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const functionColumns = `name, kind, url, remote, remote_region, access_key, secret, rule, timeout, modified`

func scanFunction(s scanner) (f fleet.Function, err error) {
	var kind string
	var timeout, modified int64
	err = s.Scan(&f.Name, &kind, &f.URL, &f.Remote, &f.Region, &f.AccessKeyID, &f.Sealed, &f.Rule, &timeout, &modified)
	f.Kind, f.Timeout, f.Modified = fleet.FunctionKind(kind), time.Duration(timeout)*time.Millisecond, fromMillis(modified)
	return f, err
}

// Function returns a function. It fails with KindNotFound.
func (tx *Tx) Function(s fleet.Scope, name string) (fleet.Function, error) {
	return find(tx, "function", name, scanFunction,
		`SELECT `+functionColumns+` FROM functions WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
}

// Functions lists functions by name.
func (tx *Tx) Functions(s fleet.Scope, p fleet.Page) ([]fleet.Function, string, error) {
	list, err := all(tx, scanFunction, `SELECT `+functionColumns+` FROM functions WHERE account = ? AND region = ? AND name > ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(f fleet.Function) string { return f.Name })
	return list, next, err
}

// CountFunctions returns how many functions the scope has.
func (tx *Tx) CountFunctions(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM functions WHERE account = ? AND region = ?`, s.Account, s.Region).Scan(&n)
	return n, err
}

// PutFunction stores f in place of the function of its name, if there is one. Its time of modification is now.
func (tx *Tx) PutFunction(s fleet.Scope, f fleet.Function) error {
	if f.Sealed == nil {
		f.Sealed = []byte{}
	}
	_, err := tx.exec(`INSERT INTO functions (account, region, name, kind, url, remote, remote_region, access_key, secret, rule, timeout, modified)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, region, name) DO UPDATE SET kind = excluded.kind, url = excluded.url,
		remote = excluded.remote, remote_region = excluded.remote_region, access_key = excluded.access_key, secret = excluded.secret,
		rule = excluded.rule, timeout = excluded.timeout, modified = excluded.modified`,
		s.Account, s.Region, f.Name, string(f.Kind), f.URL, f.Remote, f.Region, f.AccessKeyID, f.Sealed, f.Rule, f.Timeout.Milliseconds(), millis(tx.Now()))
	return err
}

// DeleteFunction removes a function, whatever its kind. It fails with KindNotFound.
func (tx *Tx) DeleteFunction(s fleet.Scope, name string) error {
	if err := tx.deleteLocalFunction(s, name); err != nil {
		return err
	}
	found, err := changedRows(tx.exec(`DELETE FROM functions WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name))
	if err == nil && !found {
		err = fleet.NotFound("function", name)
	}
	return err
}
