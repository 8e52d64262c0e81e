// Package deliverytest is the other side of package delivery for tests: a mail server that speaks SMTP over TLS and keeps what it is
// given. Begin with Start.
package deliverytest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Config says how the server behaves. The zero value offers STARTTLS and wants no user.
type Config struct {
	Implicit   bool     // TLS from the first byte
	Plain      bool     // no TLS at all
	User       string   // empty: without authentication
	Password   string   // of User
	Mechanisms []string // for User; nil: PLAIN
	// Refuse, if set, gives the answer to a recipient, for example "550 unknown"; empty: it is taken.
	Refuse func(recipient string) string
	Silent bool // it accepts connections and says nothing
}

// A Mail is what was taken.
type Mail struct {
	From, To string // of the envelope
	Secure   bool
	User     string // who authenticated
	Header   mail.Header
	Body     string // as it was sent, not decoded
}

// A Server is a mail server on a port of loopback.
type Server struct {
	Addr  string
	Roots *x509.CertPool
	PEM   []byte    // of its root
	Mails chan Mail // what it took, in order

	cfg Config
	tls *tls.Config
	l   net.Listener
	wg  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// Start starts a server that ends with the test.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), Mails: make(chan Mail, 1000), cfg: cfg, l: l, conns: map[net.Conn]bool{}}
	if err := s.certify(); err != nil {
		t.Fatal(err)
	}
	s.wg.Go(s.serve)
	t.Cleanup(s.close)
	return s
}

func (s *Server) close() {
	s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return err
	}
	s.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.Roots = x509.NewCertPool()
	s.Roots.AppendCertsFromPEM(s.PEM)
	s.tls = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return nil
}

func (s *Server) serve() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer c.Close()
			if s.cfg.Silent {
				_, _ = io.Copy(io.Discard, c)
				return
			}
			_ = s.talk(c)
		})
	}
}

// talk is one conversation.
func (s *Server) talk(c net.Conn) error {
	m := Mail{Secure: s.cfg.Implicit}
	if s.cfg.Implicit {
		c = tls.Server(c, s.tls)
	}
	text := textproto.NewConn(c)
	say := func(format string, args ...any) error { return text.PrintfLine(format, args...) }
	if err := say("220 mail ready"); err != nil {
		return err
	}
	for {
		line, err := text.ReadLine()
		if err != nil {
			return err
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			err = s.greet(text, m)
		case "STARTTLS":
			if err := say("220 go on"); err != nil {
				return err
			}
			c, m.Secure = tls.Server(c, s.tls), true
			text = textproto.NewConn(c)
			continue
		case "AUTH":
			if m.User, err = s.authenticate(text, rest); err != nil {
				err = say("535 5.7.8 wrong: %s", rest)
			} else {
				err = say("235 welcome")
			}
		case "MAIL":
			if s.cfg.User != "" && m.User == "" {
				err = say("530 authenticate first")
				break
			}
			m.From = between(rest)
			err = say("250 fine")
		case "RCPT":
			m.To = between(rest)
			if answer := s.refusal(m.To); answer != "" {
				err = say("%s", answer)
				break
			}
			err = say("250 fine")
		case "DATA":
			if err := say("354 send it"); err != nil {
				return err
			}
			read, parseErr := mail.ReadMessage(bufio.NewReader(text.DotReader()))
			if parseErr != nil {
				err = say("554 unreadable: %v", parseErr)
				break
			}
			body, readErr := io.ReadAll(read.Body)
			if readErr != nil {
				return readErr
			}
			m.Header, m.Body = read.Header, string(body)
			s.Mails <- m
			err = say("250 taken")
		case "QUIT":
			return say("221 bye")
		default:
			err = say("500 what is %s", verb)
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) refusal(to string) string {
	if s.cfg.Refuse == nil {
		return ""
	}
	return s.cfg.Refuse(to)
}

func (s *Server) greet(text *textproto.Conn, m Mail) error {
	lines := []string{"mail"}
	if !s.cfg.Plain && !m.Secure {
		lines = append(lines, "STARTTLS")
	}
	if s.cfg.User != "" {
		mechanisms := s.cfg.Mechanisms
		if mechanisms == nil {
			mechanisms = []string{"PLAIN"}
		}
		lines = append(lines, "AUTH "+strings.Join(mechanisms, " "))
	}
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		if err := text.PrintfLine("250%s%s", sep, l); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) authenticate(text *textproto.Conn, rest string) (user string, err error) {
	mechanism, initial, _ := strings.Cut(rest, " ")
	ask := func(prompt string) (string, error) {
		if err := text.PrintfLine("334 %s", base64.StdEncoding.EncodeToString([]byte(prompt))); err != nil {
			return "", err
		}
		line, err := text.ReadLine()
		if err != nil {
			return "", err
		}
		b, err := base64.StdEncoding.DecodeString(line)
		return string(b), err
	}
	var password string
	switch mechanism {
	case "PLAIN":
		b, err := base64.StdEncoding.DecodeString(initial)
		if err != nil {
			return "", err
		}
		parts := strings.Split(string(b), "\x00")
		if len(parts) != 3 {
			return "", fmt.Errorf("%d parts", len(parts))
		}
		user, password = parts[1], parts[2]
	case "LOGIN":
		if user, err = ask("Username:"); err != nil {
			return "", err
		}
		if password, err = ask("Password:"); err != nil {
			return "", err
		}
	}
	if mechanisms := s.cfg.Mechanisms; mechanisms != nil && !slices.Contains(mechanisms, mechanism) || user != s.cfg.User || password != s.cfg.Password {
		return "", fmt.Errorf("wrong")
	}
	return user, nil
}

// between is what stands in angle brackets.
func between(s string) string {
	_, s, _ = strings.Cut(s, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}
