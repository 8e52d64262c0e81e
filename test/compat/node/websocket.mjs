// MQTT over WebSocket by unmodified JavaScript clients: version 2 of the AWS IoT device SDK signs with SigV4 for MQTT 3.1.1 and 5,
// version 1 presigns its URL, MQTT.js takes a URL that was presigned as browsers did it before there were SDKs for it. Prints one JSON object. Input comes in
// environment variables; see websocket_test.go.
import { readFileSync } from "node:fs";
import { get } from "node:https";
import { createHash, createHmac } from "node:crypto";
import sdk1 from "aws-iot-device-sdk";
import mqttjs from "mqtt";
import { auth, io, iot, mqtt, mqtt5 } from "aws-iot-device-sdk-v2";

const env = process.env;
const region = env.AWS_REGION;
const port = Number(env.IOT_WSS_PORT);
const ca = readFileSync(env.AWS_CA_BUNDLE, "utf8");
const keys = { id: env.KEY_ID, secret: env.KEY_SECRET, token: env.KEY_TOKEN };

// presign makes the URL as old clients do: X-Amz-Expires is optional, the session token is appended after signing.
function presign({ id, secret, token }, expires) {
  const hmac = (key, text) => createHmac("sha256", key).update(text).digest();
  const hash = (text) => createHash("sha256").update(text).digest("hex");
  const host = `${env.IOT_ENDPOINT}:${port}`;
  const date = new Date().toISOString().replace(/[-:]|\.\d{3}/g, "");
  const scope = [date.slice(0, 8), region, "iotdevicegateway", "aws4_request"];
  let query = `X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=${encodeURIComponent([id, ...scope].join("/"))}&X-Amz-Date=${date}`;
  if (expires) query += `&X-Amz-Expires=${expires}`;
  query += "&X-Amz-SignedHeaders=host";
  const canonical = ["GET", "/mqtt", query, `host:${host}`, "", "host", hash("")].join("\n");
  const key = scope.reduce((k, part) => hmac(k, part), "AWS4" + secret);
  const signature = hmac(key, ["AWS4-HMAC-SHA256", date, scope.join("/"), hash(canonical)].join("\n")).toString("hex");
  return `wss://${host}/mqtt?${query}&X-Amz-Signature=${signature}` + (token ? `&X-Amz-Security-Token=${encodeURIComponent(token)}` : "");
}

async function mqttjsRound(protocolVersion, url, clientId) {
  const client = await mqttjs.connectAsync(url, { clientId, protocolVersion, ca, reconnectPeriod: 0 });
  const topic = `web/${clientId}`;
  const heard = new Promise((resolve) => client.on("message", (t, payload) => resolve(payload.toString())));
  await client.subscribeAsync(topic, { qos: 1 });
  await client.publishAsync(topic, "mqttjs".padEnd(60000, "."), { qos: 1 });
  const message = await heard;
  await client.endAsync();
  return message.length;
}

// sdk1Round also has another client take over the client id: the SDK keeps what is published meanwhile, connects and subscribes again.
async function sdk1Round(clientId) {
  const device = sdk1.device({ protocol: "wss", host: env.IOT_ENDPOINT, port, region, caCert: Buffer.from(ca), clientId,
    accessKeyId: keys.id, secretKey: keys.secret, sessionToken: keys.token, baseReconnectTimeMs: 100, drainTimeMs: 10 });
  const topic = `web/${clientId}`;
  const heard = [];
  let more = () => {};
  device.on("message", (t, payload) => (heard.push(payload.toString()), more()));
  const hear = async (count) => {
    while (heard.length < count) await new Promise((resolve) => (more = resolve));
  };
  device.subscribe(topic, { qos: 1 });
  device.publish(topic, "sdk1".padEnd(60000, "."), { qos: 1 });
  await hear(1);
  const lost = new Promise((resolve) => device.once("close", resolve));
  const usurper = await mqttjs.connectAsync(presign(keys), { clientId, protocolVersion: 4, ca, reconnectPeriod: 0 });
  await lost;
  for (const text of ["one", "two", "three"]) device.publish(topic, text, { qos: 1 });
  await hear(4);
  await usurper.endAsync();
  await new Promise((resolve) => device.end(false, resolve));
  if (heard.slice(1).join() !== "one,two,three") throw new Error(`heard ${heard.slice(1)}`);
  return heard[0].length;
}

