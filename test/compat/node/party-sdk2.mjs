// Parties played by version 2 of the AWS IoT device SDK, for MQTT 3.1.1 and 5: see test/compat/party_test.go. Its MQTT 5 client
// chooses topic aliases by itself.
import { io, iot, mqtt, mqtt5 } from "aws-iot-device-sdk-v2";
import { env, files, play, say, set } from "./troupe.mjs";

// Buffer.from takes no buffer that was detached, which is how nothing comes.
const text = (bytes) => (bytes === undefined ? undefined : bytes.byteLength === 0 ? "" : Buffer.from(bytes).toString());
const port = (join) => Number(join.alpn ? env.IOT_ALPN_PORT : env.IOT_PORT); // it offers x-amzn-mqtt-ca on any port

class Party3 {
  constructor(name) {
    this.name = name;
  }

  async connect({ join }) {
    const builder = iot.AwsIotMqttConnectionConfigBuilder.new_mtls_builder(files.cert.toString(), files.key.toString())
      .with_certificate_authority(files.ca.toString())
      .with_endpoint(join.host ?? env.IOT_ENDPOINT)
      .with_port(port(join))
      .with_client_id(join.clientId)
      .with_clean_session(join.clean)
      .with_keep_alive_seconds(join.keepAlive)
      .with_reconnect_min_sec(1);
    if (join.will) builder.with_will(new mqtt.MqttWill(join.will.topic, join.will.qos, join.will.payload, Boolean(join.will.retain)));
    const c = this.connection = new mqtt.MqttClient(new io.ClientBootstrap()).new_connection(builder.build());
    c.on("error", () => {}); // what was under way fails by itself
    c.on("message", (topic, payload, dup, qos, retain) => say({ party: this.name, mail: { topic, payload: text(payload), qos, retain } }));
    c.on("interrupt", () => {
      say({ party: this.name, lost: true });
      if (!join.reconnect) c.disconnect();
    });
    return { welcome: { sessionPresent: await c.connect() } };
  }

  async subscribe({ ask: [{ filter, qos }] }) {
    const granted = await this.connection.subscribe(filter, qos);
    return { codes: [granted.qos] };
  }

  async unsubscribe({ filter }) {
    await this.connection.unsubscribe(filter);
    return {};
  }

  async publish({ letter: { topic, payload, qos, retain } }) {
    await this.connection.publish(topic, payload, qos, Boolean(retain));
    return {};
  }

  async disconnect() {
    await this.connection.disconnect();
    return {};
  }
}

const messageOf = (l) => set({
  topicName: l.topic, payload: l.payload, qos: l.qos, retain: Boolean(l.retain), payloadFormat: l.format, messageExpiryIntervalSeconds: l.expiry,
  contentType: l.contentType, responseTopic: l.response, correlationData: l.correlation, userProperties: l.user?.map(([name, value]) => ({ name, value })),
});

const letterOf = (m) => set({
  topic: m.topicName, payload: text(m.payload), qos: m.qos, retain: m.retain, format: m.payloadFormat, expiry: m.messageExpiryIntervalSeconds,
  contentType: m.contentType, response: m.responseTopic, correlation: text(m.correlationData), user: m.userProperties?.map((p) => [p.name, p.value]),
});

class Party5 {
  constructor(name) {
    this.name = name;
  }

  connect({ join }) {
    const config = iot.AwsIotMqtt5ClientConfigBuilder.newDirectMqttBuilderWithMtlsFromMemory(join.host ?? env.IOT_ENDPOINT, files.cert.toString(), files.key.toString())
      .withPort(port(join))
      .withCertificateAuthority(files.ca.toString())
      .withSessionBehavior(join.clean ? mqtt5.ClientSessionBehavior.Clean : mqtt5.ClientSessionBehavior.RejoinAlways)
      .withTopicAliasingOptions({ outboundBehavior: mqtt5.OutboundTopicAliasBehaviorType.LRU, outboundCacheMaxSize: 8 })
      .withRetryJitterMode(mqtt5.RetryJitterType.None)
      .withMinReconnectDelayMs(join.reconnect ? 100 : 60_000) // else we stop it before
      .withMaxReconnectDelayMs(60_000)
      .withConnectProperties(set({
        clientId: join.clientId, keepAliveIntervalSeconds: join.keepAlive, sessionExpiryIntervalSeconds: join.expiry, receiveMaximum: join.receiveMax,
        maximumPacketSizeBytes: join.maxPacketSize, will: join.will && messageOf(join.will),
      }))
      .build();
    const c = this.client = new mqtt5.Mqtt5Client(config);
    c.on("error", () => {});
    this.stopped = new Promise((resolve) => c.once("stopped", resolve));
    c.on("messageReceived", ({ message }) => say({ party: this.name, mail: letterOf(message) }));
    this.over = false;
    c.on("disconnection", ({ disconnect }) => {
      if (this.over) return;
      say({ party: this.name, lost: true, code: disconnect?.reasonCode ?? 0 });
      if (!join.reconnect) c.stop();
    });
    return new Promise((resolve, reject) => {
      c.once("connectionFailure", ({ error, connack }) => {
        if (!join.reconnect) c.stop();
        reject(new Error(connack ? `CONNACK ${connack.reasonCode}` : String(error)));
      });
      c.once("connectionSuccess", ({ connack: k }) => resolve({ welcome: set({
        sessionPresent: k.sessionPresent, assignedId: k.assignedClientIdentifier, keepAlive: k.serverKeepAlive, receiveMax: k.receiveMaximum,
        maxPacketSize: k.maximumPacketSize, aliasMax: k.topicAliasMaximum, expiry: k.sessionExpiryInterval }) }));
      c.start();
    });
  }

  async subscribe({ ask }) {
    const subscriptions = ask.map((a) => ({ topicFilter: a.filter, qos: a.qos, noLocal: Boolean(a.noLocal), retainAsPublished: Boolean(a.retainAsPublished),
      retainHandlingType: a.retainHandling ?? 0 }));
    const { reasonCodes } = await this.client.subscribe(set({ subscriptions, subscriptionIdentifier: ask[0].identifier }));
    return { codes: reasonCodes };
  }

  async unsubscribe({ filter }) {
    await this.client.unsubscribe({ topicFilters: [filter] });
    return {};
  }

  async publish({ letter }) {
    const ack = await this.client.publish(messageOf(letter));
    return { code: ack?.reasonCode ?? 0 };
  }

  async disconnect({ expiry }) {
    this.over = true;
    this.client.stop(set({ reasonCode: mqtt5.DisconnectReasonCode.NormalDisconnection, sessionExpiryIntervalSeconds: expiry }));
    await this.stopped;
    return {};
  }
}

play(class {
  constructor(name, v) {
    return v === 5 ? new Party5(name) : new Party3(name);
  }
});
