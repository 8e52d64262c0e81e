package server

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

func TestTracesAreBoundedByAgeAndSize(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.TraceSize, cfg.TraceKeep, cfg.TraceRefusals = 100<<10, Period(10*day), 1000
	s := startServer(t, cfg)
	now := time.Now()
	put := func(age time.Duration, n int) {
		t.Helper()
		noError(t, s.db.Tx(t.Context(), func(tx *store.Tx) error {
			for i := range n {
				tr := trace.New(s.site.Scope, trace.Register, func() time.Time { return now.Add(-age) })
				tr.Fact("thing", fmt.Sprint("lamp-", i))
				tr.Step("test", "%0200d", i)
				r, subjects := tr.Finish(errors.New("x"))
				if err := tx.PutTrace(s.site.Scope, r, subjects); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	left := func() (n int, bytes int64) {
		t.Helper()
		noError(t, s.db.View(t.Context(), func(tx *store.Tx) error {
			all, err := tx.Traces(s.site.Scope, "", 1<<20)
			n = len(all)
			if err == nil {
				bytes, err = tx.BytesIn(store.BoundedTraces)
			}
			return err
		}))
		return n, bytes
	}
	put(11*day, 20)
	put(5*day, 30)
	noError(t, s.trimTraces(t.Context(), now))
	if n, bytes := left(); n != 30 || s.traces.old.Load() != 20 || s.traces.surplus.Load() != 0 || s.traces.bytes.Load() != bytes {
		t.Errorf("%d left of %d and %d bytes after those that are too old went: %d", n, bytes, s.traces.bytes.Load(), s.traces.old.Load())
	}
	put(time.Hour, 600) // more than fit, and more than a chunk
	put(time.Minute, 100)
	noError(t, s.trimTraces(t.Context(), now))
	n, bytes := left()
	if bytes > int64(s.cfg.TraceSize) || n < 100 || n > 200 || s.traces.surplus.Load() != int64(730-n) {
		t.Errorf("%d left of %d bytes, %d went", n, bytes, s.traces.surplus.Load())
	}
	noError(t, s.trimTraces(t.Context(), now))
	if again, _ := left(); again != n {
		t.Errorf("%d of %d left by a second look", again, n)
	}
}
