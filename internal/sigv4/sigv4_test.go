package sigv4

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Key, token and time of the vectors in identity spec 5.5, which botocore computed.
const (
	vectorKey    = "ASIAEXAMPLEKEY000000"
	vectorSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	vectorToken  = "FQoGZXIvYXdzEXAMPLE/tok+en=="
)

var vectorTime = time.Date(2025, 11, 1, 1, 2, 3, 0, time.UTC)

func verifier(now time.Time) *Verifier {
	return &Verifier{Region: "us-east-1", Clock: func() time.Time { return now }}
}

func lookup(s *Signature) (fleet.Secret, error) {
	if s.AccessKeyID != vectorKey || s.Token != vectorToken {
		return "", refuse(UnrecognizedClient, invalidToken)
	}
	return vectorSecret, nil
}

// request makes a request as net/http would have received it.
func request(method, host, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, "https://"+host+target, strings.NewReader(body))
	r.RequestURI = target
	r.TLS = &tls.ConnectionState{}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func authorization(service, signed, signature string) string {
	return "AWS4-HMAC-SHA256 Credential=" + vectorKey + "/20251101/us-east-1/" + service + "/aws4_request, SignedHeaders=" + signed + ", Signature=" + signature
}

func TestPublishedVectorsVerify(t *testing.T) {
	t.Parallel()
	const stsBody = "Action=GetCallerIdentity&Version=2011-06-15"
	scope := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + vectorKey + "%2F20251101%2Fus-east-1%2F"
	for name, v := range map[string]struct {
		r       *http.Request
		body    string
		service string
	}{
		"a path that needs double encoding": {request("POST", "iot.example.test:8443", "/provisioning-templates/My%20Tmpl/provisioning-claim", "",
			"X-Amz-Date", "20251101T010203Z", "X-Amz-Security-Token", vectorToken,
			"Authorization", authorization("iot", "host;x-amz-date;x-amz-security-token", "6137f0c2bb9d86c8a93f43e3f10218f9805b911312911d6b201cdabf55de0eb0")), "", "iot"},
		"a form": {request("POST", "sts.example.test", "/", stsBody, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8",
			"X-Amz-Date", "20251101T010203Z", "X-Amz-Security-Token", vectorToken,
			"Authorization", authorization("sts", "content-type;host;x-amz-date;x-amz-security-token", "049abf8320916993ac783c5c17bc9144115a465ce3e25cb6466a364c79ffd5ea")), stsBody, "sts"},
		"a presigned query": {request("GET", "sts.example.test", "/?Action=GetCallerIdentity&Version=2011-06-15&"+scope+"sts%2Faws4_request&X-Amz-Date=20251101T010203Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"+
			"&X-Amz-Security-Token=FQoGZXIvYXdzEXAMPLE%2Ftok%2Ben%3D%3D&X-Amz-Signature=f08cf2537934e4c44fcccb3e4257e1f29b9a98b57caed0f3c85a5b4e70dd41ab", ""), "", "sts"},
		"a WebSocket whose token is not signed": {request("GET", "iot.example.test", "/mqtt?"+scope+"iotdevicegateway%2Faws4_request&X-Amz-Date=20251101T010203Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"+
			"&X-Amz-Signature=7e2adf14731ead6d6ffdbede25e84b93af6a41d6471597333b5a199550679103&X-Amz-Security-Token=FQoGZXIvYXdzEXAMPLE%2Ftok%2Ben%3D%3D", ""), "", "iotdevicegateway"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := verifier(vectorTime).Verify(v.r, []byte(v.body), []string{v.service}, lookup)
			if err != nil || s.AccessKeyID != vectorKey {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func signed(t *testing.T, method, target, body string, change func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "https://localhost:8443"+target, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	Sign(r, []byte(body), Credentials{vectorKey, vectorSecret, vectorToken}, "us-east-1", "iot", vectorTime)
	got := request(method, "localhost:8443", target, body)
	got.Header = r.Header
	if change != nil {
		change(got)
	}
	return got
}

func TestWhatSignMakesVerifies(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/", "/things/a%2Fb%20c", "/things?maxResults=3&nextToken=a%2Bb%3D", "/a//b/../c/?x", "/x?b=2&a=1&a=0&c"} {
		for _, body := range []string{"", `{"a":1}`} {
			if _, err := verifier(vectorTime).Verify(signed(t, "POST", target, body, nil), []byte(body), []string{"iot", "execute-api"}, lookup); err != nil {
				t.Errorf("%s with body %q: %v", target, body, err)
			}
		}
	}
}

func TestWhatWasChangedOrIsLateIsRefused(t *testing.T) {
	t.Parallel()
	minute := time.Minute
	for name, c := range map[string]struct {
		change func(*http.Request)
		body   string
		late   time.Duration
		code   string
		text   string
	}{
		"another body":       {body: "{}", code: InvalidSignature, text: "does not match"},
		"another path":       {change: func(r *http.Request) { r.RequestURI = "/things/other" }, code: InvalidSignature, text: "does not match"},
		"another host":       {change: func(r *http.Request) { r.Host = "elsewhere" }, code: InvalidSignature, text: "does not match"},
		"an unsigned header": {change: func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }, code: InvalidSignature, text: "not signed: x-amz-target"},
		"no signature":       {change: func(r *http.Request) { r.Header.Del("Authorization") }, code: MissingAuthenticationToken},
		"another token":      {change: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, code: UnrecognizedClient, text: "invalid"},
		"too late":           {late: 16 * minute, code: InvalidSignature, text: "Signature expired: 20251101T010203Z is now earlier than"},
		"too early":          {late: -16 * minute, code: InvalidSignature, text: "Signature not yet current"},
		"both ways":          {change: func(r *http.Request) { r.RequestURI += "?X-Amz-Algorithm=AWS4-HMAC-SHA256" }, code: IncompleteSignature},
		"signature version 2": {change: func(r *http.Request) {
			r.Header.Del("Authorization")
			r.RequestURI += "?SignatureVersion=2&Signature=x"
		}, code: IncompleteSignature},
		"upper case among the signed headers": {change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "x-amz-date", "x-amz-Date", 1))
		}, code: IncompleteSignature, text: "lower case"},
		"SigV4A": {change: func(r *http.Request) { r.Header.Set("Authorization", "AWS4-ECDSA-P256-SHA256 x") }, code: IncompleteSignature},
		"another region": {change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "us-east-1", "eu-west-1", 1))
		}, code: InvalidSignature, text: "valid Region, not eu-west-1"},
		"another service": {change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/iot/", "/s3/", 1))
		}, code: InvalidSignature, text: "correct service: 'iot'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := signed(t, "POST", "/things/lamp", "", c.change)
			_, err := verifier(vectorTime.Add(c.late)).Verify(r, []byte(c.body), []string{"iot"}, lookup)
			var e *fleet.Error
			if !errors.As(err, &e) || e.Kind != fleet.KindUnauthenticated || e.Code != c.code || !strings.Contains(e.Msg, c.text) {
				t.Errorf("got %+v", err)
			}
		})
	}
}

