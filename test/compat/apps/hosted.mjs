// Every page of hosted sign-in, without JavaScript in the page: a temporary password, a software token, sign-up, recovery, sign-out.
import { createHmac } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { finish, open, watch } from "./driver.mjs";

const env = process.env;
const { browser } = await open();
const plain = await browser.newContext({ javaScriptEnabled: false, viewport: { width: 1000, height: 800 } });
const page = await plain.newPage();
page.setDefaultTimeout(120_000);
const { look, seen, faults } = await watch(browser, page, "hosted");

// send fills in the first form and sends it.
async function send(values) {
  for (const [name, value] of Object.entries(values)) await page.locator(`input[name="${name}"]`).fill(value);
  await Promise.all([page.waitForEvent("load"), page.locator("form button").first().click()]);
}

function code(secret, step) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let bits = "";
  for (const c of secret) bits += alphabet.indexOf(c).toString(2).padStart(5, "0");
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000) + step));
  const sum = createHmac("sha1", key).update(counter).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1e6).padStart(6, "0");
}

// mailed is the code of the newest message to somebody.
async function mailed(reason) {
  for (let tries = 0; tries < 2400; tries++) {
    const names = (await readdir(env.OUTBOX)).filter((n) => n.includes(`-${reason}-`)).sort();
    if (names.length) return JSON.parse(await readFile(path.join(env.OUTBOX, names.at(-1)), "utf8")).Code;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error("no message: " + reason);
}

await page.goto(env.ADDRESS);
await look("sign-in");
await send({ username: "ida", password: "wrong" });
await look("wrong-password");
await send({ username: "ida", password: "Temp0rary!" });
await look("new-password");
await send({ password: "short" });
await look("weak-password");
await send({ password: "Correct-Horse-7!" });
await look("set-up");
const secret = (await page.locator("code").innerText()).replaceAll(" ", "");
await send({ code: code(secret, 50) });
await look("set-up-wrong");
// A step may end on the way: what is shown now is then the step before, what is shown next is now. The code before would be too old.
await send({ code: code(secret, 0), device: "phone" });
await look("app");
await page.goto(env.ADDRESS); // is signed in
await look("app");
await page.goto(env.AGAIN);
await page.locator("h1").waitFor();
await send({ username: "ida", password: "Correct-Horse-7!" });
await look("code");
await send({ code: code(secret, 50) });
await look("wrong-code");
await send({ code: code(secret, 1) });
await look("app");
const cookie = (await plain.cookies(env.ADDRESS)).find((c) => c.name.startsWith("__Host-"));

await page.goto(env.AGAIN);
await page.getByRole("link", { name: "Sign up" }).click();
await look("sign-up");
await send({ username: "eve", "attribute.email": "eve@example.com", password: "Correct1234" });
await look("sign-up-weak");
await send({ password: "Correct-Horse-7!" });
await look("confirm");
await send({ code: "000000" });
await look("confirm-wrong");
await send({ code: await mailed("sign-up") });
await look("confirmed");
await page.getByRole("link", { name: "Forgot your password?" }).click();
await look("forgot");
await send({ username: "eve" });
await look("recover");
await send({ code: await mailed("recovery"), password: "Another-Horse-8!" });
await look("recovered");
await page.goto(env.LOGOUT);
const signedOut = page.url();
await browser.close();
finish({ seen, faults, signedOut, cookie });
