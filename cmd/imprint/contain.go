package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/imprint-iot/imprint/internal/client"
)

// asJSON is the option of verbs that programs read.
type asJSON struct {
	JSON bool `name:"json" help:"Print JSON."`
}

// print writes v as JSON if that is asked for, and reports whether it did.
func (a asJSON) print(v any) (bool, error) {
	if !a.JSON {
		return false, nil
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return true, e.Encode(v)
}

type claimContainCmd struct {
	place
	asJSON
	Claim string `arg:"" help:"Claim: the id of a temporary claim, of the certificate that devices share, or of a CA that you registered."`

	RevokeSince moment `help:"When it was stolen: what was made with it before stays. A time, how long ago (36h, 14d), or beginning." placeholder:"TIME" required:""`
	DryRun      bool   `help:"Say what would be done, and do nothing."`
}

// A containment is how far one has come.
type containment struct {
	RevokeSince  float64 `json:"revokeSince"`
	Complete     bool    `json:"complete"`
	Certificates int     `json:"certificates"`
	Things       int     `json:"things"`
	Released     int     `json:"released"`
	Actor        string  `json:"actor,omitempty"`
	StartDate    float64 `json:"startDate,omitempty"`
	EndDate      float64 `json:"endDate,omitempty"`
}

// Run asks until the containment is complete. After a cut the server goes on by itself, and so does the same command.
func (c *claimContainCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"revokeSince": c.RevokeSince.seconds(), "dryRun": c.DryRun}
	var out struct{ Containment containment }
	for {
		if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/claims/"+url.PathEscape(c.Claim)+"/containment", in, &out); err != nil {
			return err
		}
		if out.Containment.Complete || c.DryRun {
			break
		}
		fmt.Fprintf(os.Stderr, "%d certificates so far\n", out.Containment.Certificates)
	}
	if done, err := c.print(out.Containment); done {
		return err
	}
	fmt.Println(out.Containment.text(c.DryRun))
	return nil
}

// text says what a containment has done, or, if it is rehearsed, would do.
func (c containment) text(rehearsed bool) string {
	head := "The claim has no power any more. Of what was made with it since %s so far:"
	switch {
	case rehearsed && c.Complete:
		head = "The claim would lose its power. Of what was made with it since %s:"
	case rehearsed:
		head = "The claim would lose its power. Of what was made with it since %s, at least:"
	case c.Complete:
		head = "The claim has no power any more. Of what was made with it since %s:"
	}
	return fmt.Sprintf(head+" %d certificates revoked, %d things removed, %d things that others made kept without their certificate.",
		clock(c.RevokeSince), c.Certificates, c.Things, c.Released)
}

type claimReportCmd struct {
	place
	asJSON
	Claim string `arg:"" help:"Claim: the id of a temporary claim, of the certificate that devices share, or of a CA that you registered."`
	Since moment `help:"Leave out certificates that were made before: a time, or how long ago (36h, 14d)." placeholder:"TIME" default:"beginning"`
}

// A claimReport is all pages of the report of a claim, of those certificates that were rolled from it, and of those below that served as
// claims.
type claimReport struct {
	ClaimID      string         `json:"claimId"`
	Kind         string         `json:"kind"`
	TemplateName string         `json:"templateName,omitempty"`
	Installer    string         `json:"installer,omitempty"`
	CreationDate float64        `json:"creationDate,omitempty"`
	Expiration   float64        `json:"expiration,omitempty"`
	Status       string         `json:"status,omitempty"`
	Containment  *containment   `json:"containment,omitempty"`
	Rolled       []string       `json:"rolled,omitempty"` // certificates that were rolled from it
	Descendants  []descendant   `json:"descendants"`
	Refusals     []claimRefusal `json:"refusals"`
	NextToken    string         `json:"-"`
}

type descendant struct {
	CertificateID      string      `json:"certificateId"`
	DescendsFrom       string      `json:"descendsFrom"`
	Status             string      `json:"status"`
	CreationDate       float64     `json:"creationDate"`
	LastConnectionDate float64     `json:"lastConnectionDate,omitempty"`
	RegistrationDate   float64     `json:"registrationDate,omitempty"`
	TemplateName       string      `json:"templateName,omitempty"`
	TemplateVersion    int         `json:"templateVersion,omitempty"`
	ThingName          string      `json:"thingName,omitempty"`
	ContainmentDate    float64     `json:"containmentDate,omitempty"`
	Things             []tiedThing `json:"things"`
	Policies           []string    `json:"policies"`
	IsClaim            bool        `json:"isClaim"`
}

