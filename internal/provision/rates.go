package provision

import (
	"math"
	"net/netip"
	"time"

	"github.com/imprint-iot/imprint/internal/admission"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/trace"
)

// Reasons of refusals by limits (fleet.Error.Reason). They are the budgets in the metrics, too.
const (
	ReasonClaimRate    = "provisioning_claim"   // requests of one claim or certificate
	ReasonAddressRate  = "provisioning_address" // … of one address
	ReasonAccountRate  = "provisioning_account" // … of one account
	ReasonAWSRate      = "provisioning_aws"     // AWS's own rates
	ReasonClaimPending = "claim_pending"        // certificates that wait for their registration
	ReasonClaimDevices = "claim_devices"        // devices that a claim may register
	ReasonClaimAddress = "claim_address"        // where a claim may be used
	ReasonClaimExpired = "claim_expired"
	ReasonClaimTag     = "claim_tag" // the installer's session says something that can't be understood
	ReasonQueueFull    = "approval_queue"
)

// budgets are the reasons that the metrics count, beside those of package template.
var budgets = map[string]bool{ReasonClaimRate: true, ReasonAddressRate: true, ReasonAccountRate: true, ReasonAWSRate: true, ReasonClaimPending: true,
	ReasonClaimDevices: true, ReasonClaimAddress: true, ReasonQueueFull: true}

// Rates bound how many requests are served: each a token bucket. Zero rates are no bound. A request is a certificate that is asked
// for, or a registration: two for each device.
type Rates struct {
	Claim   admission.Rate // of each claim or certificate
	Address admission.Rate // of each address but this machine's and those that are trusted
	Account admission.Rate // of each account, claims that are asked for included

	// AWS are the rates of each account for the operations below: AWS's quotas (provisioning spec 10.1).
	AWS map[string]admission.Rate

	Trusted []netip.Prefix // addresses that no rate by address holds for
}

// Operations of Rates.AWS.
const (
	opClaim    = "CreateProvisioningClaim"
	opKeys     = "CreateKeysAndCertificate"
	opCSR      = "CreateCertificateFromCsr"
	opRegister = "RegisterThing"
)

// AWSRates are AWS's own (provisioning spec 10.1).
func AWSRates() map[string]admission.Rate {
	per := func(n float64) admission.Rate { return admission.Rate{PerSecond: n, Burst: n} }
	return map[string]admission.Rate{opClaim: per(10), opKeys: per(10), opCSR: per(200), opRegister: per(10)}
}

// rates is the state of Rates.
type rates struct {
	Rates
	claims    *admission.Buckets[string]
	addresses *admission.Buckets[admission.Address]
	accounts  *admission.Buckets[fleet.Scope]
	aws       *admission.Buckets[operation]
	own       *admission.Buckets[string] // limits of single claims
}

type operation struct {
	scope fleet.Scope
	name  string
}

func newRates(r Rates, clock fleet.Clock) *rates {
	return &rates{r, admission.NewBuckets[string](clock), admission.NewBuckets[admission.Address](clock), admission.NewBuckets[fleet.Scope](clock),
		admission.NewBuckets[operation](clock), admission.NewBuckets[string](clock)}
}

// admit charges a request to its claim, its address and its account. The narrowest comes first, so that whoever has used up their
// own takes nothing from others.
func (b *rates) admit(r Requester, op string) error {
	if wait := b.claims.Take(r.Scope.String()+"/"+r.PrincipalID, b.Claim); wait > 0 {
		return tooFast(r.Trace, ReasonClaimRate, "this claim is used too fast", "spread the devices over more time or more claims, or raise --limit-provisioning-claim", wait)
	}
	if ip, err := netip.ParseAddr(r.SourceIP); err == nil && !b.trusts(ip.Unmap()) {
		if wait := b.addresses.Take(admission.AddressOf(r.SourceIP), b.Address); wait > 0 {
			return tooFast(r.Trace, ReasonAddressRate, "too many devices are provisioned from this address",
				"spread the devices over more time, raise --limit-provisioning, or list the address in --trusted-addresses", wait)
		}
	}
	return b.account(r.Trace, r.Scope, op)
}

// account charges a request to its account.
func (b *rates) account(t *trace.Trace, s fleet.Scope, op string) error {
	if wait := b.accounts.Take(s, b.Account); wait > 0 {
		return tooFast(t, ReasonAccountRate, "too many devices are provisioned in this account", "spread the devices over more time, or raise --limit-provisioning-account", wait)
	}
	if wait := b.aws.Take(operation{s, op}, b.AWS[op]); wait > 0 {
		return tooFast(t, ReasonAWSRate, op+" is called faster than AWS allows", "call it more slowly, or leave out --limits aws", wait)
	}
	return nil
}

// claim charges a request to a claim that has a limit of its own.
func (b *rates) claim(r Requester, l fleet.ClaimLimits) error {
	if l.PerMinute == 0 {
		return nil
	}
	n := float64(l.PerMinute)
	if wait := b.own.Take(r.Scope.String()+"/"+r.PrincipalID, admission.Rate{PerSecond: n / 60, Burst: n}); wait > 0 {
		return tooFast(r.Trace, ReasonClaimRate, "this claim is used too fast", "raise the limit of the claim: imprint claim limits "+r.PrincipalID+" --per-minute N", wait)
	}
	return nil
}

func (b *rates) trusts(ip netip.Addr) bool {
	if ip.IsLoopback() { // clients on this machine, and tunnels that end here, are not one address's devices
		return true
	}
	for _, p := range b.Trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func tooFast(t *trace.Trace, reason, what, cure string, wait time.Duration) error {
	t.SetCure("%s", cure)
	e := admission.Refused(what+". Try again later", wait)
	e.Reason = reason
	return e
}

// RetryAfter returns how many seconds a refused device should wait, 0 if waiting is of no use.
func RetryAfter(e *fleet.Error) int { return int(math.Ceil(e.RetryAfter.Seconds())) }
