package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	dateForm   = "20060102T150405Z"

	maxAuthorization = 8192 // bytes of an Authorization header or of a presigned query; tokens may take 4 KiB
	maxSignedHeaders = 100
)

// Parse reads the signature of a request, from the Authorization header or the query, never both. Nothing is verified.
func Parse(r *http.Request) (*Signature, error) {
	header := r.Header.Get("Authorization")
	query := rawQuery(r)
	presigned := strings.Contains(query, "X-Amz-Algorithm=")
	switch {
	case header == "" && !presigned && strings.Contains(query, "SignatureVersion="):
		return nil, refuse(IncompleteSignature, "Signature version 2 is not supported: sign with %s", algorithm)
	case header == "" && !presigned:
		return nil, refuse(MissingAuthenticationToken, "Missing Authentication Token")
	case header != "" && presigned:
		return nil, refuse(IncompleteSignature, "A request is signed in its header or in its query, not in both")
	case len(header) > maxAuthorization || len(query) > 4*maxAuthorization:
		return nil, refuse(IncompleteSignature, "The signature is too long")
	case presigned:
		return parseQuery(query)
	}
	return parseHeader(r, header)
}

func parseHeader(r *http.Request, header string) (*Signature, error) {
	kind, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	if kind != algorithm {
		return nil, refuse(IncompleteSignature, "Unsupported AWS 'algorithm': '%s'; sign with %s", clip(kind), algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || fields[name] != "" {
			return nil, refuse(IncompleteSignature, "Authorization header is not a list of Name=value: '%s'", clip(part))
		}
		fields[name] = strings.TrimSpace(value)
	}
	s := &Signature{Token: r.Header.Get("X-Amz-Security-Token")}
	date := r.Header.Get("X-Amz-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if date == "" {
		return nil, refuse(IncompleteSignature, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	return s, s.fill(fields["Credential"], date, fields["SignedHeaders"], fields["Signature"])
}

func parseQuery(query string) (*Signature, error) {
	fields := map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		text, err := url.PathUnescape(value) // + stays +
		if _, twice := fields[name]; err != nil || twice {
			return nil, refuse(IncompleteSignature, "Query parameter '%s' is malformed or repeated", clip(name))
		}
		fields[name] = text
	}
	if fields["X-Amz-Algorithm"] != algorithm {
		return nil, refuse(IncompleteSignature, "Unsupported AWS 'algorithm': '%s'; sign with %s", clip(fields["X-Amz-Algorithm"]), algorithm)
	}
	s := &Signature{Presigned: true, Token: fields["X-Amz-Security-Token"]}
	if text, ok := fields["X-Amz-Expires"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 604800 {
			return nil, refuse(IncompleteSignature, "X-Amz-Expires must be between 1 and 604800 seconds")
		}
		s.expires = time.Duration(n) * time.Second
	}
	return s, s.fill(fields["X-Amz-Credential"], fields["X-Amz-Date"], fields["X-Amz-SignedHeaders"], fields["X-Amz-Signature"])
}

// fill takes the parts that header and query have in common.
func (s *Signature) fill(credential, date, headers, signature string) error {
	for _, f := range [][2]string{{"Credential", credential}, {"SignedHeaders", headers}, {"Signature", signature}} {
		if f[1] == "" {
			return refuse(IncompleteSignature, "Authorization header requires '%s' parameter.", f[0])
		}
	}
	part := strings.Split(credential, "/")
	if len(part) != 5 || part[0] == "" || len(part[0]) > 128 {
		return refuse(IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", clip(credential))
	}
	if part[4] != terminator {
		return refuse(InvalidSignature, "Credential should be scoped with a valid terminator: '%s'", terminator)
	}
	s.AccessKeyID, s.scopeDate, s.Region, s.Service = part[0], part[1], part[2], part[3]
	var err error
	if s.Date, err = time.Parse(dateForm, date); err != nil {
		if s.Date, err = time.Parse(time.RFC1123, date); err != nil {
			return refuse(IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%s'.", clip(date))
		}
	}
	s.Date = s.Date.UTC()
	s.amzDate = s.Date.Format(dateForm)
	s.SignedHeaders = strings.Split(headers, ";")
	if len(s.SignedHeaders) > maxSignedHeaders {
		return refuse(IncompleteSignature, "SignedHeaders names more than %d headers", maxSignedHeaders)
	}
	if s.signature, err = hex.DecodeString(signature); err != nil || len(s.signature) != 32 {
		return refuse(IncompleteSignature, "Signature must be 64 hexadecimal digits")
	}
	return nil
}
