package wire

import (
	"maps"
	"reflect"
	"slices"
)

// Coverage says which operations of a service are implemented, for the compatibility page and its tests.
type Coverage struct {
	Service     string   // "cognito-idp"
	ID          string   // "Cognito Identity Provider"
	Modelled    []string // all operations of the model, sorted
	Implemented []Implemented
}

// Implemented is an operation that has a row.
type Implemented struct {
	Operation string
	Input     reflect.Type // the generated struct
	Refused   []string     // Go names of input members that are refused
	Public    bool
	Action    string // IAM action
}

// Implements reports whether an operation has a row.
func (s *Service) Implements(operation string) bool { return s.rows[operation] != nil }

// Coverage lists the service's operations. It panics when a type of one can't travel.
func (s *Service) Coverage() Coverage {
	c := Coverage{Service: s.Name(), ID: s.ID, Modelled: slices.Sorted(maps.Keys(s.ops))}
	for _, name := range slices.Sorted(maps.Keys(s.rows)) {
		r := s.rows[name]
		r.input()
		r.output()
		c.Implemented = append(c.Implemented, Implemented{name, r.in, slices.Clone(r.refused), r.public, r.action})
	}
	return c
}
