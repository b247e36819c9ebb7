// End-to-end tests with the unmodified JavaScript client. The environment names the service under test.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";

import { AzureCommunicationTokenCredential } from "@azure/communication-common";
import { CommunicationIdentityClient } from "@azure/communication-identity";
import { AzureKeyCredential } from "@azure/core-auth";

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`not set: ${name}; load .local/env first (see tests/clients/README.md)`);
  return value;
}

const primary = setting("COMMUNICATION_SERVICES_CONNECTION_STRING");
const secondary = setting("COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING");
const endpoint = setting("COMMUNICATION_SERVICES_ENDPOINT").replace(/\/$/, "");
const endpointByAddress = `https://127.0.0.1:${new URL(endpoint).port}`;
const accessKey = primary.replace(/^.*;accesskey=/, "");

const stable = ["2021-03-07", "2022-06-01", "2022-10-01", "2023-10-01", "2025-06-30", "2026-07-22", "2026-09-23"];
const previews = ["2021-02-22-preview1", "2021-03-31-preview1", "2021-10-31-preview", "2025-03-02-preview"];
const versions = [...stable, ...previews];
const guid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const userId = new RegExp(`^8:acs:(${guid})_(${guid})$`);
const zeros = "00000000-0000-0000-0000-000000000000";
const foreign = { communicationUserId: `8:acs:${zeros}_${zeros}` };
const denied = { code: "Denied", message: "Denied by the resource provider." };

const client = new CommunicationIdentityClient(primary);

/** Returns the resource GUID in a user's id. */
const resourceOf = (user) => user.communicationUserId.match(userId)[1];

/** Returns an identity of the same resource that was never created. */
const siblingOf = (user) => ({ communicationUserId: `8:acs:${resourceOf(user)}_${randomUUID()}` });

/** Returns options that keep the last reply in `kept.reply`. */
function keeping(kept, options = {}) {
  return { ...options, onResponse: (reply) => (kept.reply = reply) };
}

/** Decodes a token. Its signature is not checked here. */
function decode(token) {
  const segments = token.split(".");
  assert.equal(segments.length, 3);
  const [header, claims] = segments.slice(0, 2).map((part) => JSON.parse(Buffer.from(part, "base64url")));
  return { segments, header, claims };
}

/** Checks user, scopes and lifetime in the reply and in the token, and that both agree. */
function assertToken({ token, expiresOn }, user, scopes = ["chat"], minutes = 1440) {
  const { header, claims } = decode(token);
  assert.equal(`8:${claims.skypeid}`, user.communicationUserId);
  assert.equal(claims.acsScope, scopes.join(","));
  assert.equal(claims.exp - claims.iat, minutes * 60);
  assert.equal(Math.floor(expiresOn.getTime() / 1000), claims.exp);
  return { header, claims };
}

/** Makes a call that must fail with this status. Returns the `error` object of the reply. */
async function refusal(call, status) {
  const error = await call().then(() => assert.fail(`expected status ${status}, not success`), (thrown) => thrown);
  assert.equal(error.name, "RestError", String(error));
  assert.equal(error.statusCode, status);
  const body = JSON.parse(error.response.bodyAsText);
  assert.deepEqual(Object.keys(body), ["error"], "a refused request must return no user and no token");
  assert.equal(error.code, body.error.code);
  assert.equal(error.message, body.error.message);
  return body.error;
}

async function assertNotFound(call) {
  const error = await refusal(call, 404);
  assert.equal(error.code, "IdentityNotFound");
  assert.notEqual(error.message, "");
}

describe("create", () => {
  test("a user", async () => {
    const [first, second] = [await client.createUser(), await client.createUser()];
    assert.match(first.communicationUserId, userId);
    assert.equal(resourceOf(first), resourceOf(second));
    assert.notEqual(first.communicationUserId, second.communicationUserId);
  });

  test("a compact reply of 101 bytes", async () => {
    const kept = {};
    const user = await client.createUser(keeping(kept));
    assert.equal(kept.reply.bodyAsText, `{"identity":{"id":"${user.communicationUserId}"}}`);
    assert.equal(kept.reply.headers.get("content-length"), "101");
  });

  test("a user and a token", async () => {
    const { user, ...token } = await client.createUserAndToken(["voip", "chat"], { tokenExpiresInMinutes: 60 });
    const { claims } = assertToken(token, user, ["voip", "chat"], 60);
    assert.equal(claims.resourceId, resourceOf(user));
  });

  for (const [name, scopes] of [["no scopes", undefined], ["an empty list of scopes", []]]) {
    test(`no token for ${name}`, async () => {
      const kept = {};
      assert.deepEqual(Object.keys(await client.createUserAndToken(scopes, keeping(kept))), ["user"]);
      assert.equal(kept.reply.status, 201);
      assert.deepEqual(Object.keys(JSON.parse(kept.reply.bodyAsText)), ["identity"]);
    });
  }
});

