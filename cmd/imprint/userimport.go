package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// Import of users: the operations of Cognito, and our own for the log.

type userImportCmd struct {
	place
	File string `arg:"" type:"existingfile" help:"CSV file with the header that 'imprint aws cognito-idp get-csv-header' prints (docs/user-import.md)."`
	Pool string `help:"Id of the user pool." required:"" placeholder:"ID"`
	Name string `help:"Name of the job (default: that of the file)." placeholder:"NAME"`
	Role string `help:"ARN of the role for the log (default: a role imprint-user-import without rights, made when it is missing). It is not used." placeholder:"ARN"`
}

// An importJob is a job as Cognito describes it.
type importJob struct {
	JobId, Status, PreSignedUrl, CompletionMessage string
	ImportedUsers, SkippedUsers, FailedUsers       int64
}

func (j importJob) done() int64 { return j.ImportedUsers + j.SkippedUsers + j.FailedUsers }

func (j importJob) active() bool { return j.Status == "Pending" || j.Status == "InProgress" }

func (c *userImportCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	users, size, err := countLines(file)
	if err != nil {
		return fmt.Errorf("reading %s: %w", c.File, err)
	}
	job, err := c.create(ctx, cl)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "job %s: %d users\n", job.JobId, users)
	if err := upload(ctx, cl, job, file, size); err != nil {
		return fmt.Errorf("uploading %s: %w", c.File, err)
	}
	begin := time.Now()
	if job, err = c.call(ctx, cl, "StartUserImportJob", job.JobId); err != nil {
		return err
	}
	if job, err = c.follow(ctx, cl, job, users); err != nil {
		return err
	}
	return c.report(ctx, cl, job, time.Since(begin))
}

// countLines counts what should be users: lines that are not blank, without the first.
func countLines(file *os.File) (users, size int64, err error) {
	r := bufio.NewReader(file)
	for text := false; ; {
		b, err := r.ReadByte()
		if err == io.EOF || b == '\n' {
			if text {
				users++
			}
			text = false
		}
		switch {
		case err == io.EOF:
			_, err = file.Seek(0, io.SeekStart)
			return max(users-1, 0), size, err
		case err != nil:
			return 0, 0, err
		}
		size++
		text = text || !strings.ContainsRune(" \t\r\n", rune(b))
	}
}

func (c *userImportCmd) create(ctx context.Context, cl *client.Client) (importJob, error) {
	if c.Role == "" {
		var err error
		if c.Role, err = serviceRole(ctx, cl, "imprint-user-import", "cognito-idp.amazonaws.com"); err != nil {
			return importJob{}, fmt.Errorf("making a role for the log (or name one with --role): %w", err)
		}
	}
	if c.Name == "" {
		c.Name = jobName(filepath.Base(c.File))
	}
	var out struct{ UserImportJob importJob }
	err := cl.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService.CreateUserImportJob",
		map[string]string{"UserPoolId": c.Pool, "JobName": c.Name, "CloudWatchLogsRoleArn": c.Role}, &out)
	return out.UserImportJob, err
}

// jobName makes a name of a job of any text.
func jobName(text string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ +=,.@-", r) {
			return r
		}
		return '_'
	}, text)
	return name[:min(len(name), 128)]
}

func (c *userImportCmd) call(ctx context.Context, cl *client.Client, operation, job string) (importJob, error) {
	var out struct{ UserImportJob importJob }
	err := cl.JSON(ctx, "cognito-idp", "AWSCognitoIdentityProviderService."+operation, map[string]string{"UserPoolId": c.Pool, "JobId": job}, &out)
	return out.UserImportJob, err
}

// A barReader shows how much of a file was read.
type barReader struct {
	io.Reader
	bar  *progress
	read int64
}

func (r *barReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read += int64(n)
	r.bar.show(r.read, r.read>>20)
	return n, err
}

func upload(ctx context.Context, cl *client.Client, job importJob, file io.Reader, size int64) error {
	bar := newProgress(size, "MiB uploaded")
	defer bar.end()
	return cl.Upload(ctx, job.PreSignedUrl, map[string]string{"x-amz-server-side-encryption": "aws:kms"}, &barReader{Reader: file, bar: bar}, size)
}

// follow shows how far the job is until it has ended.
func (c *userImportCmd) follow(ctx context.Context, cl *client.Client, job importJob, users int64) (importJob, error) {
	bar := newProgress(users, "users").timed(0, 0)
	defer bar.end()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for id := job.JobId; job.active(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			bar.end()
			return job, fmt.Errorf("the job goes on without this command: imprint aws cognito-idp describe-user-import-job --user-pool-id %s --job-id %s shows how far it is, stop-user-import-job ends it", c.Pool, id)
		}
		next, err := c.call(ctx, cl, "DescribeUserImportJob", id)
		if err != nil && ctx.Err() == nil {
			return job, fmt.Errorf("asking for the job %s, which goes on: %w", id, err)
		}
		if err == nil {
			job = next
			bar.show(job.done(), job.done())
		}
	}
	return job, nil
}

// mostShown is how many lines of the log a report has.
const mostShown = 20

// report says what became of the file, and which lines were not imported.
func (c *userImportCmd) report(ctx context.Context, cl *client.Client, job importJob, took time.Duration) error {
	rate := float64(job.done()) / max(took.Seconds(), 0.001)
	fmt.Printf("%s: %d users imported, %d skipped, %d failed, in %v (%.0f/s)\n", job.Status, job.ImportedUsers, job.SkippedUsers, job.FailedUsers, took.Round(100*time.Millisecond), rate)
	if troubles := job.SkippedUsers + job.FailedUsers; troubles > 0 {
		if err := eachImportLine(ctx, cl, c.Pool, job.JobId, true, mostShown); err != nil {
			return err
		}
		if troubles > mostShown {
			fmt.Printf("… and %d more: imprint user import-log %s %s --troubles\n", troubles-mostShown, c.Pool, job.JobId)
		}
	}
	if job.Status != "Succeeded" {
		return fmt.Errorf("the job %s has ended as %s: %s", job.JobId, job.Status, job.CompletionMessage)
	}
	return nil
}

type userImportLogCmd struct {
	place
	Pool     string `arg:"" help:"Id of the user pool."`
	Job      string `arg:"" help:"Id of the job."`
	Troubles bool   `help:"Only lines that were not imported."`
}

func (c *userImportLogCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	return eachImportLine(ctx, cl, c.Pool, c.Job, c.Troubles, 0)
}

// eachImportLine prints the log of a job as Cognito words it, most lines of it at most; 0: all.
func eachImportLine(ctx context.Context, cl *client.Client, pool, job string, troubles bool, most int) error {
	type page struct {
		Lines []struct {
			Line             int64
			Outcome, Message string
		}
		NextToken string
	}
	w := bufio.NewWriter(os.Stdout)
	path := "/imprint/user-pools/" + url.PathEscape(pool) + "/imports/" + url.PathEscape(job) + "/log?troubles=" + strconv.FormatBool(troubles)
	limit := 1000
	if most > 0 {
		limit = most
	}
	err := eachPage(ctx, cl, path, limit, func(p page) (string, error) {
		for _, l := range p.Lines {
			fmt.Fprintf(w, "[%s] Line Number %d - %s\n", l.Outcome, l.Line, l.Message)
		}
		if most > 0 {
			return "", nil
		}
		return p.NextToken, nil
	})
	if flushed := w.Flush(); err == nil {
		err = flushed
	}
	return err
}
