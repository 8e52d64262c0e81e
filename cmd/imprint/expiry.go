package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"
)

type expiryCmd struct {
	place
	asJSON
	Within span `help:"How far to look ahead, for example 30d or 720h." default:"30d" placeholder:"TIME"`
	Since  span `help:"How far to look back for certificates that have expired." default:"30d" placeholder:"TIME"`
	Limit  int  `help:"How many certificates to list, the next to end first; 0: none." default:"20" placeholder:"N"`
}

type expiryForecast struct {
	FromDate       float64 `json:"fromDate"`
	UntilDate      float64 `json:"untilDate"`
	Expired        int     `json:"expired"`
	Total          int     `json:"total"`
	NextExpiryDate float64 `json:"nextExpiryDate,omitempty"`
	Counts         []struct {
		Day             float64 `json:"day"`
		TemplateName    string  `json:"templateName,omitempty"`
		CACertificateID string  `json:"caCertificateId,omitempty"`
		Count           int     `json:"count"`
	} `json:"counts"`
	Certificates []expiring `json:"certificates"`
}

type expiring struct {
	CertificateID      string  `json:"certificateId"`
	State              string  `json:"state"`
	ExpirationDate     float64 `json:"expirationDate"`
	RenewFromDate      float64 `json:"renewFromDate"`
	RenewUntilDate     float64 `json:"renewUntilDate"`
	GraceUntilDate     float64 `json:"graceUntilDate,omitempty"`
	ThingName          string  `json:"thingName,omitempty"`
	TemplateName       string  `json:"templateName,omitempty"`
	CACertificateID    string  `json:"caCertificateId,omitempty"`
	LastConnectionDate float64 `json:"lastConnectionDate,omitempty"`
}

func (c *expiryCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	query := url.Values{"withinSeconds": {strconv.Itoa(int(c.Within.Seconds()))}, "sinceSeconds": {strconv.Itoa(int(c.Since.Seconds()))}}
	f := expiryForecast{Certificates: []expiring{}}
	if err := cl.REST(ctx, "imprint", http.MethodGet, "/imprint/expiry?"+query.Encode(), nil, &f); err != nil {
		return err
	}
	type page struct {
		Certificates []expiring
		NextToken    string
	}
	if c.Limit > 0 {
		if err := eachPage(ctx, cl, "/imprint/expiry/certificates?"+query.Encode(), min(100, c.Limit), func(p page) (string, error) {
			if f.Certificates = append(f.Certificates, p.Certificates...); len(f.Certificates) >= c.Limit {
				f.Certificates, p.NextToken = f.Certificates[:c.Limit], ""
			}
			return p.NextToken, nil
		}); err != nil {
			return err
		}
	}
	if done, err := c.print(f); done {
		return err
	}
	return f.show()
}

// show prints the forecast for people.
func (f expiryForecast) show() error {
	if f.Total == 0 {
		fmt.Printf("No active certificate ends before %s, and none has ended since %s.\n", clock(f.UntilDate), clock(f.FromDate))
		return nil
	}
	fmt.Printf("%d active certificates end before %s, %d of them have ended since %s.\n\n", f.Total, clock(f.UntilDate), f.Expired, clock(f.FromDate))
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DAY\tTEMPLATE\tCA\tCERTIFICATES")
	for _, d := range f.Counts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", clock(d.Day)[:len(time.DateOnly)], cmp.Or(d.TemplateName, "-"), cmp.Or(shortID(d.CACertificateID), "own"), d.Count)
	}
	if len(f.Certificates) > 0 {
		fmt.Fprintln(w, "\nENDS\tSTATE\tTHING\tTEMPLATE\tLAST CONNECTION\tRENEWS\tCERTIFICATE")
	}
	for _, e := range f.Certificates {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", clock(e.ExpirationDate), e.State, cmp.Or(e.ThingName, "-"), cmp.Or(e.TemplateName, "-"),
			clock(e.LastConnectionDate), clock(e.RenewFromDate), shortID(e.CertificateID))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if rest := f.Total - len(f.Certificates); rest > 0 && len(f.Certificates) > 0 {
		fmt.Printf("… and %d more: --limit\n", rest)
	}
	return nil
}
