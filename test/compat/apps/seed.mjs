// Plays an installer at the description's sample app, with the libraries of its time: the sign-in page, a wrong password, the
// first sign-in with its new password, the home page, a claim in the console, sign-out. Prints one JSON object; see amplify_test.go.
import { bundle, finish, logged, open, serve, shot } from "./driver.mjs";

const env = process.env;
await bundle(env.APP, "seed");
const url = await serve(env.APP, env.HEAD);
const rules = env.RULES ? env.RULES.split("|") : [];
const { browser, page, told } = await open({ rules });

async function signIn(password) {
  await page.locator('[data-test="sign-in-username-input"]').fill(env.INSTALLER);
  await page.locator('[data-test="sign-in-password-input"]').fill(password);
  await page.locator("amplify-sign-in amplify-button", { hasText: "Sign In" }).click();
}

await page.goto(url);
await page.locator("amplify-sign-in").waitFor();
const heading = await page.locator("amplify-sign-in").innerText();
await shot(page, env.SHOT + "-1-sign-in");
await signIn("not-the-password");
const toast = page.locator("amplify-toast .toast"); // the element itself has no size
await toast.waitFor();
const refused = (await toast.innerText()).trim();
await shot(page, env.SHOT + "-2-wrong-password");
await signIn(env.TEMPORARY || env.PASSWORD);
if (env.TEMPORARY) {
  const renew = page.locator("amplify-require-new-password");
  await renew.locator('[data-test="require-new-password-password-input"]').fill(env.PASSWORD);
  await shot(page, env.SHOT + "-3-new-password");
  await renew.locator("amplify-button", { hasText: "Change" }).click();
}
const button = page.locator('input[value="Create Provisioning Claim"]');
await button.waitFor();
await shot(page, env.SHOT + "-4-home");
const claim = await logged(page, (m) => m.type() === "log", () => button.click());
await page.locator("amplify-sign-out amplify-button").click();
await page.locator("amplify-sign-in").waitFor();
await shot(page, env.SHOT + "-5-signed-out");
const kept = await page.evaluate(() => Object.keys(localStorage));
await browser.close();
finish({ heading, refused, claim, kept, requests: told.requests, console: told.console.map((m) => m.text().slice(0, 300)) });
