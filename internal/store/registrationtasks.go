package store

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A RegistrationStatus is AWS's word for how far a bulk registration has come.
type RegistrationStatus string

const (
	RegistrationRunning   RegistrationStatus = "InProgress"
	RegistrationDone      RegistrationStatus = "Completed"
	RegistrationFailed    RegistrationStatus = "Failed"
	RegistrationStopping  RegistrationStatus = "Cancelling"
	RegistrationCancelled RegistrationStatus = "Cancelled"
)

// A RegistrationTask is a bulk registration.
type RegistrationTask struct {
	ID, Body, Bucket, Key, Role string
	Status                      RegistrationStatus
	Message                     string
	Created, Modified, Ended    time.Time // Ended is zero until then

	ETag           string // of the input; "": not opened yet
	Size, Position int64  // bytes of the input, and how many of them are done
	Line           int64  // lines that are done
	Good, Bad      int64  // of these
	Results        int64  // bytes of the reports that are on the disk
	Errors         int64
}

// A ScopedTask names a task.
type ScopedTask struct {
	Scope fleet.Scope
	ID    string
}

const taskColumns = `id, body, bucket, object, role, status, message, created, modified, ended, etag, size, position, line, successes, failures, results, errors`

func scanTask(r scanner) (t RegistrationTask, err error) {
	var status string
	var created, modified, ended int64
	err = r.Scan(&t.ID, &t.Body, &t.Bucket, &t.Key, &t.Role, &status, &t.Message, &created, &modified, &ended, &t.ETag, &t.Size, &t.Position, &t.Line, &t.Good, &t.Bad,
		&t.Results, &t.Errors)
	t.Status = RegistrationStatus(status)
	t.Created, t.Modified, t.Ended = fromMillis(created), fromMillis(modified), fromMillis(ended)
	return t, err
}

// CreateRegistrationTask stores a new task, and reports whether it did: an account has one at a time.
func (tx *Tx) CreateRegistrationTask(s fleet.Scope, t RegistrationTask) (bool, error) {
	now := millis(tx.Now())
	return tx.insert(`INSERT INTO registration_tasks (account, region, `+taskColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', ?, ?, 0, '', 0, 0, 0, 0, 0, 0, 0)`,
		s.Account, s.Region, t.ID, t.Body, t.Bucket, t.Key, t.Role, string(RegistrationRunning), now, now)
}

