package registry

import (
	"crypto/x509"

	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/pki"
	"github.com/imprint-iot/imprint/internal/store"
)

// maxCAsOfSubject is how many CAs of one subject a scope may have (provisioning spec 7.1).
const maxCAsOfSubject = 10

// RegistrationCode returns the code that whoever registers a CA has to have signed by it. The first call makes it; it stays until it
// is deleted.
func RegistrationCode(tx *store.Tx, s fleet.Scope, fresh string) (string, error) {
	code, err := tx.RegistrationCode(s)
	if err != nil || code != "" {
		return code, err
	}
	return tx.CreateRegistrationCode(s, fresh)
}

// NewCA makes the record of a CA that passed pki.CheckCA.
func NewCA(cert *x509.Certificate) (fleet.CA, error) {
	text := pki.CertificatePEM(cert.Raw)
	key, err := pki.KeyID(text)
	return fleet.CA{ID: fleet.CertificateID(cert.Raw), PEM: text, Subject: pki.NameID(cert.RawSubject), Key: key, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
		Status: fleet.Inactive, Mode: fleet.ModeDefault, Version: 1, Generation: fleet.NewUUID()}, err
}

// RegisterCA adds a CA. In mode DEFAULT, whose keeper has proven to hold its key, it belongs to one account of a region; that others have
// it with SNI_ONLY, which takes no proof, keeps nobody from it. Errors are of KindExists and KindLimit.
func RegisterCA(tx *store.Tx, s fleet.Scope, c fleet.CA, tags []fleet.Tag) (fleet.CA, error) {
	everywhere, err := tx.CAsByID(s.Region, c.ID)
	if err != nil {
		return c, err
	}
	for _, other := range everywhere {
		if other.Scope == s || other.Mode == fleet.ModeDefault {
			return c, exists(c.ID, s.IoT("cacert", c.ID), "The CA certificate is already registered")
		}
	}
	same, err := tx.CAsBySubject(s.Account, s.Region, c.Subject)
	if err != nil {
		return c, err
	}
	if len(same) >= maxCAsOfSubject {
		return c, fleet.OverLimit("CA certificate", c.ID, "would be one too many: %d CAs with this subject are registered, and no more may be", maxCAsOfSubject)
	}
	c.Created, c.Modified = tx.Now(), tx.Now()
	if err := tx.CreateCA(s, c); err != nil {
		return c, err
	}
	return c, PutNewTags(tx, s, "cacert/"+c.ID, tags)
}

// DeleteCA removes a CA that is not active. What it has signed stays.
func DeleteCA(tx *store.Tx, s fleet.Scope, id string) error {
	c, err := tx.CA(s, id)
	if err != nil {
		return err
	}
	if c.Status == fleet.Active {
		return exact(fleet.KindState, "CA certificate must be deactivated (not ACTIVE) before deletion. Id: %s", id)
	}
	return tx.DeleteCA(s, id)
}

// SigningCA finds the registered CA that has signed a certificate: the one of caText, which must be given where several have the
// subject, and must be ACTIVE (iot-core spec 3.5).
func SigningCA(tx *store.Tx, s fleet.Scope, cert *x509.Certificate, caText string) (fleet.CA, error) {
	ca, err := signingCA(tx, s, cert, caText)
	if err == nil && ca.Status != fleet.Active {
		err = exact(fleet.KindState, "The CA certificate must be ACTIVE before certificates that it has signed can be registered. Id: %s", ca.ID)
	}
	return ca, err
}

func signingCA(tx *store.Tx, s fleet.Scope, cert *x509.Certificate, caText string) (fleet.CA, error) {
	if caText != "" {
		named, err := pki.ParseCertificatePEM(caText)
		if err != nil {
			return fleet.CA{}, err
		}
		ca, err := tx.CA(s, fleet.CertificateID(named.Raw))
		if missing(err) {
			return ca, unsigned("CA certificate", fleet.CertificateID(named.Raw), "is not registered: register it first with RegisterCACertificate")
		}
		if err != nil {
			return ca, err
		}
		return ca, pki.CheckSignedBy(cert, named)
	}
	same, err := tx.CAsBySubject(s.Account, s.Region, pki.NameID(cert.RawIssuer))
	if err != nil {
		return fleet.CA{}, err
	}
	var signers []fleet.CA
	var why error
	for _, c := range same {
		known, err := pki.ParseCertificatePEM(c.PEM)
		if err == nil {
			err = pki.CheckSignedBy(cert, known)
		}
		if err == nil {
			signers = append(signers, c.CA)
		}
		why = err
	}
	switch {
	case len(same) == 0:
		return fleet.CA{}, unsigned("", "", "No CA that is registered here has signed the certificate: its issuer is %q. Register that CA, or use RegisterCertificateWithoutCA", cert.Issuer)
	case len(signers) > 1: // of one key
		return fleet.CA{}, &fleet.Error{Kind: fleet.KindConflict, Code: "CertificateConflictException",
			Msg: "Unable to tell which CA has signed the certificate: several registered CAs have its issuer's subject and public key. Give caCertificatePem"}
	case len(same) > 1:
		return fleet.CA{}, fleet.Invalid("", "", "Several registered CAs have the subject %q: give caCertificatePem", cert.Issuer)
	case len(signers) == 0:
		return fleet.CA{}, why
	}
	return signers[0], nil
}

func unsigned(resource, name, format string, args ...any) error {
	return fleet.Invalid(resource, name, format, args...).WithCode("CertificateValidationException")
}

// RegisterCertificate registers a certificate that a registered CA has signed (SigningCA); it gets the mode of the CA. status is as
// for RegisterWithoutCA.
func RegisterCertificate(tx *store.Tx, s fleet.Scope, text, caText string, status fleet.CertificateStatus) (fleet.Certificate, error) {
	return registerForeign(tx, s, text, status, func(cert *x509.Certificate) (fleet.CA, error) { return SigningCA(tx, s, cert, caText) })
}
