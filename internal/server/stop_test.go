package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

const shuttingDown = 0x8B // MQTT 5, section 3.14.2.1

// closing begins to close a server; whoever calls the function that it returns waits for the end.
func closing(t testing.TB, s *Server, grace time.Duration) (wait func() error) {
	t.Helper()
	stopped.Store(s, true)
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		done <- s.Close(ctx)
	}()
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * patience):
			t.Fatal("the server does not stop")
			return nil
		}
	}
}

// exchange publishes a request and returns what comes back.
func exchange(t testing.TB, c *mqtttest.Client, topic string, request any) (answer object) {
	t.Helper()
	c.Publish(topic, text(request), 1)
	m := c.Message()
	if m.TopicName != topic+"/accepted" {
		t.Fatalf("%s: %s", m.TopicName, m.Payload)
	}
	noError(t, json.Unmarshal(m.Payload, &answer))
	return answer
}

func TestAServerThatStopsLetsProvisioningFinish(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	s := startServer(t, cfg)
	made := newResidents(t, api(t, s), false)
	idle := device(t, s, made.device).Connected("lamp")
	flow := device(t, s, made.claim).Connected("new")
	const create, register = "$aws/certificates/create/json", "$aws/provisioning-templates/lamps/provision/json"
	flow.Subscribe(create+"/accepted", create+"/rejected", register+"/accepted", register+"/rejected")
	created := exchange(t, flow, create, object{})

	// Nothing else may take long here: the device is waited for for five seconds.
	wait := closing(t, s, patience)
	idle.WantDisconnect(shuttingDown) // by then nobody is let in any more
	if nc, err := tls.Dial("tcp", s.ports.mqtt.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		nc.Close()
		t.Error("a new device was let in")
	}
	exchange(t, flow, register, object{"certificateOwnershipToken": created["certificateOwnershipToken"], "parameters": object{}})
	flow.WantDisconnect(shuttingDown)
	noError(t, wait())

	again := startServer(t, Config{Data: cfg.Data, KeyPool: -1})
	policy := api(t, again)
	noError(t, policy.REST(t.Context(), "iot", http.MethodPut, "/target-policies/all",
		object{"target": "arn:aws:iot:us-east-1:" + account + ":cert/" + created["certificateId"].(string)}, nil))
	device(t, again, pairOf(t, created["certificatePem"], created["privateKey"])).Connected("new").Disconnect()
}

func TestADeviceThatDoesNotGoOnIsWaitedForNoLongerThanTheGrace(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	made := newResidents(t, api(t, s), false)
	flow := device(t, s, made.claim).Connected("new")
	const create = "$aws/certificates/create/json"
	flow.Subscribe(create + "/accepted")
	exchange(t, flow, create, object{})
	wait := closing(t, s, 50*time.Millisecond)
	flow.WantDisconnect(shuttingDown)
	if err := wait(); err != nil && !strings.Contains(err.Error(), "not finished in time") { // HTTP/2 says goodbye for longer
		t.Error(err)
	}
}

func TestTheLastWordIsSpokenForAMomentAfterTheGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, grace := range map[string]time.Duration{"with grace": 20 * time.Second, "without": 0} {
			ctx, cancel := context.WithTimeout(t.Context(), grace)
			telling, end := outlive(ctx, lastWord)
			begin := time.Now()
			<-telling.Done()
			if took := time.Since(begin); took != grace+lastWord {
				t.Errorf("%s it ends after %v", name, took)
			}
			end()
			cancel()
		}
		telling, end := outlive(t.Context(), lastWord)
		if time.Sleep(time.Hour); telling.Err() != nil {
			t.Error("it ends before the grace")
		}
		if end(); telling.Err() == nil {
			t.Error("it does not end when all is said")
		}
	})
}

func TestAServerThatStopsFinishesRequests(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.MetricsListen = "0"
	s := startServer(t, cfg)
	made := newResidents(t, api(t, s), false)
	metrics := "http://" + s.ports.metrics.Addr().String()
	idle := device(t, s, made.device).Connected("lamp")
	nc, err := tls.Dial("tcp", s.ports.https.Addr().String(), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	noError(t, err)
	defer nc.Close()
	_, err = io.WriteString(nc, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AWSCognitoIdentityProviderService.InitiateAuth\r\n"+
		"Content-Type: application/x-amz-json-1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	noError(t, err)
	r := bufio.NewReader(nc)
	res, err := http.ReadResponse(r, nil)
	noError(t, err)
	if res.StatusCode != http.StatusContinue {
		t.Fatalf("%s: the request is not in work", res.Status)
	}
	wait := closing(t, s, patience)
	idle.WantDisconnect(shuttingDown)
	if status, body := getURL(t, http.DefaultClient, metrics+"/readyz"); status != http.StatusServiceUnavailable || body != "not ready\n" {
		t.Errorf("readiness: %d %q", status, body)
	}
	if status, body := askAdmin(t, s, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "serving: shutting down\n") || !strings.Contains(body, "store: ok\n") {
		t.Errorf("readiness on the socket: %d %q", status, body)
	}
	if status, _ := getURL(t, http.DefaultClient, metrics+"/healthz"); status != http.StatusOK {
		t.Errorf("the process is alive and says %d", status)
	}
	_, err = io.WriteString(nc, "{}")
	noError(t, err)
	res, err = http.ReadResponse(r, nil)
	noError(t, err)
	if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), "__type") {
		t.Errorf("%s %s, %v", res.Status, body, err)
	}
	res.Body.Close()
	noError(t, wait())
}

func TestBothServerCertificatesAreRenewedUnderOpenConnections(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	made := newResidents(t, api(t, s), false)
	rsaOnly := func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	var later time.Duration
	open := map[string]*mqtttest.Client{}
	shown := func(name string, change func(*tls.Config)) string {
		t.Helper()
		c := &tls.Config{RootCAs: roots(t, s), ServerName: "localhost", Certificates: []tls.Certificate{made.device},
			Time: func() time.Time { return time.Now().Add(later) }}
		change(c)
		nc, err := tls.Dial("tcp", s.ports.mqtt.Addr().String(), c)
		noError(t, err)
		open[name] = mqtttest.New(t, nc, 5).Connected(name)
		leaf := nc.ConnectionState().PeerCertificates[0]
		return fmt.Sprintf("%v %s", leaf.PublicKeyAlgorithm, leaf.SerialNumber)
	}
	ecdsa, rsa := shown("ecdsa", func(*tls.Config) {}), shown("rsa", rsaOnly)
	if !strings.HasPrefix(ecdsa, "ECDSA") || !strings.HasPrefix(rsa, "RSA") {
		t.Fatalf("shown: %s, %s", ecdsa, rsa)
	}
	later = 61 * 24 * time.Hour
	_, err := s.authority.Renew(t.Context(), time.Now().Add(later))
	noError(t, err)
	for _, c := range open {
		c.Ping()
		c.Want(packets.Pingresp)
	}
	if now := shown("ecdsa again", func(*tls.Config) {}); now == ecdsa || !strings.HasPrefix(now, "ECDSA") {
		t.Errorf("a new connection is shown %s", now)
	}
	if now := shown("rsa again", rsaOnly); now == rsa || !strings.HasPrefix(now, "RSA") {
		t.Errorf("a new connection is shown %s", now)
	}
}
