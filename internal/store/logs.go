package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

const logGroupColumns = `id, name, created, keep_days`

// droppedGroup begins the names of groups that were deleted and still have entries: it sorts behind all names.
const droppedGroup = "~"

func scanLogGroup(s scanner) (g fleet.LogGroup, err error) {
	var created int64
	err = s.Scan(&g.ID, &g.Name, &created, &g.Days)
	g.Created = fromMillis(created)
	return g, err
}

// CreateLogGroup stores a group. added is false if there is one of its name.
func (tx *Tx) CreateLogGroup(s fleet.Scope, g fleet.LogGroup) (added bool, err error) {
	return tx.insert(`INSERT INTO log_groups (account, region, `+logGroupColumns+`) VALUES (?, ?, ?, ?, ?, ?)`, s.Account, s.Region, g.ID, g.Name, millis(g.Created), g.Days)
}

// LogGroup returns a group. It fails with KindNotFound.
func (tx *Tx) LogGroup(s fleet.Scope, name string) (fleet.LogGroup, error) {
	return find(tx, "log group", name, scanLogGroup, `SELECT `+logGroupColumns+` FROM log_groups WHERE account = ? AND region = ? AND name = ?`, s.Account, s.Region, name)
}

// LogGroups lists groups by name, those that begin with prefix.
func (tx *Tx) LogGroups(s fleet.Scope, prefix string, p fleet.Page) ([]fleet.LogGroup, string, error) {
	after, end := prefixRange(prefix)
	list, err := all(tx, scanLogGroup, `SELECT `+logGroupColumns+` FROM log_groups WHERE account = ? AND region = ? AND name >= ? AND name < ? AND name <> ? ORDER BY name LIMIT ?`,
		s.Account, s.Region, max(after, p.After), min(end, droppedGroup), p.After, pageLimit(p))
	list, next := cutPage(p, list, func(g fleet.LogGroup) string { return g.Name })
	return list, next, err
}

// CountLogGroups returns how many groups the scope has.
func (tx *Tx) CountLogGroups(s fleet.Scope) (n int, err error) {
	err = tx.row(`SELECT COUNT(*) FROM log_groups WHERE account = ? AND region = ? AND name < ?`, s.Account, s.Region, droppedGroup).Scan(&n)
	return n, err
}

// KeepLog says for how many days the entries of a group are kept. It fails with KindNotFound.
func (tx *Tx) KeepLog(s fleet.Scope, name string, days int) error {
	return tx.changeLogGroup(s, name, `keep_days = ?`, days)
}

// DropLogGroup removes a group; its entries can be read no more, and go with SweepLogs. It fails with KindNotFound.
func (tx *Tx) DropLogGroup(s fleet.Scope, name string) error {
	return tx.changeLogGroup(s, name, `name = ? || id`, droppedGroup)
}

func (tx *Tx) changeLogGroup(s fleet.Scope, name, change string, value any) error {
	found, err := changedRows(tx.exec(`UPDATE log_groups SET `+change+` WHERE account = ? AND region = ? AND name = ?`, value, s.Account, s.Region, name))
	if err == nil && !found {
		err = fleet.NotFound("log group", name)
	}
	return err
}

// AppendLog stores entries of one stream under the id of a group.
func (tx *Tx) AppendLog(s fleet.Scope, group, stream string, entries []fleet.LogEntry) error {
	var rows []any
	for _, e := range entries {
		rows = append(rows, s.Account, s.Region, group, millis(e.Time), e.ID, stream, millis(e.Ingested), logBytes(len(stream), len(e.Message)), e.Message)
	}
	return tx.insertRows(&logInserts, 9, rows)
}

var logInserts = insertsOf(`INSERT INTO log_entries (account, region, grp, at, id, stream, ingested, bytes, message) VALUES `, 9)

// logBytes is about what an entry takes on the disk, with the index entries that lead to it.
func logBytes(stream, message int) int {
	const row = 200
	return row + stream + message
}

// A LogQuery says which entries of a group are wanted. Zero values ask for all.
type LogQuery struct {
	From, Until time.Time // Until is not among them
	Stream      string
	Newest      bool // first; else the oldest
}

