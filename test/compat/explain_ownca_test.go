package compat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A plant is a customer with a CA that is registered.
type plant struct {
	f    *field
	id   string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// sign makes a certificate for a new key, or for that of the CA itself if it has none yet.
func (p *plant) sign(t *testing.T, subject pkix.Name, ends time.Time) (claim, *x509.Certificate) {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: subject, NotBefore: ends.Add(-24 * time.Hour), NotAfter: ends}
	key, by := p.key, p.cert
	if by == nil {
		c.IsCA, c.BasicConstraintsValid, by = true, true, c
	} else {
		var err error
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), p.key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	sum := sha256.Sum256(der)
	return claim{hex.EncodeToString(sum[:]), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}, cert
}

// plant registers a CA whose template makes a thing of the common name and attaches a policy; role is under which.
func (f *field) plant(t *testing.T, policy, role string) *plant {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	p := &plant{f: f, key: key}
	var ca claim
	ca, p.cert = p.sign(t, pkix.Name{CommonName: "Plant " + f.serial()}, time.Now().Add(24*time.Hour))
	code, err := f.world.admin.iot.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{})
	check(t, err)
	proof, _ := p.sign(t, pkix.Name{CommonName: *code.RegistrationCode}, time.Now().Add(time.Hour))
	out, err := f.world.admin.iot.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{CaCertificate: &ca.cert, VerificationCertificate: &proof.cert, SetAsActive: true,
		AllowAutoRegistration: true, RegistrationConfig: &types.RegistrationConfig{RoleArn: aws.String(f.world.roleARN(role)), TemplateBody: text(object{
			"Parameters": object{"AWS::IoT::Certificate::CommonName": object{"Type": "String"}, "AWS::IoT::Certificate::Country": object{"Type": "String"},
				"AWS::IoT::Certificate::Id": object{"Type": "String"}},
			"Resources": object{
				"thing":       object{"Type": "AWS::IoT::Thing", "Properties": object{"ThingName": object{"Ref": "AWS::IoT::Certificate::CommonName"}}},
				"certificate": object{"Type": "AWS::IoT::Certificate", "Properties": object{"CertificateId": object{"Ref": "AWS::IoT::Certificate::Id"}}},
				"policy":      object{"Type": "AWS::IoT::Policy", "Properties": object{"PolicyName": policy}}}})}})
	check(t, err)
	p.id = *out.CertificateId
	return p
}

// connects lets a device of the plant connect, which it is not to manage.
func (p *plant) connects(t *testing.T, subject pkix.Name, ends time.Time) (string, string) {
	t.Helper()
	id, _ := p.sign(t, subject, ends)
	_, err := p.f.dial(t, id, subject.CommonName)
	if err == nil {
		t.Error("the device came in")
	}
	return id.id, "the connection ends without CONNACK"
}

func named(f *field) pkix.Name {
	return pkix.Name{CommonName: "lamp-" + f.serial(), Country: []string{"DE"}}
}

var ownCAFailures = []failure{
	{"The certificate lacks what the CA's template declares", func(t *testing.T, f *field) (string, string) {
		return f.plant(t, "none", f.world.provisioningRole).connects(t, pkix.Name{CommonName: "lamp-" + f.serial()}, time.Now().Add(time.Hour))
	}, "Cannot resolve reference value: AWS::IoT::Certificate::Country", "whose subject has it"},
	{"The CA's template names a policy that is not there", func(t *testing.T, f *field) (string, string) {
		return f.plant(t, "no-such-policy", f.world.provisioningRole).connects(t, named(f), time.Now().Add(time.Hour))
	}, `policy "no-such-policy": does not exist`, ""},
	{"The CA's role may not provision", func(t *testing.T, f *field) (string, string) {
		role, policy := f.world.prefix+"-powerless", f.world.prefix+"-own-ca"
		_, err := f.world.admin.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: text(object{"Version": "2012-10-17",
			"Statement": object{"Effect": "Allow", "Principal": object{"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}})})
		check(t, err)
		_, err = f.world.admin.iot.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &policy, PolicyDocument: text(object{"Version": "2012-10-17",
			"Statement": object{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}})})
		check(t, err)
		return f.plant(t, policy, role).connects(t, named(f), time.Now().Add(time.Hour))
	}, "lacks iot:CreateThing", "AWSIoTThingsRegistration"},
	{"The CA is not active", func(t *testing.T, f *field) (string, string) {
		p := f.plant(t, "no-such-policy", f.world.provisioningRole)
		_, err := f.world.admin.iot.UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: &p.id, NewStatus: types.CACertificateStatusInactive})
		check(t, err)
		id, _ := p.sign(t, named(f), time.Now().Add(time.Hour))
		return id.id, f.refusedTLS(t, id)
	}, "is registered and INACTIVE", "--new-status ACTIVE"},
	{"The device's certificate has ended", func(t *testing.T, f *field) (string, string) {
		p := f.plant(t, "no-such-policy", f.world.provisioningRole)
		id, _ := p.sign(t, named(f), time.Now().Add(-time.Hour))
		return id.id, f.refusedTLS(t, id)
	}, "expired at", "another certificate of its CA"},
}
