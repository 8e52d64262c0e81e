package server

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/userpool"
)

// TestADomainOfItsOwnIsServedUnderItsName: the certificate has it at once, the pages are at the root of it, and all else is as before.
func TestADomainOfItsOwnIsServedUnderItsName(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	pool, err := s.userpools.CreatePool(t.Context(), s.Scope(), "installers", userpool.Settings{}, nil)
	noError(t, err)
	noError(t, s.userpools.CreateDomain(t.Context(), userpool.Domain{Scope: s.Scope(), Name: "auth.example.com", PoolID: pool.ID, Custom: true}))
	noError(t, s.userpools.CreateDomain(t.Context(), userpool.Domain{Scope: s.Scope(), Name: "plant", PoolID: pool.ID}))
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.site.HTTPSPort))
	for { // the certificate is made in the background
		c, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots(t, s), ServerName: "auth.example.com"}}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			noError(t, c.Close())
			break
		}
		if !strings.Contains(err.Error(), "certificate is valid for") {
			t.Fatal(err)
		}
	}
	get := func(host, path string) (int, string) {
		t.Helper()
		client := web(t, s)
		client.Transport.(*http.Transport).TLSClientConfig.ServerName = host
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
		noError(t, err)
		req.Host = net.JoinHostPort(host, strconv.Itoa(s.site.HTTPSPort))
		res, err := client.Do(req)
		noError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		noError(t, err)
		return res.StatusCode, string(body)
	}
	const noClient = "client_id&#39; is not present"
	if status, body := get("auth.example.com", "/login"); status != 400 || !strings.Contains(body, noClient) {
		t.Errorf("the page on its own name: %d %s", status, body)
	}
	if status, body := get("localhost", "/auth/plant/login"); status != 400 || !strings.Contains(body, noClient) {
		t.Errorf("the page below its prefix: %d %s", status, body)
	}
	if status, _ := get("localhost", "/login"); status != 404 {
		t.Errorf("the page on the server's name: %d", status)
	}
	if status, _ := get("localhost", "/auth/auth.example.com/login"); status != 404 {
		t.Errorf("the name as a prefix: %d", status)
	}
	if status, body := get("localhost", "/"+pool.ID+"/.well-known/openid-configuration"); status != 200 ||
		!strings.Contains(body, `"authorization_endpoint":"https://auth.example.com:`+strconv.Itoa(s.site.HTTPSPort)+`/oauth2/authorize"`) {
		t.Errorf("openid-configuration: %d %s", status, body)
	}
}

// TestNamesOfTheServerAreNoUserPools: neither its own nor those that it gives accounts as endpoints.
func TestNamesOfTheServerAreNoUserPools(t *testing.T) {
	t.Parallel()
	s := &Server{cfg: Config{EndpointDomain: "iot.example"}, site: site{Host: "iot.lan", Scope: fleet.Scope{Region: "us-east-1"}, Regions: []string{"eu-west-1"}}}
	for host, own := range map[string]bool{"iot.lan": true, "credentials.iot.lan": true, "localhost": true, "abcdefghijklmn-ats.iot.us-east-1.iot.example": true,
		"abcdefghijklmn.credentials.iot.eu-west-1.iot.example": true, "auth.iot.lan": false, "auth.iot.example": false, "a.iot.ap-south-1.iot.example": false} {
		if s.ownName(host) != own {
			t.Errorf("%s: %v", host, !own)
		}
	}
	s.cfg.EndpointDomain = ""
	if s.ownName("a.iot.us-east-1.iot.example") {
		t.Error("a server without endpoint-domain has names of endpoints")
	}
}
