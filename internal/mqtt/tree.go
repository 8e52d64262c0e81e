package mqtt

import (
	"math/rand/v2"
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

	leaf *leaf // where it hangs in the tree, and at which place
	at   int
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
	groups map[string]*leaf // shared subscriptions by share name
}

func (t *tree) init() { t.exact = make(map[string]*leaf) }

// add hangs a subscription into the tree.
func (t *tree) add(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaf(s.filter)
	if s.share != "" {
		l = l.group(s.share)
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

func (l *leaf) group(name string) *leaf {
	g := l.groups[name]
	if g == nil {
		if l.groups == nil {
			l.groups = make(map[string]*leaf)
		}
		g = &leaf{}
		l.groups[name] = g
	}
	return g
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
	if last > 0 {
		return
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
	session     *session
	qos         byte
	asPublished bool
	shared      bool
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
		if s := g.member(); s != nil {
			h.list = append(h.list, hit{s.session, s.qos, s.asPublished, true}) // a copy of its own, whatever else the session gets
		}
	}
}

// index notes the sessions of the first leaf. Members of groups are in the list too: noting them would merge their copies.
func (h *hits) index() {
	if h.seen == nil {
		h.seen = make(map[*session]int)
	}
	for i := range h.list {
		if !h.list[i].shared {
			h.seen[h.list[i].session] = i
		}
	}
}

// member picks who gets the group's message: a random member that is connected, else any (iot-core spec 6.13).
func (l *leaf) member() *subscription {
	if len(l.subs) == 0 {
		return nil
	}
	first := rand.IntN(len(l.subs))
	for i := range l.subs {
		if s := l.subs[(first+i)%len(l.subs)]; s.session.online.Load() {
			return s
		}
	}
	return l.subs[first]
}
