package provision

import (
	"context"
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

// A Horizon says which certificates are of interest: those that have ended in the time Since, and those that end Within. nil is a month.
type Horizon struct{ Since, Within *time.Duration }

const month = 30 * 24 * time.Hour

// span is the time from which, inclusive, to which certificates end.
func (h Horizon) span(now time.Time) (from, to time.Time) {
	back, ahead := month, month
	if h.Since != nil {
		back = *h.Since
	}
	if h.Within != nil {
		ahead = *h.Within
	}
	return now.Add(-back), now.Add(ahead)
}

// A Forecast counts the active certificates of a horizon.
type Forecast struct {
	From, Until    time.Time
	Total, Expired int       // Expired is a part of Total
	Next           time.Time // when the next one ends; zero: none within the horizon
	Counts         []store.ExpiryCount
}

// Forecast tells how many certificates of a scope end when, and how many have.
func (p *Service) Forecast(ctx context.Context, s fleet.Scope, h Horizon) (out Forecast, err error) {
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		now := tx.Now()
		out = Forecast{}
		out.From, out.Until = h.span(now)
		if out.Counts, err = tx.ExpiryCounts(s, out.From, out.Until); err != nil {
			return err
		}
		past, err := tx.ExpiryCounts(s, out.From, now)
		if err != nil {
			return err
		}
		out.Total, out.Expired = sum(out.Counts), sum(past)
		next, _, err := p.Expiries(tx, s, now, out.Until, fleet.Page{Limit: 1})
		if len(next) > 0 {
			out.Next = next[0].NotAfter
		}
		return err
	})
	return out, err
}

func sum(counts []store.ExpiryCount) (n int) {
	for _, c := range counts {
		n += c.Count
	}
	return n
}

// Expiring lists what Forecast counts, the next to end first.
func (p *Service) Expiring(ctx context.Context, s fleet.Scope, h Horizon, page fleet.Page) (list []Expiry, next string, err error) {
	err = p.Store.View(ctx, func(tx *store.Tx) error {
		from, to := h.span(tx.Now())
		list, next, err = p.Expiries(tx, s, from, to, page)
		return err
	})
	return list, next, err
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
