package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
)

// listen returns the socket that systemd hands over (sd_listen_fds(3)), else one made at path, which its owner alone can open.
func listen(path string) (*net.UnixListener, error) {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) && os.Getenv("LISTEN_FDS") == "1" {
		const first = 3
		f := os.NewFile(first, "socket of systemd")
		l, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("the socket of systemd: %w", err)
		}
		unix, ok := l.(*net.UnixListener)
		if !ok {
			return nil, errors.New("the socket of systemd is no unix socket: use ListenStream=/path")
		}
		return unix, nil
	}
	if path == "" {
		return nil, errors.New("name the socket with --socket")
	}
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("another helper listens on %s", path), c.Close())
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s is there and no socket: name another path", path)
	}
	if err == nil { // of a helper that was killed
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	defer syscall.Umask(syscall.Umask(0o177))
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}
