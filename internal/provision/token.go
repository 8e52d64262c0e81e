package provision

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
)

// An ownership token proves that whoever registers a certificate is who was given it (provisioning spec 3.6). It is sealed, so
// nobody can read, make or change one, and bound to account, region, certificate, asking principal and the claim's template.
// Clients keep it in 512 bytes; ours has about 260 characters.
type ownership struct {
	certificate string    // id
	principal   [32]byte  // hash of the requester's id
	template    string    // of the claim; "" for bootstrap certificates
	expires     time.Time // to the second
}

const (
	tokenPurpose = "ownership token"
	tokenVersion = 1
	maxToken     = 512
)

func principalHash(r Requester) [32]byte {
	kind := "certificate\x00"
	if r.IsClaim {
		kind = "claim\x00"
	}
	return sha256.Sum256([]byte(kind + r.PrincipalID))
}

// mintToken makes the token with which r may register a certificate.
func (p *Service) mintToken(r Requester, certificate, template string, expires time.Time) fleet.Secret {
	id, err := hex.DecodeString(certificate)
	if err != nil || len(id) != 32 {
		panic("provision: a certificate id is 64 hex digits") // ids come from fleet.CertificateID
	}
	principal := principalHash(r)
	b := append([]byte{tokenVersion}, id...)
	b = append(b, principal[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(expires.Unix()))
	b = append(b, template...)
	return fleet.Secret(base64.StdEncoding.EncodeToString(p.Sealer.Seal(tokenPurpose, b, []byte(r.Scope.String()))))
}

// openToken checks a token as far as that goes without the store. Errors have the code InvalidCertificateOwnershipToken.
func (p *Service) openToken(r Requester, token string) (ownership, error) {
	switch {
	case token == "":
		return ownership{}, invalidToken("Certificate ownership token cannot be empty.") // AWS's text
	case len(token) > maxToken:
		return ownership{}, invalidToken("Certificate ownership token is malformed.")
	}
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return ownership{}, invalidToken("Certificate ownership token is malformed.")
	}
	b, err := p.Sealer.Open(tokenPurpose, sealed, []byte(r.Scope.String()))
	if err != nil || len(b) < 73 || b[0] != tokenVersion {
		return ownership{}, invalidToken("Certificate ownership token is not valid here: it was changed, or is of another account or region.")
	}
	o := ownership{certificate: hex.EncodeToString(b[1:33]), principal: [32]byte(b[33:65]), template: string(b[73:]),
		expires: time.Unix(int64(binary.BigEndian.Uint64(b[65:73])), 0)}
	mine := principalHash(r)
	switch {
	case subtle.ConstantTimeCompare(o.principal[:], mine[:]) != 1:
		return ownership{}, invalidToken("Certificate ownership token belongs to another claim: register with the certificate that asked for it.")
	case !p.Clock.Now().Before(o.expires):
		return ownership{}, invalidToken("Certificate ownership token has expired: ask for a certificate again.")
	}
	return o, nil
}
