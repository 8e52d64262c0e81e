package cognitoidp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
	"github.com/imprint-iot/imprint/internal/wire"
)

func (a *api) importRows() []wire.Row {
	return []wire.Row{
		wire.Do("GetCSVHeader", a.getCSVHeader).On(func(s fleet.Scope, in *GetCSVHeaderInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("CreateUserImportJob", a.createUserImportJob).On(func(s fleet.Scope, in *CreateUserImportJobInput) []string { return pool(s, in.UserPoolId) }).
			Refuse("PasswordHashingAlgorithm"),
		wire.Do("DescribeUserImportJob", a.describeUserImportJob).On(func(s fleet.Scope, in *DescribeUserImportJobInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("ListUserImportJobs", a.listUserImportJobs).On(func(s fleet.Scope, in *ListUserImportJobsInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("StartUserImportJob", a.startUserImportJob).On(func(s fleet.Scope, in *StartUserImportJobInput) []string { return pool(s, in.UserPoolId) }),
		wire.Do("StopUserImportJob", a.stopUserImportJob).On(func(s fleet.Scope, in *StopUserImportJobInput) []string { return pool(s, in.UserPoolId) }),
	}
}

func (a *api) getCSVHeader(ctx context.Context, in *GetCSVHeaderInput) (*GetCSVHeaderOutput, error) {
	columns, err := a.pools.ImportColumns(ctx, scope(ctx), in.UserPoolId)
	return &GetCSVHeaderOutput{CSVHeader: columns, UserPoolId: new(in.UserPoolId)}, err
}

func (a *api) createUserImportJob(ctx context.Context, in *CreateUserImportJobInput) (*CreateUserImportJobOutput, error) {
	job, err := a.pools.CreateImport(ctx, scope(ctx), in.UserPoolId, in.JobName, in.CloudWatchLogsRoleArn)
	return &CreateUserImportJobOutput{UserImportJob: importOut(job)}, err
}

func (a *api) describeUserImportJob(ctx context.Context, in *DescribeUserImportJobInput) (*DescribeUserImportJobOutput, error) {
	job, err := a.pools.Import(ctx, scope(ctx), in.UserPoolId, in.JobId)
	return &DescribeUserImportJobOutput{UserImportJob: importOut(job)}, err
}

func (a *api) listUserImportJobs(ctx context.Context, in *ListUserImportJobsInput) (*ListUserImportJobsOutput, error) {
	jobs, next, err := a.pools.Imports(ctx, scope(ctx), in.UserPoolId, wire.Value(in.PaginationToken), in.MaxResults)
	out := &ListUserImportJobsOutput{UserImportJobs: []UserImportJobType{}, PaginationToken: text(next)}
	for _, job := range jobs {
		out.UserImportJobs = append(out.UserImportJobs, *importOut(job))
	}
	return out, err
}

func (a *api) startUserImportJob(ctx context.Context, in *StartUserImportJobInput) (*StartUserImportJobOutput, error) {
	job, err := a.pools.StartImport(ctx, scope(ctx), in.UserPoolId, in.JobId)
	return &StartUserImportJobOutput{UserImportJob: importOut(job)}, err
}

func (a *api) stopUserImportJob(ctx context.Context, in *StopUserImportJobInput) (*StopUserImportJobOutput, error) {
	job, err := a.pools.StopImport(ctx, scope(ctx), in.UserPoolId, in.JobId)
	return &StopUserImportJobOutput{UserImportJob: importOut(job)}, err
}

func importOut(j userpool.ImportJob) *UserImportJobType {
	out := &UserImportJobType{JobId: new(j.ID), JobName: new(j.Name), UserPoolId: new(j.PoolID), CloudWatchLogsRoleArn: new(j.Role), PreSignedUrl: new(j.URL),
		Status: new(j.Status), CompletionMessage: text(j.Message), CreationDate: new(j.Created), ImportedUsers: new(j.Imported), SkippedUsers: new(j.Skipped), FailedUsers: new(j.Failed)}
	if !j.Started.IsZero() {
		out.StartDate = new(j.Started)
	}
	if !j.Completed.IsZero() {
		out.CompletionDate = new(j.Completed)
	}
	return out
}

// Uploads takes in the files of user import jobs, at the addresses in their descriptions. It answers as S3 does, whose addresses they are
// in AWS.
func Uploads(pools *userpool.Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := upload(pools, w, r); err != nil {
			_, _ = io.CopyN(io.Discard, r.Body, readAnyway)
			refuseUpload(w, err)
		}
	})
}

// IsUpload reports whether a request is one for Uploads.
func IsUpload(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, userpool.ImportPath) }

// Times that an upload has for the next part of a file, and for all of it.
const (
	partTime = 30 * time.Second
	fileTime = 30 * time.Minute
)

// readAnyway is how many bytes of a file that is refused are read: a client that is still sending may not look at the answer.
const readAnyway = 8 << 20

func upload(pools *userpool.Service, w http.ResponseWriter, r *http.Request) error {
	pool, job, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, userpool.ImportPath), "/")
	refused := func(kind fleet.Kind, code, msg string) error { return &fleet.Error{Kind: kind, Code: code, Msg: msg} }
	switch {
	case r.Method != http.MethodPut:
		return refused(fleet.KindInvalid, "MethodNotAllowed", "A file of users is uploaded with PUT.")
	case r.Header.Get(userpool.ImportHeader) != userpool.ImportHeaderValue:
		return refused(fleet.KindDenied, "SignatureDoesNotMatch", "The address is signed for the header "+userpool.ImportHeader+":"+userpool.ImportHeaderValue+". Send it: curl -T FILE -H \""+
			userpool.ImportHeader+":"+userpool.ImportHeaderValue+"\" URL")
	}
	file, err := pools.Upload(r.Context(), pool, job, r.URL.Query().Get("X-Amz-Signature"))
	if err != nil {
		return err
	}
	if r.ContentLength < 0 {
		return refused(fleet.KindInvalid, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	deadlines, begin := http.NewResponseController(w), time.Now()
	return file.Receive(r.Context(), r.Body, r.ContentLength, func() {
		until := time.Now().Add(partTime)
		if last := begin.Add(fileTime); until.After(last) {
			until = last
		}
		_ = deadlines.SetReadDeadline(until) // one that has no deadlines needs none
		_ = deadlines.SetWriteDeadline(until.Add(partTime))
	})
}

// refuseUpload answers with an error in S3's form.
func refuseUpload(w http.ResponseWriter, err error) {
	answer := wire.S3Error{Code: wire.S3Internal, Message: "We encountered an internal error. Please try again."}
	h := w.Header()
	if e := (*fleet.Error)(nil); errors.As(err, &e) && e.Code != "" {
		answer.Code, answer.Message = e.Code, e.Msg
	}
	switch answer.Code {
	case "MethodNotAllowed":
		h.Set("Allow", http.MethodPut)
	case "SlowDown":
		h.Set("Retry-After", "60")
	}
	h.Set("Content-Type", "application/xml")
	w.WriteHeader(answer.Status())
	w.Write(answer.Document())
}