// LogEntries reads a group by the times of its entries. A page may be shorter than was asked for, if its entries are long.
func (tx *Tx) LogEntries(s fleet.Scope, group string, q LogQuery, p fleet.Page) ([]fleet.LogEntry, string, error) {
	where, args := `account = ? AND region = ? AND grp = ?`, []any{s.Account, s.Region, group}
	and := func(condition string, values ...any) { where, args = where+` AND `+condition, append(args, values...) }
	later := p.After != "" // then it is the only bound on its side, see prefixPage
	if !q.From.IsZero() && !(later && !q.Newest) {
		and(`at >= ?`, millis(q.From))
	}
	if !q.Until.IsZero() && !(later && q.Newest) {
		and(`at < ?`, millis(q.Until))
	}
	if q.Stream != "" {
		and(`stream = ?`, q.Stream)
	}
	order, beyond := ``, `>`
	if q.Newest {
		order, beyond = ` DESC`, `<`
	}
	if later {
		at, id, _ := strings.Cut(p.After, " ")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("the place in a log %q: %w", p.After, err)
		}
		and(`(at, id) `+beyond+` (?, ?)`, ms, id)
	}
	tail := ` FROM log_entries WHERE ` + where + ` ORDER BY at` + order + `, id` + order + ` LIMIT ?`
	sizes, err := all(tx, scanInt, `SELECT bytes`+tail, append(slices.Clone(args), pageLimit(p))...)
	if err != nil {
		return nil, "", err
	}
	if fit := fitting(sizes); fit < len(sizes) && (p.Limit <= 0 || fit < p.Limit) {
		p.Limit = fit
	}
	list, err := all(tx, scanLogEntry, `SELECT at, id, stream, ingested, message`+tail, append(args, pageLimit(p))...)
	list, next := cutPage(p, list, func(e fleet.LogEntry) string { return strconv.FormatInt(millis(e.Time), 10) + " " + e.ID })
	return list, next, err
}

// maxLogPage bounds the bytes of a page, but for one entry that is larger.
const maxLogPage = 1 << 20

// fitting is how many of the entries with these sizes make a page.
func fitting(sizes []int64) (n int) {
	total := int64(0)
	for _, size := range sizes {
		if total += size; total > maxLogPage && n > 0 {
			break
		}
		n++
	}
	return n
}

func scanLogEntry(s scanner) (e fleet.LogEntry, err error) {
	var at, ingested int64
	err = s.Scan(&at, &e.ID, &e.Stream, &ingested, &e.Message)
	e.Time, e.Ingested = fromMillis(at), fromMillis(ingested)
	return e, err
}

// DeleteLogsBefore drops old entries of all groups, at most limit. It reports how many and whether there may be more to drop.
func (tx *Tx) DeleteLogsBefore(t time.Time, limit int) (n int, more bool, err error) {
	n, err = affected(tx.exec(`DELETE FROM log_entries WHERE (account, region, grp, at, id) IN (
		SELECT account, region, grp, at, id FROM log_entries WHERE at < ? ORDER BY at LIMIT ?)`, millis(t), limit))
	return n, n == limit, err
}

// SweepLogs drops entries of groups that keep them for a time of their own, and those of groups that were deleted, at most limit rows. It
// reports how many and whether there may be more to drop.
func (tx *Tx) SweepLogs(now time.Time, limit int) (n int, more bool, err error) {
	type owned struct {
		scope fleet.Scope
		group fleet.LogGroup
	}
	groups, err := all(tx, func(r scanner) (o owned, err error) {
		err = r.Scan(&o.scope.Account, &o.scope.Region, &o.group.ID, &o.group.Name, &o.group.Days)
		return o, err
	}, `SELECT account, region, id, name, keep_days FROM log_groups WHERE keep_days > 0 OR name >= ?`, droppedGroup)
	for _, o := range groups {
		dropped := strings.HasPrefix(o.group.Name, droppedGroup)
		before := now.AddDate(0, 0, -o.group.Days)
		if dropped {
			before = now.AddDate(1, 0, 0) // entries may be of the future, by hours
		}
		gone, err := affected(tx.exec(`DELETE FROM log_entries WHERE (account, region, grp, at, id) IN (
			SELECT account, region, grp, at, id FROM log_entries WHERE account = ? AND region = ? AND grp = ? AND at < ? ORDER BY at, id LIMIT ?)`,
			o.scope.Account, o.scope.Region, o.group.ID, millis(before), limit-n))
		if n += gone; err != nil || n >= limit {
			return n, true, err
		}
		if !dropped {
			continue
		}
		if _, err := tx.exec(`DELETE FROM log_groups WHERE account = ? AND region = ? AND id = ?`, o.scope.Account, o.scope.Region, o.group.ID); err != nil {
			return n, false, err
		}
	}
	return n, false, err
}
