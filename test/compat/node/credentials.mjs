// The AWS IoT device SDK's credentials provider for X.509 certificates: it asks the credential provider with the device's certificate, here by
// way of a proxy, since it knows no port but 443. Credentials never come out of it; what it signs tells. Prints one JSON object. Input comes
// in environment variables; see credentials_test.go.
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { createHash } from "node:crypto";
import { auth, http, io } from "aws-iot-device-sdk-v2";

const env = process.env;
const form = "Action=GetCallerIdentity&Version=2011-06-15";
const endpoint = new URL(env.AWS_ENDPOINT_URL);

function provider(thingName, roleAlias) {
  const options = io.TlsContextOptions.create_client_with_mtls_from_path(env.CERT, env.KEY);
  options.override_default_trust_store_from_path(undefined, env.AWS_CA_BUNDLE);
  return auth.AwsCredentialsProvider.newX509({ endpoint: env.CREDENTIALS_ENDPOINT, thingName, roleAlias, tlsContext: new io.ClientTlsContext(options),
    httpProxyOptions: new http.HttpProxyOptions("127.0.0.1", Number(env.PROXY_PORT), http.HttpProxyAuthenticationType.None, undefined, undefined, undefined,
      http.HttpProxyConnectionType.Tunneling) });
}

async function identity(thingName, roleAlias) {
  const headers = new http.HttpHeaders([["host", endpoint.host], ["content-type", "application/x-www-form-urlencoded"], ["content-length", String(form.length)]]);
  const unsigned = new http.HttpRequest("POST", "/", headers);
  const signed = await auth.aws_sign_request(unsigned, { algorithm: auth.AwsSigningAlgorithm.SigV4, signature_type: auth.AwsSignatureType.HttpRequestViaHeaders,
    provider: provider(thingName, roleAlias), region: env.AWS_REGION, service: "sts",
    signed_body_value: createHash("sha256").update(form).digest("hex") });
  return new Promise((resolve, reject) => {
    const req = request(endpoint, { method: "POST", headers: Object.fromEntries(signed.headers._flatten()), ca: readFileSync(env.AWS_CA_BUNDLE) }, (res) => {
      let body = "";
      res.on("data", (part) => (body += part)).on("end", () => resolve({ status: res.statusCode, arn: /<Arn>(.*)<\/Arn>/.exec(body)?.[1] }));
    });
    req.on("error", reject).end(form);
  });
}

const said = {};
for (const [name, thing, alias] of [["own", env.THING, env.ALIAS], ["foreign", "somebody-else", env.ALIAS], ["unknown", env.THING, "none"]]) {
  said[name] = await identity(thing, alias).catch((error) => ({ error: String(error.error_name ?? error) }));
}
console.log(JSON.stringify(said));
process.exit(0);
