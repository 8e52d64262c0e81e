package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/logs"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Logs, as rules and the service itself write them. The rules are in package logs.

type ListLogsInput struct {
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

// ListLogsOutput is a page of the account's groups, by name.
type ListLogsOutput struct {
	Logs      []LogGroup `wire:"logs,required"`
	NextToken *string    `wire:"nextToken"`
}

type LogGroup struct {
	GroupName    string    `wire:"groupName,required"`
	CreationDate time.Time `wire:"creationDate,required"`
	Days         *int      `wire:"days"` // that entries are kept; absent: as long as the server keeps logs
}

// ReadLogInput asks for the entries of a group from one time on until before another: the oldest first, or the newest.
type ReadLogInput struct {
	GroupName  string     `wire:"groupName,required,querystring" shape:"LogGroupName"`
	Since      *time.Time `wire:"since,querystring"`
	Until      *time.Time `wire:"until,querystring"`
	Newest     *bool      `wire:"newestFirst,querystring"`
	NextToken  *string    `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int       `wire:"maxResults,querystring" shape:"MaxLines"`
}

type ReadLogOutput struct {
	Entries   []LogEntry `wire:"entries,required"`
	NextToken *string    `wire:"nextToken"`
}

// LogEntry is a line. Its id never changes and sorts by when it was stored.
type LogEntry struct {
	EntryId    string    `wire:"entryId,required"`
	StreamName string    `wire:"streamName,required"`
	Date       time.Time `wire:"date,required"`
	Message    string    `wire:"message,required"`
}

// KeepLogInput says for how many days a group keeps its entries; without it they are kept as long as the server keeps logs.
type KeepLogInput struct {
	GroupName string `wire:"groupName,required,querystring" shape:"LogGroupName"`
	Days      *int   `wire:"days,querystring"`
}

type KeepLogOutput struct{}

type DeleteLogInput struct {
	GroupName string `wire:"groupName,required,querystring" shape:"LogGroupName"`
}

type DeleteLogOutput struct{}

func (a *api) listLogs(ctx context.Context, in *ListLogsInput) (*ListLogsOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListLogs")
	if err != nil {
		return nil, err
	}
	out := &ListLogsOutput{Logs: []LogGroup{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		groups, next, err := tx.LogGroups(scopeOf(ctx), "", l.Page)
		for _, g := range groups {
			out.Logs = append(out.Logs, LogGroup{g.Name, g.Created, optionalDays(g)})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}

func optionalDays(g fleet.LogGroup) *int {
	if g.Days == 0 {
		return nil
	}
	return &g.Days
}

func (a *api) readLog(ctx context.Context, in *ReadLogInput) (*ReadLogOutput, error) {
	q := store.LogQuery{From: wire.Value(in.Since), Until: wire.Value(in.Until), Newest: wire.Value(in.Newest)}
	l, err := list(ctx, in.NextToken, in.MaxResults, "ReadLog", in.GroupName, q.From.String(), q.Until.String())
	if err != nil {
		return nil, err
	}
	entries, next, err := a.Logs.Entries(ctx, scopeOf(ctx), in.GroupName, q, l.Page)
	if err != nil {
		return nil, err
	}
	out := &ReadLogOutput{Entries: []LogEntry{}, NextToken: l.Token(next)}
	for _, e := range entries {
		out.Entries = append(out.Entries, LogEntry{e.ID, e.Stream, e.Time, e.Message})
	}
	return out, nil
}

func (a *api) keepLog(ctx context.Context, in *KeepLogInput) (*KeepLogOutput, error) {
	return &KeepLogOutput{}, a.Logs.Keep(ctx, scopeOf(ctx), in.GroupName, wire.Value(in.Days))
}

func (a *api) deleteLog(ctx context.Context, in *DeleteLogInput) (*DeleteLogOutput, error) {
	return &DeleteLogOutput{}, a.Store.Tx(ctx, func(tx *store.Tx) error { return tx.DropLogGroup(scopeOf(ctx), in.GroupName) })
}

func logGroup(s fleet.Scope, name string) []string { return []string{logs.GroupARN(s, name)} }
