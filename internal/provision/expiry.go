package provision

import (
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/template"
)

// States of certificates that end, from the best to the worst.
const (
	ExpiryReplaced = "REPLACED" // its successor has connected
	ExpiryRenewing = "RENEWING" // another certificate was asked for with it
	ExpiryWaiting  = "WAITING"  // its renewal is not due
	ExpiryDue      = "DUE"      // its device renews in these days
	ExpiryOverdue  = "OVERDUE"  // it should have been renewed by now
	ExpiryGrace    = "GRACE"    // it has ended, and may connect to be renewed
	ExpiryExpired  = "EXPIRED"  // it has ended
)

// An Expiry is an active certificate that ends, and what is to be expected of it.
type Expiry struct {
	store.Expiry
	State      string
	RenewFrom  time.Time // devices renew from here
	RenewUntil time.Time // to here
	GraceUntil time.Time // zero: no grace
}

// Expiries lists the active certificates of a scope that end from one time, inclusive, to another, the next to end first.
func (p *Service) Expiries(tx *store.Tx, s fleet.Scope, from, to time.Time, page fleet.Page) ([]Expiry, string, error) {
	list, next, err := tx.Expiries(s, from, to, page)
	if err != nil {
		return nil, "", err
	}
	templates := map[string]template.Settings{}
	out := make([]Expiry, 0, len(list))
	for _, e := range list {
		settings, known := templates[e.Template]
		if !known && e.Template != "" {
			if _, settings, err = p.settingsOf(tx, s, e.Template); err != nil {
				return nil, "", err
			}
			templates[e.Template] = settings
		}
		out = append(out, expiryOf(e, settings, tx.Now()))
	}
	return out, next, nil
}

func expiryOf(e store.Expiry, settings template.Settings, now time.Time) Expiry {
	out := Expiry{Expiry: e}
	out.RenewFrom, out.RenewUntil = settings.Renewal(e.NotBefore, e.NotAfter)
	if settings.ExpiredGrace > 0 {
		out.GraceUntil = e.NotAfter.Add(settings.ExpiredGrace)
	}
	switch {
	case e.Replaced:
		out.State = ExpiryReplaced
	case e.Asked:
		out.State = ExpiryRenewing
	case now.Before(out.RenewFrom):
		out.State = ExpiryWaiting
	case now.Before(out.RenewUntil):
		out.State = ExpiryDue
	case now.Before(e.NotAfter):
		out.State = ExpiryOverdue
	case now.Before(out.GraceUntil):
		out.State = ExpiryGrace
	default:
		out.State = ExpiryExpired
	}
	return out
}
