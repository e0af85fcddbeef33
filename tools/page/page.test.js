// Drives a real browser through the API page of the relay at RELAY_URL. CHROMIUM is the path of the browser. With SCREENSHOT, the first
// screen of the page is written to that file.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const relay = process.env.RELAY_URL;
const offline = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"];
let browser;

before(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: offline, chromiumSandbox: process.getuid() !== 0 });
});
after(() => browser?.close());

// open shows a page in a window of its own, and notes what the browser complains about and asks for elsewhere.
async function open(t, options = {}, path = "/docs") {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  const seen = { complaints: [], elsewhere: [] };
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && seen.complaints.push(m.text()));
  page.on("pageerror", (e) => seen.complaints.push(String(e)));
  page.on("request", (r) => r.url().startsWith("data:") || new URL(r.url()).origin === relay || seen.elsewhere.push(r.url()));
  page.on("websocket", (s) => seen.elsewhere.push(s.url()));
  const answer = await page.goto(relay + path);
  assert.equal(answer.status(), 200);
  if (path === "/docs") await page.locator(".opblock").first().waitFor();
  return { page, seen };
}

const quiet = { complaints: [], elsewhere: [] };
const operation = (page, id) => page.locator(`.opblock[id$="-${id}"]`);

// execute opens an operation, fills in its body if there is one, and presses Execute; it returns status and body of the answer.
async function execute(page, id, body) {
  const block = operation(page, id);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  if (body) await block.locator("textarea").fill(JSON.stringify(body));
  await block.getByRole("button", { name: "Execute" }).click();
  const answer = block.locator(".live-responses-table .response");
  const status = await answer.locator(".response-col_status").innerText();
  const shown = await answer.locator(".highlight-code pre").first().innerText();
  return { status: Number.parseInt(status), body: shown };
}

test("is where the relay's address leads to", async (t) => {
  const { page, seen } = await open(t, {}, "/");
  assert.equal(await page.getByRole("heading").innerText(), "Obscura relay");
  await page.getByRole("link", { name: "The API" }).click();
  await page.locator(".opblock").first().waitFor();
  assert.deepEqual(seen, quiet);
});

test("lists every operation of the contract, quietly", async (t) => {
  const { page, seen } = await open(t);
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  const contract = await (await fetch(`${relay}/openapi.json`)).json();
  const operations = Object.entries(contract.paths).flatMap(([path, item]) =>
    Object.entries(item).filter(([, o]) => o.operationId).map(([method, o]) => ({ path, method, id: o.operationId })));
  assert.ok(operations.length > 20);
  for (const { path, method, id } of operations) {
    const text = (await operation(page, id).locator(".opblock-summary").innerText()).replace(/\s|\u200b/g, "");
    for (const part of [method.toUpperCase(), path, id]) assert.ok(text.includes(part), `${id}: ${text} lacks ${part}`);
  }
  assert.equal(await page.locator(".opblock").count(), operations.length);
  assert.equal(await page.locator(".errors-wrapper").count(), 0);
  assert.deepEqual(seen, quiet);
});

test("tries operations out on the relay it came from", async (t) => {
  const { page, seen } = await open(t);
  const username = `page_${Date.now()}`;
  const registered = await execute(page, "createUser", { username, password: "a long password of hers" });
  assert.equal(registered.status, 201);
  const { token } = JSON.parse(registered.body);

  await page.getByRole("button", { name: "Authorize" }).click();
  // There is a form for each way to say who one is; the first takes access tokens.
  await page.locator("#auth-bearer-value").fill(token);
  await page.locator(".modal-ux button.authorize").first().click();
  await page.locator(".modal-ux button.btn-done").first().click();
  const account = await execute(page, "getAccount");
  assert.equal(account.status, 200);
  assert.equal(JSON.parse(account.body).username, username);
  assert.deepEqual(seen, quiet);
});

// What somebody could bring into the page. Each says so in the window if it runs.
const intrusions = {
  "an inline script": () => {
    const script = document.createElement("script");
    script.textContent = "window.intruded = true";
    document.body.append(script);
  },
  "an inline handler": () => {
    const button = document.createElement("button");
    button.setAttribute("onclick", "window.intruded = true");
    document.body.append(button);
    button.click();
  },
  "a text as code": () => {
    setTimeout("window.intruded = true", 0);
  },
};

for (const [name, intrude] of Object.entries(intrusions)) {
  test(`does not run ${name}`, async (t) => {
    const ran = async (options) => {
      const { page, seen } = await open(t, options);
      await page.evaluate(intrude).catch(() => {}); // some are refused by an exception
      await page.evaluate(() => new Promise((done) => setTimeout(done, 50)));
      return { ran: await page.evaluate(() => window.intruded === true), complaints: seen.complaints.length };
    };
    assert.deepEqual(await ran({ bypassCSP: true }), { ran: true, complaints: 0 }, "it should run where no policy forbids it");
    const here = await ran({});
    assert.equal(here.ran, false);
    assert.ok(here.complaints > 0, "the browser should complain");
  });
}

test("does not get out, and the check would see it", async (t) => {
  const { page, seen } = await open(t);
  const elsewhere = "http://127.0.0.1:9/";
  assert.equal(await page.evaluate((url) => fetch(url).then(() => "sent", () => "refused"), elsewhere), "refused");
  assert.match(seen.complaints.join("\n"), /Content Security Policy/);

  const free = await open(t, { bypassCSP: true });
  await free.page.evaluate((url) => fetch(url).catch(() => {}), elsewhere);
  assert.deepEqual(free.seen.elsewhere, [elsewhere]);
  assert.ok(free.seen.complaints.length > 0);
});
