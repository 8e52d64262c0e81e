package power

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// An importer brings users into a pool from a file while the recording runs.
type importer struct {
	people
	file      string
	pool, job string
	seen      []int64 // lines that the job was seen to have done

	uploaded, begun, done int // cuts at which the file was there, the job in work, and at its end
}

const (
	imported = 300
	repeated = 3
	wrong    = 2
)

// An importJob is a job as Cognito describes it.
type importJob struct {
	JobId, Status, PreSignedUrl, CompletionMessage string
	ImportedUsers, SkippedUsers, FailedUsers       int64
}

func (j importJob) lines() int64 { return j.ImportedUsers + j.SkippedUsers + j.FailedUsers }

func (j importJob) String() string {
	return fmt.Sprintf("%s %d %d %d", j.Status, j.ImportedUsers, j.SkippedUsers, j.FailedUsers)
}

func (i *importer) call(ctx context.Context, c *client.Client, operation string, in object) (importJob, error) {
	in["UserPoolId"] = i.pool
	var out struct{ UserImportJob importJob }
	err := c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, in, &out)
	return out.UserImportJob, err
}

// write makes the file: users, some of them again, and lines that are wrong.
func (i *importer) write(ctx context.Context, c *client.Client) error {
	var header struct{ CSVHeader []string }
	if err := c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.GetCSVHeader", object{"UserPoolId": i.pool}, &header); err != nil {
		return err
	}
	lines := []string{strings.Join(header.CSVHeader, ",")}
	add := func(name, verified string) {
		cells := make([]string, len(header.CSVHeader))
		for n, column := range header.CSVHeader {
			cells[n] = map[string]string{"cognito:username": name, "email": name + "@example.com", "email_verified": verified}[column]
		}
		lines = append(lines, strings.Join(cells, ","))
	}
	for n := range imported {
		add(fmt.Sprintf("user-%d", n), "true")
	}
	for n := range repeated {
		lines = slices.Insert(lines, 100*(n+1), lines[1+n])
	}
	for range wrong {
		add("wrong", "false")
	}
	i.file = strings.Join(lines, "\n") + "\n"
	return nil
}

// live imports the file, and says what it saw.
func (i *importer) live(ctx context.Context, mark func(string) error) error {
	c, err := i.admin(i.env)
	if err != nil {
		return err
	}
	var pool struct{ UserPool struct{ Id string } }
	if err := c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.CreateUserPool", object{"PoolName": "staff", "AutoVerifiedAttributes": []string{"email"}}, &pool); err != nil {
		return err
	}
	i.pool = pool.UserPool.Id
	if err := i.write(ctx, c); err != nil {
		return err
	}
	job, err := i.call(ctx, c, "CreateUserImportJob", object{"JobName": "people", "CloudWatchLogsRoleArn": "arn:aws:iam::000000000000:role/logs"})
	if err != nil {
		return err
	}
	i.job = job.JobId
	if err := mark("created"); err != nil {
		return err
	}
	if err := c.Upload(ctx, job.PreSignedUrl, map[string]string{"x-amz-server-side-encryption": "aws:kms"}, strings.NewReader(i.file), int64(len(i.file))); err != nil {
		return err
	}
	if err := mark("uploaded"); err != nil {
		return err
	}
	if job, err = i.call(ctx, c, "StartUserImportJob", object{"JobId": i.job}); err != nil {
		return err
	}
	if err := mark("started"); err != nil {
		return err
	}
	for job.Status == "Pending" || job.Status == "InProgress" {
		if job, err = i.call(ctx, c, "DescribeUserImportJob", object{"JobId": i.job}); err != nil {
			return err
		}
		if n := len(i.seen); job.lines() > 0 && (n == 0 || i.seen[n-1] < job.lines()) {
			i.seen = append(i.seen, job.lines())
			if err := mark(doneMark(job.lines())); err != nil {
				return err
			}
		}
	}
	return errors.Join(i.whole(ctx, c, job), mark("ended"))
}

func doneMark(lines int64) string { return fmt.Sprintf("done %d", lines) }