type tiedThing struct {
	ThingName   string   `json:"thingName"`
	Made        bool     `json:"made"`
	ThingGroups []string `json:"thingGroups"`
}

type claimRefusal struct {
	TraceID string  `json:"traceId"`
	Kind    string  `json:"kind"`
	Start   float64 `json:"start"`
	Code    string  `json:"code,omitempty"`
	Cause   string  `json:"cause"`
	Cure    string  `json:"cure,omitempty"`
}

func (c *claimReportCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	report, err := fetchReport(ctx, cl, c.Claim, c.Since)
	if err != nil {
		return err
	}
	for _, id := range report.Rolled {
		if err := report.add(ctx, cl, id, c.Since); err != nil {
			return err
		}
	}
	for i := 0; i < len(report.Descendants); i++ { // those of descendants join the list
		if d := report.Descendants[i]; d.IsClaim && d.CertificateID != c.Claim {
			if err := report.add(ctx, cl, d.CertificateID, c.Since); err != nil {
				return err
			}
		}
	}
	if done, err := c.print(report); done {
		return err
	}
	return report.print()
}

// add fetches what descended from another certificate, and what that was refused.
func (r *claimReport) add(ctx context.Context, cl *client.Client, id string, since moment) error {
	other, err := fetchReport(ctx, cl, id, since)
	if err != nil {
		return err
	}
	r.Descendants = append(r.Descendants, other.Descendants...)
	r.Refusals = append(r.Refusals, other.Refusals...)
	return nil
}

// fetchReport fetches all pages of one claim.
func fetchReport(ctx context.Context, cl *client.Client, claim string, since moment) (report claimReport, err error) {
	query := url.Values{"since": {since.UTC().Format("2006-01-02T15:04:05.000Z")}}
	first := true
	err = eachPage(ctx, cl, "/imprint/claims/"+url.PathEscape(claim)+"?"+query.Encode(), 100, func(page claimReport) (string, error) {
		for i := range page.Descendants {
			page.Descendants[i].DescendsFrom = claim
		}
		if first {
			report, first = page, false
		} else {
			report.Descendants = append(report.Descendants, page.Descendants...)
		}
		return page.NextToken, nil
	})
	return report, err
}

// print tells a report to people.
func (r claimReport) print() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" && value != "-" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	line("claim", r.ClaimID)
	line("kind", strings.ToLower(r.Kind))
	line("status", r.Status)
	line("template", r.TemplateName)
	line("installer", r.Installer)
	line("made", clock(r.CreationDate))
	line("expires", clock(r.Expiration))
	line("rolled into", strings.Join(r.Rolled, " "))
	if c := r.Containment; c != nil {
		line("contained", fmt.Sprintf("%s by %s: %s", clock(c.StartDate), c.Actor, c.text(false)))
		if !c.Complete {
			line("", "not complete: imprint claim contain goes on")
		}
	}
	fmt.Fprintf(w, "certificates\t%d\n", len(r.Descendants))
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Descendants) > 0 {
		fmt.Fprintln(w, "\nCERTIFICATE\tSTATUS\tREGISTERED\tLAST CONNECTION\tTHING\tGROUPS\tPOLICIES\tFROM")
	}
	for _, d := range r.Descendants {
		from := ""
		if d.DescendsFrom != r.ClaimID {
			from = shortID(d.DescendsFrom)
		}
		thing, groups := d.thing()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.CertificateID, d.Status, clock(d.RegistrationDate), clock(d.LastConnectionDate), thing, groups,
			strings.Join(d.Policies, " "), from)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Refusals) > 0 {
		fmt.Fprintln(w, "\nREFUSED\tKIND\tCODE\tCAUSE\tTRACE")
	}
	for _, f := range r.Refusals {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", clock(f.Start), f.Kind, f.Code, f.Cause, f.TraceID)
	}
	return w.Flush()
}

// thing words what a certificate belongs to, or was registered for.
func (d descendant) thing() (names, groups string) {
	if len(d.Things) == 0 {
		if d.ThingName != "" {
			return "(" + d.ThingName + ")", ""
		}
		return "-", ""
	}
	var list, in []string
	for _, t := range d.Things {
		name := t.ThingName
		if !t.Made {
			name += " (was there)"
		}
		list, in = append(list, name), append(in, t.ThingGroups...)
	}
	return strings.Join(list, " "), strings.Join(in, " ")
}
