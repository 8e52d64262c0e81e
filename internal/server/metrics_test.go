package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

func TestTheAdministrationSocketGivesMetrics(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.Version = "v0-of-this-test"
	s := startServer(t, cfg)
	admin := as(t, s, client.Credentials{AccessKeyID: s.Env().Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(s.Env().Get("AWS_SECRET_ACCESS_KEY"))})
	_, err := whoami(t, admin)
	noError(t, err)
	if err := admin.Query(t.Context(), "sts", "2011-06-15", "ANameThatAStrangerMadeUp", nil, nil); err == nil {
		t.Error("there is such an operation")
	}

	path, done, err := socketPath(s.cfg.Data)
	noError(t, err)
	defer done()
	res, err := socketClient(path).Get("http://imprint/metrics")
	noError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	noError(t, err)
	text := string(body)
	for _, want := range []string{
		`version="v0-of-this-test"`,
		`imprint_api_requests_total{operation="GetCallerIdentity",service="sts",status="200"} 1`,
		`operation="unimplemented",service="sts"`,
		`imprint_store_commits_total{outcome="ok"}`,
		`imprint_store_writes_total{outcome="ok"}`,
		`imprint_handshakes_total{cause="",outcome="ok"}`,
		"imprint_mqtt_connections 0",
		`imprint_certificate_expiry_timestamp_seconds{certificate="server"}`,
		`imprint_certificate_expiry_timestamp_seconds{certificate="server-rsa"}`,
		`imprint_certificate_expiry_timestamp_seconds{certificate="server-rsa-issuer"}`,
		`imprint_certificate_expiry_timestamp_seconds{certificate="claim-issuer"}`,
		`imprint_certificate_expiry_timestamp_seconds{certificate="device-root"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "ANameThatAStrangerMadeUp") {
		t.Error("a stranger's word is a label")
	}
	if res, _ := answer(t, s, http.MethodGet, "/metrics", ""); res.StatusCode == http.StatusOK {
		t.Error("the public port shows the metrics")
	}
}
