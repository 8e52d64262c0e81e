package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// S3 is the service name of signatures for S3, whose rules differ: a path is not normalised and not encoded twice, since a key may
// be any text, and the hash of the body stands in a header, so that a signature can be checked before the body is read.
const S3 = "s3"

// What x-amz-content-sha256 may say beside a hash.
const (
	unsignedPayload = "UNSIGNED-PAYLOAD"
	streamSigned    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamUnsigned  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

const contentHash = "X-Amz-Content-Sha256"

// A Payload is what the signature of a request to S3 says of its body. Reader in chunks.go holds the body to it.
type Payload struct {
	hash             []byte // of the body; nil: none is said
	chunked, trailer bool
	chain            *chain // of signed chunks
}

// VerifyS3 checks the signature of a request to S3, without its body, which is to be read through the Payload.
func (v *Verifier) VerifyS3(r *http.Request, lookup Lookup) (*Signature, *Payload, error) {
	if oldLink(r) {
		return v.verifyOldLink(r, lookup)
	}
	s, err := Parse(r)
	if err != nil {
		return nil, nil, err
	}
	if err := v.checkScope(s, []string{S3}); err != nil {
		return nil, nil, err
	}
	if err := v.checkTime(s); err != nil {
		return nil, nil, err
	}
	if err := checkHeaders(r, s); err != nil {
		return nil, nil, err
	}
	said := unsignedPayload
	if !s.Presigned || slices.Contains(s.SignedHeaders, strings.ToLower(contentHash)) {
		said = r.Header.Get(contentHash)
	}
	p, err := newPayload(r, said)
	if err != nil {
		return nil, nil, err
	}
	secret, err := lookup(s)
	if err != nil {
		return nil, nil, err
	}
	key := v.keys.derive(secret.Reveal(), s)
	for canonical := range v.candidates(r, s, said) {
		if hmac.Equal(s.signature, mac(key, stringToSign(s, canonical))) {
			if said == streamSigned || said == streamTrailer {
				p.chain = &chain{key: key, head: s.amzDate + "\n" + s.scope() + "\n", last: hex.EncodeToString(s.signature)}
			}
			return s, p, nil
		}
	}
	return nil, nil, mismatched(r, s)
}

// PayloadOf is what a request says of its body, unverified: for tests of those who read bodies. Signed chunks it takes as they are.
func PayloadOf(r *http.Request) (*Payload, error) { return newPayload(r, r.Header.Get(contentHash)) }

func newPayload(r *http.Request, said string) (*Payload, error) {
	switch said {
	case unsignedPayload, streamUnsigned:
		if r.TLS == nil {
			return nil, refuse(IncompleteSignature, "A body that is not signed is taken over TLS only")
		}
		return &Payload{chunked: said == streamUnsigned, trailer: said == streamUnsigned}, nil
	case streamSigned, streamTrailer:
		return &Payload{chunked: true, trailer: said == streamTrailer}, nil
	}
	sum, err := hex.DecodeString(said)
	if err != nil || len(sum) != sha256.Size {
		return nil, refuse(IncompleteSignature, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, %s, %s, %s or a hexadecimal SHA-256, not '%s'",
			streamUnsigned, streamSigned, streamTrailer, clip(said))
	}
	return &Payload{hash: sum}, nil
}

// mismatch of the body that has been read.
func (p *Payload) mismatch(sum []byte) error {
	if p.hash == nil || subtle.ConstantTimeCompare(p.hash, sum) == 1 {
		return nil
	}
	return refuse(InvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
}

// EscapeKey is how the key of an object stands in a path: slashes stay.
func EscapeKey(key string) string { return escapePath(key) }

// s3Paths is the one path that S3's signers mean, strictly encoded and as it came: both name the same key.
func s3Paths(raw string) []string {
	text, err := url.PathUnescape(raw)
	if err != nil {
		return []string{raw}
	}
	return []string{escapePath(text), raw}
}

// signedPath is the path in the canonical request of our own signers.
func signedPath(service, path string) string {
	switch {
	case path == "":
		return "/"
	case service == S3:
		return path
	}
	return escapePath(normalize(path))
}
