package registry

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

var (
	here  = fleet.Scope{Account: "111111111111", Region: "us-east-1"}
	there = fleet.Scope{Account: "222222222222", Region: "us-east-1"}
)

// world is a registry on a store of its own, with a clock that tests move.
type world struct {
	*Service
	t testing.TB

	mu  sync.Mutex
	now time.Time
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) sleep(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), URL: storetest.URL(t), Rehearse: true, MostRows: 1000, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.Service = New(Config{Store: db, Host: "iot.lan"})
	return w
}

// withKeys lets the world issue certificates.
func (w *world) withKeys() *world {
	w.t.Helper()
	a, err := pki.OpenAuthority(w.t.Context(), pki.Config{Dir: w.t.TempDir(), Keys: pki.NewMemoryKeys(), NoRSA: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Authority, w.Keys = a, pki.NewKeyPool(pki.PoolConfig{Size: -1, Patience: time.Hour}) // a busy machine may take long for a key
	w.t.Cleanup(w.Keys.Close)
	return w
}

// try runs one write.
func (w *world) try(f func(tx *store.Tx) error) error { return w.Store.Tx(w.t.Context(), f) }

// do runs one write that must succeed.
func (w *world) do(f func(tx *store.Tx) error) {
	w.t.Helper()
	if err := w.try(f); err != nil {
		w.t.Fatal(err)
	}
}

// refused checks the kind of an error; want "" means success.
func refused(t testing.TB, err error, want string) {
	t.Helper()
	got := ""
	if err != nil {
		got = fleet.KindOf(err).String()
	}
	if got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// certificate puts a record of a certificate into the store; its ARN is the answer.
func (w *world) certificate(s fleet.Scope, id string, status fleet.CertificateStatus) string {
	w.t.Helper()
	w.do(func(tx *store.Tx) error {
		return tx.CreateCertificate(s, newCertificate(tx.Now(), id, "", status, time.Time{}, time.Time{}))
	})
	return s.IoT("cert", id)
}

const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`

func sp(s string) *string { return &s }
func ip(n int64) *int64   { return &n }
