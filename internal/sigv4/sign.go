package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Credentials sign requests. Token is set for temporary ones.
type Credentials struct {
	AccessKeyID string
	Secret      fleet.Secret
	Token       fleet.Secret
}

// Sign puts a signature of now into r's headers: host, content-type and every x-amz header are signed, and the body.
func Sign(r *http.Request, body []byte, c Credentials, region, service string, now time.Time) {
	s := &Signature{AccessKeyID: c.AccessKeyID, Region: region, Service: service}
	s.amzDate = now.UTC().Format(dateForm)
	s.scopeDate = s.amzDate[:8]
	r.Header.Set("X-Amz-Date", s.amzDate)
	if c.Token != "" {
		r.Header.Set("X-Amz-Security-Token", c.Token.Reveal())
	}
	sum := sha256.Sum256(body)
	if service == S3 {
		r.Header.Set(contentHash, hex.EncodeToString(sum[:]))
	}
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	s.SignedHeaders = []string{"host"}
	for name := range r.Header {
		if lower := strings.ToLower(name); lower == "content-type" || strings.HasPrefix(lower, "x-amz-") {
			s.SignedHeaders = append(s.SignedHeaders, lower)
		}
	}
	slices.Sort(s.SignedHeaders)
	names := strings.Join(s.SignedHeaders, ";")
	canonical := r.Method + "\n" + signedPath(service, r.URL.EscapedPath()) + "\n" + joinQuery(r.URL.RawQuery, nil, strictly) + "\n" +
		canonicalHeaders(r, s.SignedHeaders, host) + "\n" + names + "\n" + hex.EncodeToString(sum[:])
	signature := mac(deriveKey(c.Secret.Reveal(), s.scopeDate, region, service), stringToSign(s, canonical))
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKeyID+"/"+s.scope()+", SignedHeaders="+names+", Signature="+hex.EncodeToString(signature))
}

// Presign returns u with a signature of now in its query, good for a request of that method until now + expires: without a body, or for S3
// with any. As AWS IoT's clients do, the session token stays out of the signature for the service iotdevicegateway (identity spec 5.3).
func Presign(method string, u *url.URL, c Credentials, region, service string, now time.Time, expires time.Duration) *url.URL {
	s := &Signature{AccessKeyID: c.AccessKeyID, Region: region, Service: service, SignedHeaders: []string{"host"}}
	s.amzDate = now.UTC().Format(dateForm)
	s.scopeDate = s.amzDate[:8]
	query := u.RawQuery
	add := func(name, value string) {
		if query != "" {
			query += "&"
		}
		query += name + "=" + escape(value, "")
	}
	add("X-Amz-Algorithm", algorithm)
	add("X-Amz-Credential", c.AccessKeyID+"/"+s.scope())
	add("X-Amz-Date", s.amzDate)
	add("X-Amz-Expires", strconv.Itoa(int(expires/time.Second)))
	add("X-Amz-SignedHeaders", "host")
	outside := service == "iotdevicegateway"
	if c.Token != "" && !outside {
		add("X-Amz-Security-Token", c.Token.Reveal())
	}
	payload := emptyHash
	if service == S3 {
		payload = unsignedPayload
	}
	canonical := method + "\n" + signedPath(service, u.EscapedPath()) + "\n" + joinQuery(query, nil, strictly) + "\nhost:" + u.Host + "\n\nhost\n" + payload
	add("X-Amz-Signature", hex.EncodeToString(mac(deriveKey(c.Secret.Reveal(), s.scopeDate, region, service), stringToSign(s, canonical))))
	if c.Token != "" && outside {
		add("X-Amz-Security-Token", c.Token.Reveal())
	}
	signed := *u
	signed.RawQuery = query
	return &signed
}
