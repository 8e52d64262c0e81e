package compat

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/server"
)

func TestASecondSignalEndsTheServerAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	check(t, err)
	defer manager.Close()
	told := func() string {
		t.Helper()
		check(t, manager.SetReadDeadline(time.Now().Add(startTimeout)))
		b := make([]byte, 100)
		n, err := manager.Read(b)
		check(t, err)
		return string(b[:n])
	}
	data := filepath.Join(dir, "imprint-data")
	cmd := exec.Command(imprint(), "serve", "--data", data, "--https-port", "0", "--mqtt-port", "0", "--shutdown-grace", "10m")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+manager.LocalAddr().String())
	check(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer cmd.Process.Kill()
	if got := told(); got != "READY=1" {
		t.Fatalf("systemd heard %q", got)
	}

	// A request is in work when the first signal comes.
	env, err := server.ReadEnv(filepath.Join(data, "imprint.env"))
	check(t, err)
	nc, err := tls.Dial("tcp", "127.0.0.1:"+env.Get("IOT_ALPN_PORT"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) // who it is, other tests ask
	check(t, err)
	defer nc.Close()
	fmt.Fprint(nc, "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AWSCognitoIdentityProviderService.InitiateAuth\r\n"+
		"Content-Type: application/x-amz-json-1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil || res.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v", res, err)
	}
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	if got := told(); got != "STOPPING=1" {
		t.Fatalf("systemd heard %q", got)
	}
	select {
	case err := <-exited:
		t.Fatalf("the server did not wait for the request: %v", err)
	default:
	}
	check(t, cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-exited:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(startTimeout):
		t.Fatal("the second signal did nothing")
	}
}
