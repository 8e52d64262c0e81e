package mqtt

import (
	"strings"
	"sync"
)

// A subscription is one filter of one session.
type subscription struct {
	session        *session
	filter         string // without "$share/name/"
	share          string // share name; empty: not shared
	qos            byte
	noLocal        bool
	asPublished    bool
	retainHandling byte
	existed        bool // it replaced one with the same filter

	leaf  *leaf  // where it hangs in the tree, and at which place
	group *group // of a shared subscription; the session's lock guards it
	at    int
}

// full is the filter as the client wrote it.
func (s *subscription) full() string {
	if s.share != "" {
		return "$share/" + s.share + "/" + s.filter
	}
	return s.filter
}

// A tree finds the subscriptions that select a topic. Filters without wildcards, the great majority, are in a map by topic; the
// others in a tree by level. Subscriptions to one filter, or to one filter under one share name, hang in one leaf.
type tree struct {
	space *space
	mu    sync.RWMutex
	exact map[string]*leaf
	root  node
}

type node struct {
	children map[string]*node // by level, "+" and "#" among them
	leaf     *leaf
}

// A leaf holds the subscriptions of one filter. Each session is in it at most once.
type leaf struct {
	subs   []*subscription
	groups map[string]*group // shared subscriptions by share name
}

func (t *tree) init(s *space) { t.space, t.exact = s, make(map[string]*leaf) }

// add hangs a subscription into the tree.
func (t *tree) add(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaf(s.filter)
	if s.share != "" {
		s.group = l.group(t.space, s)
		if s.session.durable {
			s.group.durable++
		}
		l = &s.group.leaf
	}
	s.leaf, s.at = l, len(l.subs)
	l.subs = append(l.subs, s)
}

// leaf returns the leaf of a filter, made if there is none.
func (t *tree) leaf(filter string) *leaf {
	if !hasWildcard(filter) {
		l := t.exact[filter]
		if l == nil {
			l = &leaf{}
			t.exact[filter] = l
		}
		return l
	}
	n := &t.root
	for level := range strings.SplitSeq(filter, "/") {
		child := n.children[level]
		if child == nil {
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			child = &node{}
			n.children[level] = child
		}
		n = child
	}
	if n.leaf == nil {
		n.leaf = &leaf{}
	}
	return n.leaf
}

func (l *leaf) group(space *space, s *subscription) *group {
	g := l.groups[s.share]
	if g == nil {
		if l.groups == nil {
			l.groups = make(map[string]*group)
		}
		g = &group{space: space, name: s.full()}
		l.groups[s.share] = g
	}
	return g
}

// groups returns all groups by the filter that clients write.
func (t *tree) groups() map[string]*group {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := map[string]*group{}
	for _, l := range t.exact {
		l.collect(all)
	}
	t.root.collect(all)
	return all
}

func (n *node) collect(all map[string]*group) {
	if n.leaf != nil {
		n.leaf.collect(all)
	}
	for _, c := range n.children {
		c.collect(all)
	}
}

func (l *leaf) collect(all map[string]*group) {
	for _, g := range l.groups {
		all[g.name] = g
	}
}

// replace puts a subscription where an old one of the same filter and session hangs: no message slips through between them, and
// what waits in a group stays.
func (t *tree) replace(old, s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.leaf, s.at, s.group = old.leaf, old.at, old.group
	s.leaf.subs[s.at] = s
	old.leaf = nil
}

// remove takes a subscription out of the tree, and what is empty without it.
func (t *tree) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := s.leaf
	if l == nil {
		return
	}
	last := len(l.subs) - 1
	l.subs[s.at] = l.subs[last]
	l.subs[s.at].at = s.at
	l.subs[last] = nil
	l.subs = l.subs[:last]
	s.leaf = nil
	if s.group != nil && s.session.durable {
		s.group.durable--
	}
	if last > 0 {
		return
	}
	if s.group != nil {
		s.group.end()
	}
	if !hasWildcard(s.filter) {
		if top := t.exact[s.filter]; top.prune(s.share) {
			delete(t.exact, s.filter)
		}
		return
	}
	t.root.prune(s.filter, s.share)
}

