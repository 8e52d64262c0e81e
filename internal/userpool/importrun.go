package userpool

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// How far a user import job is stands in its row, and moves in the transaction that makes the users of some lines: after a power cut, or on
// another node, it goes on where it was, and no line counts twice. Transactions are short, since sign-ins and devices wait behind them.

const (
	importChunk = 25                   // lines of a transaction
	importRows  = 400                  // that it writes, about
	importSlice = 5 * time.Millisecond // after which it takes no further line: whoever comes meanwhile may wait for two of them

	importsEvery = 2 * time.Second  // that jobs are looked for which another node has started
	importRest   = 5 * time.Second  // that a job is left alone which another node works on
	longestRest  = 30 * time.Second // after failures that are not those of a line

	// importTries is how often a line is tried with which the store fails.
	importTries = 3
)

// kickImports lets RunImports look for work.
func (s *Service) kickImports() {
	select {
	case s.started <- struct{}{}:
	default: // it will
	}
}

// RunImports works on the user import jobs that were started, until ctx ends. Several nodes may call it at the same time.
func (s *Service) RunImports(ctx context.Context) {
	w := importWork{s: s, ctx: ctx, jobs: map[string]*importer{}}
	tick := time.NewTicker(importsEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		busy, err := w.round()
		if err != nil && ctx.Err() == nil {
			s.log.Error("importing users", "error", err)
		}
		if busy {
			continue
		}
		select {
		case <-s.started:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// importWork is what a node knows of the jobs in work.
type importWork struct {
	s    *Service
	ctx  context.Context
	jobs map[string]*importer
}

// round does a chunk of each job, so that a large one does not keep another account's waiting. busy is false when there was nothing to do.
func (w *importWork) round() (busy bool, err error) {
	var list []store.PoolImport
	if err := w.s.view(w.ctx, func(tx *store.Tx) (err error) {
		list, err = tx.PoolImportsIn(ImportPending, ImportInProgress)
		return err
	}); err != nil {
		return false, err
	}
	before := w.jobs
	w.jobs = map[string]*importer{}
	var failures []error
	for _, job := range list {
		key := job.Pool + "/" + job.ID
		m := before[key]
		if m == nil {
			m = &importer{s: w.s, ctx: w.ctx, job: job}
		} else if m.job.Done != job.Done { // another node is at it
			m = &importer{s: w.s, ctx: w.ctx, job: job, rest: w.s.now().Add(importRest)}
		}
		w.jobs[key] = m
		if w.s.now().Before(m.rest) {
			continue
		}
		busy = true
		if err := m.step(); err != nil {
			m.failed(err)
			failures = append(failures, err)
		}
	}
	return busy, errors.Join(failures...)
}

// An importer works on a job.
type importer struct {
	s       *Service
	ctx     context.Context
	job     store.PoolImport // as this node has seen or left it
	columns []string
	reader  *importReader // nil: the file is not open
	lines   []importLine  // read, and not done yet
	alone   int           // of them, that go one by one, since a transaction of several has failed
	tries   int           // in vain, of what is next
	faults  int           // of these, that may be the next line's
	rest    time.Time     // until when it is left alone
}

// A lineFault is an error at a line. Others, as of a full disk or a database that is away, are no line's.
type lineFault struct{ error }

func (f lineFault) Unwrap() error { return f.error }

// errImportMoved says that somebody else has changed a job meanwhile.
var errImportMoved = errors.New("the job was changed meanwhile")

// step does a chunk of the job, or ends it.
func (m *importer) step() error {
	if m.reader == nil {
		if err := m.open(); err != nil {
			return m.finishIf(err)
		}
	}
	for len(m.lines) < importChunk {
		line, err := m.reader.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			m.reader = nil
			return err
		}
		m.lines = append(m.lines, line)
	}
	if len(m.lines) == 0 {
		return m.finish("")
	}
	return m.apply()
}

// finishIf ends a job in whose file there is no sense.
func (m *importer) finishIf(err error) error {
	var r refusal
	if errors.As(err, &r) {
		return m.finish(string(r))
	}
	return err
}

// open reads the header, and goes to the line where the job is.
func (m *importer) open() error {
	p, err := m.s.poolFor(m.ctx, m.job.Scope, m.job.Pool)
	if err != nil {
		return err
	}
	m.lines = nil
	reader := newImportReader(&importSource{s: m.s, ctx: m.ctx, job: m.job}, importLine{})
	header, err := reader.next()
	if errors.Is(err, io.EOF) {
		return refusal("The file is empty.")
	}
	if err != nil {
		return err
	}
	if m.columns, err = importHeader(header, p); err != nil {
		return err
	}
	if m.job.Line > 0 {
		at := importLine{Number: m.job.Line, End: m.job.Done}
		reader = newImportReader(&importSource{s: m.s, ctx: m.ctx, job: m.job, at: at.End}, at)
	}
	m.reader = reader
	return nil
}

// failed lets a job rest after an error, and the line that may be its cause come alone next time.
func (m *importer) failed(err error) {
	m.tries++
	if errors.As(err, new(lineFault)) {
		m.faults++
	}
	m.rest = m.s.now().Add(min(time.Second<<min(m.tries, 10), longestRest))
	if m.alone == 0 && len(m.lines) > 1 {
		m.alone, m.tries, m.faults = len(m.lines), 0, 0
	}
}

// A lineUser is a line with the user it stands for, or why there is none.
type lineUser struct {
	importLine
	user store.PoolUser
	why  string // empty: there is a user, or the line is blank
}

// apply makes users of the first lines.
func (m *importer) apply() error {
	p, err := m.s.poolFor(m.ctx, m.job.Scope, m.job.Pool)
	if err != nil {
		return err
	}
	var list []lineUser
	lines := m.lines
	if m.alone > 0 {
		lines = lines[:1]
	}
	rows, now := 0, m.s.now()
	for _, line := range lines {
		one := lineUser{importLine: line}
		switch {
		case line.blank():
		case len(lines) == 1 && m.faults >= importTries:
			one.why = "The user could not be imported due to an internal error."
		default:
			one.user, err = p.importUser(m.columns, line, now)
			var mine bool
			if one.why, mine = importWhy(err); err != nil && !mine {
				return lineFault{err}
			}
		}
		if rows += 4 + len(one.user.Attributes); rows > importRows && len(list) > 0 {
			break
		}
		list = append(list, one)
	}
	job, err := m.s.applyImport(m.ctx, m.job, list)
	if errors.Is(err, errImportMoved) {
		m.reader = nil // see how it stands in the next round
		return nil
	}
	if err != nil {
		return err
	}
	done := 0
	for done < len(m.lines) && m.lines[done].Number <= job.Line {
		done++
	}
	m.job, m.lines, m.alone, m.tries, m.faults = job, m.lines[done:], max(m.alone-done, 0), 0, 0
	return nil
}

// applyImport makes users of lines, counts them, and moves the job behind the last line that the transaction had time for. An
// error at one of them is a lineFault.
func (s *Service) applyImport(ctx context.Context, job store.PoolImport, list []lineUser) (next store.PoolImport, err error) {
	var atLine bool
	err = s.tx(ctx, func(tx *store.Tx) error {
		atLine = false
		p, old, err := stillImporting(tx, job)
		if err != nil {
			return err
		}
		next = old
		next.Status = ImportInProgress
		var entries []store.ImportEntry
		began := time.Now() // a duration; the clock may be moved
		for i, one := range list {
			if i > 0 && time.Since(began) > importSlice {
				break
			}
			if !one.blank() {
				atLine = true
				outcome, why, err := p.importOne(tx, one)
				if err != nil {
					return err
				}
				atLine = false
				entries = addEntry(entries, one.Number, outcome, why)
				switch outcome {
				case LineSucceeded:
					next.Imported++
				case LineSkipped:
					next.Skipped++
				default:
					next.Failed++
				}
			}
			next.Line, next.Done = one.Number, one.End
		}
		if len(entries) > 0 {
			troubles := next.Skipped+next.Failed > old.Skipped+old.Failed
			if err := tx.AddImportLog(next, entries, troubles); err != nil {
				return err
			}
		}
		return tx.UpdatePoolImport(old, next)
	})
	if err != nil && atLine && fleet.KindOf(err) != fleet.KindUnavailable {
		err = lineFault{err}
	}
	return next, err
}

// stillImporting reads a job again. It fails with errImportMoved unless the job is as it was seen, and in work.
func stillImporting(tx *store.Tx, seen store.PoolImport) (*Pool, store.PoolImport, error) {
	p, i, err := readImport(tx, seen.Scope, seen.Pool, seen.ID)
	if isNotFound(err) || err == nil && (!importing(i) || i.Done != seen.Done) {
		err = errImportMoved
	}
	return p, i, err
}

// importOne makes the user of a line, unless there is one of that name. An error is not the line's.
func (p *Pool) importOne(tx *store.Tx, one lineUser) (outcome, why string, err error) {
	if one.why != "" {
		return LineFailed, one.why, nil
	}
	const exists = "The user already exists."
	err = p.vacant(tx, one.user, exists)
	for _, a := range p.aliases(one.user) { // before anything of the user is written
		if err != nil {
			break
		}
		var owner string
		switch owner, err = tx.AliasOwner(p.Scope, p.ID, a); {
		case err != nil || owner == "":
		case len(p.UsernameAttributes) > 0:
			err = usernameExists(exists)
		default:
			err = aliasExists(a.Kind)
		}
	}
	if err == nil {
		err = p.add(tx, one.user, exists)
	}
	switch why, mine := importWhy(err); {
	case err == nil:
		return LineSucceeded, "", nil
	case why == exists:
		return LineSkipped, "", nil
	case mine:
		return LineFailed, why, nil
	}
	return "", "", err
}

// addEntry adds a line to the end of a log.
func addEntry(log []store.ImportEntry, line int64, outcome, why string) []store.ImportEntry {
	if n := len(log) - 1; n >= 0 && log[n].To == line-1 && log[n].Outcome == outcome && log[n].Why == why {
		log[n].To = line
		return log
	}
	return append(log, store.ImportEntry{From: line, To: line, Outcome: outcome, Why: why})
}

// finish ends a job: because of what is wrong with its file, or since all lines are done. Cognito does not tell how many users are too many;
// here it is more than were imported.
func (m *importer) finish(wrong string) error {
	err := m.s.tx(m.ctx, func(tx *store.Tx) error {
		_, old, err := stillImporting(tx, m.job)
		if err != nil {
			return err
		}
		i, status, message := old, ImportSucceeded, "Import Job Completed Successfully."
		switch {
		case wrong != "":
			status, message = ImportFailed, wrong
		case i.Failed+i.Skipped > i.Imported:
			status, message = ImportFailed, "Too many users have failed or been skipped during the import."
		}
		endImport(&i, m.s.now(), status, message)
		return tx.UpdatePoolImport(old, i)
	})
	if errors.Is(err, errImportMoved) {
		err = nil
	}
	return err
}

// An importSource reads a file out of the store, part by part.
type importSource struct {
	s    *Service
	ctx  context.Context
	job  store.PoolImport
	at   int64
	rest []byte // of the part at at
}

// Read implements io.Reader.
func (r *importSource) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		var part []byte
		if err := r.s.view(r.ctx, func(tx *store.Tx) (err error) {
			part, err = tx.ImportPart(r.job.Scope, r.job.File, r.at/importPart)
			return err
		}); err != nil {
			return 0, err
		}
		if int64(len(part)) <= r.at%importPart {
			return 0, io.EOF
		}
		r.rest = part[r.at%importPart:]
	}
	n := copy(p, r.rest)
	r.rest, r.at = r.rest[n:], r.at+int64(n)
	return n, nil
}
