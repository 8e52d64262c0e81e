// Parties played by MQTT.js, for MQTT 3.1.1 and 5: see test/compat/party_test.go.
import mqtt from "mqtt";
import { env, files, play, say, set } from "./troupe.mjs";

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

play(Party);
