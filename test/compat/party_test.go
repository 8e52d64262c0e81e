package compat

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"testing"
)

// A party is a foreign MQTT client that a scenario of interop_test.go moves about like a puppet: the client library does all the
// talking, the party only says what to do. One party may connect again and again; what it hears meanwhile comes in its post.
type party interface {
	connect(join) (welcome, error)
	// subscribe returns the codes of the SUBACK, one per filter; those of a refusal come without an error.
	subscribe(...ask) ([]byte, error)
	unsubscribe(filter string) error
	// publish returns after the PUBACK, at QoS 0 after sending. The code is that of the PUBACK, where the library tells it.
	publish(letter) (code byte, err error)
	// disconnect says goodbye; in MQTT 5 a session expiry interval may go with it.
	disconnect(expiry *uint32) error
	// cut drops the connection without a word.
	cut() error
}

// join is a CONNECT. Numbers that are nil or 0 are not sent.
type join struct {
	ClientID      string  `json:"clientId"`
	Clean         bool    `json:"clean"`
	KeepAlive     uint16  `json:"keepAlive"`
	Will          *letter `json:"will,omitempty"`
	Hold          bool    `json:"hold,omitempty"` // never acknowledge what arrives
	Expiry        *uint32 `json:"expiry,omitempty"`
	ReceiveMax    uint16  `json:"receiveMax,omitempty"`
	MaxPacketSize uint32  `json:"maxPacketSize,omitempty"`

	Reconnect  bool   `json:"reconnect,omitempty"`  // as the library does by itself
	Host       string `json:"host,omitempty"`       // to connect to, if not by the site's name
	ServerName string `json:"serverName,omitempty"` // to ask for, if not the host
	ALPN       bool   `json:"alpn,omitempty"`       // on the HTTPS port with x-amzn-mqtt-ca
}

// welcome is what a CONNACK says; in 3.1.1 SessionPresent alone.
type welcome struct {
	SessionPresent bool    `json:"sessionPresent"`
	AssignedID     string  `json:"assignedId"`
	KeepAlive      uint16  `json:"keepAlive"`
	ReceiveMax     uint16  `json:"receiveMax"`
	MaxPacketSize  uint32  `json:"maxPacketSize"`
	AliasMax       uint16  `json:"aliasMax"`
	Expiry         *uint32 `json:"expiry"`
}

// ask is a filter of a SUBSCRIBE with its options.
type ask struct {
	Filter            string `json:"filter"`
	QoS               byte   `json:"qos"`
	NoLocal           bool   `json:"noLocal,omitempty"`
	RetainAsPublished bool   `json:"retainAsPublished,omitempty"`
	RetainHandling    byte   `json:"retainHandling,omitempty"`
	Identifier        int    `json:"identifier,omitempty"`
}

// letter is a PUBLISH, or a will. All below Retain is MQTT 5.
type letter struct {
	Topic       string      `json:"topic"`
	Payload     string      `json:"payload"`
	QoS         byte        `json:"qos"`
	Retain      bool        `json:"retain,omitempty"`
	Alias       uint16      `json:"alias,omitempty"`
	Expiry      *uint32     `json:"expiry,omitempty"`
	Format      *byte       `json:"format,omitempty"`
	ContentType string      `json:"contentType,omitempty"`
	Response    string      `json:"response,omitempty"`
	Correlation string      `json:"correlation,omitempty"`
	User        [][2]string `json:"user,omitempty"`
}

// post is where a party's client leaves what it hears.
type post struct {
	mail chan letter
	lost chan byte // the connection ended: the code of the server's DISCONNECT, 0 where there was none
}

func newPost() post { return post{make(chan letter, 1000), make(chan byte, 100)} }

// A troupe is a process in another language that plays many parties. It reads requests and writes replies and events, each a line
// of JSON; python/party.py and node/party.mjs are the two there are.
type troupe struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
	members map[string]post
	gone    error // the process ended
}

type request struct {
	ID     int    `json:"id"`
	Party  string `json:"party"`
	Do     string `json:"do"`
	V      byte   `json:"v"`
	Join   *join  `json:"join,omitempty"`
	Ask    []ask  `json:"ask,omitempty"`
	Filter string `json:"filter,omitempty"`
	Letter any    `json:"letter,omitempty"`
	Expiry any    `json:"expiry,omitempty"`
}

