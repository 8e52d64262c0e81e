package function

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probe tries what a function must not be able to do. It runs as the function. No error: it could. path is a file, an address or the id
// of a process.
func probe(name, path string) (string, error) {
	pid, _ := strconv.Atoi(path)
	switch name {
	case "read":
		b, err := os.ReadFile(path)
		return strconv.Quote(string(b[:min(len(b), 16)])), err
	case "write":
		return `"written"`, os.WriteFile(path, []byte("x"), 0o600)
	case "open":
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		}
		return `"opened"`, err
	case "tcp", "udp", "unix":
		c, err := net.DialTimeout(name, path, 20*time.Second)
		if err != nil {
			return "", err
		}
		return `"connected"`, c.Close()
	case "reach": // as reach does in other languages
		c, err := net.DialTimeout("tcp", path, 20*time.Second)
		if err != nil {
			return "", err
		}
		defer c.Close()
		said, err := io.ReadAll(c)
		roots, _ := os.ReadFile(os.Getenv("AWS_CA_BUNDLE"))
		return fmt.Sprintf("%q", string(said)+" "+string(roots)), err
	case "mptcp": // TCP by another name
		_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		return `"made"`, err
	case "signal":
		return `"signalled"`, syscall.Kill(pid, syscall.SIGCONT)
	case "ptrace":
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0)
		return `"attached"`, fault(errno)
	case "process_vm_readv":
		buf := make([]byte, 16)
		b, err := os.ReadFile("/proc/" + path + "/maps")
		if err != nil {
			return "", err
		}
		from, err := strconv.ParseUint(strings.SplitN(string(b), "-", 2)[0], 16, 64)
		if err != nil {
			return "", err
		}
		local := []unix.Iovec{{Base: &buf[0], Len: 16}}
		_, err = unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: uintptr(from), Len: 16}}, 0)
		return `"read"`, err
	case "processes":
		for i := range 2 * maxTasks {
			if err := exec.Command("/bin/sleep", "30").Start(); err != nil {
				return "", fmt.Errorf("after %d: %w", i, err)
			}
		}
		return `"forked"`, nil
	case "one file":
		return `"filled"`, fill("a", scratchSize+1<<20)
	case "two files":
		if err := fill("a", scratchSize/2+1<<20); err != nil {
			return "", err
		}
		return `"filled"`, fill("b", scratchSize/2+1<<20)
	case "many files":
		for i := range 5000 {
			if err := fill(strconv.Itoa(i), 0); err != nil {
				return "", err
			}
		}
		return `"filled"`, nil
	case "descriptors":
		for i := range 1000 {
			if _, err := os.Open("/dev/null"); err != nil {
				return "", fmt.Errorf("after %d: %w", i, err)
			}
		}
		return `"opened"`, nil
	case "memory": // in one process
		return fmt.Sprint(touch(700 << 20)), nil
	case "memories": // in several
		said, say, err := os.Pipe()
		if err != nil {
			return "", err
		}
		for range 6 {
			c := exec.Command(os.Getenv("LAMBDA_TASK_ROOT") + "/bootstrap")
			c.Env, c.Stdout = append(os.Environ(), "TEST_HOG=1"), say
			if err := c.Start(); err != nil {
				return "", err
			}
		}
		if _, err := io.ReadFull(said, make([]byte, 6)); err != nil {
			return "", err
		}
		if most, _ := strconv.Atoi(os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")); most < 6*40 {
			time.Sleep(time.Minute) // until it is ended
		}
		return `"taken"`, nil
	case "daemon": // as a daemon does: a session of its own, and no parent
		c := exec.Command("/bin/sh", "-c", "sleep "+path+" & exit 0")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return `"left"`, c.Run()
	case "mount":
		if err := unix.Mount("none", os.TempDir(), "tmpfs", 0, ""); err != nil {
			return "", err
		}
		return `"mounted"`, unix.Unmount(os.TempDir(), 0) // without a sandbox it is the machine's
	case "unshare":
		return `"unshared"`, exec.Command("/usr/bin/unshare", "-U", "/bin/true").Run()
	case "keyring":
		_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
		return `"got"`, err
	case "memfd":
		_, err := unix.MemfdCreate("x", 0)
		return `"made"`, err
	case "shared memory":
		return `"taken"`, share(-1, unix.MAP_ANONYMOUS)
	case "shared zero": // the same memory, by a device
		f, err := os.OpenFile("/dev/zero", os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return `"taken"`, share(int(f.Fd()), 0)
	case "socketpair": // the kernel makes both sockets, and then finds that they are no pair
		if _, err := unix.Socketpair(unix.AF_NETLINK, unix.SOCK_RAW, 0); err != unix.EOPNOTSUPP {
			return "", err
		}
		return `"made"`, nil
	case "open_tree_attr":
		at := unix.AT_FDCWD
		fd, _, errno := unix.Syscall6(unix.SYS_OPEN_TREE_ATTR, uintptr(at), uintptr(unsafe.Pointer(&[]byte("/\x00")[0])), unix.OPEN_TREE_CLOEXEC, 0, 0, 0)
		if errno == 0 {
			_ = unix.Close(int(fd))
		}
		return `"opened"`, fault(errno)
	case "netlink":
		_, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)
		return `"made"`, err
	case "io_uring":
		var params [120]byte
		_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
		return `"made"`, fault(errno)
	case "who":
		return who()
	case "environment":
		return strconv.Quote(strings.Join(os.Environ(), "\n")), nil
	case "tree":
		return strconv.Quote(tree()), nil
	}
	return "", fmt.Errorf("no case %q", name)
}

// share takes memory that is shared with children.
func share(fd, flags int) error {
	b, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|flags)
	if err != nil {
		return err
	}
	b[0] = 1
	return unix.Munmap(b)
}

// who tells, without /proc, what this process is and may.
func who() (string, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return "", err
	}
	locked, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return "", err
	}
	filter, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	if err != nil {
		return "", err
	}
	groups, err := os.Getgroups()
	return fmt.Sprintf("%q", fmt.Sprintf("pid %d caps %v no_new_privs %d seccomp %d uid %d groups %v", os.Getpid(), caps, locked, filter, os.Getuid(), groups)), err
}

func fault(e syscall.Errno) error {
	if e != 0 {
		return e
	}
	return nil
}

func fill(name string, size int) error {
	f, err := os.Create(filepath.Join(os.TempDir(), name))
	if err != nil {
		return err
	}
	defer f.Close()
	chunk := make([]byte, min(size, 1<<20))
	for left := size; left > 0; left -= len(chunk) {
		if _, err := f.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

func touch(size int) (sum int) {
	b := make([]byte, size)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
		sum += int(b[i])
	}
	return sum
}

// tree lists what stands in the first two levels of the files.
func tree() string {
	var names []string
	for _, pattern := range []string{"/*", "/var/*", "/etc/*", "/dev/*", "/home/*", "/root/*", "/run/*", "/tmp/*", "/sys/*"} {
		found, _ := filepath.Glob(pattern)
		names = append(names, found...)
	}
	return strings.Join(names, " ")
}
