package compat

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// objects is a client of the SDK for Go.
func (s *site) objects(t *testing.T) *s3.Client {
	t.Helper()
	return s3.New(s3.Options{Region: s.get("AWS_REGION"), BaseEndpoint: aws.String(s.get("AWS_ENDPOINT_URL")), UsePathStyle: true, HTTPClient: s.httpClient(t),
		Credentials: credentials.NewStaticCredentialsProvider(s.get("AWS_ACCESS_KEY_ID"), s.get("AWS_SECRET_ACCESS_KEY"), "")})
}

func wantAPICode(t *testing.T, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// download fetches a link as anybody would, and returns status and body.
func (s *site) download(t *testing.T, link string) (int, string) {
	t.Helper()
	res, err := s.httpClient(t).Get(link)
	check(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	check(t, err)
	return res.StatusCode, string(body)
}

// An SDK that nobody has told to name buckets in the path does so if the endpoint is an address.
func TestBucketsAtAnAddressNeedNoPathStyle(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	at, err := url.Parse(s.get("AWS_ENDPOINT_URL"))
	check(t, err)
	at.Host = net.JoinHostPort("127.0.0.1", at.Port())
	o := s.objects(t).Options()
	o.BaseEndpoint, o.UsePathStyle = aws.String(at.String()), false
	c, bucket, key := s3.New(o), aws.String("at-an-address"), aws.String("a/b")
	_, err = c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: bucket})
	check(t, err)
	_, err = c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("x")})
	check(t, err)
	out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
	check(t, err)
	if b, err := io.ReadAll(out.Body); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestBucketsWithTheAWSCLI(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	dir := t.TempDir()
	cli := func(args ...string) string {
		return s.run(t, dir, nil, imprint(), append([]string{"aws", "s3"}, args...)...)
	}
	check(t, os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o755))
	for name, text := range map[string]string{"a.json": "{}", "sub/b ü+%.txt": "two", "empty": ""} {
		check(t, os.WriteFile(filepath.Join(dir, "tree", filepath.FromSlash(name)), []byte(text), 0o600))
	}
	cli("mb", "s3://cli-bucket")
	if out := cli("ls"); !strings.Contains(out, "cli-bucket") {
		t.Errorf("ls: %s", out)
	}
	cli("sync", "--no-progress", "tree", "s3://cli-bucket/t")
	if out := cli("ls", "s3://cli-bucket/t/"); !strings.Contains(out, "PRE sub/") || !strings.Contains(out, "a.json") || strings.Contains(out, "two") {
		t.Errorf("ls of a prefix: %s", out)
	}
	if out := cli("sync", "--no-progress", "tree", "s3://cli-bucket/t"); strings.TrimSpace(out) != "" {
		t.Errorf("the second sync does something: %s", out)
	}
	cli("sync", "--no-progress", "s3://cli-bucket/t", "again")
	if out, err := s.try(t, dir, nil, "diff", "-r", "tree", "again"); err != nil {
		t.Errorf("what came back differs: %s", out)
	}
	if out := cli("cp", "s3://cli-bucket/t/sub/b ü+%.txt", "-"); out != "two" {
		t.Errorf("cp to standard output: %q", out)
	}
	if status, body := s.download(t, strings.TrimSpace(cli("presign", "s3://cli-bucket/t/sub/b ü+%.txt"))); status != http.StatusOK || body != "two" {
		t.Errorf("presign: %d %s", status, body)
	}
	cli("mv", "--no-progress", "s3://cli-bucket/t/a.json", "s3://cli-bucket/moved/a.json")
	if out, err := s.try(t, dir, nil, imprint(), "aws", "s3", "rb", "s3://cli-bucket"); err == nil || !strings.Contains(out, "BucketNotEmpty") {
		t.Errorf("rb of a bucket with objects: %v %s", err, out)
	}
	cli("rm", "--recursive", "s3://cli-bucket")
	cli("rb", "s3://cli-bucket")
	if out, err := s.try(t, dir, nil, imprint(), "aws", "s3api", "get-bucket-acl", "--bucket", "cli-bucket"); err == nil || !strings.Contains(out, "NotImplemented") {
		t.Errorf("get-bucket-acl: %v %s", err, out)
	}
}

func TestBucketsWithBoto3(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	out := must[map[string]any](t, s.run(t, "python", nil, "/usr/bin/python3", "-W", "ignore", "buckets.py"))
	for what, got := range out {
		if got != true {
			t.Errorf("%s: %v", what, got)
		}
	}
	if len(out) < 8 {
		t.Errorf("only %v", out)
	}
}

