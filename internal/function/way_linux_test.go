package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// fakeAPI greets whoever calls it. It listens on the machine's loopback, too, as the server's API does.
type fakeAPI struct {
	port int

	mu   sync.Mutex
	made int
	left map[string]time.Duration // of credentials
}

const anHour = time.Hour

func newAPI(t testing.TB) *fakeAPI {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeAPI{port: l.Addr().(*net.TCPAddr).Port, left: map[string]time.Duration{}}
	f.listen(t, l)
	if six, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(f.port))); err == nil { // which Node.js 18 takes for localhost
		f.listen(t, six)
	}
	return f
}

func (f *fakeAPI) listen(t testing.TB, l net.Listener) {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.Serve(c, Code{Name: "anybody"})
		}
	}()
}

func (f *fakeAPI) Credentials(_ context.Context, code Code) (Credentials, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if code.Role == "gone" {
		return Credentials{}, fmt.Errorf("%w: it is gone", ErrRole)
	}
	f.made++
	c := Credentials{"ASIA" + strconv.Itoa(f.made), fleet.Secret("secret-" + fleet.NewUUID()), fleet.Secret("token-" + fleet.NewUUID())}
	f.left[c.AccessKeyID] = anHour
	return c, nil
}

func (f *fakeAPI) Hold(_ context.Context, c Credentials, d time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left[c.AccessKeyID] > d
}

// last lets credentials last for d.
func (f *fakeAPI) last(key string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left[key] = d
}

func (f *fakeAPI) Address(Code) (Address, error) {
	return Address{Host: "localhost", Port: f.port, Names: []string{"iot.eu-central-1.amazonaws.com"}, Roots: []byte("the roots")}, nil
}

func (f *fakeAPI) Serve(c net.Conn, code Code) {
	_, _ = c.Write([]byte("hello " + code.Name))
	_ = c.Close()
}

// reach is what a function in Python and one in Node do to say what they hear at an address.
var reach = map[string]map[string]string{
	"python": {"app.py": `import os, socket
def handler(event, context):
    host, port = event["path"].rsplit(":", 1)
    c = socket.create_connection((host, int(port)), 20)
    return c.recv(100).decode() + " " + open(os.environ["AWS_CA_BUNDLE"]).read()
`},
	"node": {"index.js": `const net = require('net'), fs = require('fs');
exports.handler = (event) => new Promise((yes, no) => {
  const at = event.path.lastIndexOf(':'), c = net.connect(Number(event.path.slice(at + 1)), event.path.slice(0, at));
  c.on('data', (b) => yes(b + ' ' + fs.readFileSync(process.env.AWS_CA_BUNDLE)));
  c.on('error', no);
  c.setTimeout(20000, () => no(new Error('nobody said anything')));
});
`},
}

func TestAFunctionReachesTheAPIAndNothingElse(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello stranger"))
			_ = c.Close()
		}
	}()
	ours := strconv.Itoa(api.port)
	for _, take := range []layers{0, namespaces | ownUser, allLayers} { // whose own user may not come to the folders of a test
		r := world(t, Config{API: api, without: take})
		for _, lang := range []string{"python", "node", "go"} {
			if lang == "node" && take == namespaces|ownUser { // it looks at the folders above its code, which landlock alone hides
				continue
			}
			c := subject(t, lang)
			if lang != "go" {
				c.Dir = write(t, reach[lang])
			}
			said := func(address string) string {
				event, _ := json.Marshal(map[string]string{"case": "reach", "path": address})
				return string(ask(t, r, c, string(event)).Payload)
			}
			own := "check" // in its own network the server knows who calls
			if take&namespaces != 0 {
				own = "anybody"
			}
			if got := said("localhost:" + ours); got != `"hello `+own+` the roots"` {
				t.Errorf("%s without %v: the API said %s", lang, take, got)
			}
			if take&namespaces == 0 {
				if got := said("iot.eu-central-1.amazonaws.com:443"); got != `"hello check the roots"` {
					t.Errorf("%s: by AWS's name the API said %s", lang, got)
				}
			}
			if take == allLayers { // nothing holds it
				if got := said(other.Addr().String()); got != `"hello stranger the roots"` {
					t.Errorf("%s: without a sandbox this shows nothing: %s", lang, got)
				}
				continue
			}
			closed := []string{other.Addr().String(), "192.0.2.1:" + ours, "sts.amazonaws.com:443"}
			if take&namespaces == 0 { // without a network of its own it finds the API at each address of this machine
				closed = append(closed, "[::1]:"+ours)
			}
			for _, address := range closed {
				if got := said(address); !strings.Contains(got, "errorMessage") || strings.Contains(got, "hello") || strings.Contains(got, "Timedout") {
					t.Errorf("%s without %v: %s said %s", lang, take, address, got)
				}
			}
		}
	}
}

