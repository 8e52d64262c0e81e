package fleet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Unlimited is a number of devices without a bound, where silence would mean a default.
const Unlimited = -1

// ClaimLimits narrow what may be done with a temporary claim or with a registered certificate that serves as a shared claim. Zero
// fields narrow nothing.
type ClaimLimits struct {
	Devices   int       // registrations other than renewals; Unlimited in place of a default
	Addresses []string  // networks from which it may be used, as netip.Prefix writes them
	Serials   []string  // serial numbers or thing names that may be registered
	PerMinute int       // requests
	Expires   time.Time // of a bootstrap certificate: for provisioning alone, its own end may be later
}

// IsZero reports whether nothing is narrowed.
func (l ClaimLimits) IsZero() bool {
	return l.Devices == 0 && len(l.Addresses) == 0 && len(l.Serials) == 0 && l.PerMinute == 0 && l.Expires.IsZero()
}

// MayFrom reports whether an address, as in Caller.SourceIP, is in one of the networks.
func (l ClaimLimits) MayFrom(address string) bool {
	if len(l.Addresses) == 0 {
		return true
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(l.Addresses, func(network string) bool {
		p, err := netip.ParsePrefix(network)
		return err == nil && p.Contains(ip.Unmap().WithZone(""))
	})
}

// ParseNetworks reads networks like 192.0.2.0/24 and addresses, separated by blanks, into their usual form.
func ParseNetworks(text string) ([]string, error) {
	var out []string
	for _, word := range strings.Fields(text) {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			ip, err := netip.ParseAddr(word)
			if err != nil || ip.Zone() != "" {
				return nil, fmt.Errorf("%.60q is neither an address like 192.0.2.7 nor a network like 192.0.2.0/24", word)
			}
			p = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("%.60q: write IPv4 networks as such", word)
		}
		if network := p.Masked().String(); !slices.Contains(out, network) {
			out = append(out, network)
		}
	}
	if out == nil {
		return nil, fmt.Errorf("the list of networks is empty")
	}
	return out, nil
}

// CommonNetworks returns the networks that lie in one of each list.
func CommonNetworks(a, b []string) (out []string) {
	for _, x := range a {
		for _, y := range b {
			p, err1 := netip.ParsePrefix(x)
			q, err2 := netip.ParsePrefix(y)
			if err1 != nil || err2 != nil || !p.Overlaps(q) {
				continue
			}
			if q.Bits() > p.Bits() {
				p = q
			}
			if !slices.Contains(out, p.String()) {
				out = append(out, p.String())
			}
		}
	}
	return out
}

// A Bootstrap is what is said of a registered certificate that serves as a shared claim.
type Bootstrap struct {
	Certificate string // id
	// Budget names the count of devices: the id of the first certificate of those that were rolled one into the other. They share it.
	Budget    string
	Limits    ClaimLimits
	Successor string    // id of the certificate that it was rolled into
	Ends      time.Time // when it is deactivated; zero: not planned
	Modified  time.Time
}

// ApprovalState is where a request for an operator's approval is.
type ApprovalState string

const (
	ApprovalPending  ApprovalState = "PENDING"
	ApprovalApproved ApprovalState = "APPROVED" // good for one registration
	ApprovalDenied   ApprovalState = "DENIED"
	ApprovalUsed     ApprovalState = "USED"
)

// An ApprovalRequest is a device that asks for a thing that belongs to another one. It is about this thing and this key and nothing
// else.
type ApprovalRequest struct {
	ID          string // sorts by time
	Thing       string
	Key         string // hex SHA-256 of the public key's SubjectPublicKeyInfo
	State       ApprovalState
	Template    string
	Principal   string // claim or certificate id that asked
	Certificate string // that was to be registered, the last one
	ClientID    string
	SourceIP    string
	TraceID     string // of the last attempt
	Attempts    int
	Replace     bool   // an approval that ends the thing's other certificates
	DecidedBy   string // ARN
	Created     time.Time
	Decided     time.Time
	Expires     time.Time
}
