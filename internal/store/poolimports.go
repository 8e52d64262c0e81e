package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A PoolImport is a job that makes users of the lines of a file.
type PoolImport struct {
	Scope                       fleet.Scope
	Pool, ID, Name, Role        string
	Status, Message             string
	Created, Started, Completed time.Time // Started, Completed: zero: not yet
	File                        string    // empty: there is none, or none any more
	Size                        int64     // bytes of the file
	Done, Line                  int64     // bytes and lines of it that were worked on
	Imported, Skipped, Failed   int64     // users
}

const poolImportColumns = `account, region, pool, id, name, role, status, message, created, started, completed, file, size, done, line, imported, skipped, failed`

func scanPoolImport(s scanner) (i PoolImport, err error) {
	var created, started, completed int64
	err = s.Scan(&i.Scope.Account, &i.Scope.Region, &i.Pool, &i.ID, &i.Name, &i.Role, &i.Status, &i.Message, &created, &started, &completed,
		&i.File, &i.Size, &i.Done, &i.Line, &i.Imported, &i.Skipped, &i.Failed)
	i.Created, i.Started, i.Completed = fromMillis(created), fromMillis(started), fromMillis(completed)
	return i, err
}

// PoolImport returns a job. It fails with KindNotFound.
func (tx *Tx) PoolImport(s fleet.Scope, pool, id string) (PoolImport, error) {
	i, found, err := one(tx, scanPoolImport, `SELECT `+poolImportColumns+` FROM pool_imports WHERE account = ? AND region = ? AND pool = ? AND id = ?`,
		s.Account, s.Region, pool, id)
	if err == nil && !found {
		err = fleet.NotFound("user import job", id)
	}
	return i, err
}

// AddPoolImport adds a job.
func (tx *Tx) AddPoolImport(i PoolImport) error {
	_, err := tx.exec(`INSERT INTO pool_imports (`+poolImportColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.Scope.Account, i.Scope.Region, i.Pool, i.ID, i.Name, i.Role, i.Status, i.Message, millis(i.Created), millis(i.Started), millis(i.Completed),
		i.File, i.Size, i.Done, i.Line, i.Imported, i.Skipped, i.Failed)
	return err
}

// UpdatePoolImport stores how far a job is. A file that it has no more is left to SweepPoolImports.
func (tx *Tx) UpdatePoolImport(old, i PoolImport) error {
	if old.File != "" && old.File != i.File {
		if err := tx.DropImportFile(i.Scope, old.File); err != nil {
			return err
		}
	}
	_, err := tx.exec(`UPDATE pool_imports SET status = ?, message = ?, started = ?, completed = ?, file = ?, size = ?, done = ?, line = ?, imported = ?, skipped = ?, failed = ?
		WHERE account = ? AND region = ? AND pool = ? AND id = ?`, i.Status, i.Message, millis(i.Started), millis(i.Completed), i.File, i.Size, i.Done, i.Line,
		i.Imported, i.Skipped, i.Failed, i.Scope.Account, i.Scope.Region, i.Pool, i.ID)
	return err
}

// PoolImports lists the jobs of a pool, the newest first.
func (tx *Tx) PoolImports(s fleet.Scope, pool string, p fleet.Page) ([]PoolImport, string, error) {
	created, id := int64(1)<<62, ""
	if at, after, ok := strings.Cut(p.After, " "); ok {
		created, _ = strconv.ParseInt(at, 10, 64)
		id = after
	}
	list, err := all(tx, scanPoolImport, `SELECT `+poolImportColumns+` FROM pool_imports WHERE account = ? AND region = ? AND pool = ? AND (created, id) < (?, ?)
		ORDER BY created DESC, id DESC LIMIT ?`, s.Account, s.Region, pool, created, id, pageLimit(p))
	list, next := cutPage(p, list, func(i PoolImport) string { return strconv.FormatInt(millis(i.Created), 10) + " " + i.ID })
	return list, next, err
}

// CountPoolImports is how many jobs a pool has.
func (tx *Tx) CountPoolImports(s fleet.Scope, pool string) (int64, error) {
	n, _, err := one(tx, scanInt, `SELECT COUNT(*) FROM pool_imports WHERE account = ? AND region = ? AND pool = ?`, s.Account, s.Region, pool)
	return n, err
}

// SweepPoolImports removes a job that ended before a time, with its log. more is false when there is none.
func (tx *Tx) SweepPoolImports(before time.Time) (more bool, err error) {
	i, found, err := one(tx, scanPoolImport, `SELECT `+poolImportColumns+` FROM pool_imports WHERE completed > 0 AND completed < ? ORDER BY completed LIMIT 1`, millis(before))
	if err != nil || !found {
		return false, err
	}
	_, err = tx.deletePoolImport(i)
	return true, err
}

// deletePoolImport removes a job, or a chunk of its log: then it is not done yet.
func (tx *Tx) deletePoolImport(i PoolImport) (done bool, err error) {
	n, err := affected(tx.exec(`DELETE FROM pool_import_log WHERE account = ? AND region = ? AND pool = ? AND job = ? AND line IN (SELECT line FROM pool_import_log
		WHERE account = ? AND region = ? AND pool = ? AND job = ? LIMIT ?)`, i.Scope.Account, i.Scope.Region, i.Pool, i.ID, i.Scope.Account, i.Scope.Region, i.Pool, i.ID, drainChunk))
	if err != nil || n == drainChunk {
		return false, err
	}
	if i.File != "" {
		if err := tx.DropImportFile(i.Scope, i.File); err != nil {
			return false, err
		}
	}
	_, err = tx.exec(`DELETE FROM pool_imports WHERE account = ? AND region = ? AND pool = ? AND id = ?`, i.Scope.Account, i.Scope.Region, i.Pool, i.ID)
	return true, err
}