describe("scopes", async () => {
  const user = await client.createUser();
  const lists = [
    ["chat"],
    ["voip"],
    ["chat.join"],
    ["chat.join.limited"],
    ["voip.join"],
    ["chat", "voip"],
    ["voip", "chat"],
    ["chat", "chat.join", "chat.join.limited"],
    ["voip.join", "chat.join.limited", "chat.join", "voip", "chat"],
  ];
  for (const scopes of lists) {
    test(scopes.join(","), async () => {
      assertToken(await client.getToken(user, scopes), user, scopes);
    });
  }

  test("duplicate scopes are dropped", async () => {
    assertToken(await client.getToken(user, ["voip", "chat", "voip", "chat"]), user, ["voip", "chat"]);
  });

  test("empty list is refused", async () => {
    assert.deepEqual(await refusal(() => client.getToken(user, []), 400), {
      code: "ValidationError",
      message: "Invalid scopes - Scopes field is required.",
      target: "scopes",
    });
  });

  test("unknown scope is refused", async () => {
    const scopes = ["chat", "shout"];
    for (const call of [() => client.getToken(user, scopes), () => client.createUserAndToken(scopes)]) {
      const { code, message, target } = await refusal(call, 400);
      assert.deepEqual({ code, target }, { code: "ValidationError", target: "scopes" });
      assert.match(message, /shout/);
    }
  });
});

describe("lifetime", async () => {
  const user = await client.createUser();
  for (const minutes of [undefined, 60, 90, 1440]) {
    test(`${minutes ?? "default"}`, async () => {
      const options = { tokenExpiresInMinutes: minutes };
      assertToken(await client.getToken(user, ["chat"], options), user, ["chat"], minutes ?? 1440);
    });
  }

  for (const minutes of [59, 1441]) {
    test(`${minutes} is refused`, async () => {
      const expected = {
        code: "ValidationError",
        message: `ExpiresInMinutes value ${minutes} is invalid. Value must be within the [60, 1440] interval.`,
        target: "ExpiresInMinutes",
      };
      const options = { tokenExpiresInMinutes: minutes };
      assert.deepEqual(await refusal(() => client.getToken(user, ["chat"], options), 400), expected);
      assert.deepEqual(await refusal(() => client.createUserAndToken(["chat"], options), 400), expected);
    });
  }

  test("fraction of a minute is refused", async () => {
    // This client sends the fraction unchanged.
    const error = await refusal(() => client.getToken(user, ["chat"], { tokenExpiresInMinutes: 60.5 }), 400);
    assert.equal(error.code, "ValidationError");
    assert.equal(error.target, "ExpiresInMinutes");
  });
});

describe("token", async () => {
  const user = await client.createUser();

  test("header", async () => {
    const { header } = decode((await client.getToken(user, ["chat"])).token);
    assert.ok(["RS256", "ES256"].includes(header.alg));
    assert.equal(header.typ, "JWT");
    assert.match(header.kid, /^[A-Za-z0-9_-]{43}$/);
  });

  test("claims", async () => {
    const { segments, claims } = decode((await client.getToken(user, ["chat", "voip"])).token);
    assert.deepEqual(Object.keys(claims), [
      "skypeid", "scp", "csi", "exp", "rgn", "acsScope", "resourceId", "resourceLocation", "iat",
      "iss", "aud", "sub", "jti", "rev", "scope",
    ]);
    const numbers = Object.keys(claims).filter((name) => Number.isInteger(claims[name]));
    assert.deepEqual(numbers.sort(), ["exp", "iat", "rev", "scp"]);
    assert.ok(Object.keys(claims).every((name) => numbers.includes(name) || typeof claims[name] === "string"));
    assert.equal(claims.scp, 1792);
    assert.equal(claims.scope, "chat voip");
    assert.equal(claims.csi, String(claims.iat));
    assert.equal(claims.resourceId, resourceOf(user));
    assert.doesNotMatch(segments[1], /[-_]/);
  });

  test("credential of communication-common reads the token", async () => {
    const { token } = await client.getToken(user, ["chat"]);
    const credential = new AzureCommunicationTokenCredential(token);
    const read = await credential.getToken();
    credential.dispose();
    assert.equal(read.token, token);
    assert.equal(read.expiresOnTimestamp, decode(token).claims.exp * 1000);
  });
});

describe("revoke and delete", () => {
  test("every revoke increments the revision", async () => {
    const user = await client.createUser();
    const revisions = [];
    for (let round = 0; round < 3; round++) {
      revisions.push(decode((await client.getToken(user, ["chat"])).token).claims.rev);
      await client.revokeTokens(user);
    }
    assert.deepEqual(revisions, [1, 2, 3]);
    await client.revokeTokens(user);
  });

  test("deleted user is not found", async () => {
    const user = await client.createUser();
    await client.deleteUser(user);
    await assertNotFound(() => client.getToken(user, ["chat"]));
    await assertNotFound(() => client.revokeTokens(user));
    await client.deleteUser(user);
  });

  test("missing user is not found", async () => {
    const missing = siblingOf(await client.createUser());
    await assertNotFound(() => client.getToken(missing, ["chat"]));
    await assertNotFound(() => client.revokeTokens(missing));
    await client.deleteUser(missing);
  });

  test("user of another resource is refused", async () => {
    const calls = [
      () => client.getToken(foreign, ["chat"]),
      () => client.revokeTokens(foreign),
      () => client.deleteUser(foreign),
    ];
    for (const call of calls) {
      assert.deepEqual(await refusal(call, 401), {
        code: "IdentityNotOwned",
        message: "Provided identity doesn't belong to the resource.",
      });
    }
  });
});