// RegistrationTask returns a task. It fails with KindNotFound.
func (tx *Tx) RegistrationTask(s fleet.Scope, id string) (RegistrationTask, error) {
	return find(tx, "thing registration task", id, scanTask, `SELECT `+taskColumns+` FROM registration_tasks WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
}

// RegistrationTasks lists the ids of tasks by age, of one status if it is not "".
func (tx *Tx) RegistrationTasks(s fleet.Scope, status RegistrationStatus, p fleet.Page) ([]string, string, error) {
	list, err := all(tx, scanString, `SELECT id FROM registration_tasks WHERE account = ? AND region = ? AND id > ? AND (? = '' OR status = ?) ORDER BY id LIMIT ?`,
		s.Account, s.Region, p.After, string(status), string(status), pageLimit(p))
	list, next := cutPage(p, list, self)
	return list, next, err
}

// OpenRegistrationTasks names the tasks of all scopes that have not ended.
func (tx *Tx) OpenRegistrationTasks() ([]ScopedTask, error) {
	return all(tx, func(r scanner) (t ScopedTask, err error) {
		return t, r.Scan(&t.Scope.Account, &t.Scope.Region, &t.ID)
	}, `SELECT account, region, id FROM registration_tasks WHERE ended = 0 ORDER BY account, region`)
}

// BeginRegistration records which input a task reads.
func (tx *Tx) BeginRegistration(s fleet.Scope, id, etag string, size int64) error {
	_, err := tx.exec(`UPDATE registration_tasks SET etag = ?, size = ? WHERE account = ? AND region = ? AND id = ?`, etag, size, s.Account, s.Region, id)
	return err
}

// RegistrationProgress is what a chunk of lines adds to a task.
type RegistrationProgress struct {
	From, To        int64 // bytes of the input
	Line            int64 // the last one
	Good, Bad       int64 // how many of either
	Results, Errors string
}

// AdvanceRegistration records that a chunk of lines is done. It reports false, and changes nothing, if the task is not at its
// beginning or is not running: somebody else was here.
func (tx *Tx) AdvanceRegistration(s fleet.Scope, id string, p RegistrationProgress) (bool, error) {
	moved, err := changedRows(tx.exec(`UPDATE registration_tasks SET position = ?, line = ?, successes = successes + ?, failures = failures + ?, modified = ?
		WHERE account = ? AND region = ? AND id = ? AND position = ? AND status = ?`,
		p.To, p.Line, p.Good, p.Bad, millis(tx.Now()), s.Account, s.Region, id, p.From, string(RegistrationRunning)))
	if err != nil || !moved {
		return false, err
	}
	_, err = tx.exec(`INSERT INTO registration_reports (account, region, task, line, results, errors) VALUES (?, ?, ?, ?, ?, ?)`, s.Account, s.Region, id, p.Line, p.Results, p.Errors)
	return true, err
}

// UnwrittenReports returns what was reported of lines beyond after and is not on the disk yet, at most limit pieces in their order.
func (tx *Tx) UnwrittenReports(s fleet.Scope, id string, after int64, limit int) ([]RegistrationProgress, error) {
	return all(tx, func(r scanner) (p RegistrationProgress, err error) {
		return p, r.Scan(&p.Line, &p.Results, &p.Errors)
	}, `SELECT line, results, errors FROM registration_reports WHERE account = ? AND region = ? AND task = ? AND line > ? ORDER BY line LIMIT ?`, s.Account, s.Region, id, after, limit)
}

// ReportsWritten records that the reports up to a line are on the disk, and how long they are.
func (tx *Tx) ReportsWritten(s fleet.Scope, id string, line, results, errors int64) error {
	if _, err := tx.exec(`DELETE FROM registration_reports WHERE account = ? AND region = ? AND task = ? AND line <= ?`, s.Account, s.Region, id, line); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE registration_tasks SET results = ?, errors = ? WHERE account = ? AND region = ? AND id = ?`, results, errors, s.Account, s.Region, id)
	return err
}

// StopRegistration asks a task to stop if it is running.
func (tx *Tx) StopRegistration(s fleet.Scope, id string) error {
	_, err := tx.exec(`UPDATE registration_tasks SET status = ?, modified = ? WHERE account = ? AND region = ? AND id = ? AND status = ?`,
		string(RegistrationStopping), millis(tx.Now()), s.Account, s.Region, id, string(RegistrationRunning))
	return err
}

// EndRegistration ends a task that has not ended.
func (tx *Tx) EndRegistration(s fleet.Scope, id string, status RegistrationStatus, message string) error {
	now := millis(tx.Now())
	_, err := tx.exec(`UPDATE registration_tasks SET status = ?, message = ?, modified = ?, ended = ? WHERE account = ? AND region = ? AND id = ? AND ended = 0`,
		string(status), message, now, now, s.Account, s.Region, id)
	return err
}

// EndedRegistrations names tasks that ended before a time, at most limit.
func (tx *Tx) EndedRegistrations(before time.Time, limit int) ([]ScopedTask, error) {
	return all(tx, func(r scanner) (t ScopedTask, err error) {
		return t, r.Scan(&t.Scope.Account, &t.Scope.Region, &t.ID)
	}, `SELECT account, region, id FROM registration_tasks WHERE ended > 0 AND ended < ? ORDER BY ended LIMIT ?`, millis(before), limit)
}

// DeleteRegistration forgets a task.
func (tx *Tx) DeleteRegistration(s fleet.Scope, id string) error {
	if _, err := tx.exec(`DELETE FROM registration_reports WHERE account = ? AND region = ? AND task = ?`, s.Account, s.Region, id); err != nil {
		return err
	}
	_, err := tx.exec(`DELETE FROM registration_tasks WHERE account = ? AND region = ? AND id = ?`, s.Account, s.Region, id)
	return err
}
