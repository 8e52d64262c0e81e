package iot

import (
	"context"
	"errors"

	"github.com/imprint-iot/imprint/internal/bulk"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A BulkRegistrar works off tasks that register things from a file; *bulk.Service is the one. It checks iam:PassRole for the role.
type BulkRegistrar interface {
	Start(ctx context.Context, caller *fleet.Caller, n bulk.NewTask) (id string, err error)
	Stop(ctx context.Context, s fleet.Scope, id string) error
	Reports(ctx context.Context, s fleet.Scope, id, kind string) (links []string, err error)
}

var _ BulkRegistrar = (*bulk.Service)(nil)

func (a *API) bulkRows() []wire.Row {
	return []wire.Row{
		wire.Do("StartThingRegistrationTask", a.startThingRegistrationTask),
		wire.Do("DescribeThingRegistrationTask", a.describeThingRegistrationTask),
		wire.Do("ListThingRegistrationTasks", a.listThingRegistrationTasks),
		wire.Do("ListThingRegistrationTaskReports", a.listThingRegistrationTaskReports),
		wire.Do("StopThingRegistrationTask", a.stopThingRegistrationTask),
	}
}

func (a *API) startThingRegistrationTask(ctx context.Context, in *StartThingRegistrationTaskInput) (*StartThingRegistrationTaskOutput, error) {
	id, err := a.Bulk.Start(ctx, fleet.CallerFrom(ctx), bulk.NewTask{Body: in.TemplateBody, Bucket: in.InputFileBucket, Key: in.InputFileKey, Role: in.RoleArn})
	if errors.Is(err, &fleet.Error{Kind: fleet.KindDenied}) { // of the errors that the model declares for it
		var denied *fleet.Error
		errors.As(err, &denied)
		return nil, denied.WithCode("UnauthorizedException")
	}
	if err != nil {
		return nil, err
	}
	return &StartThingRegistrationTaskOutput{TaskId: &id}, nil
}

func (a *API) describeThingRegistrationTask(ctx context.Context, in *DescribeThingRegistrationTaskInput) (*DescribeThingRegistrationTaskOutput, error) {
	var t store.RegistrationTask
	err := a.read(ctx, func(tx *store.Tx, s fleet.Scope) (err error) {
		t, err = tx.RegistrationTask(s, in.TaskId)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &DescribeThingRegistrationTaskOutput{TaskId: &t.ID, TemplateBody: &t.Body, InputFileBucket: &t.Bucket, InputFileKey: &t.Key, RoleArn: &t.Role,
		Status: new(string(t.Status)), Message: wire.Optional(t.Message), CreationDate: &t.Created, LastModifiedDate: &t.Modified,
		SuccessCount: new(int(t.Good)), FailureCount: new(int(t.Bad)), PercentageProgress: new(percentage(t))}, nil
}

// percentage is how far a task is, by the bytes of its input.
func percentage(t store.RegistrationTask) int {
	switch {
	case t.Status == store.RegistrationDone:
		return 100
	case t.Size == 0:
		return 0
	}
	return int(t.Position * 100 / t.Size)
}

func (a *API) listThingRegistrationTasks(ctx context.Context, in *ListThingRegistrationTasksInput) (*ListThingRegistrationTasksOutput, error) {
	status := wire.Value(in.Status)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListThingRegistrationTasks", status)
	if err != nil {
		return nil, err
	}
	out := ListThingRegistrationTasksOutput{TaskIds: []string{}}
	err = a.read(ctx, func(tx *store.Tx, s fleet.Scope) error {
		ids, next, err := tx.RegistrationTasks(s, store.RegistrationStatus(status), l.Page)
		out.TaskIds, out.NextToken = append(out.TaskIds[:0], ids...), l.Token(next)
		return err
	})
	return &out, err
}

// listThingRegistrationTaskReports has one link at most, so that there is no second page.
func (a *API) listThingRegistrationTaskReports(ctx context.Context, in *ListThingRegistrationTaskReportsInput) (*ListThingRegistrationTaskReportsOutput, error) {
	if _, err := list(ctx, in.NextToken, in.MaxResults, "ListThingRegistrationTaskReports", in.TaskId, in.ReportType); err != nil {
		return nil, err
	}
	links, err := a.Bulk.Reports(ctx, scope(ctx), in.TaskId, in.ReportType)
	if err != nil {
		return nil, err
	}
	return &ListThingRegistrationTaskReportsOutput{ReportType: &in.ReportType, ResourceLinks: append([]string{}, links...)}, nil
}

func (a *API) stopThingRegistrationTask(ctx context.Context, in *StopThingRegistrationTaskInput) (*StopThingRegistrationTaskOutput, error) {
	return nil, a.Bulk.Stop(ctx, scope(ctx), in.TaskId)
}
