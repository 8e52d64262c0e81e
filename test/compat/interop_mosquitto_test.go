package compat

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mosquittoScenarios are for mosquitto_pub and mosquitto_sub, which are commands and no parties of other scenarios.
var mosquittoScenarios = []struct {
	name     string
	versions []string
	try      func(p *troop)
}{
	{"messages wait for a client that is away", mosquittoBoth, func(p *troop) {
		sub := []string{"-i", p.id("away"), "-c", "-t", p.topic("t")}
		if p.version == "mqttv5" {
			sub = append(sub, "-x", "600")
		}
		p.run("mosquitto_sub", append(sub, "-E")...)
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "one")
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "two")
		if got := p.run("mosquitto_sub", append(sub, "-C", "2", "-W", "120")...); got != "one\ntwo" {
			p.Errorf("heard %q", got)
		}
	}},
	{"retained messages", mosquittoBoth, func(p *troop) {
		p.run("mosquitto_pub", "-t", p.topic("t"), "-r", "-m", "kept")
		if got := p.run("mosquitto_sub", "-t", p.topic("t"), "-C", "1", "-W", "120", "-F", "%r %q %p"); got != "1 1 kept" {
			p.Errorf("heard %q", got)
		}
		p.run("mosquitto_pub", "-t", p.topic("t"), "-r", "-n")
		sub := p.start("-t", p.topic("t"))
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "live")
		sub.hears(p.topic("t") + " 0 live")
	}},
	{"will", mosquittoBoth, func(p *troop) {
		watch := p.start("-t", p.topic("will"))
		doomed := p.start("-t", p.topic("t"), "--will-topic", p.topic("will"), "--will-payload", "gone", "--will-qos", "1")
		check(p.T, doomed.cmd.Process.Kill())
		watch.hears(p.topic("will") + " 0 gone")
	}},
	{"a large file", mosquittoBoth, func(p *troop) {
		large := strings.Repeat("x", 128<<10)
		file := filepath.Join(p.TempDir(), "large")
		check(p.T, os.WriteFile(file, []byte(large), 0o600))
		sub := p.start("-t", p.topic("t"))
		p.run("mosquitto_pub", "-t", p.topic("t"), "-f", file)
		sub.hears(p.topic("t") + " 0 " + large)
	}},
	{"on the HTTPS port by ALPN", mosquittoBoth, func(p *troop) {
		sub := p.start("-t", p.topic("t"), "-p", p.stage.site.get("IOT_ALPN_PORT"), "--tls-alpn", "x-amzn-mqtt-ca")
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "there")
		sub.hears(p.topic("t") + " 0 there")
	}},
	{"by address, which it sends as a server name", mosquittoBoth, func(p *troop) {
		sub := p.start("-t", p.topic("t"), "-h", "127.0.0.1")
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "there", "-h", "127.0.0.1")
		sub.hears(p.topic("t") + " 0 there")
	}},
	{"a subscription that is not allowed", mosquittoBoth, func(p *troop) {
		out, err := p.stage.site.try(p.T, ".", nil, "mosquitto_sub", p.args("-t", "forbidden/"+p.topic("t"), "-W", "120", "-E")...)
		if !strings.Contains(out, "denied") && !strings.Contains(out, "rejected") {
			p.Errorf("%v: %s", err, out)
		}
	}},
	{"shared subscription", mosquittoBoth, func(p *troop) {
		share := "$share/" + p.topic("group")[strings.LastIndex(p.topic("group"), "/")+1:] + "/" + p.topic("t")
		sub := p.start("-t", share)
		p.run("mosquitto_pub", "-t", p.topic("t"), "-m", "shared")
		sub.hears(p.topic("t") + " 0 shared")
	}},
	{"properties and a topic alias", []string{"mqttv5"}, func(p *troop) {
		sub := p.start("-t", p.topic("t"), "-F", "%t %C %D %R %P %p")
		file := filepath.Join(p.TempDir(), "lines")
		check(p.T, os.WriteFile(file, []byte("one\ntwo\n"), 0o600))
		p.run("sh", "-c", `lines=$1; shift; exec mosquitto_pub "$@" < "$lines"`, "-", file, "-t", p.topic("t"), "-l", "-D", "publish", "topic-alias", "3",
			"-D", "publish", "content-type", "text/plain", "-D", "publish", "correlation-data", "4711", "-D", "publish", "response-topic", p.topic("r"),
			"-D", "publish", "user-property", "colour", "red")
		for _, line := range []string{"one", "two"} {
			sub.hears(p.topic("t") + " text/plain 4711 " + p.topic("r") + " colour:red " + line)
		}
	}},
}

