package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/delivery"
	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// delivery is the way of messages to people.
func (s *Server) delivery() (delivery.Sender, error) {
	box, err := delivery.NewOutbox(s.cfg.OutboxDir)
	if err != nil {
		return nil, err
	}
	c := delivery.Config{Outbox: box}
	if c.SMTP, err = s.smtp(); err != nil {
		return nil, err
	}
	if c.Webhook, err = s.deliveryWebhook(); err != nil {
		return nil, err
	}
	return delivery.New(c), nil
}

// smtp is nil without a mail server.
func (s *Server) smtp() (*delivery.SMTP, error) {
	d := s.cfg.Delivery
	if d.SMTP == "" {
		if d.MailFrom != "" || d.SMTPUser != "" || d.SMTPPasswordFile != "" {
			return nil, errors.New("mail-from, smtp-user and smtp-password-file are for a mail server: name it with smtp")
		}
		return nil, nil
	}
	password, err := secretFile("smtp-password-file", d.SMTPPasswordFile)
	if err != nil {
		return nil, err
	}
	c := delivery.SMTPConfig{Server: d.SMTP, TLS: d.SMTPTLS, User: d.SMTPUser, Password: password, Name: s.site.Host, From: d.MailFrom}
	out, err := delivery.NewSMTP(c)
	if err != nil {
		return nil, err
	}
	calls, err := s.cfg.egressConfig(out.Server)
	if err != nil {
		return nil, err
	}
	out.Roots = calls.Roots
	out.Dial, err = egress.Dialer(calls)
	return out, err
}

// deliveryWebhook is nil without one.
func (s *Server) deliveryWebhook() (*delivery.Webhook, error) {
	d := s.cfg.Delivery
	if d.DeliveryWebhook == "" {
		if d.DeliveryWebhookSecret != "" {
			return nil, errors.New("delivery-webhook-secret-file is for delivery-webhook: name its URL")
		}
		return nil, nil
	}
	secret, err := secretFile("delivery-webhook-secret-file", d.DeliveryWebhookSecret)
	if err != nil {
		return nil, err
	}
	var also []string
	if u, err := url.Parse(d.DeliveryWebhook); err == nil && u.Scheme == "https" { // plain HTTP has to be listed
		also = []string{u.Host}
	}
	calls, err := s.cfg.egressConfig(also...)
	if err != nil {
		return nil, err
	}
	client, err := egress.New(calls)
	if err != nil {
		return nil, err
	}
	return delivery.NewWebhook(d.DeliveryWebhook, secret, client, s.clock)
}

// secretFile reads a secret without the line break at its end; "" without a file.
func secretFile(setting, path string) (fleet.Secret, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", setting, err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s: %s is empty", setting, path)
	}
	return fleet.Secret(text), nil
}

const deliverEvery = 10 * time.Second

// deliver sends messages again whose delivery failed or was cut short, until ctx ends.
func (s *Server) deliver(ctx context.Context) {
	tick := time.NewTicker(deliverEvery)
	defer tick.Stop()
	for {
		if err := s.userpools.Deliver(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("delivering messages", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
