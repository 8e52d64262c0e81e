package iot

import "testing"

func TestDomainConfigurations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := func(s step) turn { return turn{mine, s} }
	const path = "/domainConfigurations/own"
	w.turns(
		one(step{do: "POST " + path, body: `{"domainName":"Iot.Example.com","tags":[{"Key":"team","Value":"red"}]}`, keep: "domainConfigurationArn=ARN",
			text: `"domainConfigurationArn":"arn:aws:iot:us-east-1:000000000000:domainconfiguration/own/`}),
		one(step{do: "POST " + path, body: `{"domainName":"iot.example.com"}`, want: exi, text: `"resourceArn":"$ARN"`}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"iot.example.com"}`, want: inv, text: "is in use"}),
		turn{other, step{do: "POST /domainConfigurations/theirs", body: `{"domainName":"iot.example.com."}`, want: inv, text: "is in use"}},
		turn{other, step{do: "GET " + path, want: nf}},
		one(step{do: "POST /domainConfigurations/more", body: `{}`, want: inv, text: "needs a domainName"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"10.0.0.1"}`, want: inv}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"*.example.com"}`, want: inv}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"iot.lan"}`, want: inv, text: "server itself"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"x.amazonaws.com"}`, want: inv, text: "AWS"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"a.example.com","serviceType":"JOBS"}`, want: inv, text: "DATA"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"a.example.com","tlsConfig":{"securityPolicy":"none"}}`, want: inv, text: "security policy"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"a.example.com","authenticationType":"AWS_X509"}`, want: inv, text: "together"}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"a.example.com","authenticationType":"AWS_SIGV4","applicationProtocol":"MQTT_WSS"}`, want: inv}),
		one(step{do: "POST /domainConfigurations/more", body: `{"domainName":"a.example.com","serverCertificateArns":["arn:aws:acm:us-east-1:000000000000:certificate/x"]}`, want: inv, text: "erverCertificateArns"}),
		one(step{do: "POST /domainConfigurations/a.b-c", body: `{"domainName":"b.example.com","tlsConfig":{"securityPolicy":"IoTSecurityPolicy_TLS13_1_3_2022_10"},"authenticationType":"AWS_X509","applicationProtocol":"SECURE_MQTT","serviceType":"DATA"}`}),
		one(step{do: "GET " + path, text: `"applicationProtocol":"DEFAULT","authenticationType":"DEFAULT","domainConfigurationArn":"$ARN","domainConfigurationName":"own","domainConfigurationStatus":"ENABLED",` +
			`"domainName":"iot.example.com","domainType":"CUSTOMER_MANAGED","lastStatusChangeDate":17…"serverCertificates":[],"serviceType":"DATA","tlsConfig":{"securityPolicy":"IoTSecurityPolicy_TLS13_1_2_2022_10"}`}),
		one(step{do: "GET /domainConfigurations/a.b-c", text: `"applicationProtocol":"SECURE_MQTT","authenticationType":"AWS_X509"…TLS13_1_3_2022_10`}),
		one(step{do: "GET /domainConfigurations/iot%3AData-ATS", text: `"domainName":"iot.lan","domainType":"ENDPOINT"`}),
		one(step{do: "GET /domainConfigurations/none", want: nf}),
		one(step{do: "GET /domainConfigurations?pageSize=1", text: `"domainConfigurationName":"a.b-c","serviceType":"DATA"}]`, keep: "nextMarker=NEXT"}),
		one(step{do: "GET /domainConfigurations?pageSize=1&marker=$NEXT", text: `{"domainConfigurations":[{"domainConfigurationArn":"$ARN","domainConfigurationName":"own","serviceType":"DATA"}]}`}),
		one(step{do: "GET /domainConfigurations?serviceType=JOBS", text: `{"domainConfigurations":[]}`}),
		one(step{do: "GET /tags?resourceArn=$ARN", text: `{"tags":[{"Key":"team","Value":"red"}]}`}),
		one(step{do: "GET /tags?resourceArn=$ARNx", want: nf}),
		one(step{do: "PUT /domainConfigurations/iot%3AData-ATS", body: `{"domainConfigurationStatus":"DISABLED"}`, want: inv, text: "cannot be changed"}),
		one(step{do: "PUT /domainConfigurations/none", body: `{}`, want: nf}),
		one(step{do: "PUT " + path, body: `{"removeAuthorizerConfig":true}`, want: inv}),
		one(step{do: "PUT " + path, body: `{"authenticationType":"AWS_X509","applicationProtocol":"HTTPS","tlsConfig":{"securityPolicy":"IoTSecurityPolicy_TLS12_1_2_2022_10"}}`,
			text: `{"domainConfigurationArn":"$ARN","domainConfigurationName":"own"}`}),
		one(step{do: "GET " + path, text: `"applicationProtocol":"HTTPS"…TLS12_1_2_2022_10`}),
		one(step{do: "DELETE " + path, want: inv, text: "ENABLED"}),
		one(step{do: "PUT " + path, body: `{"domainConfigurationStatus":"DISABLED"}`}),
		one(step{do: "GET " + path, text: `"domainConfigurationStatus":"DISABLED"`}),
		one(step{do: "DELETE " + path}),
		one(step{do: "DELETE " + path, want: nf}),
		turn{other, step{do: "POST /domainConfigurations/theirs", body: `{"domainName":"iot.example.com"}`}},
	)
}
