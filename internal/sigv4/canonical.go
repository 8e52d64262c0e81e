package sigv4

import (
	"iter"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// candidates yields the canonical requests that clients may have meant, the usual one first: real signers differ in how they
// normalise paths and queries and whether the session token is part of a presigned query (identity spec 5.2, 5.3).
func (v *Verifier) candidates(r *http.Request, s *Signature, payload string) iter.Seq[string] {
	target, query := rawPath(r), rawQuery(r)
	return func(yield func(string) bool) {
		for _, host := range append([]string{r.Host}, v.Origins...) {
			headers := canonicalHeaders(r, s.SignedHeaders, host)
			seen := map[string]bool{}
			for _, path := range canonicalPaths(s.Service, target) {
				for _, q := range canonicalQueries(query, s) {
					c := r.Method + "\n" + path + "\n" + q + "\n" + headers + "\n" + strings.Join(s.SignedHeaders, ";") + "\n" + payload
					if !seen[c] && !yield(c) {
						return
					}
					seen[c] = true
				}
			}
		}
	}
}

// rawPath and rawQuery are the request's target as the client sent it, before any decoding.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath() // absolute form, or a request that did not come through net/http
}

func rawQuery(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		_, query, _ := strings.Cut(r.RequestURI, "?")
		return query
	}
	return r.URL.RawQuery
}

// canonicalPaths returns the path as AWS signs it (dot segments removed, then encoded once more), and as simple signers do:
// without normalising, and without the second encoding.
func canonicalPaths(service, raw string) []string {
	if service == S3 {
		return s3Paths(raw)
	}
	return []string{escapePath(normalize(raw)), escapePath(raw), raw}
}

// normalize removes dot segments and empty segments; a trailing slash stays.
func normalize(p string) string {
	var out []string
	for seg := range strings.SplitSeq(p, "/") {
		switch seg {
		case "", ".":
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
		default:
			out = append(out, seg)
		}
	}
	n := "/" + strings.Join(out, "/")
	if len(out) > 0 && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		n += "/"
	}
	return n
}

func unreserved(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

func escape(s string, keep string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if unreserved(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

func escapePath(p string) string { return escape(p, "/") }

// canonicalQueries returns the query decoded and encoded strictly, merely sorted, and with + read as a space. The signature
// itself never takes part; for a WebSocket the token is tried without and with, for others with first.
func canonicalQueries(raw string, s *Signature) []string {
	drop := [][]string{{"X-Amz-Signature"}}
	if s.Presigned && s.Token != "" {
		with, without := []string{"X-Amz-Signature"}, []string{"X-Amz-Signature", "X-Amz-Security-Token"}
		if drop = [][]string{with, without}; s.Service == "iotdevicegateway" {
			drop = [][]string{without, with}
		}
	}
	if raw == "" {
		return []string{""}
	}
	var out []string
	for _, d := range drop {
		if !s.Presigned {
			d = nil
		}
		out = append(out, joinQuery(raw, d, strictly), joinQuery(raw, d, asIs), joinQuery(raw, d, plusIsSpace))
	}
	return out
}

func strictly(part string) string {
	if text, err := url.PathUnescape(part); err == nil {
		return escape(text, "")
	}
	return escape(part, "%")
}

func asIs(part string) string { return part }

func plusIsSpace(part string) string { return strictly(strings.ReplaceAll(part, "+", "%20")) }

func joinQuery(raw string, drop []string, form func(string) string) string {
	type pair struct{ name, value string }
	var pairs []pair
	for p := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(p, "=")
		if p == "" || slices.Contains(drop, name) {
			continue
		}
		pairs = append(pairs, pair{form(name), form(value)})
	}
	sort.SliceStable(pairs, func(i, j int) bool {
		if pairs[i].name != pairs[j].name {
			return pairs[i].name < pairs[j].name
		}
		return pairs[i].value < pairs[j].value
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String()
}

// canonicalHeaders lists the signed headers, one a line. net/http keeps Host, Content-Length and Transfer-Encoding apart.
func canonicalHeaders(r *http.Request, signed []string, host string) string {
	var b strings.Builder
	for _, name := range signed {
		var values []string
		switch name {
		case "host", ":authority":
			values = []string{host}
		case "content-length":
			values = r.Header.Values(name)
			if len(values) == 0 && r.ContentLength >= 0 {
				values = []string{strconv.FormatInt(r.ContentLength, 10)}
			}
		default:
			values = r.Header.Values(name)
		}
		b.WriteString(name + ":")
		for i, v := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.Join(strings.Fields(v), " "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
