package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imprint-iot/imprint/internal/client"
	"github.com/imprint-iot/imprint/internal/fleet"
)

const trustsProvider = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// A credentialed is the answer of the credential provider.
type credentialed struct {
	Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
	Message     string
	request     string // id
}

// asks is a device at the credential provider, by its endpoint's name.
func asks(t *testing.T, s *Server, host string, pair *tls.Certificate, protocols ...string) func(alias, thing string) (int, credentialed) {
	t.Helper()
	cfg := &tls.Config{RootCAs: roots(t, s), NextProtos: protocols}
	if pair != nil {
		cfg.Certificates = []tls.Certificate{*pair}
	}
	address := net.JoinHostPort("127.0.0.1", s.Env().Get("IOT_ALPN_PORT"))
	tr := &http.Transport{TLSClientConfig: cfg, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	web := &http.Client{Transport: tr, Timeout: patience}
	return func(alias, thing string) (int, credentialed) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/role-aliases/"+alias+"/credentials", nil)
		noError(t, err)
		if thing != "" {
			req.Header.Set("x-amzn-iot-thingname", thing)
		}
		res, err := web.Do(req)
		if err != nil {
			return 0, credentialed{Message: err.Error()}
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		noError(t, err)
		var out credentialed
		noError(t, json.Unmarshal(body, &out))
		out.request = res.Header.Get("X-Amzn-Requestid")
		return res.StatusCode, out
	}
}

// with is an API client with temporary keys.
func (c credentialed) with(t *testing.T, s *Server) *client.Client {
	t.Helper()
	out, err := client.New(client.Config{Endpoint: s.Env().Get("AWS_ENDPOINT_URL"), Region: s.Env().Get("AWS_REGION"), CAFile: s.Env().Get("AWS_CA_BUNDLE"),
		Creds: client.Credentials{AccessKeyID: c.Credentials.AccessKeyID, Secret: fleet.Secret(c.Credentials.SecretAccessKey), Token: fleet.Secret(c.Credentials.SessionToken)}})
	noError(t, err)
	return out
}

func TestDevicesGetCredentialsByARoleAlias(t *testing.T) {
	t.Parallel()
	s := startServer(t, quick(folder(t)))
	admin, ctx := api(t, s), t.Context()
	rest := func(method, path string, in any) {
		t.Helper()
		noError(t, admin.REST(ctx, "iot", method, path, in, nil))
	}
	arn := func(kind, name string) string { return s.Scope().IoT(kind, name) }
	role := func(name, trust string) string {
		t.Helper()
		noError(t, admin.Query(ctx, "iam", "2010-05-08", "CreateRole", map[string]string{"RoleName": name, "AssumeRolePolicyDocument": trust}, nil))
		return s.Scope().IAM("role/" + name)
	}
	telemetry := role("telemetry", trustsProvider)
	noError(t, admin.Query(ctx, "iam", "2010-05-08", "PutRolePolicy", map[string]string{"RoleName": "telemetry", "PolicyName": "own", "PolicyDocument": text(object{"Version": "2012-10-17",
		"Statement": []object{{"Effect": "Allow", "Action": "iot:DescribeThing", "Resource": arn("thing", "${credentials-iot:ThingName}")},
			{"Effect": "Allow", "Action": "iot:DescribeCertificate", "Resource": arn("cert", "${credentials-iot:AwsCertificateId}")},
			{"Effect": "Allow", "Action": "iot:DescribeThingType", "Resource": arn("thingtype", "${credentials-iot:ThingTypeName}")}}})}, nil))
	role("stranger", strings.Replace(trustsProvider, "credentials.iot", "iot", 1))
	only := strings.Replace(trustsProvider, `"Action"`, `"Condition":{"ArnEquals":{"aws:SourceArn":"`+arn("rolealias", "meters")+`"},"StringEquals":{"aws:SourceAccount":"`+s.Scope().Account+`"}},"Action"`, 1)
	role("bound", only)
	for alias, name := range map[string]string{"meters": "telemetry", "untrusted": "stranger", "gone": "nobody", "forbidden": "telemetry", "elsewhere": "bound"} {
		rest("POST", "/role-aliases/"+alias, object{"roleArn": s.Scope().IAM("role/" + name), "credentialDurationSeconds": 900})
	}
	rest("POST", "/role-aliases/long", object{"roleArn": telemetry, "credentialDurationSeconds": 43200})
	rest("POST", "/role-aliases/hour", object{"roleArn": telemetry})

	pair, id := furnishDevice(t, admin, "meter",
		object{"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": arn("rolealias", "*")},
		object{"Effect": "Deny", "Action": "iot:AssumeRoleWithCertificate", "Resource": arn("rolealias", "forbidden")})
	bound, boundID := furnishDevice(t, admin, "thingbound", object{"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": arn("rolealias", "meters"),
		"Condition": object{"StringEquals": object{"iot:Connection.Thing.ThingTypeName": "meter"}}})
	rest("POST", "/thing-types/meter", object{})
	rest("POST", "/things/meter-1", object{"thingTypeName": "meter"})
	rest("POST", "/things/meter-2", object{})
	for _, cert := range []string{id, boundID} {
		_, _, err := admin.Call(ctx, "iot", "PUT", "/things/meter-1/principals", map[string]string{"x-amzn-principal": arn("cert", cert)}, nil)
		noError(t, err)
	}

	var endpoint struct{ EndpointAddress string }
	noError(t, admin.REST(ctx, "iot", "GET", "/endpoint?endpointType=iot:CredentialProvider", nil, &endpoint))
	if endpoint.EndpointAddress != "credentials.localhost" {
		t.Fatalf("the endpoint is %s", endpoint.EndpointAddress)
	}
	for _, protocols := range [][]string{nil, {"http/1.1"}, {"h2", "http/1.1"}, {"x-amzn-http-ca"}} {
		if status, _ := asks(t, s, endpoint.EndpointAddress, &pair, protocols...)("meters", ""); status != 200 {
			t.Errorf("with ALPN %q: %d", protocols, status)
		}
	}
	ask := asks(t, s, endpoint.EndpointAddress, &pair)
	status, got := ask("meters", "meter-1")
	ends, err := time.Parse("2006-01-02T15:04:05Z", got.Credentials.Expiration)
	if left := time.Until(ends); status != 200 || err != nil || left > 15*time.Minute || left < 13*time.Minute || !strings.HasPrefix(got.Credentials.AccessKeyID, "ASIA") {
		t.Fatalf("%d %+v, %v", status, got.Message, err)
	}
	if status, got := ask("hour", ""); status != 200 {
		t.Errorf("%d %s", status, got.Message)
	} else if ends, _ := time.Parse(time.RFC3339, got.Credentials.Expiration); time.Until(ends) < 50*time.Minute {
		t.Errorf("an hour ends %v", ends)
	}

	// What the role may, by what is known of the device.
	may := func(c credentialed, path string) bool {
		t.Helper()
		return c.with(t, s).REST(ctx, "iot", "GET", path, nil, nil) == nil
	}
	var who struct {
		Arn string `xml:"GetCallerIdentityResult>Arn"`
	}
	noError(t, got.with(t, s).Query(ctx, "sts", "2011-06-15", "GetCallerIdentity", nil, &who))
	if want := "arn:aws:sts::" + s.Scope().Account + ":assumed-role/telemetry/" + id; who.Arn != want {
		t.Errorf("the session is %s, want %s", who.Arn, want)
	}
	for path, want := range map[string]bool{"/things/meter-1": true, "/things/meter-2": false, "/certificates/" + id: true, "/certificates/" + boundID: false, "/thing-types/meter": true} {
		if may(got, path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
	if _, nameless := ask("meters", ""); may(nameless, "/things/meter-1") || !may(nameless, "/certificates/"+id) {
		t.Error("without a thing's name the session knows one, or it does not know its certificate")
	}

	for name, c := range map[string]struct {
		alias, thing string
		status       int
		message      string
		cause        string
	}{
		"an alias that there is not":          {"none", "", 404, "", "does not exist"},
		"an alias that the policy denies":     {"forbidden", "", 403, "Access Denied", "explicit deny"},
		"a thing of somebody else":            {"meters", "meter-2", 403, "Access Denied", "not attached"},
		"a thing that there is not":           {"meters", "meter-3", 403, "Access Denied", "not attached"},
		"a role that does not trust":          {"untrusted", "", 403, "Access Denied", "Not authorized to perform sts:AssumeRole"},
		"a role that trusts for other things": {"elsewhere", "", 403, "Access Denied", "Not authorized to perform sts:AssumeRole"},
		"a role that is gone":                 {"gone", "", 403, "Access Denied", "Not authorized to perform sts:AssumeRole"},
		"longer than the role's sessions":     {"long", "", 403, "Access Denied", "MaxSessionDuration"},
	} {
		status, got := ask(c.alias, c.thing)
		if status != c.status || c.message != "" && got.Message != c.message || got.Credentials.AccessKeyID != "" {
			t.Errorf("%s: %d %q", name, status, got.Message)
		}
		if trace := explained(t, s, got.request); trace.Kind != "assume" || !strings.Contains(trace.Cause, c.cause) || trace.Cure == "" {
			t.Errorf("%s: the trace is %+v", name, trace)
		}
	}
	typed := asks(t, s, endpoint.EndpointAddress, &bound)
	if status, _ := typed("meters", "meter-1"); status != 200 {
		t.Errorf("a policy that asks for the thing's type: %d", status)
	}
	if status, _ := typed("meters", ""); status != 403 {
		t.Errorf("a policy that asks for the thing's type, of no thing: %d", status)
	}
	if status, got := asks(t, s, endpoint.EndpointAddress, nil)("meters", ""); status != 0 {
		t.Errorf("without a certificate: %d %s", status, got.Message)
	}
	if status, got := asks(t, s, "localhost", &pair)("meters", ""); status == 200 {
		t.Errorf("at the name of the control plane: %d %s", status, got.Message)
	}

	// The certificate's end is that of its credentials.
	rest("PUT", "/certificates/"+id+"?newStatus=INACTIVE", nil)
	if may(got, "/things/meter-1") {
		t.Error("the credentials outlive their certificate")
	}
	if err := got.with(t, s).Query(ctx, "sts", "2011-06-15", "GetCallerIdentity", nil, nil); err == nil {
		t.Error("credentials of an inactive certificate have an identity")
	}
	if status, got := ask("meters", ""); status != 403 || got.Message != "Access Denied" {
		t.Errorf("an inactive certificate gets %d %s", status, got.Message)
	}
}
