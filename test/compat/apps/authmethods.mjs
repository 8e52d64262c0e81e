// Calls every public method of Amplify 4's Auth in a browser (authmethods/src/index.js). Prints one JSON object; see authmethods_test.go.
import { createHmac } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { bundle, finish, open, serve } from "./driver.mjs";

const env = process.env;
await bundle(env.APP, "seed");
const { browser, page, told } = await open();

// codeFor waits for the nth message of a reason in the outbox and returns its code.
async function codeFor(reason, nth) {
  for (const end = Date.now() + 120_000; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
    const files = (await readdir(env.OUTBOX)).filter((f) => f.includes(`-${reason}-`)).sort();
    if (files.length >= nth) return JSON.parse(await readFile(path.join(env.OUTBOX, files[nth - 1]), "utf8")).Code;
  }
  throw new Error(`no ${nth}. message for ${reason}`);
}

// shown is what an authenticator app shows now, or steps ahead.
function shown(secret, ahead) {
  const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + ahead));
  const sum = createHmac("sha1", Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))).update(counter).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

await page.exposeFunction("codeFor", codeFor);
await page.exposeFunction("shown", shown);
await page.addInitScript((temporary) => (window.temporary = temporary), env.TEMPORARY);
await page.goto(await serve(env.APP, env.HEAD));
const { became, methods } = await page.evaluate(() => window.play());
await browser.close();
// TypeScript's private methods are as callable as the others; the source knows them.
const source = await readFile(path.join(env.APP, "node_modules/@aws-amplify/auth/src/Auth.ts"), "utf8");
const hidden = [...source.matchAll(/^\tprivate (?:async )?(\w+)\(/gm)].map((m) => m[1]);
finish({ became, methods: methods.filter((m) => !hidden.includes(m)), requests: told.requests });
