package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/provision"
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

func horizon(since, within *int) provision.Horizon {
	return provision.Horizon{Since: span(since), Within: span(within)}
}

func span(seconds *int) *time.Duration {
	if seconds == nil {
		return nil
	}
	return new(time.Duration(*seconds) * time.Second)
}

func (a *api) getExpiryForecast(ctx context.Context, in *GetExpiryForecastInput) (*GetExpiryForecastOutput, error) {
	f, err := a.Provision.Forecast(ctx, scopeOf(ctx), horizon(in.Since, in.Within))
	if err != nil {
		return nil, err
	}
	out := &GetExpiryForecastOutput{From: f.From, Until: f.Until, Expired: f.Expired, Total: f.Total, Next: when(f.Next), Counts: []ExpiryCount{}}
	for _, c := range f.Counts {
		out.Counts = append(out.Counts, ExpiryCount{c.Day, wire.Optional(c.Template), wire.Optional(c.CA), c.Count})
	}
	return out, nil
}

func (a *api) listExpiringCertificates(ctx context.Context, in *ListExpiringCertificatesInput) (*ListExpiringCertificatesOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListExpiringCertificates")
	if err != nil {
		return nil, err
	}
	certificates, next, err := a.Provision.Expiring(ctx, scopeOf(ctx), horizon(in.Since, in.Within), l.Page)
	if err != nil {
		return nil, err
	}
	out := &ListExpiringCertificatesOutput{Certificates: []ExpiringCertificate{}, NextToken: l.Token(next)}
	for _, e := range certificates {
		out.Certificates = append(out.Certificates, ExpiringCertificate{e.ID, e.State, e.NotAfter, e.RenewFrom, e.RenewUntil, when(e.GraceUntil),
			wire.Optional(e.Thing), wire.Optional(e.Template), wire.Optional(e.CA), when(e.LastSeen)})
	}
	return out, nil
}
