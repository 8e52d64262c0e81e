package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/imprint-iot/imprint/internal/durable"
	"github.com/imprint-iot/imprint/internal/fleet"
)

// An Outbox is the Sender of an installation without mail: one JSON file per message in a folder that only its owner can read.
type Outbox struct{ dir string }

var _ Sender = (*Outbox)(nil)

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
