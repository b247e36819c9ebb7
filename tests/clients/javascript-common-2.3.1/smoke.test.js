// Tests the same client with @azure/communication-common 2.3.1 as its signer. Up to version 2.4.0, that package writes a
// port other than the default port twice, in the Host header and in the signed text.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { CommunicationIdentityClient } from "@azure/communication-identity";

const connectionString = process.env.COMMUNICATION_SERVICES_CONNECTION_STRING;
if (!connectionString) {
  throw new Error("COMMUNICATION_SERVICES_CONNECTION_STRING is not set; load .local/env first");
}

const hosts = new Set();
const client = new CommunicationIdentityClient(connectionString, {
  additionalPolicies: [
    {
      position: "perRetry",
      policy: {
        name: "keepHost",
        sendRequest(request, next) {
          hosts.add(request.headers.get("host"));
          return next(request);
        },
      },
    },
  ],
});

const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));

test("installed signer is version 2.3.1", () => {
  const manifest = new URL("node_modules/@azure/communication-common/package.json", import.meta.url);
  assert.equal(JSON.parse(readFileSync(manifest)).version, "2.3.1");
});

test("create, issue, revoke, delete", async () => {
  const user = await client.createUser();
  assert.match(user.communicationUserId, /^8:acs:[0-9a-f-]{36}_[0-9a-f-]{36}$/);

  const first = claimsOf((await client.getToken(user, ["voip", "chat"])).token);
  assert.equal(`8:${first.skypeid}`, user.communicationUserId);
  assert.equal(first.acsScope, "voip,chat");

  await client.revokeTokens(user);
  const second = claimsOf((await client.getToken(user, ["chat"])).token);
  assert.equal(second.rev, first.rev + 1);

  await client.deleteUser(user);
  await assert.rejects(client.getToken(user, ["chat"]), { statusCode: 404, code: "IdentityNotFound" });
});

test("create with a token", async () => {
  const { user, token } = await client.createUserAndToken(["chat"], { tokenExpiresInMinutes: 60 });
  const claims = claimsOf(token);
  assert.equal(`8:${claims.skypeid}`, user.communicationUserId);
  assert.equal(claims.exp - claims.iat, 3600);
});

test("wrong key is refused", async () => {
  const wrong = connectionString.replace(/accesskey=.*/, `accesskey=${Buffer.alloc(64).toString("base64")}`);
  const intruder = new CommunicationIdentityClient(wrong);
  await assert.rejects(intruder.createUser(), { statusCode: 401, code: "Denied" });
});

test("every request has its port twice", () => {
  const { hostname, port } = new URL(connectionString.match(/endpoint=([^;]*)/)[1]);
  assert.notEqual(port, "", "the service under test must listen on a port other than the default port");
  assert.deepEqual([...hosts], [`${hostname}:${port}:${port}`]);
});
