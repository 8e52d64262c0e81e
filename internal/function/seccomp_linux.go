package function

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are the system calls that functions have no use for and that have been ways out, or that reach what belongs to the machine.
// What is newer than lastCall does not exist for them either.
var denied = append([]uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_PROCESS_MADVISE,
	// mounts and namespaces
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR, unix.SYS_FSOPEN,
	unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	// the kernel
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SYSLOG, unix.SYS_ACCT, unix.SYS_FANOTIFY_INIT,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_VHANGUP,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY,
	// clock and name of the machine
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	// memory that no limit of a process counts
	unix.SYS_MEMFD_CREATE, unix.SYS_MEMFD_SECRET, unix.SYS_SHMGET, unix.SYS_SHMAT, unix.SYS_SHMCTL, unix.SYS_SHMDT, unix.SYS_SEMGET,
	unix.SYS_SEMOP, unix.SYS_SEMCTL, unix.SYS_SEMTIMEDOP, unix.SYS_MSGGET, unix.SYS_MSGSND, unix.SYS_MSGRCV, unix.SYS_MSGCTL, unix.SYS_MQ_OPEN,
}, deniedHere...)

const lastCall = unix.SYS_FILE_SETATTR

const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

const sharedMemory = unix.MAP_SHARED | unix.MAP_ANONYMOUS

// Offsets in struct seccomp_data (seccomp(2)).
const (
	dataNr   = 0
	dataArch = 4
	dataArg0 = 16
	dataArg1 = 24
	dataArg2 = 32
	dataArg3 = 40
)

// filter is the program that the kernel asks before each system call.
func (s *spec) filter() []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(test uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | test, Jt: yes, Jf: no, K: k}
	}
	give := func(what uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: what} }
	no := func(e unix.Errno) unix.SockFilter { return give(unix.SECCOMP_RET_ERRNO | uint32(e)) }
	allow := give(unix.SECCOMP_RET_ALLOW)

	p := []unix.SockFilter{
		load(dataArch),
		jump(unix.BPF_JEQ, auditArch, 1, 0), // another architecture has other numbers
		give(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNr),
		jump(unix.BPF_JGT, lastCall, 0, 1), // x32's numbers as well
		no(unix.ENOSYS),
		jump(unix.BPF_JEQ, unix.SYS_CLONE3, 0, 1), // its flags cannot be seen from here; the C library then uses clone
		no(unix.ENOSYS),
	}
	for _, nr := range denied {
		p = append(p, jump(unix.BPF_JEQ, nr, 0, 1), no(unix.EPERM))
	}
	p = append(p,
		jump(unix.BPF_JEQ, unix.SYS_CLONE, 0, 4),
		load(dataArg0),
		jump(unix.BPF_JSET, newNamespaces, 0, 1),
		no(unix.EPERM),
		allow,
		jump(unix.BPF_JEQ, unix.SYS_PERSONALITY, 0, 5),
		load(dataArg0),
		jump(unix.BPF_JEQ, 0, 2, 0),
		jump(unix.BPF_JEQ, 0xffffffff, 1, 0), // asks for it
		no(unix.EPERM),
		allow,
		jump(unix.BPF_JEQ, unix.SYS_IOCTL, 0, 5),
		load(dataArg1),
		jump(unix.BPF_JEQ, unix.TIOCSTI, 1, 0), // types into a terminal
		jump(unix.BPF_JEQ, unix.TIOCLINUX, 0, 1),
		no(unix.EPERM),
		allow,
		jump(unix.BPF_JEQ, unix.SYS_MMAP, 0, 5),
		load(dataArg3),
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: sharedMemory},
		jump(unix.BPF_JEQ, sharedMemory, 0, 1), // as memfd_create: no limit of a process counts it
		no(unix.EPERM),
		allow,
		jump(unix.BPF_JEQ, unix.SYS_SOCKETPAIR, 0, 4), // makes sockets of every kind, though few can be paired
		load(dataArg0),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1),
		allow,
		no(unix.EAFNOSUPPORT),
		jump(unix.BPF_JEQ, unix.SYS_SOCKET, 1, 0),
		allow,
		load(dataArg0),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 0, 1),
		allow)
	switch {
	case s.Network:
		p = append(p,
			jump(unix.BPF_JEQ, unix.AF_INET, 2, 0),
			jump(unix.BPF_JEQ, unix.AF_INET6, 1, 0),
			jump(unix.BPF_JEQ, unix.AF_NETLINK, 0, 1), // which addresses this machine has
			allow)
	case s.Inet:
		p = append(p,
			jump(unix.BPF_JEQ, unix.AF_INET, 1, 0),
			no(unix.EAFNOSUPPORT),
			load(dataArg1),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0xf},
			jump(unix.BPF_JEQ, unix.SOCK_STREAM, 0, 4),
			load(dataArg2),
			jump(unix.BPF_JEQ, 0, 1, 0),
			jump(unix.BPF_JEQ, unix.IPPROTO_TCP, 0, 1), // landlock knows no ports of others, such as MPTCP
			allow)
	}
	return append(p, no(unix.EAFNOSUPPORT))
}

func installFilter(p []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	// prctl: the filters of services often let it pass where they refuse seccomp(2).
	if _, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return nil
}
