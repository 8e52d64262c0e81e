// Package bucket keeps objects in buckets, as S3 does: input of bulk registrations, their reports, what topic rules put aside. By
// default they are files in the data folder, buckets/NAME/KEY, so that an operator may copy one in and read one with
// any tool; or they are on another server that speaks S3.
//
// Begin with Objects, which is all that most need. Folder (folder.go, object.go, list.go, multipart.go) has the rest of what the S3
// API shows; key.go maps keys to names of files, describe.go keeps what a file cannot say of itself. Remote is the other server.
package bucket

import (
	"context"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Objects is where objects are. Errors are *fleet.Error with S3's codes: NoSuchBucket, NoSuchKey and others. Its methods may be called
// concurrently.
type Objects interface {
	// Open returns an object from its byte number from on. Whoever reads an object that is replaced meanwhile gets the old one to its end,
	// or an error.
	Open(ctx context.Context, s fleet.Scope, bucket, key string, from int64) (Object, io.ReadCloser, error)
	// Put stores all of content under a key, in place of what is there, and returns when it is durable. An error of content, other than
	// io.EOF, is returned and leaves everything as it was.
	Put(ctx context.Context, s fleet.Scope, bucket, key string, content io.Reader, o PutOptions) (Object, error)
}

var (
	_ Objects = (*Folder)(nil)
	_ Objects = (*Remote)(nil)
)

// An Object is what is known of an object beside its content.
type Object struct {
	Key      string
	Size     int64  // bytes
	ETag     string // without quotes: the content's MD5, or of another form with a dash in it
	Modified time.Time
	Headers  map[string]string // to be given with the content: Content-Type and others, by canonical names
	Metadata map[string]string // x-amz-meta-…, by what follows that
	Checksum Checksum
}

// A Checksum is what a client has said of a content and we have found to hold. The zero Checksum is none.
type Checksum struct {
	Algorithm string // CRC32, CRC32C, CRC64NVME, SHA1 or SHA256
	Value     string // base64; of a composite one with -N behind it, the number of parts
	Composite bool   // of the checksums of the parts
}

// PutOptions say more about an object that is put. The zero value is fine.
type PutOptions struct {
	Headers  map[string]string
	Metadata map[string]string
	Checksum func() Checksum // asked when all content has been read; nil: none

	IfAbsent bool   // PreconditionFailed if there is an object
	IfMatch  string // PreconditionFailed unless there is an object with this ETag; "": whatever there is
}

// Limits of S3.
const (
	MaxKey      = 1024               // bytes
	MaxPut      = 5 << 30            // bytes of an object that is put at once, and of a part
	MaxParts    = 10000              // of an upload
	MinPart     = 5 << 20            // bytes of a part that is not the last one
	MaxMetadata = 2 << 10            // bytes of names and values of an object's metadata
	MaxBuckets  = 1000               // of an account
	uploadsKept = 7 * 24 * time.Hour // unfinished
)

// Reports is the bucket of the reports of bulk registrations. It is not listed, and nobody but the service writes to it.
const Reports = "imprint-registration-reports"

var (
	nameForm    = fleet.NewPattern(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	addressForm = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)
)

// CheckName refuses what can't be a bucket's name: S3's rules.
func CheckName(name string) error {
	if !nameForm.MatchString(name) || strings.Contains(name, "..") || addressForm.MatchString(name) {
		return fleet.Invalid("bucket", name, "The specified bucket is not valid: a name has 3 to 63 lower-case letters, digits, dots and hyphens").WithCode("InvalidBucketName")
	}
	return nil
}

// CheckWrite refuses to have the bucket of reports changed by anybody but the service, with KindDenied.
func CheckWrite(name string) error {
	if name == Reports {
		return fleet.Denied("The bucket %s is the service's own: it may be read alone", Reports)
	}
	return nil
}

// ARN names a bucket, or an object if key is given, for IAM.
func ARN(bucket, key string) string {
	arn := "arn:" + fleet.Partition + ":s3:::" + bucket
	if key != "" {
		arn += "/" + key
	}
	return arn
}

func noBucket(name string) error {
	e := fleet.NotFound("bucket", name).WithCode("NoSuchBucket")
	e.Msg = "The specified bucket does not exist"
	return e
}

func noKey(key string) error {
	e := fleet.NotFound("object", key).WithCode("NoSuchKey")
	e.Msg = "The specified key does not exist."
	return e
}

func preconditionFailed() error {
	return fleet.Invalid("", "", "At least one of the pre-conditions you specified did not hold").WithCode("PreconditionFailed")
}
