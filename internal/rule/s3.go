package rule

import (
	"bytes"
	"cmp"
	"context"

	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/rulesql"
)

// s3 stores the result as an object, in place of one that has its key.
type s3 struct {
	s           *Service
	role        string
	bucket, key *rulesql.Text
}

func (s3) name() string { return "S3Action" }

func (s *Service) prepareS3(a *fleet.S3Action, v rulesql.Version) (action, error) {
	r := s3{s: s, role: a.Role}
	var err error
	if r.bucket, err = prepareText("bucketName", a.Bucket, v); err != nil {
		return nil, err
	}
	r.key, err = prepareText("key", a.Key, v)
	return r, err
}

func (r s3) do(ctx context.Context, j *job) (string, error) {
	name, err := j.must("bucketName", r.bucket)
	if err != nil {
		return cmp.Or(name, r.bucket.String()), err
	}
	key, err := j.must("key", r.key)
	if err != nil {
		return name, err
	}
	if err := cmp.Or(bucket.CheckName(name), bucket.CheckWrite(name)); err != nil {
		return name, err
	}
	if err := r.s.permit(ctx, j, r.role, bucket.ARN(name, key), "s3:PutObject"); err != nil {
		return name, err
	}
	_, err = r.s.Objects.Put(ctx, j.scope, name, key, bytes.NewReader(j.result.Payload), bucket.PutOptions{})
	return name, err
}
