// An app with Amplify 6 signs in by signInWithRedirect, and out again.
import { bundle, finish, open, shot } from "./driver.mjs";

const env = process.env;
await bundle(env.APP, "amplify6");
const { browser, page, told } = await open();
await page.goto(env.ADDRESS);
await page.getByRole("button", { name: "Sign in" }).click();
await page.locator('input[name="username"]').fill("ida");
await page.locator('input[name="password"]').fill(env.PASSWORD);
const pages = new URL(page.url());
await shot(page, "redirect-1-sign-in");
await page.getByRole("button", { name: "Sign in" }).click();
await page.getByText("signed in: ").waitFor();
const who = await page.locator("#who").innerText();
const seen = await page.evaluate(() => window.SEEN);
await page.reload();
await page.getByText("signed in: ").waitFor();
await page.getByRole("button", { name: "Sign out" }).click();
await page.getByText("signed out").waitFor();
await page.getByRole("button", { name: "Sign in" }).click();
await page.locator('input[name="username"]').waitFor(); // asked again: the sign-out was one at the pages too
await browser.close();
finish({ who, seen, pages: pages.pathname, requests: told.requests, console: told.console.map((m) => m.text().slice(0, 300)) });
