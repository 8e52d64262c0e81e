package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
	"github.com/imprint-iot/imprint/internal/mqtt/mqtttest"
	"github.com/imprint-iot/imprint/internal/server/porttest"
	"github.com/imprint-iot/imprint/internal/store"
)

// twoRegions are a server that is two regions, and its administrator in each.
func twoRegions(t *testing.T, cfg Config) (s *Server, here, there *client.Client) {
	t.Helper()
	cfg.Regions = []string{"eu-west-1"}
	s = startServer(t, cfg)
	return s, in(t, s, "us-east-1", administrator(s)), in(t, s, "eu-west-1", administrator(s))
}

func rest(t *testing.T, c *client.Client, method, path string, in, out any) {
	t.Helper()
	noError(t, c.REST(t.Context(), "iot", method, path, in, out))
}

func endpointOf(t *testing.T, c *client.Client, kind string) string {
	t.Helper()
	var e struct{ EndpointAddress string }
	rest(t, c, "GET", "/endpoint?endpointType="+kind, nil, &e)
	return e.EndpointAddress
}

// A signer is a CA of a customer, or a certificate that it has signed.
type signer struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// sign makes a certificate for a name; a nil signer signs itself, as a CA.
func (by *signer) sign(t *testing.T, name string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noError(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: by == nil, BasicConstraintsValid: true}
	parent, with := c, key
	if by != nil {
		parent, with = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), with)
	noError(t, err)
	made, err := x509.ParseCertificate(der)
	noError(t, err)
	return &signer{made, key}
}

func (c *signer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (c *signer) pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: c.key}
}

func TestRegionsHaveFleetsOfTheirOwnAndTheAccountsUsers(t *testing.T) {
	t.Parallel()
	s, here, there := twoRegions(t, quick(folder(t)))
	a, err := whoami(t, here)
	noError(t, err)
	if b, err := whoami(t, there); err != nil || a != b {
		t.Errorf("%s is %s elsewhere, %v", a, b, err)
	}
	contains(t, in(t, s, "ap-south-1", administrator(s)).REST(t.Context(), "iot", "GET", "/things", nil, nil), "valid Region, not ap-south-1")
	contains(t, in(t, s, "ap-south-1", administrator(s)).Query(t.Context(), "sts", "2011-06-15", "GetCallerIdentity", nil, nil), "valid Region")

	var thing struct{ ThingArn string }
	rest(t, there, "POST", "/things/lamp", object{}, &thing)
	if want := "arn:aws:iot:eu-west-1:" + s.Scope().Account + ":thing/lamp"; thing.ThingArn != want {
		t.Errorf("%s, want %s", thing.ThingArn, want)
	}
	contains(t, here.REST(t.Context(), "iot", "GET", "/things/lamp", nil, nil), "ResourceNotFoundException")

	// A role is the account's, and its policies say which regions it is for.
	noError(t, here.Query(t.Context(), "iam", "2010-05-08", "CreateUser", map[string]string{"UserName": "ada"}, nil))
	noError(t, there.Query(t.Context(), "iam", "2010-05-08", "PutUserPolicy", map[string]string{"UserName": "ada", "PolicyName": "there", "PolicyDocument": text(object{"Version": "2012-10-17",
		"Statement": object{"Effect": "Allow", "Action": []string{"iot:*", "sts:*"}, "Resource": "*", "Condition": object{"StringEquals": object{"aws:RequestedRegion": "eu-west-1"}}}})}, nil))
	var key struct {
		ID     string `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
		Secret string `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	}
	noError(t, here.Query(t.Context(), "iam", "2010-05-08", "CreateAccessKey", map[string]string{"UserName": "ada"}, &key))
	ada := client.Credentials{AccessKeyID: key.ID, Secret: fleet.Secret(key.Secret)}
	rest(t, in(t, s, "eu-west-1", ada), "GET", "/things/lamp", nil, nil)
	contains(t, in(t, s, "us-east-1", ada).REST(t.Context(), "iot", "GET", "/things/lamp", nil, nil), "AccessDenied")

	// So are sessions, wherever they were made.
	var session struct {
		ID     string `xml:"GetSessionTokenResult>Credentials>AccessKeyId"`
		Secret string `xml:"GetSessionTokenResult>Credentials>SecretAccessKey"`
		Token  string `xml:"GetSessionTokenResult>Credentials>SessionToken"`
	}
	noError(t, here.Query(t.Context(), "sts", "2011-06-15", "GetSessionToken", nil, &session))
	temporary := client.Credentials{AccessKeyID: session.ID, Secret: fleet.Secret(session.Secret), Token: fleet.Secret(session.Token)}
	rest(t, in(t, s, "eu-west-1", temporary), "GET", "/things/lamp", nil, nil)
	contains(t, in(t, s, "us-east-1", temporary).REST(t.Context(), "iot", "GET", "/things/lamp", nil, nil), "ResourceNotFoundException")
}

