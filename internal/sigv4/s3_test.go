package sigv4

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// The examples of AWS's documentation ("Signature Calculations for the Authorization Header", for one chunk, for several, and for the query).
const (
	s3Key    = "AKIAIOSFODNN7EXAMPLE"
	s3Secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

var s3Now = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func s3Lookup(s *Signature) (fleet.Secret, error) {
	if s.AccessKeyID != s3Key {
		return "", errors.New("another key")
	}
	return s3Secret, nil
}

func s3Verify(t *testing.T, text string) (*Payload, *http.Request, error) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	r.TLS = &tls.ConnectionState{}
	v := &Verifier{Region: "us-east-1", Clock: func() time.Time { return s3Now }}
	_, p, err := v.VerifyS3(r, s3Lookup)
	return p, r, err
}

func s3Authorization(headers, signature string) string {
	return "Authorization: AWS4-HMAC-SHA256 Credential=" + s3Key + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + signature + "\r\n"
}

func s3Put(signature, body string) string {
	return "PUT /test%24file.text HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\nX-Amz-Date: 20130524T000000Z\r\nX-Amz-Storage-Class: REDUCED_REDUNDANCY\r\n" +
		"X-Amz-Content-Sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\r\n" +
		s3Authorization("date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", signature) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func TestTheExamplesOfS3(t *testing.T) {
	t.Parallel()
	const put = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
	for name, text := range map[string]string{
		"get": "GET /test.txt HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\nRange: bytes=0-9\r\nX-Amz-Date: 20130524T000000Z\r\nX-Amz-Content-Sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n" +
			s3Authorization("host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41") + "\r\n",
		"put": s3Put(put, "Welcome to Amazon S3."),
		"presigned": "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&" +
			"X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n\r\n",
	} {
		p, r, err := s3Verify(t, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := io.Copy(io.Discard, p.Reader(r.Body)); err != nil {
			t.Errorf("%s: its body: %v", name, err)
		}
	}
	p, r, err := s3Verify(t, s3Put(put, "Welcome to Amazon S4."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, p.Reader(r.Body)); fleet.KindOf(err) != fleet.KindUnauthenticated {
		t.Errorf("another body: %v", err)
	}
	if _, _, err := s3Verify(t, strings.Replace(s3Put(put, ""), "test%24file", "x/../test%24file", 1)); fleet.KindOf(err) != fleet.KindUnauthenticated {
		t.Errorf("another key with the same path after normalising: %v", err)
	}
}

// s3Chunks is the body of the example.
func s3Chunks() string {
	return "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
}

func s3Chunked(t *testing.T, body string) (string, error) {
	t.Helper()
	p, r, err := s3Verify(t, "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\nX-Amz-Date: 20130524T000000Z\r\nX-Amz-Storage-Class: REDUCED_REDUNDANCY\r\n"+
		"X-Amz-Content-Sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Encoding: aws-chunked\r\nX-Amz-Decoded-Content-Length: 66560\r\nContent-Length: 66824\r\n"+
		s3Authorization("content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
			"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")+"\r\n"+body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(iotest.HalfReader(p.Reader(r.Body)))
	return string(got), err
}

func TestTheExampleOfSignedChunks(t *testing.T) {
	t.Parallel()
	if got, err := s3Chunked(t, s3Chunks()); err != nil || got != strings.Repeat("a", 66560) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for name, body := range map[string]string{
		"a changed byte":        strings.Replace(s3Chunks(), "aaa\r\n400", "aab\r\n400", 1),
		"a changed last chunk":  strings.Replace(s3Chunks(), "0;chunk-signature=b", "0;chunk-signature=a", 1),
		"no last chunk":         s3Chunks()[:66824-86],
		"chunks in other order": "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + strings.Repeat("a", 1024) + s3Chunks()[66824-88:],
	} {
		if got, err := s3Chunked(t, body); err == nil {
			t.Errorf("%s: taken, with %d bytes", name, len(got))
		}
	}
}

func TestUnsignedChunksWithATrailer(t *testing.T) {
	t.Parallel()
	p := &Payload{chunked: true, trailer: true}
	b := p.Reader(strings.NewReader("5\r\nhello\r\nA\r\n, dear all\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"))
	if got, err := io.ReadAll(iotest.OneByteReader(b)); err != nil || string(got) != "hello, dear all" || b.Trailer("x-amz-checksum-crc32") != "AAAAAA==" {
		t.Errorf("%q, %v, trailer %q", got, err, b.Trailer("x-amz-checksum-crc32"))
	}
}

func TestASignedTrailerCannotBeCutOff(t *testing.T) {
	t.Parallel()
	c := func() *chain { return &chain{key: []byte("key"), head: "20130524T000000Z\nscope\n", last: "seed"} }
	sign, hash := c(), func(text string) string { sum := sha256.Sum256([]byte(text)); return hex.EncodeToString(sum[:]) }
	next := func(kind, rest string) string {
		sign.last = hex.EncodeToString(mac(sign.key, kind+"\n"+sign.head+sign.last+"\n"+rest))
		return sign.last
	}
	const payload, checksum = "AWS4-HMAC-SHA256-PAYLOAD", "x-amz-checksum-crc32:AAAAAA==\r\n"
	chunks := "5;chunk-signature=" + next(payload, emptyHash+"\n"+hash("hello")) + "\r\nhello\r\n0;chunk-signature=" + next(payload, emptyHash+"\n"+emptyHash) + "\r\n"
	signature := "x-amz-trailer-signature:" + next("AWS4-HMAC-SHA256-TRAILER", hash("x-amz-checksum-crc32:AAAAAA==\n")) + "\r\n"
	for body, good := range map[string]bool{
		chunks + checksum + signature + "\r\n":          true,
		chunks + checksum + "\r\n" + signature + "\r\n": true,
		chunks + checksum + signature:                   true, // some clients leave out the empty line
		chunks:                                          false,
		chunks + "\r\n":                                 false,
		chunks + checksum:                               false,
		chunks + checksum + "\r\n":                      false,
		chunks + strings.Replace(checksum, "AAAAAA", "BBBBBB", 1) + signature: false,
		chunks + strings.Replace(checksum, "AAAAAA", "BBBBBB", 1):             false,
	} {
		p := &Payload{chunked: true, trailer: true, chain: c()}
		if got, err := io.ReadAll(p.Reader(strings.NewReader(body))); (err == nil) != good || good && string(got) != "hello" {
			t.Errorf("%q: %q, %v", body, got, err)
		}
	}
}

func TestBodiesThatAreNoChunks(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "5\r\nhell", "5\r\nhello", "5\r\nhello0\r\n\r\n", "g\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "0\r\nno colon\r\n\r\n", "0\r\na:1\r\na:2\r\n\r\n", "0\r\n\r\nmore",
		strings.Repeat("0", 600) + "\r\n", "0\r\n" + strings.Repeat("a", 600), "0\r\n" + strings.Repeat("a:b\r\n", 20)} {
		p := &Payload{chunked: true, trailer: true}
		if got, err := io.ReadAll(p.Reader(strings.NewReader(body))); err == nil {
			t.Errorf("%.60q is taken as %q", body, got)
		}
	}
}

func TestOwnSignaturesForS3(t *testing.T) {
	t.Parallel()
	v := &Verifier{Region: "us-east-1", Clock: func() time.Time { return s3Now }}
	c := Credentials{AccessKeyID: s3Key, Secret: s3Secret}
	r, err := http.NewRequest(http.MethodPut, "https://s3.lan:9000/bkt/"+EscapeKey("a b/../ü%+$.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("content")
	Sign(r, body, c, "us-east-1", S3, s3Now)
	received := func(r *http.Request) *http.Request {
		var b bytes.Buffer
		if err := r.Write(&b); err != nil {
			t.Fatal(err)
		}
		in, err := http.ReadRequest(bufio.NewReader(&b))
		if err != nil {
			t.Fatal(err)
		}
		in.TLS = &tls.ConnectionState{}
		return in
	}
	if _, p, err := v.VerifyS3(received(r), s3Lookup); err != nil {
		t.Error(err)
	} else if _, err := io.Copy(io.Discard, p.Reader(bytes.NewReader(body))); err != nil {
		t.Error(err)
	}
	u, err := url.Parse("https://s3.lan/bkt/a%20b")
	if err != nil {
		t.Fatal(err)
	}
	r, err = http.NewRequest(http.MethodGet, Presign(http.MethodGet, u, c, "us-east-1", S3, s3Now, time.Hour).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.VerifyS3(received(r), s3Lookup); err != nil {
		t.Error(err)
	}
	plain := received(r)
	plain.TLS = nil
	if _, _, err := v.VerifyS3(plain, s3Lookup); fleet.KindOf(err) != fleet.KindUnauthenticated {
		t.Errorf("an unsigned body without TLS: %v", err)
	}
}

func TestLinksOfSignatureVersion2(t *testing.T) {
	t.Parallel()
	// Made with botocore's HmacV1QueryAuth for the key of the examples.
	link := func(method, path, signature string) error {
		_, _, err := s3Verify(t, method+" "+path+"&Signature="+signature+" HTTP/1.1\r\nHost: localhost:8443\r\n\r\n")
		return err
	}
	const plain, token = "/bkt/a%20b.txt?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1369357200", "/bkt/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&x-amz-security-token=to%2Fken&response-content-type=text%2Fx&Expires=1369357200"
	if err := link("GET", plain, "4t1wkMtu01SMgtuRTNafZJM%2FxWQ%3D"); err != nil {
		t.Error(err)
	}
	if err := link("GET", token, "WpMKkM%2FfDoUz3jnkSa212zo3Xjo%3D"); err != nil {
		t.Error(err)
	}
	const list = "/bkt/?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1369357200"
	signed := func(resource string) string {
		h := hmac.New(sha1.New, []byte(s3Secret))
		h.Write([]byte("GET\n\n\n1369357200\n" + resource))
		return url.QueryEscape(base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	listed := signed("/bkt/")
	if err := link("GET", list+"&prefix=a", listed); err != nil {
		t.Error(err)
	}
	if err := link("GET", list+"&uploads", signed("/bkt/?uploads")); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another path":                link("GET", strings.Replace(plain, "a%20b", "a%20c", 1), "4t1wkMtu01SMgtuRTNafZJM%2FxWQ%3D"),
		"another method":              link("PUT", plain, "4t1wkMtu01SMgtuRTNafZJM%2FxWQ%3D"),
		"another end":                 link("GET", strings.Replace(plain, "1369357200", "1369357201", 1), "4t1wkMtu01SMgtuRTNafZJM%2FxWQ%3D"),
		"the past":                    link("GET", strings.Replace(plain, "1369357200", "1369353600", 1), "4t1wkMtu01SMgtuRTNafZJM%2FxWQ%3D"),
		"another type":                link("GET", strings.Replace(token, "text%2Fx", "text%2Fy", 1), "WpMKkM%2FfDoUz3jnkSa212zo3Xjo%3D"),
		"uploads in place of objects": link("GET", list+"&uploads", listed),
		"a location":                  link("GET", list+"&location", listed),
	} {
		if fleet.KindOf(err) != fleet.KindUnauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzChunks holds the reader to a plain one: whatever it takes for chunks can be written again from what it has read.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), true, false)
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"), true, false)
	f.Add([]byte("5\r\nhello\r\n0\r\n"), false, false)
	f.Add([]byte("05;x=y\nhello\n0\n\n"), false, false)
	f.Add([]byte("0\r\na:b\r\na:c\r\n\r\n"), true, false)
	f.Add([]byte("fffffffffffffffff\r\n"), true, false)
	f.Add([]byte("5\r\nhel"), true, false)
	f.Add([]byte("5\r\nhello!\r\n"), true, false)
	f.Add([]byte("0\r\n\r\nx"), true, false)
	f.Add([]byte("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), true, false)
	f.Add([]byte("3;chunk-signature=00\r\nabc\r\n0;chunk-signature=00\r\n\r\n"), true, true)
	f.Add([]byte("0;chunk-signature=00\r\na:b\r\n\r\nx-amz-trailer-signature:00\r\n\r\n"), true, true)
	f.Add([]byte(strings.Repeat("0", 600)), true, false)
	f.Fuzz(func(t *testing.T, body []byte, trailer, signed bool) {
		p := &Payload{chunked: true, trailer: trailer}
		if signed {
			p.chain = &chain{key: []byte("nobody knows"), head: "d\ns\n", last: "x"}
		}
		b := p.Reader(bytes.NewReader(body))
		content, err := io.ReadAll(b)
		if len(content) > len(body) {
			t.Fatalf("%d bytes of %d", len(content), len(body))
		}
		if err != nil {
			return
		}
		if signed {
			t.Fatalf("%q has signatures that nobody can make", body)
		}
		if len(b.trailer) > 0 && !trailer {
			t.Fatalf("%q: a trailer that was not announced", body)
		}
		if rest := plainChunks(body); rest == nil || !bytes.Equal(rest, content) {
			t.Fatalf("%q is read as %q, plainly it is %q", body, content, rest)
		}
	})
}

// plainChunks reads chunks without bounds; nil if it can't.
func plainChunks(body []byte) (content []byte) {
	content = []byte{}
	for {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		size, _, _ := strings.Cut(strings.TrimSuffix(string(line), "\r"), ";")
		n, err := strconv.ParseInt(size, 16, 64)
		if err != nil || int64(len(rest)) < n {
			return nil
		}
		if n == 0 {
			return content
		}
		content = append(content, rest[:n]...)
		end, next, _ := bytes.Cut(rest[n:], []byte("\n"))
		if len(bytes.TrimSuffix(end, []byte("\r"))) > 0 {
			return nil
		}
		body = next
	}
}
