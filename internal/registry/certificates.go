package registry

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// IssuedCertificate is a new certificate with its keys, if they are ours. The private key is in no other place.
type IssuedCertificate struct {
	fleet.Certificate
	PublicKeyPEM  string
	PrivateKeyPEM fleet.Secret
}

// CreateKeysAndCertificate makes an RSA-2048 key pair and a certificate for it.
func (r *Service) CreateKeysAndCertificate(ctx context.Context, s fleet.Scope, active bool) (IssuedCertificate, error) {
	key, err := r.Keys.Key(ctx, pki.RSA2048)
	if err != nil {
		return IssuedCertificate{}, err
	}
	private, err := pki.PrivateKeyPEM(key)
	if err != nil {
		return IssuedCertificate{}, fmt.Errorf("encoding a new key: %w", err)
	}
	public, err := pki.PublicKeyPEM(key.Public())
	if err != nil {
		return IssuedCertificate{}, fmt.Errorf("encoding a new key: %w", err)
	}
	c, err := r.issue(ctx, s, key.Public(), nil, active)
	return IssuedCertificate{Certificate: c, PublicKeyPEM: public, PrivateKeyPEM: private}, err
}

// CreateCertificateFromCSR makes a certificate for the key of a PEM certificate signing request. The same request gives
// another certificate each time.
func (r *Service) CreateCertificateFromCSR(ctx context.Context, s fleet.Scope, request string, active bool) (fleet.Certificate, error) {
	csr, err := pki.ParseCSR(request)
	if err != nil {
		return fleet.Certificate{}, err
	}
	return r.issue(ctx, s, csr.PublicKey, csr.Subject, active)
}

func (r *Service) issue(ctx context.Context, s fleet.Scope, public crypto.PublicKey, subject []byte, active bool) (fleet.Certificate, error) {
	leaf, err := r.Authority.IssueDevice(pki.DeviceRequest{PublicKey: public, Subject: subject})
	if err != nil {
		return fleet.Certificate{}, err
	}
	status := fleet.Inactive
	if active {
		status = fleet.Active
	}
	var c fleet.Certificate
	err = r.Store.Tx(ctx, func(tx *store.Tx) error {
		c = newCertificate(tx.Now(), leaf.ID, leaf.PEM, status, leaf.NotBefore, leaf.NotAfter)
		c.Origin.Requester = fleet.CallerFrom(ctx).ARN
		return tx.CreateCertificate(s, c)
	})
	return c, err
}

func newCertificate(now time.Time, id, text string, status fleet.CertificateStatus, notBefore, notAfter time.Time) fleet.Certificate {
	return fleet.Certificate{ID: id, PEM: text, Status: status, Mode: fleet.ModeDefault, NotBefore: notBefore, NotAfter: notAfter,
		Created: now, Modified: now, Version: 1, Generation: fleet.NewUUID()}
}

// RegisterWithoutCA registers a certificate that somebody else issued. It can connect with the right server name only
// (iot-core spec 3.5). status is ACTIVE, INACTIVE, REVOKED, or "" for INACTIVE.
func RegisterWithoutCA(tx *store.Tx, s fleet.Scope, text string, status fleet.CertificateStatus) (fleet.Certificate, error) {
	return registerForeign(tx, s, text, status, func(*x509.Certificate) (fleet.CA, error) { return fleet.CA{Mode: fleet.ModeSNIOnly}, nil })
}

