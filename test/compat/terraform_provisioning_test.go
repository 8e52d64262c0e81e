package compat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// The calls of the provider for templates, CAs and certificates that come from elsewhere, as in
// TestTerraformsResourcesOfTheRegistryHaveNoDrift.
func TestTerraformsTemplatesAndCAsHaveNoDrift(t *testing.T) {
	t.Parallel()
	admin := ownServer(t).adminSDK(t)
	p := provider{t, admin, admin.iot}
	for _, name := range []string{"one", "two"} {
		_, err := admin.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
		check(t, err)
	}
	p.provisioningTemplate(iottypes.TemplateTypeFleetProvisioning)
	p.provisioningTemplate("") // which is what is not said
	ca := newSigner(t)
	p.caCertificate(ca)
	p.caWithoutProof(newSigner(t))
}

// provisioningTemplate is aws_iot_provisioning_template.
func (p provider) provisioningTemplate(kind iottypes.TemplateType) {
	ctx, c := p.Context(), p.c
	name, role := aws.String("lamps"), func(name string) *string { return aws.String("arn:aws:iam::" + account + ":role/" + name) }
	body := func(thing string) *string {
		return aws.String(`{"Parameters":{"S":{"Type":"String"}},"Resources":{"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["",["` + thing + `",{"Ref":"S"}]]}}}}}`)
	}
	made, err := c.CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{TemplateName: name, Enabled: aws.Bool(true), Description: aws.String("lamps"), ProvisioningRoleArn: role("one"),
		TemplateBody: body("lamp-"), Type: kind, Tags: redTeam})
	check(p.T, err)
	p.same("made", []any{*made.TemplateName, *made.DefaultVersionId}, []any{*name, int32(1)})
	read := func(version int32, text string, enabled bool, roleName, thing string) {
		p.Helper()
		out, err := c.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: name})
		check(p.T, err)
		p.tagged(out.TemplateArn)
		p.same("template", []any{*out.TemplateName, *out.DefaultVersionId, aws.ToString(out.Description), *out.Enabled, out.PreProvisioningHook, *out.ProvisioningRoleArn, *out.TemplateBody, out.Type},
			[]any{*name, version, text, enabled, (*iottypes.ProvisioningHook)(nil), *role(roleName), *body(thing), iottypes.TemplateTypeFleetProvisioning})
	}
	read(1, "lamps", true, "one", "lamp-")
	_, err = c.CreateProvisioningTemplateVersion(ctx, &iot.CreateProvisioningTemplateVersionInput{TemplateName: name, SetAsDefault: true, TemplateBody: body("bulb-")})
	check(p.T, err)
	read(2, "lamps", true, "one", "bulb-")
	_, err = c.UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: name, Description: aws.String(""), Enabled: aws.Bool(false), ProvisioningRoleArn: role("two")})
	check(p.T, err)
	read(2, "", false, "two", "bulb-")
	p.retagged(made.TemplateArn)
	_, err = c.DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: name}) // with both versions
	check(p.T, err)
	_, err = c.DescribeProvisioningTemplate(ctx, &iot.DescribeProvisioningTemplateInput{TemplateName: name})
	refused(p.T, err, "ResourceNotFoundException")
}

// A signer is a CA that tls_self_signed_cert would make.
type signer struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "Plant CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	s := &signer{c, key}
	s.Certificate = s.sign(t, c)
	return s
}

func (s *signer) sign(t *testing.T, c *x509.Certificate) *x509.Certificate {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, s.Certificate, s.key.Public(), s.key)
	check(t, err)
	made, err := x509.ParseCertificate(der)
	check(t, err)
	return made
}

func pemOf(c *x509.Certificate) *string {
	return aws.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
}

