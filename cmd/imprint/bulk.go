package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

// Bulk registration: the operations of AWS, and S3 for the file.

type bulkCmd struct {
	Start   bulkStartCmd   `cmd:"" help:"Register a thing for each line of a file of parameters, or give those that exist new certificates (docs/bulk.md)."`
	Watch   bulkWatchCmd   `cmd:"" help:"Show how far a task is until it has ended, and which lines were not registered."`
	Stop    bulkStopCmd    `cmd:"" help:"End a task where it is. What was registered stays."`
	List    bulkListCmd    `cmd:"" help:"List the tasks of the last thirty days."`
	Reports bulkReportsCmd `cmd:"" help:"Print or download what became of the lines of a task."`
}

// A bulkTask is a task as AWS describes it.
type bulkTask struct {
	TaskID             string  `json:"taskId"`
	Bucket             string  `json:"inputFileBucket"`
	Key                string  `json:"inputFileKey"`
	CreationDate       float64 `json:"creationDate"`
	LastModifiedDate   float64 `json:"lastModifiedDate"`
	Status             string  `json:"status"`
	Message            string  `json:"message"`
	SuccessCount       int64   `json:"successCount"`
	FailureCount       int64   `json:"failureCount"`
	PercentageProgress int64   `json:"percentageProgress"`
}

func (t bulkTask) lines() int64 { return t.SuccessCount + t.FailureCount }

func (t bulkTask) active() bool { return t.Status == "InProgress" || t.Status == "Cancelling" }

const bulkPath = "/thing-registration-tasks"

func describeBulk(ctx context.Context, cl *client.Client, id string) (t bulkTask, err error) {
	err = cl.REST(ctx, "iot", http.MethodGet, bulkPath+"/"+url.PathEscape(id), nil, &t)
	return t, err
}

// eachBulkTask gives the ids of tasks of a status, of all if it is "", the oldest first.
func eachBulkTask(ctx context.Context, cl *client.Client, status string, use func(id string) error) error {
	q := url.Values{}
	if status != "" {
		q.Set("status", status)
	}
	for {
		var page struct {
			TaskIds   []string
			NextToken string
		}
		if err := cl.REST(ctx, "iot", http.MethodGet, bulkPath+"?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		for _, id := range page.TaskIds {
			if err := use(id); err != nil {
				return err
			}
		}
		if page.NextToken == "" {
			return nil
		}
		q.Set("nextToken", page.NextToken)
	}
}

// someTask is the task that a verb means.
type someTask struct {
	place
	Task string `arg:"" optional:"" help:"Id of the task (default: the one that runs)."`
}

func (c *someTask) find(ctx context.Context) (*client.Client, bulkTask, error) {
	cl, err := c.client()
	if err != nil {
		return nil, bulkTask{}, err
	}
	for _, status := range []string{"InProgress", "Cancelling"} {
		if c.Task != "" {
			break
		}
		if err := eachBulkTask(ctx, cl, status, func(id string) error { c.Task = id; return nil }); err != nil {
			return nil, bulkTask{}, err
		}
	}
	if c.Task == "" {
		return nil, bulkTask{}, errors.New("no task runs: name one of those that `imprint bulk list` shows")
	}
	t, err := describeBulk(ctx, cl, c.Task)
	return cl, t, err
}

type bulkStartCmd struct {
	place
	Template string `arg:"" type:"existingfile" help:"File with the body of a template."`
	Input    string `arg:"" name:"file-or-object" help:"File of parameters, a line of JSON for each device, which is put into a bucket; or what is in one, s3://BUCKET/KEY."`
	Role     string `help:"ARN of the role that registers (default: a role imprint-bulk, made when it is missing, that may read the input and register things)." placeholder:"ARN"`
	Watch    bool   `help:"Show how far it is until it has ended. Without it the id of the task is printed and that is all." default:"true" negatable:""`
}

// A bulkInput is where the input is.
type bulkInput struct {
	bucket, key string
	lines       int64 // 0: not known
	ours        bool  // put there by this command
}

