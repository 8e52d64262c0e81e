package bucket

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/imprint-iot/imprint/internal/fleet"
)

var home = fleet.Scope{Account: "000000000000", Region: "eu-central-1"}

// folder returns a Folder with a bucket "b".
func folder(t *testing.T) *Folder {
	t.Helper()
	f, err := NewFolder(FolderConfig{Dir: filepath.Join(t.TempDir(), "buckets"), Home: home})
	if err != nil {
		t.Fatal(err)
	}
	f.reserve = 0
	if err := f.CreateBucket(t.Context(), home, "bkt"); err != nil {
		t.Fatal(err)
	}
	return f
}

func put(t *testing.T, f *Folder, key, content string) Object {
	t.Helper()
	o, err := f.Put(t.Context(), home, "bkt", key, strings.NewReader(content), PutOptions{})
	if err != nil {
		t.Fatalf("putting %q: %v", key, err)
	}
	return o
}

func get(t *testing.T, f *Folder, key string) (Object, string) {
	t.Helper()
	o, r, err := f.Open(t.Context(), home, "bkt", key, 0)
	if err != nil {
		t.Fatalf("opening %q: %v", key, err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return o, string(text)
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *fleet.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestObjectsAreFilesUnderTheirKeys(t *testing.T) {
	t.Parallel()
	f := folder(t)
	put(t, f, "fleet/2026/lamps.json", "one")
	path := filepath.Join(f.dir, "bkt", "fleet", "2026", "lamps.json")
	if text, err := os.ReadFile(path); err != nil || string(text) != "one" {
		t.Fatalf("%s holds %q, %v", path, text, err)
	}
	// One that an operator copies in is an object, too.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "by hand.json"), []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, text := get(t, f, "fleet/2026/by hand.json")
	if text != "two" || o.Size != 3 || o.Headers["Content-Type"] != "application/json" || !strings.Contains(o.ETag, "-") {
		t.Errorf("by hand: %q %+v", text, o)
	}
}

func TestAnObjectKeepsWhatWasSaidOfIt(t *testing.T) {
	t.Parallel()
	f := folder(t)
	o := PutOptions{Headers: map[string]string{"Content-Type": "text/x"}, Metadata: map[string]string{"plant": "7"},
		Checksum: func() Checksum { return Checksum{Algorithm: "CRC32", Value: "AAAA"} }}
	if _, err := f.Put(t.Context(), home, "bkt", "k", strings.NewReader("hello"), o); err != nil {
		t.Fatal(err)
	}
	got, err := f.Head(t.Context(), home, "bkt", "k")
	if err != nil || got.ETag != "5d41402abc4b2a76b9719d911017c592" || got.Headers["Content-Type"] != "text/x" || got.Metadata["plant"] != "7" || got.Checksum.Value != "AAAA" {
		t.Errorf("%+v, %v", got, err)
	}
}

// A power cut may come between a new description and the content that it describes.
func TestACutPutLeavesTheOldObjectWithItsDescription(t *testing.T) {
	t.Parallel()
	f := folder(t)
	before := put(t, f, "k", "old content")
	_, path, err := f.objectPath(home, "bkt", "k")
	if err != nil {
		t.Fatal(err)
	}
	if err := keepDescription(path, description{Size: before.Size, Modified: before.Modified.UnixNano() + 1, ETag: "new"}); err != nil {
		t.Fatal(err)
	}
	after, text := get(t, f, "k")
	if text != "old content" || after.ETag != before.ETag {
		t.Errorf("after the cut: %q %+v, before %+v", text, after, before)
	}
	if o := put(t, f, "k", "new content"); o.ETag == before.ETag {
		t.Error("the new content has the old ETag")
	}
	if after, text := get(t, f, "k"); text != "new content" || after.ETag == before.ETag || strings.Contains(after.ETag, "-") {
		t.Errorf("%q %+v", text, after)
	}
}

func TestContentThatEndsInAnErrorLeavesWhatWasThere(t *testing.T) {
	t.Parallel()
	f := folder(t)
	put(t, f, "k", "old")
	failure := errors.New("the line is cut")
	if _, err := f.Put(t.Context(), home, "bkt", "k", io.MultiReader(strings.NewReader("ne"), iotest.ErrReader(failure)), PutOptions{}); !errors.Is(err, failure) {
		t.Errorf("put: %v", err)
	}
	if _, text := get(t, f, "k"); text != "old" {
		t.Errorf("content is %q", text)
	}
	left, err := os.ReadDir(filepath.Join(f.dir, "bkt", stagingDir))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestConditionsOfPuts(t *testing.T) {
	t.Parallel()
	f := folder(t)
	try := func(o PutOptions) error {
		_, err := f.Put(t.Context(), home, "bkt", "k", strings.NewReader("x"), o)
		return err
	}
	wantCode(t, try(PutOptions{IfMatch: "e"}), "NoSuchKey")
	if err := try(PutOptions{IfAbsent: true}); err != nil {
		t.Error(err)
	}
	wantCode(t, try(PutOptions{IfAbsent: true}), "PreconditionFailed")
	wantCode(t, try(PutOptions{IfMatch: "e"}), "PreconditionFailed")
	if err := try(PutOptions{IfMatch: "9dd4e461268c8034f5c8564e155c67a6"}); err != nil {
		t.Error(err)
	}
}

func TestDeletingLeavesNothing(t *testing.T) {
	t.Parallel()
	f := folder(t)
	put(t, f, "a/b/c", "x")
	wantCode(t, f.DeleteBucket(t.Context(), home, "bkt"), "BucketNotEmpty")
	for range 2 { // the second time there is none
		if err := f.Delete(t.Context(), home, "bkt", "a/b/c"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.Head(t.Context(), home, "bkt", "a/b/c")
	wantCode(t, err, "NoSuchKey")
	if _, err := os.Stat(filepath.Join(f.dir, "bkt", "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder is left: %v", err)
	}
	if err := f.DeleteBucket(t.Context(), home, "bkt"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, f.HeadBucket(t.Context(), home, "bkt"), "NoSuchBucket")
}

func TestWhatAFolderCannotHaveIsRefused(t *testing.T) {
	t.Parallel()
	f := folder(t)
	put(t, f, "a/b", "x")
	put(t, f, "c", "x")
	for _, key := range []string{"a", "c/d", "c/d/e"} {
		_, err := f.Put(t.Context(), home, "bkt", key, strings.NewReader(""), PutOptions{})
		wantCode(t, err, "InvalidRequest")
	}
	for key, code := range map[string]string{"": "InvalidArgument", "\xff": "InvalidArgument", strings.Repeat("a/", 513): "KeyTooLongError", strings.Repeat("ä", 120): "KeyTooLongError"} {
		_, err := f.Put(t.Context(), home, "bkt", key, strings.NewReader(""), PutOptions{})
		wantCode(t, err, code)
	}
	page, err := f.List(t.Context(), home, "bkt", ListQuery{Limit: 10})
	if err != nil || len(page.Objects) != 2 {
		t.Errorf("list: %+v, %v", page, err)
	}
}

func TestScopesDoNotShareBuckets(t *testing.T) {
	t.Parallel()
	f := folder(t)
	put(t, f, "k", "x")
	for _, other := range []fleet.Scope{{Account: "111111111111", Region: home.Region}, {Account: home.Account, Region: "us-east-1"}} {
		if list, err := f.Buckets(t.Context(), other); err != nil || len(list) > 0 {
			t.Errorf("%s sees %v, %v", other, list, err)
		}
		_, _, err := f.Open(t.Context(), other, "bkt", "k", 0)
		wantCode(t, err, "NoSuchBucket")
	}
}

func TestANameIsOneAccounts(t *testing.T) {
	t.Parallel()
	f := folder(t)
	other := fleet.Scope{Account: "111111111111", Region: home.Region}
	wantCode(t, f.CreateBucket(t.Context(), home, "bkt"), "BucketAlreadyOwnedByYou")
	wantCode(t, f.CreateBucket(t.Context(), other, "bkt"), "BucketAlreadyExists")
	if err := errors.Join(os.Mkdir(filepath.Join(f.dir, "by-hand"), 0o700), f.CreateBucket(t.Context(), other, "theirs")); err != nil {
		t.Fatal(err)
	}
	names := func(s fleet.Scope) (names []string) {
		list, err := f.Buckets(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			names = append(names, b.Name)
		}
		return names
	}
	if got := names(home); !slices.Equal(got, []string{"bkt", "by-hand"}) {
		t.Errorf("home has %q", got)
	}
	if got := names(other); !slices.Equal(got, []string{"theirs"}) {
		t.Errorf("the other account has %q", got)
	}
	wantCode(t, f.HeadBucket(t.Context(), home, "theirs"), "NoSuchBucket")
	// One whose owner cannot be read is nobody's.
	if err := os.WriteFile(filepath.Join(f.dir, "theirs", birthFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []fleet.Scope{home, other} {
		wantCode(t, f.HeadBucket(t.Context(), s, "theirs"), "NoSuchBucket")
	}
	wantCode(t, f.CreateBucket(t.Context(), other, "theirs"), "BucketAlreadyExists")
}

func TestNoNameOfABucketTouchesTheReports(t *testing.T) {
	t.Parallel()
	f := folder(t)
	log, err := f.OpenLog(home, "task/report", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Append("kept"), log.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reports", "new", "staging", "uploads", "bucket"} {
		if err := f.CreateBucket(t.Context(), fleet.Scope{Account: "111111111111", Region: home.Region}, name); err != nil {
			t.Error(err)
		}
	}
	_, r, err := f.Open(t.Context(), home, Reports, "task/report", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); string(text) != "kept" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	f := folder(t)
	for _, name := range []string{"", "..", ".", "a", "A-b", "a..b", "10.0.0.1", "-ab", "a/b", strings.Repeat("a", 64), ".uploads"} {
		wantCode(t, f.CreateBucket(t.Context(), home, name), "InvalidBucketName")
		_, _, err := f.Open(t.Context(), home, name, "k", 0)
		wantCode(t, err, "NoSuchBucket")
	}
	wantCode(t, f.CreateBucket(t.Context(), home, Reports), "BucketAlreadyExists")
	// A link that leads out of the bucket is no object.
	outside := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(outside, []byte("s"), 0o600), os.Symlink(outside, filepath.Join(f.dir, "bkt", "link"))); err != nil {
		t.Fatal(err)
	}
	_, _, err := f.Open(t.Context(), home, "bkt", "link", 0)
	wantCode(t, err, "NoSuchKey")
}

// model is what List must give, by the words of S3's documentation.
func model(keys []string, q ListQuery) (items []string, next string) {
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if !strings.HasPrefix(key, q.Prefix) || key <= q.After {
			continue
		}
		item := key
		if common, ok := commonPrefix(key, q); ok {
			if item = common; common == q.After || slices.Contains(items, common) {
				continue
			}
		}
		if len(items) == q.Limit {
			return items, items[len(items)-1]
		}
		items = append(items, item)
	}
	return items, ""
}

func TestListsAreThoseOfAModel(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	parts := []string{"a", "b", "a-b", "a.b", "", "ä", "%", ".hid", "a b", "x%2F", "\x01"}
	f := folder(t)
	var keys []string
	for range 150 {
		var seg []string
		for range 1 + r.IntN(4) {
			seg = append(seg, parts[r.IntN(len(parts))])
		}
		key := strings.Join(seg, "/")
		if _, err := f.Put(t.Context(), home, "bkt", key, strings.NewReader(key), PutOptions{}); err == nil && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if len(keys) < 50 {
		t.Fatalf("only %d keys", len(keys))
	}
	for _, prefix := range []string{"", "a", "a/", "a-", "x", "ä/", ".h", "%", "/"} {
		for _, delimiter := range []string{"", "/", "-", "a/"} {
			for _, limit := range []int{1, 2, 7, 1000} {
				q := ListQuery{Prefix: prefix, Delimiter: delimiter, Limit: limit}
				for {
					page, err := f.List(t.Context(), home, "bkt", q)
					if err != nil {
						t.Fatal(err)
					}
					items := slices.Clone(page.Prefixes)
					for _, o := range page.Objects {
						items = append(items, o.Key)
					}
					slices.Sort(items)
					want, next := model(keys, q)
					if !slices.Equal(items, want) || page.Next != next {
						t.Fatalf("%+v: got %q next %q, want %q next %q", q, items, page.Next, want, next)
					}
					if next == "" {
						break
					}
					q.After = next
				}
			}
		}
	}
}

func TestUploadsInParts(t *testing.T) {
	t.Parallel()
	f := folder(t)
	u, err := f.CreateUpload(t.Context(), home, "bkt", Upload{Key: "big", Headers: map[string]string{"Content-Type": "text/x"}, Checksum: Checksum{Algorithm: "CRC32"}})
	if err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), MinPart/16)
	part := func(n int, content []byte) NamedPart {
		p, err := f.PutPart(t.Context(), home, "bkt", "big", u.ID, n, bytes.NewReader(content), nil)
		if err != nil {
			t.Fatal(err)
		}
		return NamedPart{Number: n, ETag: p.ETag}
	}
	part(1, []byte("to be replaced"))
	small, first, last := part(3, []byte("small")), part(1, content), part(7, []byte("end"))
	complete := func(parts ...NamedPart) error {
		_, err := f.CompleteUpload(t.Context(), home, "bkt", "big", u.ID, parts, PutOptions{})
		return err
	}
	wantCode(t, complete(last, first), "InvalidPartOrder")
	wantCode(t, complete(first, first), "InvalidPartOrder")
	wantCode(t, complete(first, NamedPart{Number: 7, ETag: first.ETag}), "InvalidPart")
	wantCode(t, complete(first, NamedPart{Number: 8, ETag: first.ETag}), "InvalidPart")
	wantCode(t, complete(first, small, last), "EntityTooSmall")
	if _, parts, more, err := f.Parts(t.Context(), home, "bkt", "big", u.ID, 0, 2); err != nil || len(parts) != 2 || !more || parts[0].Size != MinPart {
		t.Errorf("parts: %+v %v %v", parts, more, err)
	}
	if list, more, err := f.Uploads(t.Context(), home, "bkt", "bi", "", 1); err != nil || more || len(list) != 1 || list[0].ID != u.ID {
		t.Errorf("uploads: %+v %v %v", list, more, err)
	}
	if err := complete(first, last); err != nil {
		t.Fatal(err)
	}
	o, text := get(t, f, "big")
	if text != string(content)+"end" || !strings.HasSuffix(o.ETag, "-2") || o.Headers["Content-Type"] != "text/x" || o.Checksum.Algorithm != "CRC32" {
		t.Errorf("%d bytes, %+v", len(text), o)
	}
	wantCode(t, complete(first, last), "NoSuchUpload")
	wantCode(t, f.AbortUpload(t.Context(), home, "bkt", "big", u.ID), "NoSuchUpload")
	wantCode(t, f.AbortUpload(t.Context(), home, "bkt", "big", "../../bkt"), "NoSuchUpload")
}

func TestADiskThatIsFullTakesNoMore(t *testing.T) {
	t.Parallel()
	f := folder(t)
	f.reserve = 1 << 62
	_, err := f.Put(t.Context(), home, "bkt", "k", strings.NewReader("x"), PutOptions{})
	wantCode(t, err, "InsufficientStorage")
}

func FuzzKeys(f *testing.F) {
	for _, key := range []string{"a", "a/b", "/", "//", "a/", "..", "../x", "a/../b", ".hidden", "%", "%2E", "x%2Fy", "\x00", "ä/ö", "a\\b", "%%", "%2e", strings.Repeat("x", 1025),
		strings.Repeat("y", 231), "\xff", "a\x7f/\n"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		path, err := encodeKey(key)
		if err != nil {
			return
		}
		if !filepath.IsLocal(path) || strings.HasPrefix(path, ".") || strings.Contains(path, "/.") || filepath.Clean(path) != path {
			t.Fatalf("%q becomes %q", key, path)
		}
		var segs []string
		for seg := range strings.SplitSeq(path, "/") {
			s, ok := decodeSegment(seg)
			if !ok {
				t.Fatalf("%q becomes %q, of which %q is none of ours", key, path, seg)
			}
			segs = append(segs, s)
		}
		if got := strings.Join(segs, "/"); got != key {
			t.Fatalf("%q becomes %q, which is %q", key, path, got)
		}
	})
}

// What is in a folder under a name that no key becomes is no object: it would be another key's.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a", "%", "%2E", "%2e", "%41", ".x", "%2", "%2Fx", "%25", "%FF", "\xff", "%00", "\t", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if seg, ok := decodeSegment(name); ok {
			var b strings.Builder
			encodeSegment(&b, seg)
			if b.String() != name {
				t.Fatalf("%q is taken for %q, which becomes %q", name, seg, b.String())
			}
		}
	})
}

