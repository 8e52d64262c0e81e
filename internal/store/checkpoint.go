package store

import (
	"context"
	"time"
)

// SQLite's log is copied into the database (a checkpoint) beside the writer, so that no commit has to wait for it: it takes as long as
// dozens of commits. SQLite begins its log anew when all of it is copied; a writer that never rests leaves no such moment, and there a
// commit copies what is left when the log is longer than logPages (SQLite's own number is 1,000).
const (
	checkpointEvery   = 32 // commits
	checkpointTimeout = time.Minute
	logPages          = 8000 // of 4 KiB
)

// commitDone tells the checkpoints of one more commit. Only the writer calls it.
func (db *DB) commitDone() {
	if db.due == nil {
		return
	}
	if db.commits++; db.commits%checkpointEvery == 0 {
		select {
		case db.due <- struct{}{}:
		default: // one is being made
		}
	}
}

// checkpoints makes a checkpoint whenever one is due, until Close.
func (db *DB) checkpoints() {
	defer close(db.checkpointed)
	s := &session{connector: db.reading, engine: db.engine} // OnStatement hears of transactions
	defer s.drop()
	for {
		select {
		case <-db.due:
		case <-db.closed:
			return
		}
		if err := s.checkpoint(); err != nil {
			db.log.Warn("a checkpoint of the database has failed; a commit makes up for it when the log is long", "cause", err)
			s.drop()
		}
	}
}

// checkpoint copies what is committed; the second time what was committed meanwhile, which is little, so that perhaps nothing is left.
func (s *session) checkpoint() error {
	ctx, cancel := context.WithTimeout(context.Background(), checkpointTimeout)
	defer cancel()
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
	}
	for range 2 {
		found, err := s.query(ctx, "PRAGMA wal_checkpoint(PASSIVE)")
		if err != nil {
			return err
		}
		var busy, pages, copied int64
		if err := found.one([]any{&busy, &pages, &copied}); err != nil {
			return err
		}
		if copied == pages {
			return nil
		}
	}
	return nil
}
