// The same as seed.mjs at an app with Amplify 6 and its Authenticator.
import { bundle, finish, logged, open, serve, shot } from "./driver.mjs";

const env = process.env;
await bundle(env.APP, "amplify6");
const { browser, page, told } = await open();

async function signIn(password) {
  await page.locator('input[name="username"]').fill(env.INSTALLER);
  await page.locator('input[name="password"]').fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

await page.goto(await serve(env.APP));
await page.locator('input[name="username"]').waitFor();
const heading = await page.locator("[data-amplify-authenticator]").innerText();
await shot(page, env.SHOT + "-1-sign-in");
await signIn("not-the-password");
const alert = page.getByRole("alert");
await alert.waitFor();
const refused = (await alert.innerText()).trim();
await shot(page, env.SHOT + "-2-wrong-password");
await signIn(env.TEMPORARY);
await page.locator('input[name="confirm_password"]').fill(env.PASSWORD);
await page.locator('input[name="password"]').fill(env.PASSWORD);
await shot(page, env.SHOT + "-3-new-password");
await page.getByRole("button", { name: "Change Password" }).click();
const button = page.getByRole("button", { name: "Create Provisioning Claim" });
await button.waitFor();
await shot(page, env.SHOT + "-4-home");
const claim = await logged(page, (m) => ["log", "error"].includes(m.type()), () => button.click());
await page.getByRole("button", { name: "Sign out" }).click();
await page.locator('input[name="username"]').waitFor();
await shot(page, env.SHOT + "-5-signed-out");
const kept = await page.evaluate(() => Object.keys(localStorage));
await browser.close();
finish({ heading, refused, claim, kept, requests: told.requests, console: told.console.map((m) => m.text().slice(0, 300)) });
