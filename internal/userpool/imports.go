package userpool

import (
	"context"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// User import jobs, as administrators see them. importfile.go reads the files, importupload.go takes them in, importrun.go makes the users.

// States of a user import job. Cognito has Stopping as well: here a job stops between two chunks, at once.
const (
	ImportCreated    = "Created"
	ImportPending    = "Pending" // started, and not begun
	ImportInProgress = "InProgress"
	ImportStopped    = "Stopped"
	ImportExpired    = "Expired"
	ImportFailed     = "Failed"
	ImportSucceeded  = "Succeeded"
)

const (
	maxImports     = 1000                // jobs of a pool
	importLife     = 24 * time.Hour      // of a job that nobody starts
	importKept     = 90 * 24 * time.Hour // how long a job that has ended is listed, with its log
	importUpload   = 15 * time.Minute    // of the address for the file
	importFileKept = time.Hour           // that a file may take to arrive, and more
)

// An ImportJob makes users of the lines of a file.
type ImportJob struct {
	ID, PoolID, Name, Role      string
	URL                         string // takes the file by PUT, for 15 minutes
	Status, Message             string
	Created, Started, Completed time.Time // Started, Completed: zero: not yet
	Imported, Skipped, Failed   int64
}

// lapsed reports whether nobody has started a job in time. What Sweep makes of it later is shown at once.
func lapsed(i store.PoolImport, now time.Time) bool {
	return i.Status == ImportCreated && !now.Before(i.Created.Add(importLife))
}

func lapse(i *store.PoolImport) {
	endImport(i, i.Created.Add(importLife), ImportExpired, "The user import job has expired.")
}

func (s *Service) importJob(i store.PoolImport, secret []byte) ImportJob {
	if lapsed(i, s.now()) {
		lapse(&i)
	}
	return ImportJob{ID: i.ID, PoolID: i.Pool, Name: i.Name, Role: i.Role, URL: s.importURL(secret, i), Status: i.Status, Message: i.Message,
		Created: i.Created, Started: i.Started, Completed: i.Completed, Imported: i.Imported, Skipped: i.Skipped, Failed: i.Failed}
}

func importNotFound(id string) *fleet.Error {
	return fail(fleet.KindNotFound, "ResourceNotFoundException", "User import job "+id+" does not exist.")
}

func preconditionNotMet(msg string) *fleet.Error {
	return fail(fleet.KindState, "PreconditionNotMetException", msg)
}

// ImportColumns lists the columns of a file for a pool (GetCSVHeader).
func (s *Service) ImportColumns(ctx context.Context, scope fleet.Scope, poolID string) ([]string, error) {
	p, err := s.poolFor(ctx, scope, poolID)
	if err != nil {
		return nil, err
	}
	return p.importColumns(), nil
}

// CreateImport makes a job that waits for its file. role is what Cognito would write its log with: the caller must be allowed to pass it,
// and it is not used, since the log is kept here.
func (s *Service) CreateImport(ctx context.Context, scope fleet.Scope, poolID, name, role string) (job ImportJob, err error) {
	if err := s.passRole(ctx, scope, role); err != nil {
		return job, err
	}
	i := store.PoolImport{Scope: scope, Pool: poolID, ID: "import-" + fleet.RandomString(10, fleet.AlphaAlnum), Name: name, Role: role, Status: ImportCreated, Created: s.now()}
	var p *Pool
	if err := s.tx(ctx, func(tx *store.Tx) error {
		if p, err = readPool(tx, scope, poolID); err != nil {
			return err
		}
		n, err := tx.CountPoolImports(scope, poolID)
		if err == nil && n >= maxImports {
			err = overLimit("A user pool holds at most 1000 user import jobs. One that has ended goes after 90 days.")
		}
		if err != nil {
			return err
		}
		return tx.AddPoolImport(i)
	}); err != nil {
		return job, err
	}
	secret, err := s.poolSecret(p)
	return s.importJob(i, secret), err
}

func (s *Service) poolSecret(p *Pool) ([]byte, error) {
	return s.open("pool-secret", p.secret, p.Scope, p.ID)
}

// Import returns a job.
func (s *Service) Import(ctx context.Context, scope fleet.Scope, poolID, id string) (job ImportJob, err error) {
	var p *Pool
	var i store.PoolImport
	if err := s.view(ctx, func(tx *store.Tx) error {
		p, i, err = readImport(tx, scope, poolID, id)
		return err
	}); err != nil {
		return job, err
	}
	secret, err := s.poolSecret(p)
	return s.importJob(i, secret), err
}

func readImport(tx *store.Tx, scope fleet.Scope, poolID, id string) (*Pool, store.PoolImport, error) {
	p, err := readPool(tx, scope, poolID)
	if err != nil {
		return nil, store.PoolImport{}, err
	}
	i, err := tx.PoolImport(scope, poolID, id)
	return p, i, asNotFound(err, importNotFound(id))
}

// Imports lists the jobs of a pool, the newest first, at most limit; next is the token of the next page.
func (s *Service) Imports(ctx context.Context, scope fleet.Scope, poolID, token string, limit int) (jobs []ImportJob, next string, err error) {
	after, err := pageKey("imports", token)
	if err != nil {
		return nil, "", err
	}
	var p *Pool
	var list []store.PoolImport
	if err := s.view(ctx, func(tx *store.Tx) error {
		if p, err = readPool(tx, scope, poolID); err != nil {
			return err
		}
		list, next, err = tx.PoolImports(scope, poolID, fleet.Page{After: after, Limit: limit})
		return err
	}); err != nil {
		return nil, "", err
	}
	secret, err := s.poolSecret(p)
	for _, i := range list {
		jobs = append(jobs, s.importJob(i, secret))
	}
	return jobs, pageToken("imports", next), err
}

// changeImport reads a job, lets change alter it and stores it, in one transaction.
func (s *Service) changeImport(ctx context.Context, scope fleet.Scope, poolID, id string, change func(tx *store.Tx, p *Pool, i *store.PoolImport) error) (ImportJob, error) {
	var p *Pool
	var i store.PoolImport
	if err := s.tx(ctx, func(tx *store.Tx) error {
		var old store.PoolImport
		var err error
		if p, old, err = readImport(tx, scope, poolID, id); err != nil {
			return err
		}
		i = old
		if lapsed(i, s.now()) {
			lapse(&i)
		}
		if err := change(tx, p, &i); err != nil {
			return err
		}
		return tx.UpdatePoolImport(old, i)
	}); err != nil {
		return ImportJob{}, err
	}
	secret, err := s.poolSecret(p)
	return s.importJob(i, secret), err
}

// StartImport lets a job begin whose file is there. One job of an account is worked on at a time.
func (s *Service) StartImport(ctx context.Context, scope fleet.Scope, poolID, id string) (ImportJob, error) {
	job, err := s.changeImport(ctx, scope, poolID, id, func(tx *store.Tx, p *Pool, i *store.PoolImport) error {
		switch {
		case i.Status != ImportCreated:
			return preconditionNotMet("The user import job " + id + " cannot be started: its status is " + i.Status + ".")
		case i.File == "":
			return preconditionNotMet("No csv file was uploaded for " + id)
		case len(p.AutoVerified) == 0:
			return preconditionNotMet("The user pool verifies neither email nor phone_number by itself (AutoVerifiedAttributes), so nobody who is imported could choose a password.")
		}
		active, err := tx.PoolImportsIn(ImportPending, ImportInProgress)
		if err != nil {
			return err
		}
		for _, other := range active {
			if other.Scope == scope {
				return preconditionNotMet("Only one user import job of an account can be active at a time, and " + other.ID + " of user pool " + other.Pool + " is.")
			}
		}
		i.Status, i.Started = ImportPending, s.now()
		return nil
	})
	if err == nil {
		s.kickImports()
	}
	return job, err
}

// StopImport ends a job that is being worked on. It can't go on later; users who were imported stay.
func (s *Service) StopImport(ctx context.Context, scope fleet.Scope, poolID, id string) (ImportJob, error) {
	return s.changeImport(ctx, scope, poolID, id, func(_ *store.Tx, _ *Pool, i *store.PoolImport) error {
		if !importing(*i) {
			return preconditionNotMet("The user import job " + id + " cannot be stopped: its status is " + i.Status + ".")
		}
		endImport(i, s.now(), ImportStopped, "The Import Job was stopped by the developer.")
		return nil
	})
}

// endImport leaves nothing to do for a job, and no file.
func endImport(i *store.PoolImport, now time.Time, status, message string) {
	i.Status, i.Message, i.Completed, i.File = status, message, now, ""
}

func importing(i store.PoolImport) bool {
	return i.Status == ImportPending || i.Status == ImportInProgress
}

// notImporting refuses a change of a pool while users are imported into it.
func notImporting(tx *store.Tx, p *Pool) error {
	active, err := tx.PoolImportsIn(ImportPending, ImportInProgress)
	for _, i := range active {
		if i.Scope == p.Scope && i.Pool == p.ID {
			return fail(fleet.KindState, "UserImportInProgressException", "The user import job "+i.ID+" is in progress: wait until it has ended, or stop it.")
		}
	}
	return err
}

// What became of a line.
const (
	LineSucceeded = "SUCCEEDED"
	LineSkipped   = "SKIPPED"
	LineFailed    = "FAILED"
)

// A LineOutcome is a line of a job's log. Nothing that is in the file is in it but the names of columns.
type LineOutcome struct {
	Line         int64 // in the file, whose header is line 1
	Outcome, Why string
}

// ImportLog returns what became of the lines of a job, in order; of those that were not imported alone if troubles. next is the token of the
// next page: more may follow while the job is worked on.
func (s *Service) ImportLog(ctx context.Context, scope fleet.Scope, poolID, id string, troubles bool, token string, limit int) (lines []LineOutcome, next string, err error) {
	key, err := pageKey("import log", token)
	if err != nil {
		return nil, "", err
	}
	var after int64
	if key != "" {
		if after, err = strconv.ParseInt(key, 10, 64); err != nil {
			return nil, "", invalid("Invalid pagination token: repeat the list from its start.")
		}
	}
	var entries []store.ImportEntry
	if err := s.view(ctx, func(tx *store.Tx) error {
		if _, _, err := readImport(tx, scope, poolID, id); err != nil {
			return err
		}
		entries, err = tx.ImportLog(scope, poolID, id, after, troubles, limit+2) // each has a line, but for the one where the last page ended
		return err
	}); err != nil {
		return nil, "", err
	}
	for _, e := range entries {
		if troubles && e.Outcome == LineSucceeded {
			continue
		}
		for n := max(e.From, after+1); n <= e.To; n++ {
			if len(lines) == limit {
				return lines, pageToken("import log", strconv.FormatInt(lines[limit-1].Line, 10)), nil
			}
			lines = append(lines, LineOutcome{n, e.Outcome, importReason(e)})
		}
	}
	return lines, "", nil
}

func importReason(e store.ImportEntry) string {
	switch e.Outcome {
	case LineSucceeded:
		return "The import succeeded."
	case LineSkipped:
		return "The user already exists."
	}
	return e.Why
}

// sweepImports marks jobs that nobody has started, and removes old ones and the files that no job needs.
func (s *Service) sweepImports(ctx context.Context) error {
	now := s.now()
	var idle []store.PoolImport
	if err := s.view(ctx, func(tx *store.Tx) (err error) {
		idle, err = tx.PoolImportsIn(ImportCreated, ImportCreated)
		return err
	}); err != nil {
		return err
	}
	for _, i := range idle {
		if !lapsed(i, now) {
			continue
		}
		if _, err := s.changeImport(ctx, i.Scope, i.Pool, i.ID, func(*store.Tx, *Pool, *store.PoolImport) error { return nil }); err != nil && !isNotFound(err) {
			return err
		}
	}
	for _, sweep := range []func(*store.Tx) (more bool, err error){
		func(tx *store.Tx) (bool, error) { return tx.SweepPoolImports(now.Add(-importKept)) },
		func(tx *store.Tx) (bool, error) { return tx.SweepImportFiles(now.Add(-importFileKept)) },
	} {
		for more := true; more; {
			if err := s.tx(ctx, func(tx *store.Tx) (err error) {
				more, err = sweep(tx)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
