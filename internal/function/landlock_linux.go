package function

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	readExec = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	readOnly = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	device   = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	// Of a scratch folder: files, folders, links and sockets; no devices.
	readWrite = readExec | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// handledFiles are the rights that each version of landlock knows (landlock(7)). What is not in them is not restricted.
var handledFiles = []uint64{0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff}

// A rule allows something below an open file or folder.
type rule struct {
	fd     int
	access uint64
}

// openRules opens what the function may use.
func (s *spec) openRules() (rules []rule, err error) {
	if s.Layers&landlock == 0 {
		return nil, nil
	}
	allow := map[string]uint64{s.task(): readExec, s.scratch(): readWrite, "/proc": readOnly}
	for _, dirs := range [][]string{systemFolders, s.Runtime} {
		for _, dir := range dirs {
			allow[dir] = readExec
		}
	}
	if s.Layers&namespaces != 0 {
		allow[runtimeRoot], allow["/etc"] = readOnly, readOnly // of the tree that mountAll made
	} else {
		for _, file := range s.systemFiles() {
			allow[file] = readOnly
		}
	}
	for _, name := range devices {
		allow["/dev/"+name] = device
	}
	allow["/dev/zero"] = readOnly // who may write to it makes shared memory of it, which no limit of a process counts
	for path, access := range allow {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		rules = append(rules, rule{fd, access})
	}
	return rules, nil
}

// restrictFiles lets this process and its children use the files of the rules and no other, connect by TCP to nothing beyond what the
// spec grants, and signal nobody else.
func (s *spec) restrictFiles(rules []rule) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
	case unix.EPERM: // landlock(7) never answers that here
		return fmt.Errorf("a filter of system calls forbids it: %w", errno)
	default:
		return fmt.Errorf("this kernel has none: %w", errno)
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handledFiles[min(int(version), len(handledFiles)-1)]}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if version >= 4 && !s.AnyPort {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(attr.Scoped)
	}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
		size = unsafe.Sizeof(attr.Handled_access_fs) * 3
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return fmt.Errorf("making a ruleset: %w", errno)
	}
	for _, r := range rules {
		access := r.access & attr.Handled_access_fs
		var st unix.Stat_t
		if err := unix.Fstat(r.fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			access &= unix.LANDLOCK_ACCESS_FS_EXECUTE | device | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		}
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(r.fd)}
		if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0); errno != 0 {
			return fmt.Errorf("adding a rule: %w", errno)
		}
	}
	if attr.Handled_access_net != 0 {
		const rulePort = 2 // LANDLOCK_RULE_NET_PORT
		for _, to := range s.Connect {
			port := struct{ access, port uint64 }{unix.LANDLOCK_ACCESS_NET_CONNECT_TCP, uint64(to)}
			if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, rulePort, uintptr(unsafe.Pointer(&port)), 0, 0, 0); errno != 0 {
				return fmt.Errorf("adding a rule for port %d: %w", to, errno)
			}
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fmt.Errorf("entering: %w", errno)
	}
	return nil
}
