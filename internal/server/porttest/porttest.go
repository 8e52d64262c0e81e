// Package porttest gives tests ports of localhost that stay theirs, for servers that stop and start again. Begin with Hold.
package porttest

import (
	"errors"
	"runtime"
	"syscall"
	"testing"
)

// Hold returns a TCP port of localhost that nobody else on the machine is given until the end of the test. A server may listen there,
// stop, and listen again. A port that a server got by asking for any belongs to whoever asks next as soon as it has stopped.
//
// The port is held by sockets that are bound and never listen. Linux lets others listen there who name the port (SO_REUSEADDR), and
// does not give it to those who ask for any, or connect to somewhere. Other systems do not, and there it is just a port that was free.
func Hold(t testing.TB) int {
	t.Helper()
	for range 100 {
		port, close, err := hold()
		switch {
		case errors.Is(err, syscall.EADDRINUSE): // it was free for IPv4 only
			continue
		case err != nil:
			t.Fatalf("porttest: %v", err)
		case runtime.GOOS == "linux":
			t.Cleanup(close)
		default:
			close()
		}
		return port
	}
	t.Fatal("porttest: no port is free")
	return 0
}

func hold() (port int, close func(), err error) {
	four, err := bound(syscall.AF_INET, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		return 0, nil, err
	}
	at, err := syscall.Getsockname(four)
	if err != nil {
		_ = syscall.Close(four)
		return 0, nil, err
	}
	port = at.(*syscall.SockaddrInet4).Port
	six, err := bound(syscall.AF_INET6, &syscall.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}})
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		_ = syscall.Close(four)
		return 0, nil, err
	case err != nil: // a machine without IPv6
		return port, func() { _ = syscall.Close(four) }, nil
	}
	return port, func() { _, _ = syscall.Close(four), syscall.Close(six) }, nil
}

// bound returns a socket with an address.
func bound(family int, at syscall.Sockaddr) (fd int, err error) {
	syscall.ForkLock.RLock()
	fd, err = syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, at)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}
