package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// SQLite writes each page of a commit to its log with two calls, one of them for 24 bytes, and a flow has some thirty pages; then it
// calls fsync, which has the time of change written too. Here the calls of a commit are gathered and made as one, and the sync is
// fdatasync.
//
// The log is SQLite's own otherwise: a VFS (sqlite.org/vfs.html) that is the default one but for how it opens the log, whose methods are
// those of the default one behind what has been gathered. Nobody sees the difference: the page that ends a commit has all of it written
// before the index of the log tells others, and so has whatever else is done with the file.
const logVFSName = "imprint"

// frameHeader is what stands before each page in the log: bytes 4 to 7 are not 0 if the page ends a commit (sqlite.org/fileformat2.html,
// section 4.1).
const frameHeader = 24

// maxGathered is how many bytes are gathered at most. SQLite's write cuts longer ones to the 17 lowest bits of their length.
const maxGathered = 1<<17 - 1

// A logFile is the log as one connection has it open. SQLite calls it from one goroutine at a time.
type logFile struct {
	at       int64 // in the file, of the first byte gathered
	gathered []byte
	ends     bool  // the page that comes next ends a commit
	failed   int32 // what became of a write of what was gathered, for the next sync; 0: nothing bad
	synced   bool  // once, with its folder
	writes   int   // of what was gathered, counted in tests
}

// What the VFS stands on. Everything is set before the first log is open, and the methods by the first log.
var (
	logBase    lib.Tsqlite3_vfs
	logMethods struct {
		sync.Mutex
		of        uintptr // the default methods, in SQLite's memory
		base, own lib.Tsqlite3_io_methods
	}
	logFiles sync.Map // of *logFile by the address that SQLite knows the file by
)

// Signatures of methods (sqlite3_vfs and sqlite3_io_methods in sqlite3.h). Results are SQLite's codes.
type (
	logOpener  = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32
	logCloser  = func(tls *libc.TLS, file uintptr) int32
	logMover   = func(tls *libc.TLS, file, memory uintptr, n int32, at int64) int32 // reads and writes
	logCutter  = func(tls *libc.TLS, file uintptr, size int64) int32
	logSyncer  = func(tls *libc.TLS, file uintptr, flags int32) int32
	logMeasure = func(tls *libc.TLS, file, size uintptr) int32
)

// logVFS returns the name of the VFS for the store's connections, which it makes known to SQLite.
var logVFS = sync.OnceValues(func() (string, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	base := lib.Xsqlite3_vfs_find(tls, 0)
	if base == 0 {
		return "", errors.New("SQLite has no way to open files")
	}
	logBase = *behind[lib.Tsqlite3_vfs](base)
	name, err := libc.CString(logVFSName)
	if err != nil {
		return "", err
	}
	own := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(logBase))) // SQLite keeps it
	if own == 0 {
		return "", errors.New("no memory for SQLite")
	}
	v := behind[lib.Tsqlite3_vfs](own)
	*v = logBase
	v.FpNext, v.FzName, v.FxOpen = 0, name, code(logOpen)
	if rc := lib.Xsqlite3_vfs_register(tls, own, 0); rc != lib.SQLITE_OK {
		return "", fmt.Errorf("SQLite takes no other way to open files: code %d", rc)
	}
	return logVFSName, nil
})

// behind is what an address of SQLite's points to.
func behind[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// code is the address of a function, as SQLite calls it. f must not be a closure.
func code[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }

// method is the function at an address of SQLite's.
func method[F any](code uintptr) F { return *(*F)(unsafe.Pointer(&struct{ code uintptr }{code})) }

func logOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	rc := method[logOpener](logBase.FxOpen)(tls, vfs, name, file, flags, outFlags)
	if rc != lib.SQLITE_OK || flags&lib.SQLITE_OPEN_WAL == 0 {
		return rc
	}
	m := &logMethods
	m.Lock()
	defer m.Unlock()
	f := behind[lib.Tsqlite3_file](file)
	if m.of == 0 {
		m.of, m.base = f.FpMethods, *behind[lib.Tsqlite3_io_methods](f.FpMethods)
		m.own = m.base
		m.own.FxClose, m.own.FxRead, m.own.FxWrite = code(logClose), code(logRead), code(logWrite)
		m.own.FxTruncate, m.own.FxSync, m.own.FxFileSize = code(logTruncate), code(logSync), code(logSize)
	}
	if f.FpMethods == m.of { // SQLite has others for file systems that cannot lock
		logFiles.Store(file, &logFile{})
		f.FpMethods = uintptr(unsafe.Pointer(&m.own))
	}
	return rc
}