// caCertificate is the data source aws_iot_registration_code, aws_iot_ca_certificate, and aws_iot_certificate of one that the CA has signed.
func (p provider) caCertificate(ca *signer) {
	ctx, c := p.Context(), p.c
	code, err := c.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{})
	check(p.T, err)
	role, body := aws.String("arn:aws:iam::"+account+":role/one"), aws.String(`{"Parameters":{"AWS::IoT::Certificate::Id":{"Type":"String"}},"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}}}`)
	made, err := c.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pemOf(ca.Certificate), VerificationCertificate: pemOf(ca.sign(p.T, &x509.Certificate{Subject: pkix.Name{CommonName: *code.RegistrationCode}})),
		CertificateMode: iottypes.CertificateModeDefault, SetAsActive: true, AllowAutoRegistration: true, Tags: redTeam, RegistrationConfig: &iottypes.RegistrationConfig{RoleArn: role, TemplateBody: body}})
	check(p.T, err)
	read := func(status iottypes.CACertificateStatus, auto iottypes.AutoRegistrationStatus, version int32, config *iottypes.RegistrationConfig) {
		p.Helper()
		out, err := c.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: made.CertificateId})
		check(p.T, err)
		d := out.CertificateDescription
		p.tagged(d.CertificateArn)
		p.same("CA", []any{d.Status, d.AutoRegistrationStatus, *d.CertificatePem, d.CertificateMode, *d.CustomerVersion, *d.GenerationId != "", d.Validity.NotAfter.Unix(), d.Validity.NotBefore.Unix()},
			[]any{status, auto, *pemOf(ca.Certificate), iottypes.CertificateModeDefault, version, true, ca.NotAfter.Unix(), ca.NotBefore.Unix()})
		p.same("registration config", out.RegistrationConfig, config)
	}
	read("ACTIVE", "ENABLE", 1, &iottypes.RegistrationConfig{RoleArn: role, TemplateBody: body})
	_, err = c.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: made.CertificateId, NewStatus: "ACTIVE", NewAutoRegistrationStatus: "DISABLE",
		RegistrationConfig: &iottypes.RegistrationConfig{RoleArn: aws.String("arn:aws:iam::" + account + ":role/two"), TemplateBody: body}})
	check(p.T, err)
	read("ACTIVE", "DISABLE", 2, &iottypes.RegistrationConfig{RoleArn: aws.String("arn:aws:iam::" + account + ":role/two"), TemplateBody: body})
	p.retagged(made.CertificateArn)

	p.foreignCertificate(func(leaf *string) (*string, error) {
		out, err := c.RegisterCertificate(ctx, &iot.RegisterCertificateInput{CertificatePem: leaf, CaCertificatePem: pemOf(ca.Certificate), Status: "ACTIVE"})
		if err != nil {
			return nil, err
		}
		return out.CertificateId, nil
	}, ca, made.CertificateId)

	_, err = c.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: made.CertificateId, NewStatus: "INACTIVE"})
	check(p.T, err)
	_, err = c.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: made.CertificateId})
	check(p.T, err)
	_, err = c.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: made.CertificateId})
	refused(p.T, err, "ResourceNotFoundException")
}

// caWithoutProof is aws_iot_ca_certificate in mode SNI_ONLY, inactive, and aws_iot_certificate without a CA.
func (p provider) caWithoutProof(ca *signer) {
	ctx, c := p.Context(), p.c
	made, err := c.RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{CaCertificate: pemOf(ca.Certificate), CertificateMode: iottypes.CertificateModeSniOnly})
	check(p.T, err)
	out, err := c.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: made.CertificateId})
	check(p.T, err)
	p.same("CA", []any{out.CertificateDescription.Status, out.CertificateDescription.AutoRegistrationStatus, out.CertificateDescription.CertificateMode, out.RegistrationConfig},
		[]any{iottypes.CACertificateStatusInactive, iottypes.AutoRegistrationStatusDisable, iottypes.CertificateModeSniOnly, (*iottypes.RegistrationConfig)(nil)})
	_, err = c.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: made.CertificateId})
	check(p.T, err)
	p.foreignCertificate(func(leaf *string) (*string, error) {
		out, err := c.RegisterCertificateWithoutCA(ctx, &iot.RegisterCertificateWithoutCAInput{CertificatePem: leaf, Status: "ACTIVE"})
		if err != nil {
			return nil, err
		}
		return out.CertificateId, nil
	}, ca, nil)
}

// foreignCertificate is aws_iot_certificate with certificate_pem: what is read is what was given, or a plan would replace it.
func (p provider) foreignCertificate(register func(leaf *string) (*string, error), ca *signer, caID *string) {
	p.Helper()
	ctx, c := p.Context(), p.c
	leaf := pemOf(ca.sign(p.T, &x509.Certificate{Subject: pkix.Name{CommonName: "lamp"}}))
	id, err := register(leaf)
	check(p.T, err)
	got, err := c.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: id})
	check(p.T, err)
	p.same("certificate", []any{*got.CertificateDescription.CertificatePem, got.CertificateDescription.Status, got.CertificateDescription.CaCertificateId}, []any{*leaf, iottypes.CertificateStatusActive, caID})
	_, err = c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: id, NewStatus: "INACTIVE"})
	check(p.T, err)
	_, err = c.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: id})
	check(p.T, err)
}
