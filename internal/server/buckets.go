package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/imprint-iot/imprint/internal/api/s3"
	"github.com/imprint-iot/imprint/internal/bucket"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/wire"
)

// bucketsDir is the folder of buckets inside the data folder.
const bucketsDir = "buckets"

// Bounds of calls to another S3 server: its objects are large, and are read as fast as devices can be registered.
const (
	remoteObject = 64 << 30 // bytes
	remoteCall   = 24 * time.Hour
)

// openBuckets opens the folder of buckets, and finds out where those of bulk registrations are.
func (s *Server) openBuckets() (err error) {
	if s.folder, err = bucket.NewFolder(bucket.FolderConfig{Dir: filepath.Join(s.cfg.Data, bucketsDir), Home: s.site.Scope, Clock: s.clock}); err != nil {
		return err
	}
	s.objects = s.folder
	c := s.cfg.Buckets
	if c.S3Endpoint == "" {
		return nil
	}
	if c.S3AccessKey == "" || c.S3SecretKeyFile == "" {
		return errors.New("s3-endpoint needs s3-access-key and s3-secret-key-file")
	}
	secret, err := secretFile("s3-secret-key-file", c.S3SecretKeyFile)
	if err != nil {
		return err
	}
	var also []string
	if u, err := url.Parse(c.S3Endpoint); err == nil && u.Scheme == "https" { // plain HTTP has to be listed
		also = []string{u.Host}
	}
	calls, err := s.cfg.egressConfig(also...)
	if err != nil {
		return err
	}
	calls.Timeout, calls.MaxBody = remoteCall, remoteObject
	client, err := egress.New(calls)
	if err != nil {
		return err
	}
	s.objects, err = bucket.NewRemote(bucket.RemoteConfig{Endpoint: c.S3Endpoint, Region: cmp.Or(c.S3Region, s.site.Scope.Region), HTTP: client, Clock: s.clock,
		Creds: sigv4.Credentials{AccessKeyID: c.S3AccessKey, Secret: secret}})
	return err
}

// objectsAPI serves the folder of buckets.
func (s *Server) objectsAPI(cors wire.CORS) http.Handler {
	return s3.New(s3.Config{Folder: s.folder, Region: s.site.Scope.Region, Host: s.site.Host, Authorize: s.authorize, Observe: s.requestDone, CORS: cors, Clock: s.clock, Log: s.log,
		Authenticate: func(ctx context.Context, r *http.Request) (caller *fleet.Caller, p *sigv4.Payload, err error) {
			caller, err = s.identify(ctx, r, func(lookup sigv4.Lookup) error {
				_, p, err = s.verifier.VerifyS3(r, lookup)
				return err
			})
			return caller, p, err
		}})
}

// linkTime is how long a link to a report is good.
const linkTime = time.Hour

// reportLink makes a link to a report of a bulk registration, which needs no credentials.
func (s *Server) reportLink(scope fleet.Scope, key string) (string, error) {
	document := `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "` + bucket.ARN(bucket.Reports, key) + `"}]}`
	c, err := s.iam.ServiceSession(scope, "iot.amazonaws.com", document, linkTime)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s.site.baseURL() + "/" + bucket.Reports + "/" + sigv4.EscapeKey(key))
	if err != nil {
		return "", err
	}
	return sigv4.Presign(http.MethodGet, u, sigv4.Credentials{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: c.Token}, scope.Region, sigv4.S3, s.clock.Now(), linkTime).String(), nil
}
