package function

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A function may send whatever it likes. What nobody waits for takes no memory of the server's, even while it is on its way.
func TestWhatNobodyWaitsForIsNotRead(t *testing.T) {
	t.Parallel()
	w := &worker{work: make(chan *invocation), ready: make(chan struct{}), gone: make(chan struct{})}
	w.last = "answered"
	s := httptest.NewServer(w.api())
	t.Cleanup(s.Close)
	announce := func(path string) net.Conn { // a large body, of which nothing comes
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := fmt.Fprintf(c, "POST %s%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", apiRoot, path, MaxPayload); err != nil {
			t.Fatal(err)
		}
		return c
	}
	refused := func(path string, status int) {
		t.Helper()
		c := announce(path)
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if res.Body.Close(); res.StatusCode != status {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	for _, end := range []string{"response", "error"} {
		refused("/invocation/unknown/"+end, http.StatusBadRequest)
		refused("/invocation/answered/"+end, http.StatusForbidden)
	}
	w.failing = true // one is on its way
	refused("/init/error", http.StatusForbidden)
}

func TestConnectionsOfAFunctionAreBounded(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limited(inner, 2)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	one, two := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("there is a third connection")
	case <-time.After(20 * time.Millisecond): // a fault may go unnoticed, and none is seen where there is none
	}
	one.Close()
	three := <-accepted
	l.Close()
	two.Close()
	three.Close()
	if c, more := <-accepted; more {
		t.Errorf("accepted after the end: %v", c)
	}
}
