package compat

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakTime is how long the long tests go on; IMPRINT_SOAK may name another duration.
const soakTime = 10 * time.Minute

// TestSoakNothingAnsweredIsLostWhenTheServerIsKilled provisions devices without pause while the server is killed and started again
// every few seconds. Whatever a device was told has to be there in the end: one thing, one active certificate.
func TestSoakNothingAnsweredIsLostWhenTheServerIsKilled(t *testing.T) {
	setting := os.Getenv("IMPRINT_SOAK")
	if setting == "" {
		t.Skip("a long test: make soak runs it")
	}
	length, err := time.ParseDuration(setting)
	if err != nil {
		length = soakTime
	}
	dir := t.TempDir()
	s, err := start(dir)
	check(t, err)
	w := newWorld(t, s, "soak")
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()

	var kills, devices atomic.Int64
	var mu sync.Mutex
	answered := map[string]agentStatus{} // by serial
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				serial := fmt.Sprintf("%d-%d", worker, n)
				st, err := w.soakDevice(filepath.Join(dir, serial), serial)
				if err != nil {
					t.Errorf("device %s: %v", serial, err)
					return
				}
				mu.Lock()
				answered[serial] = st
				mu.Unlock()
				devices.Add(1)
			}
		})
	}
	for ctx.Err() == nil { // the killer
		select {
		case <-time.After(time.Duration(2000+rand.IntN(6000)) * time.Millisecond):
		case <-ctx.Done():
			continue
		}
		check(t, s.cmd.Process.Signal(syscall.SIGKILL))
		<-s.exited
		kills.Add(1)
		next, err := start(dir)
		check(t, err)
		s.cmd, s.exited = next.cmd, next.exited
	}
	wg.Wait()
	for serial, st := range answered {
		cert, err := os.ReadFile(st.Files.Certificate)
		check(t, err)
		w.checkRegistry(t, serial, created{CertificateID: st.CertificateID, CertificatePEM: string(cert)})
		w.checkActive(t, serial, 1)
	}
	check(t, s.stop())
	t.Logf("%v: %d devices provisioned while the server was killed %d times; all of them complete", length, devices.Load(), kills.Load())
}

// provisionAtOnce provisions the devices "0-0", "0-1" and so on, each with its store in a folder of that name in dir, workers of them at
// a time. The channel gives what each has come to, and has no room: until the test takes it, that worker waits and the others are in the
// middle of their flows.
func (w *world) provisionAtOnce(t *testing.T, dir string, workers, each int) <-chan agentStatus {
	done := make(chan agentStatus)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for n := range each {
				serial := fmt.Sprintf("%d-%d", worker, n)
				st, err := w.soakDevice(filepath.Join(dir, serial), serial)
				if err != nil {
					t.Errorf("device %s: %v", serial, err)
				}
				done <- st
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	return done
}

// soakDevice provisions one device, however often that takes.
func (w *world) soakDevice(dir, serial string) (st agentStatus, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return st, err
	}
	late := time.Now().Add(15 * time.Minute)
	path := filepath.Join(dir, "claim.json")
	c, err := w.site.adminClient()
	if err != nil {
		return st, err
	}
	for {
		var raw json.RawMessage
		if err = c.REST(context.Background(), "iot", http.MethodPost, "/provisioning-templates/"+w.template+"/provisioning-claim", nil, &raw); err == nil {
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				return st, err
			}
			break
		}
		if time.Now().After(late) {
			return st, fmt.Errorf("no claim: %w", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	args := w.agentArgs(dir, path, serial, "--timeout", "1m")
	for {
		cmd := exec.Command(agent(), args...)
		cmd.Env = w.site.environ()
		var out bytes.Buffer
		cmd.Stdout = &out
		err = cmd.Run()
		if json.Unmarshal(out.Bytes(), &st) == nil && err == nil {
			return st, nil
		}
		if time.Now().After(late) {
			return st, fmt.Errorf("never got through: %v %s", err, strconv.Quote(out.String()))
		}
	}
}