// deleting is content that deletes the bucket to which it is being uploaded.
type deleting struct {
	io.Reader
	delete func() error
}

func (d deleting) Read(p []byte) (int, error) {
	if err := d.delete(); err != nil && !strings.Contains(err.Error(), "does not exist") {
		return 0, err
	}
	return d.Reader.Read(p)
}

func TestABucketThatIsDeletedMeanwhileDoesNotComeBack(t *testing.T) {
	t.Parallel()
	f := folder(t)
	other := fleet.Scope{Account: "111111111111", Region: home.Region}
	for name, receive := range map[string]func(io.Reader) error{
		"put": func(r io.Reader) error {
			_, err := f.Put(t.Context(), other, "theirs", "a/b", r, PutOptions{})
			return err
		},
		"part": func(r io.Reader) error {
			u, err := f.CreateUpload(t.Context(), other, "theirs", Upload{Key: "a"})
			if err != nil {
				return err
			}
			_, err = f.PutPart(t.Context(), other, "theirs", "a", u.ID, 1, r, nil)
			return err
		},
	} {
		if err := f.CreateBucket(t.Context(), other, "theirs"); err != nil {
			t.Fatal(err)
		}
		remove := func() error { return f.DeleteBucket(t.Context(), other, "theirs") }
		if err := receive(deleting{strings.NewReader("secret"), remove}); err == nil {
			t.Errorf("%s: into a bucket that is gone", name)
		}
		if left, err := os.ReadDir(f.dir); err != nil || len(left) != 1 || left[0].Name() != "bkt" {
			t.Errorf("%s: left is %v, %v", name, left, err)
		}
	}
	if _, err := makeIn(filepath.Join(f.dir, "theirs"), stagingDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the bucket came back: %v", err)
	}
}

func TestWhatWasBeingDeletedIsGoneAfterAStart(t *testing.T) {
	t.Parallel()
	f := folder(t)
	for _, name := range []string{beginning + "x", ending + "x"} {
		if err := os.MkdirAll(filepath.Join(f.dir, name, "a"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := NewFolder(FolderConfig{Dir: f.dir, Home: home}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(f.dir); err != nil || len(left) != 1 {
		t.Errorf("left is %v, %v", left, err)
	}
}
