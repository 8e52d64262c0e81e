package bucket

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
)

// A description is what the file of an object cannot say of itself. It holds for the file of that size and time alone: a file that
// somebody has copied into the folder has none, and then what can be told of it is made up from these two.
type description struct {
	Size     int64             `json:"size"`
	Modified int64             `json:"modified"` // nanoseconds since 1970
	ETag     string            `json:"etag"`
	Headers  map[string]string `json:"headers,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Checksum Checksum          `json:"checksum"`
}

const maxDescription = 64 << 10 // bytes of a file of them

func (d description) fits(info fs.FileInfo) bool {
	return d.Size == info.Size() && d.Modified == info.ModTime().UnixNano()
}

// describe reads the description that fits a file; ok is false if there is none.
func describe(path string, info fs.FileInfo) (d description, ok bool) {
	text, err := readBounded(descriptionName(path), maxDescription)
	var list []description
	if err != nil || json.Unmarshal(text, &list) != nil {
		return d, false
	}
	for _, d := range list {
		if d.fits(info) {
			return d, true
		}
	}
	return d, false
}

// keepDescription stores the description of a file that is about to take the place of another one, whose description stays until it
// has: whenever the power fails, the file that is there has its description.
func keepDescription(path string, d description) error {
	list := []description{d}
	if info, err := os.Lstat(path); err == nil {
		if before, ok := describe(path, info); ok {
			list = append(list, before)
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if len(text) > maxDescription {
		return fmt.Errorf("the description of %s is too long", path)
	}
	return durable.WriteFile(descriptionName(path), text, 0o600)
}

// objectOf puts together what is known of the object behind a file.
func objectOf(key, path string, info fs.FileInfo) Object {
	o := Object{Key: key, Size: info.Size(), Modified: info.ModTime().UTC()}
	if d, ok := describe(path, info); ok {
		o.ETag, o.Headers, o.Metadata, o.Checksum = d.ETag, d.Headers, d.Metadata, d.Checksum
		return o
	}
	sum := sha256.Sum256([]byte(strconv.FormatInt(o.Size, 10) + " " + strconv.FormatInt(o.Modified.UnixNano(), 10)))
	o.ETag = hex.EncodeToString(sum[:16]) + "-1" // no client takes this for an MD5
	if t := mime.TypeByExtension(filepath.Ext(key)); t != "" {
		o.Headers = map[string]string{"Content-Type": t}
	}
	return o
}

func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, errors.New(path + " is no file of ours")
	}
	return os.ReadFile(path)
}

// stamp gives a staged file a time that no other version of the object has, durably: its description holds for that time alone.
func stamp(path, object string, now time.Time) (fs.FileInfo, error) {
	if info, err := os.Lstat(object); err == nil && !now.After(info.ModTime()) {
		now = info.ModTime().Add(time.Microsecond)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chtimes(path, now, now), file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}
