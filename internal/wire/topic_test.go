package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
)

type registerRequest struct {
	Token      *fleet.Secret     `wire:"certificateOwnershipToken"`
	Parameters map[string]string `wire:"parameters"`
	Count      *int              `wire:"count"`
}

type registerAnswer struct {
	Configuration map[string]string `wire:"deviceConfiguration,required"`
	ThingName     *string           `wire:"thingName"`
	Status        int               `wire:"statusCode,required"`
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestTopicAnswersAreSmallAndDefinite(t *testing.T) {
	t.Parallel()
	v := registerAnswer{ThingName: new("t1"), Status: 200}
	got, err := EncodeTopic(JSON, &v)
	if want := `{"deviceConfiguration":{},"thingName":"t1","statusCode":200}`; string(got) != want || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	got, err = EncodeTopic(CBOR, v)
	want := unhex("a3 69 7468696e674e616d65 62 7431 6a 737461747573436f6465 18c8 73 646576696365436f6e66696775726174696f6e a0")
	if !bytes.Equal(got, want) || err != nil {
		t.Errorf("got %x, %v", got, err)
	}
}

func TestTopicRequestsOfBothFormats(t *testing.T) {
	t.Parallel()
	token := fleet.Secret("tok")
	full := registerRequest{Token: &token, Parameters: map[string]string{"k": "v"}, Count: new(7)}
	for name, c := range map[string]struct {
		format Format
		data   []byte
		want   registerRequest
	}{
		"nothing as JSON":          {JSON, nil, registerRequest{}},
		"nothing as CBOR":          {CBOR, nil, registerRequest{}},
		"an empty object":          {JSON, []byte(" {}\n"), registerRequest{}},
		"an empty map":             {CBOR, unhex("a0"), registerRequest{}},
		"everything":               {JSON, []byte(`{"certificateOwnershipToken":"tok","parameters":{"k":"v"},"count":7,"junk":[1]}`), full},
		"everything in CBOR":       {CBOR, unhex("a4 7819 63657274696669636174654f776e657273686970546f6b656e 63 746f6b 6a 706172616d6574657273 a1 616b 6176 65 636f756e74 07 64 6a756e6b 81 01"), full},
		"indefinite lengths":       {CBOR, unhex("bf 6a 706172616d6574657273 bf 7f 616b ff 6176 ff ff"), registerRequest{Parameters: map[string]string{"k": "v"}}},
		"null is absent":           {JSON, []byte(`{"parameters":null,"count":null}`), registerRequest{}},
		"a null in CBOR is absent": {CBOR, unhex("a1 65 636f756e74 f6"), registerRequest{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got registerRequest
			if err := DecodeTopic(c.format, c.data, &got); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestTopicRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		format Format
		data   []byte
	}{
		"no JSON":                   {JSON, []byte("{")},
		"a JSON list":               {JSON, []byte("[]")},
		"a number as parameter":     {JSON, []byte(`{"parameters":{"k":1}}`)},
		"a doubled JSON name":       {JSON, []byte(`{"count":1,"count":2}`)},
		"no CBOR":                   {CBOR, unhex("ff")},
		"a CBOR list":               {CBOR, unhex("80")},
		"a doubled CBOR key":        {CBOR, unhex("a2 6161 01 6161 02")},
		"a key that is no text":     {CBOR, unhex("a1 01 02")},
		"a tag":                     {CBOR, unhex("a1 6161 c0 6161")},
		"two items":                 {CBOR, unhex("a0 a0")},
		"text that is no UTF-8":     {CBOR, unhex("a1 6161 61ff")},
		"a number of CBOR":          {CBOR, unhex("a1 6a 706172616d6574657273 a1 616b 01")},
		"a deep nest":               {CBOR, append(bytes.Repeat([]byte{0x81}, 100), 0x00)},
		"a deep JSON nest":          {JSON, []byte(`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "}")},
		"a promise of many pairs":   {CBOR, unhex("bb 00000000ffffffff")},
		"more than a message holds": {JSON, bytes.Repeat([]byte(" "), MaxTopicPayload+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *fleet.Error
			err := DecodeTopic(c.format, c.data, new(registerRequest))
			if !errors.As(err, &e) || e.Kind != fleet.KindInvalid || e.Code != "InvalidParameters" {
				t.Errorf("got %v", err)
			}
		})
	}
}