func TestPayloadHashHeaderIsHeldAgainstTheBody(t *testing.T) {
	t.Parallel()
	make := func(hash string) *http.Request {
		r, _ := http.NewRequest("POST", "https://localhost/x", nil)
		r.Header.Set("X-Amz-Content-Sha256", hash)
		Sign(r, []byte("body"), Credentials{vectorKey, vectorSecret, vectorToken}, "us-east-1", "iot", vectorTime)
		got := request("POST", "localhost", "/x", "body")
		got.Header = r.Header
		return got
	}
	_, err := verifier(vectorTime).Verify(make("230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5"), []byte("body"), []string{"iot"}, lookup)
	if err != nil {
		t.Errorf("the right hash: %v", err)
	}
	for _, hash := range []string{strings.Repeat("0", 64), "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"} {
		if _, err := verifier(vectorTime).Verify(make(hash), []byte("body"), []string{"iot"}, lookup); err == nil {
			t.Errorf("%s was accepted", hash)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	f.Add(authorization("iot", "host;x-amz-date", strings.Repeat("a", 64)), "", "/things")
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2Fb%2Fc%2Fd%2Faws4_request&X-Amz-Expires=9", "/mqtt")
	f.Fuzz(func(t *testing.T, header, query, path string) {
		r := request("GET", "localhost", "/", "", "Authorization", header, "X-Amz-Date", "20251101T010203Z")
		r.URL.RawQuery, r.RequestURI = query, path+"?"+query
		everyKey := func(*Signature) (fleet.Secret, error) { return vectorSecret, nil } // so that much as possible is read
		_, err := verifier(vectorTime).Verify(r, nil, []string{"iot"}, everyKey)
		if err == nil {
			t.Error("a made-up signature verified")
		}
		if fleet.KindOf(err) != fleet.KindUnauthenticated {
			t.Errorf("%v is no refusal", err)
		}
	})
}
