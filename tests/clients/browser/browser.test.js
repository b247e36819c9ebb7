// Tests pages of a real browser against the local server: an allowed origin, and a foreign one. The environment names the
// service under test and the browser.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const env = process.env;
const endpoint = env.COMMUNICATION_SERVICES_ENDPOINT;
const tenant = env.COMMUNICATION_ENTRA_TENANT_ID;
const authority = `${env.COMMUNICATION_M365_AAD_AUTHORITY}/${env.COMMUNICATION_M365_AAD_TENANT}`;
const tokenEndpoint = `${authority}/oauth2/v2.0/token`;
const scopes = ["https://communication.azure.com/clients/Chat", "https://communication.azure.com/clients/VoIP"];
const version = "2025-03-02-preview";
const form = {
  grant_type: "password",
  client_id: env.COMMUNICATION_M365_APP_ID,
  username: env.COMMUNICATION_MSAL_USERNAME,
  password: env.COMMUNICATION_MSAL_PASSWORD,
  scope: scopes.join(" "),
};
// The browser resolves this name to the page's server. It is not an allowed origin.
const FOREIGN_HOST = "elsewhere.example";

let browser, pages, port;

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());

before(async () => {
  const bundle = await build({ entryPoints: ["page.js"], bundle: true, write: false, format: "iife", platform: "browser" });
  const script = bundle.outputFiles[0].text;
  pages = createServer((request, response) => {
    const isScript = request.url === "/page.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : "<!doctype html><title>Test</title><script src=/page.js></script>");
  });
  await new Promise((resolve) => pages.listen(0, "127.0.0.1", resolve));
  port = pages.address().port;
  browser = await chromium.launch({
    executablePath: env.CHROMIUM,
    args: ["--no-sandbox", `--host-resolver-rules=MAP ${FOREIGN_HOST} 127.0.0.1`],
  });
});

after(async () => {
  await browser?.close();
  pages?.close();
});

// Opens the page at this origin, calls one of its functions, and returns the result.
async function inPage(origin, name, argument) {
  // The browser has its own trust store, which the test does not change.
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  try {
    const page = await context.newPage();
    await page.goto(`${origin}:${port}/`);
    return await page.evaluate(([name, argument]) => globalThis[name](argument), [name, argument]);
  } finally {
    await context.close();
  }
}

// Assigns the test user to the resource as the service principal, or removes the assignment.
async function assign(isAssigned) {
  const credential = {
    grant_type: "client_credentials",
    client_id: env.AZURE_CLIENT_ID,
    client_secret: env.AZURE_CLIENT_SECRET,
    scope: "https://communication.azure.com//.default",
  };
  const token = async (form) =>
    (await (await fetch(tokenEndpoint, { method: "POST", body: new URLSearchParams(form) })).json()).access_token;
  const { oid } = claims(await token(form));
  const answer = await fetch(`${endpoint}access/entra/assignments/${oid}?api-version=${version}`, {
    method: isAssigned ? "PUT" : "DELETE",
    headers: { authorization: `Bearer ${await token(credential)}`, "content-type": "application/json" },
    body: isAssigned ? JSON.stringify({ principalType: "user", tenantId: tenant, clientIds: [form.client_id] }) : null,
  });
  assert.ok(answer.ok, await answer.text());
}

for (const origin of ["http://localhost", "http://127.0.0.1"]) {
  test(`${origin}: Entra credential of the SDK exchanges a token`, async () => {
    await assign(true);
    const { token, error } = await inPage(origin, "exchange", { endpoint, tokenEndpoint, form, scopes });
    assert.equal(error, undefined);
    assert.equal(claims(token).acsScope, "chat,voip");
  });

  test(`${origin}: refusal of the exchange is readable`, async () => {
    await assign(false);
    const { error } = await inPage(origin, "exchange", { endpoint, tokenEndpoint, form, scopes });
    assert.match(error, /Denied/);
  });

  test(`${origin}: connection string creates a user and a token`, async () => {
    const connectionString = env.COMMUNICATION_SERVICES_CONNECTION_STRING;
    const { token } = await inPage(origin, "createUserAndToken", { connectionString });
    assert.equal(claims(token).acsScope, "chat");
  });
}

test("exposed headers of an error are readable", async () => {
  const url = `${endpoint}access/entra/:exchangeAccessToken?api-version=${version}`;
  const options = { method: "POST", headers: { authorization: "Bearer x", "x-ms-client-request-id": "page-1" } };
  const reply = await inPage("http://localhost", "read", { url, options });
  assert.equal(reply.status, 401);
  assert.match(reply.headers["MS-CV"], /\.0$/);
  assert.equal(reply.headers["x-ms-client-request-id"], "page-1");
  assert.equal(reply.headers["x-processing-time"], null, "other headers are not exposed");
});

test("foreign page reads the key set and no other reply", async () => {
  const foreign = `http://${FOREIGN_HOST}`;
  const keys = await inPage(foreign, "read", { url: `${endpoint}.well-known/jwks.json` });
  assert.equal(keys.status, 200);
  assert.equal(JSON.parse(keys.body).keys.length, 6);
  const exchange = `${endpoint}access/entra/:exchangeAccessToken?api-version=${version}`;
  for (const [url, options] of [
    [exchange, { method: "POST" }],
    [exchange, { method: "POST", headers: { authorization: "Bearer x" } }],
    [`${endpoint}identities?api-version=2023-10-01`, { method: "POST" }],
    [tokenEndpoint, { method: "POST", body: "" }],
    [`${endpoint}health`, {}],
  ]) {
    assert.deepEqual(await inPage(foreign, "read", { url, options }), { error: "TypeError" }, url);
  }
});

// The configuration of MSAL in the page. MSAL asks Microsoft about an authority that is not known.
const msal = () => ({
  auth: { clientId: form.client_id, authority, knownAuthorities: [new URL(authority).host], redirectUri: `http://localhost:${port}/redirect` },
  cache: { cacheLocation: "localStorage" },
});

// The Teams token of an Entra token that the page has got, from the service.
async function exchanged(page, { token, oid }) {
  const connectionString = env.COMMUNICATION_SERVICES_CONNECTION_STRING;
  const options = { teamsUserAadToken: token, clientId: form.client_id, userObjectId: oid };
  return claims(await page.evaluate((argument) => globalThis.exchangeTeams(argument), { connectionString, options }));
}

for (const interaction of ["Popup", "Redirect"]) {
  test(`MSAL signs in by ${interaction.toLowerCase()}, and renews without a page`, async () => {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    try {
      const page = await context.newPage();
      await page.goto(`http://localhost:${port}/`);
      const request = { scopes: ["https://auth.msft.communication.azure.com/Teams.ManageCalls"] };
      const popup = interaction === "Popup" && page.waitForEvent("popup");
      await page.evaluate((argument) => globalThis.signIn(argument), { configuration: msal(), interaction, request });
      const signInPage = popup ? await popup : page;
      await signInPage.getByRole("button", { name: "guest@partner.test" }).click();
      await page.waitForFunction(() => globalThis.signedIn);
      const first = await page.evaluate(() => globalThis.signedIn);
      assert.equal(first.error, undefined);
      assert.equal(claims(first.token).unique_name, "guest@partner.test");
      assert.equal((await exchanged(page, first)).skypeid, `orgid:${first.oid}`);
      const renewed = await page.evaluate((argument) => globalThis.renew(argument), { configuration: msal(), request });
      assert.equal(claims(renewed).oid, first.oid);
      assert.notEqual(renewed, first.token);
    } finally {
      await context.close();
    }
  });
}
