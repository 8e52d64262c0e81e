package s3

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// A request is what is asked for.
type request struct {
	bucket, key string
	query       url.Values
}

// An operation is a row of the table.
type operation struct {
	name   string
	action string // of IAM, without s3:; "": do asks itself
	reads  bool   // nothing changes
	do     func(*exchange) error
}

// resource is what IAM decides on.
func (o *operation) resource(q *request) string {
	switch {
	case q.bucket == "":
		return "*"
	case strings.Contains(o.action, "Bucket"): // ListBucket, CreateBucket and so on, whatever else the request names
		return bucket.ARN(q.bucket, "")
	}
	return bucket.ARN(q.bucket, q.key)
}

func (o *operation) conditions(q *request) map[string][]string {
	if o.action != "ListBucket" {
		return nil
	}
	c := map[string][]string{}
	for _, name := range []string{"prefix", "delimiter", "max-keys"} {
		if q.query.Has(name) {
			c["s3:"+name] = []string{q.query.Get(name)}
		}
	}
	return c
}

// The table. A row is found by what is named (nothing, a bucket, an object), the method, and a word in the query that S3 calls a
// subresource.
var operations = map[string]*operation{
	"service GET": {"ListBuckets", "ListAllMyBuckets", true, (*exchange).listBuckets},

	"bucket PUT":          {"CreateBucket", "CreateBucket", false, (*exchange).createBucket},
	"bucket HEAD":         {"HeadBucket", "ListBucket", true, (*exchange).headBucket},
	"bucket DELETE":       {"DeleteBucket", "DeleteBucket", false, (*exchange).deleteBucket},
	"bucket GET":          {"ListObjects", "ListBucket", true, (*exchange).listObjects},
	"bucket GET location": {"GetBucketLocation", "GetBucketLocation", true, (*exchange).bucketLocation},
	"bucket GET uploads":  {"ListMultipartUploads", "ListBucketMultipartUploads", true, (*exchange).listUploads},
	"bucket POST delete":  {"DeleteObjects", "", false, (*exchange).deleteObjects},

	"object GET":             {"GetObject", "GetObject", true, (*exchange).getObject},
	"object HEAD":            {"HeadObject", "GetObject", true, (*exchange).getObject},
	"object PUT":             {"PutObject", "PutObject", false, (*exchange).putObject},
	"object PUT copy":        {"CopyObject", "PutObject", false, (*exchange).copyObject},
	"object DELETE":          {"DeleteObject", "DeleteObject", false, (*exchange).deleteObject},
	"object POST uploads":    {"CreateMultipartUpload", "PutObject", false, (*exchange).createUpload},
	"object PUT uploadId":    {"UploadPart", "PutObject", false, (*exchange).uploadPart},
	"object GET uploadId":    {"ListParts", "ListMultipartUploadParts", true, (*exchange).listParts},
	"object POST uploadId":   {"CompleteMultipartUpload", "PutObject", false, (*exchange).completeUpload},
	"object DELETE uploadId": {"AbortMultipartUpload", "AbortMultipartUpload", false, (*exchange).abortUpload},
}

// subresources are the words that S3 gives a meaning of its own in a query, beside those of the table.
var subresources = []string{"accelerate", "acl", "analytics", "append", "attributes", "cors", "encryption", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "logging",
	"metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication",
	"requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "versionId", "versioning", "versions", "website",
	"delete", "location", "uploads"}

// route finds the operation.
func (x *exchange) route() (*operation, error) {
	if err := x.target(); err != nil {
		return nil, err
	}
	level := "object"
	switch {
	case x.req.bucket == "":
		level = "service"
	case x.req.key == "":
		level = "bucket"
	}
	word := ""
	switch i := slices.IndexFunc(subresources, x.req.query.Has); {
	case x.req.query.Has("uploadId"):
		word = " uploadId"
	case i >= 0:
		word = " " + subresources[i]
	case level == "object" && x.r.Header.Get("X-Amz-Copy-Source") != "":
		word = " copy"
	}
	if word == " uploadId" && x.r.Header.Get("X-Amz-Copy-Source") != "" {
		return nil, notImplemented("UploadPartCopy")
	}
	op := operations[level+" "+x.r.Method+word]
	switch {
	case op != nil:
		return op, nil
	case word != "":
		return nil, notImplemented("%s of%s", x.r.Method, word)
	}
	return nil, fleet.Invalid("", "", "The specified method is not allowed against this resource.").WithCode("MethodNotAllowed")
}

// target finds bucket and key: BUCKET.HOST/KEY, else /BUCKET/KEY. The path is taken as it came, so that a key may hold anything.
func (x *exchange) target() error {
	raw, query, _ := strings.Cut(x.r.RequestURI, "?")
	if !strings.HasPrefix(raw, "/") {
		raw, query = x.r.URL.EscapedPath(), x.r.URL.RawQuery
	}
	var err error
	if x.req.query, err = url.ParseQuery(query); err != nil {
		return fleet.Invalid("", "", "The query is malformed").WithCode("InvalidArgument")
	}
	path := strings.TrimPrefix(raw, "/")
	host := x.r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, virtual := strings.CutSuffix(strings.ToLower(host), "."+strings.ToLower(x.Host))
	if !virtual {
		name, path, _ = strings.Cut(path, "/")
	}
	if x.req.bucket, err = url.PathUnescape(name); err == nil {
		x.req.key, err = url.PathUnescape(path)
	}
	if err != nil {
		return fleet.Invalid("", "", "Couldn't parse the specified URI.").WithCode("InvalidURI")
	}
	if x.req.bucket == "" && x.req.key != "" {
		return fleet.Invalid("bucket", "", "The specified bucket is not valid.").WithCode("InvalidBucketName")
	}
	return nil
}

// empty answers without a body.
func (x *exchange) empty(status int) error {
	if status == http.StatusOK {
		x.w.Header().Set("Content-Length", "0")
	}
	return x.status(status, nil)
}
