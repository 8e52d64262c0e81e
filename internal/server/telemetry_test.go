//go:build otel

package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is a collector.
type receiver struct {
	t     testing.TB
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []*spans.Span
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if in, err = gzip.NewReader(in); err != nil {
			c.t.Error(err)
			return
		}
	}
	body, err := io.ReadAll(in)
	var got collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &got)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		c.t.Errorf("%s: %v", r.URL, err)
	}
	c.raw.Write(body)
	for _, rs := range got.ResourceSpans {
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
	answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(answer)
}

func attributesOf(s *spans.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		out[a.Key] = a.Value.GetStringValue()
	}
	return out
}

func TestSpansTellOfTheWorkAndNoSecrets(t *testing.T) {
	t.Parallel()
	c := &receiver{t: t}
	web := httptest.NewServer(c)
	defer web.Close()
	cfg := quick(folder(t))
	cfg.OTLPEndpoint, cfg.Version = web.URL, "v0-of-this-test"
	s := startServer(t, cfg)
	made := newResidents(t, api(t, s), true)
	const create, register = "$aws/certificates/create/json", "$aws/provisioning-templates/lamps/provision/json"
	d := device(t, s, made.claim).Connected("the-name-of-a-device")
	d.Subscribe(create+"/accepted", register+"/accepted", register+"/rejected")
	created := exchange(t, d, create, object{})
	d.Publish(register, `{"certificateOwnershipToken":"no such token","parameters":{"Serial":"serial-of-a-device"}}`, 1)
	d.Message()
	d.Disconnect()
	key, secret := s.Env().Get("AWS_ACCESS_KEY_ID"), s.Env().Get("AWS_SECRET_ACCESS_KEY")
	stopServer(t, s) // sends what is left

	c.mu.Lock()
	defer c.mu.Unlock()
	found := func(name string, want map[string]string) *spans.Span {
		t.Helper()
		var near []map[string]string
	search:
		for _, sp := range c.spans {
			if sp.Name != name {
				continue
			}
			near = append(near, attributesOf(sp))
			for k, v := range want {
				if got, ok := attributesOf(sp)[k]; !ok || v != "*" && got != v {
					continue search
				}
			}
			return sp
		}
		t.Errorf("no span %q with %v; there are %v", name, want, near)
		return &spans.Span{}
	}
	found("request iot CreateProvisioningClaim", map[string]string{"http.response.status_code": "200", "rpc.service": "iot"})
	found("handshake", map[string]string{"imprint.cause": ""})
	found("commit", map[string]string{"imprint.group": "1"})
	found("provisioning create", map[string]string{"imprint.code": ""})
	refused := found("provisioning register", map[string]string{"imprint.code": "InvalidCertificateOwnershipToken", "imprint.trace_id": "*"})
	if len(attributesOf(refused)["imprint.trace_id"]) != 36 || refused.Status.GetCode() == spans.Status_STATUS_CODE_ERROR || refused.EndTimeUnixNano <= refused.StartTimeUnixNano {
		t.Errorf("a refusal: %v", refused)
	}
	if !strings.Contains(c.raw.String(), "v0-of-this-test") {
		t.Error("the version is not told")
	}
	for what, hidden := range map[string]string{"access key": key, "secret": secret, "ownership token": created["certificateOwnershipToken"].(string),
		"certificate": created["certificateId"].(string), "private key": "PRIVATE KEY", "password": password, "name of a device": "the-name-of-a-device",
		"parameter": "serial-of-a-device", "token": made.tokens["IdToken"].(string)} {
		if strings.Contains(c.raw.String(), hidden) {
			t.Errorf("the collector is told a %s", what)
		}
	}
	known := []string{"imprint.cause", "imprint.code", "imprint.trace_id", "imprint.group", "imprint.request_id", "rpc.service", "rpc.method", "http.response.status_code"}
	for _, sp := range c.spans {
		for k := range attributesOf(sp) {
			if !slices.Contains(known, k) {
				t.Errorf("%s has the attribute %s: is it one that a collector may know?", sp.Name, k)
			}
		}
	}
}

func TestSpansOfACollectorThatIsAwayCostNothing(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	cfg := quick(folder(t))
	cfg.OTLPEndpoint = gone.URL
	s := startServer(t, cfg)
	if _, err := whoami(t, api(t, s)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped.Store(s, true)
	if err := s.Close(ctx); err != nil && !strings.Contains(err.Error(), "not finished in time") {
		t.Errorf("the end: %v", err)
	}
	for _, bad := range []string{"127.0.0.1:4318", "ftp://x", "http://", "http://user:hunter2@collector"} {
		cfg := quick(folder(t))
		cfg.OTLPEndpoint = bad
		_, err := Start(t.Context(), cfg)
		contains(t, err, "otlp-endpoint: give the collector as a URL")
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is told: %v", err)
		}
	}
}
