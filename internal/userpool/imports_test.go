package userpool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

const logsRole = "arn:aws:iam::000000000000:role/logs"

// importPool is a pool into which users may be imported.
func (w *world) importPool(change ...func(*Settings)) *Pool {
	w.t.Helper()
	s := Settings{AutoVerified: []string{"email"}, AliasAttributes: []string{"email"}}
	for _, c := range change {
		c(&s)
	}
	return w.pool(s)
}

// importFile is a file of n users.
func importFile(p *Pool, n int, more ...map[string]string) string {
	var b strings.Builder
	columns := p.importColumns()
	b.WriteString(strings.Join(columns, ","))
	for i := range n {
		name := fmt.Sprintf("user-%05d", i)
		b.WriteString("\n" + importLineOf(columns, map[string]string{importUsername: name, "email": name + "@example.com", "email_verified": "true"}))
	}
	for _, m := range more {
		b.WriteString("\n" + importLineOf(columns, m))
	}
	return b.String() + "\n"
}

func (w *world) createImport(p *Pool) ImportJob {
	w.t.Helper()
	return must(w.CreateImport(w.t.Context(), scope, p.ID, "people", logsRole))(w.t)
}

// upload sends a file to the address of a job.
func (w *world) upload(job ImportJob, file string) error {
	w.t.Helper()
	address := must(url.Parse(job.URL))(w.t)
	part := strings.Split(strings.TrimPrefix(address.Path, ImportPath), "/")
	u, err := w.Upload(w.t.Context(), part[0], part[1], address.Query().Get("X-Amz-Signature"))
	if err != nil {
		return err
	}
	return u.Receive(w.t.Context(), strings.NewReader(file), int64(len(file)), func() {})
}

// startImport makes a job, uploads its file and starts it.
func (w *world) startImport(p *Pool, file string) ImportJob {
	w.t.Helper()
	job := w.createImport(p)
	ok(w.t, w.upload(job, file))
	return must(w.StartImport(w.t.Context(), scope, p.ID, job.ID))(w.t)
}

// node is a node that works on imports.
func (w *world) node() *importWork {
	return &importWork{s: w.Service, ctx: context.Background(), jobs: map[string]*importer{}}
}

// workOn does what there is to do, at most n chunks.
func (w *world) workOn(node *importWork, n int) {
	w.t.Helper()
	for range n {
		if busy := must(node.round())(w.t); !busy {
			return
		}
	}
}

const enough = 1 << 20

// counts of a job as text.
func (w *world) counts(p *Pool, id string) string {
	w.t.Helper()
	j := must(w.Import(w.t.Context(), scope, p.ID, id))(w.t)
	return fmt.Sprintf("%s %d %d %d %s", j.Status, j.Imported, j.Skipped, j.Failed, j.Message)
}

// log is all of a job's log.
func (w *world) log(p *Pool, id string, troubles bool, limit int) (lines []LineOutcome) {
	w.t.Helper()
	for token := ""; ; {
		page, next, err := w.ImportLog(w.t.Context(), scope, p.ID, id, troubles, token, limit)
		ok(w.t, err)
		if lines = append(lines, page...); next == "" {
			return lines
		}
		if token = next; len(page) != limit {
			w.t.Fatalf("a page of %d lines is not the last", len(page))
		}
	}
}

func (w *world) users(p *Pool) int {
	w.t.Helper()
	return must(w.Pool(w.t.Context(), scope, p.ID))(w.t).EstimatedUsers
}

func TestAnImportMakesUsersOfLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	w.user(p, "known", map[string]string{"email": "known@example.com", "email_verified": "true"})
	file := importFile(p, 60, map[string]string{importUsername: "Known", "email": "a@example.com", "email_verified": "true"},
		map[string]string{importUsername: "user-00003", "email": "b@example.com", "email_verified": "true"},
		map[string]string{importUsername: "thief", "email": "known@example.com", "email_verified": "true"},
		map[string]string{importUsername: "unproven", "email": "c@example.com"}, map[string]string{importUsername: "last", "email": "last@example.com", "email_verified": "true"})
	file = strings.Replace(file, "\nuser-00030", "\n \t\r\nuser-00030", 1) // a blank line
	job := w.startImport(p, file)
	if got := w.counts(p, job.ID); got != "Pending 0 0 0 " {
		t.Errorf("a job that was started is %q", got)
	}
	node := w.node()
	w.workOn(node, 1)
	if j := must(w.Import(t.Context(), scope, p.ID, job.ID))(t); j.Status != ImportInProgress || j.Imported == 0 || j.Imported > importChunk { // fewer on a slow machine
		t.Errorf("after a chunk it is %+v", j)
	}
	w.workOn(node, enough)
	if got := w.counts(p, job.ID); got != "Succeeded 61 2 2 Import Job Completed Successfully." {
		t.Errorf("at last it is %q", got)
	}
	if got := w.users(p); got != 62 {
		t.Errorf("%d users", got)
	}
	var want []LineOutcome
	for n := int64(2); n <= 66; n++ {
		want = append(want, LineOutcome{n, LineSucceeded, "The import succeeded."})
	}
	want[60], want[61] = LineOutcome{62, LineSkipped, "The user already exists."}, LineOutcome{63, LineSkipped, "The user already exists."}
	want[62] = LineOutcome{64, LineFailed, "An account with the email already exists."}
	want[63] = LineOutcome{65, LineFailed, "The User Record does not set any of the auto verified attributes to true. (Example: email_verified to true)."}
	for _, limit := range []int{1, 7, 64, 65, 1000} {
		if got := w.log(p, job.ID, false, limit); !slices.Equal(got, want) {
			t.Errorf("the log in pages of %d: %v", limit, got)
		}
		if got := w.log(p, job.ID, true, limit); !slices.Equal(got, want[60:64]) {
			t.Errorf("its troubles in pages of %d: %v", limit, got)
		}
	}
	u := must(w.User(t.Context(), scope, p.ID, "user-00007"))(t)
	if u.Status != ResetRequired || !u.Enabled || u.Attributes["email_verified"] != "true" || !u.Created.Equal(w.clock()) || w.mail.count() != 0 {
		t.Errorf("a user %+v, %d messages", u, w.mail.count())
	}
}

// Whoever was imported has no password to guess, and chooses one by a code.
func TestWhoWasImportedChoosesAPassword(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Settings){"plain": func(*Settings) {}, "with a history": func(s *Settings) { s.Password = DefaultPasswordPolicy; s.Password.History = 3 },
		"by email": func(s *Settings) { s.AliasAttributes, s.UsernameAttributes = nil, []string{"email"} }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.importPool(change)
			hides, shows := w.client(p, ClientSettings{}), w.client(p, ClientSettings{ShowUnknownUsers: true})
			first := map[string]string{importUsername: "ada", "email": "ada@example.com", "email_verified": "true"}
			login := "ada"
			if len(p.UsernameAttributes) > 0 {
				login = "ada@example.com"
				first[importUsername], first["email"] = login, ""
			}
			job := w.startImport(p, importFile(p, 0, first))
			w.workOn(w.node(), enough)
			if got := w.counts(p, job.ID); got != "Succeeded 1 0 0 Import Job Completed Successfully." {
				t.Fatal(got)
			}
			for _, app := range []*Client{hides, shows} {
				code, text := "NotAuthorizedException", "Incorrect username or password."
				if app == shows {
					code, text = "PasswordResetRequiredException", "Password reset required for the user"
				}
				_, err := w.signIn(app, login, good)
				wantError(t, err, code, text)
				_, err = w.srp(app, login, good)
				wantError(t, err, code, text)
			}
			d := must(w.ForgotPassword(t.Context(), CodeRequest{ClientID: shows.ID, Username: login}))(t)
			if d.Attribute != "email" {
				t.Errorf("the code goes to %+v", d)
			}
			code := w.mail.last(t).Code
			ok(t, w.ConfirmForgotPassword(t.Context(), CodeRequest{ClientID: hides.ID, Username: login}, code, good))
			w.tokens(hides, login)
		})
	}
}

