// The life cycle of a user and its tokens with old versions of the client, as tests/clients/python/life.py has it.

import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const connectionString = process.env.COMMUNICATION_SERVICES_CONNECTION_STRING;
if (!connectionString) {
  throw new Error("COMMUNICATION_SERVICES_CONNECTION_STRING is not set; load .local/env first");
}
const [, endpoint, key] = connectionString.match(/^endpoint=(.*);accesskey=(.*)$/);

async function isActive(token) {
  const body = new URLSearchParams({ token }).toString();
  const { host } = new URL(endpoint);
  const date = new Date().toUTCString();
  const hash = createHash("sha256").update(body).digest("base64");
  const text = `POST\n/introspect\n${date};${host};${hash}`;
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
  const reply = await fetch(new URL("/introspect", endpoint), {
    method: "POST",
    body,
    headers: {
      "Content-Type": "application/x-www-form-urlencoded",
      "x-ms-date": date,
      "x-ms-content-sha256": hash,
      Authorization: `HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=${signature}`,
    },
  });
  assert.equal(reply.status, 200);
  return (await reply.json()).active;
}

for (const version of ["1.0.0", "1.1.0-beta.2", "1.2.0"]) {
  test(`${version}: create, issue, revoke, delete`, async () => {
    const manifest = new URL(`node_modules/identity-${version}/package.json`, import.meta.url);
    assert.equal(JSON.parse(readFileSync(manifest)).version, version);
    const { CommunicationIdentityClient } = await import(`identity-${version}`);

    const client = new CommunicationIdentityClient(connectionString);
    const { user, token: first } = await client.createUserAndToken(["chat", "voip"]);
    const { token: second } = await client.getToken(user, ["chat.join"]);
    assert.deepEqual([await isActive(first), await isActive(second)], [true, true]);
    await client.revokeTokens(user);
    assert.deepEqual([await isActive(first), await isActive(second)], [false, false]);
    const { token: fresh } = await client.getToken(user, ["voip"]);
    assert.equal(await isActive(fresh), true);
    await client.deleteUser(user);
    assert.equal(await isActive(fresh), false);
    await assert.rejects(client.getToken(user, ["chat"]), { statusCode: 404 });

    const intruder = new CommunicationIdentityClient(`endpoint=${endpoint};accesskey=c2VjcmV0`);
    await assert.rejects(intruder.createUser(), { statusCode: 401 });
  });
}
