package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

type claimLimitsCmd struct {
	place
	asJSON
	Claim string `arg:"" help:"Id of the certificate that devices share; of a temporary claim, to look at."`

	Devices   string    `help:"How many devices it may register: a number, unlimited, or default." placeholder:"N"`
	Addresses []string  `help:"Networks and addresses from which it may be used, or any." placeholder:"NET"`
	Serials   []string  `help:"Serial numbers or thing names that it may register, or any." placeholder:"SERIAL"`
	PerMinute string    `help:"Requests a minute, two for each device, or any." placeholder:"N"`
	Expires   *deadline `help:"When its use for provisioning ends: a time, how long from now (36h, 30d), or never." placeholder:"TIME"`
}

// A deadline is a time to come as people give it; zero for never.
type deadline struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *deadline) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "never" {
		return nil
	}
	if span, err := ago(s); err == nil {
		d.Time = time.Now().Add(span)
		return nil
	}
	var m moment
	if err := m.UnmarshalText(text); err != nil || s == "beginning" {
		return fmt.Errorf("%q is no time to come: give one like 2026-11-21T09:00:00Z or 2026-11-21, how long from now (36h, 30d), or never", s)
	}
	d.Time = m.Time
	return nil
}

// claimLimits are the limits of a claim in requests and answers.
type claimLimits struct {
	Devices           int      `json:"devices,omitempty"`
	Addresses         []string `json:"addresses,omitempty"`
	Serials           []string `json:"serials,omitempty"`
	RequestsPerMinute int      `json:"requestsPerMinute,omitempty"`
	Expiration        float64  `json:"expiration,omitempty"`
}

type claimUse struct {
	ClaimID   string      `json:"claimId"`
	Limits    claimLimits `json:"limits"`
	Devices   int         `json:"devices"`
	BudgetID  string      `json:"budgetId"`
	Successor string      `json:"successor,omitempty"`
	EndDate   float64     `json:"endDate,omitempty"`
}

// Run changes what is given, leaves the rest, and prints what holds.
func (c *claimLimitsCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	path := "/imprint/claims/" + url.PathEscape(c.Claim) + "/limits"
	var use claimUse
	if err := cl.REST(ctx, "imprint", http.MethodGet, path, nil, &use); err != nil {
		return err
	}
	changed, err := c.change(&use.Limits)
	if err != nil {
		return err
	}
	if changed {
		if err := cl.REST(ctx, "imprint", http.MethodPut, path, map[string]any{"limits": use.Limits}, nil); err != nil {
			return err
		}
		use = claimUse{}
		if err := cl.REST(ctx, "imprint", http.MethodGet, path, nil, &use); err != nil {
			return err
		}
	}
	if done, err := c.print(use); done || err != nil {
		return err
	}
	return use.tell()
}

func (c *claimLimitsCmd) change(l *claimLimits) (changed bool, err error) {
	numbers := []struct {
		name, text string
		words      map[string]int
		into       *int
	}{{"devices", c.Devices, map[string]int{"unlimited": -1, "default": 0}, &l.Devices}, {"per-minute", c.PerMinute, map[string]int{"any": 0}, &l.RequestsPerMinute}}
	for _, n := range numbers {
		if n.text == "" {
			continue
		}
		v, word := n.words[n.text]
		if !word {
			if v, err = strconv.Atoi(n.text); err != nil || v < 1 {
				return false, fmt.Errorf("--%s %s: give a number from 1, or a word that the help lists", n.name, n.text)
			}
		}
		*n.into, changed = v, true
	}
	for given, into := range map[*[]string]*[]string{&c.Addresses: &l.Addresses, &c.Serials: &l.Serials} {
		if len(*given) == 0 {
			continue
		}
		if *into, changed = *given, true; len(*given) == 1 && (*given)[0] == "any" {
			*into = nil
		}
	}
	if c.Expires != nil {
		if l.Expiration, changed = 0, true; !c.Expires.IsZero() {
			l.Expiration = float64(c.Expires.Unix())
		}
	}
	return changed, nil
}

func (u claimUse) tell() error {
	devices, expires := "by default of the template", "never"
	switch {
	case u.Limits.Devices < 0:
		devices = "unlimited"
	case u.Limits.Devices > 0:
		devices = strconv.Itoa(u.Limits.Devices)
	}
	if u.Limits.Expiration != 0 {
		expires = clock(u.Limits.Expiration)
	}
	perMinute := "any"
	if u.Limits.RequestsPerMinute != 0 {
		perMinute = strconv.Itoa(u.Limits.RequestsPerMinute)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "devices\t%s (%d counted)\naddresses\t%s\nserials\t%s\nrequests a minute\t%s\nexpires\t%s\n", devices, u.Devices, anyOf(u.Limits.Addresses), anyOf(u.Limits.Serials), perMinute, expires)
	if u.BudgetID != u.ClaimID {
		fmt.Fprintf(w, "counted with\t%s\n", u.BudgetID)
	}
	if u.Successor != "" {
		fmt.Fprintf(w, "rolled into\t%s\n", u.Successor)
	}
	if u.EndDate != 0 {
		fmt.Fprintf(w, "deactivated at\t%s\n", clock(u.EndDate))
	}
	return w.Flush()
}

func anyOf(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return strings.Join(list, " ")
}

type claimRollCmd struct {
	place
	Claim   string `arg:"" help:"Id of the certificate that devices share."`
	Overlap span   `help:"For how long the old certificate stays good (36h, 30d)." default:"30d" placeholder:"TIME"`
	CSR     string `name:"csr" help:"File with a certificate signing request; without one the service makes the key." type:"existingfile" placeholder:"FILE"`
	Out     string `help:"Folder for the certificate and its key." default:"." type:"existingdir" placeholder:"DIR"`
}

// A span is a length of time as people give it: 36h, 30d.
type span struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) (err error) {
	if s.Duration, err = ago(string(text)); err != nil {
		err = fmt.Errorf("%q is no length of time: give one like 36h or 30d", text)
	}
	return err
}

func (c *claimRollCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"overlapSeconds": int(c.Overlap.Seconds())}
	if c.CSR != "" {
		request, err := os.ReadFile(c.CSR)
		if err != nil {
			return err
		}
		in["certificateSigningRequest"] = string(request)
	}
	var out struct {
		CertificateID  string `json:"certificateId"`
		CertificatePem string
		PrivateKey     string
		EndDate        float64
	}
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/claims/"+url.PathEscape(c.Claim)+"/roll", in, &out); err != nil {
		return err
	}
	fmt.Printf("certificate %s\n", out.CertificateID)
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{"certificate.pem.crt", out.CertificatePem, 0o644}, {"private.pem.key", out.PrivateKey, 0o600}} {
		if f.text == "" {
			continue
		}
		path := filepath.Join(c.Out, out.CertificateID[:10]+"-"+f.name)
		if err := os.WriteFile(path, []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("the certificate was made, and is lost: deactivate and delete it, and roll again: %w", err)
		}
		fmt.Println(path)
	}
	fmt.Printf("%s is deactivated at %s\n", c.Claim, clock(out.EndDate))
	return nil
}