func logOf(file uintptr) *logFile {
	l, _ := logFiles.Load(file)
	return l.(*logFile)
}

// written writes what was gathered.
func (l *logFile) written(tls *libc.TLS, file uintptr) int32 {
	if len(l.gathered) == 0 {
		return lib.SQLITE_OK
	}
	l.writes++
	rc := method[logMover](logMethods.base.FxWrite)(tls, file, uintptr(unsafe.Pointer(&l.gathered[0])), int32(len(l.gathered)), l.at)
	l.gathered = l.gathered[:0]
	if rc != lib.SQLITE_OK {
		l.failed = rc
	}
	return rc
}

func logWrite(tls *libc.TLS, file, from uintptr, n int32, to int64) int32 {
	l := logOf(file)
	if to != l.at+int64(len(l.gathered)) || len(l.gathered)+int(n) > maxGathered {
		if rc := l.written(tls, file); rc != lib.SQLITE_OK {
			return rc
		}
		l.at = to
	}
	if n > maxGathered {
		l.at += int64(n)
		return method[logMover](logMethods.base.FxWrite)(tls, file, from, n, to)
	}
	piece := unsafe.Slice(behind[byte](from), n)
	l.gathered = append(l.gathered, piece...)
	if l.ends {
		l.ends = false
		return l.written(tls, file)
	}
	l.ends = n == frameHeader && binary.BigEndian.Uint32(piece[4:]) != 0
	return lib.SQLITE_OK
}

// logSync syncs the data, and what is needed to find them. The first time SQLite does it, and syncs the folder of a new log.
func logSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	l := logOf(file)
	rc := l.written(tls, file)
	if l.failed != lib.SQLITE_OK {
		rc, l.failed = l.failed, lib.SQLITE_OK
	}
	switch {
	case rc != lib.SQLITE_OK:
		return rc
	case !l.synced:
		if rc = method[logSyncer](logMethods.base.FxSync)(tls, file, flags); rc == lib.SQLITE_OK {
			l.synced = true
		}
		return rc
	}
	for {
		switch err := unix.Fdatasync(int(behind[lib.TunixFile](file).Fh)); err {
		case nil:
			return lib.SQLITE_OK
		case unix.EINTR:
		default:
			return lib.SQLITE_IOERR_FSYNC
		}
	}
}

func logRead(tls *libc.TLS, file, into uintptr, n int32, from int64) int32 {
	if rc := logOf(file).written(tls, file); rc != lib.SQLITE_OK {
		return rc
	}
	return method[logMover](logMethods.base.FxRead)(tls, file, into, n, from)
}

func logTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	if rc := logOf(file).written(tls, file); rc != lib.SQLITE_OK {
		return rc
	}
	return method[logCutter](logMethods.base.FxTruncate)(tls, file, size)
}

func logSize(tls *libc.TLS, file, size uintptr) int32 {
	if rc := logOf(file).written(tls, file); rc != lib.SQLITE_OK {
		return rc
	}
	return method[logMeasure](logMethods.base.FxFileSize)(tls, file, size)
}

func logClose(tls *libc.TLS, file uintptr) int32 {
	rc := logOf(file).written(tls, file)
	logFiles.Delete(file)
	if closed := method[logCloser](logMethods.base.FxClose)(tls, file); closed != lib.SQLITE_OK {
		return closed
	}
	return rc
}