async function sdk3Round(clientId) {
  const config = iot.AwsIotMqttConnectionConfigBuilder.new_with_websockets({ region, credentials_provider: provider() })
    .with_certificate_authority(ca)
    .with_credentials(region, keys.id, keys.secret, keys.token)
    .with_endpoint(env.IOT_ENDPOINT)
    .with_port(port)
    .with_client_id(clientId)
    .with_clean_session(true)
    .build();
  const connection = new mqtt.MqttClient(new io.ClientBootstrap()).new_connection(config);
  await connection.connect();
  const topic = `web/${clientId}`;
  const heard = new Promise((resolve) => connection.on("message", (t, payload) => resolve(Buffer.from(payload).toString())));
  await connection.subscribe(topic, mqtt.QoS.AtLeastOnce);
  await connection.publish(topic, "sdk3".padEnd(60000, "."), mqtt.QoS.AtLeastOnce);
  const message = await heard;
  await connection.disconnect();
  return message.length;
}

const provider = () => auth.AwsCredentialsProvider.newStatic(keys.id, keys.secret, keys.token);

// sdk5 connects with MQTT 5 and resolves with the client, or with the refusal's text.
function sdk5(clientId) {
  const config = iot.AwsIotMqtt5ClientConfigBuilder.newWebsocketMqttBuilderWithSigv4Auth(env.IOT_ENDPOINT, { region, credentialsProvider: provider() })
    .withPort(port)
    .withCertificateAuthority(ca)
    .withConnectProperties({ clientId, keepAliveIntervalSeconds: 60 })
    .build();
  const client = new mqtt5.Mqtt5Client(config);
  return new Promise((resolve) => {
    client.on("connectionSuccess", () => resolve({ client }));
    client.on("connectionFailure", (e) => {
      client.stop();
      resolve({ refused: e.connack ? `CONNACK ${e.connack.reasonCode}` : String(e.error) });
    });
    client.start();
  });
}

async function sdk5Round(clientId) {
  const { client, refused } = await sdk5(clientId);
  if (refused) throw new Error(refused);
  const topic = `web/${clientId}`;
  const heard = new Promise((resolve) => client.on("messageReceived", (e) => resolve(Buffer.from(e.message.payload).toString())));
  await client.subscribe({ subscriptions: [{ topicFilter: topic, qos: mqtt5.QoS.AtLeastOnce }] });
  await client.publish({ topicName: topic, qos: mqtt5.QoS.AtLeastOnce, payload: "sdk5".padEnd(60000, ".") });
  const message = await heard;
  client.stop();
  return message.length;
}

// refusal is what the server says to the upgrade of an MQTT.js client, which itself tells only that the connection was closed.
async function refusal(url) {
  const client = mqttjs.connect(url, { clientId: id("no"), ca, reconnectPeriod: 0 });
  const how = await new Promise((resolve) => {
    client.on("connect", () => resolve("let in"));
    client.on("close", () => resolve("closed"));
  });
  client.end(true);
  const answer = await new Promise((resolve, reject) => get(url.replace("wss:", "https:"), { ca }, resolve).on("error", reject));
  answer.resume();
  return `${how} ${answer.statusCode} ${answer.headers["x-amzn-errortype"]}`;
}

const id = (name) => `${env.PREFIX}-${name}`;
console.log(JSON.stringify({
  mqttjs3: await mqttjsRound(4, presign(keys), id("mqttjs3")),
  mqttjs5: await mqttjsRound(5, presign(keys, 86400), id("mqttjs5")),
  sdk1: await sdk1Round(id("sdk1")),
  sdk3: await sdk3Round(id("sdk3")),
  sdk5: await sdk5Round(id("sdk5")),
  stranger: (await sdk5("somebody-else")).refused,
  forged: await refusal(presign({ ...keys, secret: "forged" }, 60)),
  tokenless: await refusal(presign({ ...keys, token: "" }, 60)),
}));
process.exit(0);
