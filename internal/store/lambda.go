package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Functions that this server runs. Each has a row among all functions (functions.go) with what hooks need, and one here.

const localColumns = `name, runtime, handler, role, description, architecture, timeout, memory, storage, code, code_size, environment, permissions, revision, modified`

func scanLocal(s scanner) (f fleet.LocalFunction, err error) {
	var timeout, modified int64
	var permissions string
	if err = s.Scan(&f.Name, &f.Runtime, &f.Handler, &f.Role, &f.Description, &f.Architecture, &timeout, &f.Memory, &f.Storage, &f.Code.Digest, &f.Code.Size,
		&f.Environment, &permissions, &f.Revision, &modified); err != nil {
		return f, err
	}
	f.Timeout, f.Modified = time.Duration(timeout)*time.Second, fromMillis(modified)
	return f, fromJSON(permissions, &f.Permissions)
}

// LocalFunction returns a function that this server runs. It fails with KindNotFound.
func (tx *Tx) LocalFunction(s fleet.Scope, name string) (fleet.LocalFunction, error) {
	return find(tx, "function", name, scanLocal,
		`SELECT `+localColumns+` FROM lambda_functions WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
}

// LocalFunctions lists the functions that this server runs by name.
func (tx *Tx) LocalFunctions(s fleet.Scope, p fleet.Page) ([]fleet.LocalFunction, string, error) {
	list, err := all(tx, scanLocal, `SELECT `+localColumns+` FROM lambda_functions WHERE account = ? AND region = ? AND name > ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, p.After, pageLimit(p))
	list, next := cutPage(p, list, func(f fleet.LocalFunction) string { return f.Name })
	return list, next, err
}

// PutLocalFunction stores f in place of the function of its name, if there is one. hooks is how long it may take as a hook.
func (tx *Tx) PutLocalFunction(s fleet.Scope, f fleet.LocalFunction, hooks time.Duration) error {
	if f.Environment == nil {
		f.Environment = []byte{}
	}
	if _, err := tx.exec(`INSERT INTO lambda_functions (account, region, `+localColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (account, region, name) DO UPDATE SET runtime = excluded.runtime, handler = excluded.handler, role = excluded.role,
		description = excluded.description, architecture = excluded.architecture, timeout = excluded.timeout, memory = excluded.memory,
		storage = excluded.storage, code = excluded.code, code_size = excluded.code_size, environment = excluded.environment,
		permissions = excluded.permissions, revision = excluded.revision, modified = excluded.modified`,
		s.Account, s.Region, f.Name, f.Runtime, f.Handler, f.Role, f.Description, f.Architecture, int64(f.Timeout/time.Second), f.Memory, f.Storage,
		f.Code.Digest, f.Code.Size, f.Environment, toJSON(f.Permissions), f.Revision, millis(f.Modified)); err != nil {
		return err
	}
	return tx.PutFunction(s, fleet.Function{Name: f.Name, Kind: fleet.Local, Timeout: hooks})
}

func (tx *Tx) deleteLocalFunction(s fleet.Scope, name string) error {
	if _, err := tx.exec(`DELETE FROM lambda_functions WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name); err != nil {
		return err
	}
	return tx.deleteTags(s, "function:"+name)
}

// CodeInUse returns the digests of the code of all functions of all scopes.
func (tx *Tx) CodeInUse() ([]string, error) {
	return all(tx, scanString, `SELECT DISTINCT code FROM lambda_functions`)
}

// CodeSize returns how many bytes of code the scope has.
func (tx *Tx) CodeSize(s fleet.Scope) (n int64, err error) {
	err = tx.row(`SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM lambda_code WHERE account = ? AND region = ?`, s.Account, s.Region).Scan(&n)
	return n, err
}

// BeginCode makes room for code and keeps it from being swept for as long as an upload may take. It reports whether all of it is there.
func (tx *Tx) BeginCode(s fleet.Scope, c fleet.FunctionCode) (complete bool, err error) {
	if _, err := tx.exec(`INSERT INTO lambda_code (account, region, digest, size, used) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (account, region, digest) DO UPDATE SET used = excluded.used`, s.Account, s.Region, c.Digest, c.Size, millis(tx.Now())); err != nil {
		return false, err
	}
	return tx.HasCode(s, c)
}

// HasCode reports whether all of a code is there.
func (tx *Tx) HasCode(s fleet.Scope, c fleet.FunctionCode) (bool, error) {
	var n int64
	err := tx.row(`SELECT CAST(COALESCE(SUM(LENGTH(content)), 0) AS BIGINT) FROM lambda_code_parts WHERE account = ? AND region = ? AND digest = ?`, s.Account, s.Region, c.Digest).Scan(&n)
	return err == nil && n == c.Size, err
}

// PutCodePart adds a part of a code, counted from 0, unless it is there.
func (tx *Tx) PutCodePart(s fleet.Scope, digest string, part int, content []byte) error {
	_, err := tx.insert(`INSERT INTO lambda_code_parts (account, region, digest, part, content) VALUES (?, ?, ?, ?, ?)`, s.Account, s.Region, digest, part, content)
	return err
}

// CodePart returns a part of a code. It fails with KindNotFound behind the last one.
func (tx *Tx) CodePart(s fleet.Scope, digest string, part int) (content []byte, err error) {
	return find(tx, "code", digest, func(row scanner) (b []byte, err error) { return b, row.Scan(&b) },
		`SELECT content FROM lambda_code_parts WHERE account = ? AND region = ? AND digest = ? AND part = ?`, s.Account, s.Region, digest, part)
}

// sweepParts is how many parts of a code go in one transaction.
const sweepParts = 8

// SweepCode removes a few parts of code that no function has and that nobody has uploaded since before. more is false when nothing is left
// of it.
func (tx *Tx) SweepCode(before time.Time) (more bool, err error) {
	type place struct{ account, region, digest string }
	p, found, err := one(tx, func(s scanner) (p place, err error) { return p, s.Scan(&p.account, &p.region, &p.digest) },
		`SELECT c.account, c.region, c.digest FROM lambda_code c WHERE c.used < ? AND NOT EXISTS (SELECT 1 FROM lambda_functions f
		WHERE f.account = c.account AND f.region = c.region AND f.code = c.digest) ORDER BY c.account, c.region, c.digest LIMIT 1`, millis(before))
	if err != nil || !found {
		return false, err
	}
	left, err := changedRows(tx.exec(`DELETE FROM lambda_code_parts WHERE account = ? AND region = ? AND digest = ? AND part IN
		(SELECT part FROM lambda_code_parts WHERE account = ? AND region = ? AND digest = ? ORDER BY part DESC LIMIT ?)`,
		p.account, p.region, p.digest, p.account, p.region, p.digest, sweepParts))
	if err != nil || left {
		return true, err
	}
	_, err = tx.exec(`DELETE FROM lambda_code WHERE account = ? AND region = ? AND digest = ?`, p.account, p.region, p.digest)
	return true, err
}