// reply answers a request (ID), or tells of an event of a party.
type reply struct {
	ID      int      `json:"id"`
	Error   string   `json:"error"`
	Welcome *welcome `json:"welcome"`
	Codes   []int    `json:"codes"`
	Code    byte     `json:"code"`

	Party string  `json:"party"`
	Mail  *letter `json:"mail"`
	Lost  bool    `json:"lost"`
}

// hire starts a troupe for the rest of the test. Its connections go to the site with the certificate and key of the files.
func hire(t *testing.T, s *site, dir string, env []string, name string, args ...string) *troupe {
	t.Helper()
	tr := &troupe{cmd: exec.Command(name, args...), waiting: map[int]chan reply{}, members: map[string]post{}}
	tr.cmd.Dir, tr.cmd.Env = dir, s.environ(env...)
	said := &tailWriter{}
	tr.cmd.Stderr = said
	out, err := tr.cmd.StdoutPipe()
	check(t, err)
	tr.in, err = tr.cmd.StdinPipe()
	check(t, err)
	check(t, tr.cmd.Start())
	over := make(chan struct{})
	go func() {
		defer close(over)
		tr.listen(out)
	}()
	t.Cleanup(func() {
		tr.in.Close() // it ends with its input
		<-over
		_ = tr.cmd.Wait()
		if t.Failed() && said.String() != "" {
			t.Logf("%s said:\n%s", args[len(args)-1], said)
		}
	})
	return tr
}

func (tr *troupe) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue // a library that prints
		}
		tr.mu.Lock()
		answer, p := tr.waiting[r.ID], tr.members[r.Party]
		delete(tr.waiting, r.ID)
		tr.mu.Unlock()
		switch {
		case answer != nil:
			answer <- r
		case r.Mail != nil:
			p.mail <- *r.Mail
		case r.Lost:
			p.lost <- r.Code
		}
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.gone = errors.New("the client's process ended")
	for _, w := range tr.waiting {
		w <- reply{Error: tr.gone.Error()}
	}
}

func (tr *troupe) do(r request) (reply, error) {
	tr.mu.Lock()
	if tr.gone != nil {
		defer tr.mu.Unlock()
		return reply{}, tr.gone
	}
	tr.last++
	r.ID = tr.last
	answer := make(chan reply, 1)
	tr.waiting[r.ID] = answer
	line, err := json.Marshal(r)
	if err == nil {
		_, err = tr.in.Write(append(line, '\n'))
	}
	tr.mu.Unlock()
	if err != nil {
		return reply{}, err
	}
	said := <-answer // each process gives up by itself after answerTimeout
	if said.Error != "" {
		return said, errors.New(said.Error)
	}
	return said, nil
}

// remote is a party of a troupe.
type remote struct {
	tr   *troupe
	name string
	v    byte
}

func (tr *troupe) party(name string, v byte, p post) party {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.members[name] = p
	return &remote{tr, name, v}
}

func (r *remote) do(q request) (reply, error) {
	q.Party, q.V = r.name, r.v
	out, err := r.tr.do(q)
	if err != nil {
		err = fmt.Errorf("%s: %w", q.Do, err)
	}
	return out, err
}

func (r *remote) connect(j join) (welcome, error) {
	out, err := r.do(request{Do: "connect", Join: &j})
	if err != nil {
		return welcome{}, err
	}
	return *out.Welcome, nil
}

func (r *remote) subscribe(asks ...ask) ([]byte, error) {
	out, err := r.do(request{Do: "subscribe", Ask: asks})
	var codes []byte
	for _, c := range out.Codes {
		codes = append(codes, byte(c))
	}
	return codes, err
}

func (r *remote) unsubscribe(filter string) error {
	_, err := r.do(request{Do: "unsubscribe", Filter: filter})
	return err
}

func (r *remote) publish(l letter) (byte, error) {
	out, err := r.do(request{Do: "publish", Letter: l})
	return out.Code, err
}

func (r *remote) disconnect(expiry *uint32) error {
	q := request{Do: "disconnect"}
	if expiry != nil {
		q.Expiry = *expiry
	}
	_, err := r.do(q)
	return err
}

func (r *remote) cut() error {
	_, err := r.do(request{Do: "cut"})
	return err
}

// tailWriter keeps the end of what a process says.
type tailWriter struct {
	mu   sync.Mutex
	said []byte
}

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = tail(append(w.said, b...))
	return len(b), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.said)
}
