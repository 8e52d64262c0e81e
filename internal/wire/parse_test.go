package wire

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

type uploadInput struct {
	Name string `wire:"Name"`
	Code struct {
		ZipFile []byte `wire:"ZipFile"`
	} `wire:"Code"`
}

var uploadPlan = newCodec(nil).plan(reflect.TypeFor[uploadInput](), "")

// An upload is in memory once, as it came. Not in parallel: what others allocate would count.
func TestALongBlobIsDecodedWhereItStands(t *testing.T) {
	blob := bytes.Repeat([]byte("a megabyte and some more "), 2<<20/25)
	for name, encode := range map[string]func(string) string{
		"plain":   func(s string) string { return s },
		"escaped": func(s string) string { return strings.ReplaceAll(s, "A", `\u0041`) }, // PHP does so with slashes
		"lines":   func(s string) string { return s[:76] + `\r\n` + s[76:] },
	} {
		body := []byte(`{"Name":"n","Code":{"ZipFile":"` + encode(base64.StdEncoding.EncodeToString(blob)) + `"}}`)
		var in uploadInput
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := parseJSON(body)
		if err != nil {
			t.Fatal(err)
		}
		b := &binder{}
		b.bind(uploadPlan, reflect.ValueOf(&in).Elem(), n, "")
		runtime.ReadMemStats(&after)
		if err := b.failure("X"); err != nil || in.Name != "n" || !bytes.Equal(in.Code.ZipFile, blob) {
			t.Errorf("%s: %v, %d bytes", name, err, len(in.Code.ZipFile))
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 256<<10 {
			t.Errorf("%s: %d bytes were allocated to read %d", name, took, len(body))
		}
	}
}

// As text, and where something else is wanted, a long string is a string.
func TestALongTextIsText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", longText+1)
	for _, c := range []struct{ body, want string }{
		{`{"Name":"` + long + `"}`, ""},
		{`{"Code":"` + long + `"}`, "code must be an object, found a string"},
		{`{"Code":{"ZipFile":"` + strings.Repeat("!", longText+1) + `"}}`, "code.zipFile must be base64 data, found a string"},
		{`{"Code":{"ZipFile":"` + strings.Repeat("YQ==", longText) + `"}}`, "code.zipFile must be base64 data, found a string"},
	} {
		var in uploadInput
		n, err := parseJSON([]byte(c.body))
		if err != nil {
			t.Fatal(err)
		}
		b := &binder{}
		b.bind(uploadPlan, reflect.ValueOf(&in).Elem(), n, "")
		switch err := b.failure("X"); {
		case c.want == "" && (err != nil || in.Name != long):
			t.Errorf("%v, %d bytes", err, len(in.Name))
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// What is nested takes memory, too: a map for each level. Not in parallel: what others allocate would count.
func TestNestedParametersCountByLevel(t *testing.T) {
	var body strings.Builder
	for i := range 10_000 { // 0.7 MB
		fmt.Fprintf(&body, "%d%s=&", i, strings.Repeat(".", maxDepth-1))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parseForm(body.String())
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; fleet.KindOf(err) != fleet.KindInvalid || took > 64<<20 {
		t.Errorf("%v, after %d MiB", err, took>>20)
	}
}
