package server

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
)

// knock connects to the MQTT port trusting certain roots alone.
func knock(s *Server, roots []byte, pair tls.Certificate) (net.Conn, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	return tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.ports.mqtt.Addr().String(),
		&tls.Config{RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{pair}})
}

// newcomers gets certificates from an installation with residents and connects with them.
func newcomers(t *testing.T, s *Server, c *client.Client) {
	t.Helper()
	var cert, claim object
	noError(t, c.REST(t.Context(), "iot", http.MethodPost, "/keys-and-certificate?setAsActive=true", nil, &cert))
	noError(t, c.REST(t.Context(), "iot", http.MethodPut, "/target-policies/all", object{"target": cert["certificateArn"]}, nil))
	noError(t, c.REST(t.Context(), "iot", http.MethodPost, "/provisioning-templates/lamps/provisioning-claim", object{}, &claim))
	for _, out := range []object{cert, claim} {
		device(t, s, pairOf(t, out["certificatePem"], out["keyPair"].(object)["PrivateKey"])).Connected("newcomer").Disconnect()
	}
}

func TestRootsAreRotatedWhileDevicesStayConnected(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := startServer(t, quick(folder(t)))
	ask := func(action RootsAction) RootsReport {
		t.Helper()
		r, err := ChangeRoots(ctx, s.cfg.Data, RootsRequest{Action: action})
		noError(t, err)
		return r
	}
	shown := func() []byte { return mustRead(t, filepath.Join(s.cfg.Data, RootsFile)) }
	old := shown()
	r := newResidents(t, api(t, s), false)
	lasting := device(t, s, r.device).Connected("lamp-1")
	wantAll := func(when string, roots []byte, works bool) {
		t.Helper()
		lasting.Ping()
		lasting.Want(packets.Pingresp)
		nc, err := knock(s, roots, r.device)
		if (err == nil) != works {
			t.Errorf("%s: a new connection: %v", when, err)
		}
		if err == nil {
			mqtttest.New(t, nc, 5).Connected("lamp-2").Disconnect()
		}
	}
	if r := ask(RotateRoots); !r.Begun || len(r.CAs) != 14 {
		t.Errorf("the rotation: %+v", r)
	}
	both := shown()
	if !strings.Contains(string(both), string(old[:300])) || len(both) < 2*len(old)-200 {
		t.Errorf("the file of the roots does not hold both:\n%s", both)
	}
	wantAll("begun, with the old roots", old, true)
	wantAll("begun, with both", both, true)
	leaf := func() *x509.Certificate {
		c, err := s.authority.GetCertificate(&tls.ClientHelloInfo{})
		noError(t, err)
		return c.Leaf
	}
	before := leaf()
	if _, err := s.authority.Renew(ctx, time.Now().Add(70*24*time.Hour)); err != nil || leaf().Equal(before) {
		t.Errorf("the renewal of the server's certificate: %v", err)
	}
	lasting.Ping()
	lasting.Want(packets.Pingresp)
	ask(FinishRoots)
	wantAll("finished, with the old roots", old, false)
	wantAll("finished, with both", both, true)
	ask(DropRoots)
	if now := shown(); strings.Contains(string(now), string(old[:300])) {
		t.Error("the old roots are still handed out")
	}
	wantAll("the old ones dropped, with the new ones", shown(), true)
	_, err := ChangeRoots(ctx, s.cfg.Data, RootsRequest{Action: FinishRoots})
	contains(t, err, "no rotation of the roots is under way")
	newcomers(t, s, api(t, s)) // the API too, with new issuers for devices and claims
	kept := s.cfg.Data
	stopServer(t, s)
	_, err = ChangeRoots(ctx, kept, RootsRequest{Action: ListRoots})
	contains(t, err, "no server runs on "+kept)
	again := startServer(t, Config{Data: kept, KeyPool: -1})
	device(t, again, r.device).Connected("lamp-1").Disconnect()
}

func TestRootsAreTakenOfflineFromARunningServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := startServer(t, quick(folder(t)))
	file := filepath.Join(t.TempDir(), "roots.pem")
	noError(t, os.WriteFile(file, []byte("other"), 0o600))
	_, err := TakeRootsOffline(ctx, s.cfg.Data, file)
	contains(t, err, "exists and holds something else")
	noError(t, os.Remove(file))

	// An attempt that was cut after the file was written, or when the first of the keys was removed, is gone on with.
	export, err := ChangeRoots(ctx, s.cfg.Data, RootsRequest{Action: ExportRoots})
	noError(t, err)
	noError(t, os.WriteFile(file, []byte(export.Keys), 0o600))
	noError(t, keepRoots(file, fleet.Secret(export.Keys)))
	first, _, _ := strings.Cut(export.Keys, ":")
	noError(t, s.signing.Remove(ctx, first))
	r, err := TakeRootsOffline(ctx, s.cfg.Data, file)
	if err != nil || len(r.Names) != 2 {
		t.Fatalf("%v, %v", r.Names, err)
	}
	left, err := filepath.Glob(filepath.Join(s.cfg.Data, "pki/keys/*root*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v are still there, %v", left, err)
	}
	newResidents(t, api(t, s), false)

	_, err = ChangeRoots(ctx, s.cfg.Data, RootsRequest{Action: NewIssuers})
	contains(t, err, "CA's key is missing: put it back")
	noError(t, os.Chmod(file, 0o644))
	_, err = ReadRootsFile(file)
	contains(t, err, "chmod 600")
	noError(t, os.Chmod(file, 0o600))
	keys, err := ReadRootsFile(file)
	noError(t, err)
	_, err = ChangeRoots(ctx, s.cfg.Data, RootsRequest{Action: NewIssuers, Keys: keys.Reveal()})
	noError(t, err)
	newcomers(t, s, api(t, s))

	data := s.cfg.Data
	stopServer(t, s)
	startServer(t, Config{Data: data, KeyPool: -1})
	r, err = ChangeRoots(ctx, data, RootsRequest{Action: RestoreRoots, Keys: keys.Reveal()})
	if err != nil || len(r.Names) != 3 {
		t.Errorf("%v, %v", r.Names, err)
	}
	_, err = ChangeRoots(ctx, data, RootsRequest{Action: RestoreRoots, Keys: "nothing"})
	contains(t, err, "holds no key")
	_, err = ChangeRoots(ctx, data, RootsRequest{Action: "dance"})
	contains(t, err, "of another version")
}
