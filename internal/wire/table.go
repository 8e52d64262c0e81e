package wire

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Row is one implemented operation of a service, made by Do.
type Row interface{ entry() *row }

// An Op is a Row that is still being described. Its methods return it, so that a table reads
//
//	wire.Do("CreateThing", a.createThing).On(thingARN),
type Op[In, Out any] struct{ row row }

type row struct {
	name         string
	in, out      reflect.Type // structs
	newIn        func() any   // *In
	call         func(ctx context.Context, in any) (any, error)
	resources    func(s fleet.Scope, in any) []string
	anyOf        bool
	conditions   func(s fleet.Scope, in any) map[string][]string
	public       bool
	noPermission bool
	action       string
	refused      []string
	maxBody      int64
	lasts        time.Duration
	op           *Operation
	input        func() *plan // worked out when it is first asked
	output       func() *plan
}

// Do ties a handler to an operation. Without further words the operation wants a signed request whose caller IAM lets do
// prefix:name on the resource "*". A handler may return nil for an output without members.
func Do[In, Out any](name string, handler func(context.Context, *In) (*Out, error)) *Op[In, Out] {
	return &Op[In, Out]{row{
		name: name, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](),
		newIn: func() any { return new(In) },
		call: func(ctx context.Context, in any) (any, error) {
			out, err := handler(ctx, in.(*In))
			if out == nil {
				out = new(Out)
			}
			return out, err
		},
	}}
}

func (o *Op[In, Out]) entry() *row { return &o.row }

// On names the resources that the request touches, as ARNs in the caller's scope; the caller needs the action on every one.
func (o *Op[In, Out]) On(f func(fleet.Scope, *In) []string) *Op[In, Out] {
	o.row.resources = func(s fleet.Scope, in any) []string { return f(s, in.(*In)) }
	return o
}

// OnAny is On for actions that older policies know on "*" only and newer ones on the resource (identity spec 4.4): "*" and the
// named ARNs are alternatives. One allowed resource suffices, an explicit denial of any refuses.
func (o *Op[In, Out]) OnAny(f func(fleet.Scope, *In) []string) *Op[In, Out] {
	o.row.anyOf = true
	return o.On(func(s fleet.Scope, in *In) []string { return append([]string{"*"}, f(s, in)...) })
}

// Conditions gives context keys that only the request knows, for example aws:RequestTag/team, to IAM's decision.
func (o *Op[In, Out]) Conditions(f func(fleet.Scope, *In) map[string][]string) *Op[In, Out] {
	o.row.conditions = func(s fleet.Scope, in any) map[string][]string { return f(s, in.(*In)) }
	return o
}

// Action names the IAM action where it is not the operation's own, without the service prefix.
func (o *Op[In, Out]) Action(name string) *Op[In, Out] { o.row.action = name; return o }

// Public marks an operation that takes unsigned requests. It must agree with the model.
func (o *Op[In, Out]) Public() *Op[In, Out] { o.row.public = true; return o }

// NoPermission marks an operation that every signed caller may use.
func (o *Op[In, Out]) NoPermission() *Op[In, Out] { o.row.noPermission = true; return o }

// Refuse lists input members, by their Go field names, that this version does not offer; those of structures within as
// "Member.Nested", lists being passed through: a request that sets one is refused with
// a sentence that says so, instead of being obeyed in part.
func (o *Op[In, Out]) Refuse(fields ...string) *Op[In, Out] {
	o.row.refused = append(o.row.refused, fields...)
	return o
}

// Body lets a request have up to max bytes, where that is more than the frontend's MaxBody, and time to arrive.
func (o *Op[In, Out]) Body(max int64) *Op[In, Out] { o.row.maxBody = max; return o }

// Lasts says how long the operation may take, where that is longer than other answers.
func (o *Op[In, Out]) Lasts(d time.Duration) *Op[In, Out] { o.row.lasts = d; return o }

// An Access is what IAM decides on.
type Access struct {
	Action     string              // "iot:CreateThing"
	Resources  []string            // ARNs, or "*" alone
	AnyOf      bool                // one allowed resource suffices; otherwise all must be allowed
	Conditions map[string][]string // context keys of the request itself
}

// An ErrorTable translates kinds of errors to a service's codes. A fleet.Error's own Code wins over it. What a table lacks falls
// back to the protocol's common codes (errors.go).
type ErrorTable map[fleet.Kind]string

// A Service is a Model with the operations that are implemented.
type Service struct {
	*Model
	rows   map[string]*row
	ops    map[string]*Operation
	errors ErrorTable
	routes *route // restJson1
	codec  *codec
}

// NewService joins a generated model and a table of rows. It panics when the table does not fit the model, since both are part
// of the program: an unknown or doubled operation, a Public that the model contradicts, an unknown member. What an operation's tags
// say is worked out when it is first asked for: a service has hundreds of types.
func NewService(m Model, rows []Row, errors ErrorTable) *Service {
	s := &Service{Model: &m, rows: map[string]*row{}, ops: map[string]*Operation{}, errors: errors, codec: newCodec(m.Shapes)}
	for i := range m.Operations {
		s.ops[m.Operations[i].Name] = &m.Operations[i]
	}
	if m.Protocol == RESTJSON {
		s.routes = newRoutes(m.Operations)
	}
	for _, r := range rows {
		s.add(r.entry())
	}
	return s
}

func (s *Service) add(r *row) {
	bad := func(format string, args ...any) {
		panic("wire: " + s.Name() + " " + r.name + ": " + fmt.Sprintf(format, args...))
	}
	r.op = s.ops[r.name]
	switch {
	case r.op == nil:
		bad("the model has no such operation")
	case s.rows[r.name] != nil:
		bad("it has two rows")
	case r.public != r.op.Unsigned:
		bad("the row says public: %t, the model says unsigned: %t", r.public, r.op.Unsigned)
	}
	for _, f := range r.refused {
		if !has(r.in, strings.Split(f, ".")) {
			bad("refused member %s is no field of %s", f, r.in)
		}
	}
	if r.action == "" {
		r.action = r.name
	}
	prefix := s.ActionPrefix
	if prefix == "" {
		prefix = s.Name()
	}
	r.action = prefix + ":" + r.action
	r.input = sync.OnceValue(func() *plan { return s.codec.plan(r.in, "") })
	r.output = sync.OnceValue(func() *plan { return s.codec.plan(r.out, "") })
	s.rows[r.name] = r
}

// has reports whether a structure has the member at the end of a path, see Refuse.
func has(t reflect.Type, path []string) bool {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if len(path) == 0 || t.Kind() != reflect.Struct {
		return len(path) == 0
	}
	f, ok := t.FieldByName(path[0])
	return ok && has(f.Type, path[1:])
}

// access is the question to IAM for a request of caller c.
func (r *row) access(s fleet.Scope, in any) Access {
	a := Access{Action: r.action, Resources: []string{"*"}, AnyOf: r.anyOf}
	if r.resources != nil {
		if rs := r.resources(s, in); len(rs) > 0 {
			a.Resources = rs
		}
	}
	if r.conditions != nil {
		a.Conditions = r.conditions(s, in)
	}
	return a
}
