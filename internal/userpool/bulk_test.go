package userpool

import (
	"strconv"
	"testing"

	"github.com/imprint-iot/imprint/internal/store"
)

// Bulk work goes in small transactions: one that changed more rows than Config.MostRows of the store would fail here.

const many = 1100

// inChunks runs f(0) … f(many-1), some in each transaction.
func (w *world) inChunks(f func(tx *store.Tx, n int) error) {
	w.t.Helper()
	for from := 0; from < many; from += 100 {
		ok(w.t, w.db.Tx(w.t.Context(), func(tx *store.Tx) error {
			for n := range 100 {
				if err := f(tx, from+n); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func TestALargeGroupIsDeletedInSmallTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	must(w.CreateGroup(t.Context(), scope, p.ID, Group{Name: "all"}))(t)
	w.inChunks(func(tx *store.Tx, n int) error { return tx.AddPoolGroupMember(scope, p.ID, strconv.Itoa(n), "all") })
	ok(t, w.DeleteGroup(t.Context(), scope, p.ID, "all"))
	ok(t, w.db.View(t.Context(), func(tx *store.Tx) error {
		if subs, err := tx.PoolGroupSubs(scope, p.ID, "all", 1); err != nil || len(subs) > 0 {
			t.Errorf("members %v, %v", subs, err)
		}
		for _, n := range []int{0, many - 1} {
			if dead, err := tx.CutoffAfter(scope, w.clock(), cutSubject(p.ID, strconv.Itoa(n))); !dead || err != nil {
				t.Errorf("member %d keeps what the group gave: %v", n, err)
			}
		}
		return nil
	}))
}

func TestALargePoolIsDeletedInSmallTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	w.inChunks(func(tx *store.Tx, n int) error {
		if _, err := tx.SpendChallenge(scope, p.ID, strconv.Itoa(n), w.clock()); err != nil {
			return err
		}
		return tx.PutPoolAttempts(scope, p.ID, strconv.Itoa(n), "sign-in", store.PoolAttempts{Count: 1})
	})
	w.inChunks(func(tx *store.Tx, n int) error {
		return tx.CreatePoolUser(scope, p.ID, store.PoolUser{Username: strconv.Itoa(n), Sub: strconv.Itoa(n), Attributes: map[string]string{"email": "x"}})
	})
	ok(t, w.DeletePool(t.Context(), scope, p.ID))
	ok(t, w.db.View(t.Context(), func(tx *store.Tx) error {
		if n, err := tx.CountPoolUsers(scope, p.ID); n > 0 || err != nil {
			t.Errorf("%d users are left, %v", n, err)
		}
		if a, err := tx.PoolAttempts(scope, p.ID, "7", "sign-in"); a.Count > 0 || err != nil {
			t.Errorf("attempts are left: %+v, %v", a, err)
		}
		return nil
	}))
}

func TestManyExpiredRowsAreSweptInSmallTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.pool(Settings{})
	w.inChunks(func(tx *store.Tx, n int) error {
		_, err := tx.SpendChallenge(scope, p.ID, strconv.Itoa(n), w.clock().AddDate(0, 0, -2))
		return err
	})
	ok(t, w.Sweep(t.Context()))
	ok(t, w.db.Tx(t.Context(), func(tx *store.Tx) error {
		if first, err := tx.SpendChallenge(scope, p.ID, "7", w.clock()); !first || err != nil {
			t.Errorf("an expired challenge is left: %v", err)
		}
		return nil
	}))
}