func TestPeopleOfAPoolInAnotherRegionSignIn(t *testing.T) {
	t.Parallel()
	s, here, there := twoRegions(t, quick(folder(t)))
	made := newResidents(t, there, true)
	if !strings.HasPrefix(made.poolID, "eu-west-1_") {
		t.Fatalf("the pool is %s", made.poolID)
	}
	contains(t, here.JSON(t.Context(), "cognito-idp", "AWSCognitoIdentityProviderService.DescribeUserPool", object{"UserPoolId": made.poolID}, nil), "ResourceNotFoundException")
	signIn := pool(t, in(t, s, "us-east-1", client.Credentials{}), "InitiateAuth", object{"ClientId": made.app, "AuthFlow": "USER_PASSWORD_AUTH",
		"AuthParameters": object{"USERNAME": "ida", "PASSWORD": password}})
	if signIn["AuthenticationResult"] == nil {
		t.Errorf("signing in: %v", signIn)
	}
}

func TestOneCertificateInSeveralRegionsIsToldApartBySNI(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.EndpointDomain = "iot.example"
	s, here, there := twoRegions(t, cfg)
	lamp := (*signer)(nil).sign(t, "lamp")
	pair := lamp.pair()
	ends := map[*client.Client]string{here: endpointOf(t, here, "iot:Data-ATS"), there: endpointOf(t, there, "iot:Data-ATS")}
	if !strings.HasSuffix(ends[there], "-ats.iot.eu-west-1.iot.example") || !strings.HasSuffix(ends[here], "-ats.iot.us-east-1.iot.example") {
		t.Fatalf("the endpoints are %q and %q", ends[here], ends[there])
	}
	for c, region := range map[*client.Client]string{here: "us-east-1", there: "eu-west-1"} {
		arn := "arn:aws:iot:" + region + ":" + s.Scope().Account + ":"
		var registered struct{ CertificateArn string }
		rest(t, c, "POST", "/certificate/register-no-ca", object{"certificatePem": lamp.pem(), "status": "ACTIVE"}, &registered)
		rest(t, c, "POST", "/policies/own", object{"policyDocument": text(object{"Version": "2012-10-17", "Statement": object{"Effect": "Allow", "Action": "iot:*",
			"Resource": []string{arn + "client/lamp", arn + "topic/lamps/*", arn + "topicfilter/lamps/*"}}})}, nil)
		rest(t, c, "PUT", "/target-policies/own", object{"target": registered.CertificateArn}, nil)
	}
	connect := func(c *client.Client) *mqtttest.Client {
		t.Helper()
		nc, err := at(t, s, "IOT_PORT", ends[c], &pair, nil)
		noError(t, err)
		m := mqtttest.New(t, nc, 5).Connected("lamp")
		m.Subscribe("lamps/#")
		return m
	}
	// One client id, one certificate, two fleets: neither takes the other's place, neither hears what is said in the other.
	a, b := connect(here), connect(there)
	for c, topic := range map[*client.Client]string{here: "lamps/here", there: "lamps/there"} {
		_, _, err := c.Call(t.Context(), "iotdata", http.MethodPost, "/topics/"+topic+"?qos=1", nil, []byte(topic))
		noError(t, err)
	}
	a.WantMessage("lamps/here", "lamps/here")
	b.WantMessage("lamps/there", "lamps/there")
	rest(t, there, "PUT", "/certificates/"+fleet.CertificateID(lamp.Raw)+"?newStatus=INACTIVE", nil, nil)
	b.WantDisconnect(0x87)
	if _, err := at(t, s, "IOT_PORT", ends[there], &pair, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		t.Error("a certificate that is inactive in this region connects there")
	}
	a.Disconnect()
	connect(here).Disconnect()
}

// arrive is a first connection, which ends when it is registered.
func arrive(c *mqtttest.Client) {
	c.Send(mqtttest.ConnectPacket("lamp"))
	c.WantClosed()
}

func TestOneCAInSeveralRegionsRegistersWhereItsDeviceConnects(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.EndpointDomain = "iot.example"
	s, here, there := twoRegions(t, cfg)
	ca := (*signer)(nil).sign(t, "Plant CA")
	for _, c := range []*client.Client{here, there} {
		rest(t, c, "POST", "/cacertificate?setAsActive=true&allowAutoRegistration=true", object{"caCertificate": ca.pem(), "certificateMode": "SNI_ONLY"}, nil)
	}
	lamp := ca.sign(t, "lamp")
	pair, id := lamp.pair(), fleet.CertificateID(lamp.Raw)
	nc, err := at(t, s, "IOT_PORT", endpointOf(t, there, "iot:Data-ATS"), &pair, nil)
	noError(t, err)
	arrive(mqtttest.New(t, nc, 5))
	rest(t, there, "GET", "/certificates/"+id, nil, nil)
	contains(t, here.REST(t.Context(), "iot", "GET", "/certificates/"+id, nil, nil), "ResourceNotFoundException")
}

