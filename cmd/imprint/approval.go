package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

type approvalCmd struct {
	List    approvalListCmd    `cmd:"" help:"List the devices that ask for a thing that another device has."`
	Approve approvalApproveCmd `cmd:"" help:"Let such a device have the thing, once; it asks again by itself."`
	Deny    approvalDenyCmd    `cmd:"" help:"Refuse such a device."`
}

// An approvalEntry is a request for approval in an answer.
type approvalEntry struct {
	ApprovalID                                      string `json:"approvalId"`
	State, ThingName, KeyID, TemplateName, ClientID string
	SourceIP, TraceID, ClaimID, CertificateID       string
	DecidedBy                                       string
	Attempts                                        int
	Replace                                         bool
	CreationDate, DecisionDate, Expiration          float64
}

type approvalListCmd struct {
	place
	State string `help:"Which: pending, approved, denied, used or all." enum:"pending,approved,denied,used,all" default:"pending"`
}

func (c *approvalListCmd) Run(ctx context.Context) error {
	path := "/imprint/approvals"
	if c.State != "all" {
		path += "?state=" + strings.ToUpper(c.State)
	}
	type page struct {
		Approvals []approvalEntry
		NextToken string
	}
	return printPages(ctx, c.place, path, 100, func(w io.Writer, p page) string {
		for _, a := range p.Approvals {
			fmt.Fprintf(w, "%s\t%s\tthing %s\tkey %.12s…\tfrom %s\tclaim %.12s…\tasked %d times since %s\ttrace %s\n",
				a.ApprovalID, strings.ToLower(a.State), a.ThingName, a.KeyID, a.SourceIP, a.ClaimID, a.Attempts, clock(a.CreationDate), a.TraceID)
		}
		return p.NextToken
	})
}

type approvalApproveCmd struct {
	place
	ID      string `arg:"" help:"Id of the request (imprint approval list)."`
	Replace bool   `help:"End the thing's other certificates when the new one has connected."`
	Holds   span   `help:"For how long (36h, 2d), at most 30d." default:"1d" placeholder:"TIME"`
}

func (c *approvalApproveCmd) Run(ctx context.Context) error {
	return c.decide(ctx, c.ID, "approve", map[string]any{"replace": c.Replace, "validSeconds": int(c.Holds.Seconds())})
}

type approvalDenyCmd struct {
	place
	ID    string `arg:"" help:"Id of the request (imprint approval list)."`
	Holds span   `help:"For how long (36h, 2d), at most 30d." default:"1d" placeholder:"TIME"`
}

func (c *approvalDenyCmd) Run(ctx context.Context) error {
	return c.decide(ctx, c.ID, "deny", map[string]any{"validSeconds": int(c.Holds.Seconds())})
}

func (p place) decide(ctx context.Context, id, verb string, in map[string]any) error {
	cl, err := p.client()
	if err != nil {
		return err
	}
	var out struct{ Approval approvalEntry }
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/approvals/"+url.PathEscape(id)+"/"+verb, in, &out); err != nil {
		return err
	}
	fmt.Printf("%s for thing %s, until %s\n", strings.ToLower(out.Approval.State), out.Approval.ThingName, clock(out.Approval.Expiration))
	return nil
}
