package bucket

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
)

// A Remote keeps objects on another server that speaks S3, in buckets that are there: all scopes share them, and what a role of ours
// allows is asked before by whoever calls. It is safe for concurrent use.
type Remote struct{ c RemoteConfig }

// RemoteConfig says which server, and who we are there.
type RemoteConfig struct {
	Endpoint string // https://host:port; buckets are named in the path
	Region   string
	Creds    sigv4.Credentials
	HTTP     *egress.Client // for large answers and long transfers
	Clock    fleet.Clock
}

// MaxRemotePut is how many bytes Remote.Put takes: it holds them in memory, to sign them.
const MaxRemotePut = 16 << 20

// NewRemote checks c and returns a Remote.
func NewRemote(c RemoteConfig) (*Remote, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Path != "" && u.Path != "/" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("the S3 endpoint %q is not a URL like https://s3.lan:9000", c.Endpoint)
	}
	c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	return &Remote{c}, nil
}

func (r *Remote) do(ctx context.Context, method, bucket, key string, header map[string]string, body []byte) (*http.Response, error) {
	// The bucket of another server may have a name of older days (iot-core model: 3 to 256 letters, digits, dots, hyphens, underscores).
	if bucket == "" || strings.ContainsAny(bucket, "/?#%") || bucket == "." || bucket == ".." {
		return nil, noBucket(bucket)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.c.Endpoint+"/"+bucket+"/"+sigv4.EscapeKey(key), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	sigv4.Sign(req, body, r.c.Creds, r.c.Region, sigv4.S3, r.c.Clock.Now())
	res, err := r.c.HTTP.Do(req)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.KindUnavailable, Msg: "The S3 server does not answer", Err: err}
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, remoteError(res, bucket, key)
}

// remoteError makes ours of the server's.
func remoteError(res *http.Response, bucket, key string) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 16<<10))
	var said struct{ Code, Message string }
	_ = xml.Unmarshal(text, &said)
	what := fmt.Errorf("%s %s %s", res.Status, said.Code, said.Message)
	switch {
	case said.Code == "NoSuchBucket":
		return noBucket(bucket)
	case res.StatusCode == http.StatusNotFound:
		return noKey(key)
	case res.StatusCode == http.StatusForbidden || res.StatusCode == http.StatusUnauthorized:
		e := fleet.Denied("The S3 server refuses the access key of the settings s3-…: %s", cmp.Or(said.Code, res.Status))
		e.Err = what
		return e
	case res.StatusCode == http.StatusPreconditionFailed:
		return preconditionFailed()
	case res.StatusCode >= 500:
		return &fleet.Error{Kind: fleet.KindUnavailable, Msg: "The S3 server fails", Err: what}
	}
	return &fleet.Error{Kind: fleet.KindInvalid, Msg: "The S3 server refuses: " + cmp.Or(said.Code, res.Status), Err: what}
}

// Open implements Objects.
func (r *Remote) Open(ctx context.Context, _ fleet.Scope, bucket, key string, from int64) (Object, io.ReadCloser, error) {
	header := map[string]string{}
	if from > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(from, 10) + "-"
	}
	res, err := r.do(ctx, http.MethodGet, bucket, key, header, nil)
	if err != nil {
		return Object{}, nil, err
	}
	o := objectFrom(key, res.Header)
	if o.Size = res.ContentLength; from > 0 {
		_, total, _ := strings.Cut(res.Header.Get("Content-Range"), "/")
		if o.Size, err = strconv.ParseInt(total, 10, 64); err != nil || res.StatusCode != http.StatusPartialContent {
			return Object{}, nil, errors.Join(errors.New("the S3 server does not give a part of an object"), res.Body.Close())
		}
	}
	return o, res.Body, nil
}

func objectFrom(key string, h http.Header) Object {
	o := Object{Key: key, ETag: strings.Trim(h.Get("ETag"), `"`), Headers: map[string]string{}}
	o.Modified, _ = time.Parse(http.TimeFormat, h.Get("Last-Modified"))
	if t := h.Get("Content-Type"); t != "" {
		o.Headers["Content-Type"] = t
	}
	return o
}

// Put implements Objects, for at most MaxRemotePut bytes.
func (r *Remote) Put(ctx context.Context, _ fleet.Scope, bucket, key string, content io.Reader, o PutOptions) (Object, error) {
	body, err := io.ReadAll(io.LimitReader(content, MaxRemotePut+1))
	if err != nil {
		return Object{}, err
	}
	if len(body) > MaxRemotePut {
		return Object{}, fleet.Invalid("object", key, "Your proposed upload exceeds the maximum allowed size").WithCode("EntityTooLarge")
	}
	header := map[string]string{}
	for k, v := range o.Headers {
		header[k] = v
	}
	for k, v := range o.Metadata {
		header["X-Amz-Meta-"+k] = v
	}
	if o.IfAbsent {
		header["If-None-Match"] = "*"
	}
	if o.IfMatch != "" {
		header["If-Match"] = `"` + o.IfMatch + `"`
	}
	res, err := r.do(ctx, http.MethodPut, bucket, key, header, body)
	if err != nil {
		return Object{}, err
	}
	defer res.Body.Close()
	out := objectFrom(key, res.Header)
	out.Size, out.Headers, out.Metadata = int64(len(body)), o.Headers, o.Metadata
	return out, nil
}
