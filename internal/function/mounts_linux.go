package function

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The programs and libraries of the system that every function sees, read-only.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives"}

// Files of the system that programs cannot do without.
var systemFiles = []string{"/etc/ld.so.cache", "/etc/localtime"}

// What names and certificates of others are looked up in.
var networkFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "/etc/services", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
}

func (s *spec) systemFiles() []string {
	switch {
	case s.Network:
		return append(slices.Clone(systemFiles), networkFiles...)
	case s.Layers&namespaces == 0: // to find localhost, where the API is
		return append(slices.Clone(systemFiles), "/etc/hosts", "/etc/nsswitch.conf")
	}
	return systemFiles
}

var devices = []string{"null", "zero", "full", "random", "urandom"}

// root is where the new tree is put together: the process that does it needs no devices, and no code is kept there.
const root = "/dev"

// mountAll makes a tree of its own for the function and enters it: programs of the system, the runtime, the code, a scratch folder of a
// fixed size in memory. What is not in it cannot be named.
func (s *spec) mountAll() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	opened := map[string]int{} // root hides them
	for _, name := range devices {
		fd, err := unix.Open("/dev/"+name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
		opened[name] = fd
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=4m"); err != nil {
		return fmt.Errorf("mounting a file system: %w", err)
	}
	for _, dir := range append(slices.Clone(systemFolders), s.Runtime...) {
		if err := show(dir); err != nil {
			return err
		}
	}
	for _, dir := range s.Hide {
		at := filepath.Join(root, dir)
		if _, err := os.Lstat(at); err != nil {
			continue // as it should be
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_RDONLY, "mode=000,size=0"); err != nil {
			return fmt.Errorf("hiding %s: %w", dir, err)
		}
	}
	if err := bind(s.Task, root+taskRoot); err != nil {
		return err
	}
	if err := s.small(opened); err != nil {
		return err
	}
	if err := unix.MountSetattr(-1, root, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	return enter()
}

// show makes a folder of the host visible under its own name. Where the system has a link, so has the function.
func show(dir string) error {
	i, err := os.Lstat(dir)
	at := filepath.Join(root, dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case i.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(dir)
		if err != nil {
			return err
		}
		return os.Symlink(to, at)
	}
	if _, err := os.Lstat(at); err == nil {
		return nil // below another one
	}
	return bind(dir, at)
}

// bind mounts a folder or file read-only.
func bind(from, at string) error {
	i, err := os.Stat(from)
	if err != nil {
		return err
	}
	if i.IsDir() {
		err = os.MkdirAll(at, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
		err = os.WriteFile(at, nil, 0o444)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s: %w", from, err)
	}
	ro := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(-1, at, unix.AT_RECURSIVE, &ro); err != nil {
		return fmt.Errorf("making %s read-only: %w", from, err)
	}
	return nil
}

// small makes the folders that are the function's own, and the few files that are not the system's.
func (s *spec) small(opened map[string]int) error {
	for _, dir := range []string{"/dev", "/proc", "/etc", "/opt", "/var/tmp", runtimeRoot, scratchRoot} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}
	for name, fd := range opened {
		at := root + "/dev/" + name
		if err := os.WriteFile(at, nil, 0o444); err != nil {
			return err
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("binding /dev/%s: %w", name, err)
		}
	}
	for _, file := range s.systemFiles() {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if err := bind(file, root+file); err != nil {
			return err
		}
	}
	uid := s.UID
	if uid == 0 {
		uid = sandboxUID
	}
	files := map[string][]byte{
		"/etc/passwd": fmt.Appendf(nil, "sbx_user:x:%d:%[1]d::%s:/sbin/nologin\n", uid, scratchRoot),
		"/etc/group":  fmt.Appendf(nil, "sbx_user:x:%d:\n", uid),
	}
	if !s.Network {
		files["/etc/hosts"] = []byte("127.0.0.1 " + strings.Join(append([]string{"localhost"}, s.Hosts...), " ") + "\n")
		files["/etc/nsswitch.conf"] = []byte("hosts: files\n") // there is no name server
	}
	for name, content := range s.Files {
		files[filepath.Join(runtimeRoot, name)] = content
	}
	for name, content := range files {
		if err := os.WriteFile(root+name, content, 0o444); err != nil {
			return err
		}
	}
	own := fmt.Sprintf("mode=700,size=%d,nr_inodes=4096,uid=%d,gid=%[2]d", s.Size, uid)
	if err := unix.Mount("tmpfs", root+scratchRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, own); err != nil {
		return fmt.Errorf("mounting the scratch folder: %w", err)
	}
	// Only what tells about the function's own processes. Where a container hides parts of /proc, none may be mounted; functions
	// seldom need it.
	_ = unix.Mount("proc", root+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "subset=pid")
	return nil
}

// enter makes the new tree the only one.
func enter() error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return os.Chdir(taskRoot)
}
