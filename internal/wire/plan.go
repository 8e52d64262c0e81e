package wire

import "reflect"

type codec struct{}
type plan struct{}
type route struct{}

func newCodec(map[string]Shape) *codec                   { return &codec{} }
func (c *codec) plan(t reflect.Type, shape string) *plan { return nil }
func newRoutes([]Operation) *route                       { return nil }
