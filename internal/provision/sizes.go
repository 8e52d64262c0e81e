package provision

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"math/big"
	"strings"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/reserved"
	"github.com/imprint-iot/imprint/internal/template"
	"github.com/imprint-iot/imprint/internal/wire"
)

// pkcs1Longest is how long the DER of an RSA-2048 private key can be (RFC 8017 appendix A.1.2): the modulus and the exponent of 256 bytes,
// five numbers of 128 bytes, each with a leading zero, and what surrounds them.
const pkcs1Longest = 4 + 3 + 5 + 2*(4+257) + 5*(3+129)

// sampleRSA is a public key of a size to which nobody has the private key.
func sampleRSA(bits uint) *rsa.PublicKey {
	k := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), bits-1), E: 65537}
	for k.N.SetBit(k.N, 0, 1); pki.CheckPublicKey(k) != nil; {
		k.N.Add(k.N, big.NewInt(2))
	}
	return k
}

// AnswerSizes measures the largest packets that bring the answers of a provisioning to a device, by the encoders that write them. d is what
// a registration comes to, nil to leave its answer out; it counts as it is. A CSR without a subject is meant: one adds its length.
func (p *Service) AnswerSizes(s fleet.Scope, name string, d *template.Desired) ([]template.AnswerSize, error) {
	ec256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ec384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rsa2048 := sampleRSA(2048)
	private := fleet.Secret(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: make([]byte, pkcs1Longest)}))
	var out []template.AnswerSize
	for _, c := range []struct {
		operation reserved.Operation
		keys      string
		public    crypto.PublicKey
		private   *fleet.Secret
	}{
		{reserved.Create, "RSA-2048", rsa2048, &private},
		{reserved.CreateFromCSR, "P-256", ec256.Public(), nil}, {reserved.CreateFromCSR, "P-384", ec384.Public(), nil},
		{reserved.CreateFromCSR, "RSA-2048", rsa2048, nil}, {reserved.CreateFromCSR, "RSA-4096", sampleRSA(4096), nil},
	} {
		leaf, err := p.Authority.MeasureDevice(pki.DeviceRequest{PublicKey: c.public})
		if err != nil {
			return nil, err
		}
		token := p.mintToken(Requester{Scope: s, PrincipalID: leaf.ID, IsClaim: true}, leaf.ID, name, time.Unix(0, 0))
		sizes, err := answerSizes(c.operation, c.keys, name, &reserved.CreateAccepted{ID: leaf.ID, PEM: leaf.PEM, PrivateKey: c.private, Token: token})
		if err != nil {
			return nil, err
		}
		out = append(out, sizes...)
	}
	if d == nil {
		return out, nil
	}
	answer := &reserved.RegisterAccepted{Configuration: d.Configuration}
	if d.Thing != nil {
		answer.ThingName = &d.Thing.Name
	}
	sizes, err := answerSizes(reserved.Register, "", name, answer)
	return append(out, sizes...), err
}

func answerSizes(o reserved.Operation, keys, name string, answer any) (out []template.AnswerSize, err error) {
	if name == "" { // not known yet: the longest that there can be
		name = strings.Repeat("x", 36)
	}
	for _, f := range reserved.Formats {
		a := template.AnswerSize{Operation: o.String(), Keys: keys, Format: string(f), Own: o == reserved.CreateFromCSR}
		for i, version := range []int{4, 5} {
			if a.Bytes[i], err = reserved.AnswerSize(version, o, name, wire.Format(f), answer); err != nil {
				return nil, err
			}
		}
		out = append(out, a)
	}
	return out, nil
}
