package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// handSigned signs exactly the given canonical path and query, as clients with their own ideas do.
func handSigned(target, path, query, host string) *http.Request {
	s := &Signature{Region: "us-east-1", Service: "iot", amzDate: "20251101T010203Z", scopeDate: "20251101"}
	empty := sha256.Sum256(nil)
	canonical := "GET\n" + path + "\n" + query + "\nhost:" + host + "\nx-amz-date:20251101T010203Z\nx-amz-security-token:" + vectorToken +
		"\n\nhost;x-amz-date;x-amz-security-token\n" + hex.EncodeToString(empty[:])
	signature := hex.EncodeToString(mac(deriveKey(vectorSecret, s.scopeDate, s.Region, s.Service), stringToSign(s, canonical)))
	return request("GET", "localhost", target, "", "X-Amz-Date", s.amzDate, "X-Amz-Security-Token", vectorToken,
		"Authorization", authorization("iot", "host;x-amz-date;x-amz-security-token", signature))
}

func TestTolerantForms(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*http.Request{
		"dot segments are removed for the signature only": handSigned("/things/../principals", "/principals", "", "localhost"),
		"dot segments may stay":                           handSigned("/things/../principals", "/things/../principals", "", "localhost"),
		"two slashes may stay":                            handSigned("/a//b", "/a//b", "", "localhost"),
		"the path may be encoded once":                    handSigned("/topics/a%2Fb%20c", "/topics/a%2Fb%20c", "", "localhost"),
		"the path is encoded twice":                       handSigned("/topics/a%2Fb%20c", "/topics/a%252Fb%2520c", "", "localhost"),
		"odd escapes are taken as they are":               handSigned("/topics/a%2b'()*!", "/topics/a%252b%27%28%29%2A%21", "", "localhost"),
		"a query is encoded anew":                         handSigned("/x?b=a'b&a", "/x", "a=&b=a%27b", "localhost"),
		"a query may be sorted as it is":                  handSigned("/x?b=a'b&a=1", "/x", "a=1&b=a'b", "localhost"),
		"a plus may be a plus":                            handSigned("/x?a=b+c", "/x", "a=b%2Bc", "localhost"),
		"a plus may be a space":                           handSigned("/x?a=b+c", "/x", "a=b%20c", "localhost"),
		"another configured host":                         handSigned("/x", "/x", "", "iot.us-east-1.amazonaws.com"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := verifier(vectorTime)
			v.Origins = []string{"iot.us-east-1.amazonaws.com"}
			if _, err := v.Verify(r, nil, []string{"iot"}, lookup); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRegionsAreHeldToTheConfiguredOnes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		region, service string
		ok              bool
	}{{"eu-west-1", "iot", true}, {"eu-central-1", "iot", true}, {"us-east-1", "iot", false}, {"us-east-1", "sts", true}, {"us-east-1", "iam", true}, {"ap-east-1", "sts", false}} {
		v := &Verifier{Region: "eu-west-1", Regions: []string{"eu-central-1"}, Clock: func() time.Time { return vectorTime }}
		r, _ := http.NewRequest("GET", "https://localhost/x", nil)
		Sign(r, nil, Credentials{vectorKey, vectorSecret, vectorToken}, c.region, c.service, vectorTime)
		got := request("GET", "localhost", "/x", "")
		got.Header = r.Header
		if _, err := v.Verify(got, nil, []string{c.service}, lookup); (err == nil) != c.ok {
			t.Errorf("%s in %s: %v", c.service, c.region, err)
		}
	}
}

func TestPresignedURLs(t *testing.T) {
	t.Parallel()
	for _, service := range []string{"iotdevicegateway", "sts"} {
		u, _ := url.Parse("https://localhost:8443/mqtt?x=a%20b")
		signed := Presign(http.MethodGet, u, Credentials{vectorKey, vectorSecret, vectorToken}, "us-east-1", service, vectorTime, time.Hour)
		for _, c := range []struct {
			after time.Duration
			ok    bool
		}{{0, true}, {59 * time.Minute, true}, {61 * time.Minute, false}, {-14 * time.Minute, true}, {-16 * time.Minute, false}} {
			s, err := verifier(vectorTime.Add(c.after)).Verify(request("GET", u.Host, signed.RequestURI(), ""), nil, []string{service}, lookup)
			if (err == nil) != c.ok || err == nil && (!s.Presigned || s.Token != vectorToken) {
				t.Errorf("%s after %s: %v", service, c.after, err)
			}
		}
	}
}

func TestRefusalTellsWhatWasReceivedButNoSecrets(t *testing.T) {
	t.Parallel()
	r := signed(t, "POST", "/things/lamp?secret=1", "", func(r *http.Request) { r.Host = "proxy.internal" })
	_, err := verifier(vectorTime).Verify(r, nil, []string{"iot"}, lookup)
	if err == nil || !strings.Contains(err.Error(), "POST /things/lamp on host proxy.internal") {
		t.Errorf("%v", err)
	}
	for _, secret := range []string{vectorSecret, vectorToken, "secret=1"} {
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("%v tells %s", err, secret)
		}
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	t.Parallel()
	var c keyCache
	for i := range 2*maxKeys + 10 {
		c.derive(fmt.Sprint("secret", i), &Signature{scopeDate: "20251101", Region: "us-east-1", Service: "iot"})
	}
	if len(c.keys) > maxKeys {
		t.Errorf("%d keys", len(c.keys))
	}
}