func TestAnAdministratorGivesWhoWasImportedAPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool(func(s *Settings) { s.Password = DefaultPasswordPolicy; s.Password.History = 3 })
	app := w.client(p, ClientSettings{})
	w.startImport(p, importFile(p, 1))
	w.workOn(w.node(), enough)
	ok(t, w.ResetPassword(t.Context(), scope, p.ID, "user-00000"))
	ok(t, w.SetPassword(t.Context(), scope, p.ID, "user-00000", good, true))
	w.tokens(app, "user-00000")
}

// However often the work is cut off, and whoever goes on, each line counts once.
func TestAnImportGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	const users = 330
	for name, begin := range map[string]func(w *world) (step func(i int)){
		"a new node each time": func(w *world) func(int) { return func(int) { w.workOn(w.node(), 1) } },
		"two nodes in turns": func(w *world) func(int) {
			a, b := w.node(), w.node()
			return func(int) {
				w.workOn(a, 1)
				w.workOn(b, 1)
				w.pass(time.Second)
			}
		},
		"after the store has failed": func(w *world) func(int) {
			node := w.node()
			return func(i int) {
				if i%3 == 0 {
					var n atomic.Int64
					w.onStatement.Store(new(func(s string) {
						if !strings.HasPrefix(s, "SELECT") && strings.Contains(s, " pool_") && n.Add(1) > int64(7*i%50) {
							panic("out of order")
						}
					}))
				}
				_, _ = node.round()
				w.onStatement.Store(nil)
				w.pass(time.Minute)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.importPool()
			job := w.startImport(p, importFile(p, users, map[string]string{importUsername: "user-00001", "email": "x@example.com", "email_verified": "true"}, map[string]string{"name": "nobody"}))
			step := begin(w)
			for i := 0; importing(store.PoolImport{Status: must(w.Import(t.Context(), scope, p.ID, job.ID))(t).Status}); i++ {
				step(i)
			}
			if got := w.counts(p, job.ID); got != fmt.Sprintf("Succeeded %d 1 1 Import Job Completed Successfully.", users) {
				t.Errorf("the job is %q", got)
			}
			if got := w.users(p); got != users {
				t.Errorf("%d users", got)
			}
			log := w.log(p, job.ID, false, 1000)
			for i, l := range log {
				if l.Line != int64(i+2) {
					t.Fatalf("entry %d of the log is of line %d", i, l.Line)
				}
			}
			if len(log) != users+2 {
				t.Errorf("%d lines in the log", len(log))
			}
		})
	}
}

// A line with which the store fails again and again is left out, and all others are imported.
func TestALineThatCannotBeStoredEndsNoImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	w.onStatement.Store(new(func(s string) {
		if strings.Contains(s, "FROM pool_providers") { // asked for names with "_" alone
			panic("out of order")
		}
	}))
	job := w.startImport(p, importFile(p, 10, map[string]string{importUsername: "poison_1", "email": "x@example.com", "email_verified": "true"},
		map[string]string{importUsername: "last", "email": "y@example.com", "email_verified": "true"}))
	node := w.node()
	for range 30 {
		_, _ = node.round()
		w.pass(time.Minute)
	}
	if got := w.counts(p, job.ID); got != "Succeeded 11 0 1 Import Job Completed Successfully." {
		t.Errorf("the job is %q", got)
	}
	if got := w.log(p, job.ID, true, 10); !slices.Equal(got, []LineOutcome{{12, LineFailed, "The user could not be imported due to an internal error."}}) {
		t.Errorf("its log is %v", got)
	}
}

