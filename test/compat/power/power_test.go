package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

const (
	cuts    = 20 // IMPRINT_CUTS may name another number for TestSoak…
	devices = 24
)

// observe records the first start of a server, and what devices and people do with it then.
func observe(binary, dir string) (rec *recording, p *people, err error) {
	p = newPeople()
	rec, err = p.watch(binary, dir, func(ctx context.Context, mark func(string) error) error { return p.live(ctx, devices, mark) })
	return rec, p, err
}

// watch records the first start of a server, and what is played with it then.
func (p *people) watch(binary, dir string, play func(ctx context.Context, mark func(string) error) error) (*recording, error) {
	r, err := record(binary, dir, allMoments)
	if err != nil {
		return nil, err
	}
	err = func() error {
		if p.env, err = ready(r.data(), r.gone); err != nil {
			return err
		}
		roots, err := os.ReadFile(filepath.Join(r.data(), server.RootsFile))
		if p.roots = string(roots); err != nil {
			return err
		}
		if err := r.mark("ready"); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
		defer cancel()
		return play(ctx, r.mark)
	}()
	rec, ended := r.end()
	if err = errors.Join(err, ended); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.said())
	}
	return rec, nil
}

// observed is one recording for all tests.
var observed = sync.OnceValue(func() (o struct {
	rec *recording
	p   *people
	err error
}) {
	dir, err := os.MkdirTemp(filepath.Dir(bin), "recording-")
	if o.err = err; err == nil {
		o.rec, o.p, o.err = observe(bin, dir)
	}
	return o
})

func recorded(t *testing.T) (*recording, *people) {
	t.Helper()
	o := observed()
	if o.err != nil {
		t.Fatal(o.err)
	}
	return o.rec, o.p
}

