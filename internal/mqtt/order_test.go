package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTopicsAreInOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var o order
	var all []string
	for step := range 20_000 {
		topic := fmt.Sprintf("plant/%d", r.IntN(5000))
		i, there := slices.BinarySearch(all, topic)
		if grows := step/5000%2 == 0; r.IntN(4) > 0 == grows {
			o.add(topic)
			if !there {
				all = slices.Insert(all, i, topic)
			}
		} else {
			o.remove(topic)
			if there {
				all = slices.Delete(all, i, i+1)
			}
		}
		if step%100 > 0 {
			continue
		}
		for _, after := range []string{"", "plant/", topic, "plant/25", "plant/9999", "q"} {
			i, there := slices.BinarySearch(all, after)
			if there {
				i++
			}
			if got := slices.Collect(o.behind(after)); !slices.Equal(got, all[i:]) {
				t.Fatalf("step %d: %d topics behind %q, want %d: %q", step, len(got), after, len(all)-i, got)
			}
		}
		for _, p := range o.pieces {
			if len(p) == 0 || len(p) > longestPiece {
				t.Fatalf("step %d: a piece of %d", step, len(p))
			}
		}
	}
	for _, topic := range all {
		o.remove(topic)
	}
	if len(o.pieces) > 0 {
		t.Errorf("%d pieces are left of nothing", len(o.pieces))
	}
}
