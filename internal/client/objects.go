package client

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/sigv4"
)

// sendTime is how long an upload may take to begin.
const sendTime = 15 * time.Minute

// PutObject stores size bytes of content under a key of a bucket.
func (c *Client) PutObject(ctx context.Context, bucket, key string, content io.Reader, size int64) error {
	u, err := url.Parse(strings.TrimSuffix(c.base.String(), "/") + "/" + bucket + "/" + sigv4.EscapeKey(key))
	if err != nil {
		return err
	}
	return c.Upload(ctx, sigv4.Presign(http.MethodPut, u, c.creds, c.region, sigv4.S3, time.Now(), sendTime).String(), nil, content, size)
}

// Upload sends a file of size bytes with PUT to an address that has its own proof, and takes as long as that takes.
func (c *Client) Upload(ctx context.Context, address string, header map[string]string, file io.Reader, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, address, file)
	if err != nil {
		return err
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	answer, err := c.long(req, "uploading to")
	if err != nil {
		return err
	}
	defer answer.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(answer, maxAnswer))
	return err
}

// Download opens what is at an address that has its own proof. It may be read for as long as that takes.
func (c *Client) Download(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return c.long(req, "downloading from")
}

// long makes a request that may take long, and returns the body of its answer.
func (c *Client) long(req *http.Request, doing string) (io.ReadCloser, error) {
	res, err := (&http.Client{Transport: c.http.Transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", doing, req.URL.Host, cmp.Or(req.Context().Err(), err))
	}
	if res.StatusCode/100 == 2 {
		return res.Body, nil
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil {
		err = readError(res, answer)
	}
	return nil, err
}
