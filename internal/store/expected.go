package store

import (
	"container/list"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// expected keeps, of the devices and claims that were written last, what they will ask when they connect or register: most do so in a
// moment. Only the writer puts something in, after the commit that makes it true; what a transaction may change is forgotten when it says
// so (Tx.Changed), so that what is here holds for readers and inside of write transactions alike. A nil *expected keeps nothing: what
// another writer changed it would not know.
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
	pending      bool // a certificate that was just issued: nobody has registered it, nothing is tied to it
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

// forget drops what a change may make untrue.
func (m *expected) forget(c Change) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgotten(c)
}

func (m *expected) forgotten(changes ...Change) {
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

// committed adds, in the order of the jobs, what they expect, when they are committed.
func (m *expected) committed(jobs []*job) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range jobs {
		m.forgotten(j.changes...)
		if j.expects != nil {
			m.add(j.expects)
		}
	}
}

// expectation returns what is expected of a certificate or claim, nil if nothing is, or if a view reads the database already.
func (tx *Tx) expectation(id string) *expectation {
	m := tx.db.expected
	if m == nil || tx.on != nil && tx.on != tx.db.writes {
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

// pending is the expectation of a certificate that was just issued, nil if nobody expects it to be registered.
func (tx *Tx) pending(s fleet.Scope, id string) *expectation {
	if e := tx.expectation(id); e != nil && e.pending && e.certificates[0].Scope == s {
		tx.fresh = e
		return e
	}
	return nil
}

// ExpectPending prepares for the registration of a certificate that this transaction has kept, which was issued for it and exists nowhere
// else. It is the last thing that a body does.
func (tx *Tx) ExpectPending(s fleet.Scope, c fleet.Certificate) {
	tx.expects = &expectation{id: c.ID, certificates: []ScopedCertificate{{s, asStored(c)}}, pending: true,
		on: []Change{{Kind: ChangedCertificate, Key: c.ID}, {s, ChangedAttachment, s.IoT("cert", c.ID)}}}
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
	if e.certificates, err = tx.registrationsOf(s, id); err != nil || len(e.certificates) != 1 {
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
	if e.policies, err = tx.policiesSeen(s, arn, thing); err != nil {
		return err
	}
	e.on = []Change{{Kind: ChangedCertificate, Key: id}, {s, ChangedAttachment, arn}, {s, ChangedThing, thing}, {s, ChangedGroup, ""}}
	for _, p := range e.policies {
		e.on = append(e.on, Change{s, ChangedPolicy, p.Name})
	}
	tx.expects = e
	return nil
}

// registrationsOf is CertificatesByID, without asking of a certificate that this transaction knew to be registered in s alone.
func (tx *Tx) registrationsOf(s fleet.Scope, id string) ([]ScopedCertificate, error) {
	elsewhere := func(c Change) bool { return c.Kind == ChangedCertificate && c.Key == id && c.Scope != s }
	if tx.fresh == nil || tx.fresh.id != id || slices.ContainsFunc(tx.changes, elsewhere) {
		return tx.CertificatesByID(id)
	}
	c, err := tx.Certificate(s, id)
	return []ScopedCertificate{{s, c}}, err
}

// policiesSeen is EffectivePolicies, without asking about a principal whose ties this transaction has looked at, and a thing that it has
// made and put into no group.
func (tx *Tx) policiesSeen(s fleet.Scope, principal, thing string) (list []EffectivePolicy, err error) {
	ties, known := tx.tiesSeen(s, principal)
	if _, alone := tx.looks[inNoGroup(s, thing)]; !known || !alone {
		return tx.EffectivePolicies(s, principal, thing)
	}
	for _, name := range ties.Policies {
		p, err := tx.Policy(s, name)
		if err != nil {
			return nil, err
		}
		list = append(list, EffectivePolicy{p.Name, p.Document, principal})
	}
	return list, nil
}

// inNoGroup is under what a transaction notes that a thing of its own making is in no group.
func inNoGroup(s fleet.Scope, thing string) Change { return Change{s, "thing in no group", thing} }

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

// connects is the thing that a connection with this client id stands for, if the expectation knows (Tx.AssociatedThing). It
// knows none of a pending certificate.
func (e *expectation) connects(clientID string) (AttachedThing, bool) {
	if e == nil || e.pending || e.thing.PrincipalType != fleet.Exclusive && e.thing.Name != clientID {
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