func TestBucketsWithTheSDKForGo(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	c, ctx := s.objects(t), t.Context()
	name := aws.String("go-bucket")
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: name})
	check(t, err)
	for _, algorithm := range []types.ChecksumAlgorithm{"", "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} { // "": the SDK's own choice
		put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: aws.String("k"), Body: strings.NewReader("content"), ChecksumAlgorithm: algorithm, Metadata: map[string]string{"plant": "7"}})
		check(t, err)
		got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: aws.String("k"), ChecksumMode: types.ChecksumModeEnabled})
		check(t, err)
		body, err := io.ReadAll(got.Body) // which the SDK holds to the checksum
		if err != nil || string(body) != "content" || got.Metadata["plant"] != "7" || aws.ToString(got.ETag) != aws.ToString(put.ETag) {
			t.Errorf("%s: %q, %v, %+v", algorithm, body, err, got)
		}
	}
	// A body that can't be read twice goes in signed or unsigned chunks.
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: aws.String("stream"), Body: io.LimitReader(rand.Reader, 1<<20), ContentLength: aws.Int64(1 << 20)})
	check(t, err)
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: aws.String("none")})
	wantAPICode(t, err, "NoSuchKey")
	_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: aws.String("k"), Body: strings.NewReader("x"), IfNoneMatch: aws.String("*")})
	wantAPICode(t, err, "PreconditionFailed")
	_, err = c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: name, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	wantAPICode(t, err, "NotImplemented")

	presigned := s3.NewPresignClient(c)
	put, err := presigned.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: aws.String("by link")})
	check(t, err)
	req, err := http.NewRequestWithContext(ctx, put.Method, put.URL, strings.NewReader("linked"))
	check(t, err)
	res, err := s.httpClient(t).Do(req)
	check(t, err)
	check(t, res.Body.Close())
	get, err := presigned.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: name, Key: aws.String("by link")})
	check(t, err)
	if status, body := s.download(t, get.URL); res.StatusCode != http.StatusOK || status != http.StatusOK || body != "linked" {
		t.Errorf("links: put %d, get %d %s", res.StatusCode, status, body)
	}
	if status, body := s.download(t, strings.Replace(get.URL, "by%20link", "stream", 1)); status != http.StatusForbidden || !strings.Contains(body, "SignatureDoesNotMatch") {
		t.Errorf("a link of another object: %d %.300s", status, body)
	}
	s.lists(ctx, t, c, name)
}

// lists pages through a bucket with both versions of the list.
func (s *site) lists(ctx context.Context, t *testing.T, c *s3.Client, name *string) {
	t.Helper()
	var del types.Delete
	for _, key := range []string{"l/1", "l/2/x", "l/2/y", "l/3", "l/4/z"} {
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: name, Key: &key, Body: bytes.NewReader(nil)})
		check(t, err)
		del.Objects = append(del.Objects, types.ObjectIdentifier{Key: &key})
	}
	var got []string
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: name, Prefix: aws.String("l/"), Delimiter: aws.String("/"), MaxKeys: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		check(t, err)
		for _, o := range page.Contents {
			got = append(got, *o.Key)
		}
		for _, p := range page.CommonPrefixes {
			got = append(got, *p.Prefix)
		}
	}
	if want := "l/1 l/2/ l/3 l/4/"; strings.Join(got, " ") != want {
		t.Errorf("pages: %v, want %s", got, want)
	}
	old, err := c.ListObjects(ctx, &s3.ListObjectsInput{Bucket: name, Prefix: aws.String("l/"), Marker: aws.String("l/2/x"), MaxKeys: aws.Int32(2)})
	check(t, err)
	if len(old.Contents) != 2 || *old.Contents[0].Key != "l/2/y" || !*old.IsTruncated {
		t.Errorf("version 1: %+v", old)
	}
	gone, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: name, Delete: &del})
	check(t, err)
	if len(gone.Deleted) != 5 || len(gone.Errors) != 0 {
		t.Errorf("deleted: %+v", gone)
	}
}

// A large object comes in parts, and no part of it stays in memory.
func TestALargeObjectNeedsLittleMemory(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	const size = 200 << 20
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "large"))
	check(t, err)
	check(t, f.Truncate(size))
	_, err = f.WriteAt([]byte("last"), size-4)
	check(t, errors.Join(err, f.Close()))
	before := s.highest(t)
	s.run(t, dir, nil, imprint(), "aws", "s3", "mb", "s3://large")
	s.run(t, dir, nil, imprint(), "aws", "s3", "cp", "--no-progress", "large", "s3://large/")
	s.run(t, dir, nil, imprint(), "aws", "s3", "cp", "--no-progress", "s3://large/large", "again")
	if out, err := s.try(t, dir, nil, "cmp", "large", "again"); err != nil {
		t.Error(out)
	}
	if after := s.highest(t); after-before > 64 {
		t.Errorf("the server has had %d MiB before, %d MiB with an object of 200 MiB", before, after)
	}
}
