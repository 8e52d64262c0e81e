// The whole story by JavaScript clients: amazon-cognito-identity-js signs an installer in (SRP, with the new-password
// challenge of a first sign-in), the AWS SDK for JavaScript 3 gets credentials and a claim, the AWS IoT device SDK provisions
// over MQTT. Prints one JSON object. Input comes in environment variables; see javascript_test.go.
import { readFileSync } from "node:fs";
import cognito from "amazon-cognito-identity-js";
import { CognitoIdentityClient, GetIdCommand, GetCredentialsForIdentityCommand } from "@aws-sdk/client-cognito-identity";
import { CognitoIdentityProviderClient, GetUserCommand, RevokeTokenCommand } from "@aws-sdk/client-cognito-identity-provider";
import { IoTClient, CreateProvisioningClaimCommand, ListThingsCommand } from "@aws-sdk/client-iot";
import { STSClient, GetCallerIdentityCommand } from "@aws-sdk/client-sts";
import { io, iot, iotidentity, mqtt, mqtt5 } from "aws-iot-device-sdk-v2";

const env = process.env;
const endpoint = env.AWS_ENDPOINT_URL;
const region = env.AWS_REGION;

function signIn(username, temporary, password) {
  const pool = new cognito.CognitoUserPool({ UserPoolId: env.POOL_ID, ClientId: env.CLIENT_ID, endpoint });
  const user = new cognito.CognitoUser({ Username: username, Pool: pool });
  return new Promise((resolve, reject) => {
    user.authenticateUser(new cognito.AuthenticationDetails({ Username: username, Password: temporary }), {
      onSuccess: (session) => resolve({ session, challenged: false }),
      onFailure: reject,
      newPasswordRequired: () =>
        user.completeNewPasswordChallenge(password, {}, { onSuccess: (session) => resolve({ session, challenged: true }), onFailure: reject }),
    });
  });
}

async function credentials(idToken) {
  const client = new CognitoIdentityClient({ endpoint, region, credentials: { accessKeyId: "", secretAccessKey: "" } });
  const Logins = { [`cognito-idp.${region}.amazonaws.com/${env.POOL_ID}`]: idToken };
  const { IdentityId } = await client.send(new GetIdCommand({ IdentityPoolId: env.IDENTITY_POOL, Logins }));
  const { Credentials: c } = await client.send(new GetCredentialsForIdentityCommand({ IdentityId, Logins }));
  return { accessKeyId: c.AccessKeyId, secretAccessKey: c.SecretKey, sessionToken: c.SessionToken, expiration: c.Expiration };
}

function mqtt5Client(cert, key, clientId) {
  const config = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromMemory(env.IOT_ENDPOINT, cert, key)
    .withPort(Number(env.MQTT_PORT))
    .withCertificateAuthority(readFileSync(env.AWS_CA_BUNDLE, "utf8"))
    .withConnectProperties({ clientId, keepAliveIntervalSeconds: 60 })
    .build();
  const client = new mqtt5.Mqtt5Client(config);
  const up = new Promise((resolve, reject) => {
    client.on("connectionSuccess", resolve);
    client.on("connectionFailure", (e) => reject(new Error("connecting: " + e.error)));
  });
  client.start();
  return { client, up };
}

async function mqtt3Connection(cert, key, clientId) {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder(cert, key)
    .with_certificate_authority(readFileSync(env.AWS_CA_BUNDLE, "utf8"))
    .with_endpoint(env.IOT_ENDPOINT)
    .with_port(Number(env.MQTT_PORT))
    .with_client_id(clientId)
    .with_clean_session(true)
    .build();
  const connection = new mqtt.MqttClient(new io.ClientBootstrap()).new_connection(config);
  await connection.connect();
  return connection;
}

const options = { maxRequestResponseSubscriptions: 2, maxStreamingSubscriptions: 0, operationTimeoutInSeconds: 120 };

