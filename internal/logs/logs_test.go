package logs

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

var here = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

func open(t testing.TB) *Service {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db")})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: db})
	t.Cleanup(func() {
		s.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestWhatIsNotWantedCostsNothing: each message of each device asks.
func TestWhatIsNotWantedCostsNothing(t *testing.T) {
	s := open(t)
	s.Wants(here, "Publish-In", Error) // reads what is wanted
	event := Event{Type: "Publish-In", Topic: "a"}
	if n := testing.AllocsPerRun(100, func() { s.Tell(here, Info, event) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	(*Service)(nil).Tell(here, Error, event)
}

func TestEntriesOfOneMomentKeepTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Service{}
		last := ""
		for range 1000 {
			id := s.nextID(time.Now()) // which stands still
			if id <= last {
				t.Fatalf("%s after %s", id, last)
			}
			last = id
		}
	})
}

func TestAGroupIsMadeOnceAndWithinBounds(t *testing.T) {
	t.Parallel()
	s := open(t)
	for name, want := range map[string]fleet.Kind{"a b": fleet.KindInvalid, "": fleet.KindInvalid, "~x": fleet.KindInvalid} {
		if err := s.CreateGroup(t.Context(), here, name); fleet.KindOf(err) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := s.CreateGroup(t.Context(), here, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateGroup(t.Context(), here, "a"); fleet.KindOf(err) != fleet.KindExists {
		t.Errorf("twice: %v", err)
	}
	if err := s.Store.Tx(t.Context(), func(tx *store.Tx) error {
		for i := range maxGroups - 1 {
			if _, err := tx.CreateLogGroup(here, fleet.LogGroup{ID: "i" + string(rune(0x4e00+i)), Name: "n" + string(rune(0x4e00+i))}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateGroup(t.Context(), here, "b"); fleet.KindOf(err) != fleet.KindLimit {
		t.Errorf("one too many: %v", err)
	}
}
