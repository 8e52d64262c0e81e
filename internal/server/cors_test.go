package server

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// browserHeaders are those that the clients of identity spec 6.2 send from browsers.
var browserHeaders = map[string]string{
	"Amplify 6, user and identity pools":       "amz-sdk-invocation-id,amz-sdk-request,cache-control,content-type,x-amz-target,x-amz-user-agent",
	"amazon-cognito-identity-js, Amplify to 5": "cache-control,content-type,x-amz-target,x-amz-user-agent",
	"Amplify to 5, identity pool":              "amz-sdk-invocation-id,amz-sdk-request,content-type,x-amz-target,x-amz-user-agent",
	"SDK 2, IoT":                               "authorization,content-type,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent",
	"SDK 3, IoT":                               "amz-sdk-invocation-id,amz-sdk-request,authorization,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-user-agent",
	"a header of tomorrow":                     "authorization,x-amz-something-new",
}

const page = "https://app.example.com"

func vary(h http.Header) string { return strings.Join(h.Values("Vary"), ", ") }

func TestEveryPathAnswersTheQuestionsOfBrowsers(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	for place, path := range map[string]string{"pools, STS, IAM": "/", "iot": "/things/lamp-1", "claims": "/provisioning-templates/a%20b/provisioning-claim",
		"iot-data": "/topics/a%2Fb?qos=1", "lambda": "/2015-03-31/functions", "ours": "/imprint/accounts", "keys": "/us-east-1_nowhere00/.well-known/jwks.json",
		"keys of identity pools": "/.well-known/jwks_uri", "script": amplifyEndpointsPath, "health": "/healthz", "nothing": "/no/such/path"} {
		for who, headers := range browserHeaders {
			for private, method := range map[string]string{"": "POST", "true": "DELETE"} {
				ask := []string{"Origin", page, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", headers}
				if private != "" {
					ask = append(ask, "Access-Control-Request-Private-Network", private)
				}
				res, body := answer(t, s, http.MethodOptions, path, "", ask...)
				h := res.Header
				if res.StatusCode != 204 || body != "" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != headers ||
					!slices.Contains(strings.Split(h.Get("Access-Control-Allow-Methods"), ","), method) || h.Get("Access-Control-Max-Age") != "7200" ||
					h.Get("Access-Control-Allow-Private-Network") != private || h.Get("Access-Control-Allow-Credentials") != "" ||
					!strings.Contains(vary(h), "Origin") || !strings.Contains(vary(h), "Access-Control-Request-Headers") {
					t.Fatalf("%s, %s, %s, private network %q: %d %v", place, who, method, private, res.StatusCode, h)
				}
			}
		}
	}
}

// What a browser's page may read of an answer it reads of a refusal too, else people see a network error in place of the reason.
func TestPagesReadWhyTheyWereRefused(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.RequestsPerAddress, cfg.RequestsTotal, cfg.TrustedAddresses = 1, 1000, []string{"127.0.0.1"}
	s := startServer(t, cfg)
	json := []string{"Content-Type", "application/x-amz-json-1.1"}
	const forged = "AWS4-HMAC-SHA256 Credential=AKIANOBODY/20260101/us-east-1/iot/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
	visible := func(what string, res *http.Response, status int) {
		t.Helper()
		h := res.Header
		exposed := strings.Split(h.Get("Access-Control-Expose-Headers"), ", ")
		if res.StatusCode != status || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("X-Amzn-Requestid") == "" {
			t.Errorf("%s: %d %v, want %d", what, res.StatusCode, h, status)
		}
		for _, name := range []string{"x-amzn-RequestId", "x-amzn-ErrorType", "x-amzn-ErrorMessage", "x-amz-request-id", "x-amz-id-2", "Date"} {
			if !slices.Contains(exposed, name) {
				t.Errorf("%s: %s cannot be read: %v", what, name, h)
			}
		}
	}
	for what, r := range map[string]struct {
		method, path, body string
		header             []string
		status             int
	}{
		"user pools, no such client":     {"POST", "/", `{"ClientId":"nobody"}`, append(json, "X-Amz-Target", "AWSCognitoIdentityProviderService.InitiateAuth"), 400},
		"user pools, no JSON":            {"POST", "/", `{`, append(json, "X-Amz-Target", "AWSCognitoIdentityProviderService.InitiateAuth"), 400},
		"identity pools, no such pool":   {"POST", "/", `{"IdentityPoolId":"us-east-1:00000000-0000-0000-0000-000000000000"}`, append(json, "X-Amz-Target", "AWSCognitoIdentityService.GetId"), 400},
		"a target of nobody's":           {"POST", "/", `{}`, append(json, "X-Amz-Target", "Nobody.DoIt"), 400},
		"a claim without a signature":    {"POST", "/provisioning-templates/lamps/provisioning-claim", ``, nil, 403},
		"a claim with a forged one":      {"POST", "/provisioning-templates/lamps/provisioning-claim", ``, []string{"Authorization", forged}, 403},
		"STS, no signature":              {"POST", "/", `Action=GetCallerIdentity&Version=2011-06-15`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 403},
		"no such path":                   {"GET", "/no/such/path", ``, nil, 404},
		"no such method":                 {"PATCH", "/things", ``, nil, 405},
		"a body that is larger than all": {"POST", "/", strings.Repeat("x", 12<<20), append(json, "X-Amz-Target", "AWSCognitoIdentityService.GetId"), 413},
	} {
		res, _ := answer(t, s, r.method, r.path, r.body, append([]string{"Origin", page}, r.header...)...)
		visible(what, res, r.status)
	}
	stranger := from(t, s, "127.0.0.77")
	var res *http.Response
	for range 20 {
		if res, _ = get(t, s, stranger, "/things"); res.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	visible("too many", res, 429)
	for range 20 { // a refusal takes a second, after which one question is let in again
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.site.baseURL()+"/", nil)
		noError(t, err)
		req.Header.Set("Origin", page)
		req.Header.Set("Access-Control-Request-Headers", "x-amz-target")
		res, err = stranger.Do(req)
		noError(t, err)
		res.Body.Close()
		if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Headers") != "x-amz-target" {
			t.Fatalf("the question before: %d %v", res.StatusCode, res.Header)
		}
		if res.Close { // as a refusal
			return
		}
	}
	t.Error("questions are let in without a bound")
}

