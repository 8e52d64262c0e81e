package provision

import (
	"context"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
	"github.com/imprint-iot/imprint/internal/trace"
)

// An IssuedCertificate is the answer to a request for a certificate (provisioning spec 3.3, 3.4). It may be registered with
// Token until the hour is over, and by nobody else.
type IssuedCertificate struct {
	ID            string
	PEM           string
	PrivateKeyPEM fleet.Secret // "" if the key is the device's own
	Token         fleet.Secret
}

// CreateKeysAndCertificate makes a key, RSA-2048 unless the template says otherwise, and a pending certificate for it. The key
// is in the answer and nowhere else. Errors carry MQTT codes, see Refusal.
func (p *Service) CreateKeysAndCertificate(ctx context.Context, r Requester) (*IssuedCertificate, error) {
	r.facts()
	out, err := p.createWithKey(ctx, r)
	return out, p.refusal(err)
}

func (p *Service) createWithKey(ctx context.Context, r Requester) (*IssuedCertificate, error) {
	if err := p.rates.admit(r, opKeys); err != nil {
		return nil, err
	}
	var st standing
	if err := p.Store.View(ctx, func(tx *store.Tx) (err error) { // before the costly key
		if st, err = p.stand(tx, r, true); err == nil {
			err = p.room(tx, r, st)
		}
		if err == nil {
			err = p.shape(tx, r, &st)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := p.rates.claim(r, st.limits); err != nil {
		return nil, err
	}
	key, err := p.Keys.Key(ctx, st.key)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	private, err := pki.PrivateKeyPEM(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	leaf, err := p.Authority.IssueDevice(pki.DeviceRequest{PublicKey: key.Public(), Validity: st.validity})
	if err != nil {
		return nil, err
	}
	c, err := p.keepPending(ctx, r, st, leaf, "")
	if err != nil {
		return nil, err
	}
	out := p.answer(r, st, c)
	out.PrivateKeyPEM = private
	return out, nil
}

// CreateCertificateFromCSR makes a pending certificate for the key of a PEM certificate signing request. The same request on
// the same claim returns the same certificate while that can be registered, or its registration repeated: a device that lost
// power just asks again. Errors carry MQTT codes, see Refusal.
func (p *Service) CreateCertificateFromCSR(ctx context.Context, r Requester, request string) (*IssuedCertificate, error) {
	r.facts()
	out, err := p.createFromCSR(ctx, r, request)
	return out, p.refusal(err)
}

func (p *Service) createFromCSR(ctx context.Context, r Requester, request string) (*IssuedCertificate, error) {
	if err := p.rates.admit(r, opCSR); err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(request)
	if err != nil {
		return nil, err
	}
	r.Trace.Step("csr", "a key of type %T, request %s…", csr.PublicKey, csr.Hash[:12])
	var st standing
	if err := p.Store.View(ctx, func(tx *store.Tx) error {
		if st, err = p.stand(tx, r, true); err == nil {
			err = p.shape(tx, r, &st)
		}
		return err
	}); err != nil {
		return nil, err
	}
	if err := p.rates.claim(r, st.limits); err != nil {
		return nil, err
	}
	leaf, err := p.Authority.IssueDevice(pki.DeviceRequest{PublicKey: csr.PublicKey, Subject: csr.Subject, Validity: st.validity})
	if err != nil {
		return nil, err
	}
	c, err := p.keepPending(ctx, r, st, leaf, csr.Hash)
	if err != nil {
		return nil, err
	}
	return p.answer(r, st, c), nil
}

// answer mints the token for a certificate that may be registered until its Origin.Expires.
func (p *Service) answer(r Requester, st standing, c *fleet.Certificate) *IssuedCertificate {
	return &IssuedCertificate{ID: c.ID, PEM: c.PEM, Token: p.mintToken(r, c.ID, st.template, c.Origin.Expires)}
}

// existing finds the certificate that r has got for the CSR before; its Origin.Expires is until when its token is good. nil if
// there is none.
func existing(tx *store.Tx, r Requester, csrHash string) (*fleet.Certificate, error) {
	c, until, found, err := tx.CertificateOfCSR(r.Scope, r.PrincipalID, csrHash, tx.Now())
	if !found || err != nil {
		return nil, err
	}
	c.Origin.Expires = until
	r.Trace.Fact("certificateId", c.ID)
	r.Trace.Step("certificate", "the same request was answered before: certificate %s again", c.ID)
	return &c, nil
}

// keepPending stores a certificate that waits for its registration. Two requests with the same CSR at the same time get the
// certificate of the first.
func (p *Service) keepPending(ctx context.Context, r Requester, st standing, leaf *pki.Leaf, csrHash string) (out *fleet.Certificate, err error) {
	generation := fleet.NewUUID()
	mark := r.Trace.Mark()
	err = p.Store.Tx(ctx, func(tx *store.Tx) error {
		r.Trace.Rewind(mark)
		st, err := p.stand(tx, r, true)
		if err != nil {
			return err
		}
		if out, err = existing(tx, r, csrHash); err != nil {
			return err
		}
		if out != nil {
			return keepTrace(tx, r.Trace)
		}
		if err := p.room(tx, r, st); err != nil {
			return err
		}
		now := tx.Now()
		c := fleet.Certificate{ID: leaf.ID, PEM: leaf.PEM, Status: fleet.PendingActivation, Mode: fleet.ModeDefault,
			NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Created: now, Modified: now, Version: 1, Generation: generation,
			Origin: fleet.CertificateOrigin{ClaimID: r.PrincipalID, Requester: st.requester, Template: st.template, CSRHash: csrHash,
				Expires: now.Add(fleet.TokenLifetime).Truncate(time.Second)}}
		if err := tx.CreateCertificate(r.Scope, c); err != nil {
			return err
		}
		out = &c
		r.Trace.Fact("certificateId", c.ID)
		r.Trace.Step("certificate", "%s is issued, to be registered by %s", c.ID, c.Origin.Expires.Format(time.RFC3339))
		tx.ExpectPending(r.Scope, c)
		return keepTrace(tx, r.Trace)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// keepTrace stores the trace of a success in the transaction that makes it one.
func keepTrace(tx *store.Tx, t *trace.Trace) error {
	if t == nil {
		return nil
	}
	record, subjects := t.Finish(nil)
	return tx.PutTrace(t.Scope, record, subjects)
}