// While the store takes nothing, as on a full disk, no line is at fault, however often the first one is tried.
func TestAStoreThatTakesNothingIsNoFaultOfALine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	job := w.startImport(p, importFile(p, 10))
	node := w.node()
	w.onStatement.Store(new(func(s string) {
		if strings.HasPrefix(s, "UPDATE pool_imports ") {
			panic("out of order")
		}
	}))
	for range 10 {
		_, _ = node.round()
		w.pass(time.Minute)
	}
	w.onStatement.Store(nil)
	w.workOn(node, enough)
	if got := w.counts(p, job.ID); got != "Succeeded 10 0 0 Import Job Completed Successfully." {
		t.Errorf("the job is %q, its log %v", got, w.log(p, job.ID, true, 10))
	}
}

func TestWhatIsWrongWithAFileEndsItsImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	columns := strings.Join(p.importColumns(), ",")
	for file, want := range map[string]string{
		"":                 "Failed 0 0 0 The file is empty.",
		"name\nada\n":      "Failed 0 0 0 The header lacks the column given_name: all columns of GetCSVHeader must be there.",
		"x\n":              "Failed 0 0 0 Column 1 of the header is none of this user pool: compare it with GetCSVHeader.",
		columns:            "Succeeded 0 0 0 Import Job Completed Successfully.",
		columns + "\na\nb": "Failed 0 0 2 Too many users have failed or been skipped during the import.",
		importFile(p, 2):   "Succeeded 2 0 0 Import Job Completed Successfully.",
	} {
		job := w.startImport(p, file)
		w.workOn(w.node(), enough)
		if got := w.counts(p, job.ID); got != want {
			t.Errorf("%.30q: %q, want %q", file, got, want)
		}
	}
	job := w.startImport(p, importFile(p, 2))
	w.workOn(w.node(), enough)
	if got := w.counts(p, job.ID); got != "Failed 0 2 0 Too many users have failed or been skipped during the import." {
		t.Errorf("the same file again: %q", got)
	}
}

func TestAnImportStartsOnceAndStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p, q := w.importPool(), w.importPool()
	job, file := w.createImport(p), importFile(p, 100)
	start := func(p *Pool, id string) error { _, err := w.StartImport(ctx, scope, p.ID, id); return err }
	stop := func(id string) error { _, err := w.StopImport(ctx, scope, p.ID, id); return err }

	wantError(t, start(p, job.ID), "PreconditionNotMetException", "No csv file was uploaded for "+job.ID)
	wantError(t, stop(job.ID), "PreconditionNotMetException", "The user import job "+job.ID+" cannot be stopped: its status is Created.")
	ok(t, w.upload(job, "what comes first is replaced"))
	ok(t, w.upload(job, file))
	ok(t, start(p, job.ID))
	wantError(t, start(p, job.ID), "PreconditionNotMetException", "The user import job "+job.ID+" cannot be started: its status is Pending.")
	wantError(t, w.upload(job, file), "InvalidRequest", "The user import job takes no file any more: its status is Pending.")

	other := w.createImport(q)
	ok(t, w.upload(other, importFile(q, 1)))
	wantError(t, start(q, other.ID), "PreconditionNotMetException", "Only one user import job of an account can be active at a time, and "+job.ID+" of user pool "+p.ID+" is.")
	for name, err := range map[string]error{
		"UpdatePool":    w.UpdatePool(ctx, scope, p.ID, "", Settings{}, nil),
		"AddAttributes": w.AddAttributes(ctx, scope, p.ID, []SchemaAttribute{{Name: "x"}}),
		"DeletePool":    w.DeletePool(ctx, scope, p.ID),
	} {
		var e *fleet.Error
		if !errors.As(err, &e) || e.Code != "UserImportInProgressException" {
			t.Errorf("%s while users are imported: %v", name, err)
		}
	}
	ok(t, w.AddAttributes(ctx, scope, q.ID, []SchemaAttribute{{Name: "x"}})) // of another pool

	node := w.node()
	w.workOn(node, 2)
	ok(t, stop(job.ID))
	wantError(t, stop(job.ID), "PreconditionNotMetException", "")
	made := w.users(p)
	w.workOn(node, enough)
	w.workOn(w.node(), enough)
	if got, want := w.counts(p, job.ID), fmt.Sprintf("Stopped %d 0 0 The Import Job was stopped by the developer.", made); got != want || w.users(p) != made || made == 0 || made > 2*importChunk {
		t.Errorf("the job is %q, want %q, and there are %d users", got, want, w.users(p))
	}
	wantError(t, start(p, job.ID), "PreconditionNotMetException", "The user import job "+job.ID+" cannot be started: its status is Stopped.")
	ok(t, start(q, other.ID))
	wantError(t, start(q, "import-none"), "ResourceNotFoundException", "User import job import-none does not exist.")
	w.workOn(node, enough)
	ok(t, w.DeletePool(ctx, scope, p.ID))

	unverified := w.pool(Settings{})
	third := w.createImport(unverified)
	ok(t, w.upload(third, importFile(unverified, 1)))
	wantError(t, start(unverified, third.ID), "PreconditionNotMetException", "")
	_, err := w.CreateImport(ctx, scope, p.ID, "people", logsRole)
	wantError(t, err, "ResourceNotFoundException", "")
	_, err = w.CreateImport(ctx, scope, q.ID, "people", forbiddenRole)
	wantError(t, err, "AccessDeniedException", "")
	elsewhere := fleet.Scope{Account: "111111111111", Region: scope.Region}
	_, err = w.Import(ctx, elsewhere, q.ID, other.ID)
	wantError(t, err, "ResourceNotFoundException", "User pool "+q.ID+" does not exist.")
}