// A handler that answers with the key that it has, and one that shows all that it has.
const keyTeller = `import os
def handler(event, context):
    if event.get("show"):
        print(os.environ)
        raise ValueError(os.environ["AWS_SECRET_ACCESS_KEY"])
    return os.environ["AWS_ACCESS_KEY_ID"]
`

func TestCredentialsAreRenewedBeforeTheyEnd(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	r := world(t, Config{API: api})
	c := Code{Name: "check", ARN: testARN, Runtime: "python3.11", Handler: "app.handler", Role: "r", Dir: write(t, map[string]string{"app.py": keyTeller}), Timeout: longTimeout}
	key := func() (key string) {
		t.Helper()
		res := ask(t, r, c, `{}`)
		if err := json.Unmarshal(res.Payload, &key); err != nil || res.FunctionError != "" {
			t.Fatalf("%s\n%s", res.Payload, res.Log)
		}
		return key
	}
	first := key()
	if again := key(); again != first {
		t.Errorf("a process that lasts has %s, then %s", first, again)
	}
	api.last(first, c.Timeout+renewAhead-time.Second) // they will end: it may answer this event, and no further one
	if still := key(); still != first {
		t.Errorf("the event that comes meanwhile has %s", still)
	}
	until(t, r.ready) // for the next event there is one with others, and no second need be started beside it
	second := key()
	if second == first {
		t.Error("they were not renewed")
	}
	// They have ended, since a role has changed for example, while the process waits.
	until(t, func() bool { return key() == second })
	api.last(second, 0)
	if third := key(); third == second || third == first {
		t.Errorf("an event was handled with credentials that had ended: %s", third)
	}
	c.Role = "gone"
	if _, err := r.Invoke(t.Context(), c, []byte(`{}`)); !errors.Is(err, ErrRole) {
		t.Errorf("a role that is gone: %v", err)
	}
}

func TestSecretsOfAFunctionAreNotShown(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	r := world(t, Config{API: api})
	c := Code{Name: "check", ARN: testARN, Runtime: "python3.11", Handler: "app.handler", Dir: write(t, map[string]string{"app.py": keyTeller})}
	res := ask(t, r, c, `{"show":true}`)
	if shown := string(res.Log) + string(res.Payload); !strings.Contains(shown, "'AWS_SESSION_TOKEN': '***'") || !strings.Contains(string(res.Payload), `"errorMessage": "***"`) ||
		strings.Contains(shown, "secret-") || strings.Contains(shown, "token-") {
		t.Errorf("%s\n%s", res.Payload, res.Log)
	}
}

func TestWhereAFunctionFindsTheAPI(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		layers  layers
		network bool
		address Address
		origin  string
		hosts   string
		doors   string
	}{
		"its own network, by the name that all use":     {allLayers, false, Address{Host: "iot.lan", Port: 8443}, "https://iot.lan:8443", "iot.lan", "[8443]"},
		"with the names of AWS":                         {allLayers, false, Address{Host: "iot.lan", Port: 8443, Names: []string{"a", "b"}}, "https://iot.lan:8443", "a b iot.lan", "[8443 443]"},
		"on AWS's port":                                 {allLayers, false, Address{Host: "iot.lan", Port: 443, Names: []string{"a"}}, "https://iot.lan", "a iot.lan", "[443]"},
		"whose host is an address":                      {allLayers, false, Address{Host: "10.0.0.7", Port: 8443}, "https://localhost:8443", "", "[8443]"},
		"the network of the machine":                    {allLayers, true, Address{Host: "iot.lan", Port: 443}, "https://iot.lan", "", "[]"},
		"the network of the machine, IPv6":              {allLayers, true, Address{Host: "2001:db8::7", Port: 443}, "https://[2001:db8::7]", "", "[]"},
		"no network, and no sandbox: no name server":    {landlock, false, Address{Host: "iot.lan", Port: 8443}, "https://localhost:8443", "", "[]"},
		"no network, and no sandbox: the same address":  {landlock, false, Address{Host: "10.0.0.7", Port: 8443}, "https://10.0.0.7:8443", "", "[]"},
		"its own network, by the name of every machine": {allLayers, false, Address{Host: "localhost", Port: 8443}, "https://localhost:8443", "", "[8443]"},
	} {
		s := &spec{Layers: row.layers, Network: row.network, Files: map[string][]byte{}}
		s.lead(row.address)
		if got := s.origin(row.address); got != row.origin || strings.Join(s.Hosts, " ") != row.hosts || fmt.Sprint(s.Doors) != row.doors {
			t.Errorf("%s: %s, %v, %v", name, got, s.Hosts, s.Doors)
		}
	}
	s := &spec{Layers: allLayers, Files: map[string][]byte{}}
	s.lead(Address{Port: apiPort})
	if s.runtimePort() == apiPort {
		t.Error("two listeners on one port")
	}
}