// whole looks at a job that has ended: each line counts once.
func (i *importer) whole(ctx context.Context, c *client.Client, job importJob) error {
	if got, want := job.String(), fmt.Sprintf("Succeeded %d %d %d", imported, repeated, wrong); got != want {
		return fmt.Errorf("the job has ended as %s, want %s (%s)", got, want, job.CompletionMessage)
	}
	var pool struct {
		UserPool struct{ EstimatedNumberOfUsers int }
	}
	if err := c.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.DescribeUserPool", object{"UserPoolId": i.pool}, &pool); err != nil {
		return err
	}
	if n := pool.UserPool.EstimatedNumberOfUsers; n != imported {
		return fmt.Errorf("there are %d users, want %d", n, imported)
	}
	var log struct {
		Lines []struct {
			Line    int
			Outcome string
		}
	}
	if err := c.REST(ctx, "imprint", "GET", "/imprint/user-pools/"+i.pool+"/imports/"+i.job+"/log?maxResults=1000", nil, &log); err != nil {
		return err
	}
	count := map[string]int{}
	for n, l := range log.Lines {
		if l.Line != n+2 {
			return fmt.Errorf("entry %d of the log is of line %d", n, l.Line)
		}
		count[l.Outcome]++
	}
	if count["SUCCEEDED"] != imported || count["SKIPPED"] != repeated || count["FAILED"] != wrong {
		return fmt.Errorf("the log has %v", count)
	}
	return nil
}

// check sees that nothing is lost that was seen, and lets the job end.
func (i *importer) check(ctx context.Context, s *site, rec *recording, cut int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if !rec.seen("created", cut) {
		return nil
	}
	c, err := i.admin(s.env)
	if err != nil {
		return err
	}
	job, err := i.call(ctx, c, "DescribeUserImportJob", object{"JobId": i.job})
	if err != nil {
		return err
	}
	for _, n := range i.seen {
		if rec.seen(doneMark(n), cut) && job.lines() < n {
			return fmt.Errorf("%d lines were done, now %d are", n, job.lines())
		}
	}
	switch {
	case rec.seen("ended", cut) || job.Status == "Succeeded":
		i.done++
		return i.whole(ctx, c, job)
	case rec.seen("started", cut) && job.Status == "Created":
		return errors.New("a job that was started is not any more")
	case job.Status != "Created":
		i.begun++
	case !rec.seen("uploaded", cut):
		return nil
	default:
		i.uploaded++
		if job, err = i.call(ctx, c, "StartUserImportJob", object{"JobId": i.job}); err != nil {
			return err
		}
	}
	for job.Status == "Pending" || job.Status == "InProgress" {
		if job, err = i.call(ctx, c, "DescribeUserImportJob", object{"JobId": i.job}); err != nil {
			return err
		}
	}
	return i.whole(ctx, c, job)
}

// TestAnImportOfUsersSurvivesAPowerCut: the file is there once its upload was answered, and each line counts once, wherever the power goes.
func TestAnImportOfUsersSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := &importer{people: *newPeople()}
	rec, err := i.watch(bin, dir, i.live)
	if err != nil {
		t.Fatal(err)
	}
	rnd := newRand(t)
	left := filepath.Join(dir, "left")
	ways := losses(rnd)
	var ops []int // most of them store users
	for _, at := range rec.disk.at {
		if at > rec.marks["uploaded"] && at < rec.marks["ended"] {
			ops = append(ops, at+1)
		}
	}
	cuts := append(rec.pick(rnd, 9, "uploaded"), rec.marks["uploaded"]+1, ops[len(ops)/2], ops[len(ops)*3/4], rec.last())
	for n, cut := range cuts {
		if err := rec.survive(cut, ways[n/2%len(ways)], lie{}, left, func(s *site) error { return i.check(context.Background(), s, rec, cut) }); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d moments; %d cuts with the file there, %d with the job in work, %d at its end", len(rec.order), i.uploaded, i.begun, i.done)
	if i.uploaded == 0 || i.begun == 0 || i.done == 0 {
		t.Error("the cuts show nothing")
	}
}
