// Package delivery brings messages to people: codes and temporary passwords of user pools.
//
// Begin with New, which chooses the way of each message: mail by SMTP (smtp.go), an HTTPS webhook (webhook.go), or a folder on this
// machine (outbox.go). It knows no pools and keeps nothing: whoever sends tries again.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// A Message carries a code or a temporary password to a user.
type Message struct {
	ID               string // the same whenever the message is sent again
	Scope            fleet.Scope
	PoolID, PoolName string
	Username, Sub    string
	Reason           string // invitation, sign-up, recovery, verification
	Medium           string // EMAIL or SMS
	Destination      string // address or number; empty if the user has none
	ReplyTo          string // address; empty: none
	Subject          string
	Body             fleet.Secret // the whole text, with Code in it
	HTML             bool         // of Body
	Code             fleet.Secret
	At               time.Time
}

// A Sender brings messages to people. Send returns when the message is on its way for good, or an error that says why not; it may be
// called concurrently. It ends with ctx, and after half a minute at the latest.
type Sender interface {
	Send(ctx context.Context, m Message) error
}

// sendTime bounds one attempt to send a message.
const sendTime = 20 * time.Second

// hopeless marks an error that will come again with the same message.
type hopeless struct{ error }

func (e hopeless) Unwrap() error { return e.error }

func never(format string, args ...any) error { return hopeless{fmt.Errorf(format, args...)} }

// NewHopeless returns an error that Hopeless knows, for other Senders.
func NewHopeless(text string) error { return never("%s", text) }

// Hopeless reports whether an error of Send will come again, so that trying once more is of no use.
func Hopeless(err error) bool {
	var e hopeless
	return errors.As(err, &e)
}

// Config says which ways there are. Messages without a destination go to the outbox, for the administrator; e-mail goes by SMTP, else to the
// webhook; SMS goes to the webhook. Where there is neither SMTP nor a webhook everything goes to the outbox.
type Config struct {
	Outbox  *Outbox
	SMTP    *SMTP    // nil: none
	Webhook *Webhook // nil: none
}

type router struct{ Config }

// New returns a Sender that chooses between the ways of c. Outbox must be set.
func New(c Config) Sender { return router{c} }

// Send implements Sender.
func (r router) Send(ctx context.Context, m Message) error {
	switch {
	case m.Destination == "", r.SMTP == nil && r.Webhook == nil:
		return r.Outbox.Send(ctx, m)
	case m.Medium == "EMAIL" && r.SMTP != nil:
		return r.SMTP.Send(ctx, m)
	case r.Webhook != nil:
		return r.Webhook.Send(ctx, m)
	}
	return never("there is no way for %s: SMTP carries mail only; set delivery-webhook", m.Medium)
}
