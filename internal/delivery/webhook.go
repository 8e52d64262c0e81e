package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/imprint-iot/imprint/internal/egress"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Webhook hands messages to a service of the operator's, signed as hooks are (docs/hooks.md).
type Webhook struct {
	url    string
	secret fleet.Secret
	http   *egress.Client
	clock  fleet.Clock
}

var _ Sender = (*Webhook)(nil)

// minSecret is the length of a secret in bytes, so that nobody finds it by trying.
const minSecret = 16

// NewWebhook checks what it is given. Redirects of the webhook are not followed: what is signed is for one place.
func NewWebhook(to string, secret fleet.Secret, client *egress.Client, clock fleet.Clock) (*Webhook, error) {
	u, err := url.Parse(to)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.Fragment != "":
		return nil, errors.New("delivery-webhook is no URL like https://messages.lan/imprint, without user and fragment")
	case len(secret) < minSecret:
		return nil, fmt.Errorf("delivery-webhook-secret-file: the secret has %d bytes, give at least %d", len(secret), minSecret)
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Webhook{to, secret, &own, clock}, nil
}

// webhookMessage is the body of the request (identity spec 1.9, with what a receiver needs to tell messages apart).
type webhookMessage struct {
	ID          string    `json:"id"` // the same when it is sent again
	Time        time.Time `json:"time"`
	Account     string    `json:"account"`
	Region      string    `json:"region"`
	Pool        string    `json:"pool"`
	PoolName    string    `json:"poolName"`
	User        string    `json:"user"`
	Sub         string    `json:"sub"`
	Reason      string    `json:"reason"`
	Medium      string    `json:"medium"`
	Destination string    `json:"destination"`
	Subject     string    `json:"subject,omitempty"`
	Body        string    `json:"body"`
	Code        string    `json:"code"`
}

// Send implements Sender. 2xx takes the message; 4xx but 408 and 429 refuses it for good.
func (h *Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(webhookMessage{m.ID, m.At.UTC(), m.Scope.Account, m.Scope.Region, m.PoolID, m.PoolName, m.Username, m.Sub, m.Reason,
		m.Medium, m.Destination, m.Subject, m.Body.Reveal(), m.Code.Reveal()})
	if err != nil {
		return never("the message is no JSON: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return never("delivery-webhook cannot be called")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "imprint")
	egress.Sign(req, []byte(h.secret.Reveal()), body, h.clock.Now())
	res, err := h.http.Do(req)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) { // without the URL, which may hold a secret
			err = about.Err
		}
		return fmt.Errorf("delivery-webhook cannot be reached: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // so that the connection serves again
	switch code := res.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests:
		return never("delivery-webhook refuses the message: %s", res.Status)
	}
	return fmt.Errorf("delivery-webhook answered %s", res.Status)
}
