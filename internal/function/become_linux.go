package function

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors of the process that builds a sandbox. Only the first three and apiFD stay open in the function.
const (
	apiFD = 3 + iota
	specFD
	statusFD
	doorsFD
)

// become builds the sandbox around this process and executes the function in it. It does not return.
func become() {
	runtime.LockOSThread() // no_new_privs, landlock and seccomp belong to the thread that executes
	debug.SetGCPercent(-1) // limits leave no room for a collection
	status := os.NewFile(statusFD, "status")
	_ = unix.CloseRange(apiFD+1, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	var s spec
	b, err := io.ReadAll(os.NewFile(specFD, "spec"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	layer := limits
	if err == nil {
		layer, err = s.confine()
	}
	if err == nil && s.Probe {
		os.Exit(0)
	}
	if err == nil {
		layer, err = 0, fmt.Errorf("%s: %w", s.Args[0], syscall.Exec(s.Args[0], s.Args, s.Env))
	}
	_ = json.NewEncoder(status).Encode(failure{layer, err.Error()})
	os.Exit(1)
}

// confine puts on the layers, the inner ones last: each needs what the next one takes away. With an error it returns the layer that failed.
func (s *spec) confine() (layers, error) {
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // rather this than the server
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 5)
	if s.Layers&namespaces != 0 {
		if err := s.mountAll(); err != nil {
			return namespaces, err
		}
		if s.Listen {
			if err := sendListeners(apiFD, s.runtimePort()); err != nil {
				return namespaces, fmt.Errorf("the Runtime API: %w", err)
			}
		}
		if len(s.Doors) > 0 {
			to := doorsFD
			if s.Probe {
				to = -1
			}
			if err := sendListeners(to, s.Doors...); err != nil {
				return namespaces, fmt.Errorf("the way to the server's API: %w", err)
			}
		}
	} else if err := os.Chdir(s.Task); err != nil {
		return 0, err
	}
	if s.Listen {
		_ = unix.Close(apiFD)
	}
	rules, err := s.openRules() // as the server's user: the way to the code may be closed for others
	if err != nil {
		return landlock, err
	}
	if s.Layers&ownUser != 0 && s.UID != 0 {
		if err := dropUser(s.UID); err != nil {
			return ownUser, err
		}
	}
	if s.Layers&limits != 0 {
		if err := s.limit(); err != nil {
			return limits, err
		}
	}
	if s.Layers == 0 {
		return 0, nil
	}
	if err := dropPrivileges(); err != nil {
		return seccomp, err
	}
	if s.Layers&landlock != 0 {
		if err := s.restrictFiles(rules); err != nil {
			return landlock, err
		}
	}
	if s.Layers&seccomp != 0 {
		if err := installFilter(s.filter()); err != nil {
			return seccomp, err
		}
	}
	return 0, nil
}

// dropUser becomes a user that nothing else runs as.
func dropUser(id int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(id, id, id); err != nil {
		return fmt.Errorf("setresgid %d: %w", id, err)
	}
	if err := syscall.Setresuid(id, id, id); err != nil {
		return fmt.Errorf("setresuid %d: %w", id, err)
	}
	// A change of user forgets this, which ends the function with the server.
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// dropPrivileges gives up every capability for good: no_new_privs keeps programs with file capabilities or set-user-id from giving any back.
func dropPrivileges() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// limit bounds what a single process may use. Memory of the whole function is watched from outside.
func (s *spec) limit() error {
	set := []struct {
		which int
		value uint64
	}{
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_NOFILE, 256},
		{unix.RLIMIT_FSIZE, uint64(s.Size)},
		{unix.RLIMIT_NPROC, uint64(s.Tasks)},
		{unix.RLIMIT_MEMLOCK, 64 << 10},
		{unix.RLIMIT_MSGQUEUE, 0},
		{unix.RLIMIT_SIGPENDING, 256},
		{unix.RLIMIT_RTPRIO, 0},
		{unix.RLIMIT_NICE, 0},
		{unix.RLIMIT_STACK, 8 << 20},
		{unix.RLIMIT_CPU, uint64(s.Time)},
		{unix.RLIMIT_DATA, uint64(s.Memory)},
	}
	for _, l := range set {
		if l.which == unix.RLIMIT_CPU && s.Time == 0 {
			continue
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(l.which, &now); err != nil {
			return fmt.Errorf("getrlimit %d: %w", l.which, err)
		}
		v := min(l.value, now.Max)
		if err := unix.Setrlimit(l.which, &unix.Rlimit{Cur: v, Max: v}); err != nil {
			return fmt.Errorf("setrlimit %d: %w", l.which, err)
		}
	}
	return nil
}

// sendListeners makes listeners in the network namespace of the function, which has nothing but a loopback, and hands them to the server,
// which accepts from there. So the function reaches these and nothing else. to is the descriptor of the way to the server, -1 to send none.
func sendListeners(to int, ports ...int) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, port := range ports {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
		up, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return fmt.Errorf("port %d: %w", port, err)
		}
		if err := unix.Listen(fd, 16); err != nil {
			return err
		}
	}
	if to < 0 {
		return nil
	}
	return unix.Sendmsg(to, []byte{0}, unix.UnixRights(fds...), nil, 0)
}

func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && (len(rel) < 3 || rel[:3] != "../")
}
