package bucket

import (
	"path"
	"strings"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// maxSegment is how long the name of a file may get, in bytes: with what describe.go and package durable put around it, it stays
// below 255.
const maxSegment = 230

// encodeKey returns the path of an object below its bucket. Most keys are their own path. A part between slashes that is no name of a file,
// or would mean something else, is written with percent signs: an empty one is "%", a dot at its begin %2E, a percent sign %25.
func encodeKey(key string) (string, error) {
	switch {
	case key == "":
		return "", fleet.Invalid("key", key, "A key must not be empty").WithCode("InvalidArgument")
	case len(key) > MaxKey:
		return "", tooLong("Your key is too long")
	case !utf8.ValidString(key):
		return "", fleet.Invalid("key", "", "A key must be UTF-8").WithCode("InvalidArgument")
	}
	var b strings.Builder
	for i, seg := range strings.Split(key, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		start := b.Len()
		encodeSegment(&b, seg)
		if b.Len()-start > maxSegment {
			return "", tooLong("Your key is too long: between slashes it may have 230 bytes, since it becomes the name of a file")
		}
	}
	return b.String(), nil
}

func tooLong(text string) error {
	return fleet.Invalid("key", "", "%s", text).WithCode("KeyTooLongError")
}

func encodeSegment(b *strings.Builder, seg string) {
	const digits = "0123456789ABCDEF"
	if seg == "" {
		b.WriteByte('%')
	}
	for i := range len(seg) {
		if c := seg[i]; c == '%' || c < 0x20 || c == 0x7f || c == '.' && i == 0 {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
}

// decodeSegment is the part of a key that a file or folder stands for; ok is false for what is none of ours, such as hidden files.
func decodeSegment(name string) (seg string, ok bool) {
	if name == "%" {
		return "", true
	}
	var out []byte
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' {
			if i+2 >= len(name) {
				return "", false
			}
			hi, lo := strings.IndexByte("0123456789ABCDEF", name[i+1]), strings.IndexByte("0123456789ABCDEF", name[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c, i = byte(hi<<4|lo), i+2
		}
		out = append(out, c)
	}
	var again strings.Builder
	encodeSegment(&again, string(out))
	return string(out), again.String() == name && utf8.Valid(out) && !strings.ContainsRune(string(out), '/')
}

// descriptionName is where the description of an object lies: beside it, hidden.
func descriptionName(object string) string {
	dir, name := path.Split(object)
	return dir + "." + name + ".meta"
}
