// Passkeys in Chromium, with its virtual authenticator: by Amplify 6 and at the pages of hosted sign-in.
import { bundle, finish, open, shot, watch } from "./driver.mjs";

const env = process.env;
await bundle(env.APP, "amplify6");
const { browser, page, told } = await open();
const devtools = await page.context().newCDPSession(page);
await devtools.send("WebAuthn.enable");
const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
  options: { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
});
const keys = async () => (await devtools.send("WebAuthn.getCredentials", { authenticatorId })).credentials;
const verifies = (isUserVerified) => devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified });

// By Amplify.
const call = (method, argument) => page.evaluate(([m, a]) => window.auth[m](a), [method, argument]);
const choice = (options, more) => call("signIn", { username: "ida", options: { authFlowType: "USER_AUTH", ...options }, ...more });
const amplify = {};
await page.goto(env.HOME_PAGE);
amplify.srp = await choice({ preferredChallenge: "PASSWORD_SRP" }, { password: env.PASSWORD });
amplify.associated = await call("associate");
amplify.again = await call("associate"); // the browser knows it by excludeCredentials
amplify.listed = await call("list");
amplify.out = await call("signOut");
amplify.preferred = await choice({ preferredChallenge: "WEB_AUTHN" });
amplify.who = await call("who");
await call("signOut");
amplify.asked = await choice({});
amplify.chosen = await call("confirmSignIn", "WEB_AUTHN");
await call("signOut");
await choice({});
amplify.password = [await call("confirmSignIn", "PASSWORD"), await call("confirmSignIn", env.PASSWORD)];
await call("signOut");
await choice({});
amplify.passwordSRP = [await call("confirmSignIn", "PASSWORD_SRP"), await call("confirmSignIn", env.PASSWORD)];
await call("signOut");
amplify.preferredPassword = await choice({ preferredChallenge: "PASSWORD" }, { password: env.PASSWORD });
await call("signOut");
await verifies(false);
amplify.unverified = await choice({ preferredChallenge: "WEB_AUTHN" });
await verifies(true);
// The key is in another place as well: the copy has signed less often.
await choice({ preferredChallenge: "WEB_AUTHN" });
const [key] = await keys();
await devtools.send("WebAuthn.removeCredential", { authenticatorId, credentialId: key.credentialId });
await devtools.send("WebAuthn.addCredential", { authenticatorId, credential: { ...key, signCount: 1 } });
await call("signOut");
amplify.copied = await choice({ preferredChallenge: "WEB_AUTHN" });
await choice({ preferredChallenge: "PASSWORD" }, { password: env.PASSWORD });
amplify.removed = await call("remove", amplify.listed[0].credentialId);
amplify.left = await call("list");
await call("signOut");
amplify.without = await choice({ preferredChallenge: "WEB_AUTHN" });
await devtools.send("WebAuthn.clearCredentials", { authenticatorId });

// At the pages.
const { look, seen, faults } = await watch(browser, page, "passkeys");
const passkeyButton = page.getByRole("button", { name: "Sign in with a passkey" });
const signInWithPasskey = async () => {
  await page.locator('input[name="username"]').fill("ida");
  await passkeyButton.click();
};
await page.goto(env.ADDRESS);
await look("sign-in");
await signInWithPasskey();
await page.getByRole("alert").waitFor();
await look("none");
await page.getByRole("link", { name: "Add or remove passkeys" }).click();
await look("sign-in-first");
await page.locator('input[name="username"]').fill("ida");
await page.locator('input[name="password"]').fill(env.PASSWORD);
await page.getByRole("button", { name: "Sign in", exact: true }).click();
await page.getByRole("heading", { name: "Your passkeys" }).waitFor();
await look("passkeys");
await page.getByRole("button", { name: "Add a passkey" }).click();
await page.getByText("The passkey was added.").waitFor();
await look("added");
await page.getByRole("button", { name: "Add a passkey" }).click();
const alert = page.locator("form [role=alert]");
await alert.waitFor();
seen.push(await alert.innerText());
await page.getByRole("link", { name: "Go on to the app" }).click();
await page.waitForURL((url) => url.href.startsWith(env.BACK));
await look("app");

await page.goto(env.AGAIN);
await signInWithPasskey();
await page.waitForURL((url) => url.href.startsWith(env.BACK));
await look("app");
await page.goto(env.AGAIN);
await devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled: false });
await signInWithPasskey();
await page.getByRole("heading", { name: "Use your passkey" }).waitFor();
await look("use");
await devtools.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId, enabled: true });
await page.getByRole("button", { name: "Use the passkey" }).click(); // again: the browser is still waiting
await page.waitForURL((url) => url.href.startsWith(env.BACK));
await look("app");
await verifies(false);
await page.goto(env.AGAIN);
await signInWithPasskey();
await alert.waitFor();
seen.push(await alert.innerText());
await verifies(true);
await page.getByRole("button", { name: "Use the passkey" }).click();
await page.waitForURL((url) => url.href.startsWith(env.BACK));
await look("app");

await page.goto(env.PASSKEYS);
await page.getByRole("button", { name: /^Remove / }).click();
await page.getByText("The passkey was removed.").waitFor();
await look("removed");
await page.getByRole("link", { name: "Go on to the app" }).click();
await page.waitForURL((url) => url.href.startsWith(env.BACK));
const back = page.url();

// Without JavaScript the page takes passwords, and shows nothing that it cannot do.
const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
await plain.goto(env.ADDRESS);
const without = { button: await plain.getByRole("button", { name: "Sign in with a passkey" }).isVisible() };
await plain.locator('input[name="username"]').fill("ida");
await plain.locator('input[name="password"]').fill(env.PASSWORD);
await Promise.all([plain.waitForEvent("load"), plain.getByRole("button", { name: "Sign in", exact: true }).click()]);
without.signedIn = plain.url().startsWith(env.BACK);
await plain.goto(env.PASSKEYS);
without.told = await plain.getByText("Passkeys need JavaScript").isVisible();
await shot(plain, "passkeys-without-javascript");
await browser.close();
finish({ amplify, seen, faults, back, without, requests: told.requests, console: told.console.map((m) => m.text().slice(0, 300)) });
