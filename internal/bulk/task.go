package bulk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

const (
	mostLines  = 64   // of a chunk, which is one transaction
	firstLines = 8    // of the first one
	writeEvery = 2000 // lines whose reports wait for the disk in the database
)

// A run is the work on one task.
type run struct {
	*Service
	store.ScopedTask
	task     store.RegistrationTask
	template *template.Template

	results, errors *bucket.Log
	written         int64 // line up to which the reports are on the disk
	pace            pace
}

// An item is a line on its way.
type item struct {
	line    int64
	end     int64 // bytes of the input up to its end
	blank   bool
	desired *template.Desired
	err     error // why it is not registered
}

// errEnd ends a task with a status and a message.
type errEnd struct {
	status  store.RegistrationStatus
	message string
}

func (e errEnd) Error() string { return string(e.status) + ": " + e.message }

func failed(format string, args ...any) error {
	return errEnd{store.RegistrationFailed, fmt.Sprintf(format, args...)}
}

// endBy makes the end of a task of an error that is not ours.
func endBy(err error, doing string) error {
	if err == nil || ours(err) {
		return err
	}
	return failed("%s: %s", doing, sentence(err))
}

// run goes on with a task. It returns how it ended, or an error if it is to be tried again; neither if somebody else works on it.
func (b *Service) run(ctx context.Context, t store.ScopedTask) (store.RegistrationStatus, string, error) {
	r := &run{Service: b, ScopedTask: t, pace: pace{lines: firstLines, others: b.Store.Writes()}}
	defer r.closeReports()
	err := r.all(ctx)
	if errors.Is(err, errStopped) {
		err = errEnd{store.RegistrationCancelled, ""}
	}
	var end errEnd
	if !errors.As(err, &end) {
		return "", "", err
	}
	return end.status, end.message, r.write(ctx)
}

func (r *run) all(ctx context.Context) error {
	if err := r.read(ctx); err != nil || !r.task.Ended.IsZero() {
		return err
	}
	if err := r.openReports(ctx); err != nil {
		return err
	}
	if r.task.Status == store.RegistrationStopping {
		return errStopped
	}
	var err error
	if r.template, err = template.Parse(r.task.Body, template.Bulk); err != nil {
		return endBy(err, "The template is not valid")
	}
	if err := r.Store.View(ctx, r.mayRead); err != nil {
		return endBy(err, "The role "+r.task.Role+" cannot be used")
	}
	object, in, err := r.Objects.Open(ctx, r.Scope, r.task.Bucket, r.task.Key, r.task.Position)
	if err != nil {
		return endBy(err, fmt.Sprintf("Reading the input %s/%s", r.task.Bucket, r.task.Key))
	}
	defer in.Close()
	switch {
	case r.task.ETag == "":
		r.task.Size = object.Size
		if err := r.tx(ctx, func(tx *store.Tx) error { return tx.BeginRegistration(r.Scope, r.ID, object.ETag, object.Size) }); err != nil {
			return err
		}
	case r.task.ETag != object.ETag:
		return failed("The input %s/%s was replaced while the task was running, of which it had done %d lines: start another task with what is left", r.task.Bucket, r.task.Key, r.task.Line)
	}
	return r.lines(ctx, in)
}

// tx is Store.Tx, and known to be the task's own.
func (r *run) tx(ctx context.Context, body func(*store.Tx) error) error {
	r.pace.own++
	return r.Store.Tx(ctx, body)
}

func (r *run) read(ctx context.Context) error {
	return r.Store.View(ctx, func(tx *store.Tx) (err error) {
		r.task, err = tx.RegistrationTask(r.Scope, r.ID)
		return err
	})
}

// role is who registers.
func (r *run) role(tx *store.Tx) (*fleet.Caller, error) {
	return r.Permissions.AssumeForService(tx, r.Scope, r.task.Role, iotService)
}