// registerForeign registers a certificate that we have not issued. signer says which CA has, as far as that is known.
func registerForeign(tx *store.Tx, s fleet.Scope, text string, status fleet.CertificateStatus, signer func(*x509.Certificate) (fleet.CA, error)) (c fleet.Certificate, err error) {
	if status == "" {
		status = fleet.Inactive
	}
	if err := checkSettable(status); err != nil {
		return c, err
	}
	cert, err := pki.ParseCertificatePEM(text)
	if err != nil {
		return c, err
	}
	if err := pki.CheckRegistrable(cert); err != nil {
		return c, err
	}
	ca, err := signer(cert)
	if err != nil {
		return c, err
	}
	c = NewForeign(tx.Now(), cert, ca, status)
	if err := tx.CreateCertificate(s, c); err != nil {
		if fleet.KindOf(err) == fleet.KindExists {
			err = exists(c.ID, s.IoT("cert", c.ID), "The certificate is already provisioned or registered")
		}
		return fleet.Certificate{}, err
	}
	return c, nil
}

// NewForeign makes the record of a certificate that somebody else has signed: a customer's CA, or one of which only the mode is known.
func NewForeign(now time.Time, cert *x509.Certificate, ca fleet.CA, status fleet.CertificateStatus) fleet.Certificate {
	c := newCertificate(now, fleet.CertificateID(cert.Raw), pki.CertificatePEM(cert.Raw), status, cert.NotBefore, cert.NotAfter)
	c.Mode, c.CAID = ca.Mode, ca.ID
	return c
}

// checkSettable checks that a status is one that users may ask for.
func checkSettable(status fleet.CertificateStatus) error {
	switch status {
	case fleet.Active, fleet.Inactive, fleet.Revoked:
		return nil
	}
	return fleet.Invalid("certificate status", string(status), "cannot be set; ACTIVE, INACTIVE and REVOKED can")
}

// SetCertificateStatus changes the status of a certificate. The same status again is no error; from REVOKED there is no way
// back (provisioning spec 9.1).
func SetCertificateStatus(tx *store.Tx, s fleet.Scope, id string, status fleet.CertificateStatus) error {
	if err := checkSettable(status); err != nil {
		return err
	}
	c, err := tx.Certificate(s, id)
	if err != nil {
		return err
	}
	return changeStatus(tx, s, c, status)
}

func changeStatus(tx *store.Tx, s fleet.Scope, c fleet.Certificate, status fleet.CertificateStatus) error {
	if c.Status == status {
		return nil
	}
	if c.Status == fleet.Revoked || c.Status == fleet.PendingTransfer {
		return fleet.BadState("certificate", c.ID, "is %s; it cannot become %s", c.Status, status)
	}
	return setStatus(tx, s, c, status)
}

func setStatus(tx *store.Tx, s fleet.Scope, c fleet.Certificate, status fleet.CertificateStatus) error {
	c.Status, c.Modified, c.Version = status, tx.Now(), c.Version+1
	c.Origin.Expires = time.Time{} // it has left its pending state
	return tx.UpdateCertificate(s, c)
}

// DeleteCertificate deletes a certificate that is not active, has no thing and, unless forced, no policy.
func DeleteCertificate(tx *store.Tx, s fleet.Scope, id string, force bool) error {
	c, err := tx.Certificate(s, id)
	if err != nil {
		return err
	}
	arn := s.IoT("cert", id)
	switch c.Status {
	case fleet.Active:
		return exact(fleet.KindState, "Certificate must be deactivated (not ACTIVE) before deletion. Id: %s", id)
	case fleet.PendingTransfer:
		return exact(fleet.KindState, "Certificate is being transferred; accept, reject or cancel that before deletion. Id: %s", id)
	}
	things, _, err := tx.ThingsOf(s, arn, "", fleet.Page{Limit: 1})
	if err != nil {
		return err
	}
	if len(things) > 0 {
		return exact(fleet.KindInUse, "Things must be detached before deletion (arn: %s)", arn)
	}
	n, err := tx.CountPolicies(s, arn)
	if err != nil {
		return err
	}
	if n > 0 && !force {
		return exact(fleet.KindInUse, "Certificate policies must be detached before deletion (arn: %s)", arn)
	}
	if err := tx.ForgetBootstrap(s, id); err != nil {
		return err
	}
	return tx.DeleteCertificate(s, id)
}
