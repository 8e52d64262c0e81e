package wire

import (
	"reflect"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Format is how a payload on a reserved MQTT topic is written; the topic's last level names it.
type Format string

const (
	JSON Format = "json"
	CBOR Format = "cbor"
)

// MaxTopicPayload bounds what DecodeTopic reads: the broker's own bound of a message (provisioning spec 3.2).
const MaxTopicPayload = 128 << 10

// topics plans the structs of reserved topics. They carry the same tags as generated ones, without shapes.
var topics = newCodec(nil)

var (
	cborIn  = must(cborOptions.DecMode())
	cborOut = must(cbor.CoreDetEncOptions().EncMode()) // definite lengths, sorted keys: small parsers want it (provisioning spec 3.9)
)

var cborOptions = cbor.DecOptions{
	DupMapKey:        cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:  16,
	MaxArrayElements: 4096,
	MaxMapPairs:      4096,
	IndefLength:      cbor.IndefLengthAllowed,
	TagsMd:           cbor.TagsForbidden,
	UTF8:             cbor.UTF8RejectInvalid,
	DefaultMapType:   reflect.TypeFor[map[string]any](),
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// EncodeTopic writes v, a struct or a pointer to one with wire tags, as one JSON or CBOR map without absent members.
func EncodeTopic(f Format, v any) ([]byte, error) {
	rv := reflect.Indirect(reflect.ValueOf(v))
	p := topics.plan(rv.Type(), "")
	if f == JSON {
		return appendJSON(nil, p, rv, nil), nil
	}
	return cborOut.Marshal(tree(p, rv))
}

// DecodeTopic reads a payload into v, a pointer to a struct with wire tags. Nothing at all reads as an empty object, and unknown
// members are ignored. Errors have kind fleet.KindInvalid and code InvalidParameters.
func DecodeTopic(f Format, data []byte, v any) error {
	rv := reflect.ValueOf(v).Elem()
	p := topics.plan(rv.Type(), "")
	n, err := parseTopic(f, data)
	if err != nil {
		return fleet.Invalid("", "", "%s", "The payload cannot be read: "+err.Error()).WithCode(topicCode)
	}
	b := &binder{}
	b.bind(p, rv, n, "")
	if err, ok := b.failure(topicCode).(*fleet.Error); ok {
		return err.WithCode(topicCode)
	}
	return nil
}

const topicCode = "InvalidParameters"

func parseTopic(f Format, data []byte) (any, error) {
	if len(data) > MaxTopicPayload {
		return nil, serialization("It is larger than %d bytes", MaxTopicPayload)
	}
	if len(data) == 0 {
		return map[string]any{}, nil
	}
	if f == JSON {
		return jsonObject(data)
	}
	var n any
	err := cborIn.Unmarshal(data, &n)
	return n, err
}

// tree is the inverse of bind, for CBOR.
func tree(p *plan, v reflect.Value) any {
	v, _ = p.deref(v)
	switch p.kind {
	case kStruct:
		m := map[string]any{}
		for i := range p.fields {
			f := &p.fields[i]
			if _, present := f.deref(v.Field(f.index)); present || f.required && !f.ptr {
				m[f.name] = tree(f.plan, v.Field(f.index))
			}
		}
		return m
	case kList:
		l := make([]any, v.Len())
		for i := range l {
			l[i] = tree(p.elem, v.Index(i))
		}
		return l
	case kMap:
		m := map[string]any{}
		for k, e := range v.Seq2() {
			m[k.String()] = tree(p.elem, e)
		}
		return m
	case kTime:
		return v.Interface().(time.Time).Unix()
	case kString:
		return v.String()
	case kInt:
		return v.Int()
	case kFloat:
		return v.Float()
	case kBool:
		return v.Bool()
	}
	return v.Bytes()
}
