package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// Ways in which a connection to a mail server is encrypted.
const (
	StartTLS    = "starttls" // asked for on the plain connection, and insisted on (RFC 3207)
	ImplicitTLS = "implicit" // from the first byte (RFC 8314)
	NoTLS       = "none"     // never, and no password then
)

// Dial makes a connection, as net.Dialer's DialContext does.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// SMTPConfig says how mail leaves.
type SMTPConfig struct {
	Server   string // host or host:port; without one 587, or 465 with ImplicitTLS, or 25 with NoTLS
	TLS      string // StartTLS (or empty), ImplicitTLS, NoTLS
	User     string // empty: without authentication
	Password fleet.Secret
	Name     string         // that we greet the server with; empty: localhost
	From     string         // an address, with or without a name: Imprint <imprint@factory.example>
	Roots    *x509.CertPool // nil: those of the system
	Dial     Dial
}

// An SMTP sends mail over a connection of its own for each message (RFC 5321).
type SMTP struct {
	SMTPConfig
	host string
	from *mail.Address
}

var _ Sender = (*SMTP)(nil)

// NewSMTP checks c.
func NewSMTP(c SMTPConfig) (*SMTP, error) {
	s := &SMTP{SMTPConfig: c}
	if s.TLS == "" {
		s.TLS = StartTLS
	}
	if s.Name == "" {
		s.Name = "localhost"
	}
	if ip, err := netip.ParseAddr(s.Name); err == nil { // RFC 5321 section 4.1.3
		if s.Name = "[" + ip.String() + "]"; ip.Is6() {
			s.Name = "[IPv6:" + ip.String() + "]"
		}
	}
	port := map[string]string{StartTLS: "587", ImplicitTLS: "465", NoTLS: "25"}[s.TLS]
	if port == "" {
		return nil, fmt.Errorf("smtp-tls %q: give %s, %s or %s", c.TLS, StartTLS, ImplicitTLS, NoTLS)
	}
	var err error
	if s.host, _, err = net.SplitHostPort(s.Server); err != nil {
		s.host = strings.Trim(s.Server, "[]")
		s.Server = net.JoinHostPort(s.host, port)
	}
	if s.host == "" || strings.ContainsAny(s.host, "/@ \r\n") {
		return nil, fmt.Errorf("smtp %q is no server: give a host with or without a port, for example mail.lan:587", c.Server)
	}
	if s.from, err = mail.ParseAddress(c.From); err != nil {
		return nil, fmt.Errorf("mail-from %q is no address: give one like imprint@factory.example", c.From)
	}
	switch {
	case (c.User == "") != (c.Password == ""):
		return nil, errors.New("smtp-user and smtp-password-file belong together: give both or neither")
	case c.User != "" && s.TLS == NoTLS:
		return nil, errors.New("smtp-tls none would show the password to the network: leave smtp-user out, or use starttls")
	}
	return s, nil
}

// Send implements Sender. A server that refuses the recipient or the message for good makes it hopeless; all else may mend.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	to, err := recipient(m.Destination)
	if err != nil {
		return err
	}
	text, err := s.compose(m, to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	conn, err := s.Dial(ctx, "tcp", s.Server)
	if err != nil {
		return fmt.Errorf("connecting to the mail server %s: %w", s.Server, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := s.converse(conn, to, text); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(ctx.Err(), err)
		}
		return fmt.Errorf("mail server %s: %w", s.Server, err)
	}
	return nil
}

func (s *SMTP) converse(conn net.Conn, to string, text []byte) error {
	secure := &tls.Config{ServerName: s.host, RootCAs: s.Roots, MinVersion: tls.VersionTLS12}
	if s.TLS == ImplicitTLS {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return err
	}
	if err := c.Hello(s.Name); err != nil {
		return err
	}
	if s.TLS == StartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return errors.New("it offers no STARTTLS: use smtp-tls implicit, or none on a network that nobody else is on")
		}
		if err := c.StartTLS(secure); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	}
	if s.User != "" {
		if err := s.authenticate(c); err != nil {
			return err
		}
	}
	if err := c.Mail(s.from.Address); err != nil {
		return fmt.Errorf("it refuses the sender %s: %w", s.from.Address, err)
	}
	if err := c.Rcpt(to); err != nil {
		return forGood(err, "it refuses the recipient")
	}
	w, err := c.Data()
	if err != nil {
		return forGood(err, "it refuses the message")
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // from here on the message is the server's
		return forGood(err, "it refuses the message")
	}
	_ = c.Quit() // whatever it says to this
	return nil
}