// fallSilent freezes a client in each version and has the end of the test wait for the wills, so that nothing is held up meanwhile.
// The time is 1.5 times the shortest keep-alive, whatever the client asked for (section 6.5).
func fallSilent(t *testing.T, s *stage) {
	for _, v := range mosquittoBoth {
		p := &troop{t, s, v, fmt.Sprintf("interop%d", s.plays.Add(1))}
		watch := p.start("-t", p.topic("will"), "-k", "30") // idle as long, but answers
		// From before it has said anything: how long it takes to be frozen is the machine's affair. The server counts seconds.
		early := time.AfterFunc(silence-time.Second, func() {})
		frozen := p.start("-t", p.topic("t"), "-k", "5", "--will-topic", p.topic("will"), "--will-payload", "silent", "--will-qos", "1")
		check(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
		t.Cleanup(func() {
			watch.hears(p.topic("will") + " 0 silent")
			if early.Stop() {
				t.Errorf("%s: the will came before %v", v, silence)
			}
		})
	}
}

const (
	fallsSilent = "a client that falls silent"
	silence     = 45 * time.Second // after which a client is given up
)

var mosquittoBoth = []string{"mqttv311", "mqttv5"}

// A troop is one scenario with mosquitto's commands in one version of MQTT.
type troop struct {
	*testing.T
	stage   *stage
	version string
	prefix  string
}

func (p *troop) topic(name string) string { return p.prefix + "/" + name }
func (p *troop) id(name string) string    { return p.prefix + "-" + name }

// args are the arguments of a client at QoS 1; of two that say the same the later counts.
func (p *troop) args(extra ...string) []string {
	s := p.stage.site
	return append([]string{"--cafile", s.get("AWS_CA_BUNDLE"), "--cert", p.stage.cert, "--key", p.stage.key, "-h", s.get("IOT_ENDPOINT"),
		"-p", s.get("IOT_PORT"), "-q", "1", "-V", p.version}, extra...)
}

func (p *troop) run(name string, extra ...string) string {
	p.Helper()
	args := p.args(extra...)
	if name == "sh" { // its own arguments come first: the script, its name, its file
		args = append(extra[:4:4], p.args(extra[4:]...)...)
	}
	return strings.TrimSpace(p.stage.site.run(p.T, ".", nil, name, args...))
}

// A listener is a running mosquitto_sub.
type listener struct {
	*testing.T
	cmd   *exec.Cmd
	lines chan string
}

// start returns when the subscription is granted, which mosquitto_sub would keep in its buffer by itself.
func (p *troop) start(extra ...string) *listener {
	p.Helper()
	l := &listener{p.T, exec.Command("stdbuf", append([]string{"-oL", "mosquitto_sub"}, p.args(append([]string{"-d", "-F", "%t %r %p"}, extra...)...)...)...), make(chan string, 100)}
	l.cmd.Env = p.stage.site.environ()
	out, err := l.cmd.StdoutPipe()
	check(p.T, err)
	check(p.T, l.cmd.Start())
	go func() {
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				close(l.lines)
				return
			}
			l.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	p.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		for range l.lines { // until the process ended
		}
		_ = l.cmd.Wait()
	})
	l.until("granted", func(line string) bool { return strings.HasPrefix(line, "Subscribed (mid: ") })
	return l
}

// hears waits for a message, skipping what -d says in between.
func (l *listener) hears(line string) {
	l.Helper()
	l.until(line, func(said string) bool { return said == line })
}

func (l *listener) until(what string, is func(string) bool) {
	l.Helper()
	late := time.After(silence + answerTimeout)
	var said []string
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				l.Fatalf("%v; it ended without %.100q; said: %.2000q", io.EOF, what, said)
			}
			if is(line) {
				return
			}
			said = append(said, line)
		case <-late:
			l.Fatalf("not %.100q: %.2000q", what, said)
		}
	}
}
