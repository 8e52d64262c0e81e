package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type thingCmd struct {
	Deprovision thingDeprovisionCmd `cmd:"" help:"Retire a device: its thing, attachments, group memberships and certificates go at once, and its connections end."`
}

type thingDeprovisionCmd struct {
	place
	asJSON
	Thing            string `arg:"" help:"Name of the thing."`
	KeepCertificates bool   `help:"Leave its certificates as they are, without the thing."`
}

func (c *thingDeprovisionCmd) Run(ctx context.Context) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Removed             bool     `json:"removed"`
		DeletedCertificates []string `json:"deletedCertificates"`
		RevokedCertificates []string `json:"revokedCertificates"`
		KeptCertificates    []string `json:"keptCertificates"`
		DeletedPolicies     []string `json:"deletedPolicies"`
	}
	if err := cl.REST(ctx, "imprint", http.MethodPost, "/imprint/things/"+url.PathEscape(c.Thing)+"/deprovision",
		map[string]any{"keepCertificates": c.KeepCertificates}, &out); err != nil {
		return err
	}
	if done, err := c.print(out); done {
		return err
	}
	if !out.Removed {
		fmt.Printf("there is no thing %s\n", c.Thing)
		return nil
	}
	fmt.Printf("thing %s is gone\n", c.Thing)
	for what, list := range map[string][]string{"certificate deleted": out.DeletedCertificates, "certificate revoked": out.RevokedCertificates,
		"certificate kept": out.KeptCertificates, "policy deleted": out.DeletedPolicies} {
		for _, name := range list {
			fmt.Printf("%s  %s\n", what, name)
		}
	}
	return nil
}

// orphanKinds are the kinds of the API, with what they are called here.
var orphanKinds = []struct{ kind, text string }{
	{"pendingCertificates", "certificate never registered"},
	{"unconnectedCertificates", "certificate never connected"},
	{"certificatesWithoutThing", "certificate without thing"},
	{"thingsWithoutPrincipal", "thing without certificate"},
	{"policiesWithoutAttachment", "policy attached to nothing"},
	{"unusedClaims", "claim never used"},
}

type orphansCmd struct {
	place
	asJSON
	Kind      string        `help:"Only one kind: pendingCertificates, unconnectedCertificates, certificatesWithoutThing, thingsWithoutPrincipal, policiesWithoutAttachment, unusedClaims." enum:",pendingCertificates,unconnectedCertificates,certificatesWithoutThing,thingsWithoutPrincipal,policiesWithoutAttachment,unusedClaims" default:"" placeholder:"KIND"`
	OlderThan time.Duration `help:"Only what was made that long ago." default:"1h" placeholder:"TIME"`
}

type orphan struct {
	Kind         string  `json:"kind"`
	Name         string  `json:"name"`
	CreationDate float64 `json:"creationDate"`
	ClaimID      string  `json:"claimId,omitempty"`
	TemplateName string  `json:"templateName,omitempty"`
}

// Run lists kind after kind, page after page.
func (c *orphansCmd) Run(ctx context.Context) error {
	found := []orphan{}
	for _, k := range orphanKinds {
		if c.Kind != "" && c.Kind != k.kind {
			continue
		}
		type page struct {
			Orphans   []orphan
			NextToken string
		}
		path := "/imprint/orphans?" + url.Values{"kind": {k.kind}, "olderThanSeconds": {strconv.Itoa(int(c.OlderThan.Seconds()))}}.Encode()
		if err := printPages(ctx, c.place, path, 100, func(w io.Writer, p page) string {
			for _, o := range p.Orphans {
				if o.Kind = k.kind; c.JSON {
					found = append(found, o)
					continue
				}
				at := time.UnixMilli(int64(o.CreationDate * 1000))
				about := ""
				if o.ClaimID != "" {
					about = "from claim " + shortID(o.ClaimID)
				}
				if o.TemplateName != "" {
					about = "of template " + o.TemplateName
				}
				fmt.Fprintln(w, strings.TrimRight(strings.Join([]string{k.text, o.Name, "made " + age(time.Since(at)) + " ago", about}, "\t"), "\t"))
			}
			return p.NextToken
		}); err != nil {
			return err
		}
	}
	_, err := c.print(found)
	return err
}

// age words a duration to two units.
func age(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return d.String()
}
