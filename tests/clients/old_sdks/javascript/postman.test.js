// The requests of docs/clients/postman_collection.json, signed by the script of the collection. A small stand-in for
// `pm` runs the scripts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request as send } from "node:https";
import { createRequire } from "node:module";
import { test } from "node:test";
import { text } from "node:stream/consumers";

const file = new URL("../../../../docs/clients/postman_collection.json", import.meta.url);
const collection = JSON.parse(readFileSync(file));
const [, endpoint, accessKey] = process.env.COMMUNICATION_SERVICES_CONNECTION_STRING.match(
  /^endpoint=(.*)\/;accesskey=(.*)$/,
);
const variables = new Map(collection.variable.map(({ key, value }) => [key, value]));
variables.set("endpoint", endpoint).set("accessKey", accessKey);
const replaceIn = (template) => template.replace(/{{(\w+)}}/g, (_, name) => variables.get(name));

/** Runs the scripts of one event, as Postman does before a request or after its reply. */
function run(events, listen, pm) {
  const found = (events ?? []).filter((event) => event.listen === listen);
  for (const { script } of found) {
    // Postman declares `CryptoJS` too, so a script must not declare it again.
    new Function("pm", "require", "CryptoJS", script.exec.join("\n"))(pm, createRequire(import.meta.url));
  }
}

async function call({ name, event, request }) {
  const headers = Object.fromEntries((request.header ?? []).map(({ key, value }) => [key, value]));
  run(collection.event, "prerequest", {
    variables: { get: (key) => variables.get(key), replaceIn },
    request: {
      method: request.method,
      url: { toString: () => request.url },
      body: request.body,
      headers: { upsert: ({ key, value }) => (headers[key] = value) },
    },
  });
  const outgoing = send(replaceIn(request.url), { method: request.method, headers });
  outgoing.end(replaceIn(request.body?.raw ?? ""));
  const reply = await new Promise((resolve, reject) => outgoing.on("response", resolve).on("error", reject));
  const body = await text(reply);
  assert.ok(reply.statusCode < 300, `${name}: ${reply.statusCode} ${body}`);
  const set = (key, value) => variables.set(key, value);
  run(event, "test", { response: { json: () => JSON.parse(body) }, collectionVariables: { set } });
  return { status: reply.statusCode, body };
}

test("requests of the Postman collection are accepted", async () => {
  const replies = [];
  for (const item of collection.item) replies.push(await call(item));
  assert.deepEqual(replies.map(({ status }) => status), [201, 200, 200, 204, 204]);
  assert.equal(JSON.parse(replies[2].body).active, true);
  assert.equal(JSON.parse(replies[2].body).sub, variables.get("userId"));
});
