package userpool

import (
	"cmp"
	"context"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// rankSum compares two samples without asking how they are distributed (Mann and Whitney). share is how likely a value of b is larger
// than one of a, a half where nothing tells them apart; z is how many standard deviations that is from a half.
func rankSum(a, b []float64) (share, z float64) {
	type value struct {
		v   float64
		ofB bool
	}
	var all []value
	for _, v := range a {
		all = append(all, value{v: v})
	}
	for _, v := range b {
		all = append(all, value{v: v, ofB: true})
	}
	slices.SortFunc(all, func(x, y value) int { return cmp.Compare(x.v, y.v) })
	var sum, ties float64
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].v == all[i].v {
			j++
		}
		t := float64(j - i)
		ties += t*t*t - t
		for ; i < j; i++ {
			if all[i].ofB {
				sum += float64(j) - (t-1)/2 // the mean rank of those that are equal
			}
		}
	}
	n, m := float64(len(a)), float64(len(b))
	u := sum - m*(m+1)/2
	deviation := math.Sqrt(n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1))))
	if deviation == 0 {
		return 0.5, 0
	}
	return u / (n * m), (u - n*m/2) / deviation
}

func TestRankSum(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b     []float64
		share, z float64
	}{
		{[]float64{1, 2, 3}, []float64{4, 5, 6}, 1, 1.964},
		{[]float64{4, 5, 6}, []float64{1, 2, 3}, 0, -1.964},
		{[]float64{1, 4}, []float64{2, 3}, 0.5, 0},
		{[]float64{1, 1, 2}, []float64{1, 2, 2}, 2.0 / 3, 0.745}, // with ties
		{[]float64{7, 7}, []float64{7, 7}, 0.5, 0},
	} {
		if share, z := rankSum(c.a, c.b); math.Abs(share-c.share) > 1e-9 || math.Abs(z-c.z) > 1e-3 {
			t.Errorf("%v and %v: %f, %f, want %f, %f", c.a, c.b, share, z, c.share, c.z)
		}
	}
}

// TestSoakNobodyLearnsByTimeWhoExists takes the times of operations that need no proof, about somebody and about nobody in turns of
// random order, in this process, where no network hides a difference, and prints how well a stranger could tell them apart.
// A yardstick is measured in the same run: a power, as an operation has one more that computes for users alone. Rows that are read and
// written for users alone show in the statistic, but are much less than that, and less than what a network adds.
func TestSoakNobodyLearnsByTimeWhoExists(t *testing.T) {
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
	const (
		samples = 1000
		most    = 0.5 // of the yardstick's time, between the medians
	)
	w := newWorld(t, func(c *Config) { c.FailuresPerMinute, c.SignUpsPerMinute = -1, -1 })
	p, app := w.target()
	x, _ := new(big.Int).SetString("f0"+hexSum([]byte(p.ID))[2:], 16)
	yardstick := median(timed(1, samples/2, func(bool) { power(srpG, x) })[0])
	t.Logf("a power takes %.0f µs", yardstick)
	ctx := context.Background()
	for _, d := range slices.Concat([]drill{{"InitiateAuth by SRP", func(w *world, app *Client, name string) string {
		srp := &srpClient{public: big.NewInt(7)}
		out, err := w.InitiateAuth(ctx, SignIn{ClientID: app.ID, Flow: "USER_SRP_AUTH", Parameters: secrets("USERNAME", name, "SRP_A", srp.srpA())})
		return seen(name, out.Challenge, err)
	}}}, []drill{forgot}, guesses) {
		times := timed(2, samples, func(first bool) {
			name := unknown
			if first {
				name = known
			}
			d.do(w, app, name)
			w.pass(time.Hour) // nothing is too much
		})
		w.background.Wait()
		share, z := rankSum(times[1], times[0])
		a, b := median(times[0]), median(times[1])
		t.Logf("%s: %.0f µs for somebody, %.0f for nobody (medians of %d each); somebody's is longer with probability %.3f (z %.1f)",
			d.name, a, b, samples, share, z)
		if math.Abs(a-b) > most*yardstick {
			t.Errorf("%s tells by its time who exists", d.name)
		}
	}
}

// timed takes n times of each of one or two kinds of work, in random order, in microseconds.
func timed(kinds, n int, work func(first bool)) [2][]float64 {
	var out [2][]float64
	order := make([]int, 0, kinds*n)
	for i := range kinds * n {
		order = append(order, i%kinds)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, kind := range order {
		begin := time.Now()
		work(kind == 0)
		out[kind] = append(out[kind], float64(time.Since(begin).Nanoseconds())/1000)
	}
	return out
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
