package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// keptHeaders are stored with an object and given back with it.
var keptHeaders = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}

const metadataPrefix = "X-Amz-Meta-" // as net/http has it

// described is what a request says of the object that it puts.
func (x *exchange) described() (o bucket.PutOptions, err error) {
	o.Headers, o.Metadata = map[string]string{"Content-Type": "binary/octet-stream"}, map[string]string{}
	size := 0
	for name, values := range x.r.Header {
		value := strings.Join(values, ",")
		if key, ok := strings.CutPrefix(name, metadataPrefix); ok {
			o.Metadata[strings.ToLower(key)] = value
			size += len(key) + len(value)
		}
		if name == "Content-Encoding" {
			value = withoutChunks(value)
		}
		if slices.Contains(keptHeaders, name) && value != "" {
			if size += len(value); len(value) > 8<<10 {
				return o, fleet.Invalid("", "", "The header %s is too long", name).WithCode("InvalidArgument")
			}
			o.Headers[name] = value
		}
	}
	if size > bucket.MaxMetadata+16<<10 {
		return o, fleet.Invalid("", "", "Your metadata headers exceed the maximum allowed metadata size.").WithCode("MetadataTooLarge")
	}
	switch match := x.r.Header.Get("If-None-Match"); match {
	case "":
	case "*":
		o.IfAbsent = true
	default:
		return o, notImplemented("If-None-Match with an ETag")
	}
	o.IfMatch = unquoted(x.r.Header.Get("If-Match"))
	return o, nil
}

// withoutChunks takes the encoding of the transfer out of that of the object.
func withoutChunks(encoding string) string {
	var kept []string
	for part := range strings.SplitSeq(encoding, ",") {
		if part = strings.TrimSpace(part); part != "" && part != "aws-chunked" {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, ",")
}

func (x *exchange) putObject() error {
	o, err := x.described()
	if err != nil {
		return err
	}
	c, err := x.checked()
	if err != nil {
		return err
	}
	o.Checksum = c.checksum
	made, err := x.Folder.Put(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, c, o)
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("ETag", quoted(made.ETag))
	showChecksum(h, made.Checksum)
	return x.empty(http.StatusOK)
}

func showChecksum(h http.Header, c bucket.Checksum) {
	if c.Value == "" {
		return
	}
	kind := "FULL_OBJECT"
	if c.Composite {
		kind = "COMPOSITE"
	}
	h.Set(checksumHeader(c.Algorithm), c.Value)
	h.Set("X-Amz-Checksum-Type", kind)
}

// getObject serves GET and HEAD.
func (x *exchange) getObject() error {
	o, file, err := x.Folder.File(x.ctx, x.caller.Scope, x.req.bucket, x.req.key)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := x.conditions(o); err != nil {
		return err
	}
	from, length, status := int64(0), o.Size, http.StatusOK
	if text := x.r.Header.Get("Range"); text != "" {
		var part bool
		if from, length, part, err = parseRange(text, o.Size); err != nil {
			return err
		}
		if part {
			status = http.StatusPartialContent
			x.w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, o.Size))
		}
	}
	x.describe(o, status == http.StatusOK)
	x.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if x.r.Method == http.MethodHead {
		return x.status(status, nil)
	}
	return x.send(file, from, length, status)
}

// send answers with part of a file.
func (x *exchange) send(file *os.File, from, length int64, status int) error {
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return err
	}
	_ = x.status(status, nil)
	_, err := io.CopyN(&patientWriter{x.w, deadline{set: http.NewResponseController(x.w).SetWriteDeadline}}, file, length)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the file of %s/%s has become shorter", x.req.bucket, x.req.key)
	}
	return nil // a client that has gone is no error
}

// describe says in headers what is known of an object, and what the query wants to be said instead.
func (x *exchange) describe(o bucket.Object, whole bool) {
	h := x.w.Header()
	for k, v := range o.Headers {
		h.Set(k, v)
	}
	for k, v := range o.Metadata {
		h[strings.ToLower(metadataPrefix)+k] = []string{v} // botocore takes the rest of the name as it comes
	}
	for _, name := range keptHeaders {
		if v := x.req.query.Get("response-" + strings.ToLower(name)); v != "" {
			h.Set(name, v)
		}
	}
	h.Set("ETag", quoted(o.ETag))
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox") // a page that somebody has stored must not act as one of ours
	if whole && strings.EqualFold(x.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		showChecksum(h, o.Checksum)
	}
}

