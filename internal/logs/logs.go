// Package logs keeps the logs that people read, in groups as CloudWatch Logs has them: what rules write there (the cloudwatchLogs action).
//
// Begin with Service.Append. A log is bounded by its group's own days, and by the age and size that the server allows all logs
// (store.BoundedLogs). Entries are read from the store, by way of Entries.
package logs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// Bounds of logs. Those of entries are PutLogEvents's.
const (
	MaxMessage = 1 << 20 // bytes
	maxGroups  = 1000    // of an account and region
	maxPast    = 14 * 24 * time.Hour
	maxFuture  = 2 * time.Hour
)

// Config is what a Service needs.
type Config struct {
	Store *store.DB
	Clock fleet.Clock
}

// A Service keeps logs. It is safe for concurrent use.
type Service struct{ Config }

// New returns a Service.
func New(cfg Config) *Service { return &Service{cfg} }

// ARN names a stream of a group, as IAM's policies name it: those for log-group:NAME:* are for each stream.
func ARN(s fleet.Scope, group, stream string) string {
	return s.ARN("logs", "log-group:"+group+":log-stream:"+stream)
}

// GroupARN names a group.
func GroupARN(s fleet.Scope, group string) string { return s.ARN("logs", "log-group:"+group) }

// CreateGroup makes a group. It fails with KindInvalid for a name that cannot be, KindExists, and KindLimit.
func (s *Service) CreateGroup(ctx context.Context, scope fleet.Scope, name string) error {
	if !fleet.ValidLogGroupName(name) {
		return fleet.Invalid("log group", name, "has no valid name: 1 to 512 letters, digits and . - _ / # are allowed")
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.CountLogGroups(scope)
		if err != nil {
			return err
		}
		if n >= maxGroups {
			return fleet.OverLimit("log group", name, "would be one too many: %d are allowed", maxGroups)
		}
		added, err := tx.CreateLogGroup(scope, fleet.LogGroup{ID: fleet.NewTimeUUID(tx.Now()), Name: name, Created: tx.Now()})
		if err == nil && !added {
			err = fleet.Exists("log group", name, "exists already")
		}
		return err
	})
}

// Days are those for which a group may keep its entries, as in CloudWatch Logs.
var Days = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// Append stores entries of a stream; it returns when they are durable. It fails with KindNotFound if there is no such group, and with
// KindInvalid if some of them cannot be stored: their number is in the text, the others are stored. Entries need Time and Message.
func (s *Service) Append(ctx context.Context, scope fleet.Scope, group, stream string, entries []fleet.LogEntry) error {
	good, bad := s.prepare(entries)
	err := s.Store.Tx(ctx, func(tx *store.Tx) error {
		g, err := tx.LogGroup(scope, group)
		if err != nil || len(good) == 0 {
			return err
		}
		return tx.AppendLog(scope, g.ID, stream, good)
	})
	if err != nil {
		return err
	}
	return bad
}

// prepare completes the entries that can be stored; bad tells of the others.
func (s *Service) prepare(entries []fleet.LogEntry) (good []fleet.LogEntry, bad error) {
	now := s.Clock.Now()
	var random [4]byte
	rand.Read(random[:])
	refused, why := 0, ""
	for i, e := range entries {
		if w := unfit(e, now); w != "" {
			refused, why = refused+1, w
			continue
		}
		e.Ingested = now
		e.ID = fmt.Sprintf("%016d%06d%010d", now.UnixMicro(), i, binary.BigEndian.Uint32(random[:]))
		good = append(good, e)
	}
	if refused > 0 {
		bad = fleet.Invalid("log entries", "", "%d of %d could not be stored: one %s", refused, len(entries), why)
	}
	return good, bad
}

// unfit says why an entry cannot be stored, "" if it can.
func unfit(e fleet.LogEntry, now time.Time) string {
	switch {
	case len(e.Message) > MaxMessage:
		return fmt.Sprintf("is longer than %d bytes", MaxMessage)
	case !utf8.ValidString(e.Message) || strings.ContainsRune(e.Message, 0):
		return "is no text: encode(*, 'base64') makes text of bytes"
	case now.Sub(e.Time) > maxPast:
		return "is older than 14 days"
	case e.Time.Sub(now) > maxFuture:
		return "is more than two hours in the future"
	}
	return ""
}

// Entries reads a group. It fails with KindNotFound.
func (s *Service) Entries(ctx context.Context, scope fleet.Scope, group string, q store.LogQuery, p fleet.Page) (list []fleet.LogEntry, next string, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := tx.LogGroup(scope, group)
		if err == nil {
			list, next, err = tx.LogEntries(scope, g.ID, q, p)
		}
		return err
	})
	return list, next, err
}
