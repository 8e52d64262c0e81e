package conformity

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/server"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

// A site is a running server as clients see it.
type site struct {
	t         *testing.T
	server    *server.Server
	endpoint  string
	mqtt      string // host:port
	region    string
	roots     *x509.CertPool
	http      *http.Client
	services  map[string]*wire.Service // by their names
	operation map[string]map[string]wire.Operation
	inputs    map[string]map[string]wire.Implemented
}

func newSite(t *testing.T, regions ...string) *site {
	t.Helper()
	s := start(t, regions...)
	pem, err := os.ReadFile(s.Env().Get("AWS_CA_BUNDLE"))
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(tr.CloseIdleConnections)
	out := &site{t: t, server: s, endpoint: s.Env().Get("AWS_ENDPOINT_URL"), region: s.Env().Get("AWS_REGION"), roots: roots,
		mqtt: s.Env().Get("IOT_ENDPOINT") + ":" + s.Env().Get("IOT_PORT"),
		http: &http.Client{Transport: tr, Timeout: time.Minute}, services: map[string]*wire.Service{},
		operation: map[string]map[string]wire.Operation{}, inputs: map[string]map[string]wire.Implemented{}}
	for _, svc := range s.Services() {
		ops, inputs := map[string]wire.Operation{}, map[string]wire.Implemented{}
		for _, op := range svc.Operations {
			ops[op.Name] = op
		}
		for _, i := range svc.Coverage().Implemented {
			inputs[i.Operation] = i
		}
		out.services[svc.Name()], out.operation[svc.Name()], out.inputs[svc.Name()] = svc, ops, inputs
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// administrator is the key of the first account.
func (s *site) administrator() sigv4.Credentials {
	return sigv4.Credentials{AccessKeyID: s.server.Env().Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.server.Env().Get("AWS_SECRET_ACCESS_KEY"))}
}

type object = map[string]any

// An answer is what came back.
type answer struct {
	status int
	code   string // of an error
	body   string // without the request's id
}

func (a answer) ok() bool { return a.status/100 == 2 }

func (a answer) String() string { return fmt.Sprintf("%d %s %.300s", a.status, a.code, a.body) }

var (
	xmlCode   = regexp.MustCompile(`<Code>([^<]*)</Code>`)
	requestID = regexp.MustCompile(`<RequestId>[^<]*</RequestId>|"traceId":"[^"]*"|"(from|until)Date":[0-9.]+`)
)

// call does an operation with members by their names on the wire, signed unless there are no credentials.
func (s *site) call(who sigv4.Credentials, service, operation string, in object) answer {
	s.t.Helper()
	svc := s.services[service]
	var t reflect.Type
	if i, ok := s.inputs[service][operation]; ok {
		t = i.Input
	}
	req, body := encode(s.t, svc, s.operation[service][operation], t, in)
	var err error
	req.URL, err = url.Parse(s.endpoint + req.URL.String())
	must(s.t, err)
	if who.AccessKeyID != "" {
		sigv4.Sign(req, body, who, s.region, svc.Name(), time.Now())
	}
	req = req.WithContext(s.t.Context())
	res, err := s.http.Do(req)
	must(s.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(s.t, err)
	out := answer{status: res.StatusCode, body: requestID.ReplaceAllString(string(text), "")}
	if !out.ok() {
		out.code, _, _ = strings.Cut(res.Header.Get("X-Amzn-Errortype"), ":")
		if m := xmlCode.FindStringSubmatch(out.body); m != nil {
			out.code = m[1]
		}
	}
	return out
}

// encode writes a request as the SDKs do. t is the input's struct, nil for an operation of which only the model's route is known.
func encode(t testing.TB, svc *wire.Service, op wire.Operation, typ reflect.Type, in object) (*http.Request, []byte) {
	t.Helper()
	req := &http.Request{Method: http.MethodPost, Header: http.Header{}, URL: &url.URL{Path: "/"}}
	var body []byte
	switch svc.Protocol {
	case wire.JSON11:
		req.Header.Set("X-Amz-Target", svc.TargetPrefix+"."+op.Name)
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		body = encodeJSON(t, in)
	case wire.Query:
		form := url.Values{"Action": {op.Name}, "Version": {svc.Version}}
		flatten(form, "", in)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		body = []byte(form.Encode())
	case wire.RESTJSON:
		req.Method = op.Method
		body = encodeREST(t, req, op, typ, in)
	}
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return req, body
}

func encodeJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}

// flatten writes lists and maps as awsQuery has them.
func flatten(form url.Values, prefix string, v any) {
	switch v := v.(type) {
	case object:
		for k, m := range v {
			flatten(form, strings.TrimPrefix(prefix+"."+k, "."), m)
		}
	case []any:
		for i, e := range v {
			flatten(form, fmt.Sprintf("%s.member.%d", prefix, i+1), e)
		}
	default:
		form.Set(prefix, fmt.Sprint(v))
	}
}

var label = regexp.MustCompile(`\{(\w+)(\+?)\}`)

func encodeREST(t testing.TB, req *http.Request, op wire.Operation, typ reflect.Type, in object) (body []byte) {
	t.Helper()
	path, rawQuery, _ := strings.Cut(op.URI, "?")
	query, err := url.ParseQuery(rawQuery)
	must(t, err)
	rest := object{}
	places := fields(typ)
	for name, v := range in {
		switch place := places[name]; place {
		case "uri":
		case "querystring":
			if list, ok := v.([]any); ok {
				for _, e := range list {
					query.Add(name, fmt.Sprint(e))
				}
				continue
			}
			query.Set(name, fmt.Sprint(v))
		case "header":
			req.Header.Set(name, fmt.Sprint(v))
		case "payload":
			if structure, ok := v.(object); ok {
				req.Header.Set("Content-Type", "application/json")
				body = encodeJSON(t, structure)
				continue
			}
			body = []byte(fmt.Sprint(v))
		default:
			rest[name] = v
		}
	}
	path = label.ReplaceAllStringFunc(path, func(l string) string {
		v, ok := in[label.FindStringSubmatch(l)[1]]
		if !ok {
			v = "1234567890"
		}
		return url.PathEscape(fmt.Sprint(v))
	})
	req.URL, err = url.Parse(path)
	must(t, err)
	req.URL.RawQuery = query.Encode()
	if len(rest) > 0 {
		req.Header.Set("Content-Type", "application/json")
		body = encodeJSON(t, rest)
	}
	return body
}

// fields says where the members of an input travel.
func fields(t reflect.Type) map[string]string {
	places := map[string]string{}
	if t == nil {
		return places
	}
	for i := range t.NumField() {
		parts := strings.Split(t.Field(i).Tag.Get("wire"), ",")
		for _, place := range []string{"uri", "querystring", "header", "payload"} {
			if slices.Contains(parts[1:], place) {
				places[parts[0]] = place
			}
		}
	}
	return places
}

// Values fill requests: by "Operation.Member" or "Member", in the model's Go names. Whatever an operation requires and nobody names
// is made up from the model's constraints; what is optional and not named is left out, and what is absent stays absent.
type values map[string]any

type absent struct{}

func (v values) with(more values) values {
	out := maps.Clone(v)
	maps.Copy(out, more)
	return out
}

// input makes the request of an operation.
func (v values) input(t testing.TB, svc *wire.Service, op wire.Implemented) object {
	t.Helper()
	in := object{}
	for i := range op.Input.NumField() {
		f := op.Input.Field(i)
		tag, ok := f.Tag.Lookup("wire")
		if !ok || slices.Contains(op.Refused, f.Name) {
			continue
		}
		parts := strings.Split(tag, ",")
		value, named := v[op.Operation+"."+f.Name]
		if !named {
			value, named = v[f.Name]
		}
		switch {
		case value == absent{}:
		case named:
			in[parts[0]] = value
		case slices.Contains(parts, "required"):
			in[parts[0]] = sample(svc, f.Type, f.Tag.Get("shape"))
		}
	}
	return in
}

// sample makes up a value that the model allows, if its pattern is not too particular.
func sample(svc *wire.Service, t reflect.Type, shape string) any {
	s := svc.Shapes[shape]
	low, _, _ := strings.Cut(s.Range, "..")
	least, _ := strconv.Atoi(low)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case len(s.Enum) > 0:
		return s.Enum[0]
	case t.PkgPath() == "time":
		return time.Now().Unix()
	}
	switch t.Kind() {
	case reflect.String:
		return strings.Repeat("a", max(4, least))
	case reflect.Bool:
		return false
	case reflect.Int, reflect.Int64:
		return max(1, least)
	case reflect.Slice:
		return []any{sample(svc, t.Elem(), s.Elem)}
	case reflect.Map:
		return object{"aaaa": sample(svc, t.Elem(), s.Elem)}
	case reflect.Struct:
		out := object{}
		for i := range t.NumField() {
			f := t.Field(i)
			if parts := strings.Split(f.Tag.Get("wire"), ","); slices.Contains(parts, "required") {
				out[parts[0]] = sample(svc, f.Type, f.Tag.Get("shape"))
			}
		}
		return out
	}
	panic("no sample of " + t.String())
}
