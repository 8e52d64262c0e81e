package server

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/metrics"
	"github.com/imprint-iot/imprint/internal/mqtt"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/wire"
)

// newMetrics makes the metrics. What they ask at a scrape exists by then: the socket that serves them opens last.
func (s *Server) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Sources{
		Version:     s.cfg.Version,
		Connections: func() int { return s.gateway.Broker().Connections() },
		Messages:    func() (received, sent uint64) { return s.gateway.Broker().Messages() },
		Stored:      func() (bytes int64, dropped uint64) { return s.gateway.Broker().Stored() },
		Ruled:       func() int64 { return s.rules.Waiting() },
		Traces: func() metrics.Traces {
			sampled, dropped := s.recorder.Lost()
			return metrics.Traces{Bytes: s.traces.bytes.Load(), Sampled: sampled, Dropped: dropped, Old: s.traces.old.Load(), Surplus: s.traces.surplus.Load()}
		},
		Logs: func() metrics.Logs {
			return metrics.Logs{Bytes: s.logged.bytes.Load(), Old: s.logged.old.Load(), Surplus: s.logged.surplus.Load(), Dropped: s.logs.Dropped()}
		},
		KeyPool: func() metrics.KeyPool {
			p := s.keys.Stats()
			return metrics.KeyPool{Ready: p.Ready, Waiting: p.Waiting, Taken: p.Taken, Missed: p.Missed, Made: p.Made, Refused: p.Refused}
		},
		Pending:      func() int { return s.strangers.door.Room.Taken() },
		Certificates: s.certificateEnds,
		Ending: func() metrics.Ending {
			if e := s.ending.Load(); e != nil {
				return *e
			}
			return metrics.Ending{}
		},
		Bulk:     func() int { return s.bulk.Active() },
		Circuits: func() map[string]int { return s.hooks.Circuits() },
	})
}

// countEnding looks which certificates of devices end.
func (s *Server) countEnding(ctx context.Context, now time.Time) error {
	const day = 24 * time.Hour
	var e metrics.Ending
	err := s.db.View(ctx, func(tx *store.Tx) (err error) {
		if e.Expired, _, err = tx.EndingCertificates(now.Add(-30*day), now); err == nil {
			e.Week, _, err = tx.EndingCertificates(now, now.Add(7*day))
		}
		if err == nil {
			e.Month, _, err = tx.EndingCertificates(now, now.Add(30*day))
		}
		if err == nil {
			_, e.Next, err = tx.EndingCertificates(now, now.Add(400*day))
		}
		return err
	})
	if err == nil {
		s.ending.Store(&e)
	}
	return err
}

func (s *Server) certificateEnds() map[string]time.Time {
	ends := map[string]time.Time{}
	for _, c := range s.authority.Standings() {
		ends[c.Name] = c.Expires
	}
	return ends
}

// countRequests counts answered requests by operation. Names that no table has come from strangers: they count as one.
func (s *Server) countRequests(services []*wire.Service) func(wire.Event) {
	known := map[string]*wire.Service{}
	for _, svc := range services {
		known[svc.Name()] = svc
	}
	return func(e wire.Event) {
		if svc := known[e.Service]; svc == nil || !svc.Implements(e.Operation) {
			e.Operation = "unimplemented"
		}
		s.requestDone(e)
		if e.Operation == "CreateProvisioningClaim" {
			s.metrics.Flow(trace.Claim, e.Code, e.Status >= 500, e.Duration)
		}
	}
}

func (s *Server) countEnd(r mqtt.Reason) { s.metrics.Ended(r.String()) }
