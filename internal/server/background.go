package server

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

const (
	sweepEvery = time.Minute
	sweepChunk = 500 // rows of one transaction, so that a registration never waits long behind it
)

// sweep removes what has run out of time, until ctx ends.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	// What a power cut interrupted does not wait for the tick.
	if err := s.provision.Resume(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("containing stolen claims", "error", err)
	}
	if err := s.provision.Retire(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("retiring certificates that have a successor", "error", err)
	}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.clock.Now()
		for what, f := range map[string]func() error{
			"containment":  func() error { return s.provision.Resume(ctx) },
			"provisioning": func() error { return s.provision.Sweep(ctx, now) },
			"tables":       func() error { return s.hooks.Sweep(ctx, now) },
			"functions":    func() error { return s.functions.Sweep(ctx, now) },
			"buckets":      func() error { return s.folder.Sweep(ctx) },
			"bulk":         func() error { return s.bulk.Sweep(ctx, now) },
			"user pools":   func() error { return s.userpools.Sweep(ctx) },
			"traces":       func() error { return s.trimTraces(ctx, now) },
			"logs":         func() error { return s.trimLogs(ctx, now) },
			"expiries":     func() error { return s.countEnding(ctx, now) },
			"searches":     func() error { return s.fileAttributes(ctx) },
		} {
			if err := f(); err != nil && ctx.Err() == nil {
				s.log.Error("sweeping", "what", what, "error", err)
			}
		}
	}
}

const (
	settleEvery = 15 * time.Second
	manyArrived = 500 // handshakes whose remains are worth a collection
)

// settle gives memory back to the system when many have connected and it has become quiet, until ctx ends. A handshake leaves garbage
// and a grown stack behind, and the collector comes for them when as much again has been asked for: perhaps never.
func (s *Server) settle(ctx context.Context) {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	var settled, before int64
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.handshakes.Load()
		if quiet := now-before < manyArrived/10; quiet && now-settled >= manyArrived {
			for range 3 { // a collection halves a stack at most
				debug.FreeOSMemory()
			}
			settled = now
		}
		before = now
	}
}

// A stock is a table that is bounded by age and size: its bytes, and how many rows had to go, for the metrics.
type stock struct {
	table               store.Bounded
	drop                func(tx *store.Tx, before time.Time, limit int) (n int, more bool, err error)
	bytes, old, surplus atomic.Int64
}

// trim drops rows that are too old, and the oldest of those that take too much: down to nine tenths, so that it isn't done each time.
func (s *Server) trim(ctx context.Context, k *stock, oldest time.Time, limit int64) error {
	if err := s.dropFrom(ctx, k, oldest, &k.old); err != nil {
		return err
	}
	var cut time.Time
	if err := s.db.View(ctx, func(tx *store.Tx) error {
		n, err := tx.BytesIn(k.table)
		k.bytes.Store(n)
		if err == nil && n > limit {
			cut, err = tx.CutoffIn(k.table, limit/10*9)
		}
		return err
	}); err != nil || cut.IsZero() {
		return err
	}
	return s.dropFrom(ctx, k, cut, &k.surplus)
}

func (s *Server) dropFrom(ctx context.Context, k *stock, before time.Time, count *atomic.Int64) error {
	return s.inChunks(ctx, count, func(tx *store.Tx) (int, bool, error) { return k.drop(tx, before, sweepChunk) })
}

// inChunks repeats what drops rows until there are no more to drop.
func (s *Server) inChunks(ctx context.Context, count *atomic.Int64, drop func(*store.Tx) (n int, more bool, err error)) error {
	for {
		var n int
		var more bool
		err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
			n, more, err = drop(tx)
			return err
		})
		if err != nil {
			return err
		}
		if count.Add(int64(n)); !more {
			return nil
		}
	}
}

func (s *Server) trimTraces(ctx context.Context, now time.Time) error {
	return s.trim(ctx, &s.traces, now.Add(-time.Duration(s.cfg.TraceKeep)), int64(s.cfg.TraceSize))
}

// trimLogs drops entries that their groups keep no longer, then those that the server keeps no longer.
func (s *Server) trimLogs(ctx context.Context, now time.Time) error {
	if err := s.inChunks(ctx, &s.logged.old, func(tx *store.Tx) (int, bool, error) { return tx.SweepLogs(now, sweepChunk) }); err != nil {
		return err
	}
	return s.trim(ctx, &s.logged, now.Add(-time.Duration(s.cfg.LogKeep)), int64(s.cfg.LogSize))
}

// fileAttributes mends the searches for what an older version has written.
func (s *Server) fileAttributes(ctx context.Context) error {
	return s.inChunks(ctx, new(atomic.Int64), func(tx *store.Tx) (int, bool, error) {
		n, err := tx.FileAttributes(sweepChunk)
		return n, n == sweepChunk, err
	})
}

// renew replaces the server's certificate in time, without dropping a connection.
func (s *Server) renew(ctx context.Context) {
	const atLeast, atMost = time.Minute, 24 * time.Hour
	for {
		next, err := s.authority.Renew(ctx, s.clock.Now())
		if err != nil && ctx.Err() == nil {
			s.log.Error("renewing the server certificate", "error", err)
		}
		wait := min(max(next.Sub(s.clock.Now()), atLeast), atMost)
		select {
		case <-time.After(wait):
		case <-s.renamed:
			names, err := s.serverNames(ctx)
			if err == nil {
				err = s.authority.SetNames(ctx, names)
			}
			if err != nil && ctx.Err() == nil {
				s.log.Error("making a server certificate with the host names of user pools and domains", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// serverNames are those of the server's certificate: its own, the host names on which user pools have their sign-in pages, and those of
// domain configurations.
func (s *Server) serverNames(ctx context.Context) (names []string, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error { // by the writer, as openSite
		pages, err := tx.CustomPoolDomains()
		if err != nil {
			return err
		}
		names = nil
		for _, d := range pages {
			names = append(names, d.Domain)
		}
		domains, err := tx.AllDomains()
		for _, d := range domains {
			if d.Enabled && !d.Managed {
				names = append(names, d.Domain)
			}
		}
		return err
	})
	return slices.Concat(s.site.names(), s.endpointNames(), names), err
}

// endpointNames are the patterns of the accounts' endpoint names (registry.Service.Endpoint).
func (s *Server) endpointNames() (names []string) {
	if s.cfg.EndpointDomain == "" {
		return nil
	}
	for _, region := range s.site.regions() {
		for _, service := range []string{"iot", "credentials.iot", "jobs.iot"} {
			names = append(names, "*."+service+"."+region+"."+s.cfg.EndpointDomain)
		}
	}
	return names
}

// ownName reports whether a host name is the server's own, or of those that it gives accounts as endpoints.
func (s *Server) ownName(host string) bool {
	return slices.Contains(s.site.names(), host) || slices.ContainsFunc(s.endpointNames(), func(pattern string) bool { return strings.HasSuffix(host, pattern[1:]) })
}

// domainsChanged has renew look at the names again.
func (s *Server) domainsChanged(changes []store.Change) {
	for _, c := range changes {
		if c.Kind == store.ChangedPoolDomain || c.Kind == store.ChangedDomain {
			select {
			case s.renamed <- struct{}{}:
			default: // it will
			}
		}
	}
}
