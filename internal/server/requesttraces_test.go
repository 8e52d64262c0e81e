package server

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/sigv4"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// explained waits for the trace that is filed under a request's id.
func explained(t *testing.T, s *Server, requestID string) trace.Record {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
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

// Whoever looks after people asks by the name of the person; what an unknown name was stays unknown.
func TestASignInThatIsRefusedAtThePagesLeavesATraceOfItsUser(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	ctx := t.Context()
	p, err := s.userpools.CreatePool(ctx, s.Scope(), "installers", userpool.Settings{}, nil)
	noError(t, err)
	noError(t, s.userpools.CreateDomain(ctx, userpool.Domain{Scope: s.Scope(), Name: "plant", PoolID: p.ID}))
	c, err := s.userpools.CreateClient(ctx, s.Scope(), p.ID, userpool.NewClient{Name: "app", ClientSettings: userpool.ClientSettings{OAuth: true, OAuthFlows: []string{"code"},
		OAuthScopes: []string{"openid"}, CallbackURLs: []string{"https://app.example/back"}}})
	noError(t, err)
	_, err = s.userpools.CreateUser(ctx, s.Scope(), p.ID, userpool.NewUser{Username: "ada", Suppress: true})
	noError(t, err)
	page := "/auth/plant/login?client_id=" + c.ID + "&response_type=code&redirect_uri=https://app.example/back"
	res, body := answer(t, s, http.MethodGet, page, "")
	cookie, _, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
	token := regexp.MustCompile(`name="token" value="([^"]*)"`).FindStringSubmatch(body)
	if res.StatusCode != http.StatusOK || cookie == "" || token == nil {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for _, name := range []string{"ada", "secret-typed-here"} {
		res, body := answer(t, s, http.MethodPost, page, url.Values{"token": {token[1]}, "username": {name}, "password": {"wrong"}}.Encode(), "Cookie", cookie,
			"Content-Type", "application/x-www-form-urlencoded")
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "Incorrect username or password.") {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	r := explained(t, s, "ada")
	if r.Kind != trace.Request || r.Facts["user"] != "ada" || r.Facts["userPool"] != p.ID || r.Facts["client"] != c.ID || r.Facts["sourceIp"] == "" ||
		!strings.Contains(r.Cause, "Incorrect username or password") || !strings.Contains(r.Cure, "AdminSetUserPassword") || len(r.Steps) != 1 || r.Steps[0].Name != "pages" {
		t.Errorf("%s", r.Text())
	}
	waitFor(t, "the other trace", func() bool {
		var found []trace.Record
		noError(t, s.db.View(ctx, func(tx *store.Tx) (err error) {
			found, err = tx.Traces(s.site.Scope, r.Facts["sourceIp"], 10)
			return err
		}))
		for _, f := range found {
			if strings.Contains(f.Text(), "secret-typed-here") {
				t.Fatalf("what somebody typed is kept: %s", f.Text())
			}
		}
		return len(found) == 2
	})
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{`imprint_hosted_requests_total{path="/login",status="200"} 1`, `imprint_hosted_requests_total{path="/login",status="400"} 2`} {
		if !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics have no line %s", line)
		}
	}
}
