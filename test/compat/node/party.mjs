// Parties played by MQTT.js, for MQTT 3.1.1 and 5: see test/compat/party_test.go. Reads requests, one line of JSON each, until the
// end of its input. IOT_CERT and IOT_KEY name the device's files.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";

const env = process.env;
const files = { ca: readFileSync(env.AWS_CA_BUNDLE), cert: readFileSync(env.IOT_CERT), key: readFileSync(env.IOT_KEY) };
const timeout = 20_000;
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// set drops what is not set: MQTT.js takes undefined for a value.
const set = (values) => Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined));

const messageProperties = (l) => set({
  payloadFormatIndicator: l.format === undefined ? undefined : l.format === 1,
  messageExpiryInterval: l.expiry,
  contentType: l.contentType,
  responseTopic: l.response,
  correlationData: l.correlation === undefined ? undefined : Buffer.from(l.correlation),
  topicAlias: l.alias,
  userProperties: userProperties(l.user),
});

function userProperties(pairs) {
  if (!pairs) return undefined;
  const out = {};
  for (const [k, v] of pairs) out[k] = k in out ? [].concat(out[k], v) : v;
  return out;
}

function letterOf(topic, payload, { qos, retain, properties: p = {} }) {
  const user = Object.entries(p.userProperties ?? {}).flatMap(([k, v]) => [].concat(v).map((one) => [k, one]));
  return set({
    topic, payload: payload.toString(), qos, retain,
    format: p.payloadFormatIndicator === undefined ? undefined : Number(p.payloadFormatIndicator),
    expiry: p.messageExpiryInterval, contentType: p.contentType, response: p.responseTopic,
    correlation: p.correlationData?.toString(), user: user.length ? user : undefined,
  });
}

class Party {
  constructor(name, v) {
    Object.assign(this, { name, v });
  }

  connect({ join }) {
    const will = join.will && { topic: join.will.topic, payload: join.will.payload, qos: join.will.qos, retain: Boolean(join.will.retain),
      properties: messageProperties(join.will) };
    const c = this.client = mqtt.connect({
      protocol: "mqtts", host: join.host ?? env.IOT_ENDPOINT, port: Number(join.alpn ? env.IOT_ALPN_PORT : env.IOT_PORT), ...files,
      ...(join.alpn && { ALPNProtocols: ["x-amzn-mqtt-ca"] }),
      clientId: join.clientId, clean: join.clean, keepalive: join.keepAlive, protocolVersion: this.v, reconnectPeriod: join.reconnect ? 100 : 0, resubscribe: false,
      will, properties: this.v === 5 ? set({ sessionExpiryInterval: join.expiry, receiveMaximum: join.receiveMax, maximumPacketSize: join.maxPacketSize }) : undefined,
    });
    if (join.hold) c.handleMessage = () => {}; // MQTT.js acknowledges when it calls back
    c.setMaxListeners(1000); // one waits for the end of the connection with each request
    let code = 0;
    c.on("message", (topic, payload, packet) => say({ party: this.name, mail: letterOf(topic, payload, packet) }));
    c.on("disconnect", (packet) => (code = packet.reasonCode));
    c.on("close", () => c.over || say({ party: this.name, lost: true, code }));
    return new Promise((resolve, reject) => {
      c.on("error", reject);
      c.once("close", () => reject(new Error("the connection was closed")));
      c.once("connect", ({ sessionPresent, properties: p = {} }) => resolve({ welcome: set({
        sessionPresent, assignedId: p.assignedClientIdentifier, keepAlive: p.serverKeepAlive, receiveMax: p.receiveMaximum,
        maxPacketSize: p.maximumPacketSize, aliasMax: p.topicAliasMaximum, expiry: p.sessionExpiryInterval }) }));
    });
  }

  subscribe({ ask }) {
    const filters = Object.fromEntries(ask.map((a) => [a.filter, { qos: a.qos, nl: Boolean(a.noLocal), rap: Boolean(a.retainAsPublished), rh: a.retainHandling ?? 0 }]));
    const more = ask[0].identifier ? { properties: { subscriptionIdentifier: ask[0].identifier } } : {};
    return new Promise((resolve, reject) => {
      this.client.once("close", () => reject(new Error("the connection was closed")));
      this.client.subscribe(filters, more, (err, granted) => {
        if (err?.code >= 128) return resolve({ codes: [err.code] });
        return err ? reject(err) : resolve({ codes: granted.map((g) => g.qos) });
      });
    });
  }

  async unsubscribe({ filter }) {
    await this.client.unsubscribeAsync(filter);
    return {};
  }

  publish({ letter: l }) {
    const options = { qos: l.qos, retain: Boolean(l.retain), properties: this.v === 5 ? messageProperties(l) : undefined };
    return new Promise((resolve, reject) => {
      this.client.once("close", () => reject(new Error("the connection was closed")));
      this.client.publish(l.topic, l.payload, options, (err) => {
        if (err?.code >= 128) return resolve({ code: err.code });
        return err ? reject(err) : resolve({});
      });
    });
  }

  async disconnect({ expiry }) {
    this.client.over = true;
    this.client.options.reconnectPeriod = 0;
    if (!this.client.connected) return {};
    await this.client.endAsync(false, expiry === undefined ? {} : { properties: { sessionExpiryInterval: expiry } });
    return {};
  }

  cut() {
    this.client.over = true;
    this.client.options.reconnectPeriod = 0;
    this.client.stream.destroy();
    return {};
  }
}

const parties = {};
const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const q = JSON.parse(line);
  const p = (parties[q.party] ??= new Party(q.party, q.v));
  let clock;
  const late = new Promise((_, reject) => (clock = setTimeout(() => reject(new Error(`no answer within ${timeout} ms`)), timeout)));
  try {
    say({ id: q.id, ...(await Promise.race([p[q.do](q), late])) });
  } catch (e) {
    say({ id: q.id, error: e.code === undefined ? e.message : `${e.message} (${e.code})` });
  } finally {
    clearTimeout(clock);
  }
});
lines.on("close", () => process.exit(0));
