package wire

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A route is a node of the tree of a restJson1 service's paths. Paths are split into segments before they are decoded, so that a
// name may hold an encoded slash, and nothing is ever cleaned away: two slashes are an empty name, ".." is a thing's name
// (identity spec 5.2). net/http's ServeMux does clean, hence this tree.
type route struct {
	literal map[string]*route
	label   *route
	greedy  []target // {name+}: the rest of the path
	ends    []target
}

type target struct {
	op     *Operation
	labels []string // names of the labels on the way
	query  url.Values
}

// newRoutes builds the tree. A path that is modelled with a slash at its end is known without it too (iot-core spec 1.2).
func newRoutes(ops []Operation) *route {
	root := &route{}
	for i := range ops {
		path, rawQuery, _ := strings.Cut(ops[i].URI, "?")
		query, err := url.ParseQuery(rawQuery)
		if err != nil {
			panic("wire: " + ops[i].Name + ": " + err.Error())
		}
		t := target{op: &ops[i], query: query}
		root.add(segments(path), t)
		if trimmed := strings.TrimSuffix(path, "/"); trimmed != path && trimmed != "" {
			root.add(segments(trimmed), t)
		}
	}
	return root
}

func segments(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

func (r *route) add(segs []string, t target) {
	for _, seg := range segs {
		name, isLabel := strings.CutPrefix(seg, "{")
		if !isLabel {
			if r.literal == nil {
				r.literal = map[string]*route{}
			}
			if r.literal[seg] == nil {
				r.literal[seg] = &route{}
			}
			r = r.literal[seg]
			continue
		}
		name = strings.TrimSuffix(name, "}")
		if rest, ok := strings.CutSuffix(name, "+"); ok {
			t.labels = append(t.labels, rest)
			r.greedy = append(r.greedy, t)
			return
		}
		t.labels = append(t.labels, name)
		if r.label == nil {
			r.label = &route{}
		}
		r = r.label
	}
	r.ends = append(r.ends, t)
}

// A match is what a path and method lead to.
type match struct {
	op     *Operation
	labels map[string]string
	known  bool // the path exists, if perhaps for other methods
}

// find looks a request up. Literal segments win over labels, labels over greedy ones.
func (r *route) find(method, path string, query url.Values) match {
	m := match{}
	raw := segments(path)
	r.walk(method, raw, query, nil, &m)
	return m
}

func (r *route) walk(method string, raw []string, query url.Values, labels []string, m *match) bool {
	if len(raw) == 0 {
		return m.choose(r.ends, method, query, labels)
	}
	seg, err := url.PathUnescape(raw[0])
	if err != nil {
		return false
	}
	if next := r.literal[seg]; next != nil && next.walk(method, raw[1:], query, labels, m) {
		return true
	}
	if r.label != nil && r.label.walk(method, raw[1:], query, append(labels, seg), m) {
		return true
	}
	if len(r.greedy) == 0 {
		return false
	}
	rest, err := url.PathUnescape(strings.Join(raw, "/"))
	return err == nil && m.choose(r.greedy, method, query, append(labels, rest))
}

// choose takes the operation with the right method, those first that want a particular query.
func (m *match) choose(ts []target, method string, query url.Values, labels []string) bool {
	for _, strict := range []bool{true, false} {
		for _, t := range ts {
			if (len(t.query) > 0) != strict || !wants(t.query, query) {
				continue
			}
			m.known = true
			if t.op.Method != method && !(method == http.MethodHead && t.op.Method == http.MethodGet) {
				continue
			}
			m.op, m.labels = t.op, map[string]string{}
			for i, name := range t.labels {
				m.labels[name] = labels[i]
			}
			return true
		}
	}
	return false
}

func wants(fixed, query url.Values) bool {
	for k, v := range fixed {
		if !slices.Equal(query[k], v) {
			return false
		}
	}
	return true
}