// newRand logs its seed.
func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("IMPRINT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("IMPRINT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// The recording must be able to show what the other tests look for.
func TestTheRecordingHasWhatMatters(t *testing.T) {
	rec, p := recorded(t)
	for _, name := range rec.disk.mapped {
		if name != "data/imprint.db-shm" {
			t.Errorf("%s is written through memory, where the recording is blind", name)
		}
	}
	n, _, _ := rec.disk.find("data/imprint.db")
	checkpoint := 0
	for _, w := range n.writes {
		if w.begin > rec.marks["prepared"] {
			checkpoint++
		}
	}
	if checkpoint == 0 {
		t.Error("no checkpoint among the flows: more devices are needed")
	}
	t.Logf("%d operations, %d moments, %d devices, %d pages written by checkpoints", len(rec.disk.at), len(rec.order), len(p.devices), checkpoint)
}

// pick chooses cuts behind a mark: every other one right behind an answer, where a promise is youngest.
func (r *recording) pick(rnd *rand.Rand, n int, mark string) []int {
	var answers, ops []int
	for _, at := range r.order {
		if at >= r.marks[mark] {
			answers = append(answers, at+1)
		}
	}
	for _, at := range r.disk.at {
		if at > r.marks[mark] {
			ops = append(ops, at+1)
		}
	}
	var picked []int
	for i := range n {
		from := answers
		if i%2 == 1 {
			from = ops
		}
		picked = append(picked, from[rnd.IntN(len(from))])
	}
	return picked
}

func TestWhatWasAnsweredSurvivesAPowerCut(t *testing.T) {
	rec, p := recorded(t)
	rnd := newRand(t)
	left := filepath.Join(t.TempDir(), "left")
	ways := losses(rnd)
	for i, cut := range rec.pick(rnd, cuts, "ready") {
		if err := p.survive(rec, cut, ways[i/2%len(ways)], lie{}, left); err != nil {
			t.Error(err)
		}
	}
	for _, l := range ways {
		for _, cut := range []int{rec.last(), rec.disk.at[len(rec.disk.at)-1] + 1} { // and after the server was stopped in good order
			if err := p.survive(rec, cut, l, lie{}, left); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("over all cuts %d devices were done and %d finished after it; %d messages came behind a cut", p.done, p.finished, p.delivered)
	if p.done == 0 || p.finished == 0 || p.delivered == 0 {
		t.Error("the cuts show nothing")
	}
}

// last is the moment right after the last answer.
func (r *recording) last() int { return r.order[len(r.order)-1] + 1 }

// missed is what cuts find to be lost, the first that does so: at the last moment, or at some of those before it, since a checkpoint may
// have made up for a lie just then.
func (r *recording) missed(survive func(cut int) error) error {
	for i := len(r.order) - 1; i >= max(0, len(r.order)-20); i -= 3 {
		if err := survive(r.order[i] + 1); err != nil {
			return err
		}
	}
	return nil
}

// TestAFirstStartThatIsCutOffSucceedsTheNextTime takes the power away wherever that leaves another folder.
func TestAFirstStartThatIsCutOffSucceedsTheNextTime(t *testing.T) {
	rec, p := recorded(t)
	// The other ways leave another folder after almost each operation: the soak test tries one of them after each.
	firstStart(t, rec, p, 12)
}

// firstStart takes the power away after each operation of the first start in the first way, and after one of each few in the others.
func firstStart(t *testing.T, rec *recording, p *people, few int) {
	t.Helper()
	rnd := newRand(t)
	left := filepath.Join(t.TempDir(), "left")
	ways := losses(rnd)
	seen := map[string]bool{}
	try := func(cut int, l loss) {
		if fresh, err := rec.fresh(seen, cut, l, left); err != nil {
			t.Fatal(err)
		} else if !fresh {
			return
		}
		if err := p.survive(rec, cut, l, lie{}, left); err != nil {
			t.Error(err)
		}
	}
	for i, at := range rec.disk.at {
		if at > rec.marks["ready"] {
			break
		}
		try(at+1, ways[0])
		if i%few == 0 {
			try(at+1, ways[1+i/few%(len(ways)-1)])
		}
	}
	t.Logf("%d states", len(seen))
}

// fresh reports whether a cut leaves a folder that no earlier one has left.
func (r *recording) fresh(seen map[string]bool, cut int, l loss, dir string) (bool, error) {
	if err := os.RemoveAll(dir); err != nil {
		return false, err
	}
	if err := r.disk.restore(dir, cut, l, lie{}); err != nil {
		return false, err
	}
	state, err := fingerprint(dir)
	old := seen[state]
	seen[state] = true
	return !old, err
}

// TestTheseTestsSeeALostSync leaves out each kind of sync that promises rest on: the loss must be seen.
func TestTheseTestsSeeALostSync(t *testing.T) {
	rec, p := recorded(t)
	left := filepath.Join(t.TempDir(), "left")
	all := losses(newRand(t))[0]
	for _, c := range []struct{ what, name string }{
		{"of the write-ahead log", "data/imprint.db-wal"},
		{"of the database", "data/imprint.db"},
		{"of the folder above the data folder", "."},
		{"of the data folder", "data"},
		{"of the master key", "data/.master.key.*"},
		{"of the folder pki", "data/pki"},
		{"of the authority's state", "data/pki/.authority.json.*"},
		{"of the folder of keys", "data/pki/keys"},
		{"of signing keys", "data/pki/keys/.*"},
		{"of the outbox", "data/outbox"},
		{"of messages", "data/outbox/.*"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dropped := 0
			deaf := lie{deaf: func(name string) bool {
				match, err := filepath.Match(c.name, name)
				if match {
					dropped++
				}
				return match || err != nil
			}}
			err := rec.missed(func(cut int) error { return p.survive(rec, cut, all, deaf, left) })
			if dropped == 0 {
				t.Fatal("there is no such sync")
			}
			if err == nil {
				t.Error("nobody missed it")
			}
			t.Logf("%.400v", err)
		})
	}
}

// TestTheseTestsSeeAnAnswerBeforeItsSync has syncs end later than the server was told: some answer must be found that came first.
func TestTheseTestsSeeAnAnswerBeforeItsSync(t *testing.T) {
	rec, p := recorded(t)
	left := filepath.Join(t.TempDir(), "left")
	all := losses(newRand(t))[0]
	registered := []int{}
	for what, at := range rec.marks {
		if strings.HasPrefix(what, "registered ") {
			registered = append(registered, at+1)
		}
	}
	slices.Sort(registered)
	for _, cut := range slices.Backward(registered) {
		if err := p.survive(rec, cut, all, lie{late: true}, left); err != nil {
			t.Log(err)
			return
		}
	}
	t.Error("no answer was seen to be lost")
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("IMPRINT_SOAK") == "" {
		t.Skip("a long test: make soak runs it")
	}
}

// manyCuts is how many cuts a long test makes: n, or what IMPRINT_CUTS says.
func manyCuts(t *testing.T, n int) int {
	t.Helper()
	long(t)
	if s := os.Getenv("IMPRINT_CUTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestSoakFirstStarts takes the power away after each operation of a first start.
func TestSoakFirstStarts(t *testing.T) {
	long(t)
	rec, p := recorded(t)
	firstStart(t, rec, p, 1)
}

// TestSoakPowerCuts is TestWhatWasAnsweredSurvivesAPowerCut at length, each fifty cuts with a recording of their own: claims live
// for minutes.
func TestSoakPowerCuts(t *testing.T) {
	total := manyCuts(t, 1000)
	rnd := newRand(t)
	ways := losses(rnd)
	answered, finished, delivered := 0, 0, 0
	for done := 0; done < total; {
		dir := t.TempDir()
		rec, p, err := observe(bin, dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, cut := range rec.pick(rnd, min(50, total-done), "ready") {
			if err := p.survive(rec, cut, ways[i/2%len(ways)], lie{}, filepath.Join(dir, "left")); err != nil {
				t.Error(err)
			}
			done++
		}
		answered, finished, delivered = answered+p.done, finished+p.finished, delivered+p.delivered
	}
	t.Logf("%d cuts: over all of them %d devices were done and %d finished after it; %d messages came behind a cut", total, answered, finished, delivered)
}
