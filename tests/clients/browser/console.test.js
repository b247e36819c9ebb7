// Tests the console of the local server in a real browser. Each test that changes keys or stops the server starts one of
// its own.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const env = process.env;
const PROGRAM = env.SERVER_PROGRAM;
const PYTHON = join(import.meta.dirname, "../python/.venv/bin/python");
const SCREENS = ["connect", "identities", "token", "requests", "keys", "entra", "test"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HOSTILE = "<img/src=x/onerror=window.hacked=1>";

let browser, server;
const running = new Set();

before(async () => {
  browser = await chromium.launch({ executablePath: env.CHROMIUM, args: ["--no-sandbox"] });
  server = await startServer();
});

after(async () => {
  await browser?.close();
  for (const each of running) await each.stop();
});

// A server with a state directory of its own, or with the directory and the ports of one that has stopped.
async function startServer(former) {
  const folder = former?.folder ?? mkdtempSync(join(tmpdir(), "console-"));
  const ports = former?.ports ?? ["0", "0"];
  const options = ["--data-dir", folder, "--http-port", ports[0], "--https-port", ports[1], "--algorithm", "ES256"];
  const child = spawn(PROGRAM, options, { stdio: ["ignore", "pipe", "ignore"] });
  for await (const line of createInterface({ input: child.stdout })) if (line.startsWith("Ctrl-C")) break;
  child.stdout.resume();
  const values = readFileSync(join(folder, "env"), "utf8").matchAll(/^(\w+)='(.*)'$/gm);
  const variables = Object.fromEntries([...values].map(([, name, value]) => [name, value]));
  let ready = null;
  while (ready === null) {
    await new Promise((resolve) => setImmediate(resolve));
    ready = readJson(join(folder, "ready.json"));
  }
  const { http, https } = ready.endpoints;
  const started = {
    folder,
    variables,
    http,
    ports: [new URL(http).port, new URL(https).port],
    token: () => readFileSync(join(folder, "control-token"), "utf8"),
    stop: async () => {
      running.delete(started);
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
    },
    discard: async () => {
      await started.stop();
      rmSync(folder, { recursive: true });
    },
  };
  running.add(started);
  return started;
}

// The content of a file of JSON, or null while it is not there.
function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}

// Opens the console. Any message in the browser's console fails the test.
async function open(of = server, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (message) => {
    // The browser reports each refused request, and a test can cause one.
    if (["error", "warning"].includes(message.type()) && !message.text().startsWith("Failed to load resource")) {
      page.faults.push(message.text());
    }
  });
  await page.goto(`${of.http}_local/#k=${of.token()}`);
  await page.locator("#connection-text", { hasText: "connected" }).waitFor();
  return page;
}

