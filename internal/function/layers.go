package function

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Verb is the hidden verb by which the server starts itself as the process that builds the sandbox of a function and then becomes it.
const Verb = "function-worker"

// Main must be called first thing by every program that is to run functions, tests included (TestMain): if the process was started as the
// one that builds a sandbox, it does that and does not return.
func Main() {
	prepared = true
	if len(os.Args) == 2 && os.Args[1] == Verb {
		become()
	}
}

// prepared says that Main was called. A program that does not would be started again as a whole, in the place of each sandbox.
var prepared bool

// layers are the parts of the sandbox. Each holds by itself; DESIGN.md says what for.
type layers uint

const (
	namespaces layers = 1 << iota // mounts, processes, network, IPC of its own
	ownUser                       // a user id of its own; where the server is root
	landlock                      // the files that it may use
	seccomp                       // the system calls that it may use
	limits                        // memory, processes, files
	allLayers  = namespaces | ownUser | landlock | seccomp | limits
)

var layerNames = []string{"namespaces", "user id", "landlock", "seccomp", "limits"}

func (l layers) String() string {
	var names []string
	for i, name := range layerNames {
		if l&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// cures says what to do about a layer that a machine lacks.
var cures = map[layers]string{
	namespaces: "let the server make namespaces: under systemd use the drop-in of docs/operating.md; as an ordinary user it needs user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); a container needs CAP_SYS_ADMIN and CAP_NET_BIND_SERVICE",
	ownUser:    "give root in this container CAP_SETUID, CAP_SETGID and more user ids, or run the server as an ordinary user",
	landlock:   "use a kernel from 5.13 on with landlock in its list of security modules (lsm=landlock,…); a container's filter of system calls must allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self",
	seccomp:    "use a kernel with CONFIG_SECCOMP_FILTER",
	limits:     "raise the hard limits of the server",
}

// A spec tells the process that builds a sandbox what to do. It comes as JSON on descriptor 4.
type spec struct {
	Layers  layers
	Args    []string // program and arguments
	Env     []string
	Files   map[string][]byte // below /var/runtime
	Task    string            // folder of the code, on the host
	Runtime []string          // further folders of the interpreter, on the host
	Hide    []string          // folders of the host that are not shown, even if they are below others that are
	Scratch string            // its folder: on the host without namespaces, else of its own file system of that size
	Size    int64             // of what may be written to it, bytes
	UID     int               // 0: stay
	Memory  int64             // bytes that a process may have of its own, beyond what it shares with files
	Tasks   int               // processes and threads
	Time    int64             // seconds of processor time of a process; 0: no limit
	Listen  bool              // make a listener for the Runtime API on runtimePort and hand it to the server
	Doors   []int             // ports to listen on for the server's API, in a network of its own; the server is handed the listeners
	Hosts   []string          // names that lead to them
	Inet    bool              // may use TCP
	Connect []int             // … to these ports of its own machine only, unless AnyPort
	AnyPort bool
	Port    int    // of the Runtime API, where it is the machine's
	Network bool   // may use the network of the machine
	NoJIT   bool   // memory cannot be made executable here
	Token   string // first part of the path of a Runtime API that others on this machine could reach
	Probe   bool   // end where the function would begin
}

// failure is what the process that builds a sandbox says on descriptor 5, if it cannot.
type failure struct {
	Layer layers
	Error string
}

// An entryError says why the program of a function could not be executed.
type entryError string

func (e entryError) Error() string { return string(e) }

// Where a function finds its things. They are AWS's names.
const (
	taskRoot    = "/var/task"
	runtimeRoot = "/var/runtime"
	scratchRoot = "/tmp"
	apiPort     = 9001
)

// runtimePort is the port of the Runtime API in a network of the function's own: AWS's, unless the server's API has it.
func (s *spec) runtimePort() int {
	port := apiPort
	for slices.Contains(s.Doors, port) {
		port++
	}
	return port
}

// runtimeFile is where a file of Files is found.
func (s *spec) runtimeFile(name string) string {
	if s.Layers&namespaces != 0 {
		return filepath.Join(runtimeRoot, name)
	}
	return filepath.Join(s.Runtime[len(s.Runtime)-1], name)
}

// task is where the code is in the sandbox, scratch where it may write.
func (s *spec) task() string {
	if s.Layers&namespaces != 0 {
		return taskRoot
	}
	return s.Task
}

func (s *spec) scratch() string {
	if s.Layers&namespaces != 0 {
		return scratchRoot
	}
	return s.Scratch
}
