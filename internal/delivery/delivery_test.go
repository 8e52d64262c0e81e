package delivery

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery/deliverytest"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
)

var scope = fleet.Scope{Account: "000000000000", Region: "us-east-1"}

func message(to string) Message {
	return Message{ID: "1f", Scope: scope, PoolID: "us-east-1_A", PoolName: "installers", Username: "ada", Sub: "s", Reason: "sign-up", Medium: "EMAIL",
		Destination: to, Subject: "Your verification code", Body: "Your confirmation code is 123456", Code: "123456", At: time.Unix(1_800_000_000, 0)}
}

// mailer is an SMTP to a test server.
func mailer(t *testing.T, s *deliverytest.Server, change func(*SMTPConfig)) *SMTP {
	t.Helper()
	c := SMTPConfig{Server: s.Addr, From: "Imprint <imprint@factory.example>", Roots: s.Roots, Name: "10.0.0.1", Dial: (&net.Dialer{}).DialContext}
	if change != nil {
		change(&c)
	}
	m, err := NewSMTP(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMailIsSentEncrypted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server deliverytest.Config
		tls    string
	}{
		"STARTTLS":       {deliverytest.Config{User: "u", Password: "secret-word"}, ""},
		"implicit TLS":   {deliverytest.Config{Implicit: true, User: "u", Password: "secret-word"}, ImplicitTLS},
		"LOGIN":          {deliverytest.Config{User: "u", Password: "secret-word", Mechanisms: []string{"LOGIN"}}, StartTLS},
		"no user, plain": {deliverytest.Config{Plain: true}, NoTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := deliverytest.Start(t, c.server)
			m := message("ada@example.com")
			m.Subject, m.Body, m.ReplyTo = "Grüße\r\nBcc: eve@example.com", "Schlüssel 123456\n.\nend", "help@factory.example"
			smtp := mailer(t, s, func(cfg *SMTPConfig) {
				cfg.TLS, cfg.User, cfg.Password = c.tls, c.server.User, fleet.Secret(c.server.Password)
			})
			if err := smtp.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			got := <-s.Mails
			if got.Secure == c.server.Plain || got.User != c.server.User || got.From != "imprint@factory.example" || got.To != "ada@example.com" {
				t.Errorf("the envelope is %+v", got)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
			body, bodyErr := io.ReadAll(quotedprintable.NewReader(strings.NewReader(got.Body)))
			if subject != "Grüße Bcc: eve@example.com" || err != nil || got.Header.Get("Bcc") != "" {
				t.Errorf("subject %q, %v, Bcc %q", subject, err, got.Header.Get("Bcc"))
			}
			if strings.TrimSpace(strings.ReplaceAll(string(body), "\r\n", "\n")) != m.Body.Reveal() || bodyErr != nil {
				t.Errorf("body %q, %v", body, bodyErr)
			}
			for name, want := range map[string]string{"To": "<ada@example.com>", "From": `"Imprint" <imprint@factory.example>`, "Reply-To": "<help@factory.example>",
				"Message-Id": "<1f@factory.example>", "Date": "Fri, 15 Jan 2027 08:00:00 +0000", "Content-Type": "text/plain; charset=utf-8"} {
				if v := got.Header.Get(name); v != want {
					t.Errorf("%s: %q, want %q", name, v, want)
				}
			}
		})
	}
}

func TestMailToWhatIsNoSingleAddressIsRefused(t *testing.T) {
	t.Parallel()
	s := deliverytest.Start(t, deliverytest.Config{})
	smtp := mailer(t, s, nil)
	for _, to := range []string{"ada", "ada@example.com, eve@example.com", "ada@example.com\r\nBcc: eve@example.com", "ada@example.com>\r\nRCPT TO:<eve@example.com",
		"Ada <ada@example.com>", "ada@example.com ", "\"a\r\nb\"@example.com"} {
		if err := smtp.Send(t.Context(), message(to)); !Hopeless(err) {
			t.Errorf("%q: %v", to, err)
		}
	}
	if len(s.Mails) != 0 {
		t.Errorf("%d mails were sent", len(s.Mails))
	}
}

func TestMailServersThatDoNotTakeIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server   deliverytest.Config
		change   func(*SMTPConfig)
		hopeless bool
		want     string
	}{
		"recipient refused for good":  {deliverytest.Config{Refuse: func(to string) string { return "550 no " + to }}, nil, true, "refuses the recipient with code 550"},
		"recipient refused for now":   {deliverytest.Config{Refuse: func(string) string { return "451 busy" }}, nil, false, "451"},
		"wrong password":              {deliverytest.Config{User: "u", Password: "right-word"}, func(c *SMTPConfig) { c.User, c.Password = "u", "wrong-word" }, false, "code 535"},
		"no STARTTLS":                 {deliverytest.Config{Plain: true}, nil, false, "offers no STARTTLS"},
		"another certificate":         {deliverytest.Config{}, func(c *SMTPConfig) { c.Roots = nil }, false, "certificate"},
		"no mechanism that both know": {deliverytest.Config{User: "u", Password: "right-word", Mechanisms: []string{"XOAUTH2"}}, func(c *SMTPConfig) { c.User, c.Password = "u", "right-word" }, false, "no way to authenticate"},
	} {
		s := deliverytest.Start(t, c.server)
		err := mailer(t, s, c.change).Send(t.Context(), message("ada@example.com"))
		if err == nil || Hopeless(err) != c.hopeless || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "ada@") || strings.Contains(err.Error(), "-word") {
			t.Errorf("%s: %v (hopeless: %t)", name, err, Hopeless(err))
		}
	}
	silent := mailer(t, deliverytest.Start(t, deliverytest.Config{Silent: true}), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := silent.Send(ctx, message("ada@example.com")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
	dial, err := egress.Dialer(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	held := mailer(t, deliverytest.Start(t, deliverytest.Config{}), func(c *SMTPConfig) { c.Dial = dial })
	if err := held.Send(t.Context(), message("ada@example.com")); !errors.Is(err, egress.ErrRefused) {
		t.Errorf("a server on loopback that is not listed: %v", err)
	}
}

func TestSettingsOfMailAreChecked(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]SMTPConfig{
		"is no server":    {Server: "", From: "a@b.c"},
		"is no address":   {Server: "mail.lan", From: "factory"},
		"smtp-tls":        {Server: "mail.lan", From: "a@b.c", TLS: "ssl"},
		"belong together": {Server: "mail.lan", From: "a@b.c", User: "u"},
		"would show":      {Server: "mail.lan", From: "a@b.c", User: "u", Password: "p", TLS: NoTLS},
	} {
		if _, err := NewSMTP(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for tls, want := range map[string]string{"": "mail.lan:587", ImplicitTLS: "mail.lan:465", NoTLS: "mail.lan:25"} {
		if s, err := NewSMTP(SMTPConfig{Server: "mail.lan", From: "a@b.c", TLS: tls}); err != nil || s.Server != want {
			t.Errorf("%q: %v, %v", tls, s, err)
		}
	}
}

// receiver is a webhook that answers with a status.
func receiver(t *testing.T, status int, seen func(r *http.Request, body []byte)) *Webhook {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if seen != nil {
			seen(r, body)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	client, err := egress.New(egress.Config{Allow: []string{s.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := NewWebhook(s.URL+"/m?key=hidden", "sixteen characters", client, func() time.Time { return time.Unix(1_800_000_000, 0) })
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestAWebhookGetsSignedMessages(t *testing.T) {
	t.Parallel()
	var got map[string]any
	h := receiver(t, http.StatusAccepted, func(r *http.Request, body []byte) {
		mac := hmac.New(sha256.New, []byte("sixteen characters"))
		fmt.Fprintf(mac, "1800000000.%s", body)
		if r.Header.Get("Imprint-Timestamp") != "1800000000" || r.Header.Get("Imprint-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("headers %v", r.Header)
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
	})
	m := message("+15550100")
	m.Medium, m.Subject = "SMS", ""
	if err := h.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"id": "1f", "pool": "us-east-1_A", "user": "ada", "medium": "SMS", "destination": "+15550100", "code": "123456",
		"reason": "sign-up", "body": "Your confirmation code is 123456", "account": "000000000000", "time": "2027-01-15T08:00:00Z"} {
		if got[name] != want {
			t.Errorf("%s is %v, want %q", name, got[name], want)
		}
	}
	for status, hopeless := range map[int]bool{400: true, 404: true, 408: false, 429: false, 500: false, 302: false} {
		if err := receiver(t, status, nil).Send(t.Context(), m); err == nil || Hopeless(err) != hopeless || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%d: %v", status, err)
		}
	}
	for _, bad := range []string{"", "ftp://a.b", "https://user@a.b", "https://a.b/#x", "messages.lan"} {
		if _, err := NewWebhook(bad, "sixteen characters", http.DefaultClient, nil); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if _, err := NewWebhook("https://a.b", "short", http.DefaultClient, nil); err == nil {
		t.Error("a short secret was taken")
	}
}

func TestTheOutboxIsReadByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "outbox")
	box, err := NewOutbox(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := message("ada@example.com")
	m.At = time.Unix(0, 0)
	if err := box.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	name := only(t, dir)
	if !strings.HasPrefix(name, "19700101T000000.000000000Z-sign-up-") || !strings.HasSuffix(name, ".json") {
		t.Errorf("file %s", name)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, name): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	var got map[string]string
	if err := errors.Join(err, json.Unmarshal(text, &got)); err != nil {
		t.Fatal(err)
	}
	if got["Code"] != "123456" || got["To"] != "ada@example.com" || got["Account"] != scope.Account || got["Body"] != m.Body.Reveal() {
		t.Errorf("message %v", got)
	}
}

// only is the name of the one file in a folder.
func only(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("files %v, %v", entries, err)
	}
	return entries[0].Name()
}

func TestEachMessageHasItsWay(t *testing.T) {
	t.Parallel()
	const toOutbox, byMail, toWebhook, nowhere = "outbox", "mail", "webhook", "nowhere"
	for _, c := range []struct {
		smtp, webhook bool
		medium, to    string
		want          string
	}{
		{false, false, "EMAIL", "ada@example.com", toOutbox},
		{false, false, "SMS", "+15550100", toOutbox},
		{true, false, "EMAIL", "ada@example.com", byMail},
		{true, false, "SMS", "+15550100", nowhere},
		{true, false, "EMAIL", "", toOutbox}, // for the administrator
		{false, true, "EMAIL", "ada@example.com", toWebhook},
		{true, true, "EMAIL", "ada@example.com", byMail},
		{true, true, "SMS", "+15550100", toWebhook},
	} {
		dir := t.TempDir()
		box, err := NewOutbox(dir)
		if err != nil {
			t.Fatal(err)
		}
		server := deliverytest.Start(t, deliverytest.Config{})
		var hooked bytes.Buffer
		cfg := Config{Outbox: box}
		if c.smtp {
			cfg.SMTP = mailer(t, server, nil)
		}
		if c.webhook {
			cfg.Webhook = receiver(t, http.StatusOK, func(_ *http.Request, body []byte) { hooked.Write(body) })
		}
		m := message(c.to)
		m.Medium = c.medium
		err = New(cfg).Send(t.Context(), m)
		got := nowhere
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			got = toOutbox
		}
		if len(server.Mails) > 0 {
			got = byMail
		}
		if hooked.Len() > 0 {
			got = toWebhook
		}
		if got != c.want || (err != nil) != (c.want == nowhere) {
			t.Errorf("%+v: it went %s, %v", c, got, err)
		}
	}
}
