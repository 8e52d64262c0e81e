package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
)

type logCmd struct {
	List   logListCmd   `cmd:"" help:"List the logs that there are."`
	Show   logShowCmd   `cmd:"" help:"Print entries of a log, the oldest first."`
	Keep   logKeepCmd   `cmd:"" help:"Say for how long a log keeps its entries."`
	Delete logDeleteCmd `cmd:"" help:"Delete a log with all its entries. Who writes to it again makes it anew."`
}

// logArg names a log.
type logArg struct {
	Group string `arg:"" help:"Name of the log, for example AWSIotLogsV2."`
}

func (a logArg) uri() string { return "/imprint/log?groupName=" + url.QueryEscape(a.Group) }

type logKeepCmd struct {
	place
	logArg
	Days int `arg:"" help:"Days, as CloudWatch Logs has them (1, 3, 5, 7, 14, 30 …), or 0: as long as the server keeps logs, which is the most in any case."`
}

func (c *logKeepCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	return cl.REST(ctx, "imprint", http.MethodPut, c.uri()+"&days="+strconv.Itoa(c.Days), nil, nil)
}

type logDeleteCmd struct {
	place
	logArg
}

func (c *logDeleteCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	return cl.REST(ctx, "imprint", http.MethodDelete, c.uri(), nil, nil)
}

type logListCmd struct{ place }

func (c *logListCmd) Run(ctx context.Context) error {
	type page struct {
		Logs []struct {
			GroupName    string
			CreationDate float64
			Days         int
		}
		NextToken string
	}
	return printPages(ctx, c.place, "/imprint/logs", 100, func(w io.Writer, p page) string {
		for _, g := range p.Logs {
			kept := "as the server says"
			if g.Days > 0 {
				kept = strconv.Itoa(g.Days) + " days"
			}
			fmt.Fprintf(w, "%s\tsince %s\tkept %s\n", g.GroupName, clockMillis(g.CreationDate), kept)
		}
		return p.NextToken
	})
}

type logShowCmd struct {
	place
	asJSON
	logArg
	Since  span   `help:"How far to look back, for example 10m or 7d." default:"1h" placeholder:"TIME"`
	From   string `help:"Time from which on entries are printed (RFC 3339), in place of --since." placeholder:"TIME"`
	Until  string `help:"Time before which they are." placeholder:"TIME"`
	Follow bool   `short:"f" help:"Go on with what comes, until interrupted."`
}

// logEntry is a line of a log; with --json one is printed on a line.
type logEntry struct {
	ID      string          `json:"entryId"`
	Stream  string          `json:"streamName"`
	Date    float64         `json:"date"`
	Message string          `json:"message"`
	Event   json.RawMessage `json:"event,omitempty"` // the message, if it is JSON
}

// followEvery is how often --follow asks; entries may arrive that late, and out of order.
const (
	followEvery = time.Second
	followBack  = 30 * time.Second
)

func (c *logShowCmd) Run(ctx context.Context) error {
	from, until, err := c.times(time.Now())
	if err != nil {
		return err
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	printed := map[string]time.Time{}
	for {
		newest, err := c.print(ctx, cl, from, until, printed)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if !c.Follow {
			return nil
		}
		if back := newest.Add(-followBack); back.After(from) {
			from = back
		}
		for id, at := range printed {
			if at.Before(from) {
				delete(printed, id)
			}
		}
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// times are those that the flags name.
func (c *logShowCmd) times(now time.Time) (from, until time.Time, err error) {
	from = now.Add(-c.Since.Duration)
	if c.From != "" {
		if from, err = time.Parse(time.RFC3339, c.From); err != nil {
			return from, until, fmt.Errorf("--from: %w", err)
		}
	}
	if c.Until == "" {
		return from, until, nil
	}
	if c.Follow {
		return from, until, errors.New("--follow goes on for ever: leave --until out")
	}
	if until, err = time.Parse(time.RFC3339, c.Until); err != nil {
		err = fmt.Errorf("--until: %w", err)
	}
	return from, until, err
}

// print prints the entries of a time that were not printed yet. newest is the time of the last one.
func (c *logShowCmd) print(ctx context.Context, cl *client.Client, from, until time.Time, printed map[string]time.Time) (newest time.Time, err error) {
	query := url.Values{"groupName": {c.Group}, "since": {from.UTC().Format(time.RFC3339Nano)}}
	if !until.IsZero() {
		query.Set("until", until.UTC().Format(time.RFC3339Nano))
	}
	type page struct {
		Entries   []logEntry
		NextToken string
	}
	err = eachPage(ctx, cl, "/imprint/log?"+query.Encode(), 1000, func(p page) (string, error) {
		for _, e := range p.Entries {
			at := timeOf(e.Date)
			if newest = at; !printed[e.ID].IsZero() {
				continue
			}
			if c.Follow {
				printed[e.ID] = at
			}
			if err := c.write(os.Stdout, e); err != nil {
				return "", err
			}
		}
		return p.NextToken, nil
	})
	return newest, err
}

func (c *logShowCmd) write(w io.Writer, e logEntry) error {
	if !c.JSON {
		_, err := fmt.Fprintf(w, "%s %s %s\n", clockMillis(e.Date), e.Stream, e.Message)
		return err
	}
	if json.Valid([]byte(e.Message)) {
		e.Event = json.RawMessage(e.Message)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}
