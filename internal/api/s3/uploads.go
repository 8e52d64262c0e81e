package s3

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
)

func (x *exchange) createUpload() error {
	o, err := x.described()
	if err != nil {
		return err
	}
	u := bucket.Upload{Key: x.req.key, Headers: o.Headers, Metadata: o.Metadata}
	if algorithm := strings.ToUpper(x.r.Header.Get("X-Amz-Checksum-Algorithm")); algorithm != "" {
		if !slices.Contains(bucket.Algorithms, algorithm) {
			return fleet.Invalid("", "", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]").WithCode("InvalidRequest")
		}
		kind := strings.ToUpper(x.r.Header.Get("X-Amz-Checksum-Type"))
		u.Checksum = bucket.Checksum{Algorithm: algorithm, Composite: algorithm != "CRC64NVME" && kind != "FULL_OBJECT"}
		x.w.Header().Set("X-Amz-Checksum-Algorithm", algorithm)
	}
	if u, err = x.Folder.CreateUpload(x.ctx, x.caller.Scope, x.req.bucket, u); err != nil {
		return err
	}
	return x.answer(struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: x.req.bucket, Key: x.req.key, UploadId: u.ID})
}

func (x *exchange) uploadPart() error {
	number, err := strconv.Atoi(x.req.query.Get("partNumber"))
	if err != nil {
		return fleet.Invalid("", "", "Part number must be an integer between 1 and 10000, inclusive").WithCode("InvalidArgument")
	}
	c, err := x.checked()
	if err != nil {
		return err
	}
	p, err := x.Folder.PutPart(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, x.req.query.Get("uploadId"), number, c, c.checksum)
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("ETag", quoted(p.ETag))
	if p.Checksum.Value != "" {
		h.Set(checksumHeader(p.Checksum.Algorithm), p.Checksum.Value)
	}
	return x.empty(http.StatusOK)
}

// partChecksums is a checksum under the name of its algorithm.
type partChecksums struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
}

func (c *partChecksums) of(algorithm string) *string {
	return map[string]*string{"CRC32": &c.ChecksumCRC32, "CRC32C": &c.ChecksumCRC32C, "CRC64NVME": &c.ChecksumCRC64NVME, "SHA1": &c.ChecksumSHA1, "SHA256": &c.ChecksumSHA256}[algorithm]
}

func checksumsOf(c bucket.Checksum) (out partChecksums) {
	if p := out.of(c.Algorithm); p != nil {
		*p = c.Value
	}
	return out
}

func (x *exchange) listParts() error {
	after, err := x.number("part-number-marker", bucket.MaxParts)
	if err != nil {
		return err
	}
	if !x.req.query.Has("part-number-marker") {
		after = 0
	}
	limit, err := x.number("max-parts", maxKeys)
	if err != nil {
		return err
	}
	u, list, more, err := x.Folder.Parts(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, x.req.query.Get("uploadId"), after, limit)
	if err != nil {
		return err
	}
	type part struct {
		PartNumber         int
		LastModified, ETag string
		Size               int64
		partChecksums
	}
	out := struct {
		XMLName                                xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket, Key, UploadId                  string
		PartNumberMarker, NextPartNumberMarker int
		MaxParts                               int
		IsTruncated                            bool
		Owner, Initiator                       owner
		StorageClass                           string
		ChecksumAlgorithm                      string `xml:",omitempty"`
		Part                                   []part
	}{Bucket: x.req.bucket, Key: x.req.key, UploadId: u.ID, PartNumberMarker: after, MaxParts: limit, IsTruncated: more, Owner: x.owner(), Initiator: x.owner(),
		StorageClass: "STANDARD", ChecksumAlgorithm: u.Checksum.Algorithm}
	for _, p := range list {
		out.Part = append(out.Part, part{p.Number, stamp(p.Modified), quoted(p.ETag), p.Size, checksumsOf(p.Checksum)})
		out.NextPartNumberMarker = p.Number
	}
	return x.answer(out)
}

func (x *exchange) listUploads() error {
	q := x.req.query
	limit, err := x.number("max-uploads", maxKeys)
	if err != nil {
		return err
	}
	if q.Get("delimiter") != "" {
		return notImplemented("A delimiter in ListMultipartUploads")
	}
	escape, kind, err := x.escaper()
	if err != nil {
		return err
	}
	list, more, err := x.Folder.Uploads(x.ctx, x.caller.Scope, x.req.bucket, q.Get("prefix"), q.Get("upload-id-marker"), limit)
	if err != nil {
		return err
	}
	type upload struct {
		Key, UploadId    string
		Initiator, Owner owner
		StorageClass     string
		Initiated        string
	}
	out := struct {
		XMLName                           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket, KeyMarker, UploadIdMarker string
		NextKeyMarker, NextUploadIdMarker string
		EncodingType                      string `xml:",omitempty"`
		Prefix                            string
		MaxUploads                        int
		IsTruncated                       bool
		Upload                            []upload
	}{Bucket: x.req.bucket, KeyMarker: escape(q.Get("key-marker")), UploadIdMarker: q.Get("upload-id-marker"), EncodingType: kind, Prefix: escape(q.Get("prefix")), MaxUploads: limit, IsTruncated: more}
	for _, u := range list {
		out.Upload = append(out.Upload, upload{escape(u.Key), u.ID, x.owner(), x.owner(), "STANDARD", stamp(u.Began)})
		out.NextKeyMarker, out.NextUploadIdMarker = escape(u.Key), u.ID
	}
	return x.answer(out)
}

func (x *exchange) completeUpload() error {
	type part struct {
		PartNumber int
		ETag       string
		partChecksums
	}
	var in struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}
	ok, err := x.document(x.content, &in) // a checksum in its header is of the object
	if err != nil {
		return err
	}
	if !ok || len(in.Part) == 0 || len(in.Part) > bucket.MaxParts {
		return malformedXML()
	}
	o, err := x.described()
	if err != nil {
		return err
	}
	var named []bucket.NamedPart
	for _, p := range in.Part {
		n := bucket.NamedPart{Number: p.PartNumber, ETag: unquoted(p.ETag)}
		for _, algorithm := range bucket.Algorithms {
			n.Checksum += *p.of(algorithm)
		}
		named = append(named, n)
	}
	for _, algorithm := range bucket.Algorithms {
		if v := x.r.Header.Get(checksumHeader(algorithm)); v != "" && !strings.Contains(v, "-") {
			o.Checksum = func() bucket.Checksum { return bucket.Checksum{Algorithm: algorithm, Value: v} }
		}
	}
	made, err := x.Folder.CompleteUpload(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, x.req.query.Get("uploadId"), named, o)
	if err != nil {
		return err
	}
	return x.answer(struct {
		XMLName                     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location, Bucket, Key, ETag string
		partChecksums
	}{Location: "https://" + x.r.Host + "/" + x.req.bucket + "/" + x.req.key, Bucket: x.req.bucket, Key: x.req.key, ETag: quoted(made.ETag), partChecksums: checksumsOf(made.Checksum)})
}

func (x *exchange) abortUpload() error {
	if err := x.Folder.AbortUpload(x.ctx, x.caller.Scope, x.req.bucket, x.req.key, x.req.query.Get("uploadId")); err != nil {
		return err
	}
	return x.empty(http.StatusNoContent)
}
