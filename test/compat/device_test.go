package compat

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// agentStatus is the line that imprint-device provision prints.
type agentStatus struct {
	State, ThingName, CertificateID, Claim string
	Files                                  struct{ Certificate, PrivateKey, CA, Config string }
	Error                                  *struct {
		Code, Message, TraceID, Cure string
		StatusCode                   int
	}
}

// claimFile writes a claim as the AWS CLI prints it.
func claimFile(t *testing.T, dir string, c claim) string {
	t.Helper()
	b, err := json.Marshal(object{"certificateId": c.id, "certificatePem": c.cert, "keyPair": object{"PrivateKey": c.key}, "expiration": time.Now().Add(5 * time.Minute).Unix()})
	check(t, err)
	path := filepath.Join(dir, "claim.json")
	check(t, os.WriteFile(path, b, 0o600))
	return path
}

func (w *world) agentArgs(dir, claimPath, serial string, extra ...string) []string {
	return append([]string{"provision", "--dir", filepath.Join(dir, "device"), "--claim", claimPath, "--template", w.template, "--param", "SerialNumber=" + serial,
		"--endpoint", w.site.get("IOT_ENDPOINT"), "--port", w.site.get("IOT_PORT"), "--ca", w.site.get("AWS_CA_BUNDLE"), "--quiet"}, extra...)
}

func agent() string { return filepath.Join(bin, "imprint-device") }

func TestTheAgentProvisionsInEveryVariant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "agent")
	ida := w.installerSDK(t)
	for i, args := range [][]string{
		{"--format", "json", "--mqtt", "3.1.1"}, {"--format", "json", "--mqtt", "5"}, {"--format", "cbor", "--mqtt", "3.1.1"}, {"--format", "cbor", "--mqtt", "5"},
		{"--server-keys", "--format", "json", "--mqtt", "3.1.1"}, {"--server-keys", "--format", "json", "--mqtt", "5"},
		{"--server-keys", "--format", "cbor", "--mqtt", "3.1.1"}, {"--server-keys", "--format", "cbor", "--mqtt", "5"},
		{"--key-type", "rsa2048"}, {"--port", "ALPN"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			dir, serial := t.TempDir(), strconv.Itoa(i)
			args := w.agentArgs(dir, claimFile(t, dir, w.claim(t, ida)), serial, args...)
			for j, a := range args {
				if a == "ALPN" { // the HTTPS port, where MQTT is chosen by ALPN
					args[j] = w.site.get("IOT_ALPN_PORT")
				}
			}
			seen := filepath.Join(dir, "configured")
			out := w.site.run(t, dir, nil, agent(), append(args, "--on-config", "cat > "+seen)...)
			st := must[agentStatus](t, out)
			if st.State != "provisioned" || st.ThingName != w.thing(serial) || st.Claim != "erased" {
				t.Fatalf("status %s", out)
			}
			cert, err := os.ReadFile(st.Files.Certificate)
			check(t, err)
			w.checkRegistry(t, serial, created{CertificateID: st.CertificateID, CertificatePEM: string(cert)})
			if b, err := os.ReadFile(seen); err != nil || !bytes.Contains(b, []byte("no "+serial)) {
				t.Errorf("--on-config got %q, %v", b, err)
			}
			own := "lamps/" + st.ThingName + "/state"
			run := w.site.run(t, dir, nil, agent(), "run", "--once", "--dir", filepath.Join(dir, "device"), "--port", w.site.get("IOT_PORT"), "--subscribe", own, "--publish", own+"=on")
			if !strings.Contains(run, `"message"`) {
				t.Errorf("run --once: %s", run)
			}
		})
	}
}

func TestTheAgentSaysWhyItWasRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "agentref")
	dir := t.TempDir()
	args := w.agentArgs(dir, claimFile(t, dir, w.claim(t, w.installerSDK(t))), "x y") // no thing may have a blank in its name
	out, err := w.site.try(t, dir, nil, agent(), args...)
	exit, ok := err.(*exec.ExitError)
	st := must[agentStatus](t, out)
	if !ok || exit.ExitCode() != 4 || st.State != "failed" || st.Error == nil || st.Error.Code != "InvalidParameters" || st.Error.TraceID == "" || st.Error.Cure == "" {
		t.Fatalf("exit %v, %s", err, out)
	}
	said := w.site.run(t, dir, nil, filepath.Join(bin, "imprint"), "explain", "--data", w.site.data, st.Error.TraceID)
	if !strings.Contains(said, "register was refused") {
		t.Errorf("explain says %s", said)
	}
}

// TestTheAgentSurvivesBeingKilled kills the agent after ever longer times until it gets through: every run goes on where the last
// one was cut, and what remains is one thing with one active certificate.
func TestTheAgentSurvivesBeingKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sharedServer(t), "kill")
	ida := w.installerSDK(t)
	for round := range 4 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			t.Parallel()
			dir, serial := t.TempDir(), "k"+strconv.Itoa(round)
			args := w.agentArgs(dir, claimFile(t, dir, w.claim(t, ida)), serial)
			var out []byte
			for after := time.Duration(rand.IntN(10)) * time.Millisecond; ; after = longer(after) {
				cmd := exec.Command(agent(), args...)
				cmd.Env = w.site.environ()
				var buf bytes.Buffer
				cmd.Stdout = &buf
				check(t, cmd.Start())
				kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
				err := cmd.Wait()
				kill.Stop()
				if out = buf.Bytes(); err == nil {
					break
				}
				if after > time.Minute {
					t.Fatalf("never got through: %v %s", err, out)
				}
			}
			st := must[agentStatus](t, string(out))
			cert, err := os.ReadFile(st.Files.Certificate)
			check(t, err)
			w.checkRegistry(t, serial, created{CertificateID: st.CertificateID, CertificatePEM: string(cert)})
			w.checkActive(t, serial, 1)
		})
	}
}

// longer is after how long a program is killed the next time. Where all takes long the steps are long as well: else the claim would end
// before anybody gets through.
func longer(after time.Duration) time.Duration {
	return after + max(7*time.Millisecond, after/10)
}

// checkActive checks how many active certificates a thing has.
func (w *world) checkActive(t *testing.T, serial string, want int) {
	t.Helper()
	if n := w.active(t, serial); n != want {
		t.Errorf("%s has %d active certificates, want %d", w.thing(serial), n, want)
	}
}

// active counts the active certificates of a thing.
func (w *world) active(t *testing.T, serial string) (n int) {
	t.Helper()
	name := w.thing(serial)
	out, err := w.admin.iot.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: &name})
	check(t, err)
	for _, p := range out.Principals {
		id := p[strings.LastIndexByte(p, '/')+1:]
		d, err := w.admin.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: &id})
		check(t, err)
		if d.CertificateDescription.Status == "ACTIVE" {
			n++
		}
	}
	return n
}