async function close(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

const go = (page, screen) => page.locator("nav a", { hasText: new RegExp(`^${screen}$`, "i") }).click();

// Generates an identity with a token, and opens the screen of the identity. Returns its id.
async function generate(page) {
  await go(page, "identities");
  const before = await page.locator("#generated-facts a").textContent({ timeout: 1 }).catch(() => null);
  await page.locator("#generate .primary").click();
  const link = page.locator("#generated-facts a", before ? { hasNotText: before } : {});
  const id = await link.textContent();
  await link.click();
  await page.locator("#identity-tokens .active").waitFor();
  return id;
}

function sdk(of, program, ...values) {
  const done = spawnSync(PYTHON, ["-c", program, ...values], { env: { ...env, ...of.variables }, encoding: "utf8" });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.trim();
}

const PREPARE = `
import os, sys
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
`;

test("whole life by clicks", async () => {
  const page = await open();
  const id = await generate(page);
  await page.getByRole("button", { name: "Issue token" }).click();
  await page.locator("#identity-tokens li").nth(1).waitFor();
  await page.getByRole("button", { name: "Inspect" }).first().click();
  await page.locator("#token-verdict .active").waitFor();
  assert.equal(await page.locator("#token-matrix tr").count(), 21);
  assert.match(await page.locator("#token-verdict").textContent(), /key set alone\s*valid/);
  await page.goBack();
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.locator("#identity-tokens .inactive").nth(1).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.locator("#confirm-yes").click();
  await page.locator("#identity-facts .deleted").waitFor();
  await go(page, "identities");
  await page.locator("#identity-rows tr", { hasText: id }).locator(".deleted").waitFor();
  await close(page);
});

test("token revoked by the Python SDK turns inactive within a second", async () => {
  const page = await open();
  const id = await generate(page);
  sdk(server, `${PREPARE}client.revoke_tokens(CommunicationUserIdentifier(sys.argv[1]))`, id);
  await page.locator("#identity-tokens .inactive").waitFor({ timeout: 1000 });
  assert.match(await page.locator("#identity-tokens .inactive").textContent(), /revoked/);
  await close(page);
});

test("identity of an SDK appears in the list", async () => {
  const page = await open();
  await go(page, "identities");
  const id = sdk(server, `${PREPARE}print(client.create_user().properties["id"])`);
  await page.locator("#identity-rows tr", { hasText: id }).waitFor();
  await close(page);
});

test("refusal of a wrong key appears with reason and next step", async () => {
  const page = await open();
  await go(page, "requests");
  const wrong = server.variables.COMMUNICATION_SERVICES_CONNECTION_STRING.replace(/accesskey=.{8}/, "accesskey=AAAAAAAA");
  const refused = spawnSync(PYTHON, ["-c", `${PREPARE}client.create_user()`], {
    env: { ...env, ...server.variables, COMMUNICATION_SERVICES_CONNECTION_STRING: wrong },
  });
  assert.notEqual(refused.status, 0);
  await page.locator("#request-rows tr", { hasText: "refused" }).getByRole("button").first().click();
  const explained = await page.locator("#request-explained").textContent();
  assert.match(explained, /signature/i);
  assert.match(explained, /What to do\s*Check the access key/);
  await close(page);
});

test("rotation shows every token of the page turn inactive, and its steps", async () => {
  const own = await startServer();
  const page = await open(own);
  const ids = [await generate(page), await generate(page)];
  await go(page, "keys");
  await page.locator("#rotate").click();
  await page.locator("#confirm-yes").click();
  await page.locator("#key-steps li", { hasText: "promote" }).first().waitFor();
  for (const id of ids) {
    await page.evaluate((id) => { location.hash = `#identities/${encodeURIComponent(id)}`; }, id);
    await page.locator("#identity-tokens .inactive").waitFor();
  }
  await go(page, "keys");
  const before = own.variables.COMMUNICATION_SERVICES_CONNECTION_STRING;
  await page.locator("[data-regenerate=primary]").click();
  await page.locator("#confirm-yes").click();
  await page.locator("#new-key").getByRole("button", { name: "Show" }).click();
  const shown = await page.locator("#new-key code").textContent();
  assert.ok(shown.startsWith("endpoint=https://") && shown !== before);
  await close(page);
  await own.discard();
});

test("page returns after the server was gone", async () => {
  const own = await startServer();
  const page = await open(own);
  await own.stop();
  await page.locator("#disconnected[open]").waitFor();
  const again = await startServer(own);
  // Each start makes a new control token.
  await page.locator("#screen-locked").waitFor();
  await page.locator("#unlock input").fill(again.token());
  await page.locator("#unlock button").click();
  await page.locator("#screen-connect").waitFor();
  await page.context().close();
  await again.discard();
});

test("people sign in, and their tokens are exchanged", async () => {
  const page = await open();
  await go(page, "entra");
  await page.locator("#sign-in").getByRole("button", { name: "Get the token" }).click();
  await page.locator("#exchange:not([disabled])").click();
  await page.locator("#entra-result").getByRole("button", { name: "Inspect" }).click();
  await page.locator("#token-verdict .active").waitFor();
  await go(page, "entra");
  await page.locator("#assign [name=object]").fill("11111111-1111-4111-8111-111111111111");
  await page.locator("#assign [name=client]").fill("22222222-2222-4222-8222-222222222222");
  await page.locator("#assign button").click();
  const row = page.locator("#assignment-rows tr", { hasText: "11111111-1111" });
  await row.getByRole("button", { name: "Remove" }).click();
  await row.waitFor({ state: "detached" });
  await page.locator("#sign-in-person").selectOption("disabled@local.test");
  // The page reads the list of people again. The chosen person stays chosen.
  await page.evaluate(() => { document.querySelector("#sign-in-person option").dataset.isFormer = "yes"; });
  await page.evaluate(() => dispatchEvent(new Event("hashchange")));
  await page.locator("#sign-in-person option:not([data-is-former])").first().waitFor({ state: "attached" });
  await page.locator("#sign-in").getByRole("button", { name: "Get the token" }).click();
  await page.locator("#message", { hasText: "AADSTS50057" }).waitFor();
  await close(page);
});

test("shifted clock ends tokens, and reset empties the server", async () => {
  const own = await startServer();
  const page = await open(own);
  const id = await generate(page);
  await go(page, "test");
  await page.getByRole("button", { name: "+25 h" }).click();
  await page.locator("#clock-badge", { hasText: "+25 h" }).waitFor();
  await page.evaluate((id) => { location.hash = `#identities/${encodeURIComponent(id)}`; }, id);
  await page.locator("#identity-tokens .inactive", { hasText: "expired" }).waitFor();
  await go(page, "identities");
  await page.locator("#delete-all").click();
  assert.ok(await page.locator("#confirm-yes").isDisabled());
  await page.locator("#confirm-word").fill("delete");
  await page.locator("#confirm-yes").click();
  await page.locator("#identity-empty").waitFor();
  await page.locator("#clock-badge").waitFor({ state: "hidden" });
  await close(page);
  await own.discard();
});

test("hostile texts stay texts", async () => {
  const page = await open();
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  await go(page, "token");
  await page.locator("#token-text").fill(`${part({ alg: HOSTILE })}.${part({ sub: HOSTILE, [HOSTILE]: 1 })}.c2ln`);
  await page.locator("#token-claims", { hasText: HOSTILE }).waitFor();
  await go(page, "entra");
  await page.locator("#add-person [name=name]").fill(HOSTILE);
  await page.locator("#add-person button").click();
  await page.locator("#person-rows tr", { hasText: HOSTILE }).waitFor();
  await go(page, "requests");
  const headers = { "x-ms-client-request-id": HOSTILE, "user-agent": HOSTILE };
  await fetch(`${server.http}identities/${encodeURIComponent(HOSTILE)}`, { method: "DELETE", headers });
  await page.locator("#request-rows tr", { hasText: "401" }).first().getByRole("button").click();
  await page.locator("#request-line", { hasText: "requestId" }).waitFor();
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.equal(await page.locator("main img").count(), 0);
  await close(page);
});

test("control token is in no address, no cookie and no lasting storage", async () => {
  const page = await open();
  const found = await page.evaluate(() => [location.href, document.cookie, JSON.stringify({ ...localStorage }), document.referrer].join(" "));
  assert.ok(!found.includes(server.token()));
  assert.equal(await page.evaluate(() => sessionStorage.getItem("control-token")), server.token());
  await close(page);
});

test("page is refused under a foreign host, and its calls from a foreign origin", async () => {
  const status = (path, headers) => new Promise((resolve, reject) => {
    const sent = request(new URL(path, server.http), { headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    sent.on("error", reject).end();
  });
  const authorization = `Bearer ${server.token()}`;
  for (const path of ["/_local/", "/_local/console.js", "/_local/v1/events", "/_local/v1/connection"]) {
    assert.equal(await status(path, { host: "elsewhere.example", authorization }), 421, path);
    assert.equal(await status(path, { origin: "http://elsewhere.example", authorization }), 403, path);
  }
  assert.equal(await status("/_local/v1/events", {}), 401);
  assert.equal(await status("/", { accept: "text/html" }), 302);
});

test("keyboard alone generates an identity", async () => {
  const page = await open();
  const tabTo = async (selector) => {
    for (let count = 0; count < 60; count += 1) {
      if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`no way to ${selector}`);
  };
  await tabTo("nav a[href='#identities']");
  await page.keyboard.press("Enter");
  await page.locator("#screen-identities").waitFor();
  await tabTo("#generate .primary");
  await page.keyboard.press("Enter");
  await page.locator("#generated-facts a").waitFor();
  assert.match(await page.locator("#message[aria-live=polite]").textContent(), /Generated/);
  await close(page);
});

test("no screen has an accessibility fault, or is wider than a phone", async () => {
  for (const colorScheme of ["light", "dark"]) {
    // The checker runs as a script of the page, which the page's own policy refuses.
    const page = await open(server, { colorScheme, bypassCSP: true, viewport: { width: 375, height: 800 } });
    await generate(page);
    for (const screen of ["identity", ...SCREENS]) {
      if (screen !== "identity") await go(page, screen);
      await page.locator(`#screen-${screen}`).waitFor();
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0, screen);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      const faults = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      assert.deepEqual(faults.map(({ id, nodes }) => [id, nodes[0].html]), [], `${screen}, ${colorScheme}`);
    }
    // An address opens the first screen, while the line of links shows its end.
    await page.evaluate(() => { location.hash = "#connect"; });
    await page.locator("#screen-connect").waitFor();
    const left = await page.locator('nav a[href="#connect"]').evaluate((link) => link.getBoundingClientRect().left);
    assert.ok(left >= 0, `the link of the open screen is at ${left} pixels`);
    await page.context().close();
  }
});