// forGood makes an error hopeless if the server says that it is (RFC 5321 section 4.2.1: 5yz). Its text may quote the address.
func forGood(err error, what string) error {
	var reply *textproto.Error
	if errors.As(err, &reply) && reply.Code >= 500 {
		return never("%s with code %d", what, reply.Code)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// authenticate uses the first mechanism that both sides know.
func (s *SMTP) authenticate(c *smtp.Client) error {
	_, offered := c.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	var auth smtp.Auth
	switch {
	case slices.Contains(mechanisms, "PLAIN"):
		auth = smtp.PlainAuth("", s.User, s.Password.Reveal(), s.host)
	case slices.Contains(mechanisms, "LOGIN"):
		auth = &login{s.User, s.Password}
	case slices.Contains(mechanisms, "CRAM-MD5"):
		auth = smtp.CRAMMD5Auth(s.User, s.Password.Reveal())
	default:
		return fmt.Errorf("it offers no way to authenticate that is known here (PLAIN, LOGIN, CRAM-MD5), but %q", offered)
	}
	if err := c.Auth(auth); err != nil {
		var reply *textproto.Error
		if errors.As(err, &reply) { // the text of a refusal may quote what was sent
			return fmt.Errorf("it refuses user and password with code %d", reply.Code)
		}
		return fmt.Errorf("authentication: %w", err)
	}
	return nil
}

// login is the mechanism LOGIN, which some servers offer alone. It is used over TLS only: NewSMTP sees to that.
type login struct {
	user     string
	password fleet.Secret
}

// Start implements smtp.Auth.
func (*login) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, errors.New("the connection is not encrypted")
	}
	return "LOGIN", nil, nil
}

// Next implements smtp.Auth.
func (l *login) Next(asked []byte, more bool) ([]byte, error) {
	switch strings.ToLower(strings.TrimSuffix(string(asked), ":")) {
	case "username":
		return []byte(l.user), nil
	case "password":
		return []byte(l.password.Reveal()), nil
	}
	if !more {
		return nil, nil
	}
	return nil, errors.New("it asks for something else than user name and password")
}

// recipient takes one bare address and nothing else: no name, no list, no line break that would begin another header or command.
func recipient(address string) (string, error) {
	a, err := mail.ParseAddress(address)
	if err != nil || a.Address != address || strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", never("the address is not one that mail can be sent to")
	}
	return address, nil
}

// compose writes the mail (RFC 5322).
func (s *SMTP) compose(m Message, to string) ([]byte, error) {
	_, domain, _ := strings.Cut(s.from.Address, "@")
	kind := "text/plain"
	if m.HTML {
		kind = "text/html"
	}
	header := [][2]string{
		{"From", s.from.String()},
		{"To", (&mail.Address{Address: to}).String()},
		{"Subject", mime.QEncoding.Encode("utf-8", oneLine(m.Subject))},
		{"Date", m.At.UTC().Format(time.RFC1123Z)},
		{"Message-ID", "<" + m.ID + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834: no out-of-office answers
		{"MIME-Version", "1.0"},
		{"Content-Type", kind + "; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	}
	if a, err := mail.ParseAddress(m.ReplyTo); err == nil {
		header = append(header, [2]string{"Reply-To", a.String()})
	}
	var b bytes.Buffer
	for _, h := range header {
		if strings.ContainsAny(h[1], "\r\n") {
			return nil, never("the header %s has a line break", h[0])
		}
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, err := w.Write([]byte(m.Body.Reveal()))
	err = errors.Join(err, w.Close()) // it holds the last line back until then
	return b.Bytes(), err
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