func TestACAOfAnotherRegionIsFoundUnderTheNameThatAllShare(t *testing.T) {
	t.Parallel()
	s, _, there := twoRegions(t, quick(folder(t)))
	ca := (*signer)(nil).sign(t, "Plant CA")
	var code struct{ RegistrationCode string }
	rest(t, there, "GET", "/registrationcode", nil, &code)
	rest(t, there, "POST", "/cacertificate?setAsActive=true&allowAutoRegistration=true", object{"caCertificate": ca.pem(), "verificationCertificate": ca.sign(t, code.RegistrationCode).pem()}, nil)
	lamp := ca.sign(t, "lamp")
	arrive(device(t, s, lamp.pair()))
	rest(t, there, "GET", "/certificates/"+fleet.CertificateID(lamp.Raw), nil, nil)
}

func TestCredentialsOfADeviceEndWithItsCertificateInEveryRegion(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	cfg.EndpointDomain = "iot.example"
	s, here, there := twoRegions(t, cfg)
	noError(t, here.Query(t.Context(), "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": "reads", "AssumeRolePolicyDocument": trustsProvider}, nil))
	noError(t, here.Query(t.Context(), "iam", "2010-05-08", "AttachRolePolicy", map[string]string{"RoleName": "reads", "PolicyArn": "arn:aws:iam::aws:policy/AWSIoTConfigReadOnlyAccess"}, nil))
	rest(t, there, "POST", "/role-aliases/reads", object{"roleArn": s.Scope().IAM("role/reads"), "credentialDurationSeconds": 900}, nil)
	pair, id := furnishDevice(t, there, "meter", object{"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": "*"})
	status, got := asks(t, s, endpointOf(t, there, "iot:CredentialProvider"), &pair)("reads", "")
	if status != 200 {
		t.Fatalf("%d %s", status, got.Message)
	}
	credentials := client.Credentials{AccessKeyID: got.Credentials.AccessKeyID, Secret: fleet.Secret(got.Credentials.SecretAccessKey), Token: fleet.Secret(got.Credentials.SessionToken)}
	for _, region := range []string{"eu-west-1", "us-east-1"} {
		rest(t, in(t, s, region, credentials), "GET", "/things", nil, nil)
	}
	rest(t, there, "PUT", "/certificates/"+id+"?newStatus=INACTIVE", nil, nil)
	for _, region := range []string{"eu-west-1", "us-east-1"} {
		contains(t, in(t, s, region, credentials).REST(t.Context(), "iot", "GET", "/things", nil, nil), "ExpiredToken")
	}
}

func TestARegionWithSomethingInItIsNotForgotten(t *testing.T) {
	t.Parallel()
	cfg := quick(folder(t))
	s, _, there := twoRegions(t, cfg)
	rest(t, there, "POST", "/thing-groups/garden", object{}, nil)
	stopServer(t, s)
	_, err := Start(t.Context(), cfg)
	contains(t, err, "thing groups", "eu-west-1", "--regions")
	s, _, there = twoRegions(t, cfg)
	rest(t, there, "DELETE", "/thing-groups/garden", nil, nil)
	stopServer(t, s)
	stopServer(t, startServer(t, cfg))
	cfg.Regions = []string{"Europe"}
	_, err = Start(t.Context(), cfg)
	contains(t, err, "a region looks like us-east-1")
}

func TestAStartWithTheRegionsOfTheLastOneWritesOnce(t *testing.T) {
	t.Parallel()
	writes := 0
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "imprint.db"), OnWrite: func(time.Duration, error) { writes++ }})
	noError(t, err)
	t.Cleanup(func() { noError(t, db.Close()) })
	cfg := quick("")
	cfg.HTTPSPort, cfg.MQTTPort = Port(porttest.Hold(t)), Port(porttest.Hold(t))
	cfg.Regions = []string{"eu-west-1", "us-east-1"}
	for again := range 2 {
		before := writes
		s, l, err := openSite(t.Context(), db, cfg)
		noError(t, err)
		noError(t, errors.Join(l.https.Close(), l.mqtt.Close()))
		if again == 1 && writes != before+1 {
			t.Errorf("%d transactions to write", writes-before)
		}
		if !slices.Equal(s.Regions, []string{"eu-west-1"}) {
			t.Errorf("%q", s.Regions)
		}
	}
}
