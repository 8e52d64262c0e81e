package wire

import (
	"reflect"
	"testing"
)

// TestDocuments: any JSON travels as it is, in and out, and nothing else does.
func TestDocuments(t *testing.T) {
	t.Parallel()
	type record struct {
		Document Document `wire:"Document,required"`
	}
	c := newCodec(nil)
	p := c.plan(reflect.TypeFor[record](), "")
	for in, want := range map[string]string{
		`{"Document":{"b":[1,-2.50,1e3,"ü\u0000\"",true,null,{}],"a":null}}`: `{"Document":{"a":null,"b":[1,-2.50,1e3,"ü\u0000\"",true,null,{}]}}`,
		`{"Document":"text"}`: `{"Document":"text"}`,
		`{"Document":false}`:  `{"Document":false}`,
		`{"Document":[]}`:     `{"Document":[]}`,
		`{"Document":null}`:   "",
		`{}`:                  "",
	} {
		tree, err := parseJSON([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		var r record
		var b binder
		v := reflect.ValueOf(&r).Elem()
		b.bind(p, v, tree, "")
		if err := b.failure("InvalidParameterException"); (err == nil) != (want != "") {
			t.Errorf("%s: %v", in, err)
		} else if err == nil && string(appendJSON(nil, p, v, nil)) != want {
			t.Errorf("%s becomes %s", in, appendJSON(nil, p, v, nil))
		}
	}
	for _, tree := range []any{text("x"), []byte("x"), int64(1), map[string]any{"x": long("x")}, []any{1.5}} {
		if _, ok := documentOf(tree); ok {
			t.Errorf("%T is a document", tree)
		}
	}
}
