// Parties played by version 1 of the AWS IoT device SDK, MQTT 3.1.1: see test/compat/party_test.go.
import sdk from "aws-iot-device-sdk";
import { env, files, play, say } from "./troupe.mjs";

class Party {
  constructor(name) {
    this.name = name;
  }

  connect({ join }) {
    const will = join.will && { topic: join.will.topic, payload: join.will.payload, qos: join.will.qos, retain: Boolean(join.will.retain) };
    const d = this.device = sdk.device({
      host: join.host ?? env.IOT_ENDPOINT, port: Number(join.alpn ? env.IOT_ALPN_PORT : env.IOT_PORT),
      caCert: files.ca, clientCert: files.cert, privateKey: files.key, ...(join.alpn && { ALPNProtocols: ["x-amzn-mqtt-ca"] }),
      clientId: join.clientId, clean: join.clean, keepalive: join.keepAlive, will, baseReconnectTimeMs: 100, drainTimeMs: 10,
    });
    d.setMaxListeners(1000); // one waits for the end of the connection with each request
    this.over = false;
    d.on("message", (topic, payload, { qos, retain }) => say({ party: this.name, mail: { topic, payload: payload.toString(), qos, retain } }));
    d.on("close", () => {
      if (this.over) return;
      say({ party: this.name, lost: true });
      if (!join.reconnect) d.end(true); // it would connect again for ever
    });
    return new Promise((resolve, reject) => {
      d.on("error", reject);
      d.once("close", () => reject(new Error("the connection was closed")));
      d.once("connect", ({ sessionPresent }) => resolve({ welcome: { sessionPresent } }));
    });
  }

  subscribe({ ask: [{ filter, qos }] }) {
    return this.does((done) => this.device.subscribe(filter, { qos }, done)).then((granted) => ({ codes: granted.map((g) => g.qos) }));
  }

  unsubscribe({ filter }) {
    return this.does((done) => this.device.unsubscribe(filter, done)).then(() => ({}));
  }

  publish({ letter: { topic, payload, qos, retain } }) {
    return this.does((done) => this.device.publish(topic, payload, { qos, retain: Boolean(retain) }, done)).then(() => ({}));
  }

  does(what) {
    return new Promise((resolve, reject) => {
      this.device.once("close", () => reject(new Error("the connection was closed")));
      what((err, out) => (err ? reject(err) : resolve(out)));
    });
  }

  disconnect() {
    this.over = true;
    return new Promise((resolve) => this.device.end(false, () => resolve({})));
  }
}

play(Party);
