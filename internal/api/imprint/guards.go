package imprint

import (
	"context"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/provision"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/wire"
)

// Limits of claims, and the queue of devices that wait for an operator. The rules are in package provision.

// Limits narrow what may be done with a claim. What is absent narrows nothing; devices may be -1 for any number, in place of the default.
type Limits struct {
	Devices           *int       `wire:"devices"`
	Addresses         []string   `wire:"addresses"`
	Serials           []string   `wire:"serials"` // serial numbers or thing names
	RequestsPerMinute *int       `wire:"requestsPerMinute"`
	Expiration        *time.Time `wire:"expiration"`
}

// PutClaimLimitsInput sets the limits of a certificate that devices share, in place of those that it had.
type PutClaimLimitsInput struct {
	ClaimId string `wire:"claimId,required,uri" shape:"ClaimId"`
	Limits  Limits `wire:"limits,required"`
}

type PutClaimLimitsOutput struct{}

// GetClaimLimitsInput asks for the limits of such a certificate, or of a temporary claim.
type GetClaimLimitsInput struct {
	ClaimId string `wire:"claimId,required,uri" shape:"ClaimId"`
}

// GetClaimLimitsOutput has how many devices were counted so far; where nothing bounds their number, none are counted.
type GetClaimLimitsOutput struct {
	ClaimId   string     `wire:"claimId,required"`
	Limits    Limits     `wire:"limits,required"`
	Devices   int        `wire:"devices,required"`
	BudgetId  string     `wire:"budgetId,required"` // certificates that were rolled one into the other share it
	Successor *string    `wire:"successor"`
	EndDate   *time.Time `wire:"endDate"` // when it is deactivated, since it was rolled
}

// RollClaimInput makes a successor of a certificate that devices share. Without a request the service makes the key.
type RollClaimInput struct {
	ClaimId                   string  `wire:"claimId,required,uri" shape:"ClaimId"`
	OverlapSeconds            *int    `wire:"overlapSeconds" shape:"Seconds"`
	CertificateSigningRequest *string `wire:"certificateSigningRequest"`
}

// RollClaimOutput holds the successor. The private key is shown this once.
type RollClaimOutput struct {
	CertificateId  string        `wire:"certificateId,required"`
	CertificateArn string        `wire:"certificateArn,required"`
	CertificatePem string        `wire:"certificatePem,required"`
	PrivateKey     *fleet.Secret `wire:"privateKey,sensitive"`
	EndDate        time.Time     `wire:"endDate,required"` // of the old certificate
}

// ListApprovalsInput asks for the devices that wait for an operator's approval, or have one; by time, oldest first.
type ListApprovalsInput struct {
	State      *string `wire:"state,querystring" shape:"QueueState"`
	NextToken  *string `wire:"nextToken,querystring" shape:"NextToken"`
	MaxResults *int    `wire:"maxResults,querystring" shape:"MaxResults"`
}

type ListApprovalsOutput struct {
	Approvals []Approval `wire:"approvals,required"`
	NextToken *string    `wire:"nextToken"`
}

// Approval is about one thing and one key.
type Approval struct {
	ApprovalId    string     `wire:"approvalId,required"`
	State         string     `wire:"state,required"`
	ThingName     string     `wire:"thingName,required"`
	KeyId         string     `wire:"keyId,required"` // hex SHA-256 of the public key
	TemplateName  string     `wire:"templateName,required"`
	ClaimId       string     `wire:"claimId,required"`
	CertificateId string     `wire:"certificateId,required"`
	ClientId      string     `wire:"clientId,required"`
	SourceIp      string     `wire:"sourceIp,required"`
	TraceId       string     `wire:"traceId,required"` // of the last attempt
	Attempts      int        `wire:"attempts,required"`
	Replace       bool       `wire:"replace,required"`
	DecidedBy     *string    `wire:"decidedBy"`
	CreationDate  time.Time  `wire:"creationDate,required"`
	DecisionDate  *time.Time `wire:"decisionDate"`
	Expiration    time.Time  `wire:"expiration,required"`
}

// ApproveDeviceInput lets the device have the thing, once, within a day unless validSeconds says otherwise. With replace the thing's
// other certificates end when the new one has connected.
type ApproveDeviceInput struct {
	ApprovalId   string `wire:"approvalId,required,uri" shape:"ApprovalId"`
	Replace      *bool  `wire:"replace"`
	ValidSeconds *int   `wire:"validSeconds" shape:"Seconds"`
}

type ApproveDeviceOutput struct {
	Approval Approval `wire:"approval,required"`
}

// DenyDeviceInput refuses the device, for a day unless validSeconds says otherwise; after that it may ask again.
type DenyDeviceInput struct {
	ApprovalId   string `wire:"approvalId,required,uri" shape:"ApprovalId"`
	ValidSeconds *int   `wire:"validSeconds" shape:"Seconds"`
}

type DenyDeviceOutput struct {
	Approval Approval `wire:"approval,required"`
}

func approval(s fleet.Scope, id string) []string { return []string{s.ARN("imprint", "approval/"+id)} }

