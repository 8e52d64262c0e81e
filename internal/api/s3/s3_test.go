package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

var home = fleet.Scope{Account: "000000000000", Region: "eu-central-1"}

// A world is an API whose caller may do everything that deny does not name.
type world struct {
	testing.TB
	api    *API
	caller fleet.Caller
	deny   string // an action, perhaps with a space and its resource
	asked  []string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	f, err := bucket.NewFolder(bucket.FolderConfig{Dir: filepath.Join(t.TempDir(), "buckets")})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, caller: fleet.Caller{Scope: home, ARN: "arn:aws:iam::000000000000:user/u"}}
	w.api = New(Config{Folder: f, Region: home.Region, Host: "iot.lan", Log: slog.New(slog.DiscardHandler),
		Authenticate: func(_ context.Context, r *http.Request) (*fleet.Caller, *sigv4.Payload, error) {
			p, err := sigv4.PayloadOf(r)
			return &w.caller, p, err
		},
		Authorize: func(_ context.Context, _ *fleet.Caller, a wire.Access) error {
			w.asked = append(w.asked, a.Action+" "+strings.Join(a.Resources, ","))
			if a.Action == w.deny || w.asked[len(w.asked)-1] == w.deny {
				return fleet.Denied("denied")
			}
			return nil
		}})
	w.call("PUT", "/bkt", "")
	return w
}

// call makes a request; header are names and values in turns. It returns the status and the body, or the code of an error.
func (w *world) call(method, target, body string, header ...string) (int, string, http.Header) {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, "https://iot.lan"+target, strings.NewReader(body))
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	w.asked = nil
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	text, err := io.ReadAll(rec.Body)
	if err != nil {
		w.Fatal(err)
	}
	var e wire.S3Error
	if rec.Code >= 300 && xml.Unmarshal(text, &e) == nil {
		text = []byte(e.Code)
	}
	return rec.Code, string(text), rec.Header()
}

// A cutter shortens a file when its answer begins.
type cutter struct {
	*httptest.ResponseRecorder
	cut func() error
}

func (c cutter) WriteHeader(status int) {
	c.ResponseRecorder.WriteHeader(status)
	if err := c.cut(); err != nil {
		panic(err)
	}
}

func TestAnAnswerThatIsCutIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/a", strings.Repeat("x", 100))
	_, file, err := w.api.Folder.File(t.Context(), home, "bkt", "a")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var log bytes.Buffer
	var told []wire.Event
	w.api.Log, w.api.Observe = slog.New(slog.NewTextHandler(&log, nil)), func(e wire.Event) { told = append(told, e) }
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://iot.lan/bkt/a", nil)
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("it ended with %v", p)
			}
		}()
		w.api.ServeHTTP(cutter{httptest.NewRecorder(), func() error { return os.Truncate(file.Name(), 50) }}, r)
	}()
	if !strings.Contains(log.String(), "the file of bkt/a has become shorter") || strings.Count(log.String(), "msg=request ") != 1 || len(told) != 1 {
		t.Errorf("%d events; the log says\n%s", len(told), log.String())
	}
}

func TestEachOperationAsksIAM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/a/b", "x")
	for _, row := range []struct{ method, target, body, asks string }{
		{"GET", "/", "", "s3:ListAllMyBuckets *"},
		{"HEAD", "/bkt", "", "s3:ListBucket arn:aws:s3:::bkt"},
		{"GET", "/bkt?list-type=2", "", "s3:ListBucket arn:aws:s3:::bkt"},
		{"GET", "/bkt/", "", "s3:ListBucket arn:aws:s3:::bkt"},
		{"GET", "/bkt?location", "", "s3:GetBucketLocation arn:aws:s3:::bkt"},
		{"GET", "/bkt?uploads", "", "s3:ListBucketMultipartUploads arn:aws:s3:::bkt"},
		{"POST", "/bkt?delete", "<Delete><Object><Key>n</Key></Object></Delete>", "s3:DeleteObject arn:aws:s3:::bkt/n"},
		{"GET", "/bkt/a/b", "", "s3:GetObject arn:aws:s3:::bkt/a/b"},
		{"HEAD", "/bkt/a/b", "", "s3:GetObject arn:aws:s3:::bkt/a/b"},
		{"PUT", "/bkt/c%2Fd%3F", "x", "s3:PutObject arn:aws:s3:::bkt/c/d?"},
		{"POST", "/bkt/u?uploads", "", "s3:PutObject arn:aws:s3:::bkt/u"},
		{"GET", "/bkt/u?uploadId=x", "", "s3:ListMultipartUploadParts arn:aws:s3:::bkt/u"},
		{"DELETE", "/bkt/u?uploadId=x", "", "s3:AbortMultipartUpload arn:aws:s3:::bkt/u"},
		{"DELETE", "/bkt/none", "", "s3:DeleteObject arn:aws:s3:::bkt/none"},
		{"PUT", "/other", "", "s3:CreateBucket arn:aws:s3:::other"},
		{"DELETE", "/other", "", "s3:DeleteBucket arn:aws:s3:::other"},
	} {
		w.deny = ""
		w.call(row.method, row.target, row.body)
		if len(w.asked) == 0 || w.asked[0] != row.asks {
			t.Errorf("%s %s asks %q, want %q", row.method, row.target, w.asked, row.asks)
		}
		w.deny, _, _ = strings.Cut(row.asks, " ")
		if status, body, _ := w.call(row.method, row.target, row.body); status != http.StatusForbidden && !strings.Contains(body, "<Code>AccessDenied</Code>") {
			t.Errorf("%s %s without the right: %d %s", row.method, row.target, status, body)
		}
	}
}

func TestACopyAsksForItsSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/secret", "x")
	w.deny = "s3:GetObject"
	if status, code, _ := w.call("PUT", "/bkt/copy", "", "X-Amz-Copy-Source", "/bkt/secret"); status != http.StatusForbidden || code != "AccessDenied" {
		t.Errorf("a copy of what must not be read: %d %s", status, code)
	}
	w.deny = ""
	if status, body, _ := w.call("PUT", "/bkt/copy", "", "X-Amz-Copy-Source", "/bkt/secret"); status != http.StatusOK {
		t.Errorf("a copy: %d %s", status, body)
	}
}

func TestWhatIsMissingIsNotToldToWhoMayNotList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if status, code, _ := w.call("GET", "/bkt/none", ""); status != http.StatusNotFound || code != "NoSuchKey" {
		t.Errorf("%d %s", status, code)
	}
	w.deny = "s3:ListBucket"
	for _, target := range []string{"/bkt/none", "/nobucket/none"} {
		if status, code, _ := w.call("GET", target, ""); status != http.StatusForbidden || code != "AccessDenied" {
			t.Errorf("%s: %d %s", target, status, code)
		}
	}
}

func TestACopyDoesNotTellWhatIsMissingInItsSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/src", "")
	w.call("PUT", "/src/there", "x")
	copied := func(key string) string {
		_, body, _ := w.call("PUT", "/bkt/to", "", "X-Amz-Copy-Source", "src/"+key)
		return body
	}
	if code := copied("none"); code != "NoSuchKey" {
		t.Errorf("told %q", code)
	}
	w.deny = "s3:ListBucket arn:aws:s3:::src"
	if code := copied("none"); code != "AccessDenied" {
		t.Errorf("told %q of what may not be listed", code)
	}
	if body := copied("there"); !strings.Contains(body, "<CopyObjectResult") {
		t.Errorf("what is there: %q", body)
	}
}

func TestAccountsHaveBucketsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/k", "mine")
	w.caller.Scope.Account = "111111111111"
	for _, request := range []string{"GET /bkt/k", "HEAD /bkt/k", "PUT /bkt/k", "DELETE /bkt/k", "GET /bkt?list-type=2", "GET /bkt?uploads", "GET /bkt?location", "HEAD /bkt", "DELETE /bkt",
		"POST /bkt/k?uploads", "GET /bkt/k?uploadId=x", "DELETE /bkt/k?uploadId=x", "PUT /bkt/k?partNumber=1&uploadId=x"} {
		method, target, _ := strings.Cut(request, " ")
		if status, code, _ := w.call(method, target, "theirs"); status != http.StatusNotFound || code != "NoSuchBucket" && method != "HEAD" {
			t.Errorf("another account's %s: %d %s", request, status, code)
		}
	}
	if status, code, _ := w.call("PUT", "/bkt", ""); status != http.StatusConflict || code != "BucketAlreadyExists" {
		t.Errorf("another account makes a bucket of that name: %d %s", status, code)
	}
	if _, body, _ := w.call("GET", "/", ""); strings.Contains(body, "bkt") {
		t.Errorf("another account's buckets: %s", body)
	}
	w.caller.Scope.Account = home.Account
	if _, body, _ := w.call("GET", "/bkt/k", ""); body != "mine" {
		t.Errorf("afterwards it holds %q", body)
	}
}

