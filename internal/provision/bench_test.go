package provision

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// BenchmarkFlow is a certificate for a CSR and its registration, two durable commits, with sixteen devices at once, on each engine; the
// CSR is the device's work and counts along (about 25 µs).
func BenchmarkFlow(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { flows(newFixtureOn(b, ""), b) })
	b.Run("postgres", func(b *testing.B) { flows(newFixtureOn(b, storetest.Start(b, "fsync=on").Database(b)), b) })
}

func flows(f *fixture, b *testing.B) {
	f.template("lamps", lamps)
	r := f.bootstrap()
	var n atomic.Int64
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := f.certificate(r)
			if _, err := f.register(r, "lamps", c, strconv.FormatInt(n.Add(1), 10)); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkBound is what it takes to know the template that a bootstrap certificate is good for, by its policies: one for each of its
// requests for a certificate.
func BenchmarkBound(b *testing.B) {
	f := newFixtureOn(b, "")
	f.template("lamps", lamps)
	doc, err := ClaimPolicy(here, ClaimUse{Templates: []string{"lamps"}})
	check(b, err)
	r := f.bootstrap()
	f.write(func(tx *store.Tx) error {
		if _, err := registry.CreatePolicy(tx, here, "claims", doc, nil); err != nil {
			return err
		}
		return registry.AttachPolicy(tx, here, "claims", here.IoT("cert", r.PrincipalID))
	})
	view(f, func(tx *store.Tx) (struct{}, error) {
		for b.Loop() {
			if name, err := f.boundTo(tx, here, r.PrincipalID); err != nil || name != "lamps" {
				b.Fatalf("%q, %v", name, err)
			}
		}
		return struct{}{}, nil
	})
}
