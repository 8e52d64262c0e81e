package bucket

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// An Upload is an object that comes in parts.
type Upload struct {
	ID       string            `json:"-"`
	Key      string            `json:"key"`
	Began    time.Time         `json:"began"`
	Headers  map[string]string `json:"headers,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Checksum Checksum          `json:"checksum"` // the algorithm, and whether it will be composite
}

// A Part of an upload that has been received.
type Part struct {
	Number   int       `json:"number"`
	ETag     string    `json:"etag"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Checksum Checksum  `json:"checksum"`
	File     string    `json:"file"`
}

// A NamedPart is what completes an upload says of a part.
type NamedPart struct {
	Number   int
	ETag     string
	Checksum string // of the upload's algorithm, base64; "": not said
}

const uploadFile = "upload.json"

var uploadID = fleet.NewPattern(`^[0-9a-f-]{36}$`)

// CreateUpload begins an upload; ID and Began are filled in.
func (f *Folder) CreateUpload(_ context.Context, s fleet.Scope, bucket string, u Upload) (Upload, error) {
	dir, _, err := f.objectPath(s, bucket, u.Key)
	if err != nil {
		return u, err
	}
	u.Began = f.clock.Now()
	u.ID = fleet.NewTimeUUID(u.Began)
	text, err := json.Marshal(u)
	if err != nil {
		return u, err
	}
	uploads, err := makeIn(dir, uploadsDir)
	if err != nil {
		return u, orNoBucket(err, bucket)
	}
	at, err := makeIn(uploads, u.ID)
	if err != nil {
		return u, orNoBucket(err, bucket)
	}
	return u, durable.WriteFile(filepath.Join(at, uploadFile), text, 0o600)
}

func noUpload(id string) error {
	e := fleet.NotFound("upload", id).WithCode("NoSuchUpload")
	e.Msg = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
	return e
}

