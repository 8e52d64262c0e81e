package cbor

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	fx "github.com/fxamacker/cbor/v2"
)

func TestWhatIsWrittenIsReadByAnotherLibrary(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 70000)
	in := Map{"certificateOwnershipToken": long, "parameters": map[string]string{"b": "", "a": "ü"}, "empty": Map{}, "n": 65536}
	b := AppendMap([]byte{}, in)
	var out map[string]any
	if err := fx.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"certificateOwnershipToken": long, "parameters": map[any]any{"a": "ü", "b": ""}, "empty": map[any]any{}, "n": uint64(65536)}
	if !reflect.DeepEqual(out, want) {
		t.Errorf("%v", out)
	}
	ours, err := Decode(b)
	if err != nil || ours["certificateOwnershipToken"] != long || !reflect.DeepEqual(ours["parameters"], Map{"a": "ü", "b": ""}) || ours["n"] != int64(65536) {
		t.Errorf("%v, %v", ours, err)
	}
}

func TestItemsOfEveryKindAreRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		hex  string
		want any
	}{
		"a small number":            {"17", int64(23)},
		"a number of one byte":      {"1818", int64(24)},
		"a number of eight bytes":   {"1b000000e8d4a51000", int64(1000000000000)},
		"a negative number":         {"3863", int64(-100)},
		"a text":                    {"6449455446", "IETF"},
		"a text in chunks":          {"7f657374726561646d696e67ff", "streaming"},
		"bytes":                     {"4401020304", "\x01\x02\x03\x04"},
		"a list":                    {"83010203", []any{int64(1), int64(2), int64(3)}},
		"a list of unknown length":  {"9f0102ff", []any{int64(1), int64(2)}},
		"a map":                     {"a161616162", Map{"a": "b"}},
		"a map of unknown length":   {"bf616101ff", Map{"a": int64(1)}},
		"a tagged text":             {"c06161", "a"},
		"false":                     {"f4", false},
		"true":                      {"f5", true},
		"null":                      {"f6", nil},
		"a number with a fraction":  {"fb3ff199999999999a", 1.1},
		"a short one with fraction": {"fa47c35000", 100000.0},
	} {
		b, err := hex.DecodeString("a16178" + tt.hex)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Decode(b)
		if err != nil || !reflect.DeepEqual(m["x"], tt.want) {
			t.Errorf("%s: %#v, %v", name, m["x"], err)
		}
	}
}

func TestWhatIsNoMapIsRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "a text": "6161", "half a map": "a16161", "more than a map": "a000", "a key that is no text": "a10102",
		"a key twice": "a2616101616102", "a length beyond the end": "a161617affffffff", "a huge map": "bbffffffffffffffff",
		"text that is not UTF-8": "a1616161ff", "a break without a start": "a16161ff", "a chunk of another kind": "a161617f4161ff",
		"a number beyond 63 bits": "a161611bffffffffffffffff", "reserved information": "a161611c", "a number of unknown length": "a161611f",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := Decode(b); err == nil {
			t.Errorf("%s: read as %v", name, m)
		}
	}
	if _, err := Decode(bytes.Repeat([]byte{0xa1, 0x61, 0x61}, 100)); err == nil {
		t.Error("a hundred maps in each other are read")
	}
	if _, err := Decode(append([]byte{0xa1, 0x61, 0x61, 0x9f}, bytes.Repeat([]byte{0}, 10000)...)); err == nil {
		t.Error("a list of ten thousand is read")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(AppendMap(nil, Map{"statusCode": 400, "deviceConfiguration": map[string]string{"a": "b"}}))
	f.Add([]byte{0xbf, 0x7f, 0x61, 'a', 0xff, 0x9f, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if err := fx.Wellformed(b); err != nil && !strings.Contains(err.Error(), "max") {
			t.Fatalf("read as %v, but: %v", m, err)
		}
	})
}