// provision trades the claim over the given MQTT version: keys made by the service with 3.1.1, the caller's CSR with 5.
async function provision(claim, version, serial, csr) {
  const clientId = `${env.TEMPLATE}-${serial}`; // nobody else's on this server
  let identity, stop;
  if (version === "5") {
    const { client, up } = mqtt5Client(claim.certificatePem, claim.keyPair.PrivateKey, clientId);
    await up;
    identity = iotidentity.IotIdentityClientv2.newFromMqtt5(client, options);
    stop = async () => client.stop();
  } else {
    const connection = await mqtt3Connection(claim.certificatePem, claim.keyPair.PrivateKey, clientId);
    identity = iotidentity.IotIdentityClientv2.newFromMqtt311(connection, options);
    stop = () => connection.disconnect();
  }
  const made = csr
    ? await identity.createCertificateFromCsr({ certificateSigningRequest: csr })
    : await identity.createKeysAndCertificate({});
  const thing = await identity.registerThing({
    templateName: env.TEMPLATE,
    certificateOwnershipToken: made.certificateOwnershipToken,
    parameters: { SerialNumber: serial },
  });
  let refused = "";
  try {
    await identity.registerThing({ templateName: env.TEMPLATE, certificateOwnershipToken: "forged", parameters: {} });
  } catch (e) {
    refused = e.modeledError?.errorCode ?? String(e);
  }
  identity.close();
  await stop();
  return { ...made, ...thing, refused };
}

async function publishAs(cert, key, thingName) {
  const connection = await mqtt3Connection(cert, key, thingName);
  const topic = `lamps/${thingName}/state`;
  const heard = new Promise((resolve) => connection.on("message", (t, payload) => resolve(Buffer.from(payload).toString())));
  await connection.subscribe(topic, mqtt.QoS.AtLeastOnce);
  await connection.publish(topic, "on", mqtt.QoS.AtLeastOnce);
  const message = await heard;
  await connection.disconnect();
  return message;
}

const { session, challenged } = await signIn(env.INSTALLER, env.TEMPORARY, env.PASSWORD);
const again = await signIn(env.INSTALLER, env.PASSWORD, env.PASSWORD);
const idp = new CognitoIdentityProviderClient({ endpoint, region, credentials: { accessKeyId: "", secretAccessKey: "" } });
const me = await idp.send(new GetUserCommand({ AccessToken: again.session.getAccessToken().getJwtToken() }));
const creds = await credentials(session.getIdToken().getJwtToken());
const sts = new STSClient({ endpoint, region, credentials: creds });
const who = await sts.send(new GetCallerIdentityCommand({}));
const client = new IoTClient({ endpoint, region, credentials: creds });
let denied = "";
try {
  await client.send(new ListThingsCommand({}));
} catch (e) {
  denied = e.name;
}
const claim3 = await client.send(new CreateProvisioningClaimCommand({ templateName: env.TEMPLATE }));
const claim5 = await client.send(new CreateProvisioningClaimCommand({ templateName: env.TEMPLATE }));
const keys = await provision(claim3, "3.1.1", "js1", null);
const own = await provision(claim5, "5", "js2", readFileSync(env.CSR_FILE, "utf8"));
const heardKeys = await publishAs(keys.certificatePem, keys.privateKey, keys.thingName);
const heardOwn = await publishAs(own.certificatePem, readFileSync(env.KEY_FILE, "utf8"), own.thingName);
await idp.send(new RevokeTokenCommand({ ClientId: env.CLIENT_ID, Token: again.session.getRefreshToken().getToken() }));
console.log(JSON.stringify({
  challenged, username: me.Username, arn: who.Arn, denied, expiration: claim3.expiration,
  things: [keys.thingName, own.thingName], configuration: keys.deviceConfiguration, refused: [keys.refused, own.refused], heard: [heardKeys, heardOwn],
}));
process.exit(0);
