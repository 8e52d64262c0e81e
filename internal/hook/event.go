package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/imprint-iot/imprint/internal/provision"
)

// event is the payload of a hook (provisioning spec 5), the same for every kind that is called.
type event struct {
	ClaimCertificateID string            `json:"claimCertificateId,omitempty"`
	CertificateID      string            `json:"certificateId"`
	CertificatePEM     string            `json:"certificatePem"`
	TemplateARN        string            `json:"templateArn"`
	ClientID           string            `json:"clientId"`
	Parameters         map[string]string `json:"parameters"`
	Trial              bool              `json:"imprintTrial,omitempty"` // ours: no device waits, the function should note nothing down
}

// payload writes an event as JSON.
func payload(e provision.HookEvent) []byte {
	params := e.Parameters
	if params == nil {
		params = map[string]string{}
	}
	b, err := json.Marshal(event{e.ClaimCertificateID, e.CertificateID, e.CertificatePEM, e.Scope.IoT("provisioningtemplate", e.TemplateName), e.ClientID, params, e.Trial})
	if err != nil {
		panic("hook: an event is JSON: " + err.Error()) // texts only
	}
	return b
}

// maxAnswer bounds the answer of a hook, in bytes. Parameters of a device have to fit into a message of 128 KiB anyway.
const maxAnswer = 64 << 10

var errAnswerTooLarge = wrong("its answer is larger than %d KiB", maxAnswer>>10)

// decide reads an answer: {"allowProvisioning": true, "parameterOverrides": {"name": "value"}}. Member names are exact, since another
// spelling would not have worked in AWS either, and a member that comes twice is an error.
func decide(body []byte) (a provision.HookAnswer, err error) {
	m, err := members(body)
	if err != nil {
		return a, wrong("its answer %w", err)
	}
	switch allow := m["allowProvisioning"]; {
	case allow == nil:
		return a, wrong("its answer has no allowProvisioning")
	case !isTrue(allow):
		return provision.HookAnswer{Reason: "allowProvisioning is not true"}, nil // overrides are ignored
	}
	overrides := map[string]string{}
	if raw := m["parameterOverrides"]; raw != nil && string(raw) != "null" {
		each, err := members(raw)
		if err != nil {
			return a, wrong("parameterOverrides %w", err)
		}
		for _, name := range slices.Sorted(maps.Keys(each)) {
			var v *string
			if json.Unmarshal(each[name], &v) != nil || v == nil {
				return a, wrong("the override %s is not text", clip(name))
			}
			overrides[name] = *v
		}
	}
	return provision.HookAnswer{Allow: true, Overrides: overrides}, nil
}

// isTrue takes the boolean and, since AWS's guide writes both, the text "true" in any case.
func isTrue(raw json.RawMessage) bool {
	var s string
	return string(raw) == "true" || json.Unmarshal(raw, &s) == nil && strings.EqualFold(s, "true")
}

// members reads a JSON object.
func members(doc []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	m := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("is not JSON")
		}
		name := t.(string) // what More announces in an object is a name
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("has the member %s twice", clip(name))
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, errors.New("is not JSON")
		}
		m[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("is not JSON")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("goes on after its JSON object")
	}
	return m, nil
}

// masked is a foreign text for a trace: short, on one line, without the values that were sent.
func (q request) masked(text string) string { return quoted(clip(q.withoutValues(text))) }

func quoted(text string) string { return fmt.Sprintf("%q", text) }

// withoutValues takes the values that were sent out of a text, as they are and as JSON has them.
func (q request) withoutValues(text string) string {
	var values []string
	for _, v := range q.hide {
		if len(v) >= 3 {
			values = append(values, v, escaped(v, false), escaped(v, true))
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, v := range values {
		text = strings.ReplaceAll(text, v, "…")
	}
	return text
}

// escaped is a text inside JSON, in ASCII alone as Python writes it or not.
func escaped(v string, ascii bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a text
	v = strings.Trim(strings.TrimSpace(b.String()), `"`)
	if !ascii {
		return v
	}
	b.Reset()
	for _, r := range v {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, u)
		}
	}
	return b.String()
}

const maxShown = 120 // bytes of a foreign text in a trace

func clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}
