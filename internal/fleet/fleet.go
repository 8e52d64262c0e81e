// Package fleet is the vocabulary of Imprint: accounts, things, certificates, policies, templates, claims, users, roles and
// callers, with the rules that belong to a word itself (names, states, ARNs) and the one error type of the product.
//
// It imports the standard library only and knows neither JSON nor SQL. Begin with Scope, ARN and Error here and in
// error.go, then read thing.go (the registry), provisioning.go (templates and claims), and caller.go (who asks).
package fleet

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"
)

// A Scope is one account in one region. Every stored key, topic tree and cache is scoped by it: what lives in one scope can
// neither see nor name what lives in another.
type Scope struct {
	Account string // 12 decimal digits
	Region  string // for example us-east-1
}

// Partition is the ARN partition of everything we name.
const Partition = "aws"

// ARN names a resource of a regional service, for example s.ARN("iot", "thing/lamp").
func (s Scope) ARN(service, resource string) string {
	return "arn:" + Partition + ":" + service + ":" + s.Region + ":" + s.Account + ":" + resource
}

// IoT names a resource of the registry or gateway, for example s.IoT("thing", "lamp").
func (s Scope) IoT(kind, name string) string { return s.ARN("iot", kind+"/"+name) }

// IAM names a resource of the account that belongs to no region, for example s.IAM("role/service/provisioner").
func (s Scope) IAM(resource string) string {
	return "arn:" + Partition + ":iam::" + s.Account + ":" + resource
}

// Global is the scope of what belongs to an account and to no region: users, roles and policies of IAM, and their cut-offs.
func (s Scope) Global() Scope { return Scope{s.Account, "aws-global"} }

func (s Scope) String() string { return s.Account + "/" + s.Region }

// An ARN is an Amazon Resource Name taken apart.
type ARN struct{ Partition, Service, Region, Account, Resource string }

// ParseARN takes an ARN apart. ok is false if s is not of the form arn:partition:service:region:account:resource.
func ParseARN(s string) (a ARN, ok bool) {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" {
		return ARN{}, false
	}
	return ARN{p[1], p[2], p[3], p[4], p[5]}, true
}

// Kind and Name split the resource at its first slash: "thing/lamp" is ("thing", "lamp").
func (a ARN) Kind() string { k, _, _ := strings.Cut(a.Resource, "/"); return k }
func (a ARN) Name() string { _, n, _ := strings.Cut(a.Resource, "/"); return n }

// In reports whether the ARN names a resource of service in scope s. One of another partition doesn't: policies that speak of ours would not
// match it.
func (a ARN) In(s Scope, service string) bool {
	return a.Partition == Partition && a.Service == service && a.Region == s.Region && a.Account == s.Account
}

func (a ARN) String() string {
	return strings.Join([]string{"arn", a.Partition, a.Service, a.Region, a.Account, a.Resource}, ":")
}

var (
	accountID = NewPattern(`^[0-9]{12}$`)
	regionID  = NewPattern(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
)

// NewScope checks the two parts of a scope.
func NewScope(account, region string) (Scope, error) {
	if !accountID.MatchString(account) {
		return Scope{}, Invalid("account", account, "an account id is 12 decimal digits")
	}
	if !regionID.MatchString(region) {
		return Scope{}, Invalid("region", region, "a region looks like us-east-1")
	}
	return Scope{account, region}, nil
}

// A Secret is text that must never reach a log, a trace or test output. Formatting it hides it; Reveal gives the text.
type Secret string

// Reveal returns the hidden text.
func (s Secret) Reveal() string { return string(s) }

// LogValue, String and GoString hide the text from slog and fmt.
func (s Secret) LogValue() slog.Value { return slog.StringValue("[hidden]") }
func (s Secret) String() string       { return "[hidden]" }
func (s Secret) GoString() string     { return "[hidden]" }

// NewUUID returns a random (version 4) UUID in its lower-case text form (RFC 9562 section 5.4).
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand aborts the program instead
	return formatUUID(b, 4)
}

// NewTimeUUID returns a UUID that sorts by time, to the millisecond, and is random beyond that (version 7, RFC 9562 section 5.7).
func NewTimeUUID(now time.Time) string {
	var b [16]byte
	rand.Read(b[6:])
	ms := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(b[:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(ms))
	return formatUUID(b, 7)
}

func formatUUID(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	var t [36]byte
	hex.Encode(t[:8], b[:4])
	hex.Encode(t[9:13], b[4:6])
	hex.Encode(t[14:18], b[6:8])
	hex.Encode(t[19:23], b[8:10])
	hex.Encode(t[24:], b[10:])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return string(t[:])
}

// RandomString returns n characters drawn evenly from alphabet (at most 256 characters).
func RandomString(n int, alphabet string) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet) // draws at or above it would favour the first characters
	var b [64]byte
	for len(out) < n {
		rand.Read(b[:])
		for _, c := range b {
			if int(c) < limit && len(out) < n {
				out = append(out, alphabet[int(c)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// Alphabets of the identifiers that AWS services generate (identity spec 0.5).
const (
	AlphaLowerDigit = "abcdefghijklmnopqrstuvwxyz0123456789"
	AlphaBase32     = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	AlphaAlnum      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	AlphaHex        = "0123456789abcdef"
	AlphaDigits     = "0123456789"
)

// A Clock tells the time. The zero of a Clock field means time.Now.
type Clock func() time.Time

// Now returns the clock's time, or the system's if c is nil, in UTC.
func (c Clock) Now() time.Time {
	if c == nil {
		return time.Now().UTC()
	}
	return c().UTC()
}

// A Tag is a key and a value put on a resource by its owner.
type Tag struct{ Key, Value string }

// A Page asks for part of a list. The zero Page asks for everything from the start.
type Page struct {
	After string // the last key of the page before; empty for the first page
	Limit int    // at most so many entries; 0 is no limit
	Desc  bool   // newest or highest key first
}
