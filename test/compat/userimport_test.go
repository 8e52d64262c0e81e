package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An importSite imports users as operators do, by the AWS CLI and curl.
type importSite struct {
	*testing.T
	*site
	dir  string
	pool string
}

type importedJob struct {
	JobId, Status, PreSignedUrl, CompletionMessage string
	ImportedUsers, SkippedUsers, FailedUsers       int
}

func (j importedJob) String() string {
	return fmt.Sprintf("%s %d %d %d %s", j.Status, j.ImportedUsers, j.SkippedUsers, j.FailedUsers, j.CompletionMessage)
}

func (i *importSite) idp(args ...string) string {
	i.Helper()
	return i.run(i.T, i.dir, nil, imprint(), append([]string{"aws", "--output", "json", "cognito-idp"}, args...)...)
}

func (i *importSite) job(operation, id string) importedJob {
	i.Helper()
	return must[struct{ UserImportJob importedJob }](i.T, i.idp(operation, "--user-pool-id", i.pool, "--job-id", id)).UserImportJob
}

// newImport makes a pool that verifies e-mail addresses.
func newImport(t *testing.T, s *site) *importSite {
	t.Helper()
	i := &importSite{T: t, site: s, dir: t.TempDir()}
	i.pool = must[struct{ UserPool struct{ Id string } }](t, i.idp("create-user-pool", "--pool-name", "people-"+fleet.RandomString(6, fleet.AlphaLowerDigit), "--auto-verified-attributes", "email")).UserPool.Id
	return i
}

