package pki

import (
	"net"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Old apps have host names of AWS built in. Where the DNS of a site leads those here, the server needs a certificate for them, and
// browsers a root to trust. Whoever has that root's key can play AWS to these browsers, so it is a root of its own that signs for
// nothing else, and constrained (RFC 5280 section 4.2.1.10): the root to AWS's domain, the issuer below it to the very names that
// are served. Both are critical, which costs nothing here: no device pins it.
// RFC 5280 does not oblige clients to heed the constraints of a root itself. Go and OpenSSL do (awsnames_test.go); of browsers that was not
// tried, and the issuer's count without.

const awsDomain = "amazonaws.com"

func (a *Authority) awsNamesPlans() []plan {
	return []plan{
		{role: roleAWSNamesRoot, profile: &rootProfile, key: P256, name: "O=Imprint, CN=Imprint Root for names of AWS", permit: []string{awsDomain}},
		{role: roleAWSNames, parent: roleAWSNamesRoot, profile: &serverIssuerProfile, key: P256, name: "O=Imprint, CN=Imprint CA for names of AWS",
			permit: slices.Clone(a.cfg.AWSNames)},
	}
}

// AWSNamesRootsPEM returns the roots that browsers need which the site's DNS leads here for host names of AWS, newest last.
func (a *Authority) AWSNamesRootsPEM() string { return a.pem(roleAWSNamesRoot) }

// addNameConstraints permits DNS names and those below them, and excludes all addresses. A name of a kind that no subtree
// mentions would be free; server certificates have no other.
func addNameConstraints(b *cryptobyte.Builder, permit []string) {
	const dNSName, iPAddress = 2, 7 // of GeneralName
	subtree := func(b *cryptobyte.Builder, kind uint8, value []byte) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(kind).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(value) })
		})
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, name := range permit {
				subtree(b, dNSName, []byte(name))
			}
		})
		b.AddASN1(cbasn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, size := range []int{net.IPv4len, net.IPv6len} {
				subtree(b, iPAddress, make([]byte, 2*size)) // address and mask: all
			}
		})
	})
}
