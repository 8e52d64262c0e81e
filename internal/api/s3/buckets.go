package s3

import (
	"encoding/xml"
	"errors"
	"net/http"
	"time"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// owner is the account, as S3 shows it.
type owner struct{ ID, DisplayName string }

func (x *exchange) owner() owner { return owner{x.caller.Scope.Account, x.caller.Scope.Account} }

const timeForm = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(timeForm) }

func (x *exchange) listBuckets() error {
	type entry struct{ Name, CreationDate, BucketRegion string }
	out := struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   owner
		Buckets []entry `xml:"Buckets>Bucket"`
	}{Owner: x.owner()}
	list, err := x.Folder.Buckets(x.ctx, x.caller.Scope)
	if err != nil {
		return err
	}
	for _, b := range list {
		out.Buckets = append(out.Buckets, entry{b.Name, stamp(b.Created), x.caller.Scope.Region})
	}
	return x.answer(out)
}

func (x *exchange) createBucket() error {
	var in struct {
		XMLName            xml.Name `xml:"CreateBucketConfiguration"`
		LocationConstraint string
	}
	if _, err := x.document(x.checked, &in); err != nil {
		return err
	}
	s := x.caller.Scope
	if in.LocationConstraint != "" && in.LocationConstraint != s.Region {
		return fleet.Invalid("", "", "The %s location constraint is incompatible for the region specific endpoint this request was sent to.", in.LocationConstraint).
			WithCode("IllegalLocationConstraintException")
	}
	err := x.Folder.CreateBucket(x.ctx, s, x.req.bucket)
	if errors.Is(err, &fleet.Error{Kind: fleet.KindExists, Code: "BucketAlreadyOwnedByYou"}) && s.Region == "us-east-1" {
		err = nil // for reasons of history, there alone
	}
	if err != nil {
		return err
	}
	x.w.Header().Set("Location", "/"+x.req.bucket)
	return x.empty(http.StatusOK)
}

func (x *exchange) headBucket() error {
	if err := x.Folder.HeadBucket(x.ctx, x.caller.Scope, x.req.bucket); err != nil {
		return err
	}
	x.w.Header().Set("X-Amz-Bucket-Region", x.caller.Scope.Region)
	return x.empty(http.StatusOK)
}

func (x *exchange) bucketLocation() error {
	if err := x.Folder.HeadBucket(x.ctx, x.caller.Scope, x.req.bucket); err != nil {
		return err
	}
	region := x.caller.Scope.Region
	if region == "us-east-1" {
		region = "" // which is what S3 says
	}
	return x.answer(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: region})
}

func (x *exchange) deleteBucket() error {
	if err := x.Folder.DeleteBucket(x.ctx, x.caller.Scope, x.req.bucket); err != nil {
		return err
	}
	return x.empty(http.StatusNoContent)
}

const maxDeletes = 1000

func (x *exchange) deleteObjects() error {
	var in struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   bool
		Object  []struct{ Key, VersionId string }
	}
	ok, err := x.document(x.checked, &in)
	if err != nil {
		return err
	}
	if !ok || len(in.Object) == 0 || len(in.Object) > maxDeletes {
		return malformedXML()
	}
	if err := x.Folder.HeadBucket(x.ctx, x.caller.Scope, x.req.bucket); err != nil {
		return err
	}
	type deleted struct{ Key string }
	type failed struct{ Key, Code, Message string }
	out := struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted
		Error   []failed
	}{}
	for _, o := range in.Object {
		err := x.authorize("DeleteObject", bucket.ARN(x.req.bucket, o.Key), nil)
		if err == nil && o.VersionId != "" && o.VersionId != "null" {
			err = notImplemented("Deleting a version")
		}
		if err == nil {
			err = x.Folder.Delete(x.ctx, x.caller.Scope, x.req.bucket, o.Key)
		}
		switch {
		case err != nil:
			code, message, _ := codeOf(err)
			out.Error = append(out.Error, failed{o.Key, code, message})
		case !in.Quiet:
			out.Deleted = append(out.Deleted, deleted{o.Key})
		}
	}
	return x.answer(out)
}
