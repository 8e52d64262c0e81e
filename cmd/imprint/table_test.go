package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestKeysAreReadFromCSV(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, column, want, err string }{
		{"one in a line", "a\nb\r\n\n c \n", "1", "a|b|c", ""},
		{"a later column", "x,a\ny,b,z\n", "2", "a|b", ""},
		{"by name, after a byte order mark", "\ufeffserial,model\na,x\n", "serial", "a", ""},
		{"quoted", "\"a,b\"\n\"c\"\"d\"\n", "1", `a,b|c"d`, ""},
		{"empty fields", "a,1\n,2\nb,3\n", "1", "a|b", ""},
		{"no such name", "serial , model\n", "color", "", "no column color: it has serial, model"},
		{"too few columns", "a,b\nc\n", "2", "b", "line 2 has 1 columns"},
		{"a broken quote", "\"a\n", "1", "", "extraneous or missing"},
		{"nothing", "", "1", "", ""},
	} {
		r := newKeyReader(strings.NewReader(tt.text), tt.column)
		var keys []string
		var err error
		for {
			var key string
			if key, err = r.next(); err != nil {
				break
			}
			keys = append(keys, key)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if got := strings.Join(keys, "|"); got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
