package server

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
)

const (
	sweepEvery     = time.Minute
	traceRetention = 30 * 24 * time.Hour
	traceChunk     = 500 // rows of one transaction, so that a registration never waits long behind it
)

// sweep removes what has run out of time, until ctx ends.
func (s *Server) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.clock.Now()
		for what, f := range map[string]func() error{
			"provisioning": func() error { return s.provision.Sweep(ctx, now) },
			"user pools":   func() error { return s.userpools.Sweep(ctx) },
			"traces":       func() error { return s.dropTraces(ctx, now.Add(-traceRetention)) },
		} {
			if err := f(); err != nil && ctx.Err() == nil {
				s.log.Error("sweeping", "what", what, "error", err)
			}
		}
	}
}

func (s *Server) dropTraces(ctx context.Context, before time.Time) error {
	for {
		var n int
		err := s.db.Tx(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.DeleteTracesBefore(before, traceChunk)
			return err
		})
		if err != nil || n < traceChunk {
			return err
		}
	}
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
		case <-ctx.Done():
			return
		}
	}
}