func (a *api) guardRows() []wire.Row {
	return []wire.Row{
		wire.Do("PutClaimLimits", a.putClaimLimits).On(func(s fleet.Scope, in *PutClaimLimitsInput) []string { return claim(s, in.ClaimId) }),
		wire.Do("GetClaimLimits", a.getClaimLimits).On(func(s fleet.Scope, in *GetClaimLimitsInput) []string { return claim(s, in.ClaimId) }),
		wire.Do("RollClaim", a.rollClaim).On(func(s fleet.Scope, in *RollClaimInput) []string { return claim(s, in.ClaimId) }),
		wire.Do("ListApprovals", a.listApprovals),
		wire.Do("ApproveDevice", a.approveDevice).On(func(s fleet.Scope, in *ApproveDeviceInput) []string { return approval(s, in.ApprovalId) }),
		wire.Do("DenyDevice", a.denyDevice).On(func(s fleet.Scope, in *DenyDeviceInput) []string { return approval(s, in.ApprovalId) }),
	}
}

func seconds(n *int) time.Duration { return time.Duration(wire.Value(n)) * time.Second }

func (a *api) putClaimLimits(ctx context.Context, in *PutClaimLimitsInput) (*PutClaimLimitsOutput, error) {
	l := in.Limits
	return nil, a.Provision.SetLimits(ctx, scopeOf(ctx), in.ClaimId, fleet.ClaimLimits{Devices: wire.Value(l.Devices), Addresses: l.Addresses, Serials: l.Serials,
		PerMinute: wire.Value(l.RequestsPerMinute), Expires: wire.Value(l.Expiration)})
}

func (a *api) getClaimLimits(ctx context.Context, in *GetClaimLimitsInput) (*GetClaimLimitsOutput, error) {
	u, err := a.Provision.LimitsOf(ctx, scopeOf(ctx), in.ClaimId)
	if err != nil {
		return nil, err
	}
	l := u.Limits
	return &GetClaimLimitsOutput{ClaimId: in.ClaimId, Devices: u.Devices, BudgetId: u.Budget, Successor: wire.Optional(u.Successor), EndDate: when(u.Ends),
		Limits: Limits{Devices: number(l.Devices), Addresses: l.Addresses, Serials: l.Serials, RequestsPerMinute: number(l.PerMinute), Expiration: when(l.Expires)}}, nil
}

func number(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func (a *api) rollClaim(ctx context.Context, in *RollClaimInput) (*RollClaimOutput, error) {
	r, err := a.Provision.Roll(ctx, fleet.CallerFrom(ctx), in.ClaimId, seconds(in.OverlapSeconds), wire.Value(in.CertificateSigningRequest))
	if err != nil {
		return nil, err
	}
	out := &RollClaimOutput{CertificateId: r.ID, CertificateArn: scopeOf(ctx).IoT("cert", r.ID), CertificatePem: r.PEM, EndDate: r.Ends}
	if r.PrivateKeyPEM != "" {
		out.PrivateKey = &r.PrivateKeyPEM
	}
	return out, nil
}

func (a *api) listApprovals(ctx context.Context, in *ListApprovalsInput) (*ListApprovalsOutput, error) {
	state := wire.Value(in.State)
	l, err := list(ctx, in.NextToken, in.MaxResults, "ListApprovals", state)
	if err != nil {
		return nil, err
	}
	out := &ListApprovalsOutput{Approvals: []Approval{}}
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		approvals, next, err := tx.Approvals(scopeOf(ctx), fleet.ApprovalState(state), l.Page)
		for _, r := range approvals {
			out.Approvals = append(out.Approvals, approvalOut(r))
		}
		out.NextToken = l.Token(next)
		return err
	})
	return out, err
}

func approvalOut(r fleet.ApprovalRequest) Approval {
	return Approval{ApprovalId: r.ID, State: string(r.State), ThingName: r.Thing, KeyId: r.Key, TemplateName: r.Template, ClaimId: r.Principal,
		CertificateId: r.Certificate, ClientId: r.ClientID, SourceIp: r.SourceIP, TraceId: r.TraceID, Attempts: r.Attempts, Replace: r.Replace,
		DecidedBy: wire.Optional(r.DecidedBy), CreationDate: r.Created, DecisionDate: when(r.Decided), Expiration: r.Expires}
}

func (a *api) approveDevice(ctx context.Context, in *ApproveDeviceInput) (*ApproveDeviceOutput, error) {
	r, err := a.Provision.Decide(ctx, fleet.CallerFrom(ctx), in.ApprovalId, provision.Decision{Approve: true, Replace: wire.Value(in.Replace), Holds: seconds(in.ValidSeconds)})
	return &ApproveDeviceOutput{approvalOut(r)}, err
}

func (a *api) denyDevice(ctx context.Context, in *DenyDeviceInput) (*DenyDeviceOutput, error) {
	r, err := a.Provision.Decide(ctx, fleet.CallerFrom(ctx), in.ApprovalId, provision.Decision{Holds: seconds(in.ValidSeconds)})
	return &DenyDeviceOutput{approvalOut(r)}, err
}