// drainPoolImports removes the jobs of a pool that is being deleted, a chunk at a time.
func (tx *Tx) drainPoolImports(s fleet.Scope, pool string) (done bool, err error) {
	jobs, _, err := tx.PoolImports(s, pool, fleet.Page{Limit: 1})
	if err != nil || len(jobs) == 0 {
		return true, err
	}
	_, err = tx.deletePoolImport(jobs[0])
	return false, err
}

// PoolImportsIn lists jobs of all scopes that have one of two states, the oldest first.
func (tx *Tx) PoolImportsIn(state, other string) ([]PoolImport, error) {
	return all(tx, scanPoolImport, `SELECT `+poolImportColumns+` FROM pool_imports WHERE status IN (?, ?) ORDER BY created, id`, state, other)
}

// BeginImportFile makes room for a file.
func (tx *Tx) BeginImportFile(s fleet.Scope, id string) error {
	_, err := tx.exec(`INSERT INTO pool_import_files (account, region, id, received) VALUES (?, ?, ?, ?)`, s.Account, s.Region, id, millis(tx.Now()))
	return err
}

// AddImportPart adds a part of a file, counted from 0.
func (tx *Tx) AddImportPart(s fleet.Scope, file string, part int64, content []byte) error {
	_, err := tx.exec(`INSERT INTO pool_import_parts (account, region, file, part, content) VALUES (?, ?, ?, ?, ?)`, s.Account, s.Region, file, part, content)
	return err
}

// ImportPart returns a part of a file, nil behind the last one.
func (tx *Tx) ImportPart(s fleet.Scope, file string, part int64) ([]byte, error) {
	content, _, err := one(tx, func(row scanner) (b []byte, err error) { return b, row.Scan(&b) },
		`SELECT content FROM pool_import_parts WHERE account = ? AND region = ? AND file = ? AND part = ?`, s.Account, s.Region, file, part)
	return content, err
}

// DropImportFile lets a file be swept.
func (tx *Tx) DropImportFile(s fleet.Scope, id string) error {
	_, err := tx.exec(`UPDATE pool_import_files SET received = 0 WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
	return err
}

// SweepImportFiles removes a few parts of a file that no job has, and that is dropped or began to arrive before a time. more is false when
// there is none.
func (tx *Tx) SweepImportFiles(before time.Time) (more bool, err error) {
	type place struct{ account, region, id string }
	p, found, err := one(tx, func(s scanner) (p place, err error) { return p, s.Scan(&p.account, &p.region, &p.id) },
		`SELECT f.account, f.region, f.id FROM pool_import_files f WHERE f.received < ? AND NOT EXISTS (SELECT 1 FROM pool_imports i
		WHERE i.account = f.account AND i.region = f.region AND i.file = f.id) ORDER BY f.received, f.id LIMIT 1`, millis(before))
	if err != nil || !found {
		return false, err
	}
	left, err := changedRows(tx.exec(`DELETE FROM pool_import_parts WHERE account = ? AND region = ? AND file = ? AND part IN
		(SELECT part FROM pool_import_parts WHERE account = ? AND region = ? AND file = ? ORDER BY part DESC LIMIT ?)`,
		p.account, p.region, p.id, p.account, p.region, p.id, sweepParts))
	if err != nil || left {
		return true, err
	}
	_, err = tx.exec(`DELETE FROM pool_import_files WHERE account = ? AND region = ? AND id = ?`, p.account, p.region, p.id)
	return true, err
}

// An ImportEntry says what became of lines that follow one another.
type ImportEntry struct {
	From, To int64
	Outcome  string
	Why      string `json:",omitempty"`
}

// AddImportLog adds what became of the lines of a chunk; troubles says that not all of them were imported.
func (tx *Tx) AddImportLog(i PoolImport, entries []ImportEntry, troubles bool) error {
	_, err := tx.exec(`INSERT INTO pool_import_log (account, region, pool, job, line, troubles, entries) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		i.Scope.Account, i.Scope.Region, i.Pool, i.ID, entries[len(entries)-1].To, flag(troubles), toJSON(entries))
	return err
}

// ImportLog returns the entries of some chunks, in the order of their lines: those with lines behind after, of chunks with troubles alone if
// that is asked for.
func (tx *Tx) ImportLog(s fleet.Scope, pool, job string, after int64, troubles bool, chunks int) (entries []ImportEntry, err error) {
	lists, err := all(tx, scanString, `SELECT entries FROM pool_import_log WHERE account = ? AND region = ? AND pool = ? AND job = ? AND line > ? AND troubles >= ?
		ORDER BY line LIMIT ?`, s.Account, s.Region, pool, job, after, flag(troubles), chunks)
	for _, text := range lists {
		var list []ImportEntry
		if err := fromJSON(text, &list); err != nil {
			return nil, err
		}
		entries = append(entries, list...)
	}
	return entries, err
}
