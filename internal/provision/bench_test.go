package provision

import (
	"strconv"
	"sync/atomic"
	"testing"
)

// BenchmarkFlow is a certificate for a CSR and its registration with sixteen devices at once; the CSR is the device's work and
// counts along (about 25 µs).
func BenchmarkFlow(b *testing.B) {
	f := newFixture(b)
	f.template("lamps", lamps)
	r := f.bootstrap()
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := f.certificate(r)
			if _, err := f.register(r, "lamps", c, strconv.FormatInt(n.Add(1), 10)); err != nil {
				b.Error(err)
			}
		}
	})
}
