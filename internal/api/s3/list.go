package s3

import (
	"encoding/base64"
	"encoding/xml"
	"strconv"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

const maxKeys = 1000

// number reads a bound of a list from the query: absent and too large are the most that there is.
func (x *exchange) number(name string, most int) (int, error) {
	text := x.req.query.Get(name)
	if text == "" {
		return most, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fleet.Invalid("", "", "Argument %s must be an integer between 0 and 2147483647", name).WithCode("InvalidArgument")
	}
	return min(n, most), nil
}

// escaper returns how keys stand in a list: with encoding-type=url they are escaped, since XML cannot hold all of them.
func (x *exchange) escaper() (escape func(string) string, kind string, err error) {
	switch kind = x.req.query.Get("encoding-type"); kind {
	case "":
		return func(s string) string { return s }, "", nil
	case "url":
		return sigv4.EscapeKey, "url", nil
	}
	return nil, "", fleet.Invalid("", "", "Invalid Encoding Method specified in Request").WithCode("InvalidArgument")
}

type listedObject struct {
	Key, LastModified, ETag string
	ChecksumAlgorithm       string `xml:",omitempty"`
	Size                    int64
	StorageClass            string
	Owner                   *owner
}

type commonPrefix struct{ Prefix string }

// A listing is the answer to both versions of ListObjects.
type listing struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name, Prefix          string
	Marker, NextMarker    *string
	Delimiter             string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount              *int
	MaxKeys               int
	IsTruncated           bool
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listedObject
	CommonPrefixes        []commonPrefix
}

func (x *exchange) listObjects() error {
	q := x.req.query
	two := q.Get("list-type") == "2"
	limit, err := x.number("max-keys", maxKeys)
	if err != nil {
		return err
	}
	escape, kind, err := x.escaper()
	if err != nil {
		return err
	}
	out := listing{Name: x.req.bucket, Prefix: escape(q.Get("prefix")), Delimiter: escape(q.Get("delimiter")), EncodingType: kind, MaxKeys: limit}
	ask := bucket.ListQuery{Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), Limit: limit}
	if two {
		x.event.Operation = "ListObjectsV2"
		ask.After, out.StartAfter, out.ContinuationToken = q.Get("start-after"), escape(q.Get("start-after")), q.Get("continuation-token")
		if out.ContinuationToken != "" {
			after, err := base64.RawURLEncoding.DecodeString(out.ContinuationToken)
			if err != nil {
				return fleet.Invalid("", "", "The continuation token provided is incorrect").WithCode("InvalidArgument")
			}
			ask.After = string(after)
		}
	} else {
		ask.After, out.Marker = q.Get("marker"), new(escape(q.Get("marker")))
	}
	page, err := x.Folder.List(x.ctx, x.caller.Scope, x.req.bucket, ask)
	if err != nil {
		return err
	}
	for _, o := range page.Objects {
		l := listedObject{Key: escape(o.Key), LastModified: stamp(o.Modified), ETag: quoted(o.ETag), ChecksumAlgorithm: o.Checksum.Algorithm, Size: o.Size, StorageClass: "STANDARD"}
		if !two || q.Get("fetch-owner") == "true" {
			l.Owner = new(x.owner())
		}
		out.Contents = append(out.Contents, l)
	}
	for _, p := range page.Prefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{escape(p)})
	}
	if out.IsTruncated = page.Next != ""; out.IsTruncated {
		if two {
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(page.Next))
		} else {
			out.NextMarker = new(escape(page.Next))
		}
	}
	if two {
		out.KeyCount = new(len(page.Objects) + len(page.Prefixes))
	}
	return x.answer(out)
}
