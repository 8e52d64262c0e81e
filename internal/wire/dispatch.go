package wire

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A call is what dispatch finds a request to be.
type call struct {
	service   *Service // nil: of no service
	protocol  Protocol // to answer in
	operation string
	err       error // why it cannot be carried out
}

func (f *Frontend) index() {
	f.target = map[string]*Service{}
	for _, s := range f.Services {
		switch s.Protocol {
		case JSON11:
			f.target[s.TargetPrefix] = s
		case Query:
			f.query = append(f.query, s)
		case RESTJSON:
			f.rest = append(f.rest, s)
		}
	}
}

// dispatch finds the operation in the order of identity spec 0.1: X-Amz-Target, then Action and Version, then the path.
func (f *Frontend) dispatch(m *message) call {
	m.path, m.query = rawTarget(m.http)
	if t := m.http.Header.Get("X-Amz-Target"); t != "" && m.http.Method == http.MethodPost {
		return f.byTarget(t)
	}
	if m.path == "" || m.path == "/" {
		if c, ok := f.byAction(m); ok {
			return c
		}
	}
	return f.byPath(m)
}

// rawTarget is the path and query as the client sent them, before any decoding.
func rawTarget(r *http.Request) (path, query string) {
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	if !strings.HasPrefix(target, "/") { // absolute form: https://host/path
		if _, rest, ok := strings.Cut(target, "://"); ok {
			_, after, found := strings.Cut(rest, "/")
			target = "/" + after
			if !found {
				_, q, _ := strings.Cut(rest, "?")
				return "/", q
			}
		}
	}
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

func unknown(format string, args ...any) error {
	return fleet.Invalid("", "", format, args...).WithCode(codeUnknown)
}

func (f *Frontend) byTarget(target string) call {
	prefix, op, _ := strings.Cut(target, ".")
	s := f.target[prefix]
	if s == nil {
		return call{protocol: JSON11, err: unknown("Unknown target %.200q", target)}
	}
	if s.ops[op] == nil {
		return call{service: s, protocol: JSON11, err: unknown("Unknown operation %.100q", op)}
	}
	return call{service: s, protocol: JSON11, operation: op}
}

// byAction serves awsQuery; ok is false for a request without Action.
func (f *Frontend) byAction(m *message) (c call, ok bool) {
	params, err := url.ParseQuery(m.query)
	if err != nil {
		params = url.Values{}
	}
	if m.http.Method == http.MethodPost {
		if t, _, _ := mime.ParseMediaType(m.http.Header.Get("Content-Type")); t == "" || t == "application/x-www-form-urlencoded" {
			form, _ := url.ParseQuery(string(m.body))
			for k, v := range form {
				params[k] = append(v, params[k]...)
			}
		}
	}
	action, version := params.Get("Action"), params.Get("Version")
	if action == "" || len(f.query) == 0 {
		return call{}, false
	}
	scope := scopeService(m)
	var known *Service // whose error shape the answer takes
	for _, s := range f.query {
		if version != "" && version != s.Version || version == "" && scope != "" && !slices.Contains(s.SigningNames, scope) {
			continue
		}
		known = s
		if s.ops[action] != nil {
			return call{service: s, protocol: Query, operation: action}, true
		}
	}
	err = unknown("Could not find operation %.100s for version %.20s", action, version)
	return call{service: known, protocol: Query, err: err}, true
}

// byPath serves restJson1: first the services that the signature's scope names, then all.
func (f *Frontend) byPath(m *message) call {
	query, err := url.ParseQuery(m.query)
	if err != nil {
		query = url.Values{}
	}
	scope := scopeService(m)
	ordered := slices.Clone(f.rest)
	slices.SortStableFunc(ordered, func(a, b *Service) int { return rank(a, scope) - rank(b, scope) })
	known := call{}
	for _, s := range ordered {
		found := s.routes.find(m.http.Method, m.path, query)
		if found.op != nil {
			m.labels = found.labels
			return call{service: s, protocol: RESTJSON, operation: found.op.Name}
		}
		if found.known && known.service == nil {
			known = call{service: s, protocol: RESTJSON, err: fleet.Invalid("", "", "The path does not take method %s", m.http.Method).WithCode(codeMethod)}
		}
	}
	if known.service != nil {
		return known
	}
	return call{protocol: RESTJSON, err: unknown("No operation has this path")}
}

// rank puts a service that the signature was made for before others: its own name first, then names that it also accepts.
func rank(s *Service, scope string) int {
	switch i := slices.Index(s.SigningNames, scope); i {
	case -1:
		return 100
	default:
		return i
	}
}

// scopeService is the service name of the request's credential scope, unverified; empty without a signature.
func scopeService(m *message) string {
	credential := ""
	if _, rest, ok := strings.Cut(m.http.Header.Get("Authorization"), "Credential="); ok {
		credential, _, _ = strings.Cut(rest, ",")
	} else if _, rest, ok := strings.Cut(m.query, "X-Amz-Credential="); ok {
		credential, _, _ = strings.Cut(rest, "&")
		credential, _ = url.QueryUnescape(credential)
	}
	if parts := strings.Split(strings.TrimSpace(credential), "/"); len(parts) >= 5 {
		return parts[len(parts)-2]
	}
	return ""
}
