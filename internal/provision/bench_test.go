package provision

import (
	"strconv"
	"sync/atomic"
	"testing"

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
