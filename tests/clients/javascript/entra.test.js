// Tests the Entra credential of the JavaScript SDK against the local server and its stand-in for Entra.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { PublicClientApplication } from "@azure/msal-node";
import { AzureCommunicationTokenCredential } from "@azure/communication-common";
import { CommunicationIdentityClient } from "@azure/communication-identity";

const env = process.env;
const endpoint = env.COMMUNICATION_SERVICES_ENDPOINT;
const tenant = env.COMMUNICATION_ENTRA_TENANT_ID;
const clientId = env.COMMUNICATION_M365_APP_ID;
const base = env.COMMUNICATION_M365_AAD_AUTHORITY;

const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());

// The test user, signed in with user name and password. MSAL for Node asks Microsoft about the authority unless it is known.
class User {
  constructor() {
    const authority = `${base}/${env.COMMUNICATION_M365_AAD_TENANT}`;
    this.app = new PublicClientApplication({ auth: { clientId, authority, knownAuthorities: [base] } });
  }

  async getToken(scopes) {
    const answer = await this.app.acquireTokenByUsernamePassword({
      scopes: [scopes].flat(),
      username: env.COMMUNICATION_MSAL_USERNAME,
      password: env.COMMUNICATION_MSAL_PASSWORD,
    });
    return { token: answer.accessToken, expiresOnTimestamp: answer.expiresOn.getTime() };
  }
}

// Calls an assignment route as the service principal.
async function assignments(method, path, version, body) {
  const credential = new DefaultAzureCredential();
  const { token } = await credential.getToken("https://communication.azure.com//.default");
  const url = path.startsWith("https:") ? path : `${endpoint}access/${path}?api-version=${version}`;
  const response = await fetch(url, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text) };
}

const user = new User();
const { token: userToken } = await user.getToken("https://communication.azure.com/clients/VoIP");
const { oid } = claims(userToken);
const resourceOf = (id) => id.split(":")[2].split("_")[0];

const ROUTES = [
  {
    name: "teamsExtension",
    scopes: ["https://auth.msft.communication.azure.com/TeamsExtension.ManageCalls"],
    version: "2025-06-30",
    assignment: `teamsExtension/tenants/${tenant}/assignments/${oid}`,
    body: { principalType: "user", clientIds: [clientId] },
    id: (resource) => `8:acs:${resource}_${tenant}_${oid}`,
    acsScope: "voip",
  },
  {
    name: "entra",
    scopes: ["https://communication.azure.com/clients/Chat", "https://communication.azure.com/clients/VoIP"],
    version: "2025-03-02-preview",
    assignment: `entra/assignments/${oid}`,
    body: { principalType: "user", tenantId: tenant, clientIds: [clientId] },
    id: (resource) => `8:acs:${resource}_wf_${tenant}_${oid}`,
    acsScope: "chat,voip",
  },
];

test("DefaultAzureCredential needs the environment alone", async () => {
  // The calls of issue-access-token.js in the JavaScript quickstarts.
  const client = new CommunicationIdentityClient(endpoint, new DefaultAzureCredential());
  const user = await client.createUser();
  const issued = await client.getToken(user, ["voip"]);
  const withToken = await client.createUserAndToken(["voip"]);
  const exchanged = await client.getTokenForTeamsUser({
    teamsUserAadToken: (await new User().getToken(env.COMMUNICATION_M365_SCOPE)).token,
    clientId,
    userObjectId: oid,
  });
  assert.equal(claims(exchanged.token).skypeid, `orgid:${oid}`);
  assert.equal(claims(issued.token).acsScope, "voip");
  await client.revokeTokens(user);
  await client.deleteUser(user);
  await client.deleteUser(withToken.user);
});

for (const route of ROUTES) {
  const credential = () =>
    new AzureCommunicationTokenCredential({ resourceEndpoint: endpoint, tokenCredential: user, scopes: route.scopes });

  test(`${route.name}: user without assignment is denied`, async () => {
    assert.equal((await assignments("DELETE", route.assignment, route.version)).status, 204);
    await assert.rejects(credential().getToken(), /Denied/);
    assert.equal((await assignments("GET", route.assignment, route.version)).status, 404);
  });

  test(`${route.name}: assigned user always gets the same identity`, async () => {
    const created = await assignments("PUT", route.assignment, route.version, route.body);
    assert.equal(created.status, 201);
    assert.deepEqual(created.body, { objectId: oid, tenantId: tenant, ...route.body });
    assert.equal((await assignments("PUT", route.assignment, route.version, route.body)).status, 200);
    assert.deepEqual((await assignments("GET", route.assignment, route.version)).body, created.body);
    const tokens = [await credential().getToken(), await credential().getToken()].map(({ token }) => claims(token));
    for (const token of tokens) {
      assert.equal(token.sub, route.id(token.resourceId));
      assert.equal(token.skypeid, token.sub.slice(2));
      assert.equal(resourceOf(token.sub), token.resourceId);
      assert.equal(token.acsScope, route.acsScope);
      assert.equal(token.scp, 1792);
      assert.ok(token.exp - token.iat <= 90 * 60, "the token must expire no later than the Entra token");
    }
    assert.notEqual(tokens[0].jti, tokens[1].jti);
  });

  test(`${route.name}: unassigned application is denied`, async () => {
    const other = "00000000-0000-0000-0000-000000000001";
    await assignments("PUT", route.assignment, route.version, { ...route.body, clientIds: [other] });
    await assert.rejects(credential().getToken(), /Denied/);
  });
}

test("entra: bulk changes appear in the list", async () => {
  const [one, two] = ["00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"];
  const body = { principalType: "group", tenantId: tenant, clientIds: [clientId] };
  const version = "2025-03-02-preview";
  const changed = await assignments("PATCH", "entra/assignments", version, { [one]: body, [two]: body });
  assert.equal(changed.status, 200);
  const ids = async () => {
    const listed = await assignments("GET", "entra/assignments", version);
    return listed.body.value.map((assignment) => assignment.objectId);
  };
  assert.ok((await ids()).includes(one) && (await ids()).includes(two));
  await assignments("PATCH", "entra/assignments", version, { [one]: null, [two]: null });
  assert.ok(!(await ids()).includes(one));
  const wrong = await assignments("PUT", `entra/assignments/${one}`, version, { ...body, principalType: "robot" });
  assert.equal(wrong.status, 400);
  assert.equal(wrong.body.error.target, "principalType");
});

test("entra: nextLink leads through every page", async () => {
  const version = "2025-03-02-preview";
  const objects = ["1", "2", "3"].map((digit) => `${digit}0000000-0000-0000-0000-00000000000c`);
  const body = { principalType: "group", tenantId: tenant, clientIds: [clientId] };
  const all = (value) => Object.fromEntries(objects.map((object) => [object, value]));
  await assignments("PATCH", "entra/assignments", version, all(body));
  const listed = [];
  let next = `${endpoint}access/entra/assignments?api-version=${version}&maxpagesize=1`;
  while (next) {
    const page = await assignments("GET", next);
    assert.equal(page.status, 200);
    assert.ok(page.body.value.length <= 1);
    listed.push(...page.body.value.map((assignment) => assignment.objectId));
    next = page.body.nextLink;
  }
  assert.deepEqual(listed, [...listed].sort());
  assert.ok(objects.every((object) => listed.includes(object)));
  await assignments("PATCH", "entra/assignments", version, all(null));
});
