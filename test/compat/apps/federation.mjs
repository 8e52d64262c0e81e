// Somebody signs in at an app by another identity provider: from the app's request over the pool's own page and the provider's back to the
// app, with whatever forms the provider's pages have.
import { finish, open, shot } from "./driver.mjs";

const env = process.env;
const { browser, page } = await open();
const back = page.waitForURL((url) => url.href.startsWith(env.BACK), { timeout: 0 }).then(() => Object.fromEntries(new URL(page.url()).searchParams));
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
  const left = page.waitForEvent("framenavigated", { timeout: 30_000 }).catch(() => {}); // a page may have sent itself meanwhile
  await form.locator('button, input[type="submit"]').first().click({ timeout: 2000 }).catch(() => {});
  await left;
}
const got = await back;
const cookies = (await page.context().cookies()).map((c) => ({ name: c.name, sameSite: c.sameSite, secure: c.secure, httpOnly: c.httpOnly }));
await browser.close();
finish({ got, cookies, seen });
