package store

import (
	"container/list"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// expected keeps, of the devices and claims that were written last, what they will ask when they connect: most do so in a moment, and the
// pages that answer it are in the writer's cache and in no reader's. Only the writer puts something in, after the commit that makes it
// true; what a commit may change is forgotten before it. A nil *expected keeps nothing: what another writer changed it would not know.
type expected struct {
	mu   sync.Mutex
	byID map[string]*expectation
	on   map[Change]map[*expectation]bool // by what they depend on
	used *list.List                       // of *expectation, the one that was asked for last in front
}

// maxExpected bounds how many are kept, of about 3 KiB each.
const maxExpected = 512

// An expectation is what the holder of a certificate asks when it connects. What it points to is shared, nobody may change it.
type expectation struct {
	id           string
	certificates []ScopedCertificate // its only registration; none for a claim
	claim        *ScopedClaim
	thing        AttachedThing
	policies     []EffectivePolicy // of the certificate and of the thing's groups
	on           []Change
	place        *list.Element
}

func newExpected() *expected {
	return &expected{byID: map[string]*expectation{}, on: map[Change]map[*expectation]bool{}, used: list.New()}
}

// expects names what an expectation depends on: certificates and claims in any scope, all groups of a scope at once.
func (c Change) expects() Change {
	switch {
	case c.Kind == ChangedCertificate || c.Kind == ChangedClaim:
		return Change{Kind: ChangedCertificate, Key: c.Key}
	case c.Kind == ChangedGroup, c.Kind == ChangedAttachment && strings.Contains(c.Key, ":thinggroup/"):
		return Change{Scope: c.Scope, Kind: ChangedGroup}
	}
	return c
}

// forget drops what changes may have made untrue.
func (m *expected) forget(changes []Change) {
	for _, c := range changes {
		for e := range m.on[c.expects()] {
			m.drop(e)
		}
	}
}

func (m *expected) drop(e *expectation) {
	delete(m.byID, e.id)
	m.used.Remove(e.place)
	for _, c := range e.on {
		if delete(m.on[c], e); len(m.on[c]) == 0 {
			delete(m.on, c)
		}
	}
}

func (m *expected) add(e *expectation) {
	if old := m.byID[e.id]; old != nil {
		m.drop(old)
	}
	if m.used.Len() >= maxExpected {
		m.drop(m.used.Back().Value.(*expectation))
	}
	m.byID[e.id], e.place = e, m.used.PushFront(e)
	for _, c := range e.on {
		if m.on[c] == nil {
			m.on[c] = map[*expectation]bool{}
		}
		m.on[c][e] = true
	}
}

// commit forgets what a commit is about to change. What it returns adds, in the order of the jobs, what they expect; it is called if the
// commit has succeeded.
func (m *expected) commit(jobs []*job) (committed func()) {
	if m == nil {
		return func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range jobs {
		m.forget(j.changes)
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, j := range jobs {
			m.forget(j.changes)
			if j.expects != nil {
				m.add(j.expects)
			}
		}
	}
}

// expectation returns what is expected of a certificate or claim, nil if nothing is, or if the transaction reads the database already.
func (tx *Tx) expectation(id string) *expectation {
	m := tx.db.expected
	if m == nil || tx.on != nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byID[id]
	if e != nil {
		m.used.MoveToFront(e.place)
	}
	return e
}

// device is the expectation of a device's certificate by its ARN.
func (tx *Tx) device(s fleet.Scope, principal string) *expectation {
	id, ok := strings.CutPrefix(principalKey(s, principal), "cert/")
	if !ok {
		return nil
	}
	if e := tx.expectation(id); e != nil && e.claim == nil && e.certificates[0].Scope == s {
		return e
	}
	return nil
}

// ExpectDevice prepares for the first connection of a device that this transaction has registered: its certificate and the thing, whose
// name devices take as their client id. It is the last thing that a body does.
func (tx *Tx) ExpectDevice(s fleet.Scope, id, thing string) error {
	if tx.db.expected == nil {
		return nil
	}
	e, arn := &expectation{id: id}, s.IoT("cert", id)
	var err error
	if e.certificates, err = tx.CertificatesByID(id); err != nil || len(e.certificates) != 1 {
		return err
	}
	kind, tied, err := tx.Tie(s, thing, arn)
	if err != nil || !tied {
		return err
	}
	if e.thing.Thing, err = tx.Thing(s, thing); err != nil {
		return err
	}
	e.thing.PrincipalType = kind
	if e.policies, err = tx.EffectivePolicies(s, arn, thing); err != nil {
		return err
	}
	e.on = []Change{{Kind: ChangedCertificate, Key: id}, {s, ChangedAttachment, arn}, {s, ChangedThing, thing}, {s, ChangedGroup, ""}}
	for _, p := range e.policies {
		e.on = append(e.on, Change{s, ChangedPolicy, p.Name})
	}
	tx.expects = e
	return nil
}

// ExpectClaim prepares for the first connection with a claim that this transaction has made.
func (tx *Tx) ExpectClaim(id string) error {
	if tx.db.expected == nil {
		return nil
	}
	registered, err := tx.CertificatesByID(id)
	if err != nil || len(registered) > 0 {
		return err
	}
	c, found, err := tx.ClaimByID(id)
	if found {
		tx.expects = &expectation{id: id, claim: &c, on: []Change{{Kind: ChangedCertificate, Key: id}}}
	}
	return err
}

// connects is the thing that a connection with this client id stands for, if the expectation knows (Tx.AssociatedThing).
func (e *expectation) connects(clientID string) (AttachedThing, bool) {
	if e == nil || e.thing.PrincipalType != fleet.Exclusive && e.thing.Name != clientID {
		return AttachedThing{}, false
	}
	t := e.thing
	t.Attributes = maps.Clone(t.Attributes)
	return t, true
}

// may are the policies of the certificate with those of a thing's groups, if the expectation knows (Tx.EffectivePolicies).
func (e *expectation) may(thing string) ([]EffectivePolicy, bool) {
	if e == nil || e.thing.Name != thing {
		return nil, false
	}
	return slices.Clone(e.policies), true
}
