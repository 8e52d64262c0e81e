package server

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// six reports whether this machine has IPv6 on its loopback; then it holds the port there until the end of the test.
func six(t *testing.T, port int) (net.Listener, bool) {
	l, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(port)))
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return nil, false
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, true
}

func TestLocalhostIsWhateverTheResolverSays(t *testing.T) {
	t.Parallel()
	_, has := six(t, 0)
	s := sharedServer(t)
	for _, l := range []net.Listener{s.ports.https, s.ports.mqtt} {
		port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
		for host, reached := range map[string]bool{"127.0.0.1": true, "::1": has} {
			c, err := tls.Dial("tcp", net.JoinHostPort(host, port), &tls.Config{RootCAs: roots(t, s), ServerName: "localhost"})
			if (err == nil) != reached {
				t.Errorf("%s: %v", net.JoinHostPort(host, port), err)
			}
			if err == nil {
				_ = c.Close()
			}
		}
	}
}

func TestSomebodyElseAtTheSecondLoopbackIsAnError(t *testing.T) {
	t.Parallel()
	l, has := six(t, 0)
	if !has {
		return
	}
	cfg := quick(folder(t))
	cfg.MQTTPort = Port(l.Addr().(*net.TCPAddr).Port)
	s, err := Start(t.Context(), cfg)
	if err == nil {
		_ = s.Close(context.WithoutCancel(t.Context()))
	}
	if err == nil || !strings.Contains(err.Error(), "is another server running?") {
		t.Errorf("%v", err)
	}
}

func TestAListenerAtBothLoopbacksEnds(t *testing.T) {
	t.Parallel()
	four, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, has := six(t, 0)
	if !has {
		return
	}
	l := listenAtBoth(four, other)
	for _, at := range []net.Listener{four, other, four} {
		c, err := net.Dial("tcp", at.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Accept()
		want := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port))
		if err != nil || got.RemoteAddr().String() != want {
			t.Fatalf("%v, %v, not %s", got, err, want)
		}
		_, _ = c.Close(), got.Close()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := l.Accept(); err == nil {
			t.Error("a connection of nobody")
		}
	})
	if err := l.Close(); err != nil || l.Close() != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := net.Dial("tcp", other.Addr().String()); err == nil {
		t.Error("the second address is still open")
	}
}
