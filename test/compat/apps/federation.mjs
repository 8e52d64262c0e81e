// Somebody signs in at an app by another identity provider: from the app's request over the pool's own page and the provider's back to the
// app, with whatever forms the provider's pages have.
import { createServer } from "node:http";
import { finish, open, shot } from "./driver.mjs";

const env = process.env;
let arrived;
const back = new Promise((done) => (arrived = done));
const app = createServer((req, res) => {
  res.end("back");
  if (req.url.startsWith("/back")) arrived(Object.fromEntries(new URL(req.url, "http://x").searchParams));
});
await new Promise((done) => app.listen(Number(new URL(env.BACK).port), "127.0.0.1", done));
const { browser, page } = await open();
await page.goto(env.START);
const way = page.getByRole("link", { name: env.LINK });
await way.waitFor();
await shot(page, env.SHOT + "-1-sign-in");
await way.click();
const seen = [];
for (let step = 0; step < 10; step++) {
  const form = page.locator("form").first();
  if ((await Promise.race([back.then(() => "back"), form.waitFor().then(() => "form", () => "none")])) !== "form") break;
  await shot(page, `${env.SHOT}-2-provider-${step}`);
  seen.push(new URL(page.url()).pathname);
  if (await page.locator('input[name="login"]').count()) {
    await page.locator('input[name="login"]').fill("ada");
    await page.locator('input[name="password"]').fill("anything");
  }
  const left = page.waitForEvent("framenavigated").catch(() => {}); // a page may have sent itself meanwhile
  await form.locator('button, input[type="submit"]').first().click({ timeout: 2000 }).catch(() => {});
  await left;
}
const got = await back;
const cookies = (await page.context().cookies()).map((c) => ({ name: c.name, sameSite: c.sameSite, secure: c.secure, httpOnly: c.httpOnly }));
await browser.close();
finish({ got, cookies, seen });
