// Package admission holds the budgets for work that strangers cause: handshakes, requests and sign-ins of somebody who has proven
// nothing yet. It keeps a flood of one kind of work from taking the processor, the memory or the sockets of everything else, and
// it does so fairly by address, so that whoever floods stands in their own way first.
//
// Three parts, each useful alone. A Meter says whose work has been in vain of late. A Queue lets few compute at a time, address by
// address in turn, those in good standing first. A Room holds the connections of which nothing is known yet, and when it is full
// asks the oldest of the most numerous to leave. Begin with Door, which puts the three before a listener.
//
// Everything is counted by Address: one IPv4 address, or the 64 bits of an IPv6 address that stand for one network. A factory of
// thousands of devices has one: therefore work that was worth it is never counted, and in a queue nobody is refused for their
// address alone.
package admission

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An Address is whom work is charged to. The zero Address stands for everybody whose address is unknown.
type Address struct{ ip netip.Addr }

// AddressOf returns the address of a host, as in fleet.Caller.SourceIP.
func AddressOf(host string) Address {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return Address{}
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		ip = netip.PrefixFrom(ip, 64).Masked().Addr()
	}
	return Address{ip}
}

// AddressOfConn returns the address of a connection's other end.
func AddressOfConn(a net.Addr) Address {
	if t, ok := a.(*net.TCPAddr); ok {
		return AddressOf(t.AddrPort().Addr().String())
	}
	return Address{}
}

// ParseTrusted reads the networks and addresses that no budget by address holds for.
func ParseTrusted(list []string) (out []netip.Prefix, err error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			ip, err2 := netip.ParseAddr(text)
			if err2 != nil {
				return nil, fmt.Errorf("%q is neither an address like 192.0.2.7 nor a network like 192.0.2.0/24", text)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("%q: write IPv4 networks as such", text)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Refused is the answer to whoever finds a budget used up: try again after that time.
func Refused(what string, after time.Duration) *fleet.Error {
	return &fleet.Error{Kind: fleet.KindThrottled, Msg: "Rate exceeded: " + what, RetryAfter: max(after, time.Second)}
}