// write makes a file of n users and other lines, each of which says its columns.
func (i *importSite) write(n int, others ...map[string]string) string {
	i.Helper()
	columns := must[struct{ CSVHeader []string }](i.T, i.idp("get-csv-header", "--user-pool-id", i.pool)).CSVHeader
	lines := []string{strings.Join(columns, ",")}
	add := func(values map[string]string) {
		cells := make([]string, len(columns))
		for n, name := range columns {
			cells[n] = values[name]
		}
		lines = append(lines, strings.Join(cells, ","))
	}
	for n := range n {
		add(map[string]string{"cognito:username": fmt.Sprintf("user-%d", n), "email": fmt.Sprintf("user-%d@example.com", n), "email_verified": "TRUE"})
	}
	for _, o := range others {
		if raw, ok := o["raw"]; ok {
			lines = append(lines, raw)
			continue
		}
		add(o)
	}
	path := filepath.Join(i.dir, "people.csv")
	check(i.T, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// upload sends a file as AWS's page has it, and returns the status and what was said.
func (i *importSite) upload(url, file string, header ...string) string {
	i.Helper()
	args := []string{"-sS", "--cacert", i.get("AWS_CA_BUNDLE"), "-w", "%{http_code}", "-T", file}
	for _, h := range header {
		args = append(args, "-H", h)
	}
	return i.run(i.T, i.dir, nil, "curl", append(args, url)...)
}

const kms = "x-amz-server-side-encryption:aws:kms"

func (i *importSite) create() importedJob {
	i.Helper()
	return must[struct{ UserImportJob importedJob }](i.T, i.idp("create-user-import-job", "--user-pool-id", i.pool, "--job-name", "people",
		"--cloud-watch-logs-role-arn", "arn:aws:iam::"+account+":role/logs")).UserImportJob
}

// The steps of AWS's page, and the server is killed half-way: each line counts once.
func TestTheAWSCLIAndCurlImportUsersThroughAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	defer func() { _ = s.stop() }()
	i := newImport(t, s)
	const users = 6000
	file := i.write(users, map[string]string{"cognito:username": "user-7", "email": "x@example.com", "email_verified": "true"}, map[string]string{"cognito:username": "wrong"})
	job := i.create()
	if got := i.upload(job.PreSignedUrl, file); !strings.Contains(got, "<Code>SignatureDoesNotMatch</Code>") || !strings.HasSuffix(got, "403") {
		t.Errorf("without the header: %s", got)
	}
	if got := i.upload(strings.Replace(job.PreSignedUrl, "X-Amz-Signature=", "X-Amz-Signature=0", 1), file, kms); !strings.Contains(got, "<Code>SignatureDoesNotMatch</Code>") || !strings.HasSuffix(got, "403") {
		t.Errorf("with another signature: %s", got)
	}
	if got := i.upload(job.PreSignedUrl, file, kms); got != "200" {
		t.Fatalf("the upload answers %s", got)
	}
	if got := i.job("start-user-import-job", job.JobId); got.Status != "Pending" {
		t.Errorf("the job is %s", got)
	}
	check(t, s.cmd.Process.Kill())
	<-s.exited
	s, err = start(dir)
	check(t, err)
	i.site = s
	now := job
	for now.Status = "Pending"; now.Status == "Pending" || now.Status == "InProgress"; {
		now = i.job("describe-user-import-job", job.JobId)
	}
	if got, want := now.String(), fmt.Sprintf("Succeeded %d 1 1 Import Job Completed Successfully.", users); got != want {
		t.Errorf("the job is %q, want %q", got, want)
	}
	if got := must[struct {
		UserPool struct{ EstimatedNumberOfUsers int }
	}](t, i.idp("describe-user-pool", "--user-pool-id", i.pool)).UserPool.EstimatedNumberOfUsers; got != users {
		t.Errorf("%d users", got)
	}
	if got := i.idp("list-user-import-jobs", "--user-pool-id", i.pool, "--max-results", "1"); !strings.Contains(got, job.JobId) {
		t.Errorf("the list is %s", got)
	}
	if got := i.idp("admin-get-user", "--user-pool-id", i.pool, "--username", "user-4711"); !strings.Contains(got, "RESET_REQUIRED") {
		t.Errorf("a user is %s", got)
	}
	if out, err := s.try(t, dir, nil, imprint(), "aws", "cognito-idp", "stop-user-import-job", "--user-pool-id", i.pool, "--job-id", job.JobId); err == nil || !strings.Contains(out, "PreconditionNotMetException") {
		t.Errorf("stopping what has ended: %v, %s", err, out)
	}
}

// The verb does all of it, and says which lines were not imported.
func TestTheVerbImportsAFileWithEveryKindOfBadLine(t *testing.T) {
	t.Parallel()
	i := newImport(t, ownServer(t)) // an account has one job at a time
	good := func(more ...string) map[string]string {
		m := map[string]string{"cognito:username": "ada", "email": "ada@example.com", "email_verified": "true"}
		for n := 0; n < len(more); n += 2 {
			m[more[n]] = more[n+1]
		}
		return m
	}
	others := []map[string]string{good("address", `1 Street\, Town`), {"raw": " \t"}, good(), good("cognito:username", ""), good("cognito:username", "a b"), good("cognito:username", "b", "email_verified", ""),
		good("cognito:username", "b", "email", ""), good("cognito:username", "b", "email", "x"), good("cognito:username", "b", "phone_number", "x"), good("cognito:username", "b", "birthdate", "1985-02-01"),
		good("cognito:username", "b", "updated_at", "x"), good("cognito:username", "b", "cognito:mfa_enabled", "true"), {"raw": "a,b"}, {"raw": strings.Repeat("x", 16_001)}, {"raw": "\xff"}}
	want := []string{"Succeeded: 31 users imported, 1 skipped, 12 failed, in ", "[SKIPPED] Line Number 34 - The user already exists.",
		"[FAILED] Line Number 35 - The line lacks cognito:username.", "[FAILED] Line Number 36 - The username must not contain spaces or tabs.",
		"[FAILED] Line Number 37 - The User Record does not set any of the auto verified attributes to true. (Example: email_verified to true).",
		"[FAILED] Line Number 38 - email_verified is true, but there is no email.", "[FAILED] Line Number 39 - Invalid email address format.",
		"[FAILED] Line Number 40 - Invalid phone number format.", "[FAILED] Line Number 41 - birthdate must be a date in the form mm/dd/yyyy.",
		"[FAILED] Line Number 42 - Attributes did not conform to the schema: updated_at: The attribute must be a whole number",
		"[FAILED] Line Number 43 - cognito:mfa_enabled must be false or blank: the user pool has MFA off.",
		"[FAILED] Line Number 44 - The line has 2 fields, the header has 21. A comma in a value is written as \\,",
		"[FAILED] Line Number 45 - The line has more than 16000 characters.", "[FAILED] Line Number 46 - The line is not UTF-8 text."}
	file := i.write(30, others...)
	said := i.run(t, i.dir, nil, imprint(), "user", "import", file, "--pool", i.pool)
	lines := strings.Split(strings.TrimSpace(said), "\n")[1:] // behind the job's id
	for n := range max(len(lines), len(want)) {
		if n >= len(lines) || n >= len(want) || !strings.HasPrefix(lines[n], want[n]) {
			t.Fatalf("line %d of what the verb says is not as it should be:\n%s", n, said)
		}
	}
	out, err := i.try(t, i.dir, nil, imprint(), "user", "import", file, "--pool", i.pool)
	if err == nil || !strings.Contains(out, "Failed: 0 users imported, 32 skipped, 12 failed, in ") || !strings.Contains(out, "Too many users have failed or been skipped during the import.") ||
		!strings.Contains(out, "… and 24 more: imprint user import-log "+i.pool+" import-") {
		t.Errorf("the same file again: %v, %s", err, out)
	}
	id := must[struct{ UserImportJobs []importedJob }](t, i.idp("list-user-import-jobs", "--user-pool-id", i.pool, "--max-results", "60")).UserImportJobs[0].JobId
	if log := i.run(t, i.dir, nil, imprint(), "user", "import-log", i.pool, id); strings.Count(log, "\n") != 44 || !strings.HasPrefix(log, "[SKIPPED] Line Number 2 - The user already exists.\n") {
		t.Errorf("the log is %s", log)
	}
}
