package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// The forecast: which certificates of devices end, and whether they are being renewed. The rules are in package provision.

// GetExpiryForecastInput says which active certificates to count: those that end within so many seconds (30 days), and those that have
// ended since so many (30 days).
type GetExpiryForecastInput struct {
	Within *int `wire:"withinSeconds,querystring" shape:"Seconds"`
	Since  *int `wire:"sinceSeconds,querystring" shape:"Seconds"`
}

// GetExpiryForecastOutput counts by day, template and CA. Certificates of the default validity, which end in 2049, do not count.
type GetExpiryForecastOutput struct {
	From    time.Time     `wire:"fromDate,required"`
	Until   time.Time     `wire:"untilDate,required"`
	Expired int           `wire:"expired,required"` // of the total
	Total   int           `wire:"total,required"`
	Next    *time.Time    `wire:"nextExpiryDate"` // absent: none within that time
	Counts  []ExpiryCount `wire:"counts,required"`
}

// ExpiryCount is a number of certificates of a day, which begins at midnight UTC.
type ExpiryCount struct {
	Day           time.Time `wire:"day,required"`
	TemplateName  *string   `wire:"templateName"`
	CertificateCA *string   `wire:"caCertificateId"` // a registered CA; absent: the service's own
	Count         int       `wire:"count,required"`
}

// ListExpiringCertificatesInput asks for the certificates that the forecast counts, the next to end first.
type ListExpiringCertificatesInput struct {
	Within     *int    `wire:"withinSeconds,querystring" shape:"Seconds"`
	Since      *int    `wire:"sinceSeconds,querystring" shape:"Seconds"`
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

type ListExpiringCertificatesOutput struct {
	Certificates []ExpiringCertificate `wire:"certificates,required"`
	NextToken    *string               `wire:"nextToken"`
}

// ExpiringCertificate is an active certificate that ends.
type ExpiringCertificate struct {
	CertificateId  string     `wire:"certificateId,required"`
	State          string     `wire:"state,required"` // REPLACED, RENEWING, WAITING, DUE, OVERDUE, GRACE or EXPIRED
	Expiration     time.Time  `wire:"expirationDate,required"`
	RenewFrom      time.Time  `wire:"renewFromDate,required"`
	RenewUntil     time.Time  `wire:"renewUntilDate,required"`
	GraceUntil     *time.Time `wire:"graceUntilDate"`
	ThingName      *string    `wire:"thingName"`
	TemplateName   *string    `wire:"templateName"`
	CertificateCA  *string    `wire:"caCertificateId"`
	LastConnection *time.Time `wire:"lastConnectionDate"` // absent: it never connected
}

const forecastSeconds = 30 * 24 * 3600

func span(now time.Time, since, within *int) (from, to time.Time) {
	back, ahead := forecastSeconds, forecastSeconds
	if since != nil {
		back = *since
	}
	if within != nil {
		ahead = *within
	}
	return now.Add(-time.Duration(back) * time.Second), now.Add(time.Duration(ahead) * time.Second)
}

func (a *api) getExpiryForecast(ctx context.Context, in *GetExpiryForecastInput) (*GetExpiryForecastOutput, error) {
	out := &GetExpiryForecastOutput{Counts: []ExpiryCount{}}
	err := a.Store.View(ctx, func(tx *store.Tx) error {
		now := tx.Now()
		out.From, out.Until = span(now, in.Since, in.Within)
		counts, err := tx.ExpiryCounts(scopeOf(ctx), out.From, out.Until)
		if err != nil {
			return err
		}
		for _, c := range counts {
			out.Total += c.Count
			out.Counts = append(out.Counts, ExpiryCount{c.Day, wire.Optional(c.Template), wire.Optional(c.CA), c.Count})
		}
		past, err := tx.ExpiryCounts(scopeOf(ctx), out.From, now)
		for _, c := range past {
			out.Expired += c.Count
		}
		if err != nil {
			return err
		}
		next, _, err := a.Provision.Expiries(tx, scopeOf(ctx), now, out.Until, fleet.Page{Limit: 1})
		if len(next) > 0 {
			out.Next = &next[0].NotAfter
		}
		return err
	})
	return out, err
}

func (a *api) listExpiringCertificates(ctx context.Context, in *ListExpiringCertificatesInput) (*ListExpiringCertificatesOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListExpiringCertificates")
	if err != nil {
		return nil, err
	}
	out := &ListExpiringCertificatesOutput{Certificates: []ExpiringCertificate{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		from, to := span(tx.Now(), in.Since, in.Within)
		certificates, next, err := a.Provision.Expiries(tx, scopeOf(ctx), from, to, l.Page)
		for _, e := range certificates {
			out.Certificates = append(out.Certificates, ExpiringCertificate{e.ID, e.State, e.NotAfter, e.RenewFrom, e.RenewUntil, when(e.GraceUntil),
				wire.Optional(e.Thing), wire.Optional(e.Template), wire.Optional(e.CA), when(e.LastSeen)})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}