// TestRunImportsHearsOfAStart has the loop that the server runs.
func TestRunImportsHearsOfAStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.RunImports(ctx) }()
	job := w.startImport(p, importFile(p, 40))
	for got := ""; got != "Succeeded 40 0 0 Import Job Completed Successfully."; got = w.counts(p, job.ID) {
		ok(t, t.Context().Err())
	}
	cancel()
	<-done
}

func TestAFileIsStoredForItsJobAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	p := w.importPool()
	job, other := w.createImport(p), w.createImport(p)
	signature := func(j ImportJob) string { return must(url.Parse(j.URL))(t).Query().Get("X-Amz-Signature") }
	for name, try := range map[string][3]string{"another job's": {p.ID, job.ID, signature(other)}, "no": {p.ID, job.ID, ""}, "a changed": {p.ID, job.ID, "0" + signature(job)[1:] + "0"},
		"no job's": {p.ID, "import-none", signature(job)}, "no pool's": {"us-east-1_none", job.ID, signature(job)}} {
		_, err := w.Upload(ctx, try[0], try[1], try[2])
		if err == nil {
			t.Errorf("%s signature is good", name)
			continue
		}
		wantError(t, err, "SignatureDoesNotMatch", "The address is not one that CreateUserImportJob has given.")
	}
	u := must(w.Upload(ctx, p.ID, job.ID, signature(job)))(t)
	file := importFile(p, 3)
	receive := func(r io.Reader, size int) error { return u.Receive(ctx, r, int64(size), func() {}) }
	wantError(t, receive(strings.NewReader(file), len(file)+1), "IncompleteBody", "The file ended early.")
	wantError(t, receive(strings.NewReader(file), maxImportSize+1), "EntityTooLarge", "The file has 104857601 bytes, and may have 104857600.")
	broken := errors.New("broken")
	if err := receive(io.MultiReader(strings.NewReader(file), iotest.ErrReader(broken)), len(file)+1); !errors.Is(err, broken) {
		t.Errorf("a connection that ends: %v", err)
	}
	many := strings.Repeat("x\n", maxImportUsers+2)
	wantError(t, receive(strings.NewReader(many), len(many)), "EntityTooLarge", "The file has 500001 users, and may have 500000.")
	for range maxUploads {
		w.uploads <- struct{}{}
	}
	wantError(t, receive(strings.NewReader(file), len(file)), "SlowDown", "Too many files of users are being uploaded. Try again in a minute.")
	for range maxUploads {
		<-w.uploads
	}
	if _, err := w.StartImport(ctx, scope, p.ID, job.ID); err == nil {
		t.Error("a job begins without its file")
	}
	w.pass(importUpload)
	wantError(t, w.upload(job, file), "AccessDenied", "Request has expired: the address was good for 15 minutes. Create another job.")
}

func TestImportsAreListedTheNewestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	var want []string
	for i := range 7 {
		if i != 3 { // two of the same time
			w.pass(time.Second)
		}
		want = append(want, w.createImport(p).ID)
	}
	slices.Reverse(want)
	if want[3] < want[4] {
		want[3], want[4] = want[4], want[3]
	}
	for _, limit := range []int{1, 3, 7, 60} {
		var got []string
		for token := ""; ; {
			jobs, next, err := w.Imports(t.Context(), scope, p.ID, token, limit)
			ok(t, err)
			for _, j := range jobs {
				got = append(got, j.ID)
			}
			if token = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v, want %v", limit, got, want)
		}
	}
	for _, token := range []string{"nonsense", pageToken("users", "x")} {
		_, _, err := w.Imports(t.Context(), scope, p.ID, token, 1)
		wantError(t, err, "InvalidParameterException", "Invalid pagination token: repeat the list from its start.")
	}
	_, _, err := w.ImportLog(t.Context(), scope, p.ID, want[0], false, pageToken("import log", "x"), 1)
	wantError(t, err, "InvalidParameterException", "Invalid pagination token: repeat the list from its start.")
	w.pass(importKept + importLife + time.Second)
	ok(t, w.Sweep(t.Context()))
	ok(t, w.Sweep(t.Context()))
	if jobs, _, err := w.Imports(t.Context(), scope, p.ID, "", 60); err != nil || len(jobs) > 0 {
		t.Errorf("after 90 days there are %d jobs, %v", len(jobs), err)
	}
}

// left counts what is stored of files and logs.
func (w *world) left(p *Pool, job string) (parts int) {
	w.t.Helper()
	ok(w.t, w.db.View(w.t.Context(), func(tx *store.Tx) error {
		i, err := tx.PoolImport(scope, p.ID, job)
		for err == nil && i.File != "" {
			var part []byte
			if part, err = tx.ImportPart(scope, i.File, int64(parts)); part == nil {
				break
			}
			parts++
		}
		return err
	}))
	return parts
}

func TestAJobThatNobodyStartsExpiresWithItsFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.importPool()
	job := w.createImport(p)
	ok(t, w.upload(job, importFile(p, 8000))) // several parts
	if n := w.left(p, job.ID); n < 2 {
		t.Fatalf("%d parts", n)
	}
	w.pass(importLife - time.Millisecond)
	ok(t, w.Sweep(t.Context()))
	if got := w.counts(p, job.ID); got != "Created 0 0 0 " {
		t.Errorf("a moment before it is %q", got)
	}
	w.pass(time.Millisecond)
	if got := w.counts(p, job.ID); got != "Expired 0 0 0 The user import job has expired." {
		t.Errorf("before the sweep it is %q", got)
	}
	_, err := w.StartImport(t.Context(), scope, p.ID, job.ID)
	wantError(t, err, "PreconditionNotMetException", "The user import job "+job.ID+" cannot be started: its status is Expired.")
	w.pass(time.Hour)
	ok(t, w.Sweep(t.Context()))
	j := must(w.Import(t.Context(), scope, p.ID, job.ID))(t)
	if got := w.counts(p, job.ID); got != "Expired 0 0 0 The user import job has expired." || !j.Completed.Equal(j.Created.Add(importLife)) {
		t.Errorf("behind the sweep it is %q, ended at %v", got, j.Completed)
	}
	var more bool
	ok(t, w.db.Tx(t.Context(), func(tx *store.Tx) (err error) { more, err = tx.SweepImportFiles(w.clock()); return err }))
	if n := w.left(p, job.ID); n != 0 || more {
		t.Errorf("%d parts are left, %t", n, more)
	}
}
