package mqtt

import (
	"iter"
	"slices"
	"strings"
)

// An order holds topics by name, in pieces of bounded length: what is added moves few others, and a page of many costs what is on it.
type order struct{ pieces [][]string }

const longestPiece = 512

// find returns the piece that has a topic or would have it, and its place in there.
func (o *order) find(topic string) (piece, at int, there bool) {
	piece, there = slices.BinarySearchFunc(o.pieces, topic, func(p []string, topic string) int { return strings.Compare(p[0], topic) })
	if there || len(o.pieces) == 0 {
		return piece, 0, there
	}
	piece = max(piece-1, 0)
	at, there = slices.BinarySearch(o.pieces[piece], topic)
	return piece, at, there
}

func (o *order) add(topic string) {
	i, at, there := o.find(topic)
	switch {
	case there:
		return
	case len(o.pieces) == 0:
		o.pieces = [][]string{{topic}}
		return
	}
	p := slices.Insert(o.pieces[i], at, topic)
	if half := len(p) / 2; len(p) > longestPiece {
		o.pieces = slices.Insert(o.pieces, i+1, slices.Clone(p[half:]))
		clear(p[half:])
		p = p[:half]
	}
	o.pieces[i] = p
}

func (o *order) remove(topic string) {
	i, at, there := o.find(topic)
	if !there {
		return
	}
	if o.pieces[i] = slices.Delete(o.pieces[i], at, at+1); len(o.pieces[i]) == 0 {
		o.pieces = slices.Delete(o.pieces, i, i+1)
	}
}

// behind yields the topics behind one.
func (o *order) behind(topic string) iter.Seq[string] {
	return func(yield func(string) bool) {
		i, at, there := o.find(topic)
		if there {
			at++
		}
		for ; i < len(o.pieces); i, at = i+1, 0 {
			for _, t := range o.pieces[i][at:] {
				if !yield(t) {
					return
				}
			}
		}
	}
}