func (c *bulkStartCmd) Run(ctx context.Context) error {
	body, err := os.ReadFile(c.Template)
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	in, err := c.input(ctx, cl)
	if err != nil {
		return err
	}
	if c.Role == "" {
		if c.Role, err = bulkRole(ctx, cl, in.bucket); err != nil {
			return fmt.Errorf("making a role (or name one with --role): %w", err)
		}
	}
	var task bulkTask
	if err := cl.REST(ctx, "iot", http.MethodPost, bulkPath, map[string]string{"templateBody": string(body), "inputFileBucket": in.bucket, "inputFileKey": in.key, "roleArn": c.Role}, &task); err != nil {
		return errors.Join(err, in.remove(ctx, cl))
	}
	if !c.Watch {
		fmt.Println(task.TaskID)
		return nil
	}
	fmt.Fprintf(os.Stderr, "task %s: the lines of %s\n", task.TaskID, c.Input)
	task.Status = "InProgress"
	if task, err = followBulk(ctx, cl, task, in.lines); err != nil {
		return err
	}
	return errors.Join(in.remove(ctx, cl), reportBulk(ctx, cl, task))
}

// input finds the object, or puts a file into a bucket of the user's.
func (c *bulkStartCmd) input(ctx context.Context, cl *client.Client) (in bulkInput, err error) {
	if path, ok := strings.CutPrefix(c.Input, "s3://"); ok {
		if in.bucket, in.key, ok = strings.Cut(path, "/"); !ok || in.bucket == "" || in.key == "" {
			return in, fmt.Errorf("%s names no object: s3://BUCKET/KEY does", c.Input)
		}
		return in, nil
	}
	file, err := os.Open(c.Input)
	if err != nil {
		return in, err
	}
	defer file.Close()
	lines, size, err := countLines(file)
	if err != nil {
		return in, fmt.Errorf("reading %s: %w", c.Input, err)
	}
	if lines == 0 {
		return in, fmt.Errorf("%s has no lines", c.Input)
	}
	who, err := callerAccount(ctx, cl)
	if err != nil {
		return in, err
	}
	in = bulkInput{bucket: "imprint-bulk-" + who + "-" + cl.Region(), key: time.Now().UTC().Format("20060102T150405.000Z") + "-" + objectName(filepath.Base(c.Input)), lines: lines, ours: true}
	if err := cl.REST(ctx, "s3", http.MethodPut, "/"+in.bucket, nil, nil); err != nil && client.Code(err) != "BucketAlreadyOwnedByYou" {
		return in, fmt.Errorf("making the bucket %s for %s (or put it into one of yours, and name it as s3://BUCKET/KEY): %w", in.bucket, c.Input, err)
	}
	bar := newProgress(size, "MiB uploaded")
	defer bar.end()
	if err := cl.PutObject(ctx, in.bucket, in.key, &barReader{Reader: file, bar: bar}, size); err != nil {
		return in, fmt.Errorf("uploading %s: %w", c.Input, err)
	}
	return in, nil
}

// remove deletes what this command has put there, when it is not needed any more.
func (in bulkInput) remove(ctx context.Context, cl *client.Client) error {
	if !in.ours {
		return nil
	}
	if err := cl.REST(ctx, "s3", http.MethodDelete, "/"+in.bucket+"/"+in.key, nil, nil); err != nil {
		return fmt.Errorf("removing s3://%s/%s, which is not needed any more: %w", in.bucket, in.key, err)
	}
	return nil
}

// objectName makes the end of a key of any text: what the service takes (provisioning spec 8) and needs no escapes.
func objectName(text string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-", r) {
			return r
		}
		return '_'
	}, text)
	return name[:min(len(name), 100)]
}

// bulkRole returns the role that registers if none is named. It may do what AWS's policy for bulk registration has, and read a bucket.
func bulkRole(ctx context.Context, cl *client.Client, bucket string) (string, error) {
	const name = "imprint-bulk"
	arn, err := serviceRole(ctx, cl, name, "iot.amazonaws.com")
	if err != nil {
		return "", err
	}
	if err := cl.Query(ctx, "iam", iamVersion, "AttachRolePolicy", map[string]string{"RoleName": name, "PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSIoTThingsRegistration"}, nil); err != nil {
		return "", err
	}
	document := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + bucket + `/*"}}`
	return arn, cl.Query(ctx, "iam", iamVersion, "PutRolePolicy", map[string]string{"RoleName": name, "PolicyName": "read-" + bucket, "PolicyDocument": document}, nil)
}

type bulkWatchCmd struct{ someTask }