func (r *run) mayRead(tx *store.Tx) error {
	caller, err := r.role(tx)
	if err != nil {
		return err
	}
	return r.Permissions.AuthorizeTx(tx, caller, "s3:GetObject", bucket.ARN(r.task.Bucket, r.task.Key), nil)
}

// lines registers what is left of the input. While nobody else writes, one chunk is prepared while the one before is written.
func (r *run) lines(ctx context.Context, in io.Reader) error {
	reading, cancel := context.WithCancel(ctx)
	orders := make(chan order, 1) // for the next chunk
	chunks := make(chan []item)   // closed when there are no more
	var readErr error             // why
	defer func() {
		cancel()
		close(orders)
		for range chunks { // until whoever prepares has noticed
		}
	}()
	go func() {
		defer close(chunks)
		reader := &lineReader{in: bufio.NewReaderSize(in, 64<<10), at: r.task.Position, line: r.task.Line}
		readErr = r.prepareAll(reading, reader, orders, chunks)
	}()
	orders <- r.pace.order(false)
	for chunk := range chunks {
		alone := r.pace.alone(r.Store.Writes(), time.Now())
		if alone {
			orders <- r.pace.order(alone)
		} else if err := r.pace.rest(ctx); err != nil {
			return err
		}
		begin := time.Now()
		behind, err := r.register(ctx, chunk)
		if err != nil {
			return err
		}
		now := time.Now()
		r.pace.took(len(chunk), behind, now.Sub(begin), now)
		if r.task.Line-r.written >= writeEvery {
			if err := r.write(ctx); err != nil {
				return err
			}
		}
		if !alone {
			orders <- r.pace.order(alone)
		}
	}
	if !errors.Is(readErr, io.EOF) {
		return fmt.Errorf("reading the input: %w", readErr)
	}
	if r.task.Line == 0 {
		return failed("The input %s/%s is empty", r.task.Bucket, r.task.Key)
	}
	return errEnd{store.RegistrationDone, ""}
}

// prepareAll prepares a chunk for each order, and returns why there are no more.
func (r *run) prepareAll(ctx context.Context, in *lineReader, orders <-chan order, chunks chan<- []item) error {
	for o := range orders {
		chunk, err := r.prepare(ctx, in, o)
		if len(chunk) > 0 {
			select {
			case chunks <- chunk:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
	return context.Canceled
}

// prepare reads lines and does what needs no transaction: most of the work. The error is that of reading.
func (r *run) prepare(ctx context.Context, in *lineReader, o order) (chunk []item, err error) {
	texts := make([][]byte, 0, o.lines)
	for len(chunk) < o.lines {
		text, long, readErr := in.next()
		if err = readErr; err != nil {
			break
		}
		it := item{line: in.line, end: in.at, blank: !long && blank(text)}
		if long {
			it.err = fleet.Invalid("", "", "The line is longer than %d bytes", maxLine)
		}
		chunk, texts = append(chunk, it), append(texts, text)
	}
	var wg sync.WaitGroup
	workers := min(o.workers, len(chunk))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(chunk); i += workers {
				r.prepareLine(ctx, &chunk[i], texts[i])
			}
		})
	}
	wg.Wait()
	return chunk, err
}

func (r *run) prepareLine(ctx context.Context, it *item, text []byte) {
	if it.blank || it.err != nil {
		return
	}
	params, err := parseLine(text)
	if err == nil {
		it.desired, err = r.Provision.PrepareInline(ctx, &fleet.Caller{Scope: r.Scope, ARN: r.task.Role}, r.template, params)
	}
	it.err = err
}

// spoiled is the error of a line that had been written in part.
type spoiled struct {
	index int
	err   error
}

func (s *spoiled) Error() string { return s.err.Error() }

