package compat

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/imprint-iot/imprint/internal/store/storetest"
)

// TestPostgreSQLKeepsWhatWasAnswered plays the whole flow on a PostgreSQL database, then kills the server while devices provision, again
// and again. Whatever a device was told has to be there in the end: one thing, one active certificate.
func TestPostgreSQLKeepsWhatWasAnswered(t *testing.T) {
	t.Parallel()
	database := storetest.Start(t, "listen_addresses=127.0.0.1", "port="+storetest.FreePort(t))
	url := database.TCP("postgres", storetest.Password)
	dir := t.TempDir()
	s, err := start(dir, "--database", url)
	check(t, err)
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("stopping the server: %v", err)
		}
		said, err := os.ReadFile(s.log)
		check(t, err)
		if strings.Contains(string(said), storetest.Password) {
			t.Error("the log holds the password")
		}
		if t.Failed() {
			t.Logf("server log:\n%s", tail(said))
		}
	})
	w := newWorld(t, s, "postgres")
	ida := w.installerSDK(t)
	for i, v := range variants() {
		serial := "v" + strconv.Itoa(i)
		cert, _ := v.provision(t, w, w.claim(t, ida), serial)
		w.checkRegistry(t, serial, cert)
		if said := s.run(t, dir, nil, imprint(), "explain", "--data", s.data, serial); !strings.Contains(said, "register succeeded") {
			t.Errorf("explain says %s", said)
		}
		w.checkHeldToPolicy(t, v, serial, cert)
	}

	const workers, each, killEvery = 4, 4, 4
	done := w.provisionAtOnce(t, dir, workers, each)
	var answered []agentStatus
	for st := range done {
		if answered = append(answered, st); len(answered)%killEvery != 0 || len(answered) == workers*each {
			continue
		}
		check(t, s.cmd.Process.Signal(syscall.SIGKILL))
		<-s.exited
		next, err := start(dir, "--database", url)
		check(t, err)
		s.cmd, s.exited = next.cmd, next.exited
	}
	for _, st := range answered {
		serial := strings.TrimPrefix(st.ThingName, w.thing(""))
		cert, err := os.ReadFile(st.Files.Certificate)
		check(t, err)
		w.checkRegistry(t, serial, created{CertificateID: st.CertificateID, CertificatePEM: string(cert)})
		w.checkActive(t, serial, 1)
	}
}