describe("keys, endpoints and versions", () => {
  test("wrong key is denied", async () => {
    const wrong = Buffer.alloc(64).toString("base64");
    const intruder = new CommunicationIdentityClient(`endpoint=${endpoint}/;accesskey=${wrong}`);
    for (const call of [() => intruder.createUser(), () => intruder.getToken(foreign, ["chat"])]) {
      assert.deepEqual(await refusal(call, 401), denied);
    }
  });

  test("each access key has its own signing key", async () => {
    const { user, ...first } = await client.createUserAndToken(["chat"]);
    const second = await new CommunicationIdentityClient(secondary).getToken(user, ["chat"]);
    assert.notEqual(assertToken(first, user).header.kid, assertToken(second, user).header.kid);
  });

  for (const base of [endpoint, `${endpoint}/`, endpointByAddress, `${endpointByAddress}/`]) {
    test(`endpoint ${new URL(base).hostname}${base.endsWith("/") ? " with a slash" : ""} and key`, async () => {
      const other = new CommunicationIdentityClient(base, new AzureKeyCredential(accessKey));
      const { user, ...token } = await other.createUserAndToken(["chat"]);
      assertToken(token, user);
      assertToken(await other.getToken(user, ["voip"]), user, ["voip"]);
    });
  }

  for (const apiVersion of versions) {
    test(`version ${apiVersion}`, async () => {
      const kept = {};
      const other = new CommunicationIdentityClient(primary, { apiVersion });
      const { user, ...token } = await other.createUserAndToken(["chat"], keeping(kept));
      assert.ok(kept.reply.request.url.endsWith(`?api-version=${apiVersion}`));
      assertToken(token, user);
      assertToken(await other.getToken(user, ["voip"]), user, ["voip"]);
      await other.revokeTokens(user);
      await other.deleteUser(user);
    });
  }

  test("unknown version is refused", async () => {
    const other = new CommunicationIdentityClient(primary, { apiVersion: "1999-01-01" });
    const { code, message } = await refusal(() => other.createUser(), 400);
    assert.equal(code, "UnsupportedApiVersion");
    const [before, uri, after] = message.split("'", 3);
    assert.equal(before, "The HTTP resource that matches the request URI ");
    assert.match(uri, /^https?:\/\/[^?]+\/identities$/);
    assert.equal(after, " does not support the API version ");
    assert.ok(message.endsWith(" '1999-01-01'."));
  });
});

describe("reply headers", () => {
  const json = "application/json; charset=utf-8";
  const replies = {
    create: [201, json, (user, options) => client.createUser(options)],
    "create with token": [201, json, (user, options) => client.createUserAndToken(["chat"], options)],
    issue: [200, json, (user, options) => client.getToken(user, ["chat"], options)],
    revoke: [204, undefined, (user, options) => client.revokeTokens(user, options)],
    delete: [204, undefined, (user, options) => client.deleteUser(user, options)],
    "refused request": [400, "application/json", (user, options) => client.getToken(user, [], options)],
    "foreign user": [401, "application/json", (user, options) => client.revokeTokens(foreign, options)],
    "unknown user": [404, "application/json", (user, options) => client.revokeTokens(siblingOf(user), options)],
  };
  for (const [name, [status, contentType, call]] of Object.entries(replies)) {
    test(name, async () => {
      const user = await client.createUser();
      const kept = {};
      await call(user, keeping(kept)).catch((error) => assert.equal(error.name, "RestError", String(error)));
      const { headers, request } = kept.reply;
      assert.equal(kept.reply.status, status);
      assert.equal(headers.get("content-type"), contentType);
      assert.equal(headers.get("x-ms-client-request-id"), request.headers.get("x-ms-client-request-id"));
      assert.match(headers.get("ms-cv"), /^[A-Za-z0-9+/]{22}\.[0-9.]+$/);
      assert.equal(headers.get("request-context"), "appId=");
      assert.match(headers.get("x-processing-time"), /^\d+ms$/);
      assert.equal(headers.get("strict-transport-security"), undefined);
      assert.equal(headers.get("retry-after"), undefined);
      const supported = headers.get("api-supported-versions").split(", ");
      assert.deepEqual(supported, [...supported].sort());
      assert.deepEqual(versions.filter((version) => !supported.includes(version)), []);
    });
  }
});
