// Tests the permissions of each chat scope and of revoked tokens, through the unmodified JavaScript chat client. The
// environment names the identity service and the chat service under test.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ChatClient } from "@azure/communication-chat";
import { AzureCommunicationTokenCredential } from "@azure/communication-common";
import { CommunicationIdentityClient } from "@azure/communication-identity";

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`not set: ${name} (see tests/clients/README.md)`);
  return value;
}

const identity = new CommunicationIdentityClient(setting("COMMUNICATION_SERVICES_CONNECTION_STRING"));
const chatEndpoint = setting("CHAT_ENDPOINT");
const refusedTokenStatus = Number(setting("CHAT_REFUSED_TOKEN_STATUS"));

const threadId = "19:thread@thread.v2";
const messageId = "1742040000000";
const friend = { communicationUserId: "8:acs:friend" };
const Y = true;
const N = false;

// For each operation: whether chat, chat.join and chat.join.limited permit it, and the call.
const operations = [
  // operation           chat  join  limited
  ["create a thread",       Y,   N,   N,   ({ chat }) => chat.createChatThread({ topic: "Lunch" })],
  ["update a thread",       Y,   N,   N,   ({ thread }) => thread.updateTopic("Dinner")],
  ["delete a thread",       Y,   N,   N,   ({ chat }) => chat.deleteChatThread(threadId)],
  ["add a participant",     Y,   Y,   N,   ({ thread }) => thread.addParticipants({ participants: [{ id: friend }] })],
  ["remove a participant",  Y,   Y,   N,   ({ thread }) => thread.removeParticipant(friend)],
  ["list threads",          Y,   Y,   Y,   ({ chat }) => onlyItem(chat.listChatThreads())],
  ["get a thread",          Y,   Y,   Y,   ({ thread }) => thread.getProperties()],
  ["list read receipts",    Y,   Y,   Y,   ({ thread }) => onlyItem(thread.listReadReceipts())],
  ["send a read receipt",   Y,   Y,   Y,   ({ thread }) => thread.sendReadReceipt({ chatMessageId: messageId })],
  ["send a message",        Y,   Y,   Y,   ({ thread }) => thread.sendMessage({ content: "Hello" })],
  ["get a message",         Y,   Y,   Y,   ({ thread }) => thread.getMessage(messageId)],
  ["list messages",         Y,   Y,   Y,   ({ thread }) => onlyItem(thread.listMessages())],
  ["update a message",      Y,   Y,   Y,   ({ thread }) => thread.updateMessage(messageId, { content: "Goodbye" })],
  ["delete a message",      Y,   Y,   Y,   ({ thread }) => thread.deleteMessage(messageId)],
  ["notify of typing",      Y,   Y,   Y,   ({ thread }) => typing(thread)],
  ["list participants",     Y,   Y,   Y,   ({ thread }) => onlyItem(thread.listParticipants())],
];

const scopeLists = [["chat"], ["chat.join"], ["chat.join.limited"], ["voip"], ["chat.join.limited", "chat.join"]];

/** Reads the list, because the client sends no request before that. */
async function onlyItem(list) {
  const items = [];
  for await (const item of list) items.push(item);
  assert.equal(items.length, 1);
}

/** Checks that the client sent the notification. It sends none, and returns false, shortly after another one. */
async function typing(thread) {
  assert.ok(await thread.sendTypingNotification(), "the client sent nothing");
}

function connect(token) {
  const chat = new ChatClient(chatEndpoint, new AzureCommunicationTokenCredential(token));
  return { chat, thread: chat.getChatThreadClient(threadId) };
}

async function assertRefused(call, status) {
  await assert.rejects(call, { name: "RestError", statusCode: status });
}

for (const scopes of scopeLists) {
  describe(scopes.join(", "), async () => {
    const { token } = await identity.createUserAndToken(scopes);
    const clients = connect(token);
    for (const [operation, chat, join, limited, call] of operations) {
      const permits = { chat, "chat.join": join, "chat.join.limited": limited, voip: N };
      if (scopes.some((scope) => permits[scope])) {
        test(`may ${operation}`, () => call(clients));
      } else {
        test(`may not ${operation}`, () => assertRefused(call(clients), 403));
      }
    }
  });
}

const use = (token) => connect(token).thread.getProperties();

test("revoked token is refused and new one accepted", async () => {
  const { user, token } = await identity.createUserAndToken(["chat"]);
  const neighbour = await identity.createUserAndToken(["chat"]);
  await use(token);
  await identity.revokeTokens(user);
  await assertRefused(use(token), refusedTokenStatus);
  const renewed = await identity.getToken(user, ["chat"]);
  await use(renewed.token);
  await assertRefused(use(token), refusedTokenStatus);
  await use(neighbour.token);
});

test("token of deleted user is refused at once", async () => {
  const { user, token } = await identity.createUserAndToken(["chat"]);
  await use(token);
  await identity.deleteUser(user);
  await assertRefused(use(token), refusedTokenStatus);
});

test("token with altered scope is refused", async () => {
  const { token } = await identity.createUserAndToken(["chat.join"]);
  const [header, payload, signature] = token.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url"));
  const altered = Buffer.from(JSON.stringify({ ...claims, acsScope: "chat" })).toString("base64url");
  await use(token);
  await assertRefused(use(`${header}.${altered}.${signature}`), refusedTokenStatus);
});