func TestOnlyListedOriginsIfAnyAreListed(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.CORSOrigins = []string{page}
	s := startServer(t, cfg)
	for origin, want := range map[string]string{page: page, "https://evil.example.com": "", "null": "", page + ".evil.example.com": ""} {
		for _, method := range []string{http.MethodOptions, http.MethodGet} {
			res, _ := answer(t, s, method, "/", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Private-Network", "true")
			h := res.Header
			if got := h.Get("Access-Control-Allow-Origin"); got != want || !strings.Contains(vary(h), "Origin") {
				t.Errorf("%s by %s may be %q", origin, method, got)
			}
			if want == "" && (h.Get("Access-Control-Allow-Private-Network") != "" || h.Get("Access-Control-Allow-Headers") != "") {
				t.Errorf("%s: %v", origin, h)
			}
		}
	}
}

func TestTheScriptForOldAmplify(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	res, body := answer(t, s, http.MethodGet, amplifyEndpointsPath+"?v=1", "", "Origin", page)
	h := res.Header
	if res.StatusCode != 200 || body != string(amplifyEndpoints) || h.Get("Content-Type") != "text/javascript; charset=utf-8" ||
		h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Cross-Origin-Resource-Policy") != "cross-origin" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v", res.StatusCode, h)
	}
	if res, body := answer(t, s, http.MethodGet, amplifyEndpointsPath, "", "If-None-Match", h.Get("ETag")); res.StatusCode != 304 || body != "" {
		t.Errorf("asked for again: %d %q", res.StatusCode, body)
	}
	if res, _ := answer(t, s, http.MethodPost, amplifyEndpointsPath, "{}"); res.StatusCode/100 != 4 {
		t.Errorf("POST: %d", res.StatusCode)
	}
}