// register writes a chunk, and returns how long others had to wait behind its lines.
func (r *run) register(ctx context.Context, chunk []item) (behind time.Duration, err error) {
	for _, it := range chunk {
		if it.err != nil && ours(it.err) {
			return 0, it.err
		}
	}
	for {
		var p store.RegistrationProgress
		err = r.tx(ctx, func(tx *store.Tx) error {
			start := time.Now()
			defer func() { behind = time.Since(start) }()
			p, err = r.registerTx(tx, chunk)
			return err
		})
		var s *spoiled
		if errors.As(err, &s) && !ours(s.err) {
			chunk[s.index].err = s.err // once more, without it
			continue
		}
		if err != nil {
			return behind, err
		}
		r.task.Position, r.task.Line = p.To, p.Line
		if r.OnLines != nil {
			r.OnLines(p.Good, p.Bad)
		}
		return behind, errors.Join(r.results.Append(p.Results), r.errors.Append(p.Errors))
	}
}

func (r *run) registerTx(tx *store.Tx, chunk []item) (p store.RegistrationProgress, err error) {
	if r.Clock.Now().Sub(r.task.Created) > longest {
		return p, failed("The task has run for 30 days")
	}
	caller, err := r.role(tx)
	if err != nil {
		return p, endBy(err, "The role "+r.task.Role+" cannot be used any more")
	}
	last := chunk[len(chunk)-1]
	p.From, p.To, p.Line = r.task.Position, last.end, last.line
	var good, bad strings.Builder
	for i, it := range chunk {
		if it.blank {
			continue
		}
		err := it.err
		if err == nil {
			out, began, writeErr := r.Provision.WriteInline(tx, caller, it.desired)
			switch err = writeErr; {
			case err == nil:
				good.WriteString(reportGood(it.line, out))
				p.Good++
			case ours(err):
				return p, err
			case began:
				return p, &spoiled{i, err}
			}
		}
		if err != nil {
			bad.WriteString(reportBad(it.line, err))
			p.Bad++
		}
	}
	p.Results, p.Errors = good.String(), bad.String()
	moved, err := tx.AdvanceRegistration(r.Scope, r.ID, p)
	if err != nil || moved {
		return p, err
	}
	return p, r.elsewhere(tx)
}

// elsewhere is the error of a chunk that was not wanted: the task was stopped, or somebody else works on it.
func (r *run) elsewhere(tx *store.Tx) error {
	now, err := tx.RegistrationTask(r.Scope, r.ID)
	if err == nil && now.Status == store.RegistrationStopping {
		return errStopped
	}
	if err != nil {
		return err
	}
	return errors.New("another process works on it")
}

var errStopped = errors.New("the task was stopped")

// openReports opens both reports as they were on the disk, and adds what waits for it.
func (r *run) openReports(ctx context.Context) (err error) {
	if r.results, err = r.Folder.OpenLog(r.Scope, r.ID+reports["RESULTS"], r.task.Results); err != nil {
		return err
	}
	if r.errors, err = r.Folder.OpenLog(r.Scope, r.ID+reports["ERRORS"], r.task.Errors); err != nil {
		return err
	}
	const some = 20
	for after := int64(-1); ; {
		var list []store.RegistrationProgress
		if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
			list, err = tx.UnwrittenReports(r.Scope, r.ID, after, some)
			return err
		}); err != nil {
			return err
		}
		for _, p := range list {
			if err := errors.Join(r.results.Append(p.Results), r.errors.Append(p.Errors)); err != nil {
				return err
			}
			after = p.Line
		}
		if len(list) < some {
			return r.write(ctx)
		}
	}
}

func (r *run) closeReports() {
	for _, l := range []*bucket.Log{r.results, r.errors} {
		if l != nil {
			_ = l.Close() // what counts was synced
		}
	}
}

// write makes the reports durable and forgets them in the database.
func (r *run) write(ctx context.Context) error {
	results, err := r.results.Sync()
	if err != nil {
		return err
	}
	errs, err := r.errors.Sync()
	if err != nil {
		return err
	}
	r.written = r.task.Line
	return r.tx(ctx, func(tx *store.Tx) error { return tx.ReportsWritten(r.Scope, r.ID, r.written, results, errs) })
}