func (c *bulkWatchCmd) Run(ctx context.Context) error {
	cl, task, err := c.find(ctx)
	if err != nil {
		return err
	}
	if task, err = followBulk(ctx, cl, task, 0); err != nil {
		return err
	}
	return reportBulk(ctx, cl, task)
}

const bulkEvery = 500 * time.Millisecond

// followBulk shows how far a task is until it has ended: by its lines, or if their number is not known, 0, by what the server says of the file.
func followBulk(ctx context.Context, cl *client.Client, task bulkTask, lines int64) (bulkTask, error) {
	done := func() int64 {
		if lines > 0 {
			return task.lines()
		}
		return task.PercentageProgress
	}
	bar := newProgress(cmp.Or(lines, 100), "lines").timed(done(), task.lines()).plainly()
	defer bar.end()
	tick := time.NewTicker(bulkEvery)
	defer tick.Stop()
	for task.active() {
		bar.show(done(), task.lines())
		select {
		case <-tick.C:
		case <-ctx.Done():
			bar.end()
			return task, fmt.Errorf("the task goes on without this command: imprint bulk watch %s shows how far it is, imprint bulk stop %[1]s ends it", task.TaskID)
		}
		next, err := describeBulk(ctx, cl, task.TaskID)
		if err != nil && ctx.Err() == nil {
			return task, fmt.Errorf("asking for the task %s, which goes on: %w", task.TaskID, err)
		}
		if err == nil {
			task = next
		}
	}
	bar.show(done(), task.lines())
	return task, nil
}

// reportBulk says what became of a task that has ended, and which lines were not registered.
func reportBulk(ctx context.Context, cl *client.Client, t bulkTask) error {
	took := time.Duration((t.LastModifiedDate - t.CreationDate) * float64(time.Second))
	fmt.Printf("%s: %d lines registered, %d not, in %v (%.0f/s)\n", t.Status, t.SuccessCount, t.FailureCount, took.Round(100*time.Millisecond), float64(t.lines())/max(took.Seconds(), 0.001))
	if t.FailureCount > 0 {
		if err := printBulkErrors(ctx, cl, t.TaskID, mostShown); err != nil {
			return err
		}
		if t.FailureCount > mostShown {
			fmt.Printf("… and %d more: imprint bulk reports %s\n", t.FailureCount-mostShown, t.TaskID)
		}
	}
	switch {
	case t.Status != "Completed":
		return fmt.Errorf("the task %s has ended as %s: %s", t.TaskID, t.Status, cmp.Or(t.Message, "somebody stopped it"))
	case t.FailureCount > 0:
		return saidAlready(bulkLinesFailed)
	}
	return nil
}

// bulkLinesFailed is the exit code of a task that is done but for lines that could not be registered.
const bulkLinesFailed = 2

type bulkStopCmd struct{ someTask }

func (c *bulkStopCmd) Run(ctx context.Context) error {
	cl, task, err := c.find(ctx)
	if err != nil {
		return err
	}
	if !task.active() {
		return fmt.Errorf("the task %s has ended already, as %s", task.TaskID, task.Status)
	}
	if err := cl.REST(ctx, "iot", http.MethodPut, bulkPath+"/"+url.PathEscape(task.TaskID)+"/cancel", nil, nil); err != nil {
		return err
	}
	if task, err = followBulk(ctx, cl, task, 0); err != nil {
		return err
	}
	fmt.Printf("%s: %d lines registered, %d not\n", task.Status, task.SuccessCount, task.FailureCount)
	return nil
}

type bulkListCmd struct {
	place
	asJSON
	Status string `help:"Only those of a status: ${enum}." enum:",InProgress,Completed,Failed,Cancelled,Cancelling" default:""`
}

func (c *bulkListCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	list := []bulkTask{}
	err = eachBulkTask(ctx, cl, c.Status, func(id string) error {
		t, err := describeBulk(ctx, cl, id)
		if client.Code(err) == "ResourceNotFoundException" { // forgotten meanwhile
			return nil
		}
		list = append(list, t)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := c.print(list); done {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TASK\tSTATUS\tDONE\tREGISTERED\tNOT\tBEGUN\tINPUT")
	for _, t := range list {
		fmt.Fprintf(w, "%s\t%s\t%d %%\t%d\t%d\t%s\ts3://%s/%s\n", t.TaskID, t.Status, t.PercentageProgress, t.SuccessCount, t.FailureCount, clock(t.CreationDate), t.Bucket, t.Key)
	}
	return w.Flush()
}
