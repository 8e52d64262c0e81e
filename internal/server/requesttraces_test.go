package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// explained waits for the trace that is filed under a request's id.
func explained(t *testing.T, s *Server, requestID string) trace.Record {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		var found []trace.Record
		noError(t, s.db.View(t.Context(), func(tx *store.Tx) (err error) {
			found, err = tx.Traces(s.site.Scope, requestID, 1)
			return err
		}))
		if len(found) == 1 {
			return found[0]
		}
	}
	t.Fatalf("request %s left no trace", requestID)
	return trace.Record{}
}

func TestARequestThatIsRefusedForItsSenderLeavesATrace(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	e := s.Env()
	creds := sigv4.Credentials{AccessKeyID: e.Get("AWS_ACCESS_KEY_ID"), Secret: "wrong"}
	for name, c := range map[string]struct {
		sign        func(*http.Request)
		cause, cure string
	}{
		"a wrong secret": {func(r *http.Request) { sigv4.Sign(r, nil, creds, "us-east-1", "iot", time.Now()) }, "does not match", "secret access key"},
		"another region": {func(r *http.Request) { sigv4.Sign(r, nil, creds, "eu-north-1", "iot", time.Now()) }, "valid Region", "AWS_REGION"},
		"a slow clock": {func(r *http.Request) { sigv4.Sign(r, nil, creds, "us-east-1", "iot", time.Now().Add(-time.Hour)) },
			"Signature expired", "behind"},
		"a fast clock": {func(r *http.Request) { sigv4.Sign(r, nil, creds, "us-east-1", "iot", time.Now().Add(time.Hour)) },
			"not yet current", "ahead"},
		"an unknown key": {func(r *http.Request) {
			sigv4.Sign(r, nil, sigv4.Credentials{AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", Secret: "x"}, "us-east-1", "iot", time.Now())
		}, "invalid", "imprint env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, err := http.NewRequest(http.MethodGet, s.site.baseURL()+"/things", nil)
			noError(t, err)
			c.sign(req)
			res, _ := do(t, s, req)
			r := explained(t, s, res.Header.Get("X-Amzn-Requestid"))
			if r.Kind != trace.Request || !strings.Contains(r.Cause, c.cause) || !strings.Contains(r.Cure, c.cure) || r.Facts["accessKeyId"] == "" || r.Facts["sourceIp"] == "" {
				t.Errorf("%s", r.Text())
			}
		})
	}
	res, _ := answer(t, s, http.MethodPost, "/", `{"IdentityPoolId":"us-east-1:00000000-0000-0000-0000-000000000000"}`, "X-Amz-Target", "AWSCognitoIdentityService.GetId",
		"Content-Type", "application/x-amz-json-1.1")
	if r := explained(t, s, res.Header.Get("X-Amzn-Requestid")); r.Kind != trace.Request || r.Cause == "" {
		t.Errorf("%s", r.Text())
	}
}
