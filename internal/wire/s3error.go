package wire

import (
	"cmp"
	"encoding/xml"
	"net/http"
)

// An S3Error is an error as clients of S3 read it: in XML, with a status that the code decides.
type S3Error struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string `xml:",omitempty"`
	RequestID string `xml:"RequestId,omitempty"`
}

// S3Internal is the code of an error whose cause is nobody's business.
const S3Internal = "InternalError"

var s3Statuses = map[string]int{
	"AccessDenied": 403, "BucketAlreadyExists": 409, "BucketAlreadyOwnedByYou": 409, "BucketNotEmpty": 409, S3Internal: 500, "InvalidAccessKeyId": 403,
	"InvalidRange": 416, "InsufficientStorage": 507, "MethodNotAllowed": 405, "MissingContentLength": 411, "NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchUpload": 404,
	"NotImplemented": 501, "NotModified": 304, "PreconditionFailed": 412, "RequestTimeTooSkewed": 403, "ServiceUnavailable": 503, "SignatureDoesNotMatch": 403, "SlowDown": 503,
}

// Status is the HTTP status of the error.
func (e S3Error) Status() int { return cmp.Or(s3Statuses[e.Code], http.StatusBadRequest) }

// Document is the body of the answer, of type application/xml.
func (e S3Error) Document() []byte {
	body, err := xml.Marshal(e)
	if err != nil { // texts alone: it cannot fail
		return nil
	}
	return append([]byte(xml.Header), body...)
}
