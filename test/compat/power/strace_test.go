package power

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// An event is one system call of the traced processes. Its time is counted in lines of the trace: strace writes the first line
// of a call before the kernel begins with it and the last one after the kernel is done, so that what ends before another call
// begins has truly happened before it.
type event struct {
	begin, end int
	name       string
	args       []string // as printed; see text and decorated
	result     int64
}

// traced is what strace reports: all calls that can change files, make them durable, or change them behind its back.
const traced = "open,openat,openat2,creat,lseek," +
	"write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,splice,io_uring_setup,mmap," +
	"fsync,fdatasync,sync,syncfs,sync_file_range,msync," +
	"rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,utimensat"

// readTrace reads what strace -f -xx -y -o writes, and hands on the calls as they end. Those that failed are left out.
func readTrace(r io.Reader, use func(event) error) error {
	type unfinished struct {
		begin int
		text  string
	}
	waiting := map[string]unfinished{} // by thread
	lines := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		thread, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		text = strings.TrimSpace(text)
		begin := n
		switch {
		case strings.HasPrefix(text, "+++"), strings.HasPrefix(text, "---"):
			continue
		case strings.HasSuffix(text, "<unfinished ...>"):
			waiting[thread] = unfinished{n, strings.TrimSuffix(text, "<unfinished ...>")}
			continue
		case strings.HasPrefix(text, "<... "):
			_, rest, ok := strings.Cut(text, " resumed>")
			if !ok {
				return fmt.Errorf("line %d: %.200s", n, text)
			}
			text, begin = waiting[thread].text+rest, waiting[thread].begin
			delete(waiting, thread)
		}
		e, ok, err := parseCall(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if !ok {
			continue
		}
		e.begin, e.end = begin, n
		if err := use(e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// parseCall reads name(args) = result; ok is false if the call failed or never returned.
func parseCall(text string) (e event, ok bool, err error) {
	call, result, found := cutLast(text, " = ")
	open := strings.IndexByte(call, '(')
	call = strings.TrimRight(call, " ")
	if !found || open < 0 || !strings.HasSuffix(call, ")") {
		return e, false, fmt.Errorf("not a system call: %.200s", text)
	}
	number, _, _ := strings.Cut(result, "<") // of an open file, its name follows
	number, _, _ = strings.Cut(number, " ")
	if number == "?" {
		return e, false, nil
	}
	if e.result, err = strconv.ParseInt(number, 0, 64); err != nil {
		return e, false, fmt.Errorf("the result of %.200s: %w", text, err)
	}
	e.name = call[:open]
	if inside := strings.TrimSpace(call[open+1 : len(call)-1]); inside != "" {
		e.args = strings.Split(inside, ", ") // strings are in hexadecimal and hold no comma
	}
	return e, e.result >= 0, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// text decodes a string argument.
func (e event) text(i int) (string, error) {
	a := e.args[i]
	if len(a) < 2 || a[0] != '"' || a[len(a)-1] != '"' { // three dots behind it: cut off
		return "", fmt.Errorf("%s: argument %d is not a whole string: %.80s", e.name, i, a)
	}
	return unhex(a[1 : len(a)-1])
}

func unhex(s string) (string, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	return string(b), err
}

// number reads a whole number.
func (e event) number(i int) (int64, error) { return strconv.ParseInt(e.args[i], 0, 64) }

// file splits a file descriptor, which strace prints with the file's name: 3<\x2f\x74…>. The name is empty if it has none.
func (e event) file(i int) (fd, name string) {
	fd, rest, found := strings.Cut(e.args[i], "<")
	if !found {
		return fd, ""
	}
	name, _, _ = strings.Cut(rest, ">")
	name, err := unhex(name)
	if err != nil { // a socket or the like
		return fd, ""
	}
	return fd, name
}

// path is the absolute name in argument i.
func (e event) path(i int) (string, error) {
	name, err := e.text(i)
	if err != nil || path.IsAbs(name) {
		return path.Clean(name), err
	}
	return "", fmt.Errorf("%s: %q is relative", e.name, name)
}
