package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

type explainCmd struct {
	place
	Subject string `arg:"" optional:"" help:"Serial number (or any parameter that a device sends), thing, certificate, claim, client or trace id; without it: the newest attempts."`
	Last    int    `help:"How many attempts to show, newest first." default:"1"`
}

func (c *explainCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	records, err := explain(ctx, cl, c.Subject, c.Last)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("nothing is known of %q: no attempt named it in the last 30 days. If a device should have tried, it did not reach this server", c.Subject)
	}
	for i, r := range records {
		if i > 0 {
			fmt.Println()
		}
		fmt.Fprint(os.Stdout, r.Text())
	}
	return nil
}

// client makes a client of the place's server.
func (p place) client() (*client.Client, error) {
	e, err := p.env()
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Endpoint: e.Get("AWS_ENDPOINT_URL"), Region: e.Get("AWS_REGION"), CAFile: e.Get("AWS_CA_BUNDLE"),
		Creds: client.Credentials{AccessKeyID: e.Get("AWS_ACCESS_KEY_ID"), Secret: fleet.Secret(e.Get("AWS_SECRET_ACCESS_KEY")),
			Token: fleet.Secret(e.Get("AWS_SESSION_TOKEN"))}})
}

// explain fetches the newest records about a subject.
func explain(ctx context.Context, c *client.Client, subject string, limit int) ([]trace.Record, error) {
	q := url.Values{"maxResults": {strconv.Itoa(limit)}}
	if subject != "" {
		q.Set("subject", subject)
	}
	var out struct {
		Traces []struct {
			TraceID     string `json:"traceId"`
			Kind        string
			Start       float64 // seconds since the epoch
			Took        int64   `json:"durationMicroseconds"`
			Outcome     string
			Code        string
			Cause, Cure string
			Facts       map[string]string
			Steps       []struct {
				At         int64 `json:"atMicroseconds"`
				Name, Text string
			}
		}
	}
	if err := c.REST(ctx, "imprint", http.MethodGet, "/imprint/traces?"+q.Encode(), nil, &out); err != nil {
		return nil, err
	}
	var records []trace.Record
	for _, t := range out.Traces {
		r := trace.Record{ID: t.TraceID, Kind: t.Kind, Start: time.UnixMilli(int64(t.Start * 1000)), Took: time.Duration(t.Took) * time.Microsecond,
			Outcome: t.Outcome, Code: t.Code, Cause: t.Cause, Cure: t.Cure, Facts: t.Facts}
		for _, s := range t.Steps {
			r.Steps = append(r.Steps, trace.Step{At: time.Duration(s.At) * time.Microsecond, Name: s.Name, Text: s.Text})
		}
		records = append(records, r)
	}
	return records, nil
}
