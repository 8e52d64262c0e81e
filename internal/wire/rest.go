package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// A message is a request as the protocols see it.
type message struct {
	http   *http.Request
	path   string            // raw, as received
	query  string            // raw
	labels map[string]string // restJson1: decoded path labels
	body   []byte
}

// decode reads an operation's input from m and checks it.
func (s *Service) decode(r *row, m *message) (any, error) {
	in := r.newIn()
	v := reflect.ValueOf(in).Elem()
	b := &binder{}
	var err error
	switch s.Protocol {
	case RESTJSON:
		err = b.bindREST(r.input(), v, m)
	case JSON11:
		var n any = map[string]any{}
		if len(m.body) > 0 {
			n, err = parseJSON(m.body)
		}
		if err == nil {
			b.bind(r.input(), v, n, "")
		}
	case Query:
		var f form
		if f, err = parseForm(m.query, formBody(m)); err == nil {
			b.bind(r.input(), v, f, "")
		}
	}
	if err != nil {
		return nil, err
	}
	if err := b.failure(s.ValidationCode); err != nil {
		return nil, err
	}
	return in, nil
}

// formBody is the body of a form; a GET request has none.
func formBody(m *message) string {
	if m.http.Method == http.MethodGet {
		return ""
	}
	return string(m.body)
}

func (b *binder) bindREST(p *plan, v reflect.Value, m *message) error {
	query, err := parseQuery(m.query)
	if err != nil {
		return err
	}
	var body map[string]any
	if p.body {
		if body, err = jsonObject(m.body); err != nil {
			return err
		}
	}
	for i := range p.fields {
		f := &p.fields[i]
		n, err := m.member(f, query, body)
		if err != nil {
			return err
		}
		b.bindField(f, v.Field(f.index), n, f.path)
	}
	return nil
}

// member finds a field's value where the field travels; nil if it is absent.
func (m *message) member(f *field, query map[string][]string, body map[string]any) (any, error) {
	switch f.location {
	case "uri":
		if l, ok := m.labels[f.name]; ok {
			return text(l), nil
		}
	case "querystring":
		return queryMember(f, query[f.name])
	case "header":
		return headerMember(f, m.http.Header.Values(f.name))
	case "payload":
		return payloadMember(f, m.body)
	case "":
		return body[f.name], nil
	}
	return nil, nil
}

func queryMember(f *field, values []string) (any, error) {
	switch {
	case len(values) == 0:
		return nil, nil
	case f.kind == kList:
		list := make([]any, len(values))
		for i, s := range values {
			list[i] = text(s)
		}
		return list, nil
	case len(values) > 1:
		return nil, serialization("Query parameter %s is given twice", f.name)
	case values[0] == "" && f.kind != kString:
		return nil, nil // ?maxResults=
	}
	return text(values[0]), nil
}

func headerMember(f *field, values []string) (any, error) {
	if len(values) == 0 {
		return nil, nil
	}
	s := strings.Join(values, ",")
	if f.jsonValue {
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil || !json.Valid(raw) {
			return nil, serialization("Header %s must be base64 of JSON", f.name)
		}
		s = string(raw)
	}
	return text(s), nil
}

func payloadMember(f *field, body []byte) (any, error) {
	if len(body) == 0 {
		return nil, nil
	}
	switch f.kind {
	case kBlob:
		return body, nil
	case kString:
		return text(body), nil
	}
	return jsonObject(body)
}

// jsonObject reads a body that is a JSON object; an empty body is an empty one (iot-core spec 1.2).
func jsonObject(body []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return map[string]any{}, nil
	}
	n, err := parseJSON(body)
	if err != nil {
		return nil, err
	}
	obj, ok := n.(map[string]any)
	if !ok {
		return nil, serialization("The body must be a JSON object")
	}
	return obj, nil
}

// parseQuery splits a query string; both %20 and + are spaces in it.
func parseQuery(raw string) (map[string][]string, error) {
	if strings.Count(raw, "&") > maxValues {
		return nil, serialization("The request has more than %d parameters", maxValues)
	}
	all := map[string][]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		value, err2 := url.QueryUnescape(v)
		if err != nil || err2 != nil {
			return nil, serialization("The query string is not percent-encoded as it should be")
		}
		if key != "" {
			all[key] = append(all[key], value)
		}
	}
	return all, nil
}

// restResponse writes the headers of a restJson1 answer and returns its status and body.
func restResponse(h http.Header, op *Operation, p *plan, v reflect.Value) (status int, body []byte) {
	status = op.Status
	for i := range p.fields {
		f := &p.fields[i]
		fv, present := f.deref(v.Field(f.index))
		if !present {
			continue
		}
		switch f.location {
		case "header":
			h.Set(f.name, headerText(scalarText(f.plan, fv, "rfc822")))
		case "statusCode":
			status = int(fv.Int())
		}
	}
	if status == 0 {
		status = http.StatusOK
	}
	switch {
	case status == http.StatusNoContent:
		return status, nil
	case p.raw != nil:
		return status, rawBody(h, p.raw, v.Field(p.raw.index))
	case op.NoOutput:
		return status, nil
	}
	h.Set("Content-Type", "application/json")
	return status, appendJSON(nil, p, v, func(f *field) bool { return f.location == "" })
}

func rawBody(h http.Header, f *field, v reflect.Value) []byte {
	contentType := "application/json"
	var body []byte
	switch v, present := f.deref(v); {
	case !present:
	case f.kind == kBlob:
		contentType, body = "application/octet-stream", v.Bytes()
	case f.kind == kString:
		contentType, body = "text/plain; charset=utf-8", []byte(v.String())
	default:
		body = appendJSON(nil, f.plan, v.Addr(), nil)
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", contentType)
	}
	return body
}

// headerText makes s safe as a header's value.
func headerText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f {
			return ' '
		}
		return r
	}, s)
}
