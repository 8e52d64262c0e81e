package policy

import (
	"encoding/json"
	"slices"
	"strings"
)

// A Match is a statement that applies to a request.
type Match struct {
	Doc, Statement int // indices
	Effect         Effect
}

// Matches lists every statement of docs that applies to r, as Evaluate sees them, and what it lacked: condition keys that statements for the
// action and resource ask for and the context has no value of, variables without value among them.
func Matches(docs []Named, r Request) (list []Match, missing []string) {
	e := evaluation{request: r}
	for i := range docs {
		d := docs[i].Doc
		if d == nil {
			continue
		}
		e.kind = d.kind
		for j := range d.statements {
			st := &d.statements[j]
			e.effect = st.effect
			if st.matches(&e) != noMatch {
				list = append(list, Match{i, j, st.effect})
			}
			if !st.matchesAction(r.Action) || e.kind != Trust && !st.matchesResource(&e) {
				continue
			}
			for k := range st.conditions {
				if c := &st.conditions[k]; c.by != compareNull && !c.ifExists && len(r.Context[c.key]) == 0 {
					e.note(c.key)
				}
			}
		}
	}
	slices.Sort(e.missing)
	return list, slices.Compact(e.missing)
}

// A Position is a place in a document's text, both counted from 1.
type Position struct{ Line, Column int }

// Positions returns where the i-th statement begins, and where it ends: behind its closing brace.
func Positions(text string, i int) (start, end Position) {
	dec := json.NewDecoder(strings.NewReader(text))
	at := func(offset int) Position {
		before := text[:offset]
		return Position{1 + strings.Count(before, "\n"), offset - strings.LastIndexByte(before, '\n')}
	}
	if _, err := dec.Token(); err != nil {
		return
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return
		}
		if key != "Statement" {
			var skip json.RawMessage
			if dec.Decode(&skip) != nil {
				return
			}
			continue
		}
		from := int(dec.InputOffset())
		if rest := strings.TrimLeft(text[from:], ": \t\r\n"); strings.HasPrefix(rest, "[") {
			if _, err := dec.Token(); err != nil {
				return
			}
		} else if i > 0 {
			return
		}
		for n := 0; ; n++ {
			var statement json.RawMessage
			if dec.Decode(&statement) != nil {
				return
			}
			if last := int(dec.InputOffset()); n == i {
				return at(last - len(statement)), at(last)
			}
		}
	}
	return
}
