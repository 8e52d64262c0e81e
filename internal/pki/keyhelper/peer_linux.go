package keyhelper

import (
	"fmt"
	"net"
	"syscall"
)

// peerUID returns the user of the process at the other end of a connection, or of the one that listens (unix(7), SO_PEERCRED).
func peerUID(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, fmt.Errorf("asking who is at the other end: %w", failed)
	}
	return int(cred.Uid), nil
}