func TestWhatIsNotThereIsRefusedByName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, row := range []struct{ method, target, header, code string }{
		{"GET", "/bkt?acl", "", "NotImplemented"},
		{"PUT", "/bkt?versioning", "", "NotImplemented"},
		{"GET", "/bkt/k?versionId=1", "", "NotImplemented"},
		{"PUT", "/bkt/k?tagging", "", "NotImplemented"},
		{"GET", "/bkt/k?partNumber=1", "", "NotImplemented"},
		{"PUT", "/bkt/k?partNumber=1&uploadId=x", "X-Amz-Copy-Source", "NotImplemented"},
		{"PUT", "/bkt/k", "X-Amz-Server-Side-Encryption", "NotImplemented"},
		{"PUT", "/bkt/k", "X-Amz-Acl", "NotImplemented"},
		{"PATCH", "/bkt/k", "", "MethodNotAllowed"},
		{"POST", "/bkt", "", "MethodNotAllowed"},
		{"GET", "//k", "", "InvalidBucketName"},
		{"GET", "/bkt/%zz", "", "InvalidURI"},
		{"DELETE", "/" + bucket.Reports + "/x", "", "AccessDenied"},
		{"PUT", "/" + bucket.Reports, "", "AccessDenied"},
	} {
		var header []string
		if row.header != "" {
			header = []string{row.header, "x/y"}
		}
		if strings.Contains(row.target, "%zz") { // net/http's server refuses it before
			continue
		}
		if _, code, _ := w.call(row.method, row.target, "x", header...); code != row.code {
			t.Errorf("%s %s: %s, want %s", row.method, row.target, code, row.code)
		}
	}
}

func TestBodiesAreHeldToWhatWasAnnounced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const crc = "M3VA9w==" // of "content"
	for name, row := range map[string]struct {
		body, code string
		header     []string
	}{
		"an MD5":                 {"content", "", []string{"Content-Md5", "mgNkuembtIDdJeHwKEyFVQ=="}},
		"another MD5":            {"contend", "BadDigest", []string{"Content-Md5", "mgNkuembtIDdJeHwKEyFVQ=="}},
		"no MD5":                 {"content", "InvalidDigest", []string{"Content-Md5", "x"}},
		"another checksum":       {"contend", "BadDigest", []string{"X-Amz-Checksum-Crc32", crc}},
		"two checksums":          {"content", "InvalidRequest", []string{"X-Amz-Checksum-Crc32", crc, "X-Amz-Checksum-Sha1", "x"}},
		"chunks without length":  {"7\r\ncontent\r\n0\r\n\r\n", "MissingContentLength", []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}},
		"chunks of other length": {"7\r\ncontent\r\n0\r\n\r\n", "IncompleteBody", []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length", "8"}},
		"no chunks":              {"content", "IncompleteBody", []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length", "7"}},
		"a lacking trailer": {"7\r\ncontent\r\n0\r\n\r\n", "BadDigest", []string{"X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Decoded-Content-Length", "7",
			"X-Amz-Trailer", "x-amz-checksum-crc32"}},
		"too much metadata": {"content", "MetadataTooLarge", []string{"X-Amz-Meta-A", strings.Repeat("x", 20<<10)}},
	} {
		if _, code, _ := w.call("PUT", "/bkt/"+base64.RawURLEncoding.EncodeToString([]byte(name)), row.body, row.header...); code != row.code {
			t.Errorf("%s: %q, want %q", name, code, row.code)
		}
	}
	if _, body, _ := w.call("GET", "/bkt?list-type=2", ""); strings.Count(body, "<Key>") != 1 {
		t.Errorf("stored: %s", body)
	}
}

func TestABucketMayStandInTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/k", "x", "Host", "bkt.iot.lan:8443")
	if status, body, _ := w.call("GET", "/bkt/k", ""); status != http.StatusOK || body != "x" {
		t.Errorf("%d %s", status, body)
	}
}

func TestAStoredPageIsNoneOfOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/page", "<script>alert(1)</script>", "Content-Type", "text/html")
	if _, _, h := w.call("GET", "/bkt/page", ""); h.Get("Content-Security-Policy") != "sandbox" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("PUT", "/bkt/k", "0123456789")
	for text, want := range map[string]string{"bytes=0-0": "0", "bytes=2-4": "234", "bytes=7-": "789", "bytes=7-99": "789", "bytes=-2": "89", "bytes=-99": "0123456789", "bytes=5-3": "0123456789",
		"lines=1-2": "0123456789", "bytes=1-2,4-5": "0123456789", "bytes=10-": "InvalidRange", "bytes=-0": "InvalidRange"} {
		if _, body, _ := w.call("GET", "/bkt/k", "", "Range", text); body != want {
			t.Errorf("%s: %q, want %q", text, body, want)
		}
	}
}
