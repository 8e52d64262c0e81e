// Package client calls a running server as any AWS client would: signed requests to the public API, nothing else. The
// command's verbs and the demonstration are built on it; it knows the protocols, not the services' shapes.
//
// Begin with New, then REST for the registry and our own API, JSON for user and identity pools, Query for IAM and STS; objects.go has what is
// larger than an answer.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/sigv4"
)

// Config says where the server is and who calls. Without an access key requests are unsigned.
type Config struct {
	Endpoint string // https://host:port
	Region   string
	CAFile   string // PEM; empty: the system's roots
	Creds    Credentials
}

// Credentials sign requests.
type Credentials = sigv4.Credentials

// A Client calls one server. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	region string
	creds  Credentials
	http   *http.Client
}

// New makes a client; it does not connect yet.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(cfg.Endpoint)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("endpoint %q is not a URL like https://localhost:8443", cfg.Endpoint)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the roots to trust: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", cfg.CAFile)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return &Client{base: base, region: cfg.Region, creds: cfg.Creds, http: &http.Client{Transport: tr, Timeout: 30 * time.Second}}, nil
}

// As returns a client of the same server with other credentials.
func (c *Client) As(creds Credentials) *Client {
	d := *c
	d.creds = creds
	return &d
}

// Region is the one that requests are signed for.
func (c *Client) Region() string { return c.region }

// An Error is what the server answered in place of a result.
type Error struct {
	Status  int
	Code    string // for example AccessDeniedException
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Code returns the server's error code in err, "" if err is none of the server's.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// REST calls an operation of a REST service (iot, imprint). path is escaped, in and out may be nil.
func (c *Client) REST(ctx context.Context, service, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	answer, err := c.do(ctx, service, method, path, map[string]string{"Content-Type": "application/json"}, body)
	if err != nil || out == nil || len(answer) == 0 {
		return err
	}
	return json.Unmarshal(answer, out)
}

// JSON calls an operation of a service that is addressed by target, for example
// AWSCognitoIdentityProviderService.InitiateAuth.
func (c *Client) JSON(ctx context.Context, service, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, service, http.MethodPost, "/", map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}, body)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// Query calls an operation of IAM (version 2010-05-08) or STS (2011-06-15); out is filled from the XML answer.
func (c *Client) Query(ctx context.Context, service, version, action string, params map[string]string, out any) error {
	form := url.Values{"Action": {action}, "Version": {version}}
	for k, v := range params {
		form.Set(k, v)
	}
	answer, err := c.do(ctx, service, http.MethodPost, "/", map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, []byte(form.Encode()))
	if err != nil || out == nil {
		return err
	}
	return xml.Unmarshal(answer, out)
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 8 << 20

func (c *Client) do(ctx context.Context, service, method, path string, header map[string]string, body []byte) ([]byte, error) {
	_, answer, err := c.Call(ctx, service, method, path, header, body)
	return answer, err
}

// Call makes a request of a REST service with a header and a body as they are, and returns those of its answer.
func (c *Client) Call(ctx context.Context, service, method, path string, header map[string]string, body []byte) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if c.creds.AccessKeyID != "" {
		sigv4.Sign(req, body, c.creds, c.region, service, time.Now())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("calling %s: %w", c.base.Host, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer of %s: %w", c.base.Host, err)
	}
	if res.StatusCode/100 != 2 {
		return nil, nil, readError(res, answer)
	}
	return res.Header, answer, nil
}

// readError understands the error shapes of all protocols.
func readError(res *http.Response, body []byte) error {
	e := &Error{Status: res.StatusCode, Code: res.Header.Get("X-Amzn-Errortype"), Message: res.Status}
	var j struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	var x struct {
		Code, Message string // S3's errors have no more around them
		Error         struct{ Code, Message string }
	}
	switch {
	case json.Unmarshal(body, &j) == nil:
		if j.Message != "" {
			e.Message = j.Message
		}
		if e.Code == "" {
			e.Code = j.Type
		}
	case xml.Unmarshal(body, &x) == nil:
		e.Code, e.Message = cmp.Or(x.Error.Code, x.Code), cmp.Or(x.Error.Message, x.Message)
	}
	e.Code, _, _ = strings.Cut(e.Code, ":")
	return e
}
