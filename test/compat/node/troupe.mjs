// What the parties in JavaScript have in common: see test/compat/party_test.go. IOT_CERT and IOT_KEY name the device's files.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export const env = process.env;
export const files = { ca: readFileSync(env.AWS_CA_BUNDLE), cert: readFileSync(env.IOT_CERT), key: readFileSync(env.IOT_KEY) };
export const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// set drops what is not set: the libraries take undefined for a value.
export const set = (values) => Object.fromEntries(Object.entries(values).filter(([, v]) => v !== undefined));

const timeout = 120_000;

// play reads requests, one line of JSON each, until the end of the input, and has a Party of its name and version do each.
export function play(Party) {
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
      say({ id: q.id, error: e.code === undefined ? e.message ?? String(e) : `${e.message} (${e.code})` });
    } finally {
      clearTimeout(clock);
    }
  });
  lines.on("close", () => process.exit(0));
}
