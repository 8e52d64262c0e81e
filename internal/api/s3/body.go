package s3

import (
	"bytes"
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/xml"
	"hash"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

const (
	patience    = 30 * time.Second // with a client that neither sends nor takes anything
	maxDocument = 1 << 20          // bytes of a body that is a document
)

// A content is the body of a request without what it is wrapped in. Its last Read says io.EOF only if length, MD5 and checksum are those
// that the request has announced.
type content struct {
	in        io.Reader
	body      *sigv4.Body
	left      int64 // bytes to come
	md5       hash.Hash
	wantMD5   []byte
	sum       hash.Hash // nil: no checksum is announced
	algorithm string
	want      string // the checksum; "": it comes in the trailer
}

// content returns the body of the request.
func (x *exchange) content() (*content, error) {
	length := x.r.ContentLength
	if x.payload.Chunked() {
		n, err := strconv.ParseInt(x.r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || n < 0 {
			length = -1
		} else {
			length = n
		}
	}
	switch {
	case length < 0:
		return nil, fleet.Invalid("", "", "You must provide the Content-Length HTTP header.").WithCode("MissingContentLength")
	case length > bucket.MaxPut:
		return nil, tooLarge()
	}
	body := x.payload.Reader(&patientReader{x.r.Body, deadline{set: http.NewResponseController(x.w).SetReadDeadline}})
	c := &content{in: body, body: body, left: length}
	if text := x.r.Header.Get("Content-Md5"); text != "" {
		want, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(want) != md5.Size {
			return nil, fleet.Invalid("", "", "The Content-MD5 you specified is not valid.").WithCode("InvalidDigest")
		}
		c.md5, c.wantMD5 = md5.New(), want
	}
	return c, nil
}

// checked is content with the checksum that the request announces.
func (x *exchange) checked() (*content, error) {
	c, err := x.content()
	if err != nil {
		return nil, err
	}
	return c, c.checksums(x.r.Header)
}

// checksums finds out which checksum the request announces: in a header, or for its trailer.
func (c *content) checksums(h http.Header) error {
	for _, algorithm := range bucket.Algorithms {
		name := checksumHeader(algorithm)
		value := h.Get(name)
		later := slices.ContainsFunc(strings.Split(h.Get("X-Amz-Trailer"), ","), func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), name) })
		if value == "" && !later {
			continue
		}
		if c.sum != nil {
			return fleet.Invalid("", "", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.").WithCode("InvalidRequest")
		}
		c.sum, c.algorithm, c.want = bucket.NewHash(algorithm), algorithm, value
	}
	return nil
}

func checksumHeader(algorithm string) string { return "x-amz-checksum-" + strings.ToLower(algorithm) }

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return n, io.ErrUnexpectedEOF
	}
	if c.md5 != nil {
		c.md5.Write(p[:n])
	}
	if c.sum != nil {
		c.sum.Write(p[:n])
	}
	if err == io.EOF {
		if wrong := c.check(); wrong != nil {
			err = wrong
		}
	}
	return n, err
}

// check compares what came with what was announced.
func (c *content) check() error {
	if c.left != 0 {
		return io.ErrUnexpectedEOF
	}
	if c.md5 != nil && subtle.ConstantTimeCompare(c.md5.Sum(nil), c.wantMD5) != 1 {
		return fleet.Invalid("", "", "The Content-MD5 you specified did not match what we received.").WithCode("BadDigest")
	}
	if c.sum == nil {
		return nil
	}
	if c.want == "" {
		c.want = c.body.Trailer(checksumHeader(c.algorithm))
	}
	if c.want != base64.StdEncoding.EncodeToString(c.sum.Sum(nil)) {
		return fleet.Invalid("", "", "The %s you specified did not match the calculated checksum.", c.algorithm).WithCode("BadDigest")
	}
	return nil
}

// checksum is the one that was found to hold. Without one that the client has said S3 keeps CRC64NVME; we keep none.
func (c *content) checksum() bucket.Checksum {
	if c.sum == nil {
		return bucket.Checksum{}
	}
	return bucket.Checksum{Algorithm: c.algorithm, Value: c.want}
}

// document reads a body that is XML, as open returns it, into v. An empty one is no document; ok is false then.
func (x *exchange) document(open func() (*content, error), v any) (ok bool, err error) {
	c, err := open()
	if err != nil {
		return false, err
	}
	if c.left > maxDocument {
		return false, malformedXML()
	}
	text, err := io.ReadAll(c)
	if err != nil {
		return false, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return false, nil
	}
	if bytes.Contains(text, []byte("<!")) { // no document of S3 has a declaration
		return false, malformedXML()
	}
	if err := xml.Unmarshal(text, v); err != nil {
		return false, malformedXML()
	}
	return true, nil
}

// A deadline gives a client more time whenever it has sent or taken something: a large object takes longer than a request may.
type deadline struct {
	set   func(time.Time) error
	until time.Time
}

func (d *deadline) extend() {
	if now := time.Now(); d.until.Sub(now) < patience/2 {
		d.until = now.Add(patience)
		_ = d.set(d.until) // one that has no deadlines needs none
	}
}

type patientReader struct {
	r io.Reader
	deadline
}

// Read implements io.Reader.
func (p *patientReader) Read(b []byte) (int, error) {
	p.extend()
	return p.r.Read(b)
}

type patientWriter struct {
	w io.Writer
	deadline
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	p.extend()
	return p.w.Write(b)
}
