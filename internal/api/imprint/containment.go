package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/registry"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// What to do when a claim is stolen, a device is retired, or something is left behind. The rules are in packages provision and registry.

// ReportClaimInput asks what descended from a claim: the id of a temporary claim, of a certificate that devices share, or of a
// registered CA.
type ReportClaimInput struct {
	ClaimId    string     `wire:"claimId,required,uri" shape:"ClaimId"`
	Since      *time.Time `wire:"since,querystring"`
	NextToken  *string    `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int       `wire:"maxResults,querystring" shape:"MaxResults"`
}

// ReportClaimOutput is a page of certificates below the facts of the claim. A page may be short, or empty, and have a next one.
// Refusals are on the first.
type ReportClaimOutput struct {
	ClaimId      string       `wire:"claimId,required"`
	Kind         string       `wire:"kind,required"` // TEMPORARY, CERTIFICATE, CA, or FORGOTTEN but for what descended from it
	TemplateName *string      `wire:"templateName"`  // of a temporary claim, or that a CA provisions with
	Installer    *string      `wire:"installer"`
	CreationDate *time.Time   `wire:"creationDate"`
	Expiration   *time.Time   `wire:"expiration"`
	Status       *string      `wire:"status"` // ACTIVE, EXPIRED or REVOKED; of a certificate or CA its own
	Containment  *Containment `wire:"containment"`
	Rolled       []string     `wire:"rolled"` // ids of certificates that were rolled from it: ask for their own reports
	Descendants  []Descendant `wire:"descendants,required"`
	Refusals     []Trace      `wire:"refusals"`
	NextToken    *string      `wire:"nextToken"`
}

// Descendant is a certificate that the claim was used to ask for, or that the CA has signed, with what its registration did.
type Descendant struct {
	CertificateId    string          `wire:"certificateId,required"`
	Status           string          `wire:"status,required"`
	CreationDate     time.Time       `wire:"creationDate,required"`
	LastConnection   *time.Time      `wire:"lastConnectionDate"`
	RegistrationDate *time.Time      `wire:"registrationDate"`
	TemplateName     *string         `wire:"templateName"`
	TemplateVersion  *int            `wire:"templateVersion"`
	ThingName        *string         `wire:"thingName"` // that it was registered for
	ContainmentDate  *time.Time      `wire:"containmentDate"`
	Things           []AttachedThing `wire:"things,required"`
	Policies         []string        `wire:"policies,required"`
	IsClaim          bool            `wire:"isClaim,required"` // others descend from it: ask for its own report
}

// AttachedThing is a thing that a descendant is attached to now.
type AttachedThing struct {
	ThingName string   `wire:"thingName,required"`
	Made      bool     `wire:"made,required"` // by the registration of this certificate
	Groups    []string `wire:"thingGroups,required"`
}

// Containment is how far one has come, or, with dryRun, would come.
type Containment struct {
	RevokeSince  time.Time  `wire:"revokeSince,required"`
	Complete     bool       `wire:"complete,required"`     // false: ask again to see more of it; with dryRun the counts are lower bounds
	Certificates int        `wire:"certificates,required"` // that lost their power
	Things       int        `wire:"things,required"`       // that were removed
	Released     int        `wire:"released,required"`     // that lost a principal and stay
	Actor        *string    `wire:"actor"`
	StartDate    *time.Time `wire:"startDate"`
	EndDate      *time.Time `wire:"endDate"`
}

type ContainClaimInput struct {
	ClaimId     string    `wire:"claimId,required,uri" shape:"ClaimId"`
	RevokeSince time.Time `wire:"revokeSince,required"`
	DryRun      *bool     `wire:"dryRun"`
}

type ContainClaimOutput struct {
	Containment Containment `wire:"containment,required"`
}

// DeprovisionThingInput retires a device. KeepCertificates leaves its certificates as they are, detached.
type DeprovisionThingInput struct {
	ThingName        string `wire:"thingName,required,uri" shape:"ThingName"`
	KeepCertificates *bool  `wire:"keepCertificates"`
}

// DeprovisionThingOutput says what went and what stayed. Removed is false if there was no such thing.
type DeprovisionThingOutput struct {
	Removed             bool     `wire:"removed,required"`
	DeletedCertificates []string `wire:"deletedCertificates,required"`
	RevokedCertificates []string `wire:"revokedCertificates,required"` // of registered CAs: they stay on file
	KeptCertificates    []string `wire:"keptCertificates,required"`
	DeletedPolicies     []string `wire:"deletedPolicies,required"`
}

// ListOrphansInput asks for what hangs on nothing and was made so many seconds ago at least.
type ListOrphansInput struct {
	Kind       string  `wire:"kind,required,querystring" shape:"OrphanKind"`
	OlderThan  *int    `wire:"olderThanSeconds,querystring" shape:"Seconds"`
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

// ListOrphansOutput is a page that may be short, or empty, and have a next one.
type ListOrphansOutput struct {
	Orphans   []Orphan `wire:"orphans,required"`
	NextToken *string  `wire:"nextToken"`
}

type Orphan struct {
	Name         string    `wire:"name,required"` // or id
	CreationDate time.Time `wire:"creationDate,required"`
	ClaimId      *string   `wire:"claimId"`      // where a certificate came from
	TemplateName *string   `wire:"templateName"` // of a claim
}

func claim(s fleet.Scope, id string) []string { return []string{s.ARN("imprint", "claim/"+id)} }

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// texts is never null.
func texts(list []string) []string { return append([]string{}, list...) }

func (a *api) reportClaim(ctx context.Context, in *ReportClaimInput) (*ReportClaimOutput, error) {
	since := wire.Value(in.Since)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ReportClaim", in.ClaimId, since.String())
	if err != nil {
		return nil, err
	}
	r, err := a.Provision.ReportClaim(ctx, scopeOf(ctx), in.ClaimId, since, l.Page)
	if err != nil {
		return nil, err
	}
	out := &ReportClaimOutput{ClaimId: r.ID, Kind: string(r.Kind), Status: wire.Optional(r.Status), Rolled: r.Rolled, Descendants: []Descendant{}, NextToken: l.Token(r.Next)}
	claimFacts(r, out)
	if c := r.Contained; c != nil {
		out.Containment = new(containmentOut(*c))
	}
	for _, d := range r.Descendants {
		out.Descendants = append(out.Descendants, descendantOut(d))
	}
	for _, t := range r.Refused {
		out.Refusals = append(out.Refusals, traceOut(t))
	}
	return out, nil
}

// claimFacts fills in what is known of the claim itself.
func claimFacts(r provision.ClaimReport, out *ReportClaimOutput) {
	switch {
	case r.Claim != nil:
		out.TemplateName, out.Installer, out.CreationDate, out.Expiration = &r.Claim.Template, new(r.Claim.Installer.Who()), &r.Claim.Created, &r.Claim.Expires
	case r.Certificate != nil:
		out.CreationDate, out.Expiration = &r.Certificate.Created, &r.Certificate.NotAfter
	case r.CA != nil:
		out.TemplateName, out.CreationDate, out.Expiration = wire.Optional(r.CA.Config.Template), &r.CA.Created, &r.CA.NotAfter
	}
}

func descendantOut(d provision.Descendant) Descendant {
	out := Descendant{CertificateId: d.ID, Status: string(d.Status), CreationDate: d.Created, LastConnection: when(d.Use.Last), Things: []AttachedThing{},
		Policies: texts(d.Policies), IsClaim: d.IsClaim}
	if r := d.Registration; r != nil {
		out.RegistrationDate, out.TemplateName, out.TemplateVersion = &r.Created, &r.Template, &r.Version
		out.ThingName, out.ContainmentDate = wire.Optional(r.Thing), when(r.Contained)
	}
	for _, t := range d.Things {
		out.Things = append(out.Things, AttachedThing{t.Name, t.Made, texts(t.Groups)})
	}
	return out
}

func containmentOut(c provision.ContainmentResult) Containment {
	return Containment{RevokeSince: c.Since, Complete: c.Complete, Certificates: c.Certificates, Things: c.Things, Released: c.Released,
		Actor: wire.Optional(c.Actor), StartDate: when(c.Started), EndDate: when(c.Finished)}
}

func (a *api) containClaim(ctx context.Context, in *ContainClaimInput) (*ContainClaimOutput, error) {
	var c provision.ContainmentResult
	var err error
	if wire.Value(in.DryRun) {
		c, err = a.Provision.RehearseContainment(ctx, scopeOf(ctx), in.ClaimId, in.RevokeSince)
	} else {
		c, err = a.Provision.Contain(ctx, fleet.CallerFrom(ctx), in.ClaimId, in.RevokeSince)
	}
	if err != nil {
		return nil, err
	}
	return &ContainClaimOutput{containmentOut(c)}, nil
}

func (a *api) deprovisionThing(ctx context.Context, in *DeprovisionThingInput) (*DeprovisionThingOutput, error) {
	var done registry.Deprovisioned
	err := a.Store.Tx(ctx, func(tx *store.Tx) (err error) {
		done, err = registry.Deprovision(tx, scopeOf(ctx), in.ThingName, wire.Value(in.KeepCertificates))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &DeprovisionThingOutput{done.Removed, texts(done.Certificates), texts(done.Revoked), texts(done.Kept), texts(done.Policies)}, nil
}

func orphanKinds() (names []string) {
	for _, k := range store.OrphanKinds {
		names = append(names, string(k))
	}
	return names
}

func (a *api) listOrphans(ctx context.Context, in *ListOrphansInput) (*ListOrphansOutput, error) {
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListOrphans", in.Kind)
	if err != nil {
		return nil, err
	}
	out := &ListOrphansOutput{Orphans: []Orphan{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		before := tx.Now().Add(-time.Duration(wire.Value(in.OlderThan)) * time.Second)
		orphans, next, err := tx.Orphans(scopeOf(ctx), store.OrphanKind(in.Kind), before, l.Page)
		for _, o := range orphans {
			out.Orphans = append(out.Orphans, Orphan{o.Name, o.Created, wire.Optional(o.Claim), wire.Optional(o.Template)})
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}
