package userpool

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
)

// A Message carries a code or a temporary password to a user.
type Message struct {
	Scope            fleet.Scope
	PoolID, PoolName string
	Username, Sub    string
	Reason           string // invitation, sign-up, recovery, verification
	Medium           string // EMAIL or SMS
	Destination      string // address or number; empty if the user has none
	Subject          string
	Body             fleet.Secret // the whole text, with Code in it
	Code             fleet.Secret
	At               time.Time
}

// A Delivery brings messages to people. Send returns when the message is on its way for good, or an error that says why not; it
// may be called concurrently. Messages are sent after what they announce is durable.
type Delivery interface {
	Send(ctx context.Context, m Message) error
}

// An Outbox is the Delivery of an installation without mail: one JSON file per message in a folder that only its owner can read.
type Outbox struct{ dir string }

var _ Delivery = (*Outbox)(nil)

// NewOutbox makes the folder if needed and sees to its permissions (0700; files are 0600).
func NewOutbox(dir string) (*Outbox, error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("making the outbox: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("protecting the outbox: %w", err)
	}
	return &Outbox{dir}, nil
}

// Send writes the message, durably, to a file whose name begins with the time, so that a listing shows the messages in order.
func (o *Outbox) Send(_ context.Context, m Message) error {
	text, err := json.MarshalIndent(struct {
		Time, Account, Region, UserPool, Username, Sub, Reason, Medium, To, Subject, Body, Code string
	}{m.At.Format(time.RFC3339Nano), m.Scope.Account, m.Scope.Region, m.PoolID, m.Username, m.Sub, m.Reason, m.Medium, m.Destination,
		m.Subject, m.Body.Reveal(), m.Code.Reveal()}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing to the outbox: %w", err)
	}
	name := m.At.UTC().Format("20060102T150405.000000000Z") + "-" + m.Reason + "-" + fleet.RandomString(6, fleet.AlphaLowerDigit)
	// Whole at once: whoever watches the folder never reads half a message.
	if err := durable.WriteFile(filepath.Join(o.dir, name+".json"), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing to the outbox: %w", err)
	}
	return nil
}

// CodeDelivery tells a user where a code went, without giving the address away.
type CodeDelivery struct{ Destination, Medium, Attribute string }

func deliveryTo(attribute, value string) CodeDelivery {
	if attribute == "phone_number" {
		return CodeDelivery{maskPhone(value), "SMS", attribute}
	}
	return CodeDelivery{maskEmail(value), "EMAIL", attribute}
}

// maskEmail shows the first characters of both halves: i***@e***.
func maskEmail(s string) string {
	user, host, _ := strings.Cut(s, "@")
	return first(user) + "***@" + first(host) + "***"
}

func first(s string) string {
	for _, r := range s {
		return string(r)
	}
	return ""
}

// maskPhone shows the last four digits: +*******1234.
func maskPhone(s string) string {
	if len(s) <= 5 {
		return "+***"
	}
	return "+" + strings.Repeat("*", len(s)-5) + s[len(s)-4:]
}

// message words what is sent to a user. attribute is email or phone_number, value its content.
func (p *Pool) message(u *store.PoolUser, reason, attribute, value string, code fleet.Secret, at time.Time) Message {
	m := Message{Scope: p.Scope, PoolID: p.ID, PoolName: p.Name, Username: u.Username, Sub: u.Sub, Reason: reason, Medium: "EMAIL",
		Destination: value, Code: code, At: at}
	var body string
	switch reason {
	case "invitation":
		m.Subject = or(p.Invitation.Subject, "Your temporary password")
		body = or(p.Invitation.Email, "Your username is {username} and temporary password is {####}")
		if attribute == "phone_number" {
			body = or(p.Invitation.SMS, "Your username is {username} and temporary password is {####}")
		}
	default:
		subject, text := "Your verification code", "Your confirmation code is {####}"
		if reason == "recovery" {
			subject, text = "Your password reset code", "Your password reset code is {####}"
		}
		m.Subject = or(p.Verification.Subject, p.EmailVerificationSubject, subject)
		body = or(p.Verification.Email, p.EmailVerificationMessage, text)
		if attribute == "phone_number" {
			body = or(p.Verification.SMS, p.SMSVerificationMessage, text)
		}
	}
	if attribute == "phone_number" {
		m.Medium, m.Subject = "SMS", ""
	}
	name := u.Username
	if len(p.UsernameAttributes) > 0 && value != "" { // people of such a pool know themselves by their address
		name = value
	}
	m.Body = fleet.Secret(strings.NewReplacer("{username}", name, "{####}", code.Reveal()).Replace(body))
	return m
}

// or returns the first text that is not empty.
func or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// deliver sends a message and answers with the protocol's error if that fails; the cause is logged, never shown.
func (s *Service) deliver(ctx context.Context, m Message) error {
	if err := s.cfg.Delivery.Send(ctx, m); err != nil {
		s.log.ErrorContext(ctx, "a message could not be delivered", "pool", m.PoolID, "user", m.Sub, "reason", m.Reason, "medium", m.Medium, "error", err)
		return fail(fleet.KindUnavailable, "CodeDeliveryFailureException",
			"The message could not be delivered. What it announced is stored: ask for it again once delivery works.")
	}
	return nil
}

// deliverQuietly sends without letting the caller see how long it took or whether it worked, where that would tell whether a
// user exists. With 64 messages on their way it sends at once, so that a flood cannot pile up.
func (s *Service) deliverQuietly(ctx context.Context, m Message) {
	ctx = context.WithoutCancel(ctx)
	select {
	case s.inFlight <- struct{}{}:
		s.background.Go(func() {
			defer func() { <-s.inFlight }()
			_ = s.deliver(ctx, m) // logged there
		})
	default:
		_ = s.deliver(ctx, m)
	}
}
