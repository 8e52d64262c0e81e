// What the scripts beside this one share: an app is bundled and served, Debian's Chromium opens it.
import { createServer } from "node:http";
import { mkdir, readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const env = process.env;
const here = path.dirname(fileURLToPath(import.meta.url));

// bundle builds the app in a folder with the packages of one of the folders beside this file, as its people would with theirs.
export async function bundle(app, packages) {
  await symlink(path.join(here, packages, "node_modules"), path.join(app, "node_modules")).catch(() => {});
  await build({
    entryPoints: [path.join(app, "src/index.js")], bundle: true, outfile: path.join(app, "build/app.js"), absWorkingDir: app,
    loader: { ".js": "jsx", ".svg": "dataurl" }, jsx: "automatic", define: { global: "window", "process.env.NODE_ENV": '"production"' },
    target: "es2020", logLevel: "error",
  });
}

// serve serves a bundled app on loopback, which browsers take for a secure origin; head goes into the page before the app.
export async function serve(app, head = "") {
  const index = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>app</title><link rel="stylesheet" href="/app.css">${head}</head>
<body><div id="root"></div><script src="/app.js"></script></body></html>`;
  const types = { ".js": "text/javascript", ".css": "text/css" };
  const server = createServer(async (req, res) => {
    const name = path.basename(new URL(req.url, "http://x").pathname);
    if (!types[path.extname(name)]) return res.setHeader("Content-Type", "text/html").end(index);
    try {
      const text = await readFile(path.join(app, "build", name));
      res.setHeader("Content-Type", types[path.extname(name)]).end(text);
    } catch {
      res.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return `http://localhost:${server.address().port}/`;
}

// open starts a browser whose home is HOME: what its NSS database trusts, it trusts. Nothing but this machine is reachable.
export async function open({ rules = [] } = {}) {
  const browser = await chromium.launch({
    executablePath: env.CHROMIUM || "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
      "--disable-sync", "--host-resolver-rules=" + [...rules, "MAP * ~NOTFOUND", "EXCLUDE localhost", "EXCLUDE 127.0.0.1"].join(", ")],
  });
  const page = await browser.newPage({ viewport: { width: 1000, height: 800 } });
  page.setDefaultTimeout(120_000);
  const told = { console: [], requests: [] };
  page.on("console", (m) => told.console.push(m));
  page.on("pageerror", (e) => told.console.push({ text: () => "uncaught: " + e.message, args: () => [], type: () => "error" }));
  page.on("request", (r) => {
    if (r.method() === "OPTIONS" || !r.url().startsWith("https:")) return;
    const target = r.headers()["x-amz-target"];
    told.requests.push(`${new URL(r.url()).host} ${target ? target.split(".")[1] : r.method() + " " + new URL(r.url()).pathname}`);
  });
  return { browser, page, told };
}

// shot takes a picture into the folder SCREENSHOTS, if there is one.
export async function shot(page, name) {
  if (!env.SCREENSHOTS) return;
  await mkdir(env.SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: path.join(env.SCREENSHOTS, name + ".png") });
}

// watch looks at the pages of hosted sign-in that a page shows: which they are, and what axe finds in them.
export async function watch(browser, page, name) {
  const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  // axe needs JavaScript, so it looks at a copy of each page elsewhere.
  const looking = await browser.newContext({ bypassCSP: true });
  const copy = await looking.newPage();
  const seen = [], faults = [];

  // look notes which page is shown, and lets axe look at it, in light and in the dark.
  async function look(what) {
    if (page.url().startsWith(env.BACK)) return seen.push("the app");
    const heading = await page.locator("h1").innerText();
    const error = page.locator("#error");
    seen.push((await error.count()) ? `${heading}: ${await error.innerText()}` : heading);
    const url = page.url(), html = await page.content();
    await copy.route(url, (route) => route.fulfill({ contentType: "text/html", body: html }));
    for (const colorScheme of ["light", "dark"]) {
      await copy.emulateMedia({ colorScheme });
      await copy.goto(url);
      await copy.evaluate(axe);
      const { violations } = await copy.evaluate(() => axe.run());
      for (const v of violations) faults.push(`${heading} (${colorScheme}): ${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
    }
    await copy.unroute(url);
    if (!env.SCREENSHOTS) return;
    const at = `${name}-${String(seen.length).padStart(2, "0")}-${what}`;
    await shot(page, at);
    await page.emulateMedia({ colorScheme: "dark" });
    await page.setViewportSize({ width: 360, height: 740 });
    await shot(page, at + "-narrow-dark");
    await page.emulateMedia({ colorScheme: "light" });
    await page.setViewportSize({ width: 1000, height: 800 });
  }
  return { look, seen, faults };
}

// logged waits for a message of the console and returns its first argument as a value.
export async function logged(page, predicate, action) {
  const [message] = await Promise.all([page.waitForEvent("console", { predicate }), action()]);
  return message.args().length ? message.args()[0].jsonValue() : message.text();
}

export function finish(result) {
  console.log("\n" + JSON.stringify(result));
  process.exit(0);
}
