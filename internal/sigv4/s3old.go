package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldLink reports whether a request is a link of signature version 2. The AWS CLI 1 and boto3 still make links of it in us-east-1, and
// S3 still takes them there; we take them for reading alone.
func oldLink(r *http.Request) bool {
	return r.Header.Get("Authorization") == "" && strings.Contains(r.URL.RawQuery, "AWSAccessKeyId=")
}

// oldSigned are the parameters that are part of what is signed: what makes another operation or another answer of a request.
var oldSigned = []string{"location", "partNumber", "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
	"response-content-type", "response-expires", "uploadId", "uploads", "versionId"}

// verifyOldLink checks a link of signature version 2: HMAC-SHA1 over method, end, token and path.
func (v *Verifier) verifyOldLink(r *http.Request, lookup Lookup) (*Signature, *Payload, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, nil, refuse(IncompleteSignature, "Signature version 2 is taken for GET and HEAD only: sign with %s", algorithm)
	}
	q, err := url.ParseQuery(rawQuery(r))
	if err != nil || len(q.Encode()) > maxAuthorization {
		return nil, nil, refuse(IncompleteSignature, "The query is malformed or too long")
	}
	ends, err := strconv.ParseInt(q.Get("Expires"), 10, 64)
	said, encodingErr := base64.StdEncoding.DecodeString(q.Get("Signature"))
	if err != nil || encodingErr != nil || len(said) != sha1.Size || r.TLS == nil {
		return nil, nil, refuse(IncompleteSignature, "A link has the parameters AWSAccessKeyId, Expires and Signature, and is taken over TLS only")
	}
	s := &Signature{AccessKeyID: q.Get("AWSAccessKeyId"), Region: v.Region, Service: S3, Token: q.Get("x-amz-security-token"), Presigned: true, Date: time.Unix(ends, 0).UTC()}
	if !v.Clock.Now().Before(s.Date) {
		return nil, nil, refuse(InvalidSignature, "Request has expired: it was good until %s", s.Date.Format(time.RFC3339))
	}
	secret, err := lookup(s)
	if err != nil {
		return nil, nil, err
	}
	text := r.Method + "\n\n\n" + q.Get("Expires") + "\n"
	if s.Token != "" {
		text += "x-amz-security-token:" + s.Token + "\n"
	}
	joint := "?"
	text += rawPath(r)
	for _, name := range oldSigned {
		if q.Has(name) {
			text += joint + name
			if value := q.Get(name); value != "" {
				text += "=" + value
			}
			joint = "&"
		}
	}
	for name := range q {
		if strings.HasPrefix(name, "x-amz-") && name != "x-amz-security-token" || strings.HasPrefix(name, "response-") && !slices.Contains(oldSigned, name) {
			return nil, nil, refuse(IncompleteSignature, "The parameter %s is not taken in a link of signature version 2", clip(name))
		}
	}
	h := hmac.New(sha1.New, []byte(secret.Reveal()))
	h.Write([]byte(text))
	if !hmac.Equal(h.Sum(nil), said) {
		return nil, nil, mismatched(r, s)
	}
	return s, &Payload{}, nil
}