// conditions holds a read to what it wants (RFC 9110 section 13.2.2).
func (x *exchange) conditions(o bucket.Object) error {
	h := x.r.Header
	failed := fleet.Invalid("", "", "At least one of the pre-conditions you specified did not hold").WithCode("PreconditionFailed")
	fresh := fleet.Invalid("", "", "Not Modified").WithCode("NotModified")
	if m := h.Get("If-Match"); m != "" {
		if !matches(m, o.ETag) {
			return failed
		}
	} else if t, err := http.ParseTime(h.Get("If-Unmodified-Since")); err == nil && o.Modified.Truncate(time.Second).After(t) {
		return failed
	}
	if m := h.Get("If-None-Match"); m != "" {
		if matches(m, o.ETag) {
			x.w.Header().Set("ETag", quoted(o.ETag))
			return fresh
		}
	} else if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil && !o.Modified.Truncate(time.Second).After(t) {
		return fresh
	}
	return nil
}

func matches(list, etag string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "*" || unquoted(part) == etag {
			return true
		}
	}
	return false
}

// parseRange reads a Range header. Several ranges, and what is none, mean the whole object.
func parseRange(text string, size int64) (from, length int64, part bool, err error) {
	spec, ok := strings.CutPrefix(text, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return 0, size, false, nil
	}
	unsatisfiable := fleet.Invalid("", "", "The requested range is not satisfiable").WithCode("InvalidRange")
	end := size - 1
	if first == "" { // the last so many
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, size, false, nil
		}
		if n == 0 || size == 0 {
			return 0, 0, false, unsatisfiable
		}
		return max(size-n, 0), min(n, size), true, nil
	}
	if from, err = strconv.ParseInt(first, 10, 64); err != nil || from < 0 {
		return 0, size, false, nil
	}
	if last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < from {
			return 0, size, false, nil
		}
		end = min(end, n)
	}
	if from >= size {
		return 0, 0, false, unsatisfiable
	}
	return from, end - from + 1, true, nil
}

func (x *exchange) deleteObject() error {
	if err := x.Folder.Delete(x.ctx, x.caller.Scope, x.req.bucket, x.req.key); err != nil {
		return err
	}
	return x.empty(http.StatusNoContent)
}

func (x *exchange) copyObject() error {
	source, version, _ := strings.Cut(x.r.Header.Get("X-Amz-Copy-Source"), "?")
	source, err := url.PathUnescape(strings.TrimPrefix(source, "/"))
	name, key, ok := strings.Cut(source, "/")
	if err != nil || !ok {
		return fleet.Invalid("", "", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey").WithCode("InvalidArgument")
	}
	if version != "" {
		return notImplemented("Copying a version")
	}
	for header := range x.r.Header {
		if strings.HasPrefix(header, "X-Amz-Copy-Source-If") {
			return notImplemented("The header %s", strings.ToLower(header))
		}
	}
	if err := x.authorize("GetObject", bucket.ARN(name, key), nil); err != nil {
		return err
	}
	was, file, err := x.Folder.File(x.ctx, x.caller.Scope, name, key)
	if err != nil {
		return x.untold(err, name)
	}
	defer file.Close()
	o, err := x.described()
	if err != nil {
		return err
	}
	if x.r.Header.Get("X-Amz-Metadata-Directive") != "REPLACE" {
		o.Headers, o.Metadata = was.Headers, was.Metadata
	}
	if !was.Checksum.Composite {
		o.Checksum = func() bucket.Checksum { return was.Checksum }
	}
	made, err := x.Folder.Put(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, io.LimitReader(file, was.Size), o)
	if err != nil {
		return err
	}
	return x.answer(struct {
		XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		LastModified, ETag string
	}{LastModified: stamp(made.Modified), ETag: quoted(made.ETag)})
}
