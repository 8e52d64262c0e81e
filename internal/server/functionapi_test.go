package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/function"
)

const trustsLambda = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// functionDoor is where a function would call from: what comes there is handed over as package function does.
func functionDoor(t *testing.T, s *Server, code function.Code) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.calls.Serve(c, code)
		}
	}()
	return l.Addr().String()
}

func TestAFunctionCallsTheAPIInItsRole(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin, ctx := api(t, s), t.Context()
	iam := func(operation string, in map[string]string) {
		t.Helper()
		noError(t, admin.Query(ctx, "iam", "2010-05-08", operation, in, nil))
	}
	code := function.Code{Name: "fn", ARN: s.Scope().ARN("lambda", "function:fn"), Role: s.Scope().IAM("role/fn")}
	if _, err := s.calls.Credentials(ctx, code); !errors.Is(err, function.ErrRole) {
		t.Errorf("a role that does not exist: %v", err)
	}
	// The trust policy may ask for the very function, as on AWS.
	bound := strings.Replace(trustsLambda, `"Action"`, `"Condition":{"ArnEquals":{"aws:SourceArn":"`+code.ARN+`"},"StringEquals":{"aws:SourceAccount":"`+s.Scope().Account+`"}},"Action"`, 1)
	iam("CreateRole", map[string]string{"RoleName": "fn", "AssumeRolePolicyDocument": bound})
	other := code
	other.Name, other.ARN = "other", s.Scope().ARN("lambda", "function:other")
	if _, err := s.calls.Credentials(ctx, other); !errors.Is(err, function.ErrRole) {
		t.Errorf("a role that trusts another function alone: %v", err)
	}
	c, err := s.calls.Credentials(ctx, code)
	noError(t, err)

	address, err := s.calls.Address(code)
	noError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	noError(t, os.WriteFile(file, address.Roots, 0o600))
	door := functionDoor(t, s, code)
	_, port, _ := net.SplitHostPort(door)
	fn, err := client.New(client.Config{Endpoint: "https://localhost:" + port, Region: s.Scope().Region, CAFile: file,
		Creds: client.Credentials{AccessKeyID: c.AccessKeyID, Secret: c.Secret, Token: c.Token}})
	noError(t, err)
	if who, err := whoami(t, fn); err != nil || who != "arn:aws:sts::"+s.Scope().Account+":assumed-role/fn/fn" {
		t.Errorf("it is %s (%v)", who, err)
	}
	things := func() error { return fn.REST(ctx, "iot", http.MethodGet, "/things", nil, nil) }
	contains(t, things(), "not authorized to perform: iot:ListThings")
	iam("PutRolePolicy", map[string]string{"RoleName": "fn", "PolicyName": "things", "PolicyDocument": text(object{"Version": "2012-10-17", "Statement": []object{
		{"Effect": "Allow", "Action": "iot:ListThings", "Resource": "*", "Condition": object{"IpAddress": object{"aws:SourceIp": "2001:db8::/32"}}}}})})
	noError(t, things()) // it comes from an address of its own, not from loopback, which may be trusted

	if !s.calls.Hold(ctx, c, 50*time.Minute) || s.calls.Hold(ctx, c, 61*time.Minute) {
		t.Error("the credentials do not last for an hour")
	}
	iam("UpdateAssumeRolePolicy", map[string]string{"RoleName": "fn", "PolicyDocument": strings.Replace(trustsLambda, "lambda", "iot", 1)})
	contains(t, things(), "ExpiredToken")
	if s.calls.Hold(ctx, c, 0) {
		t.Error("credentials of a role whose trust has changed are thought to be good")
	}
	if _, err := s.calls.Credentials(ctx, code); !errors.Is(err, function.ErrRole) {
		t.Errorf("a role that trusts another service: %v", err)
	}
}

func TestFunctionsReachAWSByItsNamesHere(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	code := function.Code{Name: "fn", ARN: s.Scope().ARN("lambda", "function:fn")}
	door, region := functionDoor(t, s, code), s.Scope().Region
	address, err := s.calls.Address(code)
	noError(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(address.Roots) {
		t.Fatal("there are no roots")
	}
	shake := func(address, name string, pool *x509.CertPool) (string, error) {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{RootCAs: pool, ServerName: name, NextProtos: []string{"x-amzn-mqtt-ca", "http/1.1"}}}
		c, err := d.DialContext(context.Background(), "tcp", address)
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().NegotiatedProtocol, nil
	}
	for _, name := range append([]string{"localhost"}, address.Names...) {
		if protocol, err := shake(door, name, pool); err != nil || protocol != "http/1.1" {
			t.Errorf("%s: %q, %v", name, protocol, err)
		}
	}
	for _, name := range []string{"iot.eu-west-1.amazonaws.com", "s3." + region + ".amazonaws.com", "example.com"} {
		if _, err := shake(door, name, pool); err == nil {
			t.Errorf("a function takes this for %s", name)
		}
	}
	for _, name := range address.Names { // nobody else is told so
		if _, err := shake(s.ports.https.Addr().String(), name, pool); err == nil {
			t.Errorf("the HTTPS port poses as %s", name)
		}
	}
	standIn, err := s.calls.standIn()
	noError(t, err)
	if strings.Contains(string(mustRead(t, s.Env().Get("AWS_CA_BUNDLE"))), standIn.RootPEM()) {
		t.Error("others are given the root that functions have for AWS's names")
	}
}

func TestFunctionsHaveAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFunctionAPI(nil)
	for one, two := range map[string]string{"arn:one": "arn:two", // and two of which FNV makes the same
		"arn:aws:lambda:us-east-1:111111111111:function:nnejjwdz": "arn:aws:lambda:us-east-1:222222222222:function:ovjcdmfs"} {
		if a, b := f.address(one).String(), f.address(two).String(); a == b || a != f.address(one).String() || !strings.HasPrefix(a, "[2001:db8:") {
			t.Errorf("%s and %s: %s, %s", one, two, a, b)
		}
	}
}