// upload reads an unfinished upload and returns its folder. Errors: NoSuchBucket, NoSuchUpload.
func (f *Folder) upload(s fleet.Scope, bucket, key, id string) (u Upload, at string, err error) {
	dir, err := f.bucketDir(s, bucket)
	if err != nil {
		return u, "", err
	}
	missing := noUpload(id)
	if !uploadID.MatchString(id) {
		return u, "", missing
	}
	at = filepath.Join(dir, uploadsDir, id)
	text, err := readBounded(filepath.Join(at, uploadFile), maxDescription)
	if err == nil {
		err = json.Unmarshal(text, &u)
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && key != "" && u.Key != key {
		return u, "", missing
	}
	u.ID = id
	return u, at, err
}

// PutPart receives a part, in place of one that has its number.
func (f *Folder) PutPart(_ context.Context, s fleet.Scope, bucket, key, id string, number int, content io.Reader, checksum func() Checksum) (Part, error) {
	if number < 1 || number > MaxParts {
		return Part{}, fleet.Invalid("part", strconv.Itoa(number), "Part number must be an integer between 1 and 10000, inclusive").WithCode("InvalidArgument")
	}
	_, at, err := f.upload(s, bucket, key, id)
	if err != nil {
		return Part{}, err
	}
	staged, sum, err := f.stage(at, content)
	if errors.Is(err, fs.ErrNotExist) { // it was aborted meanwhile
		return Part{}, noUpload(id)
	}
	if err != nil {
		return Part{}, err
	}
	info, err := os.Lstat(staged)
	if err != nil {
		return Part{}, err
	}
	p := Part{Number: number, ETag: hex.EncodeToString(sum), Size: info.Size(), Modified: f.clock.Now(), File: filepath.Base(staged)}
	if checksum != nil {
		p.Checksum = checksum()
	}
	text, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	defer f.lock(at)()
	before, readErr := readPart(at, number)
	if err := durable.WriteFile(partPath(at, number), text, 0o600); err != nil {
		return p, errors.Join(err, os.Remove(staged))
	}
	if readErr == nil {
		err = os.Remove(filepath.Join(at, before.File))
	}
	return p, err
}

func partPath(at string, number int) string {
	return filepath.Join(at, fmt.Sprintf("%05d.json", number))
}

func readPart(at string, number int) (p Part, err error) {
	text, err := readBounded(partPath(at, number), maxDescription)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err == nil && p.File != filepath.Base(p.File) {
		err = errors.New("a part of an upload is damaged")
	}
	return p, err
}

// Parts lists the parts that an upload has from number after+1 on, at most limit, and whether there are more.
func (f *Folder) Parts(_ context.Context, s fleet.Scope, bucket, key, id string, after, limit int) (u Upload, list []Part, more bool, err error) {
	u, at, err := f.upload(s, bucket, key, id)
	if err != nil {
		return u, nil, false, err
	}
	entries, err := os.ReadDir(at) // in order
	for _, e := range entries {
		n, ok := strings.CutSuffix(e.Name(), ".json")
		number, numErr := strconv.Atoi(n)
		if !ok || numErr != nil || number <= after {
			continue
		}
		if len(list) == limit {
			return u, list, true, nil
		}
		p, err := readPart(at, number)
		if err != nil {
			return u, nil, false, err
		}
		list = append(list, p)
	}
	return u, list, false, err
}

// Uploads lists the unfinished uploads of a bucket of keys that begin with prefix, at most limit from what comes behind after on,
// by their ids, which sort by time.
func (f *Folder) Uploads(_ context.Context, s fleet.Scope, bucket, prefix, after string, limit int) (list []Upload, more bool, err error) {
	dir, err := f.bucketDir(s, bucket)
	if err != nil {
		return nil, false, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, uploadsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	for _, e := range entries {
		u, _, err := f.upload(s, bucket, "", e.Name())
		if err != nil || e.Name() <= after || !strings.HasPrefix(u.Key, prefix) { // completed meanwhile, or none
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		list = append(list, u)
	}
	return list, false, nil
}

// AbortUpload removes an unfinished upload.
func (f *Folder) AbortUpload(_ context.Context, s fleet.Scope, bucket, key, id string) error {
	_, at, err := f.upload(s, bucket, key, id)
	if err != nil {
		return err
	}
	defer f.unlock(at)
	defer f.lock(at)()
	return f.removeUpload(at)
}

// removeUpload forgets the upload first: one that is half removed must not be completed.
func (f *Folder) removeUpload(at string) error {
	if err := os.Remove(filepath.Join(at, uploadFile)); err != nil {
		return err
	}
	return errors.Join(durable.SyncDir(at), os.RemoveAll(at))
}

// CompleteUpload makes an object of the named parts, in their order. Errors: NoSuchUpload, InvalidPart, InvalidPartOrder, EntityTooSmall.
func (f *Folder) CompleteUpload(_ context.Context, s fleet.Scope, bucket, key, id string, named []NamedPart, o PutOptions) (Object, error) {
	dir, path, err := f.objectPath(s, bucket, key)
	if err != nil {
		return Object{}, err
	}
	u, at, err := f.upload(s, bucket, key, id)
	if err != nil {
		return Object{}, err
	}
	defer f.unlock(at)
	defer f.lock(at)()
	parts, err := chosen(at, named)
	if err != nil {
		return Object{}, err
	}
	staging, err := makeIn(dir, stagingDir)
	if err != nil {
		return Object{}, orNoBucket(err, bucket)
	}
	staged, err := f.join(staging, at, parts)
	if err != nil {
		return Object{}, err
	}
	defer os.Remove(staged)
	d := description{ETag: joinedETag(parts), Headers: u.Headers, Metadata: u.Metadata}
	if d.Checksum, err = joinedChecksum(u.Checksum, parts, staged); err != nil {
		return Object{}, err
	}
	if o.Checksum != nil {
		if said := o.Checksum(); said.Algorithm == d.Checksum.Algorithm && said.Value != d.Checksum.Value && said.Composite == d.Checksum.Composite {
			return Object{}, badDigest(said.Algorithm)
		}
	}
	out, err := f.place(dir, path, key, staged, d, o)
	if err != nil {
		return out, err
	}
	return out, f.removeUpload(at)
}

func badDigest(algorithm string) error {
	return fleet.Invalid("", "", "The %s you specified did not match the calculated checksum.", algorithm).WithCode("BadDigest")
}

// unlock forgets the lock of an upload that has ended.
func (f *Folder) unlock(at string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		delete(f.locks, at)
	}
}

// chosen reads the parts that complete an upload.
func chosen(at string, named []NamedPart) (parts []Part, err error) {
	if len(named) == 0 {
		return nil, fleet.Invalid("", "", "You must specify at least one part").WithCode("InvalidRequest")
	}
	if !slices.IsSortedFunc(named, func(a, b NamedPart) int { return cmp.Or(a.Number-b.Number, -1) }) {
		return nil, fleet.Invalid("", "", "The list of parts was not in ascending order. The parts list must be specified in order by part number.").WithCode("InvalidPartOrder")
	}
	for i, n := range named {
		p, err := readPart(at, n.Number)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (p.ETag != n.ETag || n.Checksum != "" && cmp.Or(p.Checksum.Value, n.Checksum) != n.Checksum) {
			return nil, fleet.Invalid("part", strconv.Itoa(n.Number), "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.").WithCode("InvalidPart")
		}
		if err != nil {
			return nil, err
		}
		if p.Size < MinPart && i < len(named)-1 {
			return nil, fleet.Invalid("part", strconv.Itoa(n.Number), "Your proposed upload is smaller than the minimum allowed size").WithCode("EntityTooSmall")
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// join writes parts one behind the other, durably; the file system may share what they have in common.
func (f *Folder) join(dir, at string, parts []Part) (name string, err error) {
	var size int64
	for _, p := range parts {
		size += p.Size
	}
	if err := f.room(dir, size); err != nil {
		return "", err
	}
	out, err := os.CreateTemp(dir, "*")
	if err != nil {
		return "", err
	}
	for _, p := range parts {
		if err = appendFile(out, filepath.Join(at, p.File)); err != nil {
			break
		}
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		err = errors.Join(err, os.Remove(out.Name()))
	}
	return out.Name(), err
}

func appendFile(to *os.File, name string) error {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, from.Close())
}

// joinedETag is S3's for an object of parts: the MD5 of their MD5s, and how many.
func joinedETag(parts []Part) string {
	h := md5.New()
	for _, p := range parts {
		sum, _ := hex.DecodeString(p.ETag)
		h.Write(sum)
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
}

// joinedChecksum is that of the whole object: of the parts' checksums if it is composite, else of all bytes.
func joinedChecksum(want Checksum, parts []Part, staged string) (Checksum, error) {
	h := NewHash(want.Algorithm)
	if h == nil {
		return Checksum{}, nil
	}
	if !want.Composite {
		file, err := os.Open(staged)
		if err != nil {
			return Checksum{}, err
		}
		_, err = io.Copy(h, file)
		want.Value = base64.StdEncoding.EncodeToString(h.Sum(nil))
		return want, errors.Join(err, file.Close())
	}
	if slices.ContainsFunc(parts, func(p Part) bool { return p.Checksum.Algorithm != want.Algorithm }) {
		return Checksum{}, nil // the client has not said all of them
	}
	for _, p := range parts {
		sum, err := base64.StdEncoding.DecodeString(p.Checksum.Value)
		if err != nil {
			return Checksum{}, err
		}
		h.Write(sum)
	}
	want.Value = base64.StdEncoding.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts))
	return want, nil
}