// prune removes the empty group and reports whether the leaf holds nothing any more.
func (l *leaf) prune(share string) bool {
	if g := l.groups[share]; g != nil && len(g.subs) == 0 {
		delete(l.groups, share)
	}
	return len(l.subs) == 0 && len(l.groups) == 0
}

// prune removes what is empty along filter and reports whether the node itself is.
func (n *node) prune(filter, share string) bool {
	level, rest, more := strings.Cut(filter, "/")
	child := n.children[level]
	if more {
		if child.prune(rest, share) {
			delete(n.children, level)
		}
	} else {
		if child.leaf.prune(share) {
			child.leaf = nil
		}
		if child.leaf == nil && len(child.children) == 0 {
			delete(n.children, level)
		}
	}
	return len(n.children) == 0 && n.leaf == nil
}

// A hit is a session that gets a message, and how.
type hit struct {
	session     *session // nil: no member of the group is connected
	group       *group   // of a shared subscription
	qos         byte
	asPublished bool
	durable     bool // a member of the group may come back after a power cut
}

// hits are what match found. The caller frees them.
type hits struct {
	list  []hit
	seen  map[*session]int // index in list; used when several filters of a session may have matched
	leafs int
}

var hitsPool = sync.Pool{New: func() any { return &hits{} }}

func (h *hits) free() {
	if cap(h.list) > 1024 {
		return
	}
	clear(h.list)
	h.list, h.leafs = h.list[:0], 0
	clear(h.seen)
	hitsPool.Put(h)
}

// match returns the sessions that subscribe to topic, each once at the highest QoS of its filters, and one member of each group
// of shared subscriptions. from is the publisher's session: its No Local subscriptions are passed over.
func (t *tree) match(topic string, from *session) *hits {
	h := hitsPool.Get().(*hits)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l := t.exact[topic]; l != nil {
		h.add(l, from)
	}
	if len(t.root.children) > 0 {
		t.root.match(topic, topic[0] == '$', h, from)
	}
	return h
}

// match walks the levels of the rest of a topic. literal forbids wildcards at this level.
func (n *node) match(rest string, literal bool, h *hits, from *session) {
	level, deeper, more := strings.Cut(rest, "/")
	if !literal {
		if c := n.children["#"]; c != nil {
			h.add(c.leaf, from)
		}
		if c := n.children["+"]; c != nil {
			c.step(deeper, more, h, from)
		}
	}
	if c := n.children[level]; c != nil && level != "+" && level != "#" {
		c.step(deeper, more, h, from)
	}
}

func (n *node) step(deeper string, more bool, h *hits, from *session) {
	if more {
		n.match(deeper, false, h, from)
	} else if n.leaf != nil {
		h.add(n.leaf, from)
	}
}

func (h *hits) add(l *leaf, from *session) {
	if len(l.subs) > 0 {
		h.leafs++
		if h.leafs == 2 {
			h.index()
		}
	}
	for _, s := range l.subs {
		if s.noLocal && s.session == from {
			continue
		}
		if h.leafs > 1 {
			if i, ok := h.seen[s.session]; ok {
				h.list[i].qos = max(h.list[i].qos, s.qos)
				h.list[i].asPublished = h.list[i].asPublished || s.asPublished
				continue
			}
			h.seen[s.session] = len(h.list)
		}
		h.list = append(h.list, hit{session: s.session, qos: s.qos, asPublished: s.asPublished})
	}
	for _, g := range l.groups {
		hit := hit{group: g, durable: g.durable > 0} // a copy of its own, whatever else the member gets
		if s := g.member(); s != nil {
			hit.session, hit.qos, hit.asPublished = s.session, s.qos, s.asPublished
		}
		h.list = append(h.list, hit)
	}
}

// index notes the sessions of the first leaf. Members of groups are in the list too: noting them would merge their copies.
func (h *hits) index() {
	if h.seen == nil {
		h.seen = make(map[*session]int)
	}
	for i := range h.list {
		if h.list[i].group == nil {
			h.seen[h.list[i].session] = i
		}
	}
}
