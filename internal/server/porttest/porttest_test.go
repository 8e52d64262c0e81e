package porttest

import (
	"net"
	"runtime"
	"strconv"
	"testing"
)

func TestAHeldPortIsListenedOnAgainAndGivenToNobody(t *testing.T) {
	t.Parallel()
	port := Hold(t)
	for range 3 {
		for _, host := range []string{"127.0.0.1", "::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil && host == "::1" {
				t.Logf("no IPv6 here: %v", err)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			in, err := l.Accept() // closed first, its end of the connection remembers the port
			if err != nil {
				t.Fatal(err)
			}
			_, _, _ = in.Close(), c.Close(), l.Close()
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	for range 3000 { // the system chooses among 7000 at first
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().(*net.TCPAddr).Port == port {
			t.Fatal("somebody else was given the port")
		}
		_ = l.Close()
	}
}
