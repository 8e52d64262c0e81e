// Package logs keeps the logs that people read, in groups as CloudWatch Logs has them: what rules write there (the cloudwatchLogs action), and
// what AWS IoT tells of devices and rules where an account has asked for it (SetV2LoggingOptions).
//
// Begin with Service.Append; iot.go is AWS IoT's own log. A log is bounded by its group's own days, and by the age and size that the server allows all logs
// (store.BoundedLogs). Entries are read from the store, by way of Entries.
package logs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/batch"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/policy"
	"github.com/imprint-iot/imprint/internal/store"
)

// Bounds of logs. Those of entries are PutLogEvents's.
const (
	MaxMessage = 1 << 20 // bytes
	maxGroups  = 1000    // of an account and region
	maxPast    = 14 * 24 * time.Hour
	maxFuture  = 2 * time.Hour
)

// Config is what a Service needs. Log may be nil.
type Config struct {
	Store       *store.DB
	Permissions Permissions
	Clock       fleet.Clock
	Log         *slog.Logger
}

// Permissions is what logs need to know of IAM. Denials are *fleet.Error of KindDenied.
type Permissions interface {
	// PassRole checks that caller may hand the role to a service.
	PassRole(ctx context.Context, caller *fleet.Caller, roleARN, service string) error
	// AssumeForService checks that the role trusts service, which acts for the resource source, and returns the service in that role.
	AssumeForService(tx *store.Tx, s fleet.Scope, roleARN, service string, source ...string) (*fleet.Caller, error)
	// AuthorizeTx checks that caller may do action on resource.
	AuthorizeTx(tx *store.Tx, caller *fleet.Caller, action, resource string, extra policy.Context) error
}

// A Service keeps logs. It is safe for concurrent use; of a nil one, only Wants and Tell may be called.
type Service struct {
	Config
	ctx     context.Context // ends with Close
	stop    context.CancelFunc
	queue   *batch.Queue[told]
	dropped atomic.Int64
	last    atomic.Int64 // the time in the last entry's id, in microseconds

	choices atomic.Pointer[choices] // as of so many changes
	changes atomic.Uint64
}

// New returns a Service. Close ends it.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{Config: cfg}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.queue = batch.New(batch.Config[told]{Save: s.write, What: "what devices do", Log: cfg.Log})
	cfg.Store.Listen(s.changed)
	return s
}

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

// days are those for which a group may keep its entries, as in CloudWatch Logs.
var days = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// Keep says for how many days a group keeps its entries; 0: as long as the server keeps logs, which is the most in any case. It fails with
// KindInvalid for a number that CloudWatch Logs does not have, and KindNotFound.
func (s *Service) Keep(ctx context.Context, scope fleet.Scope, group string, n int) error {
	if n != 0 && !slices.Contains(days, n) {
		return fleet.Invalid("log group", group, "cannot keep entries for %d days: %v are possible", n, days)
	}
	return s.Store.Tx(ctx, func(tx *store.Tx) error { return tx.KeepLog(scope, group, n) })
}

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

// Write appends entries for somebody else, who permit asks: whether they may do actions of IAM on a resource. The group is made if there is
// none. Errors are those of permit, Append and CreateGroup.
func (s *Service) Write(ctx context.Context, scope fleet.Scope, group, stream string, entries []fleet.LogEntry, permit func(resource string, actions ...string) error) error {
	if err := permit(ARN(scope, group, stream), "logs:CreateLogStream", "logs:PutLogEvents"); err != nil {
		return err
	}
	err := s.Append(ctx, scope, group, stream, entries)
	if fleet.KindOf(err) != fleet.KindNotFound {
		return err
	}
	if err := permit(ARN(scope, group, ""), "logs:CreateLogGroup"); err != nil {
		return err
	}
	if err := s.CreateGroup(ctx, scope, group); err != nil && fleet.KindOf(err) != fleet.KindExists {
		return err
	}
	return s.Append(ctx, scope, group, stream, entries)
}

// prepare completes the entries that can be stored; bad tells of the others.
func (s *Service) prepare(entries []fleet.LogEntry) (good []fleet.LogEntry, bad error) {
	now := s.Clock.Now()
	refused, why := 0, ""
	for _, e := range entries {
		if w := unfit(e, now); w != "" {
			refused, why = refused+1, w
			continue
		}
		e.Ingested = now
		e.ID = s.nextID(now)
		good = append(good, e)
	}
	if refused > 0 {
		bad = fleet.Invalid("log entries", "", "%d of %d could not be stored: one %s", refused, len(entries), why)
	}
	return good, bad
}

// nextID is an id that sorts behind those that were given before, also of the same moment. Other nodes may give some at the same time.
func (s *Service) nextID(now time.Time) string {
	for {
		last := s.last.Load()
		next := max(last+1, now.UnixMicro())
		if s.last.CompareAndSwap(last, next) {
			var random [4]byte
			rand.Read(random[:])
			return fmt.Sprintf("%016d%010d", next, binary.BigEndian.Uint32(random[:]))
		}
	}
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
