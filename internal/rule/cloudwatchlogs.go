package rule

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rulesql"
)

// cloudwatchLogs writes the result to a log, as one entry or, in batches, as those that it holds.
type cloudwatchLogs struct {
	s     *Service
	role  string
	group *rulesql.Text
	batch bool
}

func (cloudwatchLogs) name() string { return "CloudwatchLogsAction" }

func (s *Service) prepareCloudwatchLogs(a *fleet.CloudwatchLogsAction, v rulesql.Version) (action, error) {
	group, err := prepareText("logGroupName", a.Group, v)
	return cloudwatchLogs{s, a.Role, group, a.Batch}, err
}

func (r cloudwatchLogs) do(ctx context.Context, j *job) (string, error) {
	group, err := j.must("logGroupName", r.group)
	if err != nil {
		return cmp.Or(group, r.group.String()), err
	}
	entries := []fleet.LogEntry{{Time: r.s.Clock.Now(), Message: string(j.result.Payload)}}
	if r.batch {
		if entries, err = batchOf(j.result.Payload); err != nil {
			return group, err
		}
	}
	return group, r.s.Logs.Write(ctx, j.scope, group, j.rule.Name, entries, func(resource string, actions ...string) error {
		return r.s.permit(ctx, j, r.role, resource, actions...)
	})
}

// batchOf are the entries of a payload like [{"timestamp": 1673520691093, "message": "text"}, …].
func batchOf(payload []byte) (entries []fleet.LogEntry, err error) {
	var list []struct {
		Timestamp *int64
		Message   *string
	}
	bad := errors.New(`the payload is not what batchMode wants: [{"timestamp": MILLISECONDS, "message": "TEXT"}, …]`)
	if json.Unmarshal(payload, &list) != nil || len(list) == 0 {
		return nil, bad
	}
	for _, e := range list {
		if e.Timestamp == nil || e.Message == nil {
			return nil, bad
		}
		entries = append(entries, fleet.LogEntry{Time: time.UnixMilli(*e.Timestamp), Message: *e.Message})
	}
	return entries, nil
}
