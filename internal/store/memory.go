package store

import (
	"slices"
	"sync"
)

// A memory keeps what was read of the few rows that nearly every request asks for and that seldom change: templates, claims,
// policies, roles, cut-offs. It gives what the database would give, inside of transactions too, because all writes of an
// installation go through one writer:
//
//   - What a commit changes is forgotten before it, and nothing is kept until it is over, so that nobody who has seen the new
//     sees the old again.
//   - A transaction takes only what was kept before it began and not changed since, so it never mixes old with new.
//   - A transaction keeps only what it read while nothing changed that can be kept, so that nothing old comes back.
//   - A body whose group has changed anything of the kind reads the database (session.changed).
//
// A nil memory keeps nothing: what another writer changed it would not know.
type memory struct {
	mu         sync.Mutex
	generation uint64 // counts beginnings and ends of commits that change what can be kept
	committing bool
	kept       map[Change]map[string]memo
}

// A memo is a value with the generation under which it was read.
type memo struct {
	generation uint64
	value      any
}

// keepable are the kinds of Change that a memory understands: each function of the store that writes such rows calls Tx.Changed
// with exactly the key under which they are kept.
var keepable = []string{ChangedTemplate, ChangedClaim, ChangedPolicy, ChangedIAM, ChangedCutoff, ChangedEvents}

// maxKept bounds the keys; a full memory starts anew.
const maxKept = 10000

func newMemory() *memory { return &memory{kept: map[Change]map[string]memo{}} }

func (m *memory) now() uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.generation
}

// commit drops what a commit is about to change, and keeps nothing until what it returns is called.
func (m *memory) commit(jobs []*job) (over func()) {
	if m == nil || !slices.ContainsFunc(jobs, func(j *job) bool { return slices.ContainsFunc(j.changes, Change.keepable) }) {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	m.committing = true
	for _, j := range jobs {
		for _, c := range j.changes {
			delete(m.kept, c)
		}
	}
	return m.committed
}

func (m *memory) committed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation++
	m.committing = false
}

func (m *memory) get(on Change, what string, began uint64) (any, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.kept[on][what]
	return v.value, ok && v.generation <= began
}

func (m *memory) put(on Change, what string, began uint64, v any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generation != began || m.committing {
		return
	}
	if len(m.kept) >= maxKept {
		clear(m.kept)
	}
	if m.kept[on] == nil {
		m.kept[on] = map[string]memo{}
	}
	m.kept[on][what] = memo{began, v}
}

func (c Change) keepable() bool { return slices.Contains(keepable, c.Kind) }

// remembered returns what read gives, from memory if it is there. All that read depends on must be written with tx.Changed of
// on; what tells apart the reads that depend on the same. Values are shared: nobody may change what they point to. Errors are
// not kept.
func remembered[T any](tx *Tx, on Change, what string, read func() (T, error)) (T, error) {
	m := tx.db.memory
	if m == nil || tx.on != nil && tx.on.changed {
		return recalled(tx, on, what, read)
	}
	if v, ok := m.get(on, what, tx.began); ok {
		return v.(T), nil
	}
	v, err := read()
	if err == nil {
		m.put(on, what, tx.began, v)
	}
	return v, err
}

// recalled returns what read gives, once in a transaction: where nothing is remembered several rules ask for the same.
func recalled[T any](tx *Tx, on Change, what string, read func() (T, error)) (T, error) {
	if v, ok := tx.recall[on][what]; ok {
		return v.(T), nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	if tx.recall == nil {
		tx.recall = map[Change]map[string]any{}
	}
	if tx.recall[on] == nil {
		tx.recall[on] = map[string]any{}
	}
	tx.recall[on][what] = v
	return v, nil
}

// A look is a row that a transaction has read, or that it was not there.
type look struct {
	row   any
	found bool
}

// again returns what read gives, from the transaction's last look unless on was written since: several rules look at the same row.
// What the row points to is shared, nobody may change it.
func again[T any](tx *Tx, on Change, read func() (T, bool, error)) (T, bool, error) {
	if l, ok := tx.looks[on]; ok {
		return l.row.(T), l.found, nil
	}
	row, found, err := read()
	if err == nil {
		tx.saw(on, row, found)
	}
	return row, found, err
}

// saw notes what again would read: after tx.Changed of on, whoever wrote a row knows it.
func (tx *Tx) saw(on Change, row any, found bool) {
	if tx.looks == nil {
		tx.looks = map[Change]look{}
	}
	tx.looks[on] = look{row, found}
}
